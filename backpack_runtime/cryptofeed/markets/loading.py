"""Loading of the markets of a feed: cryptofeed asks the class for them, which knows no addresses but the exchange's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
import msgspec
from cryptofeed.connection import Connection, RestEndpoint, Routes
from cryptofeed.exceptions import UnsupportedSymbol
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols
from msgspec.structs import replace

from backpack_proto.errors import BackpackError
from backpack_proto.hints import did_you_mean, shown
from backpack_proto.rest.markets import Market
from backpack_runtime.cryptofeed.channels import OTHER_CHANNELS
from backpack_runtime.cryptofeed.config.model import BackpackConfig
from backpack_runtime.cryptofeed.errors import UnknownFeedChannel, UnknownFeedSymbol, described
from backpack_runtime.cryptofeed.local_sandbox import local_sandbox
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.cryptofeed.native.connection import HttpConnection
from backpack_runtime.cryptofeed.native.conversion import EXCHANGE
from backpack_runtime.cryptofeed.shutdown import end_tasks
from backpack_runtime.network.addresses import REST_URL, Addresses
from backpack_runtime.network.proxy import InvalidProxy, Proxy
from backpack_runtime.network.proxy_settings import ENVIRONMENT_PREFIX, Proxies, disabled_proxies, resolve_proxies
from backpack_runtime.settings import Settings

from .symbols import MARKETS_PATH, fetch_markets, put_rules, symbols_of

__all__ = ["MarketLoading"]

_loading: ContextVar[MarketLoading | None] = ContextVar("_loading", default=None)
"""The feed for which the markets are being loaded."""
_origin: list[str] = []
"""Address of the exchange whose markets cryptofeed's registry holds, which files them by the name of the exchange alone."""


class MarketLoading(Feed):
    """A feed of the exchange that its settings name, sandboxes included.

    cryptofeed 2 loads the markets in the constructor, cryptofeed 3 when it runs the feed.
    """

    id = EXCHANGE
    rest_endpoints: Sequence[Any] = (RestEndpoint(REST_URL, routes=Routes(instruments=MARKETS_PATH)),)

    def __init__(self, settings: BackpackConfig, *, http_proxy: str | None = None, **options: Any) -> None:
        """Take the settings, and cryptofeed's own arguments.

        Raises:
            InvalidProxy: a proxy is impossible.
            BackpackRestError: the markets could not be had.
        """
        self.settings = settings
        self._connection, self._addresses, self._notes = _connection_of(settings, http_proxy)
        rest, ws = self._addresses.rest, self._addresses.ws
        self.rest_url = f"http{'s' if rest.encrypted else ''}://{rest.authority}{rest.target}"
        self.ws_url = f"ws{'s' if ws.encrypted else ''}://{ws.authority}{ws.target}"
        self.rest_endpoints = (RestEndpoint(self.rest_url, routes=Routes(instruments=MARKETS_PATH)),)
        self._instrument_types: Mapping[str, str] = {}
        self._reloads = False
        """True when the markets are loaded once more, past the cache of the exchange's network."""
        self._sets_up = False
        self._started: set[asyncio.Task[Any]] = set()
        """The sandbox that cryptofeed 2 has started."""
        with self._loads():
            super().__init__(http_proxy=http_proxy, sandbox=settings.use_sandbox, **options)
        self.http_conn = HttpConnection(self.id, self._addresses)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, as cryptofeed 2 asks."""
        before = asyncio.all_tasks(loop)
        super().start(loop)
        self._started = asyncio.all_tasks(loop) - before

    async def shutdown(self) -> Any:
        """End the feed, and the sandbox that was started."""
        found = await super().shutdown()
        await end_tasks(self._started, getattr(self, "connection_handlers", ()))
        return found

    @contextmanager
    def _loads(self) -> Iterator[None]:
        """Have cryptofeed's markets be those of this feed's exchange, inside the block and for this feed behind it."""
        if _origin not in ([], [self.rest_url]):
            Symbols.data.pop(self.id, None)
        token = _loading.set(self)
        try:
            yield
        finally:
            _loading.reset(token)
        if Symbols.populated(self.id):
            _origin[:] = [self.rest_url]
            self._instrument_types = Symbols.get(self.id)[1].get("instrument_type", {})

    def _take_up(self, market: Market | None) -> None:
        """Have cryptofeed know the rules of a market as they are now. `info()` of the class has them."""
        name = None if market is None else self.exchange_symbol_mapping.get(market.symbol)
        # Cryptofeed's markets are those of the exchange whose feed was made last, which another feed may have changed.
        if market is not None and name is not None and Symbols.populated(self.id) and _origin == [self.rest_url]:
            put_rules(Symbols.get(self.id)[1], name, market)

    async def _setup(self) -> None:
        """Load the markets: cryptofeed 3 does so when it runs the feed.

        Raises:
            UnknownFeedSymbol: a symbol is not among them, although they were loaded once more.
        """
        self._sets_up = True
        with self._loads():
            try:
                await super()._setup()
            except UnknownFeedSymbol as unknown:
                with self._reloading(unknown):
                    await self.load_symbols(conn=self.http_conn, refresh=True)
                self._build_subscription()

    def _build_subscription(self) -> None:
        """Read the subscription: cryptofeed 3 does so in the constructor as well, when another feed has loaded the markets.

        Raises:
            UnknownFeedSymbol: a symbol is not among them, and there is no later time to find it.
        """
        try:
            super()._build_subscription()
        except UnknownFeedSymbol:
            if self._sets_up:
                raise

    @contextmanager
    def _reloading(self, unknown: UnknownFeedSymbol) -> Iterator[None]:
        """Have the markets loaded again inside the block: they may be as old as this process, or 15 minutes from a cache.

        Raises:
            UnknownFeedSymbol: they could not be had.
        """
        self._reloads = True
        try:
            yield
        except (aiohttp.ClientError, BackpackError, LookupError, OSError, ValueError) as error:
            raise UnknownFeedSymbol(f"{unknown}; a fresh list of markets could not be had: {described(error)}") from error
        self.normalized_symbol_mapping: dict[str, str] = Symbols.get(self.id)[0]
        self.exchange_symbol_mapping = {number: name for name, number in self.normalized_symbol_mapping.items()}

    @classmethod
    def _symbol_endpoint_prepare(cls, ep: Any, conn: Any = None) -> Any:
        """Where the markets are. cryptofeed 3 hands over a connection and awaits the answer, cryptofeed 2 does neither."""
        feed = _loading.get()
        address = (ep if feed is None else feed.rest_endpoints[0]).route("instruments")
        if feed is not None and feed._reloads:  # noqa: SLF001 - one class
            address = f"{address}?{_past_the_cache()}"

        async def later() -> Any:
            return address

        return address if conn is None else later()

    @classmethod
    def symbol_mapping(cls, refresh: bool = False, **options: Any) -> dict[str, str]:  # noqa: FBT001, FBT002 - cryptofeed's signature
        """Ids of the exchange by normalised name. Fetched, which blocks, when they are not known yet.

        Raises:
            BackpackRestError: they could not be had.
        """
        feed = _loading.get()
        refresh = refresh and (feed is None or feed._reloads)  # noqa: SLF001 - one class
        if feed is not None and feed._reaches_by_itself and (refresh or not Symbols.populated(cls.id)):  # noqa: SLF001 - one class
            refresh = False
            text = fetch_markets(feed._addresses, _past_the_cache() if feed._reloads else "")  # noqa: SLF001 - one class
            record = getattr(Connection.raw_data_callback, "sync_callback", None)
            if record is not None:
                record(text, time.time(), cls.id, endpoint=feed.rest_endpoints[0].route("instruments"))
            Symbols.set(cls.id, *cls._parse_symbol_data(msgspec.json.decode(text)))
        mapping: dict[str, str] = super().symbol_mapping(refresh=refresh, **options)
        return mapping

    @staticmethod
    def _symbol_cache_path(exchange_id: str) -> str:
        """Where cryptofeed 3 keeps the markets: those of a sandbox by another name than those of the exchange."""
        feed = _loading.get()
        if feed is not None and feed.settings.use_sandbox:
            rest = feed._addresses.rest  # noqa: SLF001 - one class
            exchange_id = f"{exchange_id}@{rest.authority}{rest.target.replace('/', '_')}"
        return str(Feed._symbol_cache_path(exchange_id))  # noqa: SLF001 - a hook of cryptofeed's

    @property
    def _reaches_by_itself(self) -> bool:
        """True when there is a proxy or an authority on the way that cryptofeed 2 would not know of. Its own way can be played back."""
        settings = self.settings
        return settings.ca_file is not None or settings.rest_url is None or self._addresses.proxies.rest is not None

    @classmethod
    def std_channel_to_exchange(cls, channel: str) -> str:
        """Return the exchange's name of a channel.

        Raises:
            UnknownFeedChannel: there is no such channel. The text offers the closest ones.
        """
        known = cls.websocket_channels
        if channel not in known:
            hint = did_you_mean(channel, known, OTHER_CHANNELS) or f"; there are {', '.join(known)}"
            raise UnknownFeedChannel(f"channels: {shown(channel)} is not a channel of this feed{hint}")
        return str(known[channel])

    def std_symbol_to_exchange_symbol(self, symbol: Any) -> str:
        """Return the exchange's id of a normalised symbol.

        Raises:
            UnknownFeedSymbol: the exchange has no such market. The text offers the closest ones.
        """
        try:
            return str(super().std_symbol_to_exchange_symbol(symbol))
        except UnsupportedSymbol:
            unknown = self._unknown(symbol)
        if self._reloads or _loading.get() is not self or hasattr(Feed, "load_symbols"):
            # cryptofeed 3 loads the markets where it can wait for them.
            raise unknown
        with self._reloading(unknown):
            self.symbol_mapping(refresh=True)
        return self.std_symbol_to_exchange_symbol(symbol)

    def _unknown(self, symbol: Any) -> UnknownFeedSymbol:
        # cryptofeed may be given a symbol of its own type.
        name = str(getattr(symbol, "normalized", symbol))
        known = {**self.normalized_symbol_mapping}
        exact = {number.casefold(): name for name, number in known.items()}
        hint = did_you_mean(name, known, exact)
        return UnknownFeedSymbol(f"symbols: {shown(name)} is not a market of the exchange{hint}")

    @classmethod
    def _parse_symbol_data(cls, data: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return symbols_of(data)


def _past_the_cache() -> str:
    """Return a query that no cache knows: caches keep answers by it (docs/protocol.md 1.2)."""
    return f"fresh={time.time_ns()}"


def _connection_of(config: BackpackConfig, http_proxy: Any) -> tuple[Settings, Addresses, list[str]]:
    """Return how the exchange is reached, with the addresses of a sandbox that had to be started, and the proxies of the process.

    The third is a note about it, which has been logged.

    Raises:
        InvalidProxy: a proxy is impossible.
    """
    settings = config.settings()
    notes: list[str] = []
    if config.rest_url is not None:
        proxies = _with_http_proxy(resolve_proxies(settings.proxies), http_proxy)
        notes = _unused(disabled_proxies(), proxies)
    else:
        sandbox = local_sandbox().settings
        settings = replace(settings, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, ca_file=sandbox.ca_file)
        # It is on this machine, so the proxies of the process do not apply to it.
        proxies = _with_http_proxy(settings.proxies, http_proxy)
    for note in notes:
        LOG.warning("BACKPACK: %s", note)
    return settings, settings.addresses(proxies), notes


def _with_http_proxy(proxies: Proxies, http_proxy: Any) -> Proxies:
    """The proxies with cryptofeed's own one for REST, where there is no other."""
    try:
        if http_proxy is None:
            return proxies
        if proxies.rest is not None:
            LOG.warning("BACKPACK: http_proxy is not used, for the settings have a proxy for http: %s", proxies.rest.endpoint)
            return proxies
        return replace(proxies, rest=_parsed(str(http_proxy)))
    finally:
        # For tools that print the locals of every frame of a traceback.
        del http_proxy


def _parsed(http_proxy: str) -> Proxy:
    problem = ""
    try:
        return Proxy.parse(http_proxy)
    except InvalidProxy as invalid:
        problem = str(invalid)
    finally:
        del http_proxy
    raise InvalidProxy(f"http_proxy: {problem}")


def _unused(disabled: Proxies, used: Proxies) -> list[str]:
    """Return the note about proxies that are set, and not enabled, where no others are used."""
    pairs = {"http": (disabled.rest, used.rest), "websocket": (disabled.websocket, used.websocket)}
    direct = [kind for kind, (unused, taken) in pairs.items() if unused is not None and taken is None]
    if not direct:
        return []
    how = f"set {ENVIRONMENT_PREFIX}ENABLED=true (in a program: ProxySettings(enabled=True, ...))"
    return [f"a proxy is set for {' and '.join(direct)}, but proxies are not enabled, so connections are direct; {how}"]
