"""The ledger against a model of an account whose updates are lost whenever the connection is down, and whose readings come at any time.

The history of fills is late: what has just happened may be listed behind what happened after it.
"""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from accounts import a_collateral
from backpack_proto.account import rounds
from backpack_proto.account.account import Account, AccountInput, AccountOutput
from backpack_proto.account.readings import (
    AccountEnded,
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
    ReadFailed,
    ReadingRequested,
)
from backpack_proto.account.values import (
    AccountDiverged,
    AccountSynced,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    Origin,
    Position,
)
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.payloads import (
    BalanceUpdate,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderFill,
    OrderUpdate,
    PositionAdjusted,
    PositionUpdate,
)
from backpack_proto.testing.laws import check_machine
from hypothesis_profiles import examples

SYMBOL = "SOL_USDC_PERP"
START = Now(5_000_000, 1_790_000_000_000_000)
PAGE = 3
ONE = Decimal(1)


class Model:
    """The exchange's side: what is true, what the streams say, and what REST answers."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.usdc = Decimal(1000)
        self.net = Decimal(0)
        self.unix_us = START.unix_us
        self.updates: deque[OrderUpdate | BalanceUpdate | PositionUpdate] = deque()
        self.listening = False
        self.unlisted: set[int | None] = set()
        """Trade ids that the history does not list yet."""

    def _tell(self, update: OrderUpdate | BalanceUpdate | PositionUpdate) -> None:
        if self.listening:
            self.updates.append(update)

    def _tell_order(self, kind: type[OrderUpdate], order: Order, fill: Fill | None = None) -> None:
        self._tell(
            kind(
                emitted_us=self.unix_us,
                engine_us=self.unix_us,
                symbol=SYMBOL,
                order_id=order.order_id,
                side=order.side,
                order_type="LIMIT",
                time_in_force="GTC",
                state=order.state,
                executed_quantity=order.executed_quantity or Decimal(0),
                executed_quote_quantity=order.executed_quote_quantity or Decimal(0),
                self_trade_prevention="RejectTaker",
                origin="USER",
                quantity=order.quantity,
                price=order.price,
                trade_id=fill.trade_id if fill else None,
                fill_quantity=fill.quantity if fill else None,
                fill_price=fill.price if fill else None,
                fee=fill.fee if fill else None,
                fee_asset=fill.fee_asset if fill else None,
                maker=fill.maker if fill else None,
            )
        )
        balance = self.balance
        self._tell(
            BalanceUpdate(
                emitted_us=self.unix_us,
                engine_us=self.unix_us,
                asset="USDC",
                available=balance.available,
                locked=balance.locked,
                staked=balance.staked,
            )
        )

    @property
    def balance(self) -> Balance:
        return Balance(asset="USDC", available=self.usdc, locked=Decimal(0), staked=Decimal(0))

    @property
    def position(self) -> Position:
        return Position(symbol=SYMBOL, net_quantity=self.net, entry_price=ONE, break_even_price=ONE)

    def place(self) -> None:
        order = Order(
            order_id=str(1000 + len(self.orders)),
            symbol=SYMBOL,
            side="Bid",
            order_type="Limit",
            time_in_force="GTC",
            self_trade_prevention="RejectTaker",
            state="New",
            created_us=self.unix_us // 1000 * 1000,
            executed_quantity=Decimal(0),
            executed_quote_quantity=Decimal(0),
            quantity=Decimal(3),
            price=ONE,
        )
        self.orders[order.order_id] = order
        self._tell_order(OrderAccepted, order)

    def open(self) -> list[Order]:
        return [order for order in self.orders.values() if order.open]

    def fill(self, which: int, *, nameless: bool = False) -> None:
        if not self.open():
            return
        order = self.open()[which % len(self.open())]
        executed = (order.executed_quantity or Decimal(0)) + 1
        order = replace(
            order,
            executed_quantity=executed,
            executed_quote_quantity=executed,
            state="Filled" if executed == order.quantity else "PartiallyFilled",
        )
        self.orders[order.order_id] = order
        self.usdc -= 1
        self.net += 1
        fill = Fill(
            symbol=SYMBOL,
            trade_id=None if nameless else 7000 + len(self.fills),
            order_id=order.order_id,
            side="Bid",
            price=ONE,
            quantity=ONE,
            fee=Decimal(0),
            fee_asset="USDC",
            maker=True,
            filled_us=self.unix_us,
        )
        self.fills.append(fill)
        self._tell_order(OrderFill, order, fill)
        self._tell(
            PositionAdjusted(
                emitted_us=self.unix_us,
                engine_us=self.unix_us,
                symbol=SYMBOL,
                position_id=1,
                net_quantity=self.net,
                entry_price=ONE,
                break_even_price=ONE,
                mark_price=ONE,
                net_exposure_quantity=self.net,
                net_exposure_notional=self.net,
                realized_pnl=Decimal(0),
                unrealized_pnl=Decimal(0),
                initial_margin_fraction=Decimal(0),
                maintenance_margin_fraction=Decimal(0),
            )
        )

    def cancel(self, which: int) -> None:
        if self.open():
            order = replace(self.open()[which % len(self.open())], state="Cancelled")
            self.orders[order.order_id] = order
            self._tell_order(OrderCancelled, order)

    def listed(self) -> list[Fill]:
        """The history, oldest first."""
        return [fill for fill in self.fills if fill.trade_id not in self.unlisted]

    def answer(self, read: ReadAccount) -> AccountInput:
        match read.what:
            case Read.OPEN_ORDERS:
                return OpenOrdersRead(read.attempt, tuple(self.open()))
            case Read.POSITIONS:
                return PositionsRead(read.attempt, (self.position,) if self.net else ())
            case Read.COLLATERAL:
                return CollateralRead(read.attempt, a_collateral(len(self.fills)))
            case Read.LOANS:
                return LoansRead(read.attempt, ())
            case Read.FUNDING:
                return FundingRead(read.attempt, ())
            case Read.BALANCES:
                return BalancesRead(read.attempt, (self.balance,))
            case Read.FILLS:
                fills = [fill for fill in reversed(self.listed()) if fill.filled_us >= (read.since_ms or 0) * 1000]
                return FillsRead(read.attempt, tuple(fills[read.offset : read.offset + vars(rounds)["PAGE"]]))
            case Read.PAST_ORDERS:
                past = list(reversed(self.orders.values()))
                return PastOrdersRead(read.attempt, tuple(past[read.offset : read.offset + rounds.orders_page(read.offset)]))
            case Read.ORDER_FILLS:
                return OrderFillsRead(read.attempt, tuple(fill for fill in self.listed() if fill.order_id == read.order_id))
            case Read.ORDER:
                return OrderRead(read.attempt, self.orders.get(read.order_id or ""))


def told_key(fill: Fill) -> object:
    """What tells a fill of the model from others: those without an id may be equal."""
    return fill.profile if fill.trade_id is None else fill.key


class World:
    """The model, the ledger, and everything that is on its way between them."""

    def __init__(self) -> None:
        self.model = Model()
        self.account = Account()
        self.now = START
        self.reads: deque[ReadAccount] = deque()
        self.answers: deque[AccountInput] = deque()
        self.events: list[Event] = []
        self.up = False
        self.reading = False
        """It asked for something else than its beginning."""
        self.from_before: set[object] = set()
        """What the history listed when the first page of the beginning was answered, for the last time."""
        self.heard: set[object] = set()

    def pass_time(self, us: int) -> None:
        self.now = Now(self.now.mono_us + us, self.now.unix_us + us)
        self.model.unix_us = self.now.unix_us

    def give(self, given: AccountInput) -> None:
        for output in self.account.handle(given, self.now):
            self._take(output)

    def _take(self, output: AccountOutput) -> None:
        if isinstance(output, ReadAccount):
            self.reading = self.reading or output.what not in {Read.PAST_ORDERS, Read.FILLS}
            self.reads.append(output)
            self.give(ReadingRequested(output.attempt))
        elif isinstance(output, Event):
            self.events.append(output)

    def connect(self) -> None:
        if not self.up:
            self.up = self.model.listening = True
            self.give(AccountRequested())

    def disconnect(self) -> None:
        if self.up:
            self.up = self.model.listening = False
            self.model.updates.clear()
            self.give(AccountEnded("the connection is down"))

    def step(self, what: str, number: int) -> None:
        self.pass_time(number * 1_000)
        match what:
            case "place":
                self.model.place()
            case "fill":
                self.model.fill(number)
            case "cancel":
                self.model.cancel(number)
            case "fill without id":
                self.model.fill(number, nameless=True)
            case "fill late":
                known = len(self.model.fills)
                self.model.fill(number)
                self.model.unlisted.update(fill.trade_id for fill in self.model.fills[known:])
            case "list":
                self.model.unlisted.clear()
            case "hear" if self.model.updates:
                update = self.model.updates.popleft()
                fill = Fill.of(update) if isinstance(update, OrderFill) else None
                self.heard.update([told_key(fill)] if fill is not None else [])
                self.give(update)
            case "answer" if self.reads:
                read = self.reads.popleft()
                if not self.reading and not read.offset and read.what is Read.FILLS:
                    self.from_before = set(map(told_key, self.model.listed()))
                self.answers.append(self.model.answer(read))
            case "arrive" if self.answers:
                self.give(self.answers.popleft())
            case "fail" if self.reads:
                self.give(ReadFailed(self.reads.popleft().attempt, "503"))
            case "timer" if self.account.deadline is not None:
                self.pass_time(max(self.account.deadline - self.now.mono_us, 0))
                self.give(TimerFired())
            case "connect":
                self.connect()
            case "disconnect":
                self.disconnect()

    def settle(self) -> None:
        """Let everything arrive, and time pass until the ledger is live."""
        self.connect()
        self.model.unlisted.clear()
        for _ in range(400):
            while self.model.updates or self.reads or self.answers:
                for what in ("hear", "answer", "arrive"):
                    self.step(what, 1)
            if self.account.live:
                return
            self.step("timer", 0)
        raise AssertionError("the ledger never became live")

    def assert_the_same(self) -> None:
        model, ledger = self.model, self.account
        followed = {order_id: replace(order, created_us=None) for order_id, order in ledger.open_orders.items()}
        assert followed == {order.order_id: replace(order, created_us=None) for order in model.open()}
        assert ledger.balances == {"USDC": model.balance}
        assert {symbol: position.net_quantity for symbol, position in ledger.positions.items()} == (
            {SYMBOL: model.net} if model.net else {}
        )
        told = Counter(told_key(event.fill) for event in self.events if isinstance(event, Filled))
        assert told == Counter(map(told_key, model.fills)), "a fill was lost or told twice"
        assert not ledger.doubts
        changed = [event.order for event in self.events if isinstance(event, OrderChanged)]
        assert {order.order_id: order.state for order in changed} == {
            order.order_id: order.state for order in model.orders.values()
        }
        ends = Counter(order.order_id for order in changed if not order.open)
        assert ends == Counter(order.order_id for order in model.orders.values() if not order.open), (
            "an end was lost or told twice"
        )


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills come in many pages."""
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", PAGE)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("place", "fill", "fill", "cancel", "hear", "hear", "hear", "fail", "connect", "disconnect"),
                *("fill late", "list", "fill without id"),
                *("answer", "arrive", "answer", "arrive", "timer", "timer"),
            ]
        ),
        st.integers(0, 40),
    ),
    max_size=120,
)


@examples(300)
@given(steps)
def test_whatever_is_lost_and_whenever_it_is_read_the_ledger_is_the_account(trace: list[tuple[str, int]]) -> None:
    world = World()
    world.connect()
    world.settle()
    for what, number in trace:
        world.step(what, number)
    world.settle()
    world.assert_the_same()
    assert not [event for event in world.events if isinstance(event, AccountDiverged)]


@examples(300)
@given(steps, steps)
def test_whatever_happens_at_its_beginning_the_ledger_tells_what_happened_since(
    before: list[tuple[str, int]], trace: list[tuple[str, int]]
) -> None:
    world = World()
    for what, number in before:
        if what in {"place", "fill", "cancel"}:
            world.step(what, number)
    old = set(map(told_key, world.model.fills))
    # An account that has just traded, for long ago would be easy.
    for what, number in trace:
        world.step(what, number)
    world.settle()
    told = Counter(told_key(event.fill) for event in world.events if isinstance(event, Filled))
    happened = Counter(map(told_key, world.model.fills))
    assert told <= happened, "a fill was told twice"
    since = {key for key in happened if key not in world.from_before}
    assert set(told) >= since | world.heard, "a fill was lost"
    assert not old & set(told), "a fill from before was told"
    assert not [event for event in world.events if isinstance(event, AccountDiverged)]


def test_long_runs_with_many_disconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", 1_000)
    syncs = 0
    for seed in range(4):
        random = Random(seed)
        world = World()
        world.connect()
        world.settle()
        for _ in range(1_500):
            what = random.choices(
                ["place", "fill", "cancel", "hear", "answer", "arrive", "timer", "connect", "disconnect"],
                [6, 10, 2, 30, 12, 12, 3, 4, 0.4],
            )[0]
            world.step(what, random.randrange(30))
        world.settle()
        world.assert_the_same()
        syncs += sum(isinstance(event, AccountSynced) for event in world.events)
    assert syncs > 2 * 4, "every ledger is synced at its beginning and at its end; some must be in between"


def test_a_fill_that_the_stream_swallowed_is_found_by_the_next_one() -> None:
    world = World()
    world.settle()
    world.model.place()
    world.settle()
    world.step("fill", 0)
    world.model.updates.clear()
    world.step("fill", 0)
    world.step("hear", 0)
    assert [event for event in world.events if isinstance(event, AccountDiverged)]
    world.settle()
    world.assert_the_same()


def test_a_cancel_that_the_stream_swallowed_is_found_by_the_check() -> None:
    world = World()
    world.settle()
    world.model.place()
    world.settle()
    world.step("cancel", 0)
    world.model.updates.clear()
    for _ in range(6):
        world.step("timer", 0)
        world.settle()
    diverged = [event for event in world.events if isinstance(event, AccountDiverged)]
    assert len(diverged) == 1
    assert "open order 1000" in diverged[0].what
    world.assert_the_same()


def test_fills_from_before_the_ledger_are_not_told() -> None:
    world = World()
    world.model.place()
    world.model.fill(0)
    world.pass_time(5_000_000)
    world.settle()
    assert not [event for event in world.events if isinstance(event, Filled)]
    assert [event.order.executed_quantity for event in world.events if isinstance(event, OrderChanged)] == [ONE]


def test_the_origin_is_told() -> None:
    world = World()
    world.settle()
    world.model.place()
    world.step("hear", 0)
    world.disconnect()
    world.pass_time(1_000)
    world.model.fill(0)
    world.settle()
    orders = [(event.order.state, event.origin) for event in world.events if isinstance(event, OrderChanged)]
    assert orders == [("New", Origin.STREAM), ("PartiallyFilled", Origin.RECONCILIATION)]
    assert [event.origin for event in world.events if isinstance(event, Filled)] == [Origin.RECONCILIATION]
    assert [event.origin for event in world.events if isinstance(event, BalanceChanged)][-1] is Origin.RECONCILIATION


@pytest.mark.hypothesis
def test_the_ledger_keeps_the_laws_of_machines() -> None:
    world = World()
    world.model.listening = True
    world.model.place()
    world.model.fill(0)
    world.model.cancel(0)
    inputs: list[AccountInput] = [
        *world.model.updates,
        AccountRequested(),
        AccountEnded("down"),
        TimerFired(),
        *(ReadFailed(attempt, "503") for attempt in range(1, 6)),
        *(
            world.model.answer(ReadAccount(attempt=attempt, what=what, order_id="1000"))
            for attempt in range(1, 6)
            for what in Read
        ),
    ]
    check_machine(Account, st.sampled_from(inputs))
