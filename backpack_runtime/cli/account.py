"""`backpack-feed account`: an account and its changes, live."""

from __future__ import annotations

import argparse
import os
from collections import deque
from contextlib import AsyncExitStack
from decimal import Decimal
from random import Random

import anyio
from rich.console import Console, Group
from rich.live import Live

from backpack_proto.account.values import AccountStale, Fill, Filled
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, BackpackError, ConfigurationError
from backpack_proto.http import Argument
from backpack_proto.outputs import StreamsRefused
from backpack_proto.rest.codec import DepthSnapshot, refused_as_expired, refused_authentication
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import SlowConsumer
from backpack_runtime.transport import system_now

from .drawing import draw
from .events import json_lines
from .options import (
    KEYS_COME_FROM,
    add_connection,
    add_key_file,
    credentials_of,
    exchange_of,
    keys_of,
    refuse_with_sandbox,
    settings_of,
)
from .output import Printer
from .running import enter, run_until_signalled
from .views.account import NOTICES, ROWS, TOLD, event_line, tables

__all__ = ["DESCRIPTION", "add_arguments", "run"]

SCREEN_SECONDS = 0.25
TRADE_SECONDS = 0.5
TRADED_SYMBOLS = ("SOL_USDC", "SOL_USDC_PERP")
MOST_OPEN_ORDERS = 8


DESCRIPTION = (
    "Show margin, balances, positions, open orders, fills and funding as they change: tables on a terminal, lines elsewhere, or JSON."
    f" It ends with exit code 1 when the exchange refuses the keys. {KEYS_COME_FROM}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--trade", action="store_true", help="with --sandbox: place orders, so that there is something to see")
    add_key_file(parser)
    add_connection(parser, sandbox="a simulated exchange that is started along, and its account")


def run(parsed: argparse.Namespace) -> int:
    """Show an account on standard output until the time is over or a signal comes. Returns the exit code.

    Raises:
        ConfigurationError: there is no private key, or the options contradict each other.
        InvalidKey: a key is malformed or does not belong to the private key.
        BackpackError: the exchange cannot be reached, or refuses the keys.
        OSError: the output cannot be written.
    """
    refuse_with_sandbox(parsed, "key-file")
    if parsed.trade and not parsed.sandbox:
        raise ConfigurationError("--trade is for the --sandbox only: give both")
    settings = settings_of(parsed)
    credentials = Credentials(THROWAWAY_SECRET) if parsed.sandbox else credentials_of(keys_of(parsed))
    client = BackpackClient(
        settings=settings,
        sandbox=parsed.sandbox,
        signer=Signer(credentials),
        follow_account=True,
        slow_consumer=SlowConsumer.BLOCK if parsed.json else SlowConsumer.CONFLATE,
    )

    async def body() -> None:
        async with AsyncExitStack() as stack:
            await enter(client, stack, exchange_of(parsed))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(_check_keys, client, credentials, exchange_of(parsed))
            if parsed.trade:
                tasks.start_soon(_trade, client)
            with anyio.move_on_after(parsed.seconds):
                await _show(client, as_json=parsed.json)
            tasks.cancel_scope.cancel()

    return run_until_signalled(body, backend=parsed.backend)


async def _show(client: BackpackClient, *, as_json: bool) -> None:
    console = Console()
    if as_json:
        await _show_json(client)
    elif os.isatty(1) and console.is_terminal and not console.is_dumb_terminal:
        await _show_screen(client, console)
    else:
        await _show_lines(client)


async def _show_json(client: BackpackClient) -> None:
    output = Printer()
    async for event in client:
        await output.send(json_lines([event]))


async def _show_lines(client: BackpackClient) -> None:
    output = Printer()
    async for event in client:
        if isinstance(event, TOLD):
            await output.send(f"{event_line(event, unix_us=system_now().unix_us)}\n".encode())


async def _show_screen(client: BackpackClient, console: Console) -> None:
    fills: deque[Fill] = deque(maxlen=ROWS)
    notice = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            picture = tables(client.account, fills, notice, markets=client.markets, width=console.width)
            draw(live, Group(*picture))
            with anyio.move_on_after(SCREEN_SECONDS) as scope:
                async for event in client:
                    if isinstance(event, Filled):
                        fills.appendleft(event.fill)
                    elif isinstance(event, NOTICES):
                        notice = event_line(event, unix_us=system_now().unix_us)
            if not scope.cancelled_caught:
                return


async def _check_keys(client: BackpackClient, credentials: Credentials, exchange: str) -> None:
    """Ask with the keys at the start, and again when the exchange refuses the streams of the account or the account is stale.

    A refusal as too old is a matter of clocks, which the client sets right, and no other failure is about the keys.

    Raises:
        BackpackError: the exchange refuses the keys.
    """
    async with client.stream(StreamsRefused, AccountStale) as events:
        await _ask(client, credentials, exchange)
        async for event in events:
            if not isinstance(event, StreamsRefused) or event.authentication:
                await _ask(client, credentials, exchange)


async def _ask(client: BackpackClient, credentials: Credentials, exchange: str) -> None:
    try:
        await client.call("balances")
    except ApiError as refusal:
        if refused_authentication(refusal) and not refused_as_expired(refusal):
            raise BackpackError(
                f"{exchange} refused the API key {credentials.api_key}: {refusal}; is it one of this account, and not deleted?"
            ) from None
    except BackpackError:
        # The exchange cannot be reached, which the view says.
        return


async def _trade(client: BackpackClient) -> None:
    """Give the sandbox's account something to do: orders near the touch, of which some trade, and cancels."""
    random = Random(1)  # noqa: S311 - a demonstration
    while True:
        await anyio.sleep(TRADE_SECONDS)
        if not client.account.live:
            continue
        symbol = random.choice(TRADED_SYMBOLS)
        orders = list(client.account.open_orders.values())
        try:
            if len(orders) > MOST_OPEN_ORDERS:
                await client.call("cancel_order", {"symbol": orders[0].symbol, "orderId": orders[0].order_id})
            else:
                await client.call("place_order", await _order(client, symbol, random))
        except BackpackError:
            # An order that has just traded cannot be cancelled, and one may cost more than there is left.
            continue


async def _order(client: BackpackClient, symbol: str, random: Random) -> dict[str, Argument]:
    depth = await client.call("depth", {"symbol": symbol, "limit": 5})
    if not isinstance(depth, DepthSnapshot):
        raise TypeError("the depth endpoint gives a DepthSnapshot")
    side = random.choice(("Bid", "Ask"))
    away = Decimal(random.randrange(-2, 12)) / 100
    price = max(bid for bid, _ in depth.bids) - away if side == "Bid" else min(ask for ask, _ in depth.asks) + away
    quantity = Decimal(random.randrange(1, 200)) / 100
    return {"symbol": symbol, "side": side, "orderType": "Limit", "price": price, "quantity": quantity}
