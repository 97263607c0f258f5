"""A client before its block, after it, and after a block that an error ended: every public name says what it is."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from backpack_proto.errors import ClientClosed, ConfigurationError
from backpack_proto.outputs import BookSynced
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.payloads import Event
from backpack_runtime.books import BookView
from backpack_runtime.client import BackpackClient

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 20
BEFORE = r"^the client has not been entered: use it inside `async with client:`$"
AFTER = r"^the client has been closed: make a new one and use it inside `async with client:`$"

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "symbol": ("SOL_USDC",),
    "interval": ("1m",),
    "side": ("Bid",),
    "order_type": ("Market",),
    "channels": (["trades"],),
    "streams": (["newKind.SOL_USDC"],),
    "symbols": (["SOL_USDC"],),
    "endpoint": ("time",),
    "asset": ("AAPL.US",),
    "address": ("9xQe",),
    "blockchain": ("Solana",),
    "borrow": ("e30=",),
    "quantity": ("1",),
    "quote_id": ("1",),
    "rfq_id": ("1",),
    "bid_price": ("1",),
    "ask_price": ("2",),
    "vault_id": (1,),
    "call_id": (1,),
    "start_s": (1,),
    "order": (NewOrder.market("SOL_USDC", "Bid", quantity="1"),),
    "orders": ([NewOrder.market("SOL_USDC", "Bid", quantity="1")],),
}
ALWAYS = {"settings"}
"""Names that say the same at all times."""
AFTERWARDS = {
    "account",
    "aclose",
    "batches",
    "book",
    "budget",
    "delivery",
    "health",
    "journal",
    "left",
    "markets",
    "metrics",
    "unresolved",
}
"""Names that can be used after the block: they read what was last known, and closing again is closing."""
ENTRANCES = {"run", "start"}
"""Names that stand for the block, and are tried in a module of their own."""
PUBLIC = sorted(name for name in dir(BackpackClient) if not name.startswith("_") and name not in ENTRANCES)


async def use(client: BackpackClient, name: str) -> object:
    """Read a property, or call a method with the arguments that it needs."""
    value = getattr(client, name)
    if not callable(value):
        return value
    needed: dict[str, Any] = {}
    for parameter in inspect.signature(value).parameters.values():
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            (needed[parameter.name],) = ARGUMENTS[parameter.name]
    result = value(**needed)
    return await result if inspect.isawaitable(result) else result


@pytest.mark.parametrize("name", PUBLIC)
async def test_a_client_that_was_not_entered_says_so(name: str) -> None:
    client = BackpackClient(["SOL_USDC"], sandbox=True, follow_account=True)
    if name in ALWAYS:
        await use(client, name)
        return
    with pytest.raises(ClientClosed, match=BEFORE):
        await use(client, name)
    with pytest.raises(ClientClosed, match=BEFORE):
        await anext(client)


async def left(*, by: Callable[[], object] = lambda: None) -> BackpackClient:
    """A client whose block has ended."""
    client = BackpackClient(["SOL_USDC"], channels=["book"], sandbox=True, follow_account=True)

    def synced(event: Event) -> bool:
        return isinstance(event, BookSynced)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with client:
            async for event in client:
                if synced(event):
                    break
            while not client.account.live or not client.book("SOL_USDC").live:
                await anext(client)
            by()
    return client


async def test_a_client_that_was_left_says_so_and_lets_what_was_known_be_read() -> None:
    client = await left()
    for name in PUBLIC:
        if name in ALWAYS | AFTERWARDS:
            await use(client, name)
            continue
        with pytest.raises(ClientClosed, match=AFTER):
            await use(client, name)
    assert client.markets["SOL-USDC"].symbol == "SOL_USDC"
    assert not client.book("SOL_USDC").live
    assert not client.account.live
    assert not client.health.healthy
    assert [event async for event in client][-1:] != [None]
    with pytest.raises(ClientClosed, match=r"^the client has been entered before"):
        async with client:
            pass


async def test_nothing_is_live_after_a_block_that_an_error_ended() -> None:
    seen: list[BackpackClient] = []
    client = BackpackClient(["SOL_USDC"], channels=["book"], sandbox=True, follow_account=True)
    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(ZeroDivisionError):
        async with client:
            async for _ in client:
                if client.account.live and client.book("SOL_USDC").live:
                    seen.append(client)
                    raise ZeroDivisionError
    assert seen == [client]
    assert not client.book("SOL_USDC").live
    assert not client.account.live
    assert not client.health.healthy
    with pytest.raises(ClientClosed, match=AFTER):
        await client.get_time()


async def test_a_client_that_could_not_be_entered_says_so() -> None:
    client = BackpackClient(["SOL_USDX"], sandbox=True)
    with pytest.raises(KeyError, match=r"^'SOL_USDX' is not a market of the exchange; did you mean SOL_USDC"):
        async with client:
            pass
    with pytest.raises(ClientClosed, match=AFTER):
        await client.get_time()


async def test_after_closing_inside_the_block_calls_are_refused() -> None:
    async with BackpackClient(["SOL_USDC"], sandbox=True) as client:
        await client.aclose()
        with pytest.raises(ClientClosed, match=AFTER):
            await client.subscribe(["trades"], ["SOL_USDC"])
        with pytest.raises(ClientClosed, match=AFTER):
            client.fills()


async def test_subscriptions_are_checked_as_arguments_are() -> None:
    async with BackpackClient(sandbox=True) as client:
        with pytest.raises(ConfigurationError, match=r"^channels: a list of texts"):
            await client.subscribe("trades", ["SOL_USDC"])
        with pytest.raises(ConfigurationError, match=r"^symbols: a list of texts"):
            await client.unsubscribe(["trades"], "SOL_USDC")
        with pytest.raises(ConfigurationError, match=r"^channels: trades without symbols"):
            await client.subscribe(["trades"], [])
        with pytest.raises(ConfigurationError, match=r"^account: it is not followed; make the client with follow_account=True"):
            _ = client.account
        with pytest.raises(ConfigurationError, match=r"^order: a NewOrder, such as NewOrder\.limit\(\.\.\.\), got 'SOL_USDC'$"):
            await client.place("SOL_USDC")  # type: ignore[arg-type]  # the point


async def test_books_that_were_unsubscribed_are_let_go_of() -> None:
    """A client that subscribes and unsubscribes all day holds the books that it has, and no others."""

    def views() -> int:
        gc.collect()
        return sum(isinstance(one, BookView) for one in gc.get_objects())

    others = views()
    async with BackpackClient(["SOL_USDC"], channels=["book"], sandbox=True) as client:
        assert client.book("SOL-USDC") is client.book("SOL_USDC"), "always the same object"
        for _ in range(10):
            before = client.book("SOL_USDC")
            await client.unsubscribe(["book"], ["SOL_USDC"])
            await client.subscribe(["book"], ["SOL_USDC"])
            assert client.book("SOL_USDC") is not before
            assert not before.live
            del before
        assert views() == others + 1
