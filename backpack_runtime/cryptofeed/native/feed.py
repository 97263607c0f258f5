"""Backpack Exchange as a feed of cryptofeed: the same session, books and signatures as everywhere else, behind cryptofeed's hooks.

One class serves cryptofeed 2.4, 2.5 and 3: it uses their common parts, and where they differ it stays out of the way.
cryptofeed connects, records, plays back and counts. The session decides about subscriptions, snapshots, the state of books, and
the wait before the next attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, ClassVar

from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import CANDLES, L2_BOOK, SPOT
from msgspec.structs import replace

from backpack_proto.buckets import Buckets
from backpack_proto.connection.heartbeat import PING_TIMEOUT_US, SILENCE_US
from backpack_proto.inputs import FollowAccount, TextReceived
from backpack_proto.metrics import Health, Status
from backpack_proto.session import Session
from backpack_runtime.cryptofeed.arguments import (
    check_keywords,
    check_private_channels,
    check_symbols,
    check_texts,
    checked_callbacks,
    microseconds,
)
from backpack_runtime.cryptofeed.backends import BackendWatch
from backpack_runtime.cryptofeed.channels import (
    CANDLE_INTERVALS,
    PERPETUAL_STREAMS,
    PRIVATE_CHANNELS,
    WEBSOCKET_CHANNELS,
    market_data,
    standard_channel,
)
from backpack_runtime.cryptofeed.config.model import BackpackConfig
from backpack_runtime.cryptofeed.config.sources import SECTION, in_sandbox, read_config
from backpack_runtime.cryptofeed.criteria import Criterion, FeedWatch
from backpack_runtime.cryptofeed.errors import described
from backpack_runtime.cryptofeed.health import BackpackHealthReport, metrics_of, report_of
from backpack_runtime.cryptofeed.logs import LOG, join_cryptofeed_log
from backpack_runtime.cryptofeed.shutdown import flush_backends
from backpack_runtime.delivery.policy import NOTHING_WAITS
from backpack_runtime.loop_thread import LoopThread
from backpack_runtime.network.addresses import WS_URL
from backpack_runtime.observation import Observation
from backpack_runtime.transport import system_now

from .books import BookMirror
from .callbacks import Callbacks
from .connection import WebsocketConnection
from .deliveries import Deliveries
from .driver import SessionDriver
from .one_run import OneRun
from .receiving import MOST_WAITING

__all__ = ["BackpackFeed"]

WEBSOCKET_OPTIONS: dict[str, Any] = {
    "ping_interval": 20,
    "ping_timeout": 60,
    "max_size": None,
    # The queue is bounded, so a slow callback slows down the exchange and not the memory.
    "max_queue": MOST_WAITING,
    "compression": None,
    "close_timeout": 2,
}


class BackpackFeed(OneRun):
    """Market data and, with credentials, the account of Backpack Exchange.

    Channels: `trades`, `l2_book` (verified against `bookTicker`), `l1_book`, `ticker`, `candles`, `funding`, `index`, `open_interest`,
    `liquidations`, and the private `order_info`, `fills`, `positions`, `balances`, also as `order.*`, `position.*`, `balance.*`.
    """

    websocket_endpoints: Sequence[Any] = (WebsocketEndpoint(WS_URL, options=WEBSOCKET_OPTIONS),)
    websocket_channels = WEBSOCKET_CHANNELS
    request_limit = 10
    valid_candle_intervals: ClassVar[set[str]] = set(CANDLE_INTERVALS.values())
    candle_interval_map: ClassVar[dict[str, str]] = {name: interval for interval, name in CANDLE_INTERVALS.items()}
    allow_empty_subscriptions = True
    provides_sequence_number = True
    validates_sequence_number = True

    def __init__(
        self,
        config: BackpackConfig | Mapping[str, Any] | str | Any = None,
        *,
        symbols: Iterable[Any] | None = None,
        channels: Iterable[str] | None = None,
        subscription: Mapping[str, Iterable[Any]] | None = None,
        callbacks: Mapping[str, Any] | None = None,
        candle_interval: str = "1m",
        timeout: float = -1,
        retries: int = -1,
        http_proxy: str | None = None,
        sandbox: bool | None = None,
        silence_seconds: float = SILENCE_US / 1e6,
        ping_timeout_seconds: float = PING_TIMEOUT_US / 1e6,
        **options: Any,
    ) -> None:
        """Take cryptofeed's own arguments, and its configuration or a `BackpackConfig`.

        Args:
            config: a `BackpackConfig`, a mapping of its fields, or any configuration of cryptofeed.
            symbols: normalised names, as `BTC-USDC` or `BTC-USDC-PERP`.
            channels: see the class. Private ones need no symbols.
            subscription: channels with the symbols of each, in the place of the two.
            callbacks: coroutine functions by channel, which take an object and its receipt timestamp. One, or a list of them.
            candle_interval: of `candles`.
            timeout: seconds without a message before cryptofeed reconnects. -1: never, for the session watches the connection itself, and a
                quiet private stream has not failed.
            retries: attempts to connect that may fail in a row. -1: any number.
            http_proxy: for REST and the list of markets, where neither the configuration nor the process has a proxy for it.
            sandbox: True: as `use_sandbox` of the configuration, a simulated exchange.
            silence_seconds: a connection that is silent for so long is probed by a ping.
            ping_timeout_seconds: it is given up when it stays silent for so long after that.
            options: cryptofeed's other arguments. Arguments that this version of it does not have either are refused.

        Raises:
            ConfigurationError: (a `ValueError`) an argument is unknown or impossible, or there is no such channel.
            BackpackAuthError: a private channel without credentials.
            UnknownFeedSymbol: (cryptofeed's `UnsupportedSymbol`) no such market. Cryptofeed 3 raises it when it runs the feed.
            BackpackRestError: cryptofeed 2 loads the markets here, and they could not be had.
        """
        check_keywords(type(self), options | {"timeout": timeout, "retries": retries})
        check_texts(symbols, channels, subscription)
        silence_us = microseconds("silence_seconds", silence_seconds)
        ping_timeout_us = microseconds("ping_timeout_seconds", ping_timeout_seconds)
        settings, feed_config = read_config(config)
        settings = in_sandbox(settings, sandbox)
        if symbols is not None or channels is not None:
            symbols, channels = list(symbols or ()), [standard_channel(channel) for channel in channels or ()]
            if not symbols and channels and subscription is None:
                subscription, symbols, channels = {channel: [] for channel in channels}, None, None
        elif subscription is not None:
            subscription = {standard_channel(channel): list(names) for channel, names in subscription.items()}
        wanted = list(subscription or channels or ())
        check_private_channels(settings, wanted)
        check_symbols(symbols, channels, subscription)
        super().__init__(
            settings,
            config=feed_config,
            symbols=symbols or None,
            channels=channels or None,
            subscription=subscription,
            callbacks=checked_callbacks(callbacks, WEBSOCKET_CHANNELS, wanted),
            candle_interval=candle_interval,
            timeout=timeout,
            # A first failure has cryptofeed start over, and the connection itself counts and waits from then on.
            retries=-1 if retries < 0 else 1,
            http_proxy=http_proxy,
            **options,
        )
        socket_options = dict(WEBSOCKET_OPTIONS)
        if self._addresses.ws.encrypted:
            socket_options["ssl"] = self._addresses.ssl_context
        # cryptofeed's connection takes no other scheme. Ours puts it right.
        encrypted_url = "wss" + self.ws_url.removeprefix("wss").removeprefix("ws")
        self.websocket_endpoints = (WebsocketEndpoint(encrypted_url, options=socket_options),)
        for channel in WEBSOCKET_CHANNELS:
            self.callbacks.setdefault(channel, [])
        self._attempts = retries
        self._connection = replace(self._connection, silence_us=silence_us, ping_timeout_us=ping_timeout_us)
        signer = settings.signer() if settings.enable_private_channels else None
        self._session = Session(
            Random(),  # noqa: S311 - jitter
            signer=signer,
            measure_clock=signer is not None,
            dials=False,
            silence_us=self._connection.silence_us,
            ping_timeout_us=self._connection.ping_timeout_us,
            pause_ceiling_us=self._connection.pause_ceiling_us,
        )
        self._callbacks = Callbacks(lambda channel: self.callbacks[channel], self.exceptions or ())
        self._deliveries = Deliveries(
            callback=self._callbacks.call,
            hand_book=self._hand_checked_book if self.cross_check else partial(self._callbacks.call, L2_BOOK),
            symbol_of=self._symbol_of,
            book_of=self._session.book,
            max_depth=self.max_depth,
            candle_closed_only=self.candle_closed_only,
            take_up=lambda symbol: self._take_up(self._session.market(symbol)),
            account=feed_config[SECTION].get("account_name"),
        )
        self._backends = BackendWatch(self.callbacks)
        self._watch = FeedWatch(self.health)
        self._driver = SessionDriver(self._session, self._deliveries.deliver, self.rest_url, lambda: self.http_conn)
        self._wanted: dict[str, list[str]] | None = None

    def _symbol_of(self, symbol: str) -> str:
        """The normalised name. Of a market that was listed after the markets were loaded, the exchange's id."""
        name: str = self.exchange_symbol_mapping.get(symbol, symbol)
        return name

    @classmethod
    def is_authenticated_channel(cls, channel: str) -> bool:  # noqa: ARG003 - cryptofeed's signature
        """No: cryptofeed would ask for keys of its own configuration. This feed asks for its own."""
        return False

    @classmethod
    def timestamp_normalize(cls, ts: float) -> float:
        """Microseconds since the epoch, as the exchange has them, in seconds."""
        return ts / 1e6

    def connect(self) -> list[tuple[Any, ...]]:
        """Give cryptofeed's connections, each in a shape that waits, ends and reports as this feed needs it."""
        found = []
        for conn, *rest in super().connect():
            if not conn.subscription:
                continue
            own = WebsocketConnection(
                conn.address,
                self.id,
                self._driver,
                self._addresses,
                attempts=self._attempts,
                subscription=conn.subscription,
                **conn.ws_kwargs,
            )
            found.append((own, *rest))
        return found

    async def subscribe(self, connection: Any) -> None:
        """Request all wanted streams, those of an earlier connection again."""
        join_cryptofeed_log()
        if self._wanted is None:
            self._wanted = {channel: list(symbols) for channel, symbols in connection.subscription.items()}
            await self._want(self._wanted)
        for name, symbols in self._wanted.items():
            channel = self.exchange_channel_to_std(name)
            if symbols or channel in PRIVATE_CHANNELS:
                names = ", ".join(self._symbol_of(symbol) for symbol in symbols) or "all symbols"
                LOG.info("BACKPACK: subscribing to %s of %s", channel, names)
        live = isinstance(connection, WebsocketConnection)
        if live:
            self._watch.start()
        await self._driver.connected(connection, connection if live else None)

    def _is_spot(self, symbol: str) -> bool:
        return bool(self._instrument_types.get(self._symbol_of(symbol)) == SPOT)

    async def _want(self, subscription: dict[str, list[str]]) -> None:
        channels: dict[str, frozenset[str] | None] = {}
        for channel, name in WEBSOCKET_CHANNELS.items():
            if name in subscription:
                symbols = frozenset(subscription[name])
                channels[channel] = symbols or None if channel in PRIVATE_CHANNELS else symbols
        interval = self.candle_interval_map[self.candle_interval]
        self._deliveries.want(channels)
        if candles := channels.get(CANDLES):
            self._deliveries.candles.want(interval, sorted(candles))
        for name in sorted(PERPETUAL_STREAMS.intersection(subscription)):
            spot = [symbol for symbol in subscription[name] if self._is_spot(symbol)]
            if spot:
                names = ", ".join(map(self._symbol_of, spot))
                LOG.warning("BACKPACK: no %s of %s, spot markets have none", self.exchange_channel_to_std(name), names)
                subscription[name] = [symbol for symbol in subscription[name] if symbol not in spot]
        await self._driver.give(market_data(subscription, interval))
        if PRIVATE_CHANNELS.intersection(channels):
            await self._driver.give(FollowAccount())

    async def message_handler(
        self,
        msg: str | bytes | Sequence[TextReceived],
        conn: Any,  # noqa: ARG002 - cryptofeed's signature
        timestamp: float | str,
    ) -> None:
        """Take one frame, or all of a read. Frames that cannot be used are counted and logged, and do not raise."""
        if isinstance(msg, str | bytes):
            msg = (TextReceived(msg.encode() if isinstance(msg, str) else msg),)
        await self._driver.frames(msg, float(timestamp))

    async def _hand_checked_book(self, book: BookMirror, receipt: float) -> None:
        """Hand on a book when cryptofeed's check for crossed ones is asked for. It was compared with the exchange's own word anyway."""
        await self.book_callback(
            L2_BOOK,
            book,
            receipt,
            timestamp=book.timestamp,
            raw=book.raw,
            sequence_number=book.sequence_number,
            checksum=book.checksum,
            delta=book.delta,
        )

    async def callback(self, data_type: str, obj: Any, receipt_timestamp: float) -> None:
        """Hand on an object to each callback of a channel. One that raises is named, and does not affect the others."""
        await self._callbacks.call(data_type, obj, receipt_timestamp)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, as cryptofeed 2 asks. It does not report a backend that ends."""
        super().start(loop)
        self._backends.report_ends()

    def stop(self) -> None:
        """Stop, as cryptofeed 2 asks: it drops later reads, and a recording must not hold them either."""
        super().stop()
        for handler in self.connection_handlers:
            handler.conn.stop_recording()

    async def shutdown(self) -> Any:
        """Stop: no callback is called any more, and the backends' last rows are written."""
        self._watch.stop()
        for handler in self.connection_handlers:
            handler.running = False
        await self._driver.aclose()
        await flush_backends(self.callbacks.values())
        return await super().shutdown()

    def metrics_snapshot(self) -> dict[str, Any]:
        """All counters. Timestamps are seconds since the epoch, None for events that have not happened.

        `latency_*` is the time from the matching engine to receipt, `delivery_*` that from receipt to the end of the callbacks, in seconds.
        """
        counters = self._session.metrics(system_now())
        if self._driver.plays:
            # The clock of a recording does not show how late its frames were.
            counters = replace(counters, engine_to_receipt_p50_us=None, engine_to_receipt_p99_us=None)
        else:
            latency = self._driver.latency
            p50_us, p99_us = latency.percentile(0.5), latency.percentile(0.99)
            counters = replace(counters, receipt_to_delivery_p50_us=p50_us, receipt_to_delivery_p99_us=p99_us)
        found = metrics_of(counters, self._deliveries.tallies, time.time(), self._symbol_of)
        return found | {"callback_errors": self._callbacks.errors}

    def health(self, *, max_snapshot_age: float | None = None) -> BackpackHealthReport:
        """Return whether all is well now, and if not, why.

        Books are compared with a snapshot every minute. `max_snapshot_age`, in seconds, makes a longer silence of that a reason.
        """
        reasons = [*self._callbacks.reasons(), *self._deliveries.candles.reasons(), *self._backends.reasons()]
        if (error := getattr(self, "_backend_error", None)) is not None:
            reasons.append(f"a backend has failed for good, with which cryptofeed ends the feed: {described(error)}")
        health = self._session.health(system_now())
        return report_of(health, reasons, self._notes, self.metrics_snapshot(), max_snapshot_age)

    def _observe(self) -> Observation:
        """Return all counters and measures of this moment."""
        driver, tallies = self._driver, self._deliveries.tallies
        observed = self._session.observe(system_now())
        before, behind = driver.events.receipt_to_event.durations, driver.events.event_to_consumer.durations
        if driver.plays:
            # As in `metrics_snapshot`.
            before = behind = Buckets().durations
            observed = replace(observed, engine_to_receipt=before)
        report = self.health()
        health = Health(status=Status(report.status), reasons=tuple(report.reasons), notes=tuple(report.notes))
        return Observation(
            running=driver.begun and not driver.closed,
            session=replace(observed, health=health),
            delivery=replace(NOTHING_WAITS, waiting=len(driver.events)),
            receipt_to_event=before,
            event_to_consumer=behind,
            feed={
                "callback_errors": self._callbacks.errors,
                "candles_filled": tallies.candles_filled,
                "candle_gaps": tallies.candle_gaps,
            },
        )

    def _loop_thread(self) -> LoopThread | None:
        return self._driver.loop

    def criteria(self) -> Sequence[Criterion]:
        """Return the success criteria of the runbook with the figures of this run. Once a minute the log has them as well."""
        return self._watch.criteria()
