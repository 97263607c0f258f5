"""The client over a scripted transport: what its user sees where no socket is needed."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, UnknownSymbol
from backpack_proto.inputs import Fact
from backpack_proto.outputs import Action, SendRequest
from backpack_proto.streams.payloads import Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import streams
from backpack_runtime.transports.mock import MockTransport, oblige, respond
from transports import MARKETS, one_market, trade_frame

pytestmark = pytest.mark.anyio

TRADES = 320
AT_ONCE = 16
"""More events than `anext`, which looks at the clock each time, gives a consumer between two turns of others."""


async def read(client: BackpackClient, transport: MockTransport, trades: int, reads: int) -> None:
    """Have trades come, in so many reads."""
    size = trades // reads
    for begin in range(0, trades, size):
        transport.feed(*map(trade_frame, range(begin, begin + size)))
        while client.delivery.waiting < begin + size:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(("reads", "turn"), [(1, "TURN_NS"), (20, "LONG_TURN_NS")])
async def test_a_consumer_that_never_waits_lets_other_tasks_run(reads: int, turn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a turn that is over at once, so that what is measured is how often the clock is looked at. A long one where reads wait."""
    monkeypatch.setattr(streams, "TURN_NS", 0)
    monkeypatch.setattr(streams, turn, 0)
    transport = MockTransport(one_market)
    turns = 0
    fetched: list[int] = []
    longest = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport) as client:
            while client.delivery.waiting:
                await anext(client)
            await read(client, transport, TRADES, reads)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(neighbour)
                since, last_turn = 0, turns
                while len(fetched) < TRADES:
                    event = await anext(client)
                    if isinstance(event, Trade) and event.trade_id is not None:
                        fetched.append(event.trade_id)
                    since = since + 1 if turns == last_turn else 1
                    last_turn = turns
                    longest = max(longest, since)
                tasks.cancel_scope.cancel()
    assert fetched == list(range(TRADES))
    assert longest <= 2 * AT_ONCE, "trio may give two turns in a row, for it shuffles each round of tasks"


NEW = MARKETS[1:-1].replace(b"SOL", b"NEW")


class Listing:
    """An exchange that has just listed NEW_USDC. The list of markets that the network keeps does not have it yet."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.status = 200

    def __call__(self, action: Action) -> Iterator[Fact]:
        if not isinstance(action, SendRequest):
            yield from oblige(action)
            return
        target = action.request.target
        self.targets.append(target)
        if target == "/api/v1/market?symbol=NEW_USDC":
            yield respond(action, NEW, status=self.status)
        elif target.startswith("/api/v1/market?"):
            yield respond(action, b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}', status=400)
        elif target.startswith("/api/v1/markets?nonce="):
            yield respond(action, MARKETS[:-1] + b"," + NEW + b"]")
        elif target == "/api/v1/markets":
            yield respond(action, MARKETS)
        else:
            yield respond(action, b"[]")

    def asked(self) -> list[str]:
        """What was asked about single markets."""
        return [target.partition("=")[2] for target in self.targets if target.startswith("/api/v1/market?")]


@pytest.mark.parametrize("symbol", ["NEW_USDC", "NEW-USDC"])
async def test_a_market_that_was_listed_a_minute_ago_is_found(symbol: str) -> None:
    exchange = Listing()
    with anyio.fail_after(60):
        async with BackpackClient([symbol], channels=["book"], transport=MockTransport(exchange)) as client:
            assert set(exchange.asked()) == {"NEW_USDC"}
            assert client.markets.normalised("NEW_USDC") == "NEW-USDC"
            assert client.book(symbol).symbol == "NEW_USDC"
            await client.get_trades(symbol)
            assert "NEW_USDC" in await client.load_markets(), "though the list that the network keeps is old"
            await client.subscribe(["trades"], [symbol])
            assert set(exchange.asked()) == {"NEW_USDC"}


async def test_a_symbol_that_the_exchange_does_not_know_is_refused_after_it_was_asked_for() -> None:
    exchange = Listing()
    with anyio.fail_after(60):
        async with BackpackClient(transport=MockTransport(exchange)) as client:
            with pytest.raises(UnknownSymbol, match="NOPE_USDC"):
                await client.get_trades("NOPE_USDC")
            assert exchange.asked() == ["NOPE_USDC"]
            exchange.status = 503
            with pytest.raises(ApiError, match="503"):
                await client.get_trades("NEW_USDC")


async def test_a_history_asks_for_its_symbol_when_it_is_read() -> None:
    exchange = Listing()
    with anyio.fail_after(60):
        async with BackpackClient(transport=MockTransport(exchange), signer=Signer(Credentials(THROWAWAY_SECRET))) as client:
            history = client.fills("NEW-USDC")
            assert exchange.asked() == []
            assert [row async for row in history] == []
            assert exchange.asked() == ["NEW_USDC"]


async def test_markets_can_be_loaded_past_the_cache() -> None:
    exchange = Listing()
    with anyio.fail_after(60):
        async with BackpackClient(transport=MockTransport(exchange)) as client:
            assert "NEW_USDC" not in client.markets
            assert "NEW_USDC" in await client.load_markets(fresh=True)
            await client.load_markets(fresh=True)
            nonces = [target for target in exchange.targets if "nonce" in target]
            assert len(set(nonces)) == 2, "no two are alike, for the second would come out of the cache"
            assert exchange.asked() == []


async def test_a_consumer_behind_whom_reads_wait_fetches_them_before_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "TURN_NS", 0)
    transport = MockTransport(one_market)
    turns: list[int] = []

    async def neighbour(client: BackpackClient) -> None:
        while True:
            turns.append(client.delivery.waiting)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport) as client:
            transport.feed(trade_frame(0))
            while not isinstance(await anext(client), Trade):
                pass
            await read(client, transport, 18, 9)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(neighbour, client)
                while client.delivery.waiting:
                    await anext(client)
                tasks.cancel_scope.cancel()
    assert not [waiting for waiting in turns if 2 < waiting < 17], "until the last read is begun"
