"""How a feed comes by its markets: cryptofeed asks the class for them, which knows no addresses but the exchange's own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
from cryptofeed.connection import Connection, RestEndpoint, Routes
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols

from backpack_runtime.cryptofeed.config.model import BackpackConfig
from backpack_runtime.cryptofeed.local_sandbox import local_sandbox
from backpack_runtime.cryptofeed.native.connection import HttpConnection
from backpack_runtime.cryptofeed.native.conversion import EXCHANGE
from backpack_runtime.network.addresses import REST_URL, Addresses
from backpack_runtime.network.proxy_settings import Proxies, resolve_proxies

from .symbols import MARKETS_PATH, fetch_markets, symbols_of

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
            BackpackRestError: the markets could not be had.
        """
        self.settings = settings
        self._addresses, self._ca_file = _find_addresses(settings)
        rest, ws = self._addresses.rest, self._addresses.ws
        self.rest_url = f"http{'s' if rest.encrypted else ''}://{rest.authority}{rest.target}"
        self.ws_url = f"ws{'s' if ws.encrypted else ''}://{ws.authority}{ws.target}"
        self.rest_endpoints = (RestEndpoint(self.rest_url, routes=Routes(instruments=MARKETS_PATH)),)
        self._instrument_types: Mapping[str, str] = {}
        with self._loads():
            super().__init__(http_proxy=http_proxy, **options)
        self.http_conn = HttpConnection(self.id, self._addresses, http_proxy)

    @contextmanager
    def _loads(self) -> Iterator[None]:
        """Have what cryptofeed knows of the markets be of this feed's exchange, inside the block and for this feed behind it."""
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

    async def _setup(self) -> None:
        """Load the markets: cryptofeed 3 does so when it runs the feed."""
        with self._loads():
            await super()._setup()

    @classmethod
    def _symbol_endpoint_prepare(cls, ep: Any, conn: Any = None) -> Any:
        """Where the markets are. cryptofeed 3 hands over a connection and awaits the answer, cryptofeed 2 does neither."""
        feed = _loading.get()
        address = (ep if feed is None else feed.rest_endpoints[0]).route("instruments")

        async def later() -> Any:
            return address

        return address if conn is None else later()

    @classmethod
    def symbol_mapping(cls, refresh: bool = False, **options: Any) -> dict[str, str]:  # noqa: FBT001, FBT002 - cryptofeed's signature
        """Ids of the exchange by normalised name; fetched, which blocks, when they are not known yet.

        Raises:
            BackpackRestError: they could not be had.
        """
        feed = _loading.get()
        if feed is not None and feed._reaches_by_itself and not Symbols.populated(cls.id):  # noqa: SLF001 - one class
            text = fetch_markets(feed._addresses)  # noqa: SLF001 - one class
            record = getattr(Connection.raw_data_callback, "sync_callback", None)
            if record is not None:
                record(text, time.time(), cls.id, endpoint=feed.rest_endpoints[0].route("instruments"))
            Symbols.set(cls.id, *cls._parse_symbol_data(msgspec.json.decode(text)))
        mapping: dict[str, str] = super().symbol_mapping(refresh=refresh and feed is None, **options)
        return mapping

    @staticmethod
    def _symbol_cache_path(exchange_id: str) -> str:
        """Where cryptofeed 3 keeps the markets: those of a sandbox by another name than those of the exchange."""
        feed = _loading.get()
        if feed is not None and feed.settings.use_sandbox:
            exchange_id = f"{exchange_id}@{feed._addresses.rest.authority}"  # noqa: SLF001 - one class
        return str(Feed._symbol_cache_path(exchange_id))  # noqa: SLF001 - a hook of cryptofeed's

    @property
    def _reaches_by_itself(self) -> bool:
        """Whether there is a proxy or an authority on the way that cryptofeed 2 would know nothing of; its own way can be played back."""
        settings = self.settings
        return settings.ca_file is not None or settings.rest_url is None or self._addresses.proxies.rest is not None

    @classmethod
    def _parse_symbol_data(cls, data: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return symbols_of(data)


def _find_addresses(settings: BackpackConfig) -> tuple[Addresses, Path | None]:
    """Where the exchange is, and the authority that is trusted instead of the system's."""
    rest_url, ws_url, ca_file = settings.rest_url, settings.ws_url, settings.ca_file
    proxies = resolve_proxies(settings.proxies)
    if rest_url is None or ws_url is None:
        sandbox = local_sandbox()
        rest_url, ws_url, ca_file = sandbox.rest_url, sandbox.ws_url, sandbox.ca_file
        # It is on this machine, so what holds for the process does not apply to it.
        proxies = Proxies.of(settings.proxies)
    return Addresses(rest_url, ws_url, ca_file=ca_file, proxies=proxies), ca_file
