"""`backpack-feed watch`: market data on a terminal, in a log, or as JSON for another program."""

from __future__ import annotations

import argparse
import os
from collections import deque
from contextlib import AsyncExitStack

import anyio
from msgspec.structs import replace
from rich.console import Console

from backpack_proto.errors import ConfigurationError
from backpack_proto.outputs import BookSynced
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import parse_channel
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import SlowConsumer
from backpack_runtime.transport import system_now

from .events import decimal_places, json_lines
from .live_view import show_live
from .options import add_connection, add_faults, add_markets, count, exchange_of, settings_of
from .output import Printer
from .running import enter, run_until_signalled
from .views.board import TRADES_KEPT, Board, Panel
from .views.terminal import Counters, plain_lines
from .views.traffic import Rate, TrafficMeter

__all__ = ["DESCRIPTION", "add_arguments", "run"]

BATCH_EVENTS = 256
LINE_SECONDS = 1.0


DESCRIPTION = "Show market data as they come: a live view on a terminal, a line a second elsewhere, or JSON."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_markets(
        parser,
        channels="book, book.200ms, trades, ticker, book_ticker, klines.1m, mark_price, open_interest, liquidations, stock_price",
    )
    parser.add_argument("--depth", type=count, default=10, metavar="N", help="levels a side (default: 10)")
    add_connection(parser, sandbox="a simulated exchange that is started along")
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Show market data on standard output until the time is over or a signal comes. Returns the exit code.

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
    if os.isatty(1) and console.is_terminal and not console.is_dumb_terminal:
        await _show_screen(client, parsed, console)
    else:
        await _show_lines(client, _board(client, parsed, ticks=False), raw=bool(parsed.verbose))


async def _show_screen(client: BackpackClient, parsed: argparse.Namespace, console: Console) -> None:
    board = _board(client, parsed, ticks=True)
    # The last price and its change are of the ticker. Channels about stocks have symbols that it does not take.
    if symbols := [symbol for symbol, panel in board.panels.items() if panel.ticks]:
        await client.subscribe([Channel.TICKER], symbols)
    rate, traffic = Rate(), TrafficMeter(board.symbol_of)
    await show_live(
        client, board, console, lambda: _counters(client, board, rate, traffic), depth=parsed.depth, raw=bool(parsed.verbose)
    )


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


async def _show_lines(client: BackpackClient, board: Board, *, raw: bool) -> None:
    output = Printer()
    rate = Rate()
    while await _listen(client, board, LINE_SECONDS):
        now = system_now()
        lines = plain_lines(board, _counters(client, board, rate), unix_us=now.unix_us, mono_us=now.mono_us, raw=raw)
        await output.send("".join(f"{line}\n" for line in lines).encode())


async def _listen(client: BackpackClient, board: Board, seconds: float) -> bool:
    """Let the board take events for a while, and return whether there will be more of them."""
    with anyio.move_on_after(seconds):
        async for event in client:
            board.take(event, system_now().mono_us)
        return False
    return True


def _board(client: BackpackClient, parsed: argparse.Namespace, *, ticks: bool) -> Board:
    """Return the board of the markets that were asked for. With `ticks` their tickers are followed in any case."""
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
            ticks=ticks,
            shows_day=Channel.TICKER in channels,
        )
        for symbol, market in markets.items()
    )


def _counters(client: BackpackClient, board: Board, rate: Rate, traffic: TrafficMeter | None = None) -> Counters:
    metrics, mono_us = client.metrics, system_now().mono_us
    # A market that is closed has no ticker, and may be without one.
    expected = {f"stream {Channel.TICKER}.{symbol} is silent" for symbol, panel in board.panels.items() if panel.closed}
    return Counters(
        rate=rate.update(metrics.ws_messages, mono_us),
        resyncs=metrics.orderbook_resyncs,
        dropped=metrics.dropped_messages,
        p50_us=metrics.engine_to_receipt_p50_us,
        p99_us=metrics.engine_to_receipt_p99_us,
        books=metrics.books,
        troubles=[reason for reason in client.health.reasons if reason not in expected],
        markets={} if traffic is None else traffic.update(metrics.streams, mono_us),
    )
