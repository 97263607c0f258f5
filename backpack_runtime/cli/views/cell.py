"""One market: a title, its prices in short, the state of its book, the ladder, the tape.

Things keep their place from one picture to the next, and only figures that can be trusted are coloured.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Final, NamedTuple

from rich.text import Text

from backpack_proto.decoding import sane
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Trade
from backpack_proto.text import printable
from backpack_runtime.cli.events import time_of_day

from .board import Panel, ShownBook, percent
from .lines import GAP, SEPARATOR, Part, duration, fit, fitting, number, side_by_side
from .prices import sparkline
from .traffic import Traffic

__all__ = ["CELL_HEIGHT", "CELL_WIDTH", "ShownMarket", "cell", "change_of", "mark_of"]

CELL_WIDTH: Final = 34
"""Width that a ladder or a tape needs. Narrower ones are cut off."""
CELL_HEIGHT: Final = 13
LADDER_WIDTH: Final = 56
"""A bar that is longer than this says no more."""
TAPE_LINES: Final = 6
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
SPARK_WIDTHS: Final = (6, 24)
"""Blocks of a sparkline, at least and at most."""


class ShownMarket(NamedTuple):
    """One market at the moment of the picture."""

    panel: Panel
    traffic: Traffic | None
    trusted: bool
    online: bool
    mono_us: int


def cell(market: ShownMarket, width: int, height: int, depth: int) -> list[Text]:
    """Return so many lines of this width, with ladders of at most `depth` levels a side."""
    panel = market.panel
    beside = panel.book is not None and panel.trades is not None and width >= 2 * CELL_WIDTH + len(SEPARATOR)
    left = min((width - len(SEPARATOR)) // 2 if beside else width, LADDER_WIDTH)
    lines = [_title(panel, left), _summary(market, width), _state(market)]
    room = max(height - len(lines), 0)
    facts = [_fact(label, text, trusted=market.trusted) for label, text in sorted(panel.facts.items())][:room]
    if panel.book is None:
        lines += facts + _tape(market, room - len(facts))
    elif beside:
        ladder = _ladder(market, panel.book, left, min((room - 1) // 2, depth))
        right = facts + _tape(market, room - len(facts))
        pairs = islice(zip_longest(ladder, right, fillvalue=Text()), room)
        lines += [side_by_side([fit(one, left), two], "   ") for one, two in pairs]
    else:
        tape = min(TAPE_LINES, room // 3) if panel.trades is not None else 0
        lines += _ladder(market, panel.book, left, min((room - len(facts) - tape - 1) // 2, depth))
        lines += facts
        lines += _tape(market, height - len(lines))
    lines += [Text()] * (height - len(lines))
    return [fit(line, width) for line in lines[:height]]


def mark_of(panel: Panel, *, short: bool = False) -> Text:
    """Return how the book of a market is, in a word, or in a sign where it is well. It is empty where there is no book."""
    if panel.book is None:
        return Text()
    if panel.book.live:
        sign, word, style = ("●", " verified", "green") if panel.run.verified else ("○", " live", "cyan")
        return Text(sign if short else sign + word, style)
    word = "CLOSED" if panel.closed else "STALE"
    return Text(word if short else f" {word} ", "black on yellow")


def change_of(market: ShownMarket) -> Text:
    """Return the change within 24 hours, which is red or green only while it can be trusted."""
    change = market.panel.change
    if change is None:
        return Text("-", "dim")
    side = "red" if change < 0 else "green"
    return Text(percent(change, ".2f"), side if market.trusted else "dim")


def _title(panel: Panel, width: int) -> Text:
    title = Text(printable(panel.symbol), style="bold")
    mark = mark_of(panel)
    if not mark:
        return title
    title.truncate(max(width - mark.cell_len - 1, 0), overflow="ellipsis", pad=True)
    return Text.assemble(title, " ", mark)


def _summary(market: ShownMarket, width: int) -> Text:
    """Return the last price, its change and its way, rate and age of messages, as far as they are known."""
    panel, traffic = market.panel, market.traffic
    parts: list[Part] = []
    if panel.last is not None:
        last = number(panel.last, panel.price_decimals)
        parts.append(Part(Text(last, "bold" if market.trusted else "dim")))
    if panel.change is not None:
        parts.append(Part(change_of(market), 1))
    if traffic is not None:
        parts.append(Part(Text(f"{traffic.rate:,.0f}/s", "dim"), 3))
        parts.append(Part(Text(duration(traffic.age_us), "dim"), 2))
    if panel.last is not None:
        taken = sum(part.text.cell_len + GAP for part in parts)
        line = sparkline(panel.prices.latest(min(max(width - taken, SPARK_WIDTHS[0]), SPARK_WIDTHS[1]), market.mono_us))
        parts.append(Part(Text(line, "cyan" if market.trusted else "dim"), 4))
    return fitting(parts, width)


def _state(market: ShownMarket) -> Text:
    panel = market.panel
    if panel.book is None:
        silent = panel.ticks and not market.trusted and market.traffic is not None
        return Text("STALE: nothing has come lately", "yellow") if silent else Text()
    if not panel.book.live:
        if not market.online:
            return Text("the connection is lost", "yellow")
        return Text("the market is closed" if panel.closed else printable(panel.run.reason), "yellow")
    return Text(f"id {panel.book.last}  {time_of_day(panel.book.engine_us, digits=3)}", "dim")


def _ladder(market: ShownMarket, book: ShownBook, width: int, levels: int) -> list[Text]:
    """Return asks above, bids below, the spread between them on the same line however many there are of either."""
    panel, levels = market.panel, max(levels, 1)
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
        # A stale book is shown, but looks stale.
        styles = (side, "", side) if market.trusted else ("dim", "dim", "dim")
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


def _tape(market: ShownMarket, height: int) -> list[Text]:
    """Return the last trades under their heading, in the colour of the aggressor."""
    if market.panel.trades is None or height < 1:
        return []
    heading = Text(f"{'UTC':<8} {'price':>10} {'quantity':>12}", "dim")
    return [heading, *(_trade(market, trade) for trade in islice(market.panel.trades, height - 1))]


def _trade(market: ShownMarket, trade: Trade) -> Text:
    panel, side = market.panel, "red" if trade.buyer_is_maker else "green"
    return Text.assemble(
        (f"{time_of_day(trade.engine_us)} ", "dim"),
        (f"{number(trade.price, panel.price_decimals):>10}", side if market.trusted else "dim"),
        (f" {number(trade.quantity, panel.quantity_decimals):>12}", "" if market.trusted else "dim"),
    )


def _fact(label: str, text: str, *, trusted: bool) -> Text:
    return Text.assemble((f"{printable(label)} ", "dim"), (printable(text), "" if trusted else "dim"))
