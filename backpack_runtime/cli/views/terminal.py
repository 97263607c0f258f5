"""The live view as lines of text, of exactly the width and height that the terminal has.

A picture is made of values alone: the board, the counters, the part that is looked at, the size and the moment. Markets stand side by
side, and in rows, where all of them have room. Otherwise they are a list, with the chosen one below it. Those without room are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Final, NamedTuple

from rich.text import Text

from backpack_proto.metrics import BooksSnapshot
from backpack_proto.text import printable
from backpack_runtime.cli.events import time_of_day

from .board import Board, Connection, Panel, ShownBook
from .cell import CELL_HEIGHT, CELL_WIDTH, ShownMarket, cell
from .help import help_lines
from .lines import SEPARATOR, Part, duration, fit, fitting, number, side_by_side
from .listing import listing
from .navigation import ShownPage, View, matching
from .traffic import Traffic
from .troubles import in_words

__all__ = ["Counters", "Moment", "Picture", "connection_words", "plain_lines", "screen"]

STATUS_LINES: Final = 2
LISTED_AT_LEAST: Final = 3
DETAIL_AT_LEAST: Final = 6
"""Lines below which the chosen market has no part of its own beside the list."""
QUIET_US: Final = 5_000_000
"""Without a message for so long, a market that has one every second is not trusted."""


class Counters(NamedTuple):
    """Figures of the status lines beside the state of books and connection."""

    rate: float
    """Messages a second."""
    resyncs: int
    dropped: int
    p50_us: int | None
    """Upper bound of the median from the matching engine to here."""
    p99_us: int | None = None
    books: BooksSnapshot = BooksSnapshot()
    troubles: Sequence[str] = ()
    """Reasons why not all is well."""
    markets: Mapping[str, Traffic] = MappingProxyType({})


class Moment(NamedTuple):
    """The state that a picture of the markets shows, at one moment: now, or when the picture was paused."""

    board: Board
    counters: Counters
    mono_us: int


class Picture(NamedTuple):
    """Lines for the terminal, and how much of the board they have."""

    lines: list[Text]
    page: ShownPage


def screen(
    now: Moment, view: View, *, width: int, height: int, depth: int, paused: Moment | None = None, raw: bool = False
) -> Picture:
    """Return the whole picture: `height` lines of `width` characters, ladders of at most `depth` levels a side.

    While `paused` has the moment at which the picture was paused the markets are those of that moment, and dim. The last two lines are
    always about now. With `raw` the reason of a lost connection is shown as the system says it, too.
    """
    shown = now if paused is None else paused
    found = matching(list(shown.board.panels), view.filter)
    markets = [_market(shown, shown.board.panels[symbol], paused=paused is not None) for symbol in found]
    room = max(height - STATUS_LINES, 1)
    body, page = _body(markets, view, width, room, depth)
    if paused is not None:
        body = [Text(line.plain, "dim") for line in body]
    if view.help:
        body = help_lines(width, room, keys=view.keys)
    elif not markets:
        body = [Text(printable(f"no market has {view.filter!r} in its name; Esc shows all"), "yellow")]
    lines = [*body[:room], *[Text()] * (room - len(body))]
    lines += _status(now, view, page, width, paused_us=None if paused is None else paused.mono_us)
    lines += [_bottom(now, view, page, width, raw=raw)]
    return Picture([fit(line, width) for line in lines[-height:]], page)


def _market(moment: Moment, panel: Panel, *, paused: bool) -> ShownMarket:
    traffic = moment.counters.markets.get(panel.symbol)
    online = moment.board.connection.fault is None
    trusted = not paused and online
    if panel.book is not None:
        trusted = trusted and panel.book.live
    elif panel.ticks:
        trusted = trusted and traffic is not None and traffic.age_us < QUIET_US
    return ShownMarket(panel, traffic, trusted, online, moment.mono_us)


def _body(markets: Sequence[ShownMarket], view: View, width: int, room: int, depth: int) -> tuple[list[Text], ShownPage]:
    """Return the lines of the markets: all side by side, or a list and the chosen one."""
    count = len(markets)
    columns = max(min(count, (width + len(SEPARATOR)) // (CELL_WIDTH + len(SEPARATOR))), 1)
    rows = max(min(-(-count // columns), room // CELL_HEIGHT), 1)
    columns = max(min(columns, -(-count // rows)), 1)
    if count > columns * rows:
        return _list(markets, view, width, room, depth)
    cell_width = (width + len(SEPARATOR)) // columns - len(SEPARATOR)
    lines: list[Text] = []
    for first in range(0, count, columns):
        cells = [cell(market, cell_width, room // rows, depth) for market in markets[first : first + columns]]
        lines += [side_by_side(parts) for parts in zip(*cells, strict=True)]
    return lines, ShownPage(markets=count, rows=max(count, 1))


def _list(markets: Sequence[ShownMarket], view: View, width: int, room: int, depth: int) -> tuple[list[Text], ShownPage]:
    heading = room > 2
    rows = min(len(markets), max(room // 3, LISTED_AT_LEAST))
    detail = room - rows - 2
    if detail < DETAIL_AT_LEAST:
        rows, detail = min(len(markets), room - heading), 0
    chosen = min(view.selected, len(markets) - 1)
    first = min(chosen // rows * rows, len(markets) - rows)
    lines = listing(markets[first : first + rows], chosen - first, width, heading=heading)
    if detail:
        lines += [Text("─" * width, "dim"), *cell(markets[chosen], width, detail, depth)]
    return lines, ShownPage(markets=len(markets), rows=rows)


def _status(now: Moment, view: View, page: ShownPage, width: int, *, paused_us: int | None) -> list[Text]:
    """Return the line of figures, of which the most important ones stay on a narrow terminal."""
    board, counters = now.board, now.counters
    up = board.connection.fault is None
    books = [panel for panel in board.panels.values() if panel.book is not None]
    stale = sum(not panel.book.live for panel in books if panel.book is not None)
    verified = sum(panel.book.live and panel.run.verified for panel in books if panel.book is not None)
    calm = "" if up else "dim"
    # That it is paused is said at every width, and a lost connection once more in the last line.
    parts = [Part(Text("● online", "green") if up else Text("● offline", "red"), 0 if paused_us is None else 1)]
    if paused_us is not None:
        parts.append(Part(Text(f" PAUSED {duration(now.mono_us - paused_us)} ago ", "black on yellow")))
    hidden = page.markets - page.rows
    if hidden > 0:
        parts.append(Part(Text(f"{hidden} more market{'s' if hidden > 1 else ''}", "yellow"), 2))
    if view.filter:
        parts.append(Part(Text(printable(f"/{view.filter}: {page.markets} of {len(board.panels)}"), "yellow"), 3))
    parts.append(Part(Text(f"{counters.rate:,.0f} msg/s", calm), 6))
    if started := _started(counters.books):
        parts.append(Part(Text(started, "yellow"), 5))
    if books:
        parts.append(Part(Text(f"{verified}/{len(books)} verified", calm if verified == len(books) else "cyan"), 7))
        parts.append(Part(Text(f"{stale} stale", "yellow" if stale else calm), 4))
    parts.append(Part(Text(f"{counters.resyncs} resyncs", calm), 9))
    if counters.dropped:
        parts.append(Part(Text(f"{counters.dropped} dropped", "yellow"), 5))
    if counters.p50_us is not None:
        parts.append(Part(Text(f"p50 ≤ {counters.p50_us / 1000:,.0f} ms", calm), 8))
    if counters.p99_us is not None:
        parts.append(Part(Text(f"p99 ≤ {counters.p99_us / 1000:,.0f} ms", calm), 8))
    if view.keys:
        parts.append(Part(Text("? help", "dim"), 10))
    return [fitting(parts, width)]


def _bottom(now: Moment, view: View, page: ShownPage, width: int, *, raw: bool) -> Text:
    """Return the last line: the filter while it is typed, the lost connection, or the first of other troubles."""
    board, troubles = now.board, now.counters.troubles
    if view.typing:
        return Text.assemble(
            (printable(f"/{view.filter}"), "bold"),
            "▏ ",
            (f"{page.markets} of {len(board.panels)} markets; Enter keeps it, Esc shows all", "dim"),
        )
    if board.connection.fault is not None:
        return Text(printable(connection_words(board.connection, now.mono_us, raw=raw, width=width)), "yellow")
    trouble = troubles[0] if troubles else board.notice
    more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    return Text(printable(trouble) + more, "yellow" if trouble else "")


def connection_words(connection: Connection, mono_us: int, *, raw: bool = False, width: int | None = None) -> str:
    """Return why there is no connection and when the next attempt is made, in words. It is empty while there is one.

    Where `width` is too small for both, when comes before why.
    """
    fault = connection.fault
    if fault is None or not connection.attempt:
        return fault or ""
    left_s = ceil((connection.retry_at_us - mono_us) / 1e6)
    when = f"{f'next attempt in {left_s} s' if left_s > 0 else 'trying again'} (attempt {connection.attempt})"
    why = fault if connection.typed else in_words(fault)
    said = f" [{fault}]" if raw and why != fault else ""
    lost = "connection lost" if width is None or len(f"connection lost, {when}") <= width else "lost"
    return f"{lost}, {when}: {why}{said}"


def plain_lines(board: Board, counters: Counters, *, unix_us: int, mono_us: int, raw: bool = False) -> list[str]:
    """Return the same where there is no terminal: one line a market."""
    online = "online"
    if board.connection.fault is not None:
        online = f"offline ({connection_words(board.connection, mono_us, raw=raw)})"
    return [
        printable(f"{time_of_day(unix_us)} {_plain_line(panel, counters, online)}", None) for panel in board.panels.values()
    ]


def _plain_line(panel: Panel, counters: Counters, online: str) -> str:
    parts = [panel.symbol]
    if panel.book is not None:
        tops = [
            "none"
            if level is None
            else f"{number(level[0], panel.price_decimals)} * {number(level[1], panel.quantity_decimals)}"
            for level in (panel.book.best_bid, panel.book.best_ask)
        ]
        parts += [" / ".join(tops), _word(panel, panel.book)]
    if panel.trades:
        trade = panel.trades[0]
        side = "sold" if trade.buyer_is_maker else "bought"
        parts.append(
            f"last {side} {number(trade.quantity, panel.quantity_decimals)} at {number(trade.price, panel.price_decimals)}"
        )
    parts += [f"{label} {text}" for label, text in sorted(panel.facts.items())]
    parts.append(online)
    if started := _started(counters.books):
        parts.append(started)
    parts.append(f"{counters.rate:,.0f} msg/s, {counters.resyncs} resyncs, {counters.dropped} dropped")
    return "  ".join(parts)


def _word(panel: Panel, book: ShownBook) -> str:
    """Return how a book is, in a word and the reason."""
    if book.live:
        return "verified" if panel.run.verified else "live"
    return "CLOSED" if panel.closed else f"STALE ({panel.run.reason})"


def _started(books: BooksSnapshot) -> str:
    """Say how many of several books are live, and how long the others wait at least. It is empty when all are."""
    wanted = books.wanted - books.closed
    if wanted < 2 or books.live >= wanted:
        return ""
    left = f", {books.remaining_us / 1e6:,.0f} s more" if books.remaining_us >= 1_000_000 else ""
    return f"{books.live} of {wanted} books live{left}"
