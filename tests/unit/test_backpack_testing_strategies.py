"""The strategies draw everything that there is, valid, simplest first. What they are for, they find."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import find, given

import backpack_proto
from backpack_proto import Channel, Event, LocalProtocolError, Session, decode_event, encode_event
from backpack_proto.inputs import Connected, Open, ResponseReceived, Subscribe, TextReceived, TimerFired
from backpack_proto.machine import Now
from backpack_proto.outputs import BookChanged, BookSynced, Output, SendRequest
from backpack_proto.rest.codec import parse_response
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import CHANNEL_OF
from backpack_proto.streams.frames import Frame, FrameDropped, decode_frame
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import parse_stream
from backpack_proto.streams.payloads import BookTicker, Depth, Kline, OrderUpdate, Payload, StreamPayload, Ticker, Trade
from backpack_proto.testing import FAULTS, BookHistory, Episode, FaultName, FrameFault, encode_frame
from backpack_proto.testing.strategies import (
    EVENTS,
    PAYLOADS,
    book_histories,
    broken_frames,
    events,
    fault_schedules,
    frames,
    payloads,
)
from backpack_proto.testing.strategies.members import of_type
from hypothesis_profiles import examples

D = Decimal
each_payload = pytest.mark.parametrize("kind", PAYLOADS, ids=lambda kind: kind.__name__)
each_event = pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)


def only(data: bytes) -> Frame:
    decoded = decode_frame(data)
    frame = decoded[0] if isinstance(decoded, tuple) else decoded
    assert isinstance(frame, Frame), decoded
    return frame


# Payloads, frames and events.


def test_every_payload_and_every_event_that_is_exported_is_drawn() -> None:
    assert set(PAYLOADS) == set(Payload.__args__)
    exported = [getattr(backpack_proto, name) for name in backpack_proto.__all__]
    concrete = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event}
    bases = concrete - set(EVENTS)
    assert all(kind.__subclasses__() and kind not in PAYLOADS for kind in bases), bases
    assert set(PAYLOADS) <= set(EVENTS)


@each_payload
def test_a_payload_is_read_back_from_its_frame(kind: type[StreamPayload]) -> None:
    @examples(15)
    @given(payloads(kind))
    def check(payload: Any) -> None:
        frame = only(encode_frame(payload))
        assert (type(frame.payload), frame.payload) == (kind, payload)
        assert parse_stream(frame.stream).channel is CHANNEL_OF[kind]

    check()


@each_event
def test_an_event_is_read_back_from_its_json(kind: type[Event]) -> None:
    @examples(10)
    @given(events(kind))
    def check(event: Event) -> None:
        assert type(event) is kind
        assert decode_event(encode_event(event)) == event

    check()


@pytest.mark.parametrize("channel", Channel)
def test_frames_are_of_the_channel_that_was_asked_for(channel: Channel) -> None:
    @examples(10)
    @given(frames(channel))
    def check(frame: bytes) -> None:
        assert parse_stream(only(frame).stream).channel is channel

    check()


def test_broken_frames_are_told_and_never_raised() -> None:
    told: list[type] = []

    @examples(50)
    @given(broken_frames())
    def check(frame: bytes) -> None:
        told.append(type(decode_frame(frame)))

    check()
    assert FrameDropped in told


def test_the_members_of_a_value_fit_each_other() -> None:
    @examples(50)
    @given(payloads(Depth, Kline, BookTicker, Ticker))
    def check(payload: object) -> None:
        match payload:
            case Depth():
                payload.check()
                assert len({level.price for level in payload.bids}) == len(payload.bids)
            case Kline(open=None):
                assert payload.high is payload.low is payload.close is None
            case Kline():
                assert None not in (payload.low, payload.open, payload.close, payload.high)
                assert payload.start_us < payload.end_us
            case BookTicker(bid_price=Decimal() as bid, ask_price=Decimal() as ask):
                assert bid < ask
            case Ticker():
                assert payload.low <= payload.last_price <= payload.high

    check()


def test_a_book_that_is_drawn_is_sorted_and_not_crossed() -> None:
    @examples(50)
    @given(events(BookSynced, BookChanged))
    def check(event: Any) -> None:
        assert list(event.bids) == sorted(event.bids, reverse=True)
        assert list(event.asks) == sorted(event.asks)
        assert not (event.bids and event.asks) or event.bids[0].price < event.asks[0].price
        assert event.stream == f"depth.{event.symbol}"

    check()


def test_simple_values_come_first() -> None:
    trade: Any = find(payloads(Trade), lambda _: True)
    assert (trade.symbol, trade.price, trade.quantity, trade.trade_id) == ("SOL_USDC", D(1), D(0), 1)
    assert (trade.quote_quantity, trade.received_us, trade.buyer_order_id) == (None, None, None)
    assert find(fault_schedules(), lambda _: True) == ()
    assert find(book_histories(), lambda _: True) == BookHistory(symbol="SOL_USDC", last=0, bids=(), asks=(), deltas=())


def test_a_base_asks_for_all_of_its_kinds_and_a_foreign_type_is_refused() -> None:
    seen: set[type] = set()

    @examples(200)
    @given(payloads(OrderUpdate))
    def check(payload: object) -> None:
        seen.add(type(payload))

    check()
    assert seen == {kind for kind in PAYLOADS if issubclass(kind, OrderUpdate)}
    with pytest.raises(LocalProtocolError, match="kinds: types of payloads of backpack_proto, got int"):
        payloads(int)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(LocalProtocolError, match="kinds: types of payloads of backpack_proto, got BookSynced"):
        payloads(BookSynced)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(LocalProtocolError, match=r"channels: one of bookTicker, .*got 'book'"):
        frames("book")
    with pytest.raises(LocalProtocolError, match=r"no strategy is known for .*complex.*, the type of phase"):
        of_type(complex, "phase")
    with pytest.raises(LocalProtocolError, match="payload: a payload of a stream, got Level"):
        encode_frame(Level("1", "1"))  # type: ignore[arg-type]  # that is the point


class Novel(StreamPayload, frozen=True, gc=False, kw_only=True, tag="novel"):
    """A payload that nobody has told the strategies of."""

    symbol: str = msgspec.field(name="s")
    engine_us: int = msgspec.field(name="T")
    weight: D | None = msgspec.field(name="w", default=None)


def test_a_new_payload_is_drawn_from_its_type() -> None:
    novel: Any = find(of_type(Novel), lambda one: one.weight is not None)
    assert (novel.symbol, novel.weight) == ("SOL_USDC", D(0))


# Histories of a book.


class Naive:
    """The book of somebody who has not read about gaps."""

    def __init__(self, snapshot: bytes) -> None:
        read = msgspec.json.decode(snapshot)
        self.bids, self.asks = ({D(price): D(quantity) for price, quantity in read[side]} for side in ("bids", "asks"))
        self.last = int(read["lastUpdateId"])
        self.right = True

    def take(self, data: bytes) -> None:
        frame = decode_frame(data)
        if isinstance(frame, Frame) and isinstance(frame.payload, Depth):
            self.apply(frame.payload)

    def apply(self, delta: Depth) -> None:
        for side, changed in ((self.bids, delta.bids), (self.asks, delta.asks)):
            side.update(dict(changed))  # type: ignore[arg-type]  # a level unpacks into two decimals
            for price in [price for price, quantity in side.items() if not quantity]:
                del side[price]
        self.last = delta.last_update_id


class Careful(Naive):
    """One that knows what to do."""

    def apply(self, delta: Depth) -> None:
        if delta.last_update_id <= self.last:
            return
        if delta.first_update_id != self.last + 1:
            self.right = False
        if self.right:
            super().apply(delta)


class Dated(Naive):
    """One that refuses old frames, and does not see that others are missing."""

    def apply(self, delta: Depth) -> None:
        if delta.last_update_id > self.last:
            super().apply(delta)


def lies(book: type[Naive], history: BookHistory) -> bool:
    built = book(history.snapshot())
    for frame in history.frames:
        built.take(frame)
    return built.right and (built.bids, built.asks) != history.levels_at(built.last)


@examples(300)
@given(book_histories())
def test_a_careful_book_is_never_refuted(history: BookHistory) -> None:
    assert not lies(Careful, history)


@examples(100)
@given(book_histories(faults=False))
def test_without_faults_even_a_naive_book_is_right(history: BookHistory) -> None:
    assert history.frames == history.sent
    assert not lies(Naive, history)


@pytest.mark.parametrize("book", [Naive, Dated])
def test_a_book_that_ignores_gaps_is_refuted_by_two_changes_and_one_fault(book: type[Naive]) -> None:
    found = find(book_histories(max_frames=4), lambda history: lies(book, history))
    assert len(found.deltas) == 2
    assert found.faults == (FrameFault("gap", 0),)
    changed = [level for delta in found.deltas for level in (*delta.bids, *delta.asks)]
    assert len(changed) <= 3
    assert eval(repr(found), vars(backpack_proto) | {"BookHistory": BookHistory, "FrameFault": FrameFault}) == found  # noqa: S307 - our own text


@pytest.mark.parametrize(
    ("kind", "arrive"), [("gap", [0, 2]), ("repeat", [0, 1, 1, 2]), ("reorder", [0, 2, 1]), ("tear", [0, None, 2])]
)
def test_each_fault_of_a_frame_does_what_it_says(kind: Any, arrive: list[int | None]) -> None:
    deltas = tuple(
        Depth(emitted_us=1, symbol="SOL_USDC", engine_us=1, first_update_id=number, last_update_id=number, bids=(), asks=())
        for number in (1, 2, 3)
    )
    history = BookHistory(symbol="SOL_USDC", last=0, bids=(), asks=(), deltas=deltas)
    broken = msgspec.structs.replace(history, faults=(FrameFault(kind, 1),))
    places: list[int | None] = [broken.sent.index(frame) if frame in broken.sent else None for frame in broken.frames]
    assert places == arrive
    if kind == "tear":
        assert broken.sent[1].startswith(broken.frames[1])
        assert isinstance(decode_frame(broken.frames[1]), FrameDropped)


@examples(50)
@given(book_histories())
def test_the_snapshots_of_a_history_are_answers_of_the_exchange(history: BookHistory) -> None:
    for number in range(len(history.deltas) + 1):
        read: Any = parse_response(
            ENDPOINTS["depth"], {"symbol": history.symbol}, status=200, body=history.snapshot(number), headers=()
        )
        bids, asks = history.levels_at(read.last_update_id)
        assert dict(read.bids) == bids
        assert dict(read.asks) == asks
        assert not (bids and asks) or max(bids) < min(asks)


def test_what_a_history_does_not_know_is_refused() -> None:
    history = BookHistory(symbol="SOL_USDC", last=7, bids=(), asks=(), deltas=())
    with pytest.raises(LocalProtocolError, match="no frame of this history ends at 8"):
        history.levels_at(8)
    with pytest.raises(LocalProtocolError, match="deltas: from 0 to 0, got 99"):
        history.snapshot(99)
    with pytest.raises(LocalProtocolError, match="kind: one of gap, repeat, reorder, tear, got 'gone'"):
        FrameFault("gone", 0)  # type: ignore[arg-type]  # that is the point


@examples(100)
@given(book_histories())
def test_our_own_session_is_never_refuted(history: BookHistory) -> None:
    session = Session(Random(1), canary=False, audit_books=False, book_levels=100)
    now = Now(1_000_000, 1_700_000_000_000_000)
    known: dict[str, tuple[dict[D, D], dict[D, D]]] = {}

    def give(given: Any) -> None:
        pending: list[Any] = [given]
        while pending:
            outputs: list[Output] = session.handle_all([pending.pop(0)], now)
            for output in outputs:
                match output:
                    case SendRequest(request_id=number):
                        pending.append(ResponseReceived(request_id=number, status=200, body=history.snapshot()))
                    case BookSynced() | BookChanged():
                        known["book"] = (dict(output.bids), dict(output.asks))  # type: ignore[arg-type]  # levels unpack
                        assert known["book"] == history.levels_at(output.last)

    for given_ in (Open(), Connected(), Subscribe((f"depth.{history.symbol}",))):
        give(given_)
    for frame in history.frames:
        now = Now(now.mono_us + 100_000, now.unix_us + 100_000)
        give(TextReceived(frame))
        give(TimerFired())


# Schedules of faults.


@given(fault_schedules(duration_ms=5_000, max_episodes=3))
def test_a_schedule_is_printed_and_read_back(schedule: tuple[Episode, ...]) -> None:
    assert eval(repr(schedule), {"Episode": Episode}) == schedule  # noqa: S307 - our own text
    assert msgspec.json.decode(msgspec.json.encode(schedule), type=tuple[Episode, ...]) == schedule
    assert len(schedule) <= 3
    assert all(episode.end_ms <= 5_000 for episode in schedule)
    assert [episode.start_ms for episode in schedule] == sorted(episode.start_ms for episode in schedule)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_can_be_asked_for_alone_and_shrinks_to_nothing(fault: FaultName) -> None:
    assert find(fault_schedules(fault, duration_ms=20, max_episodes=1), bool) == (Episode(fault=fault),)


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"faults: one of gap, .*got 'drip'; did you mean drop"):
        fault_schedules("drip")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(LocalProtocolError, match=r"fault: one of gap, .*got 'drip'"):
        Episode(fault="drip")  # type: ignore[arg-type]  # that is the point


# Without the extra.


@pytest.mark.parametrize(
    ("program", "feature"),
    [
        ("import backpack_proto.testing.strategies", "backpack_proto.testing.strategies"),
        ("from backpack_proto.testing import check_machine; check_machine(list, None)", "check_machine"),
    ],
)
def test_without_hypothesis_the_extra_is_named(program: str, feature: str) -> None:
    program = f"import sys; sys.modules['hypothesis'] = None; import backpack_proto.testing\n{program}"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f'MissingExtra: {feature} needs the extra "testing" (' in ended.stderr.splitlines()[-1]
