"""`BackpackClient` for programs without an event loop. Made by `python -m tools.make_sync_client`: do not edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

from backpack_proto.account.values import Balance, Fill, Order, Position
from backpack_proto.auth.signing import Signer
from backpack_proto.candles import CandleGap
from backpack_proto.inputs import Arguments
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.outputs import CallUnresolved
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.new_order import Amount, NewOrder, OrderType, Side, TimeInForce
from backpack_proto.rest.pacing import PacerState
from backpack_proto.rest.results.market_data import DepthSnapshot, FundingRate, ServerTime
from backpack_proto.rest.results.orders import OrderRefused
from backpack_proto.streams.payloads import Event, Kline, MarkPrice, OpenInterest, Ticker, Trade

from .accounts import AccountView
from .background import SyncIterator
from .books import BookView
from .client import BackpackClient
from .delivery import DeliverySnapshot, SlowConsumer
from .delivery.policy import BUFFER_BYTES
from .rest_methods import PAGE
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
        symbols: Iterable[str] = (),
        *,
        channels: Iterable[str] | None = None,
        settings: Settings | None = None,
        sandbox: bool = False,
        sandbox_seed: int = 0,
        streams: bool = True,
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.CONFLATE,
        buffer: int = 10000,
        buffer_bytes: int = BUFFER_BYTES,
        on_event: Callable[[Event], object] | None = None,
        transport: AbstractAsyncContextManager[Transport] | None = None,
    ) -> None:
        """Nothing is connected before the block is entered.

        Args:
            symbols: ids of the exchange (`SOL_USDC`) or normalised symbols (`SOL-USDC`).
            channels: subscribed for each of them, `book` and `trades` unless given; `book` is the order book, verified against
                `bookTicker`. Without symbols there may be `liquidations` and the channels of the account.
            settings: addresses, TLS, proxies, runtime and timeouts of the connection; without them those of the real exchange.
            sandbox: start the simulated exchange on loopback, and speak with that.
            sandbox_seed: decides what its markets do.
            streams: keep up a connection for streams; with False there is none, nor a canary, and the client makes calls only.
            signer: signs private subscriptions and calls; the sandbox has one of its own for users without one.
            follow_account: keep the ledger of the account, `account`, and emit all that changes in it.
            book_levels: how many levels a side `BookChanged` carries, at least 1; `BookSynced` has all.
            slow_consumer: what happens to market data that are not fetched in time. `conflate` keeps books current: it merges the
                changes of each book, and drops the oldest of the rest. `drop_oldest` drops the oldest of all, `block` stops reading.
            buffer: how many events may wait before any are dropped, or before reading stops.
            buffer_bytes: how much memory they may take before that, estimated.
            on_event: called with every event where it is read, a turn of the loop before an iteration would have it. Then there is no
                iteration of the client's own; `stream` has events for others. It must be quick, for nothing else happens meanwhile. What
                it raises ends the client, and comes out of the block.
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
                streams=streams,
                signer=signer,
                follow_account=follow_account,
                book_levels=book_levels,
                slow_consumer=slow_consumer,
                buffer=buffer,
                buffer_bytes=buffer_bytes,
                on_event=on_event,
                transport=transport,
            )
        )

    @property
    def account(self) -> AccountView:
        """The ledger of the account: always the same object; `live` says whether it follows the exchange.

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
            LocalProtocolError: another loop runs; `stream` has events for a second consumer; or `on_event` has the events.
        """
        return self._iterate(self._client.batches)

    def book(self, symbol: str) -> BookView:
        """Return the order book of a symbol: always the same object, always at the latest frame, `live` or stale.

        Raises:
            UnknownSymbol: the exchange has no such market.
            LocalProtocolError: its book is not subscribed.
        """
        return self._view(lambda: self._client.book(symbol))

    @property
    def budget(self) -> PacerState:
        """What is left of the request budget now."""
        return self._read(lambda: self._client.budget)

    def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call a REST endpoint by its name, its instruction or its method and path, within the request budget.

        The names are those of `backpack_proto.rest.codec.ENDPOINTS`, and parameters have the exchange's names (`orderId`) or Python's
        (`order_id`); symbols are ids of the exchange. `max_wait_us` is how long the call
        may wait to be sent: 5 s for one that changes something, unless given, and without a bound for one that reads.

        A cancelled call is not sent any more. If it changes something and may have been sent already, a `CallUnresolved` is among
        the events, and the call among those `unresolved`.

        Raises:
            LocalProtocolError: no such endpoint, or parameters that it does not take.
            ApiError: the exchange refused.
            NotSent: it did not leave, in most cases because its turn did not come in time.
            OutcomeUnknown: the call was to change something, and nobody can say whether it did; it is never sent twice.
            PartlyUnreadable: rows of a list about the account cannot be read; it has the others.
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
        """Cancel every open order of a market, or those of one type; returns what was cancelled.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        return self._call(self._client.cancel_all_orders, symbol, order_type=order_type, max_wait_us=max_wait_us)

    def cancel_order(
        self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None, max_wait_us: int | None = None
    ) -> Order | None:
        """Cancel one order, by exactly one of its ids; None when the exchange accepted, and has yet to do it.

        Raises:
            ApiError: the exchange refused, perhaps because the order is not open any more.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        return self._call(self._client.cancel_order, symbol, order_id=order_id, client_id=client_id, max_wait_us=max_wait_us)

    def candles(self, symbol: str, interval: str, *, start_s: int | None = None) -> SyncIterator[Kline | CandleGap]:
        """Return the candles of a market from a moment on, as an iterator: its history, then each as it comes, without a hole.

            for candle in client.candles("SOL_USDC", "1m", start_s=1_795_000_000):
                if isinstance(candle, Kline) and candle.closed:
                    ...

        Each that has closed comes once and in order (`closed`), the running one whenever it changes. What was missed in an outage is fetched
        before the next one. Candles that cannot be had are a `CandleGap` in their place. Its stream is subscribed meanwhile.

        Args:
            symbol: an id of the exchange, or a normalised symbol.
            interval: `1s`, `1m`, `1h`, `1d`, `1month`, or another one of the exchange.
            start_s: candles that start then or later, seconds since the epoch; the running one and those that follow unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        return self._iterate(lambda: self._client.candles(symbol, interval, start_s=start_s))

    @property
    def delivery(self) -> DeliverySnapshot:
        """What waits for the client's own iteration now, and what was lost to its slowness; nothing ever where `on_event` has the events."""
        return self._read(lambda: self._client.delivery)

    def fills(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        fill_type: str | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Fill]:
        """Every fill, from and to in milliseconds since the epoch, as an iterator."""
        return self._iterate(
            lambda: self._client.fills(
                symbol,
                order_id=order_id,
                from_ms=from_ms,
                to_ms=to_ms,
                fill_type=fill_type,
                market_type=market_type,
                oldest_first=oldest_first,
                page_size=page_size,
            )
        )

    def get_balances(self) -> dict[str, Balance]:
        """What the account holds, by asset."""
        return self._call(self._client.get_balances)

    def get_depth(self, symbol: str, *, limit: int = 1000) -> DepthSnapshot:
        """The book, best prices first; `limit` levels a side: 5, 10, 20, 50, 100, 500 or 1000."""
        return self._call(self._client.get_depth, symbol, limit=limit)

    def get_funding_rates(self, symbol: str, *, limit: int | None = None, offset: int | None = None) -> tuple[FundingRate, ...]:
        """Funding rates, newest first; fractions per interval."""
        return self._call(self._client.get_funding_rates, symbol, limit=limit, offset=offset)

    def get_klines(
        self, symbol: str, interval: str, *, start_s: int, end_s: int | None = None, price_type: str | None = None
    ) -> tuple[Kline, ...]:
        """Candles, oldest first, from and to in seconds since the epoch; prices are `Last`, `Index` or `Mark`."""
        return self._call(self._client.get_klines, symbol, interval, start_s=start_s, end_s=end_s, price_type=price_type)

    def get_mark_prices(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[MarkPrice, ...]:
        """Mark prices, index prices and funding of one market or all."""
        return self._call(self._client.get_mark_prices, symbol, market_type=market_type)

    def get_markets(self, *, market_type: str | None = None) -> Markets:
        """Every market, or those of one type such as `SPOT` and `PERP`."""
        return self._call(self._client.get_markets, market_type=market_type)

    def get_open_interest(self, symbol: str | None = None) -> tuple[OpenInterest, ...]:
        """Open contracts of one market or all, in base units."""
        return self._call(self._client.get_open_interest, symbol)

    def get_open_orders(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Order, ...]:
        """The open orders."""
        return self._call(self._client.get_open_orders, symbol, market_type=market_type)

    def get_order(self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None) -> Order:
        """One open order, by exactly one of its ids."""
        return self._call(self._client.get_order, symbol, order_id=order_id, client_id=client_id)

    def get_positions(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Position, ...]:
        """The open positions."""
        return self._call(self._client.get_positions, symbol, market_type=market_type)

    def get_ticker(self, symbol: str, *, interval: Literal["1d", "1w"] | None = None) -> Ticker:
        """A day or a week of one market.

        Raises:
            NothingTraded: there was no trade in that time, as in a market that has just been listed.
        """
        return self._call(self._client.get_ticker, symbol, interval=interval)

    def get_tickers(self, *, interval: Literal["1d", "1w"] | None = None) -> tuple[Ticker, ...]:
        """A day or a week of every market."""
        return self._call(self._client.get_tickers, interval=interval)

    def get_time(self) -> ServerTime:
        """The exchange's clock, in microseconds since the epoch."""
        return self._call(self._client.get_time)

    def get_trades(self, symbol: str, *, limit: int | None = None) -> tuple[Trade, ...]:
        """The last public trades, up to 1000."""
        return self._call(self._client.get_trades, symbol, limit=limit)

    @property
    def health(self) -> Health:
        """Whether all is well now, and if not, why."""
        return self._read(lambda: self._client.health)

    def load_markets(self, *, fresh: bool = False) -> Markets:
        """Fetch the list of markets; symbols are checked against it, and normalised symbols come from it.

        The network in front of the exchange keeps the list for up to a quarter of an hour. With `fresh` the exchange itself is asked,
        for a list that is right now. Without it markets that were found since, by their symbols, stay among the others, and so does what
        a `MarketChanged` has told. That comes by itself, so a client that runs for long need not load the list again.
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

    def order_history(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> SyncIterator[Order]:
        """Every order of the past, open ones among them, as an iterator."""
        return self._iterate(
            lambda: self._client.order_history(
                symbol, order_id=order_id, market_type=market_type, oldest_first=oldest_first, page_size=page_size
            )
        )

    def place(self, order: NewOrder, *, max_wait_us: int | None = None) -> Order:
        """Place one order, such as `NewOrder.limit("SOL_USDC", "Bid", price="98.50", quantity="2")`.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed; its `client_id`, if it has one, finds out.
        """
        return self._call(self._client.place, order, max_wait_us=max_wait_us)

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
        """Place one order of any kind; units and meanings are those of `NewOrder`, and `place` is shorter for everyday orders.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed; `client_id`, if one was given, finds out.
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
        """Place up to 20 orders at once; one answer for each, in their order.

        Raises:
            ApiError: the exchange refused all of them.
            NotSent: they did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: any of them may have been placed; its `orders` hold their client ids.
        """
        return self._call(self._client.place_orders, orders, max_wait_us=max_wait_us)

    def resolve(self, call_id: int) -> None:
        """Take a call off the `unresolved` ones: you have found out how it ended, by its client id for example.

        Raises:
            LocalProtocolError: it is not among them.
        """
        self._read(lambda: self._client.resolve(call_id))

    @property
    def settings(self) -> Settings:
        """How the exchange is reached."""
        return self._client.settings

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

        It has the events from now on, of these classes and their subclasses, or all of them if none is given, and `EventsDropped` where its
        own consumer was too slow. Each stream has a queue of its own. Leave its block, or let go of it, when you need it no more.

        Args:
            kinds: classes of events, such as `Trade` or `BookChanged`.
            slow_consumer: the policy for this consumer; that of the client unless given.
            buffer: how many events may wait for it; as many as for the client unless given.
            buffer_bytes: how much memory they may take; as much as for the client unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
            ClientClosed: the client is not inside its block.
        """
        return self._iterate(
            lambda: self._client.stream(*kinds, slow_consumer=slow_consumer, buffer=buffer, buffer_bytes=buffer_bytes)
        )

    def subscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Subscribe every channel for every symbol, on this connection and on each that follows.

        Raises:
            UnknownSymbol: the exchange has no such market.
            InvalidStream: it has no such channel.
            LocalProtocolError: a private channel without a signer.
            ConfigurationError: a channel needs symbols, or an argument is not a list of texts.
        """
        self._call(self._client.subscribe, channels, symbols)

    def subscribe_untyped(self, streams: Iterable[str]) -> None:
        """Subscribe streams of kinds that this project has no type for, by the exchange's names, such as `stockPrice.NVDA`.

        Their data are `UntypedReceived`. A kind that the exchange does not have either is a `StreamsRefused` that names it.

        Raises:
            InvalidStream: there is a type for it, so `subscribe` is the way; or the exchange can have no such name.
            LocalProtocolError: a private stream without a signer.
            ConfigurationError: `streams` is not a list of texts.
        """
        self._call(self._client.subscribe_untyped, streams)

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were cancelled after they may have been sent, by call id, until it is known how they ended.

        The late answer, an event, takes a call off; where none comes, `resolve` does.
        """
        return self._read(lambda: self._client.unresolved)

    def unsubscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Undo `subscribe`; what is still on its way is dropped."""
        self._call(self._client.unsubscribe, channels, symbols)

    def unsubscribe_untyped(self, streams: Iterable[str]) -> None:
        """Undo `subscribe_untyped`."""
        self._call(self._client.unsubscribe_untyped, streams)

    def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now; `BookVerified` or `BookDesynced` tells how it went."""
        self._call(self._client.verify, symbol)
