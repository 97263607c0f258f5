"""Subjects and messages, without an engine: where an event is published, and under which id."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backpack_proto import __version__
from backpack_proto.encoding import SCHEMA, decode_event
from backpack_proto.errors import ConfigurationError, LocalProtocolError, RemoteProtocolError
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, CallAnswered, ConnectionUp
from backpack_proto.published import PublisherReport
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Event, Kline, Liquidation, Ticker, Trade
from backpack_proto.testing.strategies import events, payloads
from backpack_runtime.publishing import engine, subjects
from backpack_runtime.publishing.engine import EngineFailed, open_engine, shown_url
from backpack_runtime.publishing.messages import FIRST, LAST, MESSAGE_ID, ORDER, Message, Messages
from backpack_runtime.publishing.publisher import checked_channels, publisher_name
from backpack_runtime.publishing.subjects import decode_token, encode_token, name_of, subject_of, subjects_of

SYMBOL = "SOL_USDC"
NOW_US = 1_788_367_430_000_000
DEPTH = Depth(
    emitted_us=NOW_US + 300,
    received_us=NOW_US + 900,
    symbol=SYMBOL,
    engine_us=NOW_US,
    first_update_id=10,
    last_update_id=12,
    bids=(Level("99.10", "2.0"),),
    asks=(),
)
CHANGED = BookChanged(
    stream="depth.SOL_USDC",
    symbol=SYMBOL,
    first=11,
    last=12,
    engine_us=NOW_US,
    bids=(Level("99.10", "2.0"),),
    asks=(Level("99.20", "1.0"),),
    verified=True,
    delta=DEPTH,
)
TRADE = Trade(
    emitted_us=NOW_US,
    symbol=SYMBOL,
    engine_us=NOW_US - 5,
    trade_id=77,
    price=Decimal("99.1"),
    quantity=Decimal(2),
    buyer_is_maker=True,
)
TICKER = BookTicker(
    emitted_us=NOW_US,
    symbol=SYMBOL,
    engine_us=NOW_US,
    update_id=12,
    bid_price=Decimal(99),
    bid_quantity=Decimal(1),
    ask_price=Decimal(100),
    ask_quantity=Decimal(1),
)


def message_of(event: Event, publisher: str = "one", run: int = 5) -> Message:
    message = Messages(publisher, run=run).of(event, NOW_US + 1_000)
    assert message is not None
    return message


# Subjects.


@given(st.text(min_size=1))
def test_every_name_is_one_token_and_comes_back(name: str) -> None:
    token = encode_token(name)
    assert not set(token) & set(".*> \t\r\n")
    assert token.isascii()
    assert decode_token(token) == name
    assert name_of(subject_of("depth", name)) == ("depth", name)


def test_a_symbol_with_a_dot_is_one_token() -> None:
    assert subject_of("depth", "AAPL.US_USDC_PERP") == f"backpack.{SCHEMA}.feed.depth.AAPL=2EUS_USDC_PERP"
    assert subject_of("ticker", SYMBOL) == f"backpack.{SCHEMA}.last.ticker.SOL_USDC"
    assert subjects_of("") == (subjects.FEED_SUBJECTS, subjects.LAST_SUBJECTS)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "backpack.1.feed.depth",
        "backpack.2.feed.depth.X",
        "other.1.feed.depth.X",
        "backpack.1.feed.depth.=2e",
        "backpack.1.feed.depth.=FF",
    ],
)
def test_what_is_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(LocalProtocolError):
        name_of(subject)


# Messages.


def test_a_change_of_a_book_is_published_as_it_came() -> None:
    """Under the ids of the frame, not of what this client made of it: another one may have begun at another snapshot."""
    message = message_of(CHANGED)
    assert decode_event(message.payload) == DEPTH
    assert message.message_id == message.headers[MESSAGE_ID] == "depth.SOL_USDC:10-12"
    assert message.headers == {
        MESSAGE_ID: "depth.SOL_USDC:10-12",
        "Backpack-Schema": str(SCHEMA),
        "Backpack-Version": __version__,
        "Backpack-Publisher": "one",
        ORDER: str(NOW_US),
        "Backpack-Emitted-Us": str(NOW_US + 300),
        "Backpack-Received-Us": str(NOW_US + 900),
        FIRST: "10",
        LAST: "12",
    }
    assert not message.latest


def test_two_publishers_give_one_frame_one_id() -> None:
    other = replace(CHANGED, bids=(), verified=False, first=10, delta=replace(DEPTH, received_us=NOW_US + 5_000))
    assert message_of(CHANGED).message_id == message_of(other, "other", 6).message_id
    assert (
        message_of(TRADE).message_id == message_of(replace(TRADE, received_us=7), "other", 6).message_id == "trade.SOL_USDC:77"
    )


def test_a_whole_book_is_known_by_its_update_id() -> None:
    book = BookSynced(stream="depth.SOL_USDC", symbol=SYMBOL, last=12, engine_us=NOW_US, bids=(), asks=())
    message = message_of(book)
    assert (message.subject, message.message_id) == (f"backpack.{SCHEMA}.feed.book.SOL_USDC", "book.SOL_USDC:12")


def test_the_latest_of_a_subject_is_told_by_the_time_of_the_exchange() -> None:
    message = message_of(TICKER)
    assert message.latest
    assert message.order_us == NOW_US
    assert message.message_id == "bookTicker.SOL_USDC:12"


def test_candles_have_a_subject_for_each_interval() -> None:
    candle = Kline(
        emitted_us=NOW_US,
        symbol=SYMBOL,
        interval="1m",
        start_us=NOW_US,
        end_us=NOW_US + 60_000_000,
        closed=False,
        trade_count=0,
        volume=Decimal(0),
    )
    assert message_of(candle).subject == f"backpack.{SCHEMA}.last.kline-1m.SOL_USDC"


def test_states_are_of_one_publisher_and_one_run() -> None:
    messages = Messages("host.1", run=5)
    found = [messages.of(ConnectionUp(attempt=1), NOW_US) for _ in range(2)]
    assert [message.message_id for message in found if message] == ["state.host.1:5-1", "state.host.1:5-2"]
    assert {message.subject for message in found if message} == {f"backpack.{SCHEMA}.feed.state.host=2E1"}
    assert message_of(ConnectionUp(attempt=1), "host.1", 6).message_id == "state.host.1:6-1"


def test_what_is_of_one_client_alone_is_not_published() -> None:
    answer = CallAnswered(call_id=1, endpoint="ping", result=None)
    assert Messages("one", run=1).of(answer, NOW_US) is None


@given(payloads(Depth, Trade, BookTicker, Ticker, Kline, Liquidation))
def test_every_payload_of_the_market_is_one_message_that_says_the_same(payload: Event) -> None:
    message = Messages("one", run=1).of(payload, NOW_US)
    assert message is not None
    assert decode_event(message.payload) == payload
    assert name_of(message.subject)[1] == getattr(payload, "symbol", None)


@given(events(BookDesynced, PublisherReport, ConnectionUp))
def test_every_state_is_one_message_that_says_the_same(event: Event) -> None:
    message = Messages("one", run=1).of(event, NOW_US)
    assert message is not None
    assert decode_event(message.payload) == event


# Arguments.


def test_a_url_is_shown_without_its_password() -> None:
    assert shown_url("nats://user:geheim@[::1]:4222") == "nats://[::1]:4222"
    for wrong in ("127.0.0.1:4222", "http://x", "nats://", "nats://x:port", "nats://user:geheim@:1"):
        with pytest.raises(ConfigurationError, match="nats: a URL such as") as refused:
            shown_url(wrong)
        assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("channel", "reason"),
    [("order.*", "is about an account"), ("book.200ms", "is aggregated; publish book"), ("nothing", "nothing")],
)
def test_a_channel_that_cannot_be_published_is_refused(channel: str, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        checked_channels(["trades", channel])


def test_publishers_have_names_of_their_own() -> None:
    assert publisher_name("mine") == "mine"
    assert publisher_name(None) != publisher_name("")[:-1]


def test_trio_is_refused_clearly() -> None:
    async def main() -> None:
        async with open_engine("nats://127.0.0.1:1", name="test"):
            raise AssertionError

    with pytest.raises(ConfigurationError, match="nats-py runs on asyncio alone"):
        anyio.run(main, backend="trio")


def test_a_server_that_is_not_there_is_named_without_a_password() -> None:
    async def main() -> None:
        async with open_engine("nats://user:geheim@127.0.0.1:1", name="test"):
            raise AssertionError

    with pytest.raises(EngineFailed, match=r"NATS at nats://127.0.0.1:1 cannot be reached") as failed:
        anyio.run(main)
    assert "geheim" not in str(failed.value)


def test_without_the_extra_publishing_says_what_it_needs() -> None:
    program = (
        "import sys\nsys.modules['nats'] = None\n"
        "import backpack_runtime\nbackpack_runtime.open_consumer\n"
        "from backpack_runtime.cli.parser import main\nsys.exit(main(['publish', '--nats', 'nats://127.0.0.1:1']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert 'publishing to NATS needs the extra "nats"' in line


def test_the_errors_of_the_engine_are_ours() -> None:
    assert issubclass(engine.EngineFailed, Exception)
    assert not issubclass(engine.EngineFailed, RemoteProtocolError)
