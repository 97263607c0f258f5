"""Lines of the log: one an event, with fields, on one line, and a budget for each kind."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backpack_proto.account.values import AccountConfirmed, AccountDiverged, AccountDoubted, AccountStale, AccountUnconfirmed
from backpack_proto.decoding import decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.exchange.market.listings import LISTINGS, market_object
from backpack_proto.outputs import (
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    ConnectionDown,
    ConnectionUp,
    EventsDropped,
    StreamsRefused,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.markets import Market
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_proto.text import LONGEST_TEXT, printable
from backpack_runtime.logs import LINES, WINDOW_SECONDS, EventLog, LimitedLog

LOGGER = "backpack_runtime.client"
ERROR = RemoteProtocolError("no")
STREAM = "depth.SOL_USDC"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Other tests run commands, which set the level for the whole process."""
    caplog.set_level(logging.INFO, LOGGER)


def desynced(reason: str = "gap", *, diverged: bool = False) -> BookDesynced:
    return BookDesynced(stream=STREAM, symbol="SOL_USDC", last=7, reason=reason, diverged=diverged, error=ERROR)


def market_of(*, ticks: int) -> Market:
    listing = replace(LISTINGS[0], ticks_per_price=ticks)
    return decode_json(json.dumps(market_object(listing)).encode(), Market, "market")


def refused(message: str) -> StreamsRefused:
    return StreamsRefused(error=ERROR, code=4003, message=message, suspects=("a", "b"), authentication=True)


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (ConnectionUp(attempt=2), "INFO", "connected attempt=2"),
        (
            ConnectionDown(reason="peer reset", code=1006, retry_us=1_500_000),
            "WARNING",
            'connection down reason="peer reset" code=1006 retry_s=1.5',
        ),
        (ConnectionDown(reason="", code=None, retry_us=1), "WARNING", 'connection down reason="" retry_s=0.0'),
        (
            BookSynced(stream=STREAM, symbol="SOL_USDC", last=9, engine_us=9, bids=(), asks=()),
            "INFO",
            "book synced stream=depth.SOL_USDC symbol=SOL_USDC last=9",
        ),
        (desynced(), "WARNING", "book stale stream=depth.SOL_USDC symbol=SOL_USDC last=7 reason=gap"),
        (
            desynced(diverged=True),
            "WARNING",
            "book diverged stream=depth.SOL_USDC symbol=SOL_USDC last=7 reason=gap",
        ),
        (
            refused('say "no"'),
            "ERROR",
            "streams refused code=4003 message=\"say 'no'\" suspects=a,b authentication=True",
        ),
        (AccountStale(reason="401"), "WARNING", "account stale reason=401"),
        (AccountConfirmed(), "INFO", "account confirmed"),
        (AccountUnconfirmed(reason="503"), "WARNING", "account unconfirmed reason=503"),
        (AccountDoubted(doubts=("order 5: why",)), "WARNING", 'account doubted doubts="order 5: why" count=1'),
        (AccountDoubted(doubts=()), "INFO", 'account doubted no more doubts="" count=0'),
        (
            BookStale(stream=STREAM, symbol="SOL_USDC", last=9, reason="mute"),
            "WARNING",
            "book in doubt stream=depth.SOL_USDC symbol=SOL_USDC last=9 reason=mute",
        ),
        (
            BookConfirmed(stream=STREAM, symbol="SOL_USDC", last=9),
            "INFO",
            "book confirmed stream=depth.SOL_USDC symbol=SOL_USDC last=9",
        ),
        (
            BooksProgress(wanted=600, live=37, queued=500, remaining_us=16_800_000),
            "INFO",
            "books live live=37 wanted=600 queued=500 remaining_s=16.8",
        ),
        (
            MarketChanged(symbol="SOL_USDC", market=market_of(ticks=10), previous=market_of(ticks=1)),
            "WARNING",
            "market changed symbol=SOL_USDC tick_size=0.1 step_size=0.01 previous_tick_size=0.01 previous_step_size=0.01",
        ),
        (EventsDropped(count=5, private=False), "WARNING", "events dropped count=5 private=False"),
        (AccountDiverged(what="a fill", error=ERROR), "WARNING", 'account diverged what="a fill"'),
    ],
)
def test_each_event_is_one_line_with_its_fields(event: Event, level: str, line: str, caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(logging.getLogger(LOGGER))
    if not isinstance(event, ConnectionUp):
        log.tell(ConnectionUp(attempt=1))
        caplog.clear()
    log.tell(event)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), record.name) == (level, line, LOGGER)
    assert line.startswith(vars(record)["event"])
    assert all(f"{name}=" in line for name in vars(record)["fields"])


def test_a_lost_connection_is_said_once_for_all_books_and_an_end_in_order_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = EventLog(logging.getLogger(LOGGER))
    down = ConnectionDown(reason="reset", code=1006, retry_us=0)
    for event in (ConnectionUp(attempt=1), down, desynced(), desynced(), AccountStale(reason="reset")):
        log.tell(event)
    log.tell(ConnectionUp(attempt=1))
    log.expect_the_end()
    log.tell(desynced("closed"))
    log.tell(AccountStale(reason="closed"))
    assert caplog.messages == [
        "connected attempt=1",
        "connection down reason=reset code=1006 retry_s=0.0",
        "account stale reason=reset",
        "connected attempt=1",
    ]


def test_text_of_the_exchange_is_one_line_that_moves_no_cursor(caplog: pytest.LogCaptureFixture) -> None:
    EventLog(logging.getLogger(LOGGER)).tell(refused("\x1b[2J\r\nINFO all is well" + "x" * 10_000))
    (message,) = caplog.messages
    assert message.isprintable()
    assert r"\x1b[2J\r\nINFO all is well" in message
    assert len(message) < 2 * LONGEST_TEXT


def test_printable_text_is_bounded_and_says_that_it_goes_on() -> None:
    assert printable("naïve 日本 ok") == "naïve 日本 ok"
    assert printable("a\x00\n\u2028\ud800") == r"a\x00\n\u2028\ud800"
    assert printable("x" * 500) == "x" * 500
    assert printable("x" * 501) == "x" * 499 + "…"
    assert len(printable("\x1b" * 1_000_000)) == LONGEST_TEXT
    assert printable("\n" * 1_000, None) == r"\n" * 1_000


def test_each_kind_has_a_budget_and_what_was_left_out_is_counted_in_its_next_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = LimitedLog(logging.getLogger(LOGGER), clock=lambda: now)
    for number in range(100):
        log.line(logging.WARNING, "frame dropped", number=number)
    log.line(logging.ERROR, "streams refused", code=4003)
    assert caplog.messages == [*(f"frame dropped number={number}" for number in range(LINES)), "streams refused code=4003"]
    now = WINDOW_SECONDS
    log.line(logging.WARNING, "frame dropped", number=100)
    log.line(logging.WARNING, "frame dropped", number=101)
    assert caplog.messages[-2:] == [f"frame dropped number=100 left_out={100 - LINES}", "frame dropped number=101"]


def test_lines_that_nobody_wants_use_up_no_budget(caplog: pytest.LogCaptureFixture) -> None:
    log = LimitedLog(logging.getLogger(LOGGER))
    caplog.set_level(logging.ERROR, LOGGER)
    for _ in range(100):
        log.line(logging.WARNING, "frame dropped")
    caplog.set_level(logging.WARNING, LOGGER)
    log.line(logging.WARNING, "frame dropped")
    assert caplog.messages == ["frame dropped"]


@pytest.fixture(params=["feedhandler", "cryptofeed"])
def cryptofeed_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The file of `log:`, as cryptofeed 2 or 3 sets it up."""
    pytest.importorskip("cryptofeed")
    from backpack_runtime.cryptofeed.logs import LOG  # noqa: PLC0415 - it needs cryptofeed

    logger = logging.getLogger(str(request.param))
    before = logger.level, logger.propagate, LOG.level, LOG.handlers[:]
    path = tmp_path / "feed.log"
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    LOG.setLevel(logging.NOTSET)
    yield path
    logger.removeHandler(handler)
    handler.close()
    logger.level, logger.propagate = before[:2]
    LOG.setLevel(before[2])
    LOG.handlers[:] = before[3]


def test_the_file_that_cryptofeed_s_own_log_option_names_has_the_lines_of_the_feed(cryptofeed_log: Path) -> None:
    from backpack_runtime.cryptofeed.logs import LOG, join_cryptofeed_log  # noqa: PLC0415 - it needs cryptofeed

    join_cryptofeed_log()
    join_cryptofeed_log()
    log = LimitedLog(LOG)
    log.write(logging.INFO, "connected", "BACKPACK: connected")
    log.write(logging.DEBUG, "live", "BACKPACK: a stream is live")
    log.write(logging.WARNING, "dropped", "BACKPACK: dropped %s", "\x1b[2J\ngarbage")
    assert cryptofeed_log.read_text().splitlines() == [
        "INFO : BACKPACK: connected",
        r"WARNING : BACKPACK: dropped \x1b[2J\ngarbage",
    ]


def test_a_frame_that_cannot_be_used_is_safe_to_print_wherever_it_goes() -> None:
    from backpack_proto.streams.frames import ErrorFrame, decode_frame  # noqa: PLC0415 - only here

    dropped = decode_frame(b'{"stream":"trade.\\u001b[2J","data":{"e":"\\u001b]0;owned\\u0007","E":1}}\n\x1b[2J')
    assert isinstance(dropped, FrameDropped)
    for text in (str(dropped.error), dropped.stream or "", dropped.excerpt):
        assert text.isprintable()
    assert dropped.reason in {Drop.UNKNOWN_EVENT, Drop.NOT_JSON}
    error = decode_frame(b'{"id":null,"error":{"code":4006,"message":"bad\\u001b[2J\\nstream"}}')
    assert error == ErrorFrame(4006, r"bad\x1b[2J\nstream")
