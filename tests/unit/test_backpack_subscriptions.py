from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from backpack_proto.connection.refusals import BLAME_US
from backpack_proto.connection.signals import ClockRead, ConnectionLost, DataSeen, InForce, Released, Requested
from backpack_proto.connection.signatures import ERRORS_US, WRONG_CLOCK_US, Signature
from backpack_proto.connection.subscriptions import (
    CANARY_SILENCE_US,
    Subscriptions,
    SubscriptionsInput,
    SubscriptionsOutput,
)
from backpack_proto.connection.wanted_stream import STREAM_TRANSITIONS, StreamState
from backpack_proto.errors import InvalidStream, LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import Connected, FollowAccount, Subscribe, TimerFired, Unsubscribe
from backpack_proto.machine import Now
from backpack_proto.outputs import ErrorReceived, SendText, StreamLive, StreamSilent, StreamsRefused
from backpack_proto.streams.channels import IN_FORCE_US, Channel
from backpack_proto.streams.frames import ErrorFrame
from backpack_proto.testing.laws import FakeClock, check_machine, freeze
from hypothesis_profiles import examples

SECOND = 1_000_000
FIRST_DATA_TIMEOUT_US = {
    channel: channel.traits.first_data_us for channel in Channel if channel.traits.first_data_us is not None
}

DEPTH = "depth.SOL_USDC"
DEPTH_200 = "depth.200ms.SOL_USDC"
TRADE = "trade.SOL_USDC"
TICKER = "ticker.SOL_USDC"
MARK_PRICE = "markPrice.SOL_USDC_PERP"
OPEN_INTEREST = "openInterest.SOL_USDC_PERP"
LIQUIDATION = "liquidation"
ORDERS = "account.orderUpdate"
POSITIONS = "account.positionUpdate.SOL_USDC_PERP"

NAMES = [DEPTH, DEPTH_200, TRADE, TICKER, MARK_PRICE, OPEN_INTEREST, LIQUIDATION, ORDERS, POSITIONS]


def sign(now: Now) -> Signature:
    return Signature(("key", f"signed at {now.unix_us}", str(now.unix_us // 1000), "5000"), now.unix_us)


class Driven:
    """Subscriptions and their clock."""

    def __init__(self, *wanted: str, credentials: bool = True) -> None:
        self.clock = FakeClock()
        self.subscriptions = Subscriptions(sign if credentials else None)
        if wanted:
            self.subscribe(*wanted)

    def give(self, given: SubscriptionsInput, after_us: int = 0) -> list[SubscriptionsOutput]:
        return self.subscriptions.handle(given, self.clock.advance(after_us))

    def fire(self, late_us: int = 0) -> list[SubscriptionsOutput]:
        self.clock.advance_to(self.subscriptions.deadline)
        return self.subscriptions.handle(TimerFired(), self.clock.advance(late_us))

    def subscribe(self, *names: str) -> list[SubscriptionsOutput]:
        return self.give(Subscribe(names))

    def wait_us(self) -> int | None:
        deadline = self.subscriptions.deadline
        return None if deadline is None else deadline - self.clock.mono_us

    def state(self, name: str) -> StreamState:
        return self.subscriptions.states[name]

    def silent(self) -> tuple[str, ...]:
        return self.subscriptions.silent

    def signature(self) -> list[str]:
        return [*sign(self.clock.now).parts]


def up(*wanted: str) -> Driven:
    driven = Driven(*wanted)
    driven.give(Connected())
    return driven


def frames(outputs: list[SubscriptionsOutput]) -> list[dict[str, Any]]:
    return [json.loads(out.text) for out in outputs if isinstance(out, SendText)]


def streams_of(method: str, outputs: list[SubscriptionsOutput]) -> list[list[str]]:
    return [frame["params"] for frame in frames(outputs) if frame["method"] == method]


@pytest.mark.hypothesis
def test_laws() -> None:
    names = st.lists(st.sampled_from([*NAMES, "nope.SOL_USDC", NEW]), max_size=4).map(tuple)
    inputs: st.SearchStrategy[SubscriptionsInput] = (
        st.builds(Subscribe, names)
        | st.builds(Unsubscribe, names)
        | st.builds(Subscribe, names, st.lists(st.sampled_from([DEPTH, DEPTH_200, TRADE]), max_size=2).map(tuple))
        | st.builds(Subscribe, untyped=st.lists(st.sampled_from([NEW, NEWER, NEWEST, DEPTH]), max_size=3).map(tuple))
        | st.just(FollowAccount())
        | st.just(Connected())
        | st.just(ConnectionLost())
        | st.builds(ClockRead, st.integers(-1_000_000, 1_000_000))
        | st.builds(DataSeen, st.sampled_from([*NAMES, NEW, NEWER, NEWEST]))
        | st.builds(ErrorFrame, st.sampled_from([4002, 4003, 4006, 4008]), st.just("message"))
    )
    check_machine(lambda: Subscriptions(sign), inputs)
    check_machine(lambda: Subscriptions(None), inputs, max_examples=examples(50).max_examples)


def test_without_a_connection_streams_are_only_wanted() -> None:
    driven = Driven()
    assert driven.subscribe(DEPTH, ORDERS) == []
    assert driven.subscriptions.states == {DEPTH: StreamState.WANTED, ORDERS: StreamState.WANTED}
    assert [*driven.subscriptions.wanted] == [DEPTH, ORDERS]
    assert [*driven.subscriptions.awaited] == []
    assert driven.wait_us() is None
    assert driven.give(Unsubscribe((DEPTH,))) == [Released((DEPTH,))]
    assert [*driven.subscriptions.wanted] == [ORDERS]


def test_a_connection_has_everything_requested_in_the_order_wanted() -> None:
    driven = Driven(TRADE, ORDERS)
    driven.subscribe(DEPTH, POSITIONS)
    key, signature, timestamp, window = driven.signature()
    assert driven.give(Connected()) == [
        SendText('{"method":"SUBSCRIBE","params":["trade.SOL_USDC"]}'),
        SendText('{"method":"SUBSCRIBE","params":["depth.SOL_USDC"]}'),
        *(
            SendText(
                f'{{"method":"SUBSCRIBE","params":["{name}"],"signature":["{key}","{signature}","{timestamp}","{window}"]}}',
                signed=True,
            )
            for name in (ORDERS, POSITIONS)
        ),
        Requested((TRADE, ORDERS, DEPTH, POSITIONS)),
    ]
    assert set(driven.subscriptions.states.values()) == {StreamState.REQUESTED}
    assert [*driven.subscriptions.awaited] == [TRADE, ORDERS, DEPTH, POSITIONS]


def test_a_connection_without_wanted_streams_needs_no_frame() -> None:
    assert Driven().give(Connected()) == []


def test_on_a_connection_a_stream_is_requested_at_once() -> None:
    driven = up()
    assert driven.subscribe(DEPTH) == [
        SendText('{"method":"SUBSCRIBE","params":["depth.SOL_USDC"]}'),
        Requested((DEPTH,)),
    ]


def test_subscribing_again_is_harmless() -> None:
    driven = up(DEPTH)
    before = freeze(driven.subscriptions)
    assert driven.subscribe(DEPTH, DEPTH) == []
    assert freeze(driven.subscriptions) == before
    assert driven.subscribe(TRADE, DEPTH, TRADE)[-1] == Requested((TRADE,))


def test_long_lists_go_out_in_frames_of_fifty() -> None:
    markets = [f"M{number}_USDC" for number in range(120)]
    driven = Driven(*(f"depth.{market}" for market in markets))
    driven.subscribe(*(f"account.orderUpdate.{market}" for market in markets[:51]))
    outputs = driven.give(Connected())
    assert [len(names) for names in streams_of("SUBSCRIBE", outputs)] == [50, 50, 20, 50, 1]
    assert [out.signed for out in outputs if isinstance(out, SendText)] == [False, False, False, True, True]
    assert [name for names in streams_of("SUBSCRIBE", outputs) for name in names] == [*driven.subscriptions.wanted]
    ended = driven.give(Unsubscribe((*driven.subscriptions.wanted,)))
    assert [len(names) for names in streams_of("UNSUBSCRIBE", ended)] == [50, 50, 20, 50, 1]


def test_a_frame_is_about_one_kind_of_stream() -> None:
    driven = Driven(TRADE, "depth.BTC_USDC", "kline.1m.SOL_USDC", DEPTH_200, "trade.BTC_USDC", DEPTH, "kline.1h.SOL_USDC")
    assert streams_of("SUBSCRIBE", driven.give(Connected())) == [
        [TRADE, "trade.BTC_USDC"],
        ["depth.BTC_USDC", DEPTH_200, DEPTH],
        ["kline.1m.SOL_USDC", "kline.1h.SOL_USDC"],
    ]


NEW, NEWER, NEWEST = "preview.SOL_USDC", "whale.SOL_USDC", "account.taxUpdate"


def untyped(*names: str) -> Subscribe:
    return Subscribe(untyped=names)


def test_names_of_unknown_kinds_travel_one_by_one() -> None:
    driven = up(TRADE)
    outputs = driven.give(Subscribe((DEPTH,), untyped=(NEW, NEWER, NEWEST)))
    assert outputs == [subscribing(DEPTH), subscribing(NEW), Requested((DEPTH, NEW))]
    assert driven.state(NEWER) is StreamState.WANTED
    # Data of it prove that what was requested before it is in force as well.
    assert driven.give(DataSeen(NEW)) == [
        StreamLive(stream=NEW),
        InForce((DEPTH,)),
        subscribing(NEWER),
        Requested((NEWER,)),
    ]
    assert driven.wait_us() == IN_FORCE_US
    assert driven.give(TimerFired(), IN_FORCE_US - 1) == []
    outputs = driven.give(TimerFired(), 1)
    key, signature, timestamp, window = driven.signature()
    assert outputs == [
        SendText(
            f'{{"method":"SUBSCRIBE","params":["{NEWEST}"],"signature":["{key}","{signature}","{timestamp}","{window}"]}}',
            signed=True,
        ),
        Requested((NEWEST,)),
    ]
    assert set(driven.subscriptions.untyped) == {NEW, NEWER, NEWEST}
    assert driven.give(DataSeen(NEWER)) == [StreamLive(stream=NEWER)], "late, but live"


def test_an_error_about_an_unknown_kind_names_its_culprit() -> None:
    driven = up(DEPTH, TRADE)
    driven.give(untyped(NEW, NEWER))
    assert driven.give(ErrorFrame(4006, "message")) == [
        refused(4006, NEW),
        subscribing(NEWER),
        Requested((NEWER,)),
    ]
    assert driven.state(NEW) is StreamState.REFUSED
    assert driven.state(DEPTH) is StreamState.REQUESTED, "what we know the exchange has"
    assert driven.give(ErrorFrame(4006, "message")) == [refused(4006, NEWER)]


def test_an_error_that_cannot_be_about_it_leaves_the_one_in_flight_alone() -> None:
    driven = up(DEPTH_200, ORDERS)
    driven.give(untyped(NEW, NEWER))
    assert driven.give(ErrorFrame(4008, "message")) == [refused(4008, DEPTH_200)]
    assert driven.give(ErrorFrame(4003, "message")) == [refused(4003, ORDERS)]
    assert driven.state(NEWER) is StreamState.WANTED


def test_an_unknown_kind_that_is_not_wanted_any_more_holds_nobody_up() -> None:
    driven = up()
    driven.give(untyped(NEW, NEWER, NEWEST))
    assert driven.give(Unsubscribe((NEWER,))) == [Released((NEWER,))], "it was never requested"
    outputs = driven.give(Unsubscribe((NEW,)))
    assert outputs[:2] == [unsubscribing(NEW), Released((NEW,))]
    assert outputs[-1] == Requested((NEWEST,))
    assert driven.give(Unsubscribe((NEW, NEWER))) == []


def test_data_of_a_later_request_end_the_flight_of_an_earlier_one() -> None:
    driven = up()
    driven.give(untyped(NEW, NEWER))
    driven.subscribe(TRADE)
    assert driven.give(DataSeen(TRADE)) == [StreamLive(stream=TRADE), subscribing(NEWER), Requested((NEWER,))]


def test_a_lost_connection_begins_the_line_again() -> None:
    driven = up()
    driven.give(untyped(NEW, NEWER))
    driven.give(ConnectionLost())
    assert driven.wait_us() is None
    assert driven.give(Connected()) == [subscribing(NEW), Requested((NEW,))]
    assert driven.fire()[-1] == Requested((NEWER,))


def test_an_unknown_kind_that_says_nothing_is_reported() -> None:
    driven = up()
    driven.give(untyped(NEW))
    driven.fire()
    assert driven.fire() == [StreamSilent(stream=NEW, silent_us=60 * SECOND)]


@pytest.mark.parametrize(
    ("name", "said"), [(DEPTH, "is a depth stream"), ("", "is not the name"), ("kind.", "is not the name"), ("a b.X", "is not")]
)
def test_what_has_a_type_or_is_no_name_is_not_untyped(name: str, said: str) -> None:
    driven = up(TRADE)
    before = freeze(driven.subscriptions)
    with pytest.raises(InvalidStream, match=f"^untyped: '{name}' {said}"):
        driven.give(untyped(NEW, name))
    assert freeze(driven.subscriptions) == before


def test_unknown_private_kinds_need_credentials() -> None:
    with pytest.raises(LocalProtocolError, match=r"^account\.taxUpdate: private streams need credentials$"):
        Driven(credentials=False).give(untyped(NEWEST))


def test_the_frames_of_one_signature_are_refused_once() -> None:
    driven = up(ORDERS, POSITIONS)
    assert driven.give(ErrorFrame(4003, "message")) == [refused(4003, ORDERS, POSITIONS)]
    assert driven.give(ErrorFrame(4003, "message")) == []
    driven.subscribe("account.balanceUpdate")
    assert [type(output) for output in driven.give(ErrorFrame(4003, "message"))] == [StreamsRefused]


def test_each_request_is_signed_at_the_moment_it_is_sent() -> None:
    driven = Driven(ORDERS)
    driven.clock.advance(3600 * SECOND)
    assert frames(driven.give(Connected()))[0]["signature"] == driven.signature()
    driven.give(ConnectionLost())
    driven.clock.advance(3600 * SECOND)
    assert frames(driven.give(Connected()))[0]["signature"] == driven.signature()
    driven.clock.advance(SECOND)
    assert frames(driven.subscribe(POSITIONS))[0]["signature"] == driven.signature()


def test_unsubscribing_ends_it_on_the_wire_unsigned() -> None:
    driven = up(DEPTH, TICKER, ORDERS)
    driven.give(DataSeen(DEPTH))
    driven.give(DataSeen(TICKER))
    assert driven.give(Unsubscribe((ORDERS, TICKER, DEPTH, DEPTH, TRADE))) == [
        SendText('{"method":"UNSUBSCRIBE","params":["ticker.SOL_USDC"]}'),
        SendText('{"method":"UNSUBSCRIBE","params":["depth.SOL_USDC"]}'),
        SendText('{"method":"UNSUBSCRIBE","params":["account.orderUpdate"]}'),
        Released((ORDERS, TICKER, DEPTH)),
    ]
    assert driven.subscriptions.states == {}
    assert [*driven.subscriptions.awaited] == []
    assert driven.wait_us() is None
    assert driven.give(Unsubscribe((DEPTH,))) == []


def test_an_unsubscribed_stream_is_not_requested_on_the_next_connection() -> None:
    driven = up(DEPTH, TRADE)
    driven.give(Unsubscribe((DEPTH,)))
    driven.give(ConnectionLost())
    assert driven.give(Connected())[-1] == Requested((TRADE,))


def test_a_stream_wanted_again_goes_to_the_end_of_the_order() -> None:
    driven = Driven(DEPTH, TRADE)
    driven.give(Unsubscribe((DEPTH,)))
    driven.subscribe(DEPTH)
    assert [*driven.subscriptions.wanted] == [TRADE, DEPTH]


@pytest.mark.parametrize("given", [Subscribe((DEPTH, "nope.SOL_USDC")), Unsubscribe((DEPTH, "depth."))])
def test_a_name_that_is_no_stream_refuses_the_whole_command(given: SubscriptionsInput) -> None:
    driven = up(DEPTH, TRADE)
    before = freeze(driven.subscriptions)
    with pytest.raises(InvalidStream):
        driven.give(given)
    assert freeze(driven.subscriptions) == before


def test_private_streams_need_credentials() -> None:
    driven = Driven(credentials=False)
    with pytest.raises(LocalProtocolError, match=r"^account\.orderUpdate: private streams need credentials$"):
        driven.subscribe(DEPTH, ORDERS)
    assert driven.subscriptions.states == {}
    assert driven.subscribe(DEPTH) == []


def test_a_signer_that_fails_leaves_nothing_behind() -> None:
    def fail(now: Now) -> Signature:
        raise LocalProtocolError(f"no clock at {now.mono_us}")

    subscriptions = Subscriptions(fail)
    clock = FakeClock()
    subscriptions.handle(Connected(), clock.now)
    before = freeze(subscriptions)
    with pytest.raises(LocalProtocolError, match="no clock"):
        subscriptions.handle(Subscribe((DEPTH, ORDERS)), clock.now)
    assert freeze(subscriptions) == before


@pytest.mark.parametrize("given", [DataSeen(DEPTH), ErrorFrame(4006, "Invalid stream")])
def test_without_a_connection_nothing_can_come(given: SubscriptionsInput) -> None:
    with pytest.raises(LocalProtocolError, match=r"is impossible in Connectivity\.DOWN"):
        Driven(DEPTH).give(given)


def test_a_connection_cannot_open_twice() -> None:
    with pytest.raises(LocalProtocolError, match=r"Connected is impossible in Connectivity\.UP"):
        up().give(Connected())


def test_first_data_make_a_stream_live() -> None:
    driven = up(DEPTH, ORDERS)
    assert driven.give(DataSeen(DEPTH)) == [StreamLive(stream=DEPTH), InForce((DEPTH,))]
    assert driven.state(DEPTH) is StreamState.LIVE
    assert [*driven.subscriptions.awaited] == [ORDERS]
    assert driven.give(DataSeen(DEPTH)) == []
    assert driven.give(DataSeen(ORDERS)) == [StreamLive(stream=ORDERS)]
    assert [*driven.subscriptions.awaited] == []
    assert driven.wait_us() is None


def test_data_of_a_stream_that_is_not_wanted_are_nothing() -> None:
    driven = up(DEPTH)
    driven.give(Unsubscribe((DEPTH,)))
    assert driven.give(DataSeen(DEPTH)) == []


def test_the_views_follow_the_machine() -> None:
    driven = up()
    wanted, awaited = driven.subscriptions.wanted, driven.subscriptions.awaited
    driven.subscribe(DEPTH)
    assert DEPTH in wanted
    assert DEPTH in awaited
    driven.give(ConnectionLost())
    assert DEPTH in wanted
    assert DEPTH not in awaited
    driven.give(Connected())
    assert DEPTH in awaited


def test_the_end_of_the_connection_makes_everything_wanted_again() -> None:
    driven = up(*NAMES)
    driven.give(DataSeen(DEPTH))
    driven.give(ErrorFrame(4003, "Invalid signature"))
    driven.fire()
    assert driven.give(ConnectionLost()) == []
    assert set(driven.subscriptions.states.values()) == {StreamState.WANTED}
    assert driven.wait_us() is None
    assert driven.give(ConnectionLost()) == []
    assert driven.give(Connected())[-1] == Requested((*NAMES,))
    assert set(driven.subscriptions.states.values()) == {StreamState.REQUESTED}


@pytest.mark.parametrize(
    ("name", "ping_timeout_us"),
    [
        (TICKER, FIRST_DATA_TIMEOUT_US[Channel.TICKER]),
        (MARK_PRICE, FIRST_DATA_TIMEOUT_US[Channel.MARK_PRICE]),
        ("kline.1m.SOL_USDC", FIRST_DATA_TIMEOUT_US[Channel.KLINE]),
        (DEPTH, FIRST_DATA_TIMEOUT_US[Channel.DEPTH]),
        (DEPTH_200, FIRST_DATA_TIMEOUT_US[Channel.DEPTH]),
        ("bookTicker.SOL_USDC", FIRST_DATA_TIMEOUT_US[Channel.BOOK_TICKER]),
        (TRADE, FIRST_DATA_TIMEOUT_US[Channel.TRADE]),
        (OPEN_INTEREST, FIRST_DATA_TIMEOUT_US[Channel.OPEN_INTEREST]),
    ],
)
def test_a_stream_that_sends_nothing_is_noticed_once(name: str, ping_timeout_us: int) -> None:
    driven = up(name)
    assert driven.wait_us() == ping_timeout_us
    assert driven.fire() == [StreamSilent(stream=name, silent_us=ping_timeout_us)]
    assert driven.state(name) is StreamState.REQUESTED
    assert driven.wait_us() is None
    assert driven.give(DataSeen(name), after_us=SECOND)[0] == StreamLive(stream=name)
    assert driven.state(name) is StreamState.LIVE


def test_the_timeout_of_first_data_is_known_for_every_channel_but_those_that_send_on_events_only() -> None:
    assert set(Channel) - set(FIRST_DATA_TIMEOUT_US) == {
        Channel.LIQUIDATION,
        Channel.ORDER_UPDATE,
        Channel.POSITION_UPDATE,
        Channel.BALANCE_UPDATE,
        Channel.RFQ_UPDATE,
    }


@pytest.mark.parametrize("name", [LIQUIDATION, ORDERS, POSITIONS])
def test_streams_of_rare_events_are_never_silent(name: str) -> None:
    assert up(name).wait_us() is None


def test_silence_is_told_stream_by_stream() -> None:
    driven = up(TRADE, TICKER, DEPTH, MARK_PRICE)
    assert [out.stream for out in driven.fire() if isinstance(out, StreamSilent)] == [TICKER, MARK_PRICE]
    assert [out.stream for out in driven.fire() if isinstance(out, StreamSilent)] == [TRADE, DEPTH]


def test_the_silent_streams_are_those_that_have_not_come_back() -> None:
    driven = up(TRADE, TICKER, DEPTH, MARK_PRICE)
    driven.fire()
    assert driven.silent() == (TICKER, MARK_PRICE)
    driven.give(DataSeen(TICKER))
    driven.give(Unsubscribe((MARK_PRICE,)))
    driven.fire()
    assert driven.silent() == (TICKER,)
    driven.give(ConnectionLost())
    assert driven.silent() == ()


def test_the_timeout_of_first_data_starts_again_with_each_request() -> None:
    driven = up(DEPTH)
    driven.fire()
    driven.give(ConnectionLost())
    driven.give(Connected())
    assert driven.fire() == [StreamSilent(stream=DEPTH, silent_us=FIRST_DATA_TIMEOUT_US[Channel.DEPTH])]
    driven.give(Unsubscribe((DEPTH,)))
    driven.subscribe(DEPTH)
    assert driven.wait_us() == FIRST_DATA_TIMEOUT_US[Channel.DEPTH]


@pytest.mark.parametrize("name", [TICKER, MARK_PRICE])
def test_a_canary_that_stops_singing_is_noticed(name: str) -> None:
    driven = up(name)
    assert driven.give(DataSeen(name)) == [StreamLive(stream=name)]
    assert name in driven.subscriptions.awaited
    assert driven.wait_us() == CANARY_SILENCE_US
    for _ in range(4):
        assert driven.give(DataSeen(name), after_us=SECOND) == []
    assert driven.wait_us() == CANARY_SILENCE_US - 4 * SECOND
    assert driven.fire() == []
    assert driven.wait_us() == 4 * SECOND
    assert driven.fire() == [StreamSilent(stream=name, silent_us=CANARY_SILENCE_US)]
    assert driven.state(name) is StreamState.LIVE
    assert driven.wait_us() is None
    assert driven.give(DataSeen(name), after_us=SECOND) == [StreamLive(stream=name)]
    assert driven.give(DataSeen(name), after_us=SECOND) == []
    driven.fire()
    assert driven.fire() == [StreamSilent(stream=name, silent_us=CANARY_SILENCE_US)]


def test_a_late_timer_sees_what_came_meanwhile() -> None:
    driven = up(TICKER)
    driven.give(DataSeen(TICKER))
    driven.give(DataSeen(TICKER), after_us=CANARY_SILENCE_US - SECOND)
    assert driven.fire(late_us=5 * SECOND) == []
    assert driven.wait_us() == CANARY_SILENCE_US - 6 * SECOND


def test_a_live_stream_other_than_a_canary_may_be_quiet() -> None:
    driven = up(DEPTH)
    driven.give(DataSeen(DEPTH))
    assert driven.wait_us() is None


def refused(code: int, *suspects: str) -> StreamsRefused:
    return StreamsRefused(
        error=RemoteProtocolError(f"the exchange answered with error {code}: message"),
        code=code,
        message="message",
        suspects=suspects,
        authentication=code == 4003,
    )


def unexplained(code: int) -> ErrorReceived:
    return ErrorReceived(
        error=RemoteProtocolError(f"the exchange answered with error {code}: message"), code=code, message="message"
    )


@pytest.mark.parametrize(
    ("code", "suspects"),
    [
        (4003, [ORDERS, POSITIONS]),
        (4006, [DEPTH, DEPTH_200, TRADE]),
        (4008, [DEPTH_200]),
        (4002, [DEPTH, DEPTH_200, ORDERS, TRADE, POSITIONS]),
    ],
)
def test_the_code_says_which_pending_streams_are_suspects(code: int, suspects: list[str]) -> None:
    driven = up(DEPTH, DEPTH_200, ORDERS, TRADE, POSITIONS)
    assert driven.give(ErrorFrame(code, "message")) == [refused(code, *suspects)]
    assert [name for name, state in driven.subscriptions.states.items() if state is StreamState.REFUSED] == suspects


def test_an_invalid_stream_is_a_private_one_only_if_no_public_one_is_pending() -> None:
    driven = up(DEPTH, ORDERS)
    driven.give(DataSeen(DEPTH))
    assert driven.give(ErrorFrame(4006, "message")) == [refused(4006, ORDERS)]


@pytest.mark.parametrize(("code", "name"), [(4003, DEPTH), (4008, DEPTH), (4008, ORDERS)])
def test_an_error_that_no_pending_request_explains_is_told_as_such(code: int, name: str) -> None:
    driven = up(name)
    assert driven.give(ErrorFrame(code, "message")) == [unexplained(code)]
    assert driven.state(name) is StreamState.REQUESTED


def test_live_streams_and_old_requests_are_no_suspects() -> None:
    driven = up(DEPTH, TRADE)
    driven.give(DataSeen(DEPTH))
    assert driven.give(ErrorFrame(4006, "message"), after_us=BLAME_US - 1) == [refused(4006, TRADE)]
    assert driven.give(ErrorFrame(4006, "message"), after_us=1) == [unexplained(4006)]


def test_a_second_error_on_the_same_request_has_the_same_suspects() -> None:
    driven = up(ORDERS)
    driven.subscribe(POSITIONS)
    assert driven.give(ErrorFrame(4002, "message")) == [refused(4002, ORDERS, POSITIONS)]
    assert driven.give(ErrorFrame(4002, "message"), after_us=1) == [refused(4002, ORDERS, POSITIONS)]


def test_a_refused_stream_is_requested_again_only_on_the_next_connection_and_signed_again() -> None:
    driven = up(ORDERS)
    driven.give(ErrorFrame(4003, "message"))
    assert driven.subscribe(ORDERS) == []
    assert driven.fire() == [], "nothing is known of a wrong clock"
    assert driven.wait_us() is None
    driven.give(ConnectionLost())
    driven.clock.advance(60 * SECOND)
    assert frames(driven.give(Connected())) == [{"method": "SUBSCRIBE", "params": [ORDERS], "signature": driven.signature()}]
    assert driven.state(ORDERS) is StreamState.REQUESTED


def test_refused_private_streams_are_signed_again_on_the_same_connection_when_the_clock_was_wrong() -> None:
    driven = up(ORDERS, TICKER)
    driven.give(ErrorFrame(4002, "message"))
    driven.subscribe(POSITIONS)
    driven.clock.advance(20 * SECOND)
    zero_us = driven.clock.now.unix_us - driven.clock.now.mono_us
    assert driven.give(ClockRead(zero_us + WRONG_CLOCK_US - 1)) == [], "the clock was right enough"
    request = driven.give(ClockRead(zero_us + WRONG_CLOCK_US))
    assert frames(request) == [{"method": "SUBSCRIBE", "params": [ORDERS], "signature": driven.signature()}]
    assert request[-1] == Requested((ORDERS,))
    assert driven.state(ORDERS) is StreamState.REQUESTED
    assert driven.state(TICKER) is StreamState.REFUSED
    assert driven.give(ClockRead(zero_us - WRONG_CLOCK_US)) == [], "nothing is refused any more"
    assert driven.give(ErrorFrame(4003, "message")) == [refused(4003, ORDERS)]
    assert driven.give(ClockRead(zero_us - WRONG_CLOCK_US)) == [], "not at once again"
    driven.clock.advance(60 * SECOND)
    again = driven.give(ClockRead(zero_us))
    assert again[-1] == Requested((ORDERS,)), "the refusal may have been that of an earlier request"


def test_the_errors_of_one_signing_are_not_blamed_on_the_next_one() -> None:
    """Each of two frames is refused by an error of its own, and the clock is read between the two."""
    driven = up(ORDERS, POSITIONS)
    zero_us = driven.clock.now.unix_us - driven.clock.now.mono_us + WRONG_CLOCK_US
    assert driven.give(ErrorFrame(4003, "message")) == [refused(4003, ORDERS, POSITIONS)]
    assert driven.give(ClockRead(zero_us)) == []
    assert driven.give(ErrorFrame(4003, "message"), after_us=ERRORS_US // 2) == []
    assert driven.give(ClockRead(zero_us)) == []
    assert driven.wait_us() == ERRORS_US - ERRORS_US // 2
    outputs = driven.fire()
    assert outputs[-1] == Requested((ORDERS, POSITIONS))
    assert driven.wait_us() is None
    assert driven.state(ORDERS) is driven.state(POSITIONS) is StreamState.REQUESTED


def test_a_flood_of_errors_does_not_put_off_the_next_signing() -> None:
    driven = up(ORDERS)
    zero_us = driven.clock.now.unix_us - driven.clock.now.mono_us + WRONG_CLOCK_US
    driven.give(ErrorFrame(4003, "message"))
    driven.give(ClockRead(zero_us))
    for _ in range(3):
        driven.give(ErrorFrame(4003, "message"), after_us=ERRORS_US // 4)
    assert driven.wait_us() == ERRORS_US // 4
    assert driven.fire()[-1] == Requested((ORDERS,))


def test_data_clear_a_suspect() -> None:
    driven = up(DEPTH, TICKER)
    driven.give(ErrorFrame(4006, "message"))
    assert driven.give(DataSeen(DEPTH)) == [StreamLive(stream=DEPTH), InForce((DEPTH,))]
    assert driven.state(DEPTH) is StreamState.LIVE
    assert driven.fire() == [StreamSilent(stream=TICKER, silent_us=FIRST_DATA_TIMEOUT_US[Channel.TICKER])]
    assert driven.state(TICKER) is StreamState.REFUSED


def test_unsubscribing_and_subscribing_asks_for_a_refused_stream_again() -> None:
    driven = up(ORDERS)
    driven.give(ErrorFrame(4003, "message"))
    assert streams_of("UNSUBSCRIBE", driven.give(Unsubscribe((ORDERS,)))) == [[ORDERS]]
    assert driven.subscribe(ORDERS)[-1] == Requested((ORDERS,))


def test_the_table_leads_to_every_state() -> None:
    assert {after for _, _, after in STREAM_TRANSITIONS.edges} == set(StreamState)


def test_hundreds_of_canaries_need_few_timers() -> None:
    """Data of a live canary do not touch the timers, so a frame costs the same with one stream as with a thousand."""
    names = [f"ticker.M{number}_USDC" for number in range(500)]
    driven = up(*names)
    for name in names:
        driven.give(DataSeen(name))
    before = freeze(driven.subscriptions._timers)
    for _ in range(5):
        driven.clock.advance(SECOND)
        for name in names:
            assert driven.give(DataSeen(name)) == []
    assert freeze(driven.subscriptions._timers) == before


BOOK_TICKER = "bookTicker.SOL_USDC"


def books(*names: str) -> Subscribe:
    return Subscribe(books=names)


def subscribing(*streams: str) -> SendText:
    return SendText(json.dumps({"method": "SUBSCRIBE", "params": streams}, separators=(",", ":")))


def unsubscribing(*streams: str) -> SendText:
    return SendText(json.dumps({"method": "UNSUBSCRIBE", "params": streams}, separators=(",", ":")))


def test_a_verified_book_brings_its_book_ticker_and_hides_it() -> None:
    driven = up()
    assert driven.give(books(DEPTH)) == [subscribing(DEPTH), subscribing(BOOK_TICKER), Requested((DEPTH, BOOK_TICKER))]
    assert [*driven.subscriptions.shown] == [DEPTH]
    assert driven.give(Unsubscribe((DEPTH,))) == [
        unsubscribing(DEPTH),
        unsubscribing(BOOK_TICKER),
        Released((DEPTH, BOOK_TICKER)),
    ]
    assert [*driven.subscriptions.wanted] == []


def test_a_plain_depth_stream_brings_nothing() -> None:
    driven = up()
    assert driven.subscribe(DEPTH) == [subscribing(DEPTH), Requested((DEPTH,))]
    assert driven.give(books(DEPTH)) == [subscribing(BOOK_TICKER), Requested((BOOK_TICKER,))]


@pytest.mark.parametrize("given", [books(TRADE), Subscribe((TRADE,), (DEPTH, BOOK_TICKER))])
def test_only_depth_streams_are_books(given: Subscribe) -> None:
    driven = up()
    before = freeze(driven.subscriptions)
    with pytest.raises(LocalProtocolError, match=r"books: not a depth stream: '(trade|bookTicker)\.SOL_USDC'"):
        driven.give(given)
    assert freeze(driven.subscriptions) == before


def test_a_book_ticker_that_the_user_leaves_to_the_book_stays_and_is_hidden() -> None:
    driven = up()
    driven.give(Subscribe((BOOK_TICKER,), (DEPTH,)))
    assert [*driven.subscriptions.shown] == [DEPTH, BOOK_TICKER]
    assert driven.give(Unsubscribe((BOOK_TICKER,))) == []
    assert [*driven.subscriptions.shown] == [DEPTH]
    assert [*driven.subscriptions.wanted] == [DEPTH, BOOK_TICKER]
    assert driven.subscribe(BOOK_TICKER) == []
    assert [*driven.subscriptions.shown] == [DEPTH, BOOK_TICKER]


def test_a_book_leaves_the_book_ticker_to_the_user() -> None:
    driven = up(BOOK_TICKER)
    driven.give(books(DEPTH))
    assert driven.give(Unsubscribe((DEPTH,))) == [unsubscribing(DEPTH), Released((DEPTH,))]
    assert [*driven.subscriptions.shown] == [BOOK_TICKER]
    assert driven.give(Unsubscribe((BOOK_TICKER,))) == [unsubscribing(BOOK_TICKER), Released((BOOK_TICKER,))]


def test_two_books_of_a_symbol_share_its_book_ticker() -> None:
    driven = up()
    driven.give(books(DEPTH, DEPTH_200))
    assert driven.give(Unsubscribe((DEPTH,))) == [unsubscribing(DEPTH), Released((DEPTH,))]
    assert driven.give(Unsubscribe((DEPTH_200,))) == [
        unsubscribing(DEPTH_200),
        unsubscribing(BOOK_TICKER),
        Released((DEPTH_200, BOOK_TICKER)),
    ]


def test_a_need_counts_once_however_often_it_is_said() -> None:
    driven = up()
    driven.give(books(DEPTH))
    driven.give(Subscribe((DEPTH, TRADE), (DEPTH,)))
    assert driven.give(Unsubscribe((DEPTH,)))[-1] == Released((DEPTH, BOOK_TICKER))


def test_a_book_is_verified_on_the_next_connection_too() -> None:
    driven = up()
    driven.give(books(DEPTH))
    driven.give(ConnectionLost())
    assert driven.give(Connected()) == [subscribing(DEPTH), subscribing(BOOK_TICKER), Requested((DEPTH, BOOK_TICKER))]


def test_the_ledger_keeps_its_streams_when_the_user_unsubscribes_them() -> None:
    driven = up(ORDERS)
    assert driven.give(FollowAccount())[-1] == Requested(("account.positionUpdate", "account.balanceUpdate"))
    assert driven.give(FollowAccount()) == []
    assert driven.give(Unsubscribe((ORDERS, "account.balanceUpdate"))) == []
    assert [*driven.subscriptions.shown] == [ORDERS, "account.positionUpdate", "account.balanceUpdate"]


def test_an_account_is_followed_with_credentials_only() -> None:
    driven = Driven(credentials=False)
    with pytest.raises(LocalProtocolError, match="private streams need credentials"):
        driven.give(FollowAccount())
    assert driven.subscriptions.states == {}


def test_what_was_unsubscribed_is_leaving_until_the_connection_ends_or_it_is_wanted_again() -> None:
    driven = up(DEPTH, TRADE)
    driven.give(Unsubscribe((DEPTH, TRADE)))
    assert [*driven.subscriptions.leaving] == [DEPTH, TRADE]
    driven.subscribe(DEPTH)
    assert [*driven.subscriptions.leaving] == [TRADE]
    driven.give(ConnectionLost())
    assert [*driven.subscriptions.leaving] == []
    driven.give(Unsubscribe((DEPTH,)))
    assert [*driven.subscriptions.leaving] == []
