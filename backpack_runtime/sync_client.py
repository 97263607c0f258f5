"""`BackpackClient` for programs without an event loop. Made by `python -m tools.make_sync_client`: do not edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

from backpack_proto.account.values import Balance, Fill, Order, Position
from backpack_proto.auth.signing import Signer
from backpack_proto.candles import CandleGap
from backpack_proto.inputs import Arguments
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.orders.resolution import Resolution
from backpack_proto.outputs import CallUnresolved
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.rest.new_order import Amount, NewOrder, OrderType, Side, TimeInForce
from backpack_proto.rest.pacing import PacerState
from backpack_proto.rest.results.account import (
    AccountSettings,
    BorrowLendMovement,
    BorrowLendPosition,
    Collateral,
    Deposit,
    DepositAddress,
    DustConversion,
    FundingPayment,
    HistoricalBorrowLendPosition,
    HistoricalPosition,
    InterestPayment,
    MaxBorrowQuantity,
    MaxOrderQuantity,
    MaxWithdrawalQuantity,
    Settlement,
    VaultNav,
    VaultRedeem,
    Withdrawal,
)
from backpack_proto.rest.results.market_data import Asset, DepthSnapshot, FundingRate, ServerTime, SystemStatus
from backpack_proto.rest.results.orders import OrderRefused, Quote, QuoteFill, Rfq, RfqFill, RfqWithQuotes, Strategy
from backpack_proto.rest.results.reference import (
    ApyRates,
    BorrowLendMarket,
    BorrowLendMarketRow,
    CollateralParameters,
    LiquidationEstimate,
    PredictionEvent,
    PredictionTag,
    Security,
    StockHoliday,
    StockIndicativeQuote,
    StockSession,
    Vault,
    VaultHistoryRow,
    Wallet,
)
from backpack_proto.streams.payloads import Event, Kline, MarkPrice, OpenInterest, Ticker, Trade

from .accounts import AccountView
from .background import SyncIterator
from .books import BookView
from .client import BackpackClient
from .delivery import DeliverySnapshot, SlowConsumer
from .delivery.policy import BUFFER_BYTES
from .market_selection import Symbols
from .order_checks import OrderChecking
from .orders.journal import Durability
from .orders.leaving import CancelOnExit, Leftovers
from .orders.safety import JournalView
from .recovery import RecoveryOutcome
from .rest.caller import Period
from .rest.pages import PAGE
from .settings import Settings
from .sync_base import SyncBase
from .transport import Transport

__all__ = ["BackpackSync"]


class BackpackSync(SyncBase):
    """Backpack Exchange as a context manager and an iterator of typed events, for programs without an event loop.

        with BackpackSync(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
            for event in client:
                ...

    It is `BackpackClient` in a loop of asyncio in a thread of its own: every method is the same without `await`, and may be called from
    several threads. Ctrl-C while a call waits withdraws it. A thread that runs an event loop is refused, and so is a forked process.
    `on_event` is called in the background, where nothing of the client may be called.
    """

    def __init__(
        self,
        symbols: Symbols = (),
        *,
        channels: Iterable[str] | None = None,
        settings: Settings | None = None,
        sandbox: bool = False,
        sandbox_seed: int = 0,
        sandbox_faults: str = "",
        streams: bool = True,
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.CONFLATE,
        buffer: int = 10000,
        buffer_bytes: int = BUFFER_BYTES,
        on_event: Callable[[Event], object] | None = None,
        journal: Path | str | None = None,
        durability: Durability | str = Durability.PROCESS,
        instance: int | None = None,
        cancel_on_exit: CancelOnExit | str | None = None,
        check_orders: OrderChecking | None = "grid",
        transport: AbstractAsyncContextManager[Transport] | None = None,
    ) -> None:
        """Make a client, which connects when its block is entered.

        Args:
            symbols: ids of the exchange (`SOL_USDC`) or normalised symbols (`SOL-USDC`). Or `"all"`, or a predicate on markets, such as
                `lambda market: market.quote == "USDC"`: then new listings are taken up within a minute, and closed markets once they open.
                Channels about stocks take any name of one (`BRK.B`).
            channels: subscribed for each of them, `book` and `trades` unless given. `book` is the order book, verified against
                `bookTicker`. Without symbols there may be `liquidations` and the channels of the account.
            settings: addresses, TLS, proxies, runtime and timeouts of the connection. Without them those of the real exchange.
            sandbox: start the simulated exchange on loopback, and speak with that.
            sandbox_seed: decides the course of its markets.
            sandbox_faults: its faults, such as `gap@5,mute@10-20`, in seconds after the start (docs/sandbox.md).
            streams: keep up a connection for streams. With False there is no connection and no canary, and the client makes calls only.
            signer: signs private subscriptions and calls. The sandbox has one of its own for users without one.
            follow_account: keep the ledger of the account, `account`, and emit all that changes in it.
            book_levels: number of levels a side that `BookChanged` carries, at least 1. `BookSynced` has all.
            slow_consumer: policy for market data that are not fetched in time. `conflate` keeps books current: it merges the
                changes of each book, and drops the oldest of the rest. `drop_oldest` drops the oldest of all, `block` stops reading.
            buffer: number of events that may wait before any are dropped, or before reading stops.
            buffer_bytes: memory that they may take before that, estimated.
            on_event: called with every event where it is read, a turn of the loop before an iteration would have it. Then there is no
                iteration of the client's own. `stream` has events for others. It must be quick, for all else waits meanwhile. An error
                in it ends the client, and comes out of the block.
            journal: a file in which each order is written down before it leaves, so that the next client with it can find the outcome of
                those that were on their way when this one was killed. In memory unless given. One client at a time has it.
            durability: `process`, and the journal survives the end of the process. `machine`, and it survives that of the machine as well,
                for which each order waits for the disk.
            instance: number of this program among all that trade with the account, 0 to 1023, the upper part of the client ids that are
                made. Without it the lowest that is free on this machine is leased. Give one where programs run on several machines.
            cancel_on_exit: cancel open orders when the block is left, by an error or Ctrl-C as well: `mine`, those of this client, or `all`
                of the account. Orders that stay open all the same are in `left`, and raised as `OrdersLeft` unless an error is on its way. They stay
                open after kill -9: the exchange has no dead man's switch.
            check_orders: orders that are refused before they are sent (docs/orders.md). `grid`: orders off the tick or the step, or outside the smallest
                and largest price and quantity. `all`: all violations that `Market.check_order` finds with the live book, the live ledger and fresh prices of
                `trades` and `mark_price`. None: no checks. The market is read again before an order is refused, for its rules may have changed.
            transport: drive this one instead of a runtime's sockets, such as a `MockTransport`.

        Raises:
            ConfigurationError: an argument cannot be used.
            InvalidStream: the exchange has no such channel.
            MissingExtra: the runtime needs an extra that is not installed.
        """
        super().__init__(
            BackpackClient(
                symbols,
                channels=channels,
                settings=settings,
                sandbox=sandbox,
                sandbox_seed=sandbox_seed,
                sandbox_faults=sandbox_faults,
                streams=streams,
                signer=signer,
                follow_account=follow_account,
                book_levels=book_levels,
                slow_consumer=slow_consumer,
                buffer=buffer,
                buffer_bytes=buffer_bytes,
                on_event=on_event,
                journal=journal,
                durability=durability,
                instance=instance,
                cancel_on_exit=cancel_on_exit,
                check_orders=check_orders,
                transport=transport,
            )
        )

    def accept_quote(
        self,
        quote_id: str | int,
        *,
        rfq_id: str | int | None = None,
        client_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Rfq:
        """Accept the best quote of a request, which is named by exactly one of `rfq_id` and its `client_id`.

        A quote of the exchange's broker on a stock binds at once and is settled later: `RfqAcceptedBinding`, then `RfqFilled` at the
        quoted price or a better one, or `RfqCancelled` where the broker did not settle it in time.

        Raises:
            ApiError: the exchange refused, as for a quote that is not the best one any more.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been accepted.
        """
        return self._call(self._client.accept_quote, quote_id, rfq_id=rfq_id, client_id=client_id, max_wait_us=max_wait_us)

    @property
    def account(self) -> AccountView:
        """The ledger of the account: always the same object. `live` says whether it follows the exchange.

        Raises:
            ConfigurationError: it is not followed.
        """
        return self._view(lambda: self._client.account)

    def batches(self) -> SyncIterator[Sequence[Event]]:
        """Every event, in lists: those of one read of the socket together, and all that waited while you did something else.

            for events in client.batches():
                for event in events:
                    ...

        This is the client's own iteration in another form, and the cheaper one of the two.

        Raises:
            LocalProtocolError: another loop runs. `stream` has events for a second consumer. Or `on_event` has the events.
        """
        return self._iterate(self._client.batches)

    def book(self, symbol: str) -> BookView:
        """Return the order book of a symbol: always the same object, always at the latest frame, `live` or stale.

        Raises:
            UnknownSymbol: the exchange has no such market.
            LocalProtocolError: its book is not subscribed.
        """
        return self._view(lambda: self._client.book(symbol))

    def borrow_lend(
        self, asset: str, side: Literal["Borrow", "Lend"], *, quantity: Amount, max_wait_us: int | None = None
    ) -> None:
        """Borrow or lend a quantity of an asset.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done. `borrow_lend_history` finds out.
        """
        self._call(self._client.borrow_lend, asset, side, quantity=quantity, max_wait_us=max_wait_us)

    def borrow_lend_history(
        self,
        asset: str | None = None,
        *,
        movement_type: str | None = None,
        sources: str | None = None,
        position_id: str | int | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[BorrowLendMovement]:
        """Return everything that was borrowed, lent, repaid or redeemed, as an iterator."""
        return self._iterate(
            lambda: self._client.borrow_lend_history(
                asset,
                movement_type=movement_type,
                sources=sources,
                position_id=position_id,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def borrow_lend_position_history(
        self,
        asset: str | None = None,
        *,
        side: Literal["Borrow", "Lend"] | None = None,
        state: Literal["Open", "Closed"] | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[HistoricalBorrowLendPosition]:
        """Return every loan of the past, as an iterator."""
        return self._iterate(
            lambda: self._client.borrow_lend_position_history(
                asset, side=side, state=state, oldest_first=oldest_first, page_size=page_size
            )
        )

    @property
    def budget(self) -> PacerState:
        """Rest of the request budget now."""
        return self._read(lambda: self._client.budget)

    def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call a REST endpoint by its name, its instruction or its method and path, within the request budget.

        The names are those of `backpack_proto.rest.codec.ENDPOINTS`, and parameters have the exchange's names (`orderId`) or Python's
        (`order_id`). Symbols are ids of the exchange. `max_wait_us` is the time that the call
        may wait to be sent: 5 s for one that changes something, unless given, and without a bound for one that reads.

        A cancelled call is not sent any more. If it changes something and may have been sent already, a `CallUnresolved` is among
        the events, and the call among those `unresolved`.

        Raises:
            LocalProtocolError: no such endpoint, or parameters that it does not take.
            ApiError: the exchange refused.
            NotSent: it did not leave, in most cases because its turn did not come in time.
            OutcomeUnknown: the call was to change something, and it is not known whether it did. It is never sent twice.
            PartlyUnreadable: rows of a list about the account cannot be read. It has the others.
            BackpackError: no answer came.
        """
        return self._call(self._client.call, endpoint, parameters, max_wait_us=max_wait_us)

    def cancel_all_orders(
        self,
        symbol: str,
        *,
        order_type: Literal["RestingLimitOrder", "ConditionalOrder"] | None = None,
        max_wait_us: int | None = None,
    ) -> tuple[Order, ...]:
        """Cancel every open order of a market, or those of one type. Return the cancelled orders.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        return self._call(self._client.cancel_all_orders, symbol, order_type=order_type, max_wait_us=max_wait_us)

    def cancel_all_strategies(
        self, symbol: str, *, strategy_type: str | None = None, max_wait_us: int | None = None
    ) -> tuple[Strategy, ...]:
        """Cancel every strategy of a market. Return the cancelled ones.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        return self._call(self._client.cancel_all_strategies, symbol, strategy_type=strategy_type, max_wait_us=max_wait_us)

    def cancel_order(
        self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None, max_wait_us: int | None = None
    ) -> Order | None:
        """Cancel one order, by exactly one of its ids, or None when the exchange accepted, and has yet to do it.

        Raises:
            ApiError: the exchange refused, perhaps because the order is not open any more.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        return self._call(self._client.cancel_order, symbol, order_id=order_id, client_id=client_id, max_wait_us=max_wait_us)

    def cancel_rfq(
        self, *, rfq_id: str | int | None = None, client_id: int | None = None, max_wait_us: int | None = None
    ) -> Rfq:
        """Cancel a request, by exactly one of its ids. One whose accepted quote binds cannot be cancelled.

        Raises:
            ApiError: the exchange refused.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        return self._call(self._client.cancel_rfq, rfq_id=rfq_id, client_id=client_id, max_wait_us=max_wait_us)

    def cancel_strategy(
        self,
        symbol: str,
        *,
        strategy_id: str | int | None = None,
        client_strategy_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Strategy:
        """Cancel one strategy, by exactly one of its ids.

        Raises:
            ApiError: the exchange refused.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled, as after a 202.
        """
        return self._call(
            self._client.cancel_strategy,
            symbol,
            strategy_id=strategy_id,
            client_strategy_id=client_strategy_id,
            max_wait_us=max_wait_us,
        )

    def cancel_vault_redeem(self, vault_id: int, *, max_wait_us: int | None = None) -> None:
        """Cancel the redemption that waits.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        self._call(self._client.cancel_vault_redeem, vault_id, max_wait_us=max_wait_us)

    def candles(self, symbol: str, interval: str, *, start_s: int | None = None) -> SyncIterator[Kline | CandleGap]:
        """Return the candles of a market from a moment on, as an iterator: its history, then each as it comes, without a hole.

            for candle in client.candles("SOL_USDC", "1m", start_s=1_795_000_000):
                if isinstance(candle, Kline) and candle.closed:
                    ...

        Each that has closed comes once and in order (`closed`), the running one whenever it changes. Candles missed in an outage are fetched
        before the next one. Candles that cannot be had are a `CandleGap` in their place. Its stream is subscribed meanwhile.

        Args:
            symbol: an id of the exchange, or a normalised symbol.
            interval: `1s`, `1m`, `1h`, `1d`, `1month`, or another one of the exchange.
            start_s: candles that start then or later, seconds since the epoch. The running one and those that follow unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        return self._iterate(lambda: self._client.candles(symbol, interval, start_s=start_s))

    def convert_dust(self, asset: str | None = None, *, max_wait_us: int | None = None) -> None:
        """Convert balances that are too small to be traded into USDC: of one asset, or of all.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done. `dust_history` finds out.
        """
        self._call(self._client.convert_dust, asset, max_wait_us=max_wait_us)

    def create_strategy(
        self,
        symbol: str,
        side: Side,
        *,
        strategy_type: str = "Scheduled",
        quantity: Amount | None = None,
        price: Amount | None = None,
        duration_ms: int | None = None,
        interval_ms: int | None = None,
        randomized_interval_quantity: bool | None = None,
        time_in_force: TimeInForce | None = None,
        post_only: bool | None = None,
        reduce_only: bool | None = None,
        client_strategy_id: int | None = None,
        self_trade_prevention: str | None = None,
        slippage_tolerance: Amount | None = None,
        slippage_tolerance_type: Literal["TickSize", "Percent"] | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        broker_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Strategy:
        """Start a strategy: a quantity in several orders, one each `interval_ms`, over `duration_ms`.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may run. `client_strategy_id`, if one was given, finds out.
        """
        return self._call(
            self._client.create_strategy,
            symbol,
            side,
            strategy_type=strategy_type,
            quantity=quantity,
            price=price,
            duration_ms=duration_ms,
            interval_ms=interval_ms,
            randomized_interval_quantity=randomized_interval_quantity,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
            client_strategy_id=client_strategy_id,
            self_trade_prevention=self_trade_prevention,
            slippage_tolerance=slippage_tolerance,
            slippage_tolerance_type=slippage_tolerance_type,
            auto_lend=auto_lend,
            auto_lend_redeem=auto_lend_redeem,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            broker_id=broker_id,
            max_wait_us=max_wait_us,
        )

    @property
    def delivery(self) -> DeliverySnapshot:
        """Events that wait for the client's own iteration now, and those lost to its slowness. Always empty where `on_event` has the events."""
        return self._read(lambda: self._client.delivery)

    def dismiss(self, *, client_id: int | None = None, call_id: int | None = None) -> None:
        """Take an order off those without an outcome, or a call off `unresolved`: you have found out in another way how it ended.

        Raises:
            LocalProtocolError: it is not among them.
            ConfigurationError: not exactly one of the ids is given.
        """
        self._read(lambda: self._client.dismiss(client_id=client_id, call_id=call_id))

    def dust_history(
        self, asset: str | None = None, *, conversion_id: int | None = None, oldest_first: bool = False, page_size: int = PAGE
    ) -> SyncIterator[DustConversion]:
        """Return every conversion of dust, as an iterator."""
        return self._iterate(
            lambda: self._client.dust_history(
                asset, conversion_id=conversion_id, oldest_first=oldest_first, page_size=page_size
            )
        )

    def fills(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        strategy_id: str | int | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        fill_type: str | None = None,
        market_type: str | None = None,
        asset_class: Literal["CRYPTO", "STOCK"] | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Fill]:
        """Every fill, as an iterator. `from_ms`, inclusive, and `to_ms`, exclusive, are milliseconds since the epoch."""
        return self._iterate(
            lambda: self._client.fills(
                symbol,
                order_id=order_id,
                strategy_id=strategy_id,
                from_ms=from_ms,
                to_ms=to_ms,
                fill_type=fill_type,
                market_type=market_type,
                asset_class=asset_class,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def funding_history(
        self, symbol: str | None = None, *, subaccount_id: int | None = None, oldest_first: bool = False, page_size: int = PAGE
    ) -> SyncIterator[FundingPayment]:
        """Return every funding payment, as an iterator."""
        return self._iterate(
            lambda: self._client.funding_history(
                symbol, subaccount_id=subaccount_id, oldest_first=oldest_first, page_size=page_size
            )
        )

    def get_account(self) -> AccountSettings:
        """Return settings, fees and limits of the account."""
        return self._call(self._client.get_account)

    def get_assets(self, *, country: str | None = None) -> tuple[Asset, ...]:
        """Return the assets, and the blockchains that each is on."""
        return self._call(self._client.get_assets, country=country)

    def get_balances(self) -> dict[str, Balance]:
        """Return the balances of the account, by asset."""
        return self._call(self._client.get_balances)

    def get_borrow_lend_apy(self, *, tier_id: int | None = None) -> ApyRates:
        """Return the yearly rates of borrowing, lending and staking."""
        return self._call(self._client.get_borrow_lend_apy, tier_id=tier_id)

    def get_borrow_lend_liquidation_price(self, borrow: str, *, subaccount_id: int | None = None) -> LiquidationEstimate:
        """Return where a loan would be liquidated. `borrow` is the loan as JSON, in base64.

        The exchange is known to answer 401 to API keys here (docs/protocol.md 6.1).
        """
        return self._call(self._client.get_borrow_lend_liquidation_price, borrow, subaccount_id=subaccount_id)

    def get_borrow_lend_markets(self) -> tuple[BorrowLendMarket, ...]:
        """Return the lending pool of each asset."""
        return self._call(self._client.get_borrow_lend_markets)

    def get_borrow_lend_markets_history(self, interval: Period, *, asset: str | None = None) -> tuple[BorrowLendMarketRow, ...]:
        """Return the past of the lending pools, or of one of them, over an interval until now."""
        return self._call(self._client.get_borrow_lend_markets_history, interval, asset=asset)

    def get_borrow_lend_positions(self) -> tuple[BorrowLendPosition, ...]:
        """Return the loans of the account, taken and given."""
        return self._call(self._client.get_borrow_lend_positions)

    def get_collateral(self, *, subaccount_id: int | None = None) -> Collateral:
        """Return equity, margin and collateral. `net_equity_available` is the equity for new orders."""
        return self._call(self._client.get_collateral, subaccount_id=subaccount_id)

    def get_collateral_parameters(self) -> tuple[CollateralParameters, ...]:
        """Return how much each asset is worth as collateral."""
        return self._call(self._client.get_collateral_parameters)

    def get_deposit_address(self, blockchain: str) -> DepositAddress:
        """Return where to deposit on a blockchain such as `Solana`."""
        return self._call(self._client.get_deposit_address, blockchain)

    def get_deposits(
        self,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
        exclude_platform: bool | None = None,
    ) -> tuple[Deposit, ...]:
        """Return deposits, from and to in milliseconds since the epoch."""
        return self._call(
            self._client.get_deposits,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=limit,
            offset=offset,
            exclude_platform=exclude_platform,
        )

    def get_depth(self, symbol: str, *, limit: int = 1000) -> DepthSnapshot:
        """The book, best prices first. `limit` levels a side: 5, 10, 20, 50, 100, 500 or 1000."""
        return self._call(self._client.get_depth, symbol, limit=limit)

    def get_funding_rates(self, symbol: str, *, limit: int | None = None, offset: int | None = None) -> tuple[FundingRate, ...]:
        """Funding rates, newest first, up to 10,000. Fractions per interval."""
        return self._call(self._client.get_funding_rates, symbol, limit=limit, offset=offset)

    def get_klines(
        self,
        symbol: str,
        interval: str,
        *,
        start_s: int,
        end_s: int | None = None,
        price_type: str | None = None,
        source: Literal["External"] | None = None,
    ) -> tuple[Kline, ...]:
        """Candles, oldest first, from and to in seconds since the epoch. Prices are `Last`, `Index` or `Mark`.

        `source="External"` are those of a stock outside the exchange. They have `Last` prices only.
        """
        return self._call(
            self._client.get_klines, symbol, interval, start_s=start_s, end_s=end_s, price_type=price_type, source=source
        )

    def get_mark_prices(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[MarkPrice, ...]:
        """Mark prices, index prices and funding of one market or all."""
        return self._call(self._client.get_mark_prices, symbol, market_type=market_type)

    def get_market(self, symbol: str) -> Market:
        """Return one market with the rules that it has now: this answer comes from no cache."""
        return self._call(self._client.get_market, symbol)

    def get_markets(self, *, market_type: str | None = None) -> Markets:
        """Every market, or those of one type such as `SPOT` and `PERP`."""
        return self._call(self._client.get_markets, market_type=market_type)

    def get_max_borrow_quantity(self, asset: str) -> MaxBorrowQuantity:
        """Return how much of an asset the account can borrow at most."""
        return self._call(self._client.get_max_borrow_quantity, asset)

    def get_max_order_quantity(
        self,
        symbol: str,
        side: Side,
        *,
        price: Amount | None = None,
        reduce_only: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        auto_lend_redeem: bool | None = None,
    ) -> MaxOrderQuantity:
        """Return how much an order of the account can be at most."""
        return self._call(
            self._client.get_max_order_quantity,
            symbol,
            side,
            price=price,
            reduce_only=reduce_only,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            auto_lend_redeem=auto_lend_redeem,
        )

    def get_max_withdrawal_quantity(
        self, asset: str, *, auto_borrow: bool | None = None, auto_lend_redeem: bool | None = None
    ) -> MaxWithdrawalQuantity:
        """Return how much of an asset the account can withdraw at most."""
        return self._call(
            self._client.get_max_withdrawal_quantity, asset, auto_borrow=auto_borrow, auto_lend_redeem=auto_lend_redeem
        )

    def get_open_interest(self, symbol: str | None = None) -> tuple[OpenInterest, ...]:
        """Open contracts of one market or all, in base units."""
        return self._call(self._client.get_open_interest, symbol)

    def get_open_orders(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Order, ...]:
        """The open orders."""
        return self._call(self._client.get_open_orders, symbol, market_type=market_type)

    def get_open_rfqs(
        self,
        symbol: str | None = None,
        *,
        rfq_id: int | None = None,
        deferred_settlement: bool | None = None,
        subaccount_id: int | None = None,
    ) -> tuple[RfqWithQuotes, ...]:
        """Return the open requests of the account, each with the quotes that it has had."""
        return self._call(
            self._client.get_open_rfqs,
            symbol,
            rfq_id=rfq_id,
            deferred_settlement=deferred_settlement,
            subaccount_id=subaccount_id,
        )

    def get_open_strategies(
        self, symbol: str | None = None, *, market_type: str | None = None, strategy_type: str | None = None
    ) -> tuple[Strategy, ...]:
        """Return the strategies that run."""
        return self._call(self._client.get_open_strategies, symbol, market_type=market_type, strategy_type=strategy_type)

    def get_order(self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None) -> Order:
        """One open order, by exactly one of its ids."""
        return self._call(self._client.get_order, symbol, order_id=order_id, client_id=client_id)

    def get_pending_vault_redeems(self, vault_id: int) -> tuple[VaultRedeem, ...]:
        """Return the redemptions that wait."""
        return self._call(self._client.get_pending_vault_redeems, vault_id)

    def get_ping(self) -> str:
        """Return `pong`."""
        return self._call(self._client.get_ping)

    def get_positions(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Position, ...]:
        """The open positions."""
        return self._call(self._client.get_positions, symbol, market_type=market_type)

    def get_prediction_tags(self) -> tuple[PredictionTag, ...]:
        """Return the subjects of predictions."""
        return self._call(self._client.get_prediction_tags)

    def get_securities(self) -> tuple[Security, ...]:
        """Return the stocks that can be traded, with their sessions and the quantity rules of each.

        The market for requests for quotes of a security is `<asset>_USDC_RFQ`, which no list of markets has.
        """
        return self._call(self._client.get_securities)

    def get_status(self) -> SystemStatus:
        """Return whether the exchange works, and its message about it."""
        return self._call(self._client.get_status)

    def get_stock_holidays(self) -> tuple[StockHoliday, ...]:
        """Return the days on which stocks do not trade, or not as long."""
        return self._call(self._client.get_stock_holidays)

    def get_stock_indicative_quote(
        self, asset: str, side: Side, *, quantity: Amount | None = None, quote_quantity: Amount | None = None
    ) -> StockIndicativeQuote:
        """Return the price at which a request for quotes would be quoted now, or the reason why not.

        `asset` is a security such as `NVDA.US`. Give exactly one of `quantity` and `quote_quantity`.
        """
        return self._call(
            self._client.get_stock_indicative_quote, asset, side, quantity=quantity, quote_quantity=quote_quantity
        )

    def get_stock_sessions(self) -> tuple[StockSession, ...]:
        """Return the trading hours of stocks."""
        return self._call(self._client.get_stock_sessions)

    def get_strategy(
        self, symbol: str, *, strategy_id: str | int | None = None, client_strategy_id: int | None = None
    ) -> Strategy:
        """Return one strategy that runs, by exactly one of its ids."""
        return self._call(self._client.get_strategy, symbol, strategy_id=strategy_id, client_strategy_id=client_strategy_id)

    def get_ticker(
        self, symbol: str, *, interval: Literal["1d", "1w"] | None = None, source: Literal["External"] | None = None
    ) -> Ticker:
        """A day or a week of one market. `source="External"` is a day of a stock outside the exchange.

        Raises:
            NothingTraded: there was no trade in that time, as in a market that has just been listed.
        """
        return self._call(self._client.get_ticker, symbol, interval=interval, source=source)

    def get_tickers(
        self, *, interval: Literal["1d", "1w"] | None = None, source: Literal["External"] | None = None
    ) -> tuple[Ticker, ...]:
        """A day or a week of every market. `source="External"` is a day of every stock outside the exchange."""
        return self._call(self._client.get_tickers, interval=interval, source=source)

    def get_time(self) -> ServerTime:
        """The exchange's clock, in microseconds since the epoch."""
        return self._call(self._client.get_time)

    def get_trades(self, symbol: str, *, limit: int | None = None) -> tuple[Trade, ...]:
        """The last public trades, up to 1000."""
        return self._call(self._client.get_trades, symbol, limit=limit)

    def get_trades_history(self, symbol: str, *, limit: int | None = None, offset: int | None = None) -> tuple[Trade, ...]:
        """Return older public trades, up to 1000 at a time, newest first. The exchange allows few of these calls a minute."""
        return self._call(self._client.get_trades_history, symbol, limit=limit, offset=offset)

    def get_vault_nav(self) -> VaultNav:
        """Return the net asset value of a vault that the account manages."""
        return self._call(self._client.get_vault_nav)

    def get_vaults(self) -> tuple[Vault, ...]:
        """Return the vaults, and their terms."""
        return self._call(self._client.get_vaults)

    def get_vaults_history(self, interval: Period, *, vault_id: int | None = None) -> tuple[VaultHistoryRow, ...]:
        """Return the past of all vaults, or of one, over an interval until now."""
        return self._call(self._client.get_vaults_history, interval, vault_id=vault_id)

    def get_wallets(self) -> tuple[Wallet, ...]:
        """Return the wallets of the exchange."""
        return self._call(self._client.get_wallets)

    def get_withdrawals(
        self,
        *,
        withdrawal_id: int | None = None,
        client_id: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> tuple[Withdrawal, ...]:
        """Return withdrawals, pending ones included, from and to in milliseconds since the epoch."""
        return self._call(
            self._client.get_withdrawals,
            withdrawal_id=withdrawal_id,
            client_id=client_id,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=limit,
            offset=offset,
        )

    @property
    def health(self) -> Health:
        """Verdict on the whole now, with the reasons against it."""
        return self._read(lambda: self._client.health)

    def interest_history(
        self,
        symbol: str | None = None,
        *,
        asset: str | None = None,
        position_id: str | int | None = None,
        source: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[InterestPayment]:
        """Return all interest, paid or received, as an iterator. `source` is `UnrealizedPnl` or `BorrowLend`."""
        return self._iterate(
            lambda: self._client.interest_history(
                symbol, asset=asset, position_id=position_id, source=source, oldest_first=oldest_first, page_size=page_size
            )
        )

    @property
    def journal(self) -> JournalView | None:
        """The journal of orders now, or None before the first order of a client that was given neither `journal` nor `instance`."""
        return self._read(lambda: self._client.journal)

    @property
    def left(self) -> Leftovers:
        """Outcome of the orders that `cancel_on_exit` was to cancel, or empty before the block is left, and where all went well."""
        return self._read(lambda: self._client.left)

    def load_markets(self, *, fresh: bool = False) -> Markets:
        """Fetch the list of markets. Symbols are checked against it, and normalised symbols come from it.

        The network in front of the exchange keeps the list for up to a quarter of an hour. With `fresh` the exchange itself is asked,
        for the list at this moment. Without it markets that were found since, by their symbols, stay among the others, and so do rules of
        a `MarketChanged`. That comes by itself, so a client that runs for long need not load the list again.
        """
        return self._call(self._client.load_markets, fresh=fresh)

    @property
    def markets(self) -> Markets:
        """The markets as they were loaded last, with every `MarketChanged` since."""
        return self._read(lambda: self._client.markets)

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session now."""
        return self._read(lambda: self._client.metrics)

    def mint_vault_tokens(
        self,
        vault_id: int,
        asset: str,
        *,
        quantity: Amount,
        auto_borrow: bool | None = None,
        auto_lend_redeem: bool | None = None,
        max_wait_us: int | None = None,
    ) -> None:
        """Pay a quantity of an asset into a vault.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done.
        """
        self._call(
            self._client.mint_vault_tokens,
            vault_id,
            asset,
            quantity=quantity,
            auto_borrow=auto_borrow,
            auto_lend_redeem=auto_lend_redeem,
            max_wait_us=max_wait_us,
        )

    def order(self, symbol: str, *, client_id: int | None = None, order_id: str | None = None) -> Order:
        """Return an order, open or ended, by one of its ids: from the open orders, from history, or as far as its fills tell of it.

        By a client id that was used more than once it is the newest. One that this client did not make may have history read to its end.

        Raises:
            OrderNotFound: the exchange lists no such order.
            ConfigurationError: not exactly one of the ids is given.
        """
        return self._call(self._client.order, symbol, client_id=client_id, order_id=order_id)

    def order_history(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        strategy_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Order]:
        """Every order of the past, open ones among them, as an iterator."""
        return self._iterate(
            lambda: self._client.order_history(
                symbol,
                order_id=order_id,
                strategy_id=strategy_id,
                market_type=market_type,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def place(self, order: NewOrder, *, max_wait_us: int | None = None) -> Order:
        """Place one order, such as `NewOrder.limit("SOL_USDC", "Bid", price="98.50", quantity="2")`.

        Raises:
            OrderDoesNotFit: it breaks rules of its market, as far as the client checks them (`check_orders`). Nothing was sent.
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed. Its `client_id`, if it has one, finds out.
        """
        return self._call(self._client.place, order, max_wait_us=max_wait_us)

    def place_and_wait(self, order: NewOrder, *, timeout_s: float = 60.0, max_wait_us: int | None = None) -> Order:
        """Place an order and return it as it ended: filled, cancelled or expired.

        Where the answer to its placing does not come, its outcome is looked up. It is not sent again.

        Args:
            order: the order to place.
            timeout_s: how long to wait for its end. The order is not cancelled then.
            max_wait_us: how long it may wait to be sent, 5 s unless given.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave in time.
            OutcomeUnknown: it may have been placed, and neither the answer nor the exchange's lists have its outcome.
            OrderStillOpen: it had not ended in time. The error has its ids.
        """
        return self._call(self._client.place_and_wait, order, timeout_s=timeout_s, max_wait_us=max_wait_us)

    def place_order(
        self,
        symbol: str,
        side: Side,
        order_type: OrderType,
        *,
        quantity: Amount | None = None,
        quote_quantity: Amount | None = None,
        price: Amount | None = None,
        client_id: int | None = None,
        time_in_force: TimeInForce | None = None,
        post_only: bool | None = None,
        reduce_only: bool | None = None,
        self_trade_prevention: str | None = None,
        trigger_price: Amount | None = None,
        trigger_quantity: Amount | None = None,
        trigger_by: str | None = None,
        take_profit_trigger_price: Amount | None = None,
        take_profit_limit_price: Amount | None = None,
        take_profit_trigger_by: str | None = None,
        stop_loss_trigger_price: Amount | None = None,
        stop_loss_limit_price: Amount | None = None,
        stop_loss_trigger_by: str | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        slippage_tolerance: Amount | None = None,
        slippage_tolerance_type: str | None = None,
        broker_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Order:
        """Place one order of any kind. Units and meanings are those of `NewOrder`, and `place` is shorter for everyday orders.

        Raises:
            OrderDoesNotFit: it breaks rules of its market, as far as the client checks them (`check_orders`). Nothing was sent.
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed. `client_id`, if one was given, finds out.
        """
        return self._call(
            self._client.place_order,
            symbol,
            side,
            order_type,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            client_id=client_id,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
            self_trade_prevention=self_trade_prevention,
            trigger_price=trigger_price,
            trigger_quantity=trigger_quantity,
            trigger_by=trigger_by,
            take_profit_trigger_price=take_profit_trigger_price,
            take_profit_limit_price=take_profit_limit_price,
            take_profit_trigger_by=take_profit_trigger_by,
            stop_loss_trigger_price=stop_loss_trigger_price,
            stop_loss_limit_price=stop_loss_limit_price,
            stop_loss_trigger_by=stop_loss_trigger_by,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            auto_lend=auto_lend,
            auto_lend_redeem=auto_lend_redeem,
            slippage_tolerance=slippage_tolerance,
            slippage_tolerance_type=slippage_tolerance_type,
            broker_id=broker_id,
            max_wait_us=max_wait_us,
        )

    def place_orders(self, orders: Iterable[NewOrder], *, max_wait_us: int | None = None) -> tuple[Order | OrderRefused, ...]:
        """Place up to 20 orders at once. One answer for each, in their order.

        Raises:
            OrderDoesNotFit: one or more break rules of their markets, as far as the client checks them (`check_orders`). None was sent.
            ApiError: the exchange refused all of them.
            NotSent: they did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: any of them may have been placed. Its `orders` hold their client ids.
        """
        return self._call(self._client.place_orders, orders, max_wait_us=max_wait_us)

    def position_history(
        self,
        symbol: str | None = None,
        *,
        state: Literal["Open", "Closed"] | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[HistoricalPosition]:
        """Return every position of the past, as an iterator."""
        return self._iterate(
            lambda: self._client.position_history(
                symbol, state=state, market_type=market_type, oldest_first=oldest_first, page_size=page_size
            )
        )

    def prediction_events(
        self,
        symbol: str | None = None,
        *,
        tag_slug: str | None = None,
        event_slug: str | None = None,
        series_slug: str | None = None,
        resolved: bool | None = None,
        page_size: int = PAGE,
    ) -> SyncIterator[PredictionEvent]:
        """Return the events that there are predictions on, with their markets, as an iterator."""
        return self._iterate(
            lambda: self._client.prediction_events(
                symbol,
                tag_slug=tag_slug,
                event_slug=event_slug,
                series_slug=series_slug,
                resolved=resolved,
                page_size=page_size,
            )
        )

    def quote_fill_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        side: Side | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[QuoteFill]:
        """Return every quote of the account that was filled, as an iterator."""
        return self._iterate(
            lambda: self._client.quote_fill_history(
                symbol, quote_id=quote_id, side=side, oldest_first=oldest_first, page_size=page_size
            )
        )

    def quote_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        status: str | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Quote]:
        """Return every quote that the account has given, as an iterator."""
        return self._iterate(
            lambda: self._client.quote_history(
                symbol,
                quote_id=quote_id,
                status=status,
                deferred_settlement=deferred_settlement,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def reconnect(self, *, timeout_s: float = 30.0) -> RecoveryOutcome:
        """Drop the connection and make another one at once, without backing off.

        Returns `Recovered` once it is open, or `NotRecovered` with the reason after `timeout_s`. Attempts go on. Books are stale until they are live again.
        """
        return self._call(self._client.reconnect, timeout_s=timeout_s)

    def redeem_vault_tokens(
        self, vault_id: int, *, vault_token_quantity: Amount | None = None, max_wait_us: int | None = None
    ) -> None:
        """Redeem tokens of a vault, all of them where no quantity is given.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been asked for. `get_pending_vault_redeems` finds out.
        """
        self._call(
            self._client.redeem_vault_tokens, vault_id, vault_token_quantity=vault_token_quantity, max_wait_us=max_wait_us
        )

    def refresh_rfq(self, rfq_id: str | int, *, max_wait_us: int | None = None) -> Rfq:
        """Cancel the quotes of a request, and restart the times for quoting and for accepting.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been refreshed.
        """
        return self._call(self._client.refresh_rfq, rfq_id, max_wait_us=max_wait_us)

    def resolve(self, *, wait: bool = False) -> tuple[Resolution, ...]:
        """Find the outcome of every order without one, those of earlier programs with the same journal included.

        Each is `OrderFound`, in open orders, history or fills. `OrderNeverHappened`, once all three were read completely after its signature had run out. Or
        `OrderUnresolved`, with the reason. The first two are written down, and their calls are not `unresolved` any more. Orders are not sent again.

        Args:
            wait: wait until each outcome can be known: the signature's window and 2 s, from its signature on.
        """
        return self._call(self._client.resolve, wait=wait)

    def resync(self, symbol: str, *, timeout_s: float = 30.0) -> RecoveryOutcome:
        """Have a book begin again: it is stale at once, its stream is requested again, and a new snapshot fetched.

        Returns `Recovered` once it is live, or `NotRecovered` with the reason after `timeout_s`. It goes on being brought back by itself.

        Raises:
            LocalProtocolError: its book is not subscribed.
        """
        return self._call(self._client.resync, symbol, timeout_s=timeout_s)

    def rfq_fill_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        side: Side | None = None,
        fill_type: str | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[RfqFill]:
        """Return every request of the account that was filled, as an iterator."""
        return self._iterate(
            lambda: self._client.rfq_fill_history(
                symbol,
                quote_id=quote_id,
                side=side,
                fill_type=fill_type,
                deferred_settlement=deferred_settlement,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def rfq_history(
        self,
        symbol: str | None = None,
        *,
        rfq_id: str | int | None = None,
        status: str | None = None,
        side: Side | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Rfq]:
        """Return every request of the past, as an iterator. `status` is a word such as `Filled` or `Expired`."""
        return self._iterate(
            lambda: self._client.rfq_history(
                symbol,
                rfq_id=rfq_id,
                status=status,
                side=side,
                deferred_settlement=deferred_settlement,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    @property
    def settings(self) -> Settings:
        """Settings of the way to the exchange."""
        return self._client.settings

    def settlement_history(
        self, *, source: str | None = None, oldest_first: bool = False, page_size: int = PAGE
    ) -> SyncIterator[Settlement]:
        """Return everything that was settled, as an iterator. `source` is a word such as `TradingFees`."""
        return self._iterate(
            lambda: self._client.settlement_history(source=source, oldest_first=oldest_first, page_size=page_size)
        )

    def strategy_history(
        self,
        symbol: str | None = None,
        *,
        strategy_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Strategy]:
        """Return every strategy of the past, as an iterator."""
        return self._iterate(
            lambda: self._client.strategy_history(
                symbol, strategy_id=strategy_id, market_type=market_type, oldest_first=oldest_first, page_size=page_size
            )
        )

    def stream(
        self,
        *kinds: type[Event],
        slow_consumer: SlowConsumer | str | None = None,
        buffer: int | None = None,
        buffer_bytes: int | None = None,
    ) -> SyncIterator[Event]:
        """Return a stream of events for one more consumer, which is as independent as if it were the only one.

            with client.stream(Trade, BookTicker) as stream:
                for event in stream:
                    ...

        It has the events from now on, of these classes and their subclasses, or all of them by default, and `EventsDropped` where its
        own consumer was too slow. Each stream has a queue of its own. Leave its block, or let go of it, when you need it no more.

        Args:
            kinds: classes of events, such as `Trade` or `BookChanged`.
            slow_consumer: the policy for this consumer. That of the client unless given.
            buffer: number of events that may wait for it. As many as for the client unless given.
            buffer_bytes: memory that they may take. As much as for the client unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
            ClientClosed: the client is not inside its block.
        """
        return self._iterate(
            lambda: self._client.stream(*kinds, slow_consumer=slow_consumer, buffer=buffer, buffer_bytes=buffer_bytes)
        )

    def submit_quote(
        self,
        rfq_id: str | int,
        *,
        bid_price: Amount,
        ask_price: Amount,
        client_id: int | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Quote:
        """Quote a request of somebody else, before its `submitted_us`. A quote of yours is settled as soon as it is accepted.

        Raises:
            ApiError: the exchange refused, as after the time for quoting.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been taken in.
        """
        return self._call(
            self._client.submit_quote,
            rfq_id,
            bid_price=bid_price,
            ask_price=ask_price,
            client_id=client_id,
            auto_lend=auto_lend,
            auto_lend_redeem=auto_lend_redeem,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            max_wait_us=max_wait_us,
        )

    def submit_rfq(
        self,
        symbol: str,
        side: Side,
        *,
        quantity: Amount | None = None,
        quote_quantity: Amount | None = None,
        price: Amount | None = None,
        execution_mode: Literal["AwaitAccept", "Immediate"] | None = None,
        client_id: int | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Rfq:
        """Ask for quotes on a market such as `SOL_USDC_RFQ` or `AAPL.US_USDC_RFQ`.

        Quotes are taken until `submitted_us` of the answer, and the request expires at `expires_us`. With `execution_mode="Immediate"`
        and a `price`, the first quote at that price or better is accepted at once. A request for a stock takes a `quantity`: one by
        `quote_quantity` gets no quotes, and expires.

        Raises:
            ApiError: the exchange refused it.
            UnknownSymbol: it is no market, and no security has it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may be open. `get_open_rfqs` and `rfq_history` find out.
        """
        return self._call(
            self._client.submit_rfq,
            symbol,
            side,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            execution_mode=execution_mode,
            client_id=client_id,
            auto_lend=auto_lend,
            auto_lend_redeem=auto_lend_redeem,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            max_wait_us=max_wait_us,
        )

    def subscribe(self, channels: Iterable[str], symbols: Symbols) -> None:
        """Subscribe every channel for every symbol, on this connection and on each that follows. Symbols may be `"all"` or a predicate.

        Raises:
            UnknownSymbol: the exchange has no such market.
            InvalidStream: it has no such channel.
            LocalProtocolError: a private channel without a signer.
            ConfigurationError: a channel needs symbols, or an argument is not a list of texts.
        """
        self._call(self._client.subscribe, channels, symbols)

    def subscribe_untyped(self, streams: Iterable[str]) -> None:
        """Subscribe streams of kinds that this project has no type for, by the exchange's names, such as `newKind.SOL_USDC`.

        Their data are `UnknownPayload`: the whole frame as text, and its `data()` as Python values. A kind that the exchange does not
        have either is a `StreamsRefused` that names it.

        Raises:
            InvalidStream: there is a type for it, so `subscribe` is the way. Or the exchange can have no such name.
            LocalProtocolError: a private stream without a signer.
            ConfigurationError: `streams` is not a list of texts.
        """
        self._call(self._client.subscribe_untyped, streams)

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were cancelled after they may have been sent, by call id, until it is known how they ended.

        The late answer, an event, takes a call off. Where none comes, `resolve` does for orders, and `dismiss` for all other calls.
        """
        return self._read(lambda: self._client.unresolved)

    def unsubscribe(self, channels: Iterable[str], symbols: Symbols) -> None:
        """Undo `subscribe`, by the same `"all"` or predicate if it was one. Data still on their way are dropped.

        Raises:
            ConfigurationError: there is no subscription by this rule.
        """
        self._call(self._client.unsubscribe, channels, symbols)

    def unsubscribe_untyped(self, streams: Iterable[str]) -> None:
        """Undo `subscribe_untyped`."""
        self._call(self._client.unsubscribe_untyped, streams)

    def update_account(
        self,
        *,
        auto_borrow_settlements: bool | None = None,
        auto_lend: bool | None = None,
        auto_repay_borrows: bool | None = None,
        leverage_limit: Amount | None = None,
        max_wait_us: int | None = None,
    ) -> None:
        """Change the settings that are given.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: they may have been changed. `get_account` finds out.
        """
        self._call(
            self._client.update_account,
            auto_borrow_settlements=auto_borrow_settlements,
            auto_lend=auto_lend,
            auto_repay_borrows=auto_repay_borrows,
            leverage_limit=leverage_limit,
            max_wait_us=max_wait_us,
        )

    def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now. `BookVerified` or `BookDesynced` tells how it went."""
        self._call(self._client.verify, symbol)

    def withdraw(
        self,
        asset: str,
        *,
        address: str,
        blockchain: str,
        quantity: Amount,
        client_id: str | None = None,
        two_factor_token: str | None = None,
        auto_borrow: bool | None = None,
        auto_lend_redeem: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Withdrawal:
        """Withdraw a quantity of an asset to an address.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may be on its way. `get_withdrawals` finds out, by `client_id` if one was given.
        """
        return self._call(
            self._client.withdraw,
            asset,
            address=address,
            blockchain=blockchain,
            quantity=quantity,
            client_id=client_id,
            two_factor_token=two_factor_token,
            auto_borrow=auto_borrow,
            auto_lend_redeem=auto_lend_redeem,
            max_wait_us=max_wait_us,
        )
