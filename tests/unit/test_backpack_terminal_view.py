"""The picture of the live view, which is made of values: board, counters, view, size and moment."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from decimal import Decimal

import msgspec
import pytest
from msgspec import structs
from rich.text import Text

from backpack_proto.book.levels import Book
from backpack_proto.decoding import decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.exchange.market.listings import LISTINGS, market_object
from backpack_proto.metrics import BooksSnapshot, StreamMetrics
from backpack_proto.outputs import (
    BookDesynced,
    BookSynced,
    BookUnavailable,
    BookVerified,
    ConnectionDown,
    ConnectionUp,
    MarketClosed,
    StreamLive,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.markets import Market
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import Frame, decode_frame
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import (
    BookTicker,
    Event,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    StockPrice,
    StockQuotes,
    Ticker,
    Trade,
)
from backpack_runtime.books import BookView
from backpack_runtime.cli.views.board import Board, Panel
from backpack_runtime.cli.views.lines import number
from backpack_runtime.cli.views.navigation import ShownPage, View
from backpack_runtime.cli.views.prices import PriceHistory, sparkline
from backpack_runtime.cli.views.terminal import Counters, Moment, Picture, plain_lines, screen
from backpack_runtime.cli.views.traffic import Rate, Traffic, TrafficMeter
from backpack_runtime.cli.views.troubles import in_words
from backpack_runtime.transport import system_now
from payload_table import FRAMES

D = Decimal
ENGINE_US = 1_800_000_061_000_000  # 08:01:01 UTC
STREAM = "depth.SOL_USDC"
CALM = Counters(rate=212.4, resyncs=0, dropped=0, p50_us=4095, p99_us=21_000)


def levels(*pairs: tuple[str, str]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(quantity)) for price, quantity in pairs)


BIDS = levels(("99.11", "10"), ("99.10", "2.5"))
ASKS = levels(("99.12", "1E+5"), ("99.13", "1E-8"))
TRADE = Trade(
    emitted_us=ENGINE_US + 5,
    symbol="SOL_USDC",
    engine_us=ENGINE_US,
    trade_id=12,
    price=D("99.11"),
    quantity=D("0.50"),
    buyer_is_maker=True,
    buyer_order_id="18446744073709551617",
    seller_order_id="4",
)
TICKER = Ticker(
    emitted_us=ENGINE_US,
    symbol="SOL_USDC",
    first_price=D(100),
    last_price=D("98.5"),
    high=D("101.19"),
    low=D("97.38"),
    volume=D("15089.56"),
    quote_volume=D("1498114.9"),
    trade_count=6796,
)


def a_panel(symbol: str = "SOL_USDC", *, live: bool = True, depth: int = 12, trades: int = 30) -> Panel:
    book = Book(
        symbol,
        bids=[Level(D("99.11") - D("0.01") * step, step + 1) for step in range(depth)],
        asks=[Level(D("99.12") + D("0.01") * step, step + 1) for step in range(depth)],
        last=4_330_361_024,
        engine_us=ENGINE_US,
    )
    book.confirmed_us = 0 if live else None
    return Panel(symbol, price_decimals=2, quantity_decimals=2, book=BookView(book, system_now), trades=deque([TRADE] * trades))


def a_board(*panels: Panel) -> Board:
    board = Board(panels)
    board.take(ConnectionUp(attempt=1), 0)
    return board


def shot(
    board: Board,
    width: int,
    height: int,
    *,
    depth: int = 10,
    counters: Counters = CALM,
    view: View = View(),  # noqa: B008 - a value that nothing changes
    mono_us: int = 0,
    paused: Moment | None = None,
    raw: bool = False,
) -> Picture:
    now = Moment(board, counters, mono_us)
    return screen(now, view, width=width, height=height, depth=depth, paused=paused, raw=raw)


def picture(board: Board, width: int, height: int, *, depth: int = 10, counters: Counters = CALM) -> list[str]:
    return [line.plain for line in shot(board, width, height, depth=depth, counters=counters).lines]


def styles(lines: Iterable[Text]) -> set[str]:
    """The styles of all that is not blank."""
    spans = [span for line in lines for span in line.spans if line.plain[span.start : span.end].strip()]
    return {style for line in lines for style in str(line.style).split()} | {str(span.style) for span in spans} - {""}


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (300, 20), (34, 40), (20, 10), (5, 5), (80, 3), (80, 1), (1, 1)])
@pytest.mark.parametrize("markets", [1, 2, 3, 8])
def test_a_picture_fills_the_terminal_exactly(size: tuple[int, int], markets: int) -> None:
    width, height = size
    panels = [a_panel(f"MARKET{index}_USDC", live=index % 2 == 0, depth=index * 3) for index in range(markets)]
    panels[0].facts["24h"] = "much too long for a narrow terminal, but somewhere it has to stand"
    lines = shot(a_board(*panels), width, height).lines
    assert [line.cell_len for line in lines] == [width] * height


def test_one_market_on_a_small_terminal() -> None:
    board = a_board(a_panel())
    board.take(BookVerified(stream=STREAM, symbol="SOL_USDC", last=1, against="bookTicker"), 0)
    board.take(structs.replace(TRADE, price=D("99.11")), 0)
    board.take(TICKER, 5_000_000)
    calm = CALM._replace(markets={"SOL_USDC": Traffic(rate=42.4, age_us=340_000)})
    shown = shot(board, 80, 11, depth=2, counters=calm, mono_us=5_000_000)
    lines = [line.plain.rstrip() for line in shown.lines]
    assert lines == [
        "SOL_USDC                    ● verified",
        "98.50  -1.50 %  42/s  0.3 s                        █▁",
        "id 4330361024  08:01:01.000",
        "     99.13         2.00  █████████████   24h 98.5 -1.50 % low 97.38 high 101.19…",
        "     99.12         1.00  ██████▌         UTC           price     quantity",
        "      0.01         1.01 bp               08:01:01      99.11         0.50",
        "     99.11         1.00  ██████▌         08:01:01      99.11         0.50",
        "     99.10         2.00  █████████████   08:01:01      99.11         0.50",
        "                                         08:01:01      99.11         0.50",
        "● online  212 msg/s  1/1 verified  0 stale  0 resyncs  p50 ≤ 4 ms  p99 ≤ 21 ms",
        "",
    ]


def test_markets_side_by_side_have_each_its_own_style() -> None:
    panels = [a_panel("M0"), a_panel("M1", live=False)]
    lines = shot(a_board(*panels), 80, 24).lines[:-2]
    assert {str(line.style) for line in lines} == {""}
    styles = [{str(span.style) for span in line.spans if span.end > span.start} for line in lines[3:13]]
    assert all(style == {"red", "dim"} for style in styles[:6])


def test_a_stale_book_looks_stale() -> None:
    board = a_board(a_panel())
    error = RemoteProtocolError("x")
    board.take(BookVerified(stream=STREAM, symbol="SOL_USDC", last=1, against="bookTicker"), 0)
    board.take(
        BookDesynced(stream=STREAM, symbol="SOL_USDC", last=1, reason="ids 5 to 7 are missing", diverged=False, error=error), 0
    )
    board.panels["SOL_USDC"].trades = None
    live = shot(board, 60, 24).lines
    assert " red" in "".join(f" {span.style}" for line in live for span in line.spans)
    book = board.panels["SOL_USDC"].book
    assert book is not None
    board.panels["SOL_USDC"].book = a_panel(live=False).book
    lines = shot(board, 60, 24).lines
    assert " STALE " in lines[0].plain
    assert "ids 5 to 7 are missing" in lines[2].plain
    ladder = [line for line in lines[3:-2] if line.plain.strip()]
    assert len(ladder) > 10
    assert {str(span.style) for line in ladder for span in line.spans} <= {"dim", ""}
    assert "0/1 verified  1 stale" in lines[-2].plain


def test_markets_without_room_are_a_list_and_counted() -> None:
    panels = [a_panel(f"M{index}") for index in range(9)]
    lines = picture(a_board(*panels), 80, 24)
    assert [line.split()[:2] for line in lines[:9]] == [
        ["market", "book"],
        ["▸", "M0"],
        *([f"M{index}", "○"] for index in range(1, 7)),
        ["─" * 80],
    ]
    assert lines[9].split() == ["M0", "○", "live"], "the chosen one has the rest of the terminal"
    assert "2 more markets" in lines[-2]
    assert "more market" not in picture(a_board(*panels), 200, 60)[-2], "all of them side by side"
    assert "1 more market " in picture(a_board(*panels[:8]), 80, 24)[-2]
    narrow = picture(a_board(*panels), 40, 17)
    assert "4 more markets" in narrow[-2], "also where little else has room"


def test_the_ladder_keeps_its_place_when_one_side_is_short() -> None:
    panel = a_panel(trades=0)
    whole = picture(a_board(panel), 60, 24, depth=5)
    spread = next(index for index, line in enumerate(whole) if " bp" in line)
    panel.book = BookView(Book("SOL_USDC", bids=BIDS, asks=ASKS[:1]), system_now)
    assert " bp" in picture(a_board(panel), 60, 24, depth=5)[spread]


def test_a_new_tick_changes_how_numbers_are_shown() -> None:
    board = a_board(a_panel())
    finer, coarser = (
        decode_json(json.dumps(market_object(listing)).encode(), Market, "market")
        for listing in (LISTINGS[0], msgspec.structs.replace(LISTINGS[0], ticks_per_price=10, lots_per_quantity=100))
    )
    board.take(MarketChanged(symbol="SOL_USDC", market=coarser, previous=finer), 0)
    panel = board.panels["SOL_USDC"]
    assert (panel.price_decimals, panel.quantity_decimals) == (1, 0)
    board.take(MarketChanged(symbol="SOL_USDC", market=finer, previous=coarser), 0)
    assert (panel.price_decimals, panel.quantity_decimals) == (2, 2)


def test_the_start_of_many_books_is_shown() -> None:
    starting = CALM._replace(books=BooksSnapshot(wanted=601, live=37, closed=1, queued=500, remaining_us=16_800_000))
    assert "37 of 600 books live, 17 s more" in picture(a_board(a_panel()), 120, 24, counters=starting)[-2]
    (line,) = plain_lines(a_board(a_panel()), starting, unix_us=ENGINE_US, mono_us=0)
    assert "37 of 600 books live, 17 s more" in line
    started = CALM._replace(books=BooksSnapshot(wanted=601, live=600, closed=1))
    assert "books live" not in picture(a_board(a_panel()), 120, 24, counters=started)[-2]


def test_a_lost_connection_and_other_troubles_are_said() -> None:
    board = a_board(a_panel())
    troubled = CALM._replace(troubles=("stream x is silent", "y"), dropped=3)
    lines = picture(board, 80, 24, counters=troubled)
    assert "3 dropped" in lines[-2]
    assert lines[-1].rstrip() == "stream x is silent (and 1 more)"
    board.take(ConnectionDown(reason="gone\x1b[2J", code=1006, retry_us=3_500_000), 0)
    lines = picture(board, 80, 24, counters=troubled)
    assert lines[-2].startswith("● offline")
    assert lines[-1].rstrip() == "connection lost, next attempt in 4 s (attempt 1): gone\\x1b[2J"


def test_the_countdown_of_a_lost_connection_is_in_words() -> None:
    board = a_board(a_panel())
    refused = "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 1)"
    for retry_s in (1, 2, 4):
        board.take(ConnectionDown(reason=refused, code=None, retry_us=retry_s * 1_000_000), 10_000_000)
    said = [shot(board, 90, 24, mono_us=mono_us).lines[-1].plain.rstrip() for mono_us in (10_000_001, 13_500_000, 14_000_000)]
    assert said == [
        "connection lost, next attempt in 4 s (attempt 3): the connection was refused",
        "connection lost, next attempt in 1 s (attempt 3): the connection was refused",
        "connection lost, trying again (attempt 3): the connection was refused",
    ]
    assert shot(board, 40, 24, mono_us=10_000_001).lines[-1].plain == "lost, next attempt in 4 s (attempt 3): …"
    assert refused in shot(board, 160, 24, mono_us=10_000_001, raw=True).lines[-1].plain
    (line,) = plain_lines(board, CALM, unix_us=ENGINE_US, mono_us=10_000_001)
    assert "offline (connection lost, next attempt in 4 s (attempt 3): the connection was refused)" in line
    board.take(ConnectionUp(attempt=4), 14_000_000)
    assert "lost" not in shot(board, 90, 24).lines[-1].plain


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ConnectionRefusedError: [Errno 111] Connection refused", "the connection was refused"),
        ("OSError: [Errno 101] Network is unreachable", "the network is unreachable"),
        ("OSError: [Errno 113] No route to host", "there is no route to it"),
        ("gaierror: [Errno -2] Name or service not known", "its name was not found (DNS)"),
        ("TimeoutError", "no answer in time"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "the other side broke the connection"),
        (
            "SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
            "TLS: its certificate is not trusted",
        ),
        ("SSLError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert", "TLS: no secure connection was agreed on"),
        ("OSError: [Errno 99] Cannot assign requested address", "Cannot assign requested address"),
        ("OSError", "the connection failed"),
        ("no data for 30 s", "no data for 30 s"),
        ("proxy socks5h://127.0.0.1:1 refused the connection", "proxy socks5h://127.0.0.1:1 refused the connection"),
        ("TimeoutError (through proxy http://127.0.0.1:1)", "no answer in time (through proxy http://127.0.0.1:1)"),
    ],
)
def test_errors_of_the_system_are_said_in_words(reason: str, words: str) -> None:
    assert in_words(reason) == words


def hostile_board() -> Board:
    names = ["SOL_USDC", "日本語日本語日本語_USDC", "\x1b[2J\u202eEVIL", "é" * 40, "👩‍👩‍👧‍👦_USDC", "a\u0301\u0301_X"]
    names += [f"M{index:03}_USDC_PERP" for index in range(100)]
    panels = [a_panel(name, live=index % 3 != 0, depth=index % 15, trades=index % 7) for index, name in enumerate(names)]
    board = a_board(*panels)
    for index, panel in enumerate(panels):
        panel.last, panel.change = D(10) ** (index % 19), D(index - 50) / 7
        panel.facts["mark"] = "日" * index
        panel.prices.note(panel.last, 0)
    return board


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("height", [1, 5, 10, 24, 50])
def test_no_line_is_wider_than_the_terminal_whatever_is_shown(width: int, height: int) -> None:
    board = hostile_board()
    traffic = {symbol: Traffic(123_456.7, 10**12) for symbol in board.panels}
    counters = CALM._replace(markets=traffic, troubles=("日本" * 100, "x"), dropped=10**9, books=BooksSnapshot(wanted=9))
    views = [View(selected=at, keys=True) for at in (0, 5, 50, 10**6)]
    views += [View(filter="日"), View(filter="none"), View(filter="x" * 40, typing=True), View(help=True, keys=True)]
    for view in views:
        for paused in (None, Moment(board.still(10), counters, -(10**10))):
            shown = shot(board, width, height, view=view, counters=counters, paused=paused)
            assert [line.cell_len for line in shown.lines] == [width] * height
            assert all(line.plain.isprintable() for line in shown.lines)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (20, ["market"]),
        (40, ["market", "book", "last"]),
        (60, ["market", "book", "last", "24 h", "5 s each"]),
        (80, ["market", "book", "last", "24 h", "5 s each", "msg/s", "age"]),
        (120, ["market", "book", "last", "24 h", "5 s each", "bid", "ask", "msg/s", "age"]),
        (200, ["market", "book", "last", "24 h", "5 s each", "bid", "ask", "msg/s", "age"]),
    ],
)
def test_columns_of_the_list_go_by_their_importance(width: int, columns: list[str]) -> None:
    panels = [a_panel(f"kPEPE{index:02}_USDC_PERP") for index in range(30)]
    heading = picture(a_board(*panels), width, 24)[0]
    assert [
        name for name in ("market", "book", "last", "24 h", "5 s each", "bid", "ask", "msg/s", "age") if name in heading
    ] == columns


def test_a_number_of_the_list_is_shown_whole_or_not_at_all() -> None:
    panels = [a_panel(f"M{index}") for index in range(30)]
    board = a_board(*panels)
    for panel in panels:
        panel.last = D("12345678901234567890.12")
    for width in range(14, 120):
        row = picture(board, width, 24)[1]
        assert "12,345,678" not in row or "12,345,678,901,234,567,890.12" in row


def test_nothing_is_bright_that_cannot_be_trusted() -> None:
    board = a_board(a_panel())
    board.take(TRADE, 0)
    board.take(TICKER, 0)
    assert {"red", "green"} <= styles(shot(board, 80, 30).lines[:-2])
    still = Moment(board.still(10), CALM, 0)
    assert styles(shot(board, 80, 30, paused=still).lines[:-2]) == {"dim"}
    board.take(ConnectionDown(reason="x", code=1006, retry_us=1), 0)
    board.panels["SOL_USDC"].book = a_panel(live=False).book
    assert styles(shot(board, 80, 30).lines[:-2]) <= {"dim", "bold", "yellow", "black on yellow"}
    several = Board([a_panel(f"M{index}", live=False) for index in range(40)])
    assert styles(shot(several, 200, 30).lines[:-2]) <= {"dim", "bold", "yellow", "black on yellow"}


def test_trades_without_a_book_are_dim_while_the_connection_is_lost() -> None:
    board = a_board(Panel("SOL_USDC", 2, 2, trades=deque([TRADE])))
    assert "red" in styles(shot(board, 60, 10).lines[:-2])
    board.take(ConnectionDown(reason="x", code=1006, retry_us=1), 0)
    assert styles(shot(board, 60, 10).lines[:-2]) == {"bold", "dim"}


def test_a_market_without_a_book_is_trusted_while_something_comes() -> None:
    panel = Panel("SOL_USDC", 2, 2, trades=deque(), ticks=True)
    board = a_board(panel)
    board.take(TRADE, 0)
    for age_us, trusted in ((1_000_000, True), (6_000_000, False)):
        counters = CALM._replace(markets={"SOL_USDC": Traffic(0.0, age_us)})
        lines = shot(board, 60, 10, counters=counters).lines
        assert ("red" in styles(lines[:-2])) is trusted
        assert ("STALE: nothing has come lately" in lines[2].plain) is not trusted


def test_a_paused_picture_stands_still_and_says_so() -> None:
    panel = a_panel()
    board = a_board(panel)
    board.take(TRADE, 0)
    still = Moment(board.still(10), CALM, 1_000_000)
    before = shot(board, 80, 24, mono_us=1_000_000, paused=still)
    panel.book = a_panel(depth=3).book
    board.take(structs.replace(TRADE, price=D("1.23")), 9_000_000)
    board.take(MarketClosed(symbol="SOL_USDC"), 9_000_000)
    board.take(BookSynced(stream=STREAM, symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=()), 9_000_000)
    after = shot(board, 80, 24, mono_us=9_000_000, paused=still)
    assert [line.plain for line in after.lines[:-2]] == [line.plain for line in before.lines[:-2]]
    assert " PAUSED 8.0 s ago " in after.lines[-2].plain
    assert "1.23" in "".join(picture(board, 80, 24))
    for width in (20, 40, 60):
        narrow = shot(board, width, 12, mono_us=9_000_000, paused=still)
        assert " PAUSED 8.0 s ago " in narrow.lines[-2].plain, "at every size"


def test_a_filter_shows_what_it_lets_through_and_how_many() -> None:
    board = a_board(*(a_panel(symbol) for symbol in ("SOL_USDC", "BTC_USDC", "SOL_USDC_PERP", "mSOL_USDC")))
    shown = shot(board, 80, 24, view=View(filter="Sol-usdc"))
    assert shown.page.markets == 3
    assert "/Sol-usdc: 3 of 4" in shown.lines[-2].plain
    assert not any("BTC" in line.plain for line in shown.lines)
    typed = shot(board, 80, 24, view=View(filter="btc", typing=True))
    assert typed.lines[-1].plain.startswith("/btc▏ 1 of 4 markets; Enter keeps it")
    none = shot(board, 80, 24, view=View(filter="xyz"))
    assert none.lines[0].plain.startswith("no market has 'xyz' in its name; Esc shows all")


def test_pages_follow_the_chosen_market() -> None:
    board = a_board(*(a_panel(f"M{index:03}") for index in range(100)))
    for selected in (0, 6, 7, 50, 99, 10**9):
        shown = shot(board, 80, 24, view=View(selected=selected))
        (row,) = [line.plain for line in shown.lines[:8] if line.plain.startswith("▸ ")]
        assert row.split()[1] == f"M{min(selected, 99):03}"
        assert shown.page == ShownPage(markets=100, rows=7)
        assert shown.lines[9].plain.split()[0] == row.split()[1]
        assert "93 more markets" in shown.lines[-2].plain


def test_the_help_has_every_key_and_says_nothing_of_keys_that_are_not_read() -> None:
    board = a_board(a_panel())
    lines = [line.plain.rstrip() for line in shot(board, 80, 24, view=View(help=True, keys=True)).lines]
    assert {"q", "?", "/", "p"} <= {line.split()[0] for line in lines if line}
    assert any(line.startswith("↑ ↓ k j ") for line in lines)
    lines = [line.plain for line in shot(board, 80, 24).lines]
    assert "? help" not in lines[-2]


def test_the_plain_line() -> None:
    board = a_board(a_panel())
    board.take(TRADE, 0)
    board.take(TICKER, 0)
    (line,) = plain_lines(board, CALM, unix_us=ENGINE_US, mono_us=0)
    assert line == (
        "08:01:01 SOL_USDC  99.11 * 1.00 / 99.12 * 1.00  live  last sold 0.50 at 99.11  "
        "24h 98.5 -1.50 % low 97.38 high 101.19 vol 15089.56  online  212 msg/s, 0 resyncs, 0 dropped"
    )
    board = Board([a_panel(live=False), Panel("BTC_USDC", 1, 5)])
    board.take(BookUnavailable(stream=STREAM, symbol="SOL_USDC", reason="no answer", retry_us=1), 0)
    first, second = plain_lines(board, CALM, unix_us=ENGINE_US, mono_us=0)
    assert "99.11 * 1.00 / 99.12 * 1.00  STALE (no answer)" in first
    assert second == "08:01:01 BTC_USDC  offline (connecting)  212 msg/s, 0 resyncs, 0 dropped"


def test_verification_is_that_of_the_book_which_is_shown() -> None:
    panel = a_panel()
    board = a_board(panel)
    for stream in (STREAM, "depth.1000ms.SOL_USDC"):
        board.take(BookSynced(stream=stream, symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=()), 0)
        board.take(BookVerified(stream=stream, symbol="SOL_USDC", last=1, against="snapshot"), 0)
    board.take(BookSynced(stream="depth.1000ms.SOL_USDC", symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=()), 0)
    assert panel.run.verified
    board.take(BookSynced(stream=STREAM, symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=()), 0)
    assert not panel.run.verified


@pytest.mark.parametrize("channel", [channel for channel in Channel if not channel.private])
def test_the_last_word_of_every_public_channel_is_shown(channel: Channel) -> None:
    """A new one has its members shown until somebody writes it a line of its own."""
    examples = [decode_frame(line) for line in FRAMES]
    for frame in examples:
        if isinstance(frame, Frame) and isinstance(frame.payload, channel.traits.payloads):
            panel = Panel(getattr(frame.payload, "symbol", ""), price_decimals=2, quantity_decimals=2, trades=deque())
            Board([panel]).take(frame.payload, 0)
            assert panel.facts or panel.trades
            assert not any("\n" in text for text in panel.facts.values())
            return
    raise AssertionError("no example")


def test_other_channels_leave_their_last_word() -> None:
    panel = Panel("SOL_USDC", 2, 2)
    board = a_board(panel)
    events: list[Event] = [
        TICKER,
        MarkPrice(
            emitted_us=1,
            symbol="SOL_USDC",
            engine_us=1,
            mark_price=D("98.94"),
            index_price=D("98.95"),
            funding_rate=D("0.0000125"),
        ),
        OpenInterest(emitted_us=1, symbol="SOL_USDC", open_interest=D("1E+3")),
        Kline(
            emitted_us=1,
            symbol="SOL_USDC",
            start_us=0,
            end_us=60_000_000,
            closed=False,
            trade_count=0,
            volume=D(0),
            interval="1m",
        ),
        Liquidation(emitted_us=1, symbol="SOL_USDC", engine_us=1, price=D("98.5"), quantity=D(2), side="Ask"),
        BookTicker(
            emitted_us=1,
            symbol="SOL_USDC",
            engine_us=1,
            update_id=1,
            bid_price=D("98.5"),
            bid_quantity=D(1),
            ask_price=None,
            ask_quantity=None,
        ),
        TRADE,
        StreamLive(stream="trade.SOL_USDC"),
    ]
    for event in events:
        board.take(event, 0)
    assert panel.facts == {
        "24h": "98.5 -1.50 % low 97.38 high 101.19 vol 15089.56",
        "mark": "98.94 index 98.95 funding +0.00125 %",
        "open interest": "1000",
        "1m": "- - - - vol 0",
        "liquidation": "ask 2 at 98.5",
        "top": "98.5 / none",
    }
    extreme = Ticker(
        emitted_us=1,
        symbol="SOL_USDC",
        first_price=D("1E-28"),
        last_price=D("1E+19"),
        high=D(1),
        low=D(1),
        volume=D(1),
        quote_volume=D(1),
        trade_count=1,
    )
    board.take(extreme, 0)
    with pytest.raises(ValueError, match="last_price is not a usable number"):
        structs.replace(extreme, last_price=D("1E+1000000"))
    assert panel.facts["24h"].endswith(" % low 1 high 1 vol 1")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [("1234567.5", 2, "1,234,567.50"), ("0.000001", 2, "0.000001"), ("1E+3", 0, "1,000"), ("99.10", 1, "99.1")],
)
def test_numbers_for_people(value: str, decimals: int, text: str) -> None:
    assert number(D(value), decimals) == text


def test_a_sparkline_has_a_block_for_each_five_seconds_and_blanks_for_what_is_not_known() -> None:
    prices = PriceHistory()
    assert sparkline(prices.latest(4, 0)) == "    "
    for at_s, price in ((0, "1"), (3, "2"), (5, "3"), (20, "9"), (26, None), (31, "4")):
        prices.note(None if price is None else D(price), at_s * 1_000_000)
    assert prices.latest(9, 36_000_000) == [None, D(2), D(3), D(3), D(3), D(9), None, D(4), D(4)]
    assert prices.latest(3, 36_000_000) == [None, D(4), D(4)]
    assert sparkline(prices.latest(9, 36_000_000)) == " ▁▂▂▂█ ▃▃"
    assert sparkline([D(5), D(5)]) == "▄▄"
    assert sparkline([D("1E+999999999"), D(1), D(2)]) == " ▁█"


def test_a_lost_connection_leaves_a_hole_in_the_sparkline() -> None:
    panel = a_panel()
    board = a_board(panel)
    board.take(TRADE, 0)
    board.take(ConnectionDown(reason="x", code=1006, retry_us=1), 5_000_000)
    board.take(TRADE, 15_000_000)
    assert panel.prices.latest(4, 15_000_000) == [TRADE.price, None, None, TRADE.price]


def test_the_traffic_of_a_market_is_that_of_all_its_streams() -> None:
    board = a_board(a_panel(), a_panel("AAPL.US_USDC_PERP"), Panel("MU.US_USDC"))
    meter = TrafficMeter(board.symbol_of)

    def at(mono_us: int, messages: int) -> dict[str, Traffic]:
        names = ("depth.SOL_USDC", "trade.SOL_USDC", "depth.BTC_USDC", "ticker.AAPL.US_USDC_PERP", "stockPrice.MU")
        streams = {name: StreamMetrics(messages=messages, age_us=1_000 * number) for number, name in enumerate(names, 1)}
        return meter.update(streams, mono_us)

    at(0, 10)
    assert at(2_000_000, 30) == {
        "SOL_USDC": Traffic(20.0, 1_000),
        "AAPL.US_USDC_PERP": Traffic(10.0, 4_000),
        "MU.US_USDC": Traffic(10.0, 5_000),
    }


def test_the_rate_is_that_of_the_last_two_seconds() -> None:
    rate = Rate()
    assert rate.update(100, 0) == 0
    assert [rate.update(100 + 10 * step, step * 500_000) for step in range(1, 11)] == [20.0] * 10
    assert rate.update(200, 20_000_000) == 0
    assert rate.update(200, 22_000_000) == 0


def test_data_about_a_stock_are_shown_beside_the_market_that_was_asked_for() -> None:
    panel, other = Panel("MU.US_USDC", 2, 2), Panel("NVDA")
    board = Board([panel, other])
    board.take(StockPrice(symbol="MU", bid=D("91.20"), session="US_EQUITIES_PRE_MARKET"), 0)
    board.take(StockQuotes(symbol="NVDA", estimated_ask=D("131.5")), 0)
    assert panel.facts == {"stockPrice": "bid 91.20 session US_EQUITIES_PRE_MARKET"}
    assert other.facts == {"stockIndicativeQuote": "estimated_ask 131.5"}
    forced = Liquidation(emitted_us=1, symbol="MU.US_USDC_PERP", engine_us=1, price=D("90"), quantity=D(2), side="Ask")
    board.take(forced, 0)
    assert "liquidation" not in panel.facts, "of another market of the stock"


def test_the_help_is_whole_at_forty_columns() -> None:
    lines = [line.plain.rstrip() for line in shot(a_board(a_panel()), 40, 50, view=View(help=True, keys=True)).lines]
    assert not any(line.endswith("…") for line in lines)
    assert "/ filter markets: type a part of the" in lines
