"""The features of the library in each runtime: every cell of a client is tried, and the table is written from what came out.

`python tests/support/runtime_matrix.py` tries all cells and prints docs/runtimes-matrix.md. `--write` keeps it there.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import aiohttp
import anyio
from anyio.to_thread import run_sync

from backpack_proto.account.values import AccountSynced
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, ConfigurationError, LocalProtocolError
from backpack_proto.exchange import Exchange, FrameReceived, RequestReceived, Respond, SendFrame, SocketClosed, SocketOpened
from backpack_proto.inputs import Connected, Fact, ResponseReceived, TextReceived, TimerFired
from backpack_proto.outputs import Action, BookChanged, CloseSocket, DropSocket, OpenSocket, SendRequest, SendText
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.payloads import Event, OrderAccepted, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.orders.leaving import Leftovers
from backpack_runtime.recording.reader import open_recording
from backpack_runtime.recording.recorder import Recorder
from backpack_runtime.recovery import Recovered
from backpack_runtime.settings import Settings
from backpack_runtime.sync_client import BackpackSync
from backpack_runtime.transport import system_now
from backpack_runtime.transports.mock import MockTransport, oblige
from proxy_matrix import CELLS, Remote, serve_elsewhere
from tls_servers import serve_old_tls
from transports import PATIENCE_SECONDS, SOCKETS, Runtime, facts_until, request, to_server, upgrade

__all__ = ["COLUMNS", "DOCUMENT", "FEED", "ROWS", "Place", "Row", "document", "tried"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "runtimes-matrix.md"
SYMBOL = "SOL_USDC"
SOCKET_COLUMNS: Final = tuple(SOCKETS)
MOCK_COLUMN: Final = "mock"
FEED: Final = "cryptofeed"
COLUMNS: Final = (*SOCKET_COLUMNS, MOCK_COLUMN, FEED)

YES, NO, NOTHING = "yes", "no", "n/a"

INTRODUCTION = """# Runtimes and features

Each cell of a client was tried against the simulated exchange: over TLS on sockets of this machine, and in memory for the mock. The column of
cryptofeed says what its feed has an interface for. `n/a` is a feature that has no meaning there: the mock has no sockets.

`python tests/support/runtime_matrix.py --write` tries every cell and writes this table. The tests do so as well, and compare.
"""


class Place(NamedTuple):
    """Where a feature is tried: a runtime on sockets, or the mock."""

    column: str
    remote: Remote

    @property
    def runtime(self) -> Runtime:
        """The runtime, and its event loop. The mock runs on asyncio."""
        return SOCKETS.get(self.column) or next(iter(SOCKETS.values()))

    def settings(self, **more: Any) -> Settings:
        """Return the settings of a client here."""
        if self.column == MOCK_COLUMN:
            return Settings(**more)
        remote = self.remote
        given: dict[str, Any] = {
            "rest_url": remote.rest_url,
            "ws_url": remote.ws_url,
            "ca_file": remote.ca_file,
            "runtime": self.runtime.name,
        }
        return Settings(**given | more)

    @asynccontextmanager
    async def client(
        self, *arguments: Any, settings: Settings | None = None, record: Path | None = None, **more: Any
    ) -> AsyncIterator[BackpackClient]:
        """Enter a client of the throwaway account here."""
        more = {"signer": Signer(Credentials(THROWAWAY_SECRET)), "settings": settings or self.settings(), **more}
        if self.column == MOCK_COLUMN:
            memory = Memory()
            client = BackpackClient(*arguments, transport=memory.transport, **more)
            async with recorded(client, record), client, anyio.create_task_group() as tasks:
                tasks.start_soon(memory.run)
                yield client
                tasks.cancel_scope.cancel()
        else:
            client = BackpackClient(*arguments, **more)
            async with recorded(client, record), client:
                yield client


def recorded(client: BackpackClient, path: Path | None) -> AbstractAsyncContextManager[object]:
    """Return the recorder of a client, where there is a path to record to."""
    return nullcontext() if path is None else Recorder(client, path)


class Memory:
    """The simulated exchange behind a mock: its clock is the machine's."""

    def __init__(self) -> None:
        self.transport = MockTransport(self._script)
        self._exchange = Exchange(seed=7, unix_us=system_now().unix_us, speed=20.0)
        self._connection = 0
        self._is_open = False

    async def run(self) -> None:
        """Let time pass for the exchange."""
        while True:
            await anyio.sleep(0.01)
            facts = self._facts(self._exchange.handle(TimerFired(), system_now()))
            if facts:
                self.transport.feed(*facts)

    def _script(self, action: Action) -> Iterator[Fact]:
        given: Any
        match action:
            case OpenSocket():
                self._connection += 1
                self._is_open = True
                yield from oblige(action)
                given = SocketOpened(self._connection)
            case CloseSocket() | DropSocket():
                self._is_open = False
                yield from oblige(action)
                given = SocketClosed(self._connection)
            case SendText(text):
                given = FrameReceived(self._connection, text.encode())
            case SendRequest(request_id=request_id, request=request):
                given = RequestReceived(request_id, request.method, request.target, request.headers, request.body)
            case _:
                yield from oblige(action)
                return
        yield from self._facts(self._exchange.handle(given, system_now()))

    def _facts(self, outputs: Any) -> list[Fact]:
        facts: list[Fact] = []
        for output in outputs:
            match output:
                case SendFrame(connection, data) if self._is_open and connection == self._connection:
                    facts.append(TextReceived(data))
                case Respond():
                    facts.append(ResponseReceived(request_id=output.request_id, status=output.status, body=output.body))
        return facts


async def first(client: Any, kind: type[Event], **wanted: object) -> Any:
    """Return the first event of a kind with these members."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in wanted.items()):
                return event
    raise AssertionError("the client has ended")


async def _streams(place: Place) -> None:
    async with place.client([SYMBOL], channels=["trades"]) as client:
        await first(client, Trade)


async def _books(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book"]) as client:
        await first(client, BookChanged, verified=True)


async def _private_streams(place: Place) -> None:
    async with place.client(channels=["order.*"]) as client:
        await client.place(NewOrder.limit(SYMBOL, "Bid", price="1", quantity="1"))
        await first(client, OrderAccepted)


async def _ledger(place: Place) -> None:
    async with place.client(follow_account=True) as client:
        await first(client, AccountSynced)
        assert client.account.balances


async def _calls(place: Place) -> None:
    async with place.client(streams=False) as client:
        assert (await client.get_depth(SYMBOL, limit=5)).bids


async def _orders(place: Place) -> None:
    async with place.client(streams=False) as client:
        order = await client.place(NewOrder.limit(SYMBOL, "Bid", price="1", quantity="1"))
        await client.cancel_order(SYMBOL, order_id=order.order_id)


async def _journal(place: Place) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "orders.journal"
        async with place.client(streams=False, journal=journal, cancel_on_exit="mine") as client:
            order = await client.place(NewOrder.limit(SYMBOL, "Bid", price="1", quantity="1"))
            assert str(order.client_id) in journal.read_text(encoding="utf-8")
            assert client.unresolved == {}


async def _cancel_on_exit(place: Place) -> None:
    async with place.client(streams=False, cancel_on_exit="mine") as client:
        await client.place(NewOrder.limit(SYMBOL, "Bid", price="1", quantity="1"))
    assert client.left == Leftovers()


async def _order_checks(place: Place) -> None:
    async with place.client(streams=False) as client:
        try:
            await client.place(NewOrder.limit(SYMBOL, "Bid", price="1.001", quantity="1"))
        except LocalProtocolError:
            return
        raise AssertionError("an order off the tick was sent")


async def _candles(place: Place) -> None:
    async with place.client() as client, client.candles(SYMBOL, "1m") as candles:
        with anyio.fail_after(PATIENCE_SECONDS):
            await anext(candles)


async def _resync(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book"]) as client:
        await first(client, BookChanged)
        assert isinstance(await client.resync(SYMBOL), Recovered)


async def _reconnect(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book"]) as client:
        await first(client, BookChanged)
        assert isinstance(await client.reconnect(), Recovered)


async def _batches(place: Place) -> None:
    async with place.client([SYMBOL], channels=["trades"]) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            async for events in client.batches():
                if any(isinstance(event, Trade) for event in events):
                    return


async def _on_event(place: Place) -> None:
    seen = anyio.Event()

    def notice(event: Event) -> None:
        if isinstance(event, Trade):
            seen.set()

    async with place.client([SYMBOL], channels=["trades"], on_event=notice):
        with anyio.fail_after(PATIENCE_SECONDS):
            await seen.wait()


async def _consumers(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book", "trades"]) as client, client.stream(Trade) as stream:
        await first(stream, Trade)
        await first(client, BookChanged)


async def _conflation(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book"], buffer=10) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not client.delivery.conflated:  # noqa: ASYNC110 - a figure that nothing announces
                await anyio.sleep(0.02)


async def _blocking(place: Place) -> None:
    async with place.client([SYMBOL], channels=["book"], slow_consumer="block", buffer=10) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not client.delivery.pauses:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.02)
        assert client.delivery.dropped == 0


async def _recording(place: Place) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.jsonl"
        async with place.client([SYMBOL], channels=["trades"], record=path) as client:
            await first(client, Trade)
        with open_recording(path, verify=True) as recording:
            assert any(isinstance(event, Trade) for _, event in recording.events())


async def _start(place: Place) -> None:
    if place.column == MOCK_COLUMN:
        memory = Memory()
        client = BackpackClient(streams=False, transport=memory.transport)
    else:
        client = BackpackClient(streams=False, settings=place.settings())
    await client.start()
    assert (await client.get_depth(SYMBOL, limit=5)).bids
    await client.aclose()


async def _without_a_loop(place: Place) -> None:
    if place.runtime.backend == "trio":
        raise LocalProtocolError("BackpackSync: its loop is one of asyncio")

    def use() -> None:
        more: dict[str, Any] = (
            {"transport": Memory().transport} if place.column == MOCK_COLUMN else {"settings": place.settings()}
        )
        with BackpackSync(streams=False, **more) as client:
            assert client.get_depth(SYMBOL, limit=5).bids

    await run_sync(use)


async def _compression(place: Place) -> None:
    head = b""

    async def serve(stream: Any) -> None:
        nonlocal head
        head = await upgrade(stream, extension="permessage-deflate")
        await stream.receive()

    async with to_server(place.runtime, serve, compression=True) as transport:
        transport.perform(OpenSocket())
        await facts_until(transport, Connected)
    assert b"permessage-deflate" in head


async def _verified_tls(place: Place) -> None:
    try:
        async with place.client(streams=False, settings=place.settings(ca_file=None)) as client:
            await client.get_time()
    except BackpackError:
        return
    raise AssertionError("a certificate of an unknown authority was trusted")


async def _minimum_tls(place: Place) -> None:
    with serve_old_tls() as (port, ca_file, heard):
        address = f"https://127.0.0.1:{port}"
        for minimum, expected in (("1.3", False), ("1.2", True)):
            addresses = Addresses(address, address.replace("http", "ws"), ca_file=ca_file, minimum_tls=minimum)
            async with place.runtime.transport(addresses) as transport:
                transport.perform(OpenSocket())
                with anyio.move_on_after(0.5):
                    await transport.next(None)
            assert bool(heard) is expected


async def _own_path(place: Place) -> None:
    seen: list[bytes] = []

    async def serve(stream: Any) -> None:
        async with stream:
            seen.append(await stream.receive())
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        addresses = Addresses(f"http://127.0.0.1:{port}/gateway", f"ws://127.0.0.1:{port}")
        async with place.runtime.transport(addresses) as transport:
            transport.perform(request(1))
            await facts_until(transport, ResponseReceived)
        tasks.cancel_scope.cancel()
    assert seen[0].startswith(b"GET /gateway/api/v1/ping ")


async def _next_address(place: Place) -> None:
    """The first address of a name accepts nobody, and says nothing: a full backlog."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.9", 0), backlog=0))
        port = deaf.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(("127.0.0.9", port))
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        stack.enter_context(patch("socket.getaddrinfo", _two_addresses))
        # aiohttp asks a resolver of its own where aiodns is installed.
        stack.enter_context(patch("aiohttp.connector.DefaultResolver", aiohttp.ThreadedResolver))

        async def serve(stream: Any) -> None:
            async with stream:
                await stream.receive()
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong")

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            addresses = Addresses(f"http://exchange.example:{port}", f"ws://exchange.example:{port}")
            async with place.runtime.transport(addresses) as transport:
                transport.perform(request(1))
                with anyio.fail_after(5):
                    await facts_until(transport, ResponseReceived)
            tasks.cancel_scope.cancel()


def _two_addresses(host: object, port: Any, *_: object, **__: object) -> list[Any]:
    """Return the deaf address, and then the other one."""
    names = ("127.0.0.9", "127.0.0.1") if host in {"exchange.example", b"exchange.example"} else (host,)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, int(port or 0))) for name in names]


def _proxied(scheme: str) -> Callable[[Place], Awaitable[None]]:
    """Return a check of the list of combinations that the tests of the proxies try with real programs."""

    async def check(place: Place) -> None:
        await anyio.lowlevel.checkpoint()
        found = {cell.traffic for cell in CELLS if cell.scheme == scheme and cell.runtime == place.column}
        assert found == {"REST", "websocket"}

    return check


class Row(NamedTuple):
    """One feature: how a client shows that it has it, and by what a feed of cryptofeed would have it."""

    feature: str
    probe: Callable[[Place], Awaitable[None]]
    sockets: bool = False
    """It is about sockets, which the mock has not."""
    feed: str = ""
    """A channel (`channel NAME`), a member of the configuration (`config NAME`) or of the feed (`feed NAME`). Or in words, why not."""


ROWS: Final = (
    Row("public streams", _streams, feed="channel trades"),
    Row("verified order books", _books, feed="channel l2_book"),
    Row("private streams", _private_streams, feed="channel order_info"),
    Row("ledger of the account (`follow_account`)", _ledger, feed="channel balances"),
    Row("candles, history and stream joined", _candles, feed="channel candles"),
    Row("REST calls", _calls, feed="calls are made by a client beside it"),
    Row("orders", _orders, feed="orders are placed by a client beside it"),
    Row("order safety: journal, `resolve`", _journal, feed="as orders"),
    Row("`cancel_on_exit`", _cancel_on_exit, feed="as orders"),
    Row("orders checked against the market", _order_checks, feed="as orders"),
    Row("`resync`", _resync, feed="books are repaired by themselves"),
    Row("`reconnect`", _reconnect, feed="connections are repaired by themselves"),
    Row("iteration by batches", _batches, feed="cryptofeed has callbacks"),
    Row("callback (`on_event`)", _on_event, feed="feed callbacks"),
    Row("several consumers (`stream`)", _consumers, feed="cryptofeed has one callback for each channel"),
    Row("slow consumers: conflation", _conflation, feed="callbacks are awaited one after the other"),
    Row("slow consumers: `block`", _blocking, feed="callbacks are awaited one after the other"),
    Row("recording (`Recorder`)", _recording, feed="cryptofeed records its own raw data"),
    Row("notebook (`start`)", _start, feed="`FeedHandler` runs it"),
    Row("no event loop (`BackpackSync`)", _without_a_loop, feed="`FeedHandler` runs it"),
    Row("verified TLS, own authority (`ca_file`)", _verified_tls, sockets=True, feed="config ca_file"),
    Row('`minimum_tls="1.3"`', _minimum_tls, sockets=True, feed="config minimum_tls"),
    Row("compression", _compression, sockets=True, feed="config compression"),
    Row("a path in `rest_url`", _own_path, sockets=True, feed="config rest_url"),
    Row("a name with an address that does not answer", _next_address, sockets=True, feed="the sockets are cryptofeed's"),
    *(
        Row(f"proxy: `{scheme}`", _proxied(scheme), sockets=True, feed="config proxies")
        for scheme in sorted({cell.scheme for cell in CELLS})
    ),
)


def _of_feed(row: Row) -> tuple[str, str]:
    """Return the cell of cryptofeed and, where it is no, the reason."""
    from backpack_runtime.cryptofeed.channels import WEBSOCKET_CHANNELS  # noqa: PLC0415 - needs an extra
    from backpack_runtime.cryptofeed.config.model import BackpackConfig  # noqa: PLC0415 - as above

    kind, _, name = row.feed.partition(" ")
    if kind == "channel":
        assert name in WEBSOCKET_CHANNELS
        return YES, ""
    if kind == "config":
        found = name in BackpackConfig.model_fields
        return (YES, "") if found else (NO, f"`BackpackConfig` has no `{name}`")
    if row.feed == "feed callbacks":
        return YES, ""
    return NO, row.feed


def tried(row: Row, column: str, remote: Remote) -> tuple[str, str]:
    """Try one feature in one runtime. Returns the cell and, where it is no, the reason."""
    if column == FEED:
        return _of_feed(row)
    if column == MOCK_COLUMN and row.sockets:
        return NOTHING, ""
    place = Place(column, remote)
    try:
        anyio.run(row.probe, place, backend=place.runtime.backend)
    except (ConfigurationError, LocalProtocolError) as refused:
        return NO, str(refused)
    return YES, ""


@contextmanager
def exchange() -> Iterator[Remote]:
    """Serve the exchange that all cells share."""
    with serve_elsewhere() as remote:
        yield remote


def document(cells: dict[tuple[str, str], tuple[str, str]]) -> str:
    """Return the document of what was found, by feature and column."""
    head = ["feature", *COLUMNS]
    rows = [[row.feature, *(cells[row.feature, column][0] for column in COLUMNS)] for row in ROWS]
    reasons = [
        f"* {row.feature}, {column}: {reason}."
        for row in ROWS
        for column in COLUMNS
        for _, reason in [cells[row.feature, column]]
        if reason
    ]
    return "\n".join(
        [
            INTRODUCTION,
            f"| {' | '.join(head)} |",
            f"|---|{'---|' * len(COLUMNS)}",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            "## Reasons",
            "",
            *reasons,
            "",
        ]
    )


if __name__ == "__main__":
    with exchange() as served:
        found = {(row.feature, column): tried(row, column, served) for row in ROWS for column in COLUMNS}
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(document(found), encoding="utf-8")
    else:
        print(document(found), end="")
