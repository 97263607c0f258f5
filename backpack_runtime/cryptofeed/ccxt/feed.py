"""Backpack Exchange as ccxt sees it, as a feed of cryptofeed: the one that `BackpackFeed` replaces, and can be compared with.

It has the limits of ccxt:

* Books are delivered whole, at most every `snapshot_interval` seconds. There are no deltas. ccxt applies changes without looking for
  gaps between them, so a book may be wrong for as long as the connection lives. `sequence_number` is ccxt's nonce.
* ccxt computes with binary floats. They are converted by their shortest decimal text, so `0.1` is `0.1`, but the digits that a
  float cannot hold are gone, and so are trailing zeros.
* Times are whole milliseconds. A candle has no time, and no number of trades. It counts as closed once the next one has begun, for
  ccxt does not report it. The last one before a lost connection is never delivered as closed. There are no candles of a second or a month.
* Events without a connection are lost, except for the state of the book.
* Cryptofeed cannot record it, for the sockets are ccxt's own. `retries` and the delays between attempts are cryptofeed's.
* With `rest_only` every channel of every market is asked for every `snapshot_interval` seconds: of trades the latest 500, and the
  first answer only says where to begin. Candles come from a cache of the exchange and may be minutes old (docs/protocol.md 1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import CANDLES, L2_BOOK, TICKER, TRADES
from cryptofeed.feed import Feed
from cryptofeed.types import Candle, OrderBook, Ticker, Trade

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.streams.channels import Channel
from backpack_runtime.cryptofeed.arguments import check_keywords, check_symbols, check_texts, checked_callbacks
from backpack_runtime.cryptofeed.config.model import BackpackConfig
from backpack_runtime.cryptofeed.config.sources import in_sandbox, read_config
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.cryptofeed.markets.loading import MarketLoading
from backpack_runtime.cryptofeed.shutdown import flush_backends
from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.addresses import WS_URL
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.network.proxy_settings import Proxies, log_proxy_use

from .connection import CcxtConnection, CcxtMessage
from .sources import INTERVALS, BookTaken, CandleSeen, QuoteTaken, Wish

__all__ = ["CcxtBackpackFeed"]


class CcxtBackpackFeed(MarketLoading):
    """Market data of Backpack Exchange by ccxt: `trades`, `l2_book`, `ticker` and `candles`. The module lists its limits."""

    websocket_endpoints: Sequence[Any] = (WebsocketEndpoint(WS_URL),)
    websocket_channels: ClassVar[dict[str, str]] = {
        TRADES: Channel.TRADE.value,
        L2_BOOK: Channel.DEPTH.value,
        TICKER: Channel.BOOK_TICKER.value,
        CANDLES: Channel.KLINE.value,
    }
    request_limit = 10
    valid_candle_intervals: ClassVar[set[str]] = set(INTERVALS)
    book_delivery = "snapshot"

    def __init__(
        self,
        config: BackpackConfig | Mapping[str, Any] | str | Any = None,
        *,
        snapshot_interval: float = 1.0,
        rest_only: bool = False,
        stall_seconds: float = 60.0,
        candle_interval: str = "1m",
        callbacks: Mapping[str, Any] | None = None,
        timeout: float = -1,
        sandbox: bool | None = None,
        **options: Any,
    ) -> None:
        """Take cryptofeed's own arguments, and its configuration or a `BackpackConfig`, of which credentials are not used.

        Args:
            config: a `BackpackConfig`, a mapping of its fields, or any configuration of cryptofeed.
            snapshot_interval: seconds between two deliveries of a book. With `rest_only` between two requests of any kind.
            rest_only: ask by REST, in the place of ccxt's websockets.
            stall_seconds: after so long a silence of ccxt, of all markets together, it is closed and made again.
            candle_interval: of `candles`, `1m` to `1w`.
            callbacks: coroutine functions by channel.
            timeout: seconds without a message before cryptofeed reconnects. -1: never, for this feed watches by itself.
            sandbox: True: as `use_sandbox` of the configuration, a simulated exchange.
            options: cryptofeed's other arguments, such as `symbols` and `channels`. Arguments that this version of it does not have either are refused.

        Raises:
            MissingExtra: ccxt is not installed.
            ConfigurationError: (a `ValueError`) an argument is unknown or impossible.
            BackpackRestError: cryptofeed 2 loads the markets here, and they could not be had.
        """
        check_keywords(type(self), options | {"timeout": timeout})
        subscribed = [options.get(name) for name in ("symbols", "channels", "subscription")]
        check_texts(*subscribed)
        check_symbols(*subscribed)
        if snapshot_interval < 0 or stall_seconds <= 0:
            given = f"got {shown(snapshot_interval)} and {shown(stall_seconds)}"
            raise ConfigurationError(f"snapshot_interval, stall_seconds: at least 0, and above 0, {given}")
        settings, feed_config = read_config(config)
        settings = in_sandbox(settings, sandbox)
        if settings.enable_private_channels:
            LOG.warning("BACKPACK: the feed by ccxt has no private channels, the keys of config are not used")
        self._ccxt_class = _ccxt_class(rest_only=rest_only)
        self.snapshot_interval = snapshot_interval
        self.rest_only = rest_only
        self.stall_seconds = stall_seconds
        wanted = options.get("subscription") or options.get("channels") or ()
        super().__init__(
            settings,
            config=feed_config,
            candle_interval=candle_interval,
            callbacks=checked_callbacks(callbacks, self.websocket_channels, wanted),
            timeout=timeout,
            **options,
        )
        self._ccxt_proxies = _ccxt_proxies(self._addresses.proxies)
        self.websocket_endpoints = (WebsocketEndpoint(self.ws_url),)
        self._candles: dict[str, CandleSeen] = {}

    def connect(self) -> list[tuple[Any, ...]]:
        """One connection for everything that is subscribed, in the shape that this version of cryptofeed wants."""
        subscription = {channel: sorted(ids) for channel, ids in sorted(self.subscription.items()) if ids}
        if not subscription:
            return []
        connection = CcxtConnection(
            self.id,
            self._make_exchange,
            subscription,
            Wish("", self.snapshot_interval, self.candle_interval, self.max_depth),
            rest_only=self.rest_only,
            timeout_seconds=self.stall_seconds + self.snapshot_interval,
        )
        entry = (connection, self.subscribe, self.message_handler)
        return [(*entry, self.authenticate) if hasattr(Feed, "authenticate") else entry]

    def _make_exchange(self) -> Any:
        options: dict[str, Any] = {"newUpdates": True, **self._ccxt_proxies}
        if self._connection.ca_file is not None:
            options["cafile"] = str(self._connection.ca_file)
        proxies = self._addresses.proxies
        for kind, proxy in (("http", proxies.rest), ("websocket", None if self.rest_only else proxies.websocket)):
            if proxy is not None:
                log_proxy_use(kind, proxy)
        exchange = self._ccxt_class(options)
        exchange.urls["api"] = {
            "public": self.rest_url,
            "private": self.rest_url,
            "ws": {"public": self.ws_url, "private": self.ws_url},
        }
        return exchange

    async def subscribe(self, connection: CcxtConnection) -> None:  # noqa: ARG002 - cryptofeed's signature
        """Begin again: ccxt's sources are running by now, and a candle that was open before may have gone on unseen."""
        self._candles.clear()

    async def message_handler(self, msg: CcxtMessage, conn: CcxtConnection, timestamp: float) -> None:  # noqa: ARG002 - as above
        """Convert answers of ccxt, and call the callbacks."""
        symbol = self.exchange_symbol_to_std_symbol(msg.market_id)
        for news in msg.news:
            match news:
                case BookTaken():
                    await self._book(news, symbol, timestamp)
                case QuoteTaken():
                    await self._quote(news, symbol, timestamp)
                case CandleSeen():
                    await self._candle(news, symbol, timestamp)
                case _:
                    await self._trade(news, symbol, timestamp)

    async def _trade(self, told: Mapping[str, Any], symbol: str, receipt: float) -> None:
        trade = Trade(
            self.id,
            symbol,
            told["side"],
            _decimal(told["amount"]),
            _decimal(told["price"]),
            told["timestamp"] / 1e3,
            id=told["id"],
            raw=told["info"],
        )
        await self.callback(TRADES, trade, receipt)

    async def _book(self, taken: BookTaken, symbol: str, receipt: float) -> None:
        book = OrderBook(self.id, symbol, bids=_levels(taken.bids), asks=_levels(taken.asks), max_depth=self.max_depth)
        await self.book_callback(L2_BOOK, book, receipt, timestamp=_seconds(taken.unix_ms), sequence_number=taken.nonce)

    async def _quote(self, taken: QuoteTaken, symbol: str, receipt: float) -> None:
        if taken.bid is None or taken.ask is None:
            return
        ticker = Ticker(self.id, symbol, _decimal(taken.bid), _decimal(taken.ask), _seconds(taken.unix_ms), raw=taken.raw)
        await self.callback(TICKER, ticker, receipt)

    async def _candle(self, seen: CandleSeen, symbol: str, receipt: float) -> None:
        before = self._candles.get(symbol)
        if before is not None and seen.start_ms < before.start_ms:
            return
        self._candles[symbol] = seen
        if before is not None and before.start_ms < seen.start_ms:
            await self._deliver_candle(before, symbol, receipt, closed=True)
        if not self.candle_closed_only and seen != before:
            await self._deliver_candle(seen, symbol, receipt, closed=False)

    async def _deliver_candle(self, seen: CandleSeen, symbol: str, receipt: float, *, closed: bool) -> None:
        opened, high, low, close = (None if price is None else _decimal(price) for price in seen.prices)
        if opened is None or high is None or low is None or close is None:
            return
        candle = Candle(
            self.id,
            symbol,
            seen.start_ms / 1e3,
            (seen.start_ms + INTERVALS[self.candle_interval]) / 1e3,
            self.candle_interval,
            None,
            opened,
            close,
            high,
            low,
            _decimal(seen.volume or 0),
            closed,
            None,
        )
        await self.callback(CANDLES, candle, receipt)

    async def shutdown(self) -> Any:
        """Stop: ccxt's sockets are closed, and the backends' last rows are written."""
        for handler in self.connection_handlers:
            await handler.conn.close()
        await flush_backends(self.callbacks.values())
        return await super().shutdown()


def _ccxt_class(*, rest_only: bool) -> Callable[[dict[str, Any]], Any]:
    """Ccxt's class of this exchange. Importing it takes a second."""
    try:
        if rest_only:
            from ccxt.async_support import backpack  # noqa: PLC0415 - ccxt is imported only by those who use it
        else:
            from ccxt.pro import backpack  # noqa: PLC0415 - as above
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] != "ccxt":
            raise
        raise MissingExtra("CcxtBackpackFeed", "ccxt", missing) from missing
    chosen: Callable[[dict[str, Any]], Any] = backpack
    return chosen


def _ccxt_proxies(proxies: Proxies) -> dict[str, str]:
    """Proxies under ccxt's names."""
    found: dict[str, str] = {}
    for proxy, encrypted, socks in (
        (proxies.rest, "httpsProxy", "socksProxy"),
        (proxies.websocket, "wssProxy", "wsSocksProxy"),
    ):
        if proxy is not None:
            found[socks if proxy.scheme.startswith("socks") else encrypted] = _url(proxy)
    return found


def _url(proxy: Proxy) -> str:
    """The URL that ccxt wants, credentials included."""
    scheme = "socks5h" if proxy.scheme == "socks5" and proxy.remote_dns else proxy.scheme
    parts = [quote(text, safe="") for text in (proxy.username, proxy.password) if text is not None]
    return f"{scheme}://{':'.join(parts)}{'@' if parts else ''}{proxy.authority}"


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))


def _levels(side: Iterable[Iterable[float]]) -> dict[Decimal, Decimal]:
    return {_decimal(price): _decimal(quantity) for price, quantity in side}


def _seconds(unix_ms: float | None) -> float | None:
    return None if unix_ms is None else unix_ms / 1e3
