"""Values of an account for tests of the ledger, and an exchange that a ledger is driven against step by step."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from msgspec.structs import asdict

from backpack_proto.account import rounds
from backpack_proto.account.account import Account, AccountInput, AccountOutput
from backpack_proto.account.readings import (
    AccountRequested,
    BalancesRead,
    CollateralRead,
    FillsRead,
    FundingRead,
    LoansRead,
    OpenOrdersRead,
    OrderFillsRead,
    OrderRead,
    PastOrdersRead,
    PositionsRead,
    Read,
    ReadAccount,
    Reading,
    ReadingRequested,
)
from backpack_proto.account.sync import AccountState
from backpack_proto.account.values import Balance, Fill, Filled, Order, OrderChanged, Origin, Position
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.rest.results.account import BorrowLendPosition, Collateral, CollateralAsset, FundingPayment
from backpack_proto.streams.payloads import BalanceUpdate, OrderAccepted, OrderCancelled, OrderFill, PositionAdjusted

SYMBOL = "SOL_USDC"
SECOND = 1_000_000
TEN_MINUTES_MS = 600_000
T_MS = 1_790_000_400_000 // TEN_MINUTES_MS * TEN_MINUTES_MS + 300_000
"""On the exchange's clock. Ours stands elsewhere in all of these tests."""
ZERO = Decimal(0)
ONE = Decimal(1)

Said = TypeVar("Said", bound=AccountOutput)


def a_fill(trade_id: int | None, unix_ms: int, order_id: str = "77") -> Fill:
    return Fill(
        symbol=SYMBOL,
        trade_id=trade_id,
        order_id=order_id,
        side="Bid",
        price=ONE,
        quantity=ONE,
        fee=ZERO,
        fee_asset="SOL",
        maker=True,
        filled_us=unix_ms * 1000,
    )


def of_stream(fill: Fill, executed: int = 1) -> OrderFill:
    return OrderFill(
        emitted_us=fill.filled_us,
        engine_us=fill.filled_us,
        symbol=fill.symbol,
        order_id=fill.order_id,
        side=fill.side,
        order_type="LIMIT",
        time_in_force="GTC",
        state="PartiallyFilled",
        executed_quantity=Decimal(executed),
        executed_quote_quantity=Decimal(executed),
        self_trade_prevention="RejectTaker",
        origin="USER",
        quantity=Decimal(100),
        price=ONE,
        trade_id=fill.trade_id,
        fill_quantity=fill.quantity,
        fill_price=fill.price,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        maker=fill.maker,
    )


def accepted(unix_ms: int) -> OrderAccepted:
    return OrderAccepted(
        emitted_us=unix_ms * 1000,
        engine_us=unix_ms * 1000,
        symbol=SYMBOL,
        order_id="77",
        side="Bid",
        order_type="LIMIT",
        time_in_force="GTC",
        state="New",
        executed_quantity=ZERO,
        executed_quote_quantity=ZERO,
        self_trade_prevention="RejectTaker",
        origin="USER",
        quantity=Decimal(100),
        price=ONE,
    )


def a_position(*, net: Decimal, mark: int) -> PositionAdjusted:
    return PositionAdjusted(
        emitted_us=T_MS * 1000,
        engine_us=T_MS * 1000,
        symbol=SYMBOL,
        position_id=5,
        net_quantity=net,
        entry_price=ONE,
        break_even_price=ONE,
        mark_price=Decimal(mark),
        net_exposure_quantity=net,
        net_exposure_notional=net,
        realized_pnl=ZERO,
        unrealized_pnl=Decimal(mark),
        initial_margin_fraction=ZERO,
        maintenance_margin_fraction=ZERO,
    )


def an_order(order_id: str, *, created_ms: int | None = None, executed: int = 0, state: str = "New") -> Order:
    """A row of REST."""
    return Order(
        order_id=order_id,
        symbol=SYMBOL,
        side="Bid",
        order_type="Limit",
        time_in_force="GTC",
        self_trade_prevention="RejectTaker",
        state=state,
        created_us=None if created_ms is None else created_ms * 1000,
        executed_quantity=Decimal(executed),
        executed_quote_quantity=Decimal(executed),
        quantity=Decimal(100),
        price=ONE,
    )


def cancelled(unix_ms: int, order_id: str = "77", *, executed: int = 0) -> OrderCancelled:
    """An end on the stream."""
    known = accepted(unix_ms)
    return OrderCancelled(
        **(asdict(known) | {"order_id": order_id, "state": "Cancelled", "executed_quantity": Decimal(executed)})
    )


def a_balance(asset: str, available: int) -> Balance:
    """A row of REST."""
    return Balance(asset=asset, available=Decimal(available), locked=ZERO, staked=ZERO)


def a_balance_update(asset: str, available: int) -> BalanceUpdate:
    """The same on the stream."""
    value = Decimal(available)
    return BalanceUpdate(emitted_us=1, engine_us=1, asset=asset, available=value, locked=ZERO, staked=ZERO)


def a_collateral(
    equity: int = 1_000, *, locked: int = 100, pnl: int = 0, assets: tuple[CollateralAsset, ...] = ()
) -> Collateral:
    """The margin as REST tells it. What is not locked is available."""
    return Collateral(
        assets_value=Decimal(equity - pnl),
        borrow_liability=ZERO,
        collateral=assets,
        initial_margin_fraction=Decimal("0.1"),
        maintenance_margin_fraction=Decimal("0.05"),
        margin_fraction=Decimal(2),
        net_equity=Decimal(equity),
        net_equity_available=max(ZERO, Decimal(equity - locked)),
        net_equity_locked=Decimal(locked),
        net_exposure_futures=Decimal(500),
        unrealized_pnl=Decimal(pnl),
        liabilities_value=ZERO,
        unsettled_equity=ZERO,
    )


def an_asset(asset: str, *, total: int, lent: int = 0) -> CollateralAsset:
    """What an asset adds to the margin."""
    return CollateralAsset(
        symbol=asset,
        asset_mark_price=ONE,
        total_quantity=Decimal(total),
        balance_notional=Decimal(total),
        collateral_weight=ONE,
        collateral_value=Decimal(total),
        open_order_quantity=ZERO,
        lend_quantity=Decimal(lent),
        available_quantity=Decimal(total - lent),
    )


def a_loan(asset: str, quantity: int) -> BorrowLendPosition:
    """A loan as REST tells it. What is negative is borrowed."""
    return BorrowLendPosition(
        position_id=f"loan {asset}",
        symbol=asset,
        net_quantity=Decimal(quantity),
        mark_price=ONE,
        net_exposure_quantity=ZERO,
        net_exposure_notional=ZERO,
        cumulative_interest=ZERO,
        initial_margin_fraction=ONE,
        maintenance_margin_fraction=ONE,
    )


def a_payment(hour: int, symbol: str = SYMBOL, quantity: int = 1) -> FundingPayment:
    """The funding of one interval, which ended that many hours after T_MS."""
    return FundingPayment(
        symbol=symbol,
        quantity=Decimal(quantity),
        funding_rate=Decimal("0.0001"),
        interval_end_us=(T_MS + hour * 3_600_000) * 1000,
        subaccount_id=0,
        user_id=1,
    )


class Desk:
    """A ledger, and an exchange that lists these fills, newest first, and these orders as open."""

    def __init__(self, *listed: Fill, wall_us: int = 0) -> None:
        self.ledger = Account()
        self.now = Now(5 * SECOND, wall_us)
        self.listed = list(listed)
        self.executed: int | None = None
        """Of the open order. None: there is none."""
        self.created_us: int | None = None
        self.ended: Order | None = None
        """What history says of an order that is open no more."""
        self.open: list[Order] = []
        """Open orders beside that one."""
        self.past: list[Order] = []
        """The order history."""
        self.positions: list[Position] = []
        self.balances: list[Balance] = []
        self.collateral: Collateral | None = a_collateral()
        self.loans: list[BorrowLendPosition] = []
        self.payments: list[FundingPayment] = []
        """Funding, in any order."""
        self.problems: dict[Read, str] = {}
        """What the exchange does not tell, and why."""
        self.unreadable: dict[Read, tuple[str, ...]] = {}
        self.asked: list[ReadAccount] = []
        self.said: list[AccountOutput] = []

    def give(self, *given: AccountInput) -> Desk:
        for one in given:
            for output in self.ledger.handle(one, self.now):
                if isinstance(output, ReadAccount):
                    self.asked.append(output)
                    self.give(ReadingRequested(output.attempt))
                else:
                    self.said.append(output)
        return self

    def answer(self, read: ReadAccount) -> Reading:
        match read.what:
            case Read.OPEN_ORDERS:
                orders = (*([] if self.executed is None else [self.order()]), *self.open)
                return OpenOrdersRead(read.attempt, orders, self.unreadable.get(read.what, ()))
            case Read.POSITIONS:
                return PositionsRead(read.attempt, tuple(self.positions), self.unreadable.get(read.what, ()))
            case Read.BALANCES:
                return BalancesRead(read.attempt, tuple(self.balances), self.unreadable.get(read.what, ()))
            case Read.COLLATERAL:
                return CollateralRead(read.attempt, self.collateral, self.problems.get(read.what))
            case Read.LOANS:
                return LoansRead(read.attempt, tuple(self.loans), (), self.problems.get(read.what))
            case Read.FUNDING:
                rows = sorted(self.payments, key=lambda row: (row.interval_end_us, row.symbol), reverse=True)
                rows = rows[read.offset : read.offset + rounds.funding_page(read.offset)]
                return FundingRead(read.attempt, tuple(rows), (), self.problems.get(read.what))
            case Read.FILLS:
                listed = [fill for fill in self.listed if fill.filled_us >= (read.since_ms or 0) * 1000]
                listed.sort(key=lambda fill: (fill.filled_us, fill.trade_id or 0), reverse=True)
                page = tuple(listed[read.offset : read.offset + vars(rounds)["PAGE"]])
                return FillsRead(read.attempt, page, () if read.offset else self.unreadable.get(read.what, ()))
            case Read.PAST_ORDERS:
                past = sorted(self.past, key=lambda order: order.created_us or 0, reverse=True)
                return PastOrdersRead(read.attempt, tuple(past[read.offset : read.offset + rounds.orders_page(read.offset)]))
            case Read.ORDER:
                known = {order.order_id: order for order in self.past}
                return OrderRead(read.attempt, self.ended if read.order_id == "77" else known.get(read.order_id or ""))
            case Read.ORDER_FILLS:
                return OrderFillsRead(read.attempt, tuple(fill for fill in self.listed if fill.order_id == read.order_id))

    def order(self) -> Order:
        return Order(
            order_id="77",
            symbol=SYMBOL,
            side="Bid",
            order_type="Limit",
            time_in_force="GTC",
            self_trade_prevention="RejectTaker",
            state="PartiallyFilled" if self.executed else "New",
            created_us=self.created_us,
            executed_quantity=Decimal(self.executed or 0),
            executed_quote_quantity=Decimal(self.executed or 0),
            quantity=Decimal(100),
            price=ONE,
        )

    def answer_all(self) -> Desk:
        while self.asked:
            self.give(self.answer(self.asked.pop(0)))
        return self

    def timer(self) -> Desk:
        deadline = self.ledger.deadline
        assert deadline is not None
        self.now = Now(max(deadline, self.now.mono_us), self.now.unix_us)
        return self.give(TimerFired())

    def sync(self) -> Desk:
        """Connect, if need be, and let everything be answered."""
        if self.ledger.state is AccountState.IDLE:
            self.give(AccountRequested())
        while not self.ledger.live:
            self.answer_all()
            if not self.ledger.live:
                self.timer()
        return self

    def begin_check(self) -> Desk:
        """Let time pass until an audit of a live ledger asks. What the margin alone is read for meanwhile is answered."""
        self.timer()
        while self.asked and self.asked[0].what is Read.POSITIONS:
            self.answer_all().timer()
        return self

    def check(self) -> Desk:
        """One audit of a live ledger."""
        return self.begin_check().answer_all().timer()

    def events(self, kind: type[Said]) -> list[Said]:
        """What was said of one kind."""
        return [event for event in self.said if isinstance(event, kind)]

    def states(self, order_id: str) -> list[tuple[str, Origin]]:
        """What was reported of an order."""
        changes = self.events(OrderChanged)
        return [(event.order.state, event.origin) for event in changes if event.order.order_id == order_id]

    @property
    def told(self) -> list[tuple[int | None, Origin]]:
        return [(event.fill.trade_id, event.origin) for event in self.said if isinstance(event, Filled)]

    def since_ms(self) -> int | None:
        """From where on the next check reads."""
        self.begin_check()
        while self.asked[0].what is not Read.FILLS:
            self.give(self.answer(self.asked.pop(0)))
        since_ms = self.asked[0].since_ms
        self.answer_all().timer()
        return since_ms
