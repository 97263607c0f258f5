"""A trading program that is killed, and the same program after its restart: each runs in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio
from anyio.to_thread import run_sync

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError
from backpack_proto.orders.intents import JournalRow
from backpack_proto.orders.resolution import OrderUnresolved
from backpack_proto.rest.new_order import NewOrder
from backpack_runtime.client import BackpackClient
from backpack_runtime.orders.journal import Journal
from backpack_runtime.settings import Settings

__all__ = ["Account", "Trader", "held", "plain", "restart", "trade"]

WINDOW_MS = 1_000
PATIENCE_SECONDS = 60.0


class Trader(NamedTuple):
    """What a trading program is given."""

    settings: Settings
    secret: str
    journal: Path
    state: Path
    seed: int
    writes_left: int | None = None
    """It kills itself behind so many writes of orders to the journal, before they leave, or None where it is killed from outside."""


class Account(NamedTuple):
    """What a program knows of its account, as plain text."""

    orders: dict[str, tuple[str, str]]
    """State and executed quantity of each open order, by id."""
    balances: dict[str, tuple[str, str]]
    """Available and locked, by asset. Those that are not zero."""
    unknown: list[str]
    """Orders whose outcome could not be found out, and why."""
    outcomes: dict[int, str]
    """How it ended with each order that had no outcome, by client id."""


def trade(trader: Trader, channel: Connection) -> None:
    """Trade until killed."""
    os.environ["BACKPACK_STATE_DIR"] = str(trader.state)
    if trader.writes_left is not None:
        _die_behind(trader.writes_left)
    anyio.run(_trade, trader, channel)


def restart(trader: Trader, channel: Connection) -> None:
    """Find out what became of the orders of the killed program, tell of the account, and take all orders off the book."""
    os.environ["BACKPACK_STATE_DIR"] = str(trader.state)
    anyio.run(_restart, trader, channel)


def _client(trader: Trader, **more: Any) -> BackpackClient:
    signer = Signer(Credentials(trader.secret), window_ms=WINDOW_MS)
    return BackpackClient(channels=(), settings=trader.settings, signer=signer, journal=trader.journal, **more)


async def _trade(trader: Trader, channel: Connection) -> None:
    random = Random(trader.seed)
    durability = random.choice(["process", "process", "machine"])
    async with _client(trader, durability=durability) as client:
        depth = await client.get_depth("SOL_USDC", limit=5)
        best_bid = depth.bids[0].price
        channel.send("trading")
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(_place_for_ever, client, best_bid, Random(trader.seed * 3 + number))


async def _place_for_ever(client: BackpackClient, best_bid: Decimal, random: Random) -> None:
    while True:
        try:
            match random.randrange(5):
                case 0:
                    await client.place(NewOrder.market("SOL_USDC", random.choice(["Bid", "Ask"]), quantity="0.01"))
                case 1:
                    await client.place_orders([_rest(best_bid, random) for _ in range(random.randrange(1, 6))])
                case 2:
                    await client.cancel_all_orders("SOL_USDC")
                case _:
                    await client.place(_rest(best_bid, random))
        except BackpackError:
            pass  # refused, or without an answer: the restart finds out
        # Several programs share a machine.
        await anyio.sleep(random.uniform(0, 0.01))


def _rest(best_bid: Decimal, random: Random) -> NewOrder:
    price = (best_bid * Decimal(random.randrange(80, 98)) / 100).quantize(Decimal("0.1"))
    return NewOrder.limit("SOL_USDC", "Bid", price=price, quantity="0.01", post_only=True)


async def _restart(trader: Trader, channel: Connection) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with _client(trader, follow_account=True, cancel_on_exit="all") as client:
            resolutions = await client.resolve(wait=True)
            while not client.account.live:
                await anext(client)
            account = client.account
            channel.send(
                Account(
                    orders={
                        order_id: (order.state, plain(order.executed_quantity or Decimal()))
                        for order_id, order in account.open_orders.items()
                    },
                    balances=held(account.balances),
                    unknown=[
                        f"{one.intent.client_id}: {one.reason}" for one in resolutions if isinstance(one, OrderUnresolved)
                    ],
                    outcomes={one.intent.client_id: type(one).__name__ for one in resolutions},
                )
            )
            # It is compared before anything is changed.
            await run_sync(channel.recv)
            depth = await client.get_depth("SOL_USDC", limit=5)
            placed = await client.place(_rest(depth.bids[0].price, Random(trader.seed)))
            channel.send(placed.client_id)


def held(balances: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what is available and locked of each asset that is held."""
    return {
        asset: (plain(balance.available), plain(balance.locked))
        for asset, balance in balances.items()
        if balance.available or balance.locked
    }


def plain(amount: Decimal) -> str:
    """Return an amount in one form."""
    return format(amount.normalize(), "f")


def _die_behind(writes: int) -> None:
    write, left = Journal.write, [writes]

    def written(journal: Journal, rows: Sequence[JournalRow]) -> None:
        write(journal, rows)
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.write = written  # type: ignore[assignment,method-assign]
