"""`backpack-feed account`: what an account holds and does, as it happens."""

from __future__ import annotations

import os
from collections import deque
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import NamedTuple

import anyio
from rich.console import Console, Group
from rich.live import Live

from backpack_proto.account.values import Fill, Filled
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.inputs import Argument
from backpack_proto.rest.codec import DepthSnapshot
from backpack_runtime.client import BackpackClient
from backpack_runtime.key_sources import Keys
from backpack_runtime.network.addresses import REST_URL, WS_URL
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.transport import system_now

from .events import json_lines
from .output import Printer
from .running import run_until_signalled
from .views.account import NOTICES, ROWS, TOLD, event_line, tables

__all__ = ["AccountOptions", "follow"]

SCREEN_SECONDS = 0.25
TRADE_SECONDS = 0.5
TRADED_SYMBOLS = ("SOL_USDC", "SOL_USDC_PERP")
MOST_OPEN_ORDERS = 8


class AccountOptions(NamedTuple):
    """What the command line says."""

    sandbox: bool
    rest_url: str | None
    ws_url: str | None
    ca_file: Path | None
    minimum_tls: str | None
    proxies: Proxies
    runtime: str
    seconds: float | None
    """None: until a signal comes."""
    as_json: bool
    trade: bool


def follow(options: AccountOptions, keys: Keys | None, *, backend: str) -> int:
    """Show an account on standard output until the time is over or a signal comes; returns the exit code.

    `keys` are those of the account, None for that of the sandbox.

    Raises:
        LocalProtocolError: there is no private key, or the options are impossible.
        InvalidKey: a key is malformed or does not belong to the private key.
        BackpackError: the exchange cannot be reached.
        OSError: the output cannot be written.
    """
    client = _client(options, _credentials(keys))

    async def body() -> None:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(client)
            except LocalProtocolError:
                raise
            except BackpackError as error:
                exchange = "the sandbox" if options.sandbox else options.rest_url or REST_URL
                raise BackpackError(f"{exchange} cannot be used: {error}") from None
            tasks = await stack.enter_async_context(anyio.create_task_group())
            if options.trade:
                tasks.start_soon(_trade, client)
            with anyio.move_on_after(options.seconds):
                await _show(client, options)
            tasks.cancel_scope.cancel()

    return run_until_signalled(body, backend=backend)


def _credentials(keys: Keys | None) -> Credentials:
    if keys is None:
        return Credentials(THROWAWAY_SECRET)
    if keys.private_key is None:
        raise LocalProtocolError("no private key: BACKPACK_PRIVATE_KEY, --key-file or a terminal to ask on; or --sandbox")
    return Credentials(
        keys.private_key.reveal(),
        api_key=None if keys.api_key is None else keys.api_key.reveal(),
        public_key=None if keys.public_key is None else keys.public_key.reveal(),
    )


def _client(options: AccountOptions, credentials: Credentials) -> BackpackClient:
    try:
        return BackpackClient(
            (),
            channels=(),
            sandbox=options.sandbox,
            rest_url=options.rest_url or REST_URL,
            ws_url=options.ws_url or WS_URL,
            ca_file=options.ca_file,
            minimum_tls=options.minimum_tls,
            proxies=options.proxies,
            runtime=options.runtime,
            signer=Signer(credentials),
            follow_account=True,
        )
    except OSError as error:
        raise LocalProtocolError(f"{options.ca_file} cannot be used: {error}") from None


async def _show(client: BackpackClient, options: AccountOptions) -> None:
    console = Console()
    if options.as_json:
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
            live.update(Group(*tables(client.account, fills, notice)), refresh=True)
            with anyio.move_on_after(SCREEN_SECONDS) as scope:
                async for event in client:
                    if isinstance(event, Filled):
                        fills.appendleft(event.fill)
                    elif isinstance(event, NOTICES):
                        notice = event_line(event, unix_us=system_now().unix_us)
            if not scope.cancelled_caught:
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
