"""The picture of the live view in docs/terminal.md, made of markets that are drawn from a seed: `python tests/support/terminal_picture.py --write`."""

from __future__ import annotations

import io
import re
import sys
from collections import deque
from decimal import Decimal
from html import unescape
from pathlib import Path
from random import Random
from typing import NamedTuple

from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from backpack_proto.book.levels import Book
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.machine import Now
from backpack_proto.outputs import BookDesynced, BookVerified, ConnectionUp
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Ticker, Trade
from backpack_runtime.books import BookView
from backpack_runtime.cli.views.board import Board, Panel
from backpack_runtime.cli.views.navigation import View
from backpack_runtime.cli.views.terminal import Counters, Moment, Picture, screen
from backpack_runtime.cli.views.traffic import Traffic

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "terminal.svg"
WIDTH, HEIGHT = 108, 26
ENGINE_US = 1_800_000_061_000_000
MONO_US = 300_000_000
STALE = "BTC_USDC_PERP"
THEME = TerminalTheme(
    (17, 21, 28),
    (214, 219, 226),
    [
        (17, 21, 28),
        (240, 98, 90),
        (72, 199, 116),
        (230, 180, 80),
        (97, 150, 255),
        (190, 130, 240),
        (86, 200, 214),
        (214, 219, 226),
    ],
)


class Listed(NamedTuple):
    """A market of the picture."""

    symbol: str
    price: str
    tick: str
    change: str
    rate: float


LISTED = (
    Listed("SOL_USDC", "99.15", "0.01", "0.0041", 140.2),
    Listed("BTC_USDC_PERP", "86626.9", "0.1", "-0.0015", 0.0),
    Listed("ETH_USDC_PERP", "3120.44", "0.01", "0.0223", 88.4),
    Listed("AAPL.US_USDC_PERP", "340.39", "0.01", "-0.0230", 35.1),
    Listed("kPEPE_USDC_PERP", "0.011424", "0.000001", "0.0871", 21.7),
)


def picture() -> Picture:
    """Return the lines of the live view: a list of markets, one of them stale, and the chosen one below."""
    random = Random(7)
    board = Board(_panel(listed, random) for listed in LISTED)
    board.take(ConnectionUp(attempt=1), 0)
    for listed in LISTED:
        stream = f"depth.{listed.symbol}"
        board.take(BookVerified(stream=stream, symbol=listed.symbol, last=1, against="bookTicker"), 0)
        _prices(board, listed, random)
    error = RemoteProtocolError("x")
    board.take(
        BookDesynced(
            stream=f"depth.{STALE}", symbol=STALE, last=1, reason="ids 5 to 7 are missing", diverged=False, error=error
        ),
        MONO_US,
    )
    counters = Counters(
        rate=263.4,
        resyncs=1,
        dropped=0,
        p50_us=4_095,
        p99_us=21_000,
        markets={one.symbol: Traffic(one.rate, 7_400_000 if one.symbol == STALE else 120_000) for one in LISTED},
    )
    return screen(Moment(board, counters, MONO_US), View(keys=True), width=WIDTH, height=HEIGHT, depth=7)


def svg() -> str:
    """Return the picture as SVG that loads nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Group(*picture().lines))
    drawn = console.export_svg(title="backpack-feed watch", theme=THEME, unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def lines_of(drawn: str) -> list[str]:
    """Return the text of such a picture, line by line, without colours and blanks."""
    found: dict[int, str] = {}
    for number, text in re.findall(r'<text [^>]*clip-path="url\(#terminal-line-(\d+)\)"[^>]*>([^<]*)</text>', drawn):
        found[int(number)] = found.get(int(number), "") + unescape(text)
    return ["".join(found[number].split()) for number in sorted(found)]


def _panel(listed: Listed, random: Random) -> Panel:
    price, tick = Decimal(listed.price), Decimal(listed.tick)
    decimals = -int(tick.as_tuple().exponent)
    sides = [
        [Level(price + way * tick * step, Decimal(random.randrange(200, 36_000)) / 100) for step in range(start, 12)]
        for way, start in ((-1, 0), (1, 1))
    ]
    book = Book(listed.symbol, bids=sides[0], asks=sides[1], last=5_827_112_452, engine_us=ENGINE_US)
    book.confirmed_us = None if listed.symbol == STALE else 0
    panel = Panel(listed.symbol, decimals, 2, book=BookView(book, lambda: Now(0, 0)), trades=deque(), ticks=True)
    panel.shows_day = False
    return panel


def _prices(board: Board, listed: Listed, random: Random) -> None:
    price, tick = Decimal(listed.price), Decimal(listed.tick)
    walked = [price]
    while len(walked) < 59:
        walked.append(walked[-1] + tick * random.randrange(-2, 3))
    for number, at in enumerate(reversed(walked), 1):
        board.take(_trade(listed.symbol, at, random, 5 * number), 5_000_000 * number)
    first = price / (1 + Decimal(listed.change))
    board.take(
        Ticker(
            emitted_us=ENGINE_US,
            symbol=listed.symbol,
            first_price=first,
            last_price=price,
            high=price,
            low=first,
            volume=Decimal(1),
            quote_volume=Decimal(1),
            trade_count=1,
        ),
        MONO_US,
    )


def _trade(symbol: str, price: Decimal, random: Random, seconds: int) -> Trade:
    return Trade(
        emitted_us=ENGINE_US,
        symbol=symbol,
        engine_us=ENGINE_US + (seconds - 300) * 1_000_000,
        trade_id=seconds,
        price=price,
        quantity=Decimal(random.randrange(1, 9_000)) / 100,
        buyer_is_maker=random.random() < 0.5,
        buyer_order_id="1",
        seller_order_id="2",
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(svg(), encoding="utf-8")
    else:
        print("\n".join(line.plain for line in picture().lines))
