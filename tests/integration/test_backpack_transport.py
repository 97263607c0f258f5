"""The contract of every transport, on real sockets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import anyio
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    ResponseReceived,
    TextReceived,
    TimerFired,
)
from backpack_proto.outputs import (
    CloseSocket,
    ConnectionUp,
    DropSocket,
    OpenSocket,
    SendPing,
    SendText,
)
from backpack_proto.streams.frames import subscribe_text
from backpack_runtime.client import BackpackClient
from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.settings import Settings
from backpack_runtime.transports.aiohttp.transport import AiohttpTransport
from transports import (
    MOCKS,
    PATIENCE_SECONDS,
    SOCKETS,
    Runtime,
    ToExchange,
    facts_until,
    frame,
    request,
    to_server,
    upgrade,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=SOCKETS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """A test runs in every runtime that has sockets."""
    return SOCKETS[str(request.param)]


@pytest.fixture(params=[*SOCKETS, *MOCKS])
def exchange(request: pytest.FixtureRequest) -> ToExchange:
    """A test that talks with the exchange only, and sends no bytes of its own, runs on the mock as well."""
    if request.param in MOCKS:
        return ToExchange(request.param.rpartition(" ")[2], None)
    runtime = SOCKETS[str(request.param)]
    return ToExchange(runtime.backend, runtime)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    by = "exchange" if "exchange" in request.fixturenames else "runtime"
    return str(request.getfixturevalue(by).backend)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_websocket_from_its_opening_to_its_closing(exchange: ToExchange, *, tls: bool) -> None:
    async with exchange.connect(tls=tls) as transport:
        transport.perform(OpenSocket())
        assert (await facts_until(transport, Connected))[0] == Connected()
        transport.perform(SendPing(b"life"))
        assert PongReceived(b"life") in await facts_until(transport, PongReceived)
        transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        texts = [fact for fact in await facts_until(transport, TextReceived) if isinstance(fact, TextReceived)]
        assert texts[0].data.startswith(b'{"data":')
        transport.perform(CloseSocket(1000, "done"))
        facts = await facts_until(transport, Disconnected)
        assert [fact for fact in facts if isinstance(fact, Disconnected)] == [facts[-1]]
        assert isinstance(facts[-1], Disconnected)
        assert facts[-1].code == 1000


async def test_nothing_is_heard_of_a_dropped_socket(exchange: ToExchange) -> None:
    async with exchange.connect(speed=20.0) as transport:
        transport.perform(OpenSocket())
        await facts_until(transport, Connected)
        transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        await facts_until(transport, TextReceived)
        transport.perform(DropSocket())
        transport.perform(request(1))
        assert [type(fact) for fact in await facts_until(transport, ResponseReceived)] == [ResponseReceived]


async def test_opening_again_ends_the_socket_before(exchange: ToExchange) -> None:
    async with exchange.connect() as transport:
        transport.perform(OpenSocket())
        transport.perform(OpenSocket())
        facts = await facts_until(transport, Connected)
        assert facts == [Connected()]


async def test_a_refused_connection_says_so_once(runtime: Runtime) -> None:
    async def vanish(stream: ByteStream) -> None:
        await stream.receive()

    async with to_server(runtime, vanish) as transport:
        transport.perform(OpenSocket())
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        assert "handshake" in fact.reason


async def test_a_deadline_fires_and_a_wake_up_does_not(exchange: ToExchange) -> None:
    async with exchange.connect() as transport:
        with anyio.fail_after(PATIENCE_SECONDS):
            until = transport.now().mono_us + 20_000
            fired: list[Given] = []
            while not fired:
                fired = await transport.next(until)
            assert fired == [TimerFired()]
            assert transport.now().mono_us >= until
            transport.wake()
            assert await transport.next(None) == []


async def test_who_listens_is_told_at_once_and_next_is_left_with_timers(runtime: Runtime) -> None:
    async def greet(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(frame(1, b"one") + frame(1, b"two"))
        await stream.receive()

    heard: list[Given] = []
    told = anyio.Event()

    def sink(facts: Sequence[Given]) -> None:
        heard.extend(facts)
        if len(heard) >= 3:
            told.set()

    async with to_server(runtime, greet) as transport:
        transport.listen(sink)
        transport.perform(OpenSocket())
        with anyio.fail_after(PATIENCE_SECONDS):
            await told.wait()
            assert [type(fact) for fact in heard] == [Connected, TextReceived, TextReceived]
            transport.pause_reading()
            # What follows from a call of the pump or of the application is not told from inside that call.
            assert await transport.next(None) == [ReadingPaused()]
            transport.resume_reading()
            assert await transport.next(None) == [ReadingResumed()]
            until = transport.now().mono_us + 20_000
            fired: list[Given] = []
            while not fired:
                fired = await transport.next(until)
            assert fired == [TimerFired()]


async def test_a_timer_is_not_starved_by_a_busy_stream(runtime: Runtime) -> None:
    async def blast(stream: ByteStream) -> None:
        await upgrade(stream)
        while True:
            await stream.send(frame(1, b'{"data":{}}') * 100)

    async with to_server(runtime, blast) as transport:
        transport.perform(OpenSocket())
        await facts_until(transport, TextReceived)
        until = transport.now().mono_us + 100_000
        with anyio.fail_after(PATIENCE_SECONDS):
            while TimerFired() not in await transport.next(until):
                pass


async def test_pausing_stops_the_reading_and_resuming_goes_on(exchange: ToExchange) -> None:
    async with exchange.connect(speed=10.0) as transport:
        transport.perform(OpenSocket())
        await facts_until(transport, Connected)
        transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        await facts_until(transport, TextReceived)
        transport.pause_reading()
        transport.pause_reading()
        facts = await facts_until(transport, ReadingPaused)
        assert facts.count(ReadingPaused()) == 1
        read: list[int] = []
        for number in range(1, 7):
            transport.perform(request(number))
            read.append(sum(isinstance(fact, TextReceived) for fact in await facts_until(transport, ResponseReceived)))
        assert read[3:] == [0, 0, 0], "the read that was under way may complete, no other may begin"
        transport.resume_reading()
        facts = await facts_until(transport, ReadingResumed)
        if not any(isinstance(fact, TextReceived) for fact in facts):
            await facts_until(transport, TextReceived)


async def test_a_silent_server_costs_the_timeout_and_no_more(runtime: Runtime) -> None:
    async def listen(stream: ByteStream) -> None:
        while True:
            await stream.receive()

    async with to_server(runtime, listen) as transport:
        transport.perform(request(1, timeout_us=50_000))
        (fact,) = await facts_until(transport, RequestFailed)
        assert fact == RequestFailed(request_id=1, reason="no answer within 0.05 s", sent=True)


async def test_a_server_that_is_not_there_was_sent_nothing(runtime: Runtime) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    assert isinstance(listener, TypedAttributeProvider)
    port = int(listener.extra(SocketAttribute.local_port))
    await listener.aclose()
    async with runtime.transport(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
        transport.perform(request(1))
        (fact,) = await facts_until(transport, RequestFailed)
        assert isinstance(fact, RequestFailed)
        assert not fact.sent
        transport.perform(OpenSocket())
        assert isinstance((await facts_until(transport, ConnectFailed))[0], ConnectFailed)


async def test_an_action_that_is_invalid_is_a_bug(exchange: ToExchange) -> None:
    async with exchange.connect() as transport:
        with pytest.raises(TypeError, match="ConnectionUp"):
            transport.perform(ConnectionUp(attempt=1))  # type: ignore[arg-type]  # that is the point


NO_AIOHTTP = "import of aiohttp halted; None in sys.modules"
WITHOUT_AIOHTTP = """
import sys
sys.modules["aiohttp"] = None
from backpack_runtime import BackpackClient, Settings
try:
    BackpackClient(settings=Settings(runtime="aiohttp"))
except Exception as error:
    print(type(error).__name__, error)
try:
    import backpack_runtime.transports.aiohttp.transport
except ImportError as error:
    print(error)
BackpackClient(settings=Settings(runtime="anyio"))
"""


def test_aiohttp_is_an_extra_and_says_so_when_it_is_missing() -> None:
    output = subprocess.run(
        [sys.executable, "-c", WITHOUT_AIOHTTP], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    needed = str(MissingExtra("the aiohttp runtime", "aiohttp", ImportError(NO_AIOHTTP)))
    assert output.splitlines() == [f"MissingExtra {needed}", needed]


def test_aiohttp_does_not_run_on_trio() -> None:
    async def enter() -> None:
        async with AiohttpTransport(Addresses()):
            pass

    with pytest.raises(LocalProtocolError, match="asyncio only"):
        anyio.run(enter, backend="trio")


def test_there_are_no_other_runtimes() -> None:
    with pytest.raises(LocalProtocolError, match=r"^runtime: one of anyio, aiohttp, got 'curio'$"):
        BackpackClient(settings=Settings(runtime="curio"))
