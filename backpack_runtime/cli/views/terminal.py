"""The live view as lines of text, of exactly the width and height that the terminal has.

Each market has a cell: a title, a line on the state of its book, the ladder, the tape. Cells stand side by side, and in rows where
the terminal is high enough; markets without room are counted, not shown. Things keep their place from one picture to the next,
and nothing is coloured that cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import NamedTuple

from rich.text import Text

from backpack_proto.decoding import sane
from backpack_proto.metrics import BooksSnapshot
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Trade
from backpack_proto.text import printable
from backpack_runtime.books import BookView
from backpack_runtime.cli.events import decimal_places, time_of_day

from .board import Board, Panel

__all__ = ["Counters", "number", "plain_lines", "screen"]

CELL_WIDTH = 34
"""What a ladder or a tape needs; narrower ones are cut off."""
CELL_HEIGHT = 12
LADDER_WIDTH = 56
"""A bar that is longer than this says no more."""
TAPE_LINES = 6
STATUS_LINES = 2
SEPARATOR = " │ "
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Counters(NamedTuple):
    """What the status lines say beside the state of books and connection."""

    rate: float
    """Messages a second."""
    resyncs: int
    dropped: int
    latency_us: int | None
    """Median from the matching engine to here, at the most."""
    books: BooksSnapshot = BooksSnapshot()
    troubles: Sequence[str] = ()
    """Reasons why not all is well."""


def screen(board: Board, counters: Counters, *, width: int, height: int, depth: int) -> list[Text]:
    """The whole picture: `height` lines of `width` characters, ladders of at most `depth` levels a side."""
    panels = list(board.panels.values())
    room = max(height - STATUS_LINES, 1)
    columns = max(min(len(panels), (width + len(SEPARATOR)) // (CELL_WIDTH + len(SEPARATOR))), 1)
    rows = max(min(-(-len(panels) // columns), room // CELL_HEIGHT), 1)
    columns = min(columns, -(-len(panels) // rows))
    shown = panels[: columns * rows]
    cell_width = (width + len(SEPARATOR)) // columns - len(SEPARATOR)
    cell_height = room // rows
    lines: list[Text] = []
    for first in range(0, len(shown), columns):
        cells = [_cell(panel, cell_width, cell_height, depth) for panel in shown[first : first + columns]]
        lines += [_side_by_side(parts) for parts in zip(*cells, strict=True)]
    lines += [Text()] * (room - len(lines))
    lines += _status(board, counters, hidden=len(panels) - len(shown))
    return [_fit(line, width) for line in lines[-height:]]


def number(value: Decimal, decimals: int) -> str:
    """A decimal for people: at least so many decimals, and thousands apart."""
    if not sane(value):
        return str(value)
    return f"{value:,.{max(decimals, decimal_places(value))}f}"


def plain_lines(board: Board, counters: Counters, *, unix_us: int) -> list[str]:
    """The same for what is no terminal: one line a market."""
    return [printable(f"{time_of_day(unix_us)} {_plain_line(board, panel, counters)}", None) for panel in board.panels.values()]


def _plain_line(board: Board, panel: Panel, counters: Counters) -> str:
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
    parts.append("online" if board.connection_fault is None else f"offline ({board.connection_fault})")
    if started := _started(counters.books):
        parts.append(started)
    parts.append(f"{counters.rate:,.0f} msg/s, {counters.resyncs} resyncs, {counters.dropped} dropped")
    return "  ".join(parts)


def _word(panel: Panel, book: BookView) -> str:
    """Return how a book is, in a word and the reason."""
    if book.live:
        return "verified" if panel.run.verified else "live"
    return "CLOSED" if panel.closed else f"STALE ({panel.run.reason})"


def _cell(panel: Panel, width: int, height: int, depth: int) -> list[Text]:
    beside = panel.book is not None and panel.trades is not None and width >= 2 * CELL_WIDTH + len(SEPARATOR)
    left = min((width - len(SEPARATOR)) // 2 if beside else width, LADDER_WIDTH)
    lines = [_title(panel, left), _state(panel)]
    room = max(height - len(lines), 0)
    facts = [_fact(label, text) for label, text in sorted(panel.facts.items())][:room]
    if panel.book is None:
        lines += facts + _tape(panel, room - len(facts))
    elif beside:
        ladder = _ladder(panel, panel.book, left, min((room - 1) // 2, depth))
        right = facts + _tape(panel, room - len(facts))
        pairs = islice(zip_longest(ladder, right, fillvalue=Text()), room)
        lines += [_side_by_side([_fit(one, left), two], "   ") for one, two in pairs]
    else:
        tape = min(TAPE_LINES, room // 3) if panel.trades is not None else 0
        lines += _ladder(panel, panel.book, left, min((room - len(facts) - tape - 1) // 2, depth))
        lines += facts
        lines += _tape(panel, height - len(lines))
    lines += [Text()] * (height - len(lines))
    return [_fit(line, width) for line in lines[:height]]


def _title(panel: Panel, width: int) -> Text:
    title = Text(printable(panel.symbol), style="bold")
    if panel.book is None:
        return title
    if panel.book.live:
        mark = Text("● verified", "green") if panel.run.verified else Text("○ live", "cyan")
    else:
        mark = Text(" CLOSED " if panel.closed else " STALE ", "black on yellow")
    title.truncate(max(width - mark.cell_len - 1, 0), overflow="ellipsis", pad=True)
    return Text.assemble(title, " ", mark)


def _state(panel: Panel) -> Text:
    if panel.book is None:
        return Text()
    if not panel.book.live:
        return Text("the market is closed" if panel.closed else printable(panel.run.reason), "yellow")
    return Text(f"id {panel.book.last}  {time_of_day(panel.book.engine_us, digits=3)}", "dim")


def _ladder(panel: Panel, book: BookView, width: int, levels: int) -> list[Text]:
    """Asks above, bids below, the spread between them on the same line whatever there is of either."""
    levels = max(levels, 1)
    asks, bids = book.asks(levels), book.bids(levels)
    largest = max((quantity for _, quantity in (*asks, *bids)), default=Decimal(0))
    texts = [
        (number(price, panel.price_decimals), number(quantity, panel.quantity_decimals)) for price, quantity in (*asks, *bids)
    ]
    price_width = max([10, *(len(price) for price, _ in texts)])
    quantity_width = max([12, *(len(quantity) for _, quantity in texts)])
    bar_width = max(width - price_width - quantity_width - 3, 0)
    lines: list[Text] = []
    for (price, quantity), level in zip(texts, (*asks, *bids), strict=True):
        side = "red" if len(lines) < len(asks) else "green"
        bar = _bar(level[1], largest, bar_width)
        # A stale book is shown, but looks like what it is.
        styles = (side, "", side) if book.live else ("dim", "dim", "dim")
        lines.append(
            Text.assemble(
                (f"{price:>{price_width}}", styles[0]), (f" {quantity:>{quantity_width}}  ", styles[1]), (bar, styles[2])
            )
        )
    above, below = [Text()] * (levels - len(asks)), [Text()] * (levels - len(bids))
    spread = _spread(panel, asks, bids, price_width)
    return [*above, *reversed(lines[: len(asks)]), spread, *lines[len(asks) :], *below]


def _spread(panel: Panel, asks: Sequence[Level], bids: Sequence[Level], price_width: int) -> Text:
    if not asks or not bids:
        return Text()
    ask, bid = asks[0][0], bids[0][0]
    text = f"{number(ask - bid, panel.price_decimals):>{price_width}}"
    if sane(ask) and sane(bid):
        text += f" {(ask - bid) / (ask + bid) * 20_000:>12.2f} bp"
    return Text(text, "dim")


def _bar(quantity: Decimal, largest: Decimal, width: int) -> str:
    if not (sane(quantity) and sane(largest) and largest):
        return ""
    full, part = divmod(round(float(quantity / largest) * width * 8), 8)
    return (EIGHTHS[8] * full + EIGHTHS[part]).rstrip()


def _tape(panel: Panel, height: int) -> list[Text]:
    """The last trades under their heading; the colour is that of the aggressor."""
    if panel.trades is None or height < 1:
        return []
    heading = Text(f"{'UTC':<8} {'price':>10} {'quantity':>12}", "dim")
    return [heading, *(_trade(panel, trade) for trade in islice(panel.trades, height - 1))]


def _trade(panel: Panel, trade: Trade) -> Text:
    return Text.assemble(
        (f"{time_of_day(trade.engine_us)} ", "dim"),
        (f"{number(trade.price, panel.price_decimals):>10}", "red" if trade.buyer_is_maker else "green"),
        f" {number(trade.quantity, panel.quantity_decimals):>12}",
    )


def _fact(label: str, text: str) -> Text:
    return Text.assemble((f"{printable(label)} ", "dim"), printable(text))


def _status(board: Board, counters: Counters, *, hidden: int) -> list[Text]:
    books = [panel for panel in board.panels.values() if panel.book is not None]
    stale = sum(not panel.book.live for panel in books if panel.book is not None)
    verified = sum(panel.book.live and panel.run.verified for panel in books if panel.book is not None)
    up = board.connection_fault is None
    parts = [
        Text("● online", "green") if up else Text("● offline", "red"),
        Text(f"{counters.rate:,.0f} msg/s"),
    ]
    if started := _started(counters.books):
        parts.append(Text(started, "yellow"))
    if books:
        parts.append(Text(f"{verified}/{len(books)} verified", "" if verified == len(books) else "cyan"))
        parts.append(Text(f"{stale} stale", "yellow" if stale else ""))
    parts.append(Text(f"{counters.resyncs} resyncs"))
    if counters.dropped:
        parts.append(Text(f"{counters.dropped} dropped", "yellow"))
    if counters.latency_us is not None:
        parts.append(Text(f"p50 ≤ {counters.latency_us / 1000:,.0f} ms"))
    if hidden:
        parts.append(Text(f"{hidden} not shown", "yellow"))
    trouble = (
        board.connection_fault
        if board.connection_fault is not None
        else (counters.troubles[0] if counters.troubles else board.notice)
    )
    more = f" (and {len(counters.troubles) - 1} more)" if up and len(counters.troubles) > 1 else ""
    return [Text("  ").join(parts), Text(printable(trouble) + more, "yellow" if trouble else "")]


def _started(books: BooksSnapshot) -> str:
    """Say how many of several books are live, and how long the others wait at least; empty when all are."""
    wanted = books.wanted - books.closed
    if wanted < 2 or books.live >= wanted:
        return ""
    left = f", {books.remaining_us / 1e6:,.0f} s more" if books.remaining_us >= 1_000_000 else ""
    return f"{books.live} of {wanted} books live{left}"


def _side_by_side(parts: Iterable[Text], separator: str = SEPARATOR) -> Text:
    # As a part with a style, for the style of the whole separator would become that of the whole line.
    return Text.assemble((separator, "dim")).join(parts)


def _fit(text: Text, width: int) -> Text:
    """A copy of a line, exactly so wide."""
    line = text.copy()
    line.truncate(max(width, 0), overflow="ellipsis", pad=True)
    return line
