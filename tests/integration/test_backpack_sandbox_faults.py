"""A served sandbox that fails by a plan, over real sockets: a client's book is doubted, and comes back by itself."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from backpack_proto.auth.keys import THROWAWAY_API_KEY, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.outputs import BookDesynced, BookStale, ConnectionDown
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.payloads import Event, OrderUpdate
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.sandbox_control import is_loopback

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
SYMBOL = "SOL_USDC"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watched:
    """A client whose events are all kept."""

    def __init__(self, sandbox: Sandbox, client: BackpackClient) -> None:
        self.sandbox = sandbox
        self.client = client
        self.events: list[Event] = []
        self._woken = anyio.Event()

    async def follow(self) -> None:
        async for event in self.client:
            self.events.append(event)
            self._woken.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not reached():
                self._woken = anyio.Event()
                await self._woken.wait()

    def seen(self, *kinds: type[Event]) -> bool:
        return any(isinstance(event, kinds) for event in self.events)

    @property
    def live(self) -> bool:
        return self.client.book(SYMBOL).live


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    async with (
        serve_sandbox() as sandbox,
        BackpackClient([SYMBOL], settings=sandbox.settings) as client,
        anyio.create_task_group() as tasks,
    ):
        one = Watched(sandbox, client)
        tasks.start_soon(one.follow)
        await one.until(lambda: one.live)
        one.events.clear()
        yield one
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("plan", "doubt"),
    [
        ("gap@0", BookDesynced),
        ("drop@0", ConnectionDown),
        pytest.param("restart@0", ConnectionDown, marks=pytest.mark.slow),
        ("refuse@0-1", ConnectionDown),
        # What goes wrong with requests shows in a book that needs another snapshot.
        ("429@0-1,gap@0.1", BookDesynced),
        pytest.param("503@0-1,gap@0.1", BookDesynced, marks=pytest.mark.slow),
        pytest.param("502@0-1,gap@0.1", BookDesynced, marks=pytest.mark.slow),
        pytest.param("lost@0-1,gap@0.1", BookDesynced, marks=pytest.mark.slow),
        pytest.param("slow@0-1,gap@0.1", BookDesynced, marks=pytest.mark.slow),
        # The bound of a claim is 5 s.
        pytest.param("mute@0-7", BookStale, marks=pytest.mark.slow),
        pytest.param("late@0-7", BookStale, marks=pytest.mark.slow),
    ],
)
async def test_a_book_is_doubted_while_the_exchange_fails_and_comes_back(plan: str, doubt: type[Event]) -> None:
    async with watched() as one:
        one.sandbox.plan_faults(plan)
        await one.until(lambda: one.seen(doubt))
        assert not one.live
        await one.until(lambda: one.live)
        fired = [fired.name for fired in one.sandbox.exchange.disturbances.schedule.fired]
        assert fired == [entry.partition("@")[0] for entry in plan.split(",")]


@pytest.mark.slow
async def test_a_book_stays_in_doubt_as_long_as_its_snapshot_is_refused() -> None:
    async with watched() as one:
        one.sandbox.plan_faults("429@0-1.5,gap@0.1")
        await one.until(lambda: one.seen(BookDesynced))
        schedule = one.sandbox.exchange.disturbances.schedule
        await one.until(lambda: one.live)
        assert not schedule.active


async def test_a_client_of_its_own_sandbox_plans_its_faults() -> None:
    async with BackpackClient([SYMBOL], sandbox=True, sandbox_faults="gap@0.5") as client:
        doubted = False
        with anyio.fail_after(PATIENCE_SECONDS):
            async for event in client:
                doubted = doubted or isinstance(event, BookDesynced)
                if doubted and client.book(SYMBOL).live:
                    break


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sandbox": True, "sandbox_faults": "gpa"}, "sandbox_faults: one of gap, "),
        ({"sandbox_faults": "gap"}, "sandbox_faults: only a sandbox can be made to fail"),
        ({"sandbox": True, "sandbox_faults": 5}, "sandbox_faults: text such as gap@5"),
    ],
)
def test_faults_that_cannot_be_are_refused_when_a_client_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BackpackClient([SYMBOL], **given)


async def test_every_client_of_its_own_sandbox_has_an_account() -> None:
    async with BackpackClient(sandbox=True) as client:
        assert (await client.get_balances())["USDC"].available > 0


async def ask(sandbox: Sandbox, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    """Make one plain request on a connection of its own."""
    host, _, port = sandbox.rest_url.removeprefix("http://").rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        return await on(stream, method, target, body)


async def on(stream: SocketStream, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    await stream.send(f"{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    received = b""
    with anyio.fail_after(PATIENCE_SECONDS):
        while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < _length(received):
            received += await stream.receive()
    head, _, content = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    return status, json.loads(content) if content[:1] in b"{[" else content.decode()


def _length(received: bytes) -> int:
    head = received.partition(b"\r\n\r\n")[0].lower()
    return int(head.partition(b"content-length:")[2].split(b"\r\n")[0])


async def test_the_control_endpoint_shows_the_plan_and_takes_another() -> None:
    async with serve_sandbox(faults="mute@100-200") as sandbox:
        status, shown = await ask(sandbox, "GET", "/sandbox/faults")
        assert status == 200
        assert [(row["fault"], row["active"], row["next_s"]) for row in shown["planned"]] == [("mute@100-200", False, 100.0)]
        assert shown["fired"] == []
        assert "gap" in shown["known"]
        status, shown = await ask(sandbox, "POST", "/sandbox/faults", b'{"faults": ["429@0-100", "drop@50"]}')
        assert (status, [row["active"] for row in shown["planned"]]) == (200, [True, False])
        assert [(row["fault"], row["start_s"], row["end_s"]) for row in shown["fired"]] == [("429", 0.0, 100.0)]
        assert (await ask(sandbox, "GET", "/api/v1/time"))[0] == 429, "the exchange fails, and its control does not"
        status, shown = await ask(sandbox, "POST", "/sandbox/faults", b'{"faults": ""}')
        assert (status, shown["planned"], shown["elapsed_s"]) == (200, [], None)
        assert (await ask(sandbox, "GET", "/api/v1/time"))[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("POST", "/sandbox/faults", b'{"faults": "gpa"}', 400, "one of gap, drop"),
        ("POST", "/sandbox/faults", b'{"fault": "gap"}', 400, "the body is JSON such as"),
        ("POST", "/sandbox/faults", b"\xff", 400, "the body is JSON such as"),
        ("DELETE", "/sandbox/faults", b"", 405, "GET shows the plan"),
        ("GET", "/sandbox/nothing", b"", 404, "/sandbox/faults and nothing else"),
    ],
)
async def test_the_control_endpoint_refuses_in_words(method: str, target: str, body: bytes, status: int, words: str) -> None:
    async with serve_sandbox() as sandbox:
        answered, shown = await ask(sandbox, method, target, body)
        assert answered == status
        assert words in shown["message"]


async def test_the_connection_that_asks_for_an_outage_is_told_of_it() -> None:
    async with serve_sandbox() as sandbox:
        host, _, port = sandbox.rest_url.removeprefix("http://").rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            _, shown = await on(stream, "POST", "/sandbox/faults", b'{"faults": "refuse@0-100"}')
            assert shown["planned"][0]["active"]
            async with await anyio.connect_tcp(host, int(port)) as other:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await on(other, "GET", "/api/v1/time")
            _, shown = await on(stream, "POST", "/sandbox/faults", b'{"faults": ""}')
        assert (await ask(sandbox, "GET", "/api/v1/time"))[0] == 200


async def test_the_control_endpoint_answers_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("192.0.2.1", "::", "0.0.0.0", "fe80::1%eth0", "somewhere", "")))
    monkeypatch.setattr("backpack_runtime.sandbox.is_loopback", lambda _: False)
    async with serve_sandbox() as sandbox:
        assert (await ask(sandbox, "GET", "/sandbox/faults"))[0] == 403


async def test_a_shortage_of_file_descriptors_is_waited_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    short = 0
    async with serve_sandbox() as sandbox:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def shortage(listening: socket.socket) -> Any:
            nonlocal short
            if short < 3:
                short += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listening)

        with caplog.at_level(logging.WARNING, "backpack_runtime.sandbox"):
            monkeypatch.setattr(loop, "sock_accept", shortage)
            # One accept was under way already.
            assert (await ask(sandbox, "GET", "/api/v1/time"))[0] == 200
            assert (await ask(sandbox, "GET", "/api/v1/time"))[0] == 200
    assert short == 3
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the sandbox cannot accept connections",
        "the sandbox accepts connections again",
    ]


async def test_accounts_of_a_served_sandbox_trade_with_each_other() -> None:
    # The crowd stands still, so nobody else takes what one account offers to the other.
    async with serve_sandbox(accounts=3, seed=1, speed=0.0) as sandbox:
        assert sandbox.accounts[0].api_key == THROWAWAY_API_KEY
        signers = [Signer(Credentials(account.secret)) for account in sandbox.accounts]
        async with (
            BackpackClient(channels=["account.orderUpdate"], settings=sandbox.settings, signer=signers[1]) as seller,
            BackpackClient(channels=["account.orderUpdate"], settings=sandbox.settings, signer=signers[2]) as buyer,
        ):
            depth = await seller.get_depth(SYMBOL, limit=5)
            price = depth.asks[0].price - Decimal("0.01")
            await seller.place(NewOrder.limit(SYMBOL, "Ask", price=price, quantity="1", post_only=True))
            assert await buyer.get_open_orders() == ()
            bought = await buyer.place(NewOrder.limit(SYMBOL, "Bid", price=price, quantity="1"))
            assert bought.state == "Filled"
            for client, maker in ((seller, True), (buyer, False)):
                (fill,) = [fill async for fill in client.fills(symbol=SYMBOL)]
                assert (fill.price, fill.maker) == (price, maker)
                with anyio.fail_after(PATIENCE_SECONDS):
                    async for event in client:
                        if isinstance(event, OrderUpdate) and event.state == "Filled":
                            break


async def test_the_keys_of_accounts_come_from_the_seed() -> None:
    async with serve_sandbox(accounts=3, seed=5) as one, serve_sandbox(accounts=4, seed=5) as same:
        assert one.accounts == same.accounts[:3]
        assert len(set(same.accounts)) == 4
        async with serve_sandbox(accounts=2, seed=6) as other:
            assert other.accounts[0] == one.accounts[0], "the first is that of every sandbox"
            assert other.accounts[1] not in one.accounts


async def test_numbers_of_accounts_and_markets_that_cannot_be_are_refused() -> None:
    for accounts in (0, 1_001):
        with pytest.raises(ConfigurationError, match=f"accounts: 1 to 1000, got {accounts}"):
            async with serve_sandbox(accounts=accounts):
                pass
    with pytest.raises(LocalProtocolError, match="markets: 0 to 1000, got 1001"):
        async with serve_sandbox(markets=1_001):
            pass
