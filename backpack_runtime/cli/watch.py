"""`backpack-feed watch`: market data on a terminal, in a log, or as JSON for another program."""

from __future__ import annotations

import argparse
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import anyio
from msgspec.structs import replace
from rich.console import Console, Group
from rich.live import Live

from backpack_proto.errors import ConfigurationError
from backpack_proto.outputs import BookSynced
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import parse_channel
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import SlowConsumer
from backpack_runtime.transport import system_now

from .events import decimal_places, json_lines
from .options import add_connection, add_faults, count, exchange_of, names, settings_of
from .output import Printer
from .running import enter, run_until_signalled
from .views.board import TRADES_KEPT, Board, Panel, Rate
from .views.terminal import Counters, plain_lines, screen

__all__ = ["DESCRIPTION", "add_arguments", "run"]

BATCH_EVENTS = 256
SCREEN_SECONDS = 0.25
LINE_SECONDS = 1.0


DESCRIPTION = "Show market data as they come: a live view on a terminal, a line a second elsewhere, or JSON."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL_USDC"], help="SOL_USDC or SOL-USDC (default: SOL_USDC)"
    )
    parser.add_argument(
        "--channels",
        type=names,
        default=("book", "trades"),
        metavar="NAME,...",
        help="book, book.200ms, trades, ticker, book_ticker, klines.1m, mark_price, open_interest, liquidations, stock_price (default: book,trades)",
    )
    parser.add_argument("--depth", type=count, default=10, metavar="N", help="levels a side (default: 10)")
    add_connection(parser, sandbox="a simulated exchange that is started along")
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Show market data on standard output until the time is over or a signal comes; returns the exit code.

    Raises:
        LocalProtocolError: the options name something that does not exist.
        ConfigurationError: the options contradict each other.
        BackpackError: the exchange cannot be reached.
        OSError: the output cannot be written.
    """
    if parsed.faults and not parsed.sandbox:
        raise ConfigurationError("--faults is about a simulated exchange: give --sandbox as well")
    client = BackpackClient(
        parsed.symbols,
        channels=parsed.channels,
        settings=settings_of(parsed),
        sandbox=parsed.sandbox,
        sandbox_faults=",".join(planned.text for planned in parsed.faults),
        book_levels=parsed.depth if parsed.json else 1,
        slow_consumer=SlowConsumer.BLOCK if parsed.json else SlowConsumer.CONFLATE,
    )

    async def body() -> None:
        async with AsyncExitStack() as stack:
            await enter(client, stack, exchange_of(parsed))
            with anyio.move_on_after(parsed.seconds):
                await _show(client, parsed)

    return run_until_signalled(body, backend=parsed.backend)


async def _show(client: BackpackClient, parsed: argparse.Namespace) -> None:
    if parsed.json:
        await _show_json(client, parsed.depth)
        return
    console = Console()
    board = _board(client, parsed)
    if os.isatty(1) and console.is_terminal and not console.is_dumb_terminal:
        await _show_screen(client, board, console, parsed.depth)
    else:
        await _show_lines(client, board)


async def _show_json(client: BackpackClient, depth: int) -> None:
    output = Printer()
    batch: list[Event] = []
    async for event in client:
        if isinstance(event, BookSynced):
            # It has every level, of use only to who has the deltas of the changes, too.
            event = replace(event, bids=event.bids[:depth], asks=event.asks[:depth])  # noqa: PLW2901 - the same, cut off
        batch.append(event)
        if len(batch) >= BATCH_EVENTS or not client.delivery.waiting:
            await output.send(json_lines(batch))
            batch.clear()


async def _show_screen(client: BackpackClient, board: Board, console: Console, depth: int) -> None:
    rate = Rate()
    with ExitStack() as stack:
        if os.isatty(2):
            stack.enter_context(_log_to(board))
        live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        while True:
            width, height = console.size
            picture = screen(board, _counters(client, rate), width=width, height=height, depth=depth)
            live.update(Group(*picture), refresh=True)
            if not await _listen(client, board, SCREEN_SECONDS):
                return


async def _show_lines(client: BackpackClient, board: Board) -> None:
    output = Printer()
    rate = Rate()
    while await _listen(client, board, LINE_SECONDS):
        lines = plain_lines(board, _counters(client, rate), unix_us=system_now().unix_us)
        await output.send("".join(f"{line}\n" for line in lines).encode())


async def _listen(client: BackpackClient, board: Board, seconds: float) -> bool:
    """Let the board take events for a while; whether there will be more of them."""
    with anyio.move_on_after(seconds):
        async for event in client:
            board.take(event)
        return False
    return True


def _board(client: BackpackClient, parsed: argparse.Namespace) -> Board:
    channels = {parse_channel(channel).channel for channel in parsed.channels}
    # Channels about stocks have symbols that are in no list of markets.
    markets = {symbol: client.markets.get(symbol) for symbol in parsed.symbols}
    return Board(
        Panel(symbol)
        if market is None
        else Panel(
            market.symbol,
            price_decimals=decimal_places(market.tick_size),
            quantity_decimals=decimal_places(market.step_size),
            book=client.book(market.symbol) if Channel.DEPTH in channels else None,
            trades=deque(maxlen=TRADES_KEPT) if Channel.TRADE in channels else None,
        )
        for symbol, market in markets.items()
    )


def _counters(client: BackpackClient, rate: Rate) -> Counters:
    metrics = client.metrics
    return Counters(
        rate=rate.update(metrics.ws_messages, system_now().mono_us),
        resyncs=metrics.orderbook_resyncs,
        dropped=metrics.dropped_messages,
        latency_us=metrics.engine_to_receipt_p50_us,
        books=metrics.books,
        troubles=client.health.reasons,
    )


class _Notices(logging.Handler):
    """Shows the log where it does not tear up the picture."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.notice = self.format(record)


@contextmanager
def _log_to(board: Board) -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_Notices(board)]
    try:
        yield
    finally:
        root.handlers[:] = before
