"""The server as an application of aiohttp: its paths, and the tasks beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from backpack_proto.errors import ConfigurationError, InvalidStream, UnknownSymbol
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import parse_channel
from backpack_runtime.checks import checked_count, checked_names
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.addresses import REST_URL
from backpack_runtime.prometheus import BackpackCollector

from .access import LOOPBACK_NAMES, Access, checked_token, prepare_headers
from .choice import Choice, kinds_of
from .snapshots import MOST_LADDER_LEVELS, Snapshots
from .streams import Readers
from .watch import Watch

__all__ = ["make_app"]

READERS: Final = 32
LEVELS: Final = 20
MOST_LEVELS: Final = 5_000
_PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def make_app(
    client: BackpackClient,
    *,
    symbols: Iterable[str] | None = None,
    channels: Iterable[str] | None = None,
    token: str | None = None,
    hosts: Iterable[str] | None = LOOPBACK_NAMES,
    readers: int = READERS,
) -> web.Application:
    """Return an application of aiohttp that shows the knowledge of a client, for reading only.

        async with BackpackClient(["SOL_USDC"]) as client:
            runner = web.AppRunner(make_app(client))
            ...

    It is used on the loop of asyncio that the client runs on, inside the client's block. `serve_dashboard` also listens.

    Args:
        client: has been entered, and is not closed here.
        symbols: the markets that are shown, whose books the client has subscribed. Every market with a book unless given.
        channels: the channels that the client has subscribed, for an error about any other one. All are taken unless given.
        token: the secret that a reader has to show. None lets every reader in that reaches the server.
        hosts: the names that a Host header may say, those of loopback unless given. None is any name, and needs a token.
        readers: how many streams may be read at once.

    Raises:
        ConfigurationError: an argument cannot be used.
        ClientClosed: the client is not inside its block.
        UnknownSymbol: the exchange has no such market.
        LocalProtocolError: the book of a symbol is not subscribed.
        InvalidStream: there is no such channel.
    """
    named = None if symbols is None else checked_names("symbols", symbols)
    ids = None if named is None else tuple(dict.fromkeys(client.book(symbol).symbol for symbol in named))
    if hosts is None and token is None:
        raise ConfigurationError("hosts: any Host header is allowed only with a token, so give token=...")
    subscribed = None
    if channels is not None:
        subscribed = frozenset(parse_channel(name).channel for name in checked_names("channels", channels))
    access = Access(token=None if token is None else checked_token(token), hosts=hosts)
    app = web.Application(middlewares=[access.middleware])
    server = _Server(client, ids, subscribed, checked_count("readers", readers))
    for path in _PAGE:
        app.router.add_get(path, server.page)
    for path, handler in (
        ("/health", server.health),
        ("/ready", server.ready),
        ("/metrics", server.metrics),
        ("/events", server.events),
        ("/state", server.state),
        ("/books", server.books),
        ("/books/{symbol}", server.book),
    ):
        app.router.add_get(path, handler)
    app.on_response_prepare.append(prepare_headers)
    app.on_shutdown.append(server.close)
    app.cleanup_ctx.append(server.running)
    return app


class _Server:
    """The handlers of all paths."""

    def __init__(
        self, client: BackpackClient, ids: tuple[str, ...] | None, subscribed: frozenset[Channel] | None, readers: int
    ) -> None:
        self._client = client
        self._subscribed = subscribed
        self._watch = Watch(client, ids)
        self._snapshots = Snapshots(client, self._watch, _exchange(client))
        self._readers = Readers(readers)
        self._registry = CollectorRegistry()
        self._registry.register(BackpackCollector(client, symbols=ids or False))
        folder = files(__package__) / "page"
        self._page = {path: (folder / name).read_bytes() for path, (name, _) in _PAGE.items()}

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Follow the client while the application runs."""
        tasks = [asyncio.create_task(self._watch.follow()), asyncio.create_task(self._watch.sample())]
        for task in tasks:
            task.add_done_callback(self._watch_ended)
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        """Have health say so where the client is not followed any more by a fault of ours. The error itself comes out at the end."""
        if not task.cancelled() and task.exception() is not None:
            self._watch.failure = f"the events of the client are not followed any more: {task.exception()!r}"

    async def close(self, _: web.Application) -> None:
        """End all streams, so that the application can end."""
        self._readers.close()

    async def page(self, request: web.Request) -> web.Response:
        """Return a file of the page."""
        return web.Response(body=self._page[request.path], content_type=_PAGE[request.path][1], charset="utf-8")

    async def health(self, _: web.Request) -> web.Response:
        """Say whether all is well, and if not, why."""
        health = self._snapshots.health()
        well = health["status"] == "healthy"
        return web.json_response(health, status=HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)

    async def ready(self, _: web.Request) -> web.Response:
        """Say whether the first data have come."""
        books, is_ready = self._client.metrics.books, self._watch.ready
        found = {"ready": is_ready, "books": {"wanted": books.wanted, "live": books.live, "closed": books.closed}}
        return web.json_response(found, status=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, request: web.Request) -> web.Response:
        """Return all metrics in the text form that Prometheus asks for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send events as they come."""
        try:
            kinds = kinds_of(_values(request, "channel"), self._subscribed)
            symbols = frozenset(self._client.markets[symbol].symbol for symbol in _values(request, "symbol"))
        except UnknownSymbol as unknown:
            raise web.HTTPNotFound(text=f"symbol: {unknown}") from None
        except InvalidStream as invalid:
            raise web.HTTPBadRequest(text=str(invalid)) from None
        return await self._readers.events(request, self._client, Choice(kinds, symbols))

    async def state(self, request: web.Request) -> web.StreamResponse:
        """Send the pictures that the page draws."""
        symbol = request.query.get("symbol") or next(iter(self._watch.panels), "")
        levels = _levels(request, MOST_LADDER_LEVELS)
        # Without any market the page shows the rest.
        return await self._readers.pictures(request, self._snapshots, symbol and self._find(symbol), levels)

    async def books(self, _: web.Request) -> web.Response:
        """Return the state of every book."""
        return web.json_response(self._snapshots.books())

    async def book(self, request: web.Request) -> web.Response:
        """Return one book."""
        symbol = self._find(request.match_info["symbol"])
        return web.json_response(self._snapshots.book(symbol, _levels(request, MOST_LEVELS)))

    def _find(self, symbol: str) -> str:
        try:
            return self._snapshots.find(symbol)
        except UnknownSymbol as unknown:
            raise web.HTTPNotFound(text=str(unknown)) from None


def _exchange(client: BackpackClient) -> str:
    """Return which exchange a client speaks with, in words."""
    if client._addresses is None:  # noqa: SLF001 - its settings are those of the real exchange all the same
        return "sandbox: simulated markets, nothing here is real"
    url = client.settings.rest_url
    return "Backpack Exchange" if url == REST_URL else url


def _values(request: web.Request, name: str) -> list[str]:
    """Return the values of a parameter that may come several times, or once with commas."""
    return [part for value in request.query.getall(name, []) for part in value.split(",") if part]


def _levels(request: web.Request, most: int) -> int:
    text = request.query.get("levels", str(LEVELS))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise web.HTTPBadRequest(text=f"levels: a whole number from 1 to {most}, got {text[:20]!r}")
    return int(text)
