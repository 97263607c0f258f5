"""The server without its sockets: what a reader has asked for, and what is kept of a client's events."""

from __future__ import annotations

import pytest

from backpack_proto.account.values import AccountSynced
from backpack_proto.errors import InvalidStream, RemoteProtocolError
from backpack_proto.outputs import (
    BookChanged,
    BookSynced,
    CallAnswered,
    CallFailed,
    ConnectionDown,
    ErrorReceived,
    EventsDropped,
    MarketClosed,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.streams.channels import CHANNEL_OF, Channel
from backpack_proto.streams.payloads import BookTicker, Event, Ticker, Trade
from backpack_runtime.serving.access import TOKEN, new_token
from backpack_runtime.serving.choice import Choice, kinds_of

SUBSCRIBED = frozenset({Channel.DEPTH, Channel.TRADE})


def test_a_reader_without_wishes_has_all_public_events_and_no_private_one() -> None:
    kinds = kinds_of([])
    private = {kind for kind, channel in CHANNEL_OF.items() if channel.private}
    assert not private & set(kinds)
    assert {kind for kind, channel in CHANNEL_OF.items() if not channel.private} <= set(kinds)
    for kind in (AccountSynced, CallAnswered, CallFailed, ErrorReceived, Event):
        assert not issubclass(kind, tuple(kinds))


@pytest.mark.parametrize(
    ("names", "wanted", "unwanted"),
    [
        (["trades"], Trade, BookChanged),
        (["book"], BookSynced, Trade),
        (["book.200ms"], BookChanged, BookTicker),
        (["trades", "book"], BookChanged, Ticker),
        (["state"], ConnectionDown, Trade),
    ],
)
def test_a_channel_has_its_events_and_those_of_the_connection(
    names: list[str], wanted: type[Event], unwanted: type[Event]
) -> None:
    kinds = kinds_of(names, SUBSCRIBED)
    assert wanted in kinds
    assert unwanted not in kinds
    assert ConnectionDown in kinds


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("order.*", "'order.*' is about an account, and private data are not served"),
        ("account.balanceUpdate", "private data are not served"),
        ("tradez", "did you mean trade or trades?"),
        ("ticker", "'ticker' is not subscribed here: there are book, trades"),
    ],
)
def test_a_channel_that_cannot_be_had_is_named(name: str, said: str) -> None:
    with pytest.raises(InvalidStream) as error:
        kinds_of([name], SUBSCRIBED)
    assert said in str(error.value)


def test_symbols_leave_out_other_markets_only() -> None:
    choice = Choice(kinds_of([]), frozenset({"SOL_USDC"}))
    assert choice.has(MarketClosed(symbol="SOL_USDC"))
    assert not choice.has(MarketClosed(symbol="BTC_USDC"))
    assert choice.has(ConnectionDown(reason="gone", code=None, retry_us=1))
    assert choice.has(EventsDropped(count=1, private=False))
    assert choice.has(StreamLive(stream="depth.200ms.SOL_USDC"))
    assert not choice.has(StreamLive(stream="trade.BTC_USDC"))
    assert Choice(kinds_of([]), frozenset()).has(MarketClosed(symbol="BTC_USDC"))


def test_streams_of_an_account_are_not_even_named() -> None:
    choice = Choice(kinds_of([]), frozenset())
    assert choice.has(StreamSilent(stream="trade.SOL_USDC", silent_us=1))
    assert not choice.has(StreamSilent(stream="account.orderUpdate.SOL_USDC", silent_us=1))
    for suspects, wanted in ((("trade.SOL_USDC",), True), (("trade.SOL_USDC", "account.orderUpdate"), False)):
        error = RemoteProtocolError("refused")
        event = StreamsRefused(error=error, code=4000, message="no", suspects=suspects, authentication=False)
        assert choice.has(event) is wanted


def test_a_made_token_can_be_sent_and_is_never_the_same() -> None:
    first, second = new_token(), new_token()
    assert first != second
    assert TOKEN.fullmatch(first)
    assert len(first) >= 43
