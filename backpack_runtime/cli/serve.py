"""`backpack-feed serve`: a dashboard for the browser, with metrics, health, events and books beside it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import anyio

from backpack_proto.errors import ConfigurationError
from backpack_proto.outputs import MarketClosed, MarketOpened
from backpack_proto.streams.names import parse_channel
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.market_selection import CLOSED

from .complaints import complain
from .options import add_connection, add_faults, exchange_of, names, port, settings_of
from .output import Printer
from .running import enter, run_until_signalled

__all__ = ["DESCRIPTION", "add_arguments", "keep_tickers", "run"]

TICKER: Final = "ticker"
CHANNELS: Final = ("book", "trades", TICKER)
"""The page shows these."""
MARKETS: Final = ("SOL_USDC", "SOL_USDC_PERP", "BTC_USDC_PERP")
SANDBOX_MARKETS: Final = (
    *("SOL_USDC", "SOL_USDC_PERP", "BTC_USDC", "BTC_USDC_PERP"),
    *("AAPL.US_USDC_PERP", "kPEPE_USDC_PERP", "USDT_USDC", "HNT_USDC"),
)
"""The last one is closed for good."""
TOKEN: Final = "BACKPACK_FEED_TOKEN"  # noqa: S105 - the name of a variable

DESCRIPTION = (
    "Serve a live dashboard, /metrics, /health, /ready, /events and /books, for reading only. The first line of output is its address."
    " Private data of accounts are not served."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL",
        help=f"SOL_USDC or SOL-USDC (default: {', '.join(MARKETS)}; with --sandbox eight of its markets)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=port, default=8080, metavar="N", help="port, 0 for a free one (default: 8080)")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the token that readers have to show; else it comes from {TOKEN}, else one is made and printed on standard error where"
        " other machines can reach the server",
    )
    parser.add_argument(
        "--channels",
        type=names,
        default=(),
        metavar="NAME,...",
        help=f"more for /events, beside {', '.join(CHANNELS)}: book_ticker, klines.1m, mark_price, open_interest, liquidations",
    )
    add_connection(parser, sandbox="a simulated exchange that is started along", events=False, backends=False)
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Serve until the time is over or a signal comes, and return the exit code.

    Raises:
        LocalProtocolError: the options name something that does not exist.
        ConfigurationError: the options contradict each other.
        BackpackError: the exchange cannot be reached, or the address cannot be had.
        OSError: the output cannot be written.
        MissingExtra: aiohttp or prometheus-client is not installed.
    """
    from backpack_runtime.serving import (  # noqa: PLC0415 - an extra, which need not be installed
        bind,
        checked_token,
        make_app,
        new_token,
        serve_on,
    )

    if parsed.faults and not parsed.sandbox:
        raise ConfigurationError("--faults is about a simulated exchange: give --sandbox as well")
    if private := [name for name in parsed.channels if parse_channel(name).private]:
        raise ConfigurationError(f"--channels: private data are not served: leave out {', '.join(private)}")
    symbols = tuple(parsed.symbols) or (SANDBOX_MARKETS if parsed.sandbox else MARKETS)
    channels = tuple(dict.fromkeys((*CHANNELS, *parsed.channels)))
    client = BackpackClient(
        symbols,
        channels=[name for name in channels if name != TICKER],
        settings=settings_of(parsed),
        sandbox=parsed.sandbox,
        sandbox_faults=",".join(planned.text for planned in parsed.faults),
        on_event=_leave_to_readers,
    )
    given = _given_token(parsed)
    token = None if given is None else checked_token(given)

    async def body() -> None:
        # Whether there is room for the server is known before the exchange is asked.
        listening = await bind(parsed.host, parsed.port)
        async with AsyncExitStack() as stack:
            stack.callback(listening.socket.close)
            await enter(client, stack, exchange_of(parsed))
            needed = token
            if needed is None and not listening.on_loopback:
                needed = new_token()
                complain(f"other machines can reach this server, so a token is needed: {listening.url}?token={needed}", 0)
            hosts = listening.hosts(parsed.host)
            app = make_app(client, symbols=symbols, channels=channels, token=needed, hosts=hosts)
            await stack.enter_async_context(serve_on(listening, app))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(keep_tickers, client, symbols)
            await Printer().send(f"{listening.url}\n".encode())
            with anyio.move_on_after(parsed.seconds):
                await anyio.sleep_forever()
            tasks.cancel_scope.cancel()

    return run_until_signalled(body, backend="asyncio")


def _leave_to_readers(_: Event) -> None:
    """Keep no events: the server and its readers have streams of their own."""


async def keep_tickers(client: BackpackClient, symbols: Iterable[str]) -> None:
    """Have the tickers of open markets as they open and close: that of a closed one is silent, which would be held against its health."""
    async with client.stream(MarketClosed, MarketOpened) as changes:
        ids = {client.markets[symbol].symbol for symbol in symbols}
        followed = {symbol for symbol in ids if client.markets[symbol].order_book_state != CLOSED}
        if followed:
            await client.subscribe([TICKER], sorted(followed))
        async for change in changes:
            symbol = getattr(change, "symbol", None)
            if isinstance(change, MarketClosed) and symbol in followed:
                followed.discard(symbol)
                await client.unsubscribe([TICKER], [symbol])
            elif isinstance(change, MarketOpened) and symbol in ids - followed:
                followed.add(symbol)
                await client.subscribe([TICKER], [symbol])


def _given_token(parsed: argparse.Namespace) -> str | None:
    """Return the token of the file or of the environment, or None."""
    if parsed.token_file is None:
        text = os.environ.get(TOKEN)
        return None if text is None else text.strip()
    try:
        return str(parsed.token_file.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"--token-file: {str(parsed.token_file)!r} cannot be read: {reason}") from None
