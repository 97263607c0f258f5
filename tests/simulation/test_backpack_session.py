"""A whole session against the simulated exchange, in virtual time: it follows, it recovers, and what it calls live is right."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from random import Random
from typing import TypeAlias
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import LocalProtocolError, NotSent
from backpack_proto.exchange import LISTINGS, THROWAWAY_SECRET, Exchange
from backpack_proto.inputs import (
    Arguments,
    BytesReceived,
    Call,
    Close,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    FollowAccount,
    Given,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    Reconnect,
    RefreshBook,
    RequestFailed,
    RequestLeft,
    Resolve,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Unsubscribe,
    Verify,
    Withdraw,
)
from backpack_proto.machine import Now
from backpack_proto.metrics import Status
from backpack_proto.outputs import (
    BookChanged,
    BookDesynced,
    BookSynced,
    BookUnavailable,
    BookVerified,
    CallAnswered,
    CallFailed,
    CallUnresolved,
    Closed,
    ConnectionDown,
    ConnectionUp,
    DropSocket,
    Event,
    MarketClosed,
    Output,
    PeerSilent,
    SendRequest,
    SendText,
    StreamLive,
    StreamsRefused,
)
from backpack_proto.session import Session
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import streams_for
from backpack_proto.streams.payloads import BookTicker, Depth, Trade
from backpack_proto.testing.laws import FakeClock, check_machine
from backpack_proto.testing.simulation import Simulation
from hypothesis_profiles import examples
from levels import by_price

START = Now(mono_us=77_000_000, unix_us=1_790_000_000_000_000)
SYMBOLS = ("SOL_USDC", "AAPL.US_USDC_PERP")
SECOND = 1_000_000
LEVELS = 5

Levels: TypeAlias = tuple[Level, ...]


class Mirror:
    """The book of a user who has `BookSynced` and the deltas of `BookChanged`, and nothing else."""

    def __init__(self, synced: BookSynced) -> None:
        self.bids, self.asks = by_price(synced.bids), by_price(synced.asks)

    def apply(self, delta: Depth) -> None:
        for side, changes in ((self.bids, delta.bids), (self.asks, delta.asks)):
            side.update(by_price(changes))
            for price, quantity in changes:
                if not quantity:
                    del side[price]

    def shows(self, bids: Levels, asks: Levels) -> bool:
        return (self.bids, self.asks) == (by_price(bids), by_price(asks))


class Witness:
    """A simulation with a witness who compares each book that is handed out with the exchange's own at that update id.

    So does a user who makes a book of the events alone. No market here has more levels than a snapshot, so that book is whole.
    """

    def __init__(
        self,
        channels: Iterable[str] = ("book",),
        symbols: Sequence[str] = SYMBOLS,
        *,
        seed: int = 1,
        speed: float = 1.0,
        session: Session | None = None,
    ) -> None:
        listings = [listing for listing in LISTINGS if listing.symbol in {*symbols, "HNT_USDC"}]
        self.exchange = Exchange(seed=seed, unix_us=START.unix_us, speed=speed, listings=listings)
        self.session = session or Session(Random(seed), book_levels=LEVELS, canary=False)
        self.simulation = Simulation(self.session, self.exchange, START)
        self.simulation.tamper = self._note
        self.simulation.answer = self._note_snapshot
        self.simulation.on_event = self._compare
        self.truth: dict[tuple[str, int], tuple[Levels, Levels]] = {}
        self.last: dict[str, int] = {}
        self.mirrors: dict[str, Mirror] = {}
        self.compared = 0
        self.snapshots_compared = 0
        self.symbols = tuple(symbols)
        self.losing = Random(0)
        self.loss = 0.0
        self.simulation.give(Open(), Subscribe.of(streams_for(channels, self.symbols)))

    def _note(self, frame: bytes) -> list[bytes]:
        data = msgspec.json.decode(frame).get("data", {})
        if data.get("e") == "depth":
            bids, asks, update_id = self.exchange.levels(data["s"])
            # An input may move the market several times. Only the last of these books can be seen from outside.
            if update_id == data["u"]:
                self.truth[data["s"], update_id] = (bids, asks)
        return [] if self.losing.random() < self.loss else [frame]

    def _note_snapshot(self, request: SendRequest, response: ResponseReceived) -> Fact:
        symbol = _depth_symbol(request)
        if symbol is not None and response.status == 200:
            bids, asks, update_id = self.exchange.levels(symbol)
            self.truth[symbol, update_id] = (bids, asks)
        return response

    def _compare(self, event: Event) -> None:
        if isinstance(event, BookSynced):
            self.last[event.stream] = event.last
            self.mirrors[event.stream] = Mirror(event)
            if (event.symbol, event.last) in self.truth:
                assert (event.bids, event.asks) == self.truth.pop((event.symbol, event.last))
                self.snapshots_compared += 1
        elif isinstance(event, BookDesynced):
            del self.last[event.stream], self.mirrors[event.stream]
        elif isinstance(event, BookChanged):
            assert event.first == self.last[event.stream] + 1
            self.last[event.stream] = event.last
            assert not (event.bids and event.asks) or event.bids[0][0] < event.asks[0][0]
            mirror = self.mirrors[event.stream]
            mirror.apply(event.delta)
            if (event.symbol, event.last) in self.truth:
                bids, asks = self.truth.pop((event.symbol, event.last))
                assert (event.bids, event.asks) == (bids[:LEVELS], asks[:LEVELS])
                assert mirror.shows(bids, asks)
                self.compared += 1

    def all_live(self) -> bool:
        return all(self.session.book(symbol).is_live(self.simulation.now.mono_us) for symbol in self.symbols)

    def settle(self, seconds: int = 120) -> bool:
        return self.simulation.run(seconds * SECOND, until=self.all_live)

    def events(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.simulation.events if isinstance(event, kinds)]

    def assert_books_are_the_exchange_s(self) -> None:
        """Stop the market and let everything arrive: both books must then be the same to the last level that is covered."""
        for symbol in self.symbols:
            book = self.session.book(symbol)
            bids, asks, update_id = self.exchange.levels(symbol)
            assert book.is_live(self.simulation.now.mono_us)
            behind = update_id - book.last
            assert 0 <= behind <= 3
            if not behind:
                assert by_price(book.bids()) == {
                    price: quantity for price, quantity in bids if book.bid_quantity(price) is not None
                }
                assert by_price(book.asks()) == {
                    price: quantity for price, quantity in asks if book.ask_quantity(price) is not None
                }


def _depth_symbol(request: SendRequest) -> str | None:
    path, _, query = request.request.target.partition("?")
    return dict(parse_qsl(query)).get("symbol") if path == "/api/v1/depth" else None


@pytest.mark.gate
def test_books_follow_the_exchange_and_are_verified() -> None:
    witness = Witness(("book", "trades"))
    assert witness.settle(5)
    witness.simulation.run(60 * SECOND)
    witness.assert_books_are_the_exchange_s()
    assert witness.compared > 1_000
    assert witness.snapshots_compared == len(SYMBOLS)
    assert witness.events(BookDesynced, FrameDropped, ConnectionDown) == []
    against = {(event.symbol, event.against) for event in witness.events(BookVerified) if isinstance(event, BookVerified)}
    assert against == {(symbol, way) for symbol in SYMBOLS for way in ("bookTicker", "snapshot")}
    assert witness.session.health(witness.simulation.now).status is Status.HEALTHY
    assert all(isinstance(event.price, Decimal) for event in witness.events(Trade) if isinstance(event, Trade))


@pytest.mark.parametrize("channel", ["book", "book.200ms"])
def test_frames_that_came_before_the_snapshot_are_told_behind_it(channel: str) -> None:
    """The first answer is held back: it comes when it is asked for again, and all frames of that second lie behind it."""
    witness = Witness((channel,))
    late: dict[str, bytes] = {}

    def delay(request: SendRequest, response: ResponseReceived) -> Fact:
        symbol = _depth_symbol(request)
        if symbol is None:
            return response
        body = late.setdefault(symbol, response.body)
        if body is response.body:
            witness._note_snapshot(request, response)
            return RequestFailed(request_id=request.request_id, reason="no answer")
        return ResponseReceived(request_id=request.request_id, status=200, body=body)

    witness.simulation.answer = delay
    assert witness.settle(5)
    events = witness.events(BookSynced, BookChanged)
    for symbol in SYMBOLS:
        synced, *kept = [event for event in events if isinstance(event, BookSynced | BookChanged) and event.symbol == symbol]
        assert isinstance(synced, BookSynced)
        assert synced.last == int(msgspec.json.decode(late[symbol])["lastUpdateId"])
        assert len(kept) > 2
        book = witness.session.book(symbol)
        assert kept[-1].last == book.last
        assert witness.mirrors[synced.stream].shows(book.bids(), book.asks())
    assert witness.snapshots_compared == len(SYMBOLS)
    assert witness.compared > 4


@pytest.mark.parametrize("window", ["200ms", "600ms", "1000ms"])
def test_aggregated_depth_makes_the_same_books(window: str) -> None:
    witness = Witness((f"book.{window}",))
    assert witness.settle(5)
    witness.simulation.run(30 * SECOND)
    assert witness.compared > 20
    assert witness.events(BookDesynced) == []
    assert witness.all_live()


@pytest.mark.gate
def test_a_cut_connection_comes_back_with_right_books() -> None:
    witness = Witness()
    assert witness.settle(5)
    witness.simulation.cut()
    assert not witness.all_live()
    stale = [event for event in witness.events(BookDesynced) if isinstance(event, BookDesynced)]
    assert {event.symbol for event in stale} == set(SYMBOLS)
    assert witness.settle()
    witness.simulation.run(10 * SECOND)
    witness.assert_books_are_the_exchange_s()
    assert len(witness.events(ConnectionUp)) == 2
    metrics = witness.session.metrics(witness.simulation.now)
    assert metrics.ws_reconnects == 1
    assert metrics.orderbook_resyncs == len(SYMBOLS)


def test_a_refusing_exchange_is_asked_less_and_less() -> None:
    witness = Witness(speed=0.0)
    witness.simulation.refusing = True
    witness.simulation.run(SECOND)
    witness.simulation.cut()
    witness.simulation.run(600 * SECOND)
    downs = [event for event in witness.events(ConnectionDown) if isinstance(event, ConnectionDown)]
    assert all(down.retry_us <= 30 * SECOND for down in downs)
    # Ceilings of 1, 2, 4, 8, 16 and then 30 s, half of which is waited on average.
    assert 20 < len(downs) < 90
    assert witness.session.health(witness.simulation.now).status is Status.DOWN
    witness.simulation.refusing = False
    assert witness.settle(60)


def test_an_exchange_that_accepts_and_closes_at_once_is_backed_off_from() -> None:
    witness = Witness(speed=0.0)
    for _ in range(12):
        witness.simulation.run(60 * SECOND, until=lambda: bool(witness.events(ConnectionUp)))
        witness.simulation.events.clear()
        witness.simulation.cut()
    downs = witness.simulation.now.mono_us - START.mono_us
    assert downs > 30 * SECOND, "twelve connections took no time"
    assert witness.settle()


def test_a_mute_exchange_is_given_up_and_found_again() -> None:
    witness = Witness()
    assert witness.settle(5)
    witness.simulation.mute = True
    assert witness.simulation.run(40 * SECOND, until=lambda: bool(witness.events(PeerSilent)))
    assert not witness.all_live()
    witness.simulation.mute = False
    assert witness.settle()
    assert len(witness.events(ConnectionUp)) == 2


@pytest.mark.gate
def test_lost_frames_cost_one_book_and_are_noticed() -> None:
    witness = Witness()
    assert witness.settle(5)
    witness.loss = 0.02
    witness.simulation.run(60 * SECOND)
    witness.loss = 0.0
    assert witness.settle()
    witness.simulation.run(5 * SECOND)
    witness.assert_books_are_the_exchange_s()
    assert witness.events(BookDesynced)
    assert len(witness.events(ConnectionUp)) == 1, "a gap never costs the connection"
    assert len(witness.simulation.requests) < 120


@pytest.mark.gate
def test_garbage_is_dropped_aloud_and_changes_nothing() -> None:
    witness = Witness()
    assert witness.settle(5)
    garbage = [
        b"",
        b"\x00\xff",
        b"{",
        b"[]",
        b'{"data":{"e":"zork"},"stream":"zork.SOL_USDC"}',
        b'"\xed\xa0\x80"',
        b"[" * 10_000,
    ]
    for data in garbage:
        witness.session.handle(TextReceived(data), witness.simulation.now)
    metrics = witness.session.metrics(witness.simulation.now)
    assert metrics.dropped_messages == metrics.parser_errors == len(garbage)
    assert witness.session.health(witness.simulation.now).status is Status.DEGRADED
    witness.simulation.run(70 * SECOND)
    assert witness.session.health(witness.simulation.now).status is Status.HEALTHY
    witness.assert_books_are_the_exchange_s()


def test_an_unreadable_frame_has_the_books_checked_though_no_other_follows() -> None:
    witness = Witness(symbols=["SOL_USDC"])
    assert witness.settle(5)
    note = witness.simulation.tamper
    assert note is not None
    witness.simulation.tamper = lambda frame: [b"\x00" * len(data) for data in note(frame)]
    witness.simulation.run(SECOND // 2, until=lambda: bool(witness.events(FrameDropped)))
    # The market falls silent, so that no gap can ever show.
    witness.simulation.tamper = lambda _: []
    assert witness.simulation.run(8 * SECOND, until=lambda: bool(witness.events(BookDesynced)))
    witness.simulation.tamper = note
    assert witness.settle(60)


@pytest.mark.gate
def test_failing_snapshots_are_asked_for_ever_less_often() -> None:
    witness = Witness(speed=0.2)

    def fail(request: SendRequest, _: ResponseReceived) -> Fact:
        return ResponseReceived(request_id=request.request_id, status=503, body=b"upstream connect error")

    witness.simulation.answer = fail
    witness.simulation.run(120 * SECOND)
    assert not witness.all_live()
    assert witness.events(BookUnavailable)
    assert len(witness.simulation.requests) < 40
    witness.simulation.answer = None
    assert witness.settle(60)
    witness.simulation.run(5 * SECOND)
    witness.assert_books_are_the_exchange_s()


@pytest.mark.gate
def test_too_many_requests_pauses_all_of_them() -> None:
    witness = Witness()

    def refuse(request: SendRequest, _: ResponseReceived) -> Fact:
        return ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=20 * SECOND)

    witness.simulation.answer = refuse
    witness.simulation.run(15 * SECOND)
    assert len(witness.simulation.requests) == len(SYMBOLS)
    assert witness.session.metrics(witness.simulation.now).rate_limited == len(SYMBOLS)
    assert witness.session.budget(witness.simulation.now).paused_until_us is not None
    witness.simulation.answer = None
    assert witness.settle(60)


def paused(witness: Witness, seconds: int) -> None:
    """The exchange answers one call with 429."""

    def refuse(request: SendRequest, _: ResponseReceived) -> Fact:
        return ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=seconds * SECOND)

    witness.simulation.answer = refuse
    witness.simulation.give(Call(call_id=1_000, endpoint="ping"))
    witness.simulation.run(SECOND)
    witness.simulation.answer = None
    witness.simulation.requests.clear()


def depth_requests(witness: Witness) -> list[str]:
    return [symbol for request in witness.simulation.requests if (symbol := _depth_symbol(request)) is not None]


def test_the_snapshot_of_a_book_that_is_not_wanted_any_more_is_never_asked_for() -> None:
    witness = Witness(("book",), ("SOL_USDC",))
    assert witness.settle()
    paused(witness, 20)
    witness.simulation.give(Subscribe(("depth.BTC_USDC",)))
    witness.simulation.run(2 * SECOND)
    assert witness.session.budget(witness.simulation.now).queued == 1
    witness.simulation.give(Unsubscribe(("depth.BTC_USDC",)))
    assert witness.session.budget(witness.simulation.now).queued == 0
    witness.simulation.run(22 * SECOND)
    assert "BTC_USDC" not in depth_requests(witness)


def test_lost_connections_leave_no_snapshots_behind_that_wait_for_the_budget() -> None:
    witness = Witness(("book",))
    assert witness.settle()
    paused(witness, 50)
    for _ in range(4):
        witness.simulation.cut()
        witness.simulation.run(5 * SECOND)

    def waiting() -> bool:
        return witness.session.budget(witness.simulation.now).queued == len(SYMBOLS)

    assert witness.simulation.run(20 * SECOND, until=waiting)
    witness.simulation.run(40 * SECOND, until=witness.all_live)
    assert sorted(depth_requests(witness)) == sorted(SYMBOLS), "one each"


def test_a_book_whose_snapshot_waits_for_the_budget_is_not_without_an_answer() -> None:
    witness = Witness(("book",), ("SOL_USDC",))
    assert witness.settle()
    paused(witness, 50)
    witness.simulation.cut()
    witness.simulation.run(45 * SECOND)
    assert witness.events(BookUnavailable) == []
    assert witness.settle(10)


def test_readings_of_the_ledger_that_were_given_up_are_never_sent() -> None:
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)), canary=False)
    witness = Witness((), ("SOL_USDC",), session=session)
    witness.simulation.give(FollowAccount())
    assert witness.simulation.run(20 * SECOND, until=lambda: session.account.live)
    paused(witness, 50)
    for _ in range(3):
        witness.simulation.cut()
        witness.simulation.run(10 * SECOND)
    assert session.budget(witness.simulation.now).queued <= 1
    assert witness.simulation.run(40 * SECOND, until=lambda: session.account.live)
    assert [request.request.target for request in witness.simulation.requests].count("/api/v1/orders") == 1


ORDER: Arguments = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "1", "quantity": "1", "clientId": 7}


@pytest.mark.parametrize("seconds", [10, 600, 1_000_000_000])
def test_an_order_that_was_given_up_during_a_pause_is_never_placed(seconds: int) -> None:
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)), canary=False)
    witness = Witness((), ("SOL_USDC",), session=session)
    witness.simulation.run(SECOND)
    paused(witness, seconds)
    witness.simulation.give(Call(call_id=7, endpoint="place_order", parameters=ORDER, max_wait_us=3_600 * SECOND))
    with pytest.raises(LocalProtocolError, match="call_id 7 is in use"):
        witness.simulation.give(Call(call_id=7, endpoint="ping"))
    witness.simulation.run(2 * SECOND)
    witness.simulation.give(Withdraw(7))
    witness.simulation.run(700 * SECOND)
    assert witness.simulation.requests == []
    assert session.unresolved == {}
    assert [event for event in witness.events(CallFailed, CallAnswered, CallUnresolved) if event.call_id == 7] == []  # type: ignore[attr-defined]  # each has one
    witness.simulation.give(Call(call_id=8, endpoint="ping"))
    witness.simulation.run(SECOND)
    assert len(witness.simulation.requests) == 1, "the pause is over"


def test_an_order_waits_for_five_seconds_of_a_pause_and_fails_as_not_sent() -> None:
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)), canary=False)
    witness = Witness((), ("SOL_USDC",), session=session)
    witness.simulation.run(SECOND)
    paused(witness, 30)
    witness.simulation.give(Call(call_id=7, endpoint="place_order", parameters=ORDER))
    witness.simulation.run(5 * SECOND - 1)
    assert [event.call_id for event in witness.events(CallFailed) if isinstance(event, CallFailed)] == [1_000]
    witness.simulation.run(60 * SECOND)
    error = NotSent(endpoint="POST /api/v1/order", reason="its turn did not come within 5 s")
    assert witness.events(CallFailed)[-1] == CallFailed(call_id=7, endpoint="place_order", error=error)
    assert witness.simulation.requests == []


@pytest.mark.parametrize("lost", [False, True])
def test_an_order_that_had_left_when_it_was_given_up_is_unresolved_until_it_is_known_how_it_ended(*, lost: bool) -> None:
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)), canary=False)
    witness = Witness((), ("SOL_USDC",), session=session)
    witness.simulation.run(SECOND)
    if lost:
        witness.simulation.answer = lambda _request, _response: None
    witness.simulation.latency_us = 100_000
    bids, _, _ = witness.exchange.levels("SOL_USDC")
    order = dict(ORDER) | {"price": f"{(bids[0][0] * Decimal('0.95')).quantize(Decimal('0.1'))}"}
    witness.simulation.give(Call(call_id=7, endpoint="place_order", parameters=order), Withdraw(7), Withdraw(7))
    assert list(session.unresolved) == [7]
    witness.simulation.run(150_000)
    (event,) = witness.events(CallUnresolved)
    assert event == CallUnresolved(
        call_id=7,
        endpoint="place_order",
        reason="it was given up by its caller after it had been sent",
        symbol="SOL_USDC",
        client_id=7,
    )
    assert session.unresolved == {7: event}
    witness.simulation.run(SECOND)
    (end,) = [event for event in witness.events(CallAnswered, CallFailed) if isinstance(event, CallAnswered | CallFailed)]
    assert end.call_id == 7
    assert isinstance(end, CallFailed if lost else CallAnswered)
    assert list(session.unresolved) == ([7] if lost else [])
    if lost:
        witness.simulation.give(Resolve(7))
    assert session.unresolved == {}
    with pytest.raises(LocalProtocolError, match="call_id 7 is not unresolved"):
        witness.simulation.give(Resolve(7))


def test_a_pause_of_thirty_one_years_lasts_for_the_ceiling_and_is_said() -> None:
    witness = Witness(session=Session(Random(1), book_levels=LEVELS, pause_ceiling_us=5 * SECOND, canary=False))
    assert witness.settle()
    paused(witness, 1_000_000_000)
    health = witness.session.health(witness.simulation.now)
    assert health.status is Status.DEGRADED
    (said,) = [reason for reason in health.reasons if "pause" in reason]
    assert said.startswith("REST requests pause for 5 s, ")
    assert said.endswith(" the exchange answered 429 and asked for 1000000000 s")
    witness.simulation.run(5 * SECOND)
    assert not [reason for reason in witness.session.health(witness.simulation.now).reasons if "pause" in reason]
    witness.simulation.give(Call(call_id=1, endpoint="ping"))
    witness.simulation.run(SECOND)
    assert witness.events(CallAnswered)


def test_a_wrong_quantity_is_found_out() -> None:
    """No gap, no crossing: only the comparison with the exchange's own word can tell."""
    witness = Witness(symbols=["SOL_USDC"])
    assert witness.settle(5)
    forged: list[int] = []

    def forge(frame: bytes) -> list[bytes]:
        content = msgspec.json.decode(frame)
        bids = content["data"].get("b")
        if not forged and content["data"]["e"] == "depth" and bids and bids[0][1].strip("0.") != "":
            bids[0][1] = str(Decimal(bids[0][1]) * 3)
            forged.append(content["data"]["u"])
        return [msgspec.json.encode(content)]

    witness.simulation.on_event = None
    witness.simulation.tamper = forge
    witness.simulation.run(90 * SECOND)
    assert forged
    diverged = [event for event in witness.events(BookDesynced) if isinstance(event, BookDesynced) and event.diverged]
    assert len(diverged) == 1
    assert witness.session.metrics(witness.simulation.now).book_divergences == 1
    assert witness.all_live()


@pytest.mark.gate
def test_a_closed_market_is_reported_and_the_others_go_on() -> None:
    witness = Witness(symbols=["SOL_USDC"])
    witness.simulation.give(Subscribe(("depth.HNT_USDC",)))
    assert witness.settle(5)
    witness.simulation.run(5 * SECOND)
    unavailable = [event for event in witness.events(BookUnavailable) if isinstance(event, BookUnavailable)]
    assert {event.symbol for event in unavailable} == {"HNT_USDC"}
    assert "RESOURCE_NOT_FOUND" in unavailable[0].reason
    assert witness.events(MarketClosed) == [MarketClosed(symbol="HNT_USDC")]
    health = witness.session.health(witness.simulation.now)
    assert health.healthy, "a closed market is no fault of anybody's"
    assert "market HNT_USDC is closed" in health.notes
    assert not witness.session.book("HNT_USDC").is_live(witness.simulation.now.mono_us)
    witness.simulation.requests.clear()
    witness.simulation.run(120 * SECOND)
    looked_up = [request.request.target for request in witness.simulation.requests if "HNT_USDC" in request.request.target]
    assert looked_up == ["/api/v1/market?symbol=HNT_USDC"] * 2, "once a minute"
    witness.simulation.give(Unsubscribe(("depth.HNT_USDC",)))
    assert not any("HNT_USDC" in note for note in witness.session.health(witness.simulation.now).notes)


def test_unsubscribing_stops_the_stream_without_a_word() -> None:
    witness = Witness(("book", "trades"))
    assert witness.settle(5)
    witness.simulation.give(Unsubscribe.of(streams_for(("book", "trades"), ["SOL_USDC"])))
    witness.simulation.events.clear()
    witness.simulation.run(10 * SECOND)
    assert witness.events(FrameDropped) == []
    assert {event.symbol for event in witness.events(BookChanged) if isinstance(event, BookChanged)} == {"AAPL.US_USDC_PERP"}


def test_a_private_stream_with_a_wrong_key_is_refused_within_a_second() -> None:
    signer = Signer(Credentials(private_key="11" * 32))
    witness = Witness(session=Session(Random(1), signer=signer, book_levels=LEVELS, canary=False))
    witness.simulation.give(Subscribe(("account.orderUpdate",)))
    assert witness.simulation.run(SECOND, until=lambda: bool(witness.events(StreamsRefused)))
    (refused,) = (event for event in witness.events(StreamsRefused) if isinstance(event, StreamsRefused))
    assert refused.authentication
    assert refused.suspects == ("account.orderUpdate",)
    assert witness.session.metrics(witness.simulation.now).auth_failures == 1
    assert witness.settle(5), "public streams go on"


def test_calls_are_answered_or_fail_with_the_reason() -> None:
    witness = Witness()
    witness.simulation.give(
        Call(call_id=1, endpoint="markets"),
        Call(call_id=2, endpoint="market", parameters={"symbol": "NOPE_USDC"}),
        Call(call_id=3, endpoint="ping"),
    )
    witness.simulation.run(SECOND)
    answers = {
        event.call_id: event
        for event in witness.events(CallAnswered, CallFailed)
        if isinstance(event, CallAnswered | CallFailed)
    }
    assert isinstance(answers[1], CallAnswered)
    assert isinstance(answers[2], CallFailed)
    assert "Invalid market symbol" in str(answers[2].error)
    assert isinstance(answers[3], CallAnswered)
    assert answers[3].result == "pong"


def test_closing_ends_everything_and_fails_what_is_open() -> None:
    witness = Witness()
    assert witness.settle(5)
    witness.simulation.give(Call(call_id=9, endpoint="ping"), Close())
    witness.simulation.run(10 * SECOND)
    assert isinstance(witness.simulation.events[-1], Closed)
    assert [event.call_id for event in witness.events(CallFailed) if isinstance(event, CallFailed)] == [9]
    assert not witness.all_live()
    assert witness.session.deadline is None
    witness.simulation.give(Open())
    assert witness.settle(), "a closed session can be opened again"


fault = st.sampled_from(["cut", "mute", "refuse", "lose", "corrupt", "calm", "requests fail", "requests get lost"])


@pytest.mark.gate
@examples(20)
@given(faults=st.lists(st.tuples(fault, st.integers(1, 20)), min_size=1, max_size=6), seed=st.integers(0, 50))
def test_whatever_goes_wrong_what_is_live_is_right_and_all_is_live_in_the_end(faults: list[tuple[str, int]], seed: int) -> None:
    witness = Witness(seed=seed, speed=0.5)
    note = witness.simulation.tamper
    assert note is not None
    for name, seconds in faults:
        match name:
            case "cut":
                witness.simulation.cut()
            case "mute":
                witness.simulation.mute = True
            case "refuse":
                witness.simulation.refusing = True
                witness.simulation.cut()
            case "lose":
                witness.loss = 0.1
            case "corrupt":
                witness.simulation.tamper = lambda frame: [data[:-3] for data in note(frame)]
            case "requests fail":
                witness.simulation.answer = lambda request, _: ResponseReceived(
                    request_id=request.request_id, status=502, body=b""
                )
            case "requests get lost":
                witness.simulation.answer = lambda request, _: RequestFailed(request_id=request.request_id, reason="reset")
        witness.simulation.run(seconds * SECOND)
        witness.simulation.mute = witness.simulation.refusing = False
        witness.simulation.tamper, witness.simulation.answer, witness.loss = note, None, 0.0
    # A book whose last frames were lost is live until the next one, or the check that the loss called for, says otherwise.
    witness.simulation.run(20 * SECOND)
    assert witness.settle(150)
    witness.assert_books_are_the_exchange_s()
    elapsed_s = (witness.simulation.now.mono_us - START.mono_us) / SECOND
    assert len(witness.simulation.requests) < 20 + 4 * elapsed_s
    assert witness.simulation.connections < 10 + elapsed_s


RUN = """
from random import Random
from backpack_proto.exchange import Exchange
from backpack_proto.inputs import Open, Subscribe
from backpack_proto.machine import Now
from backpack_proto.session import Session
from backpack_proto.testing.simulation import Simulation
from backpack_proto.streams.names import streams_for
import hashlib
simulation = Simulation(Session(Random(4), book_levels=3), Exchange(seed=4, unix_us=10**15), Now(5, 10**15))
simulation.give(Open(), Subscribe.of(streams_for(["book", "trades", "ticker"], ["SOL_USDC", "BTC_USDC", "kPEPE_USDC_PERP"])))
simulation.run(3_000_000)
simulation.cut()
simulation.run(7_000_000)
print(len(simulation.events), hashlib.sha256(repr(simulation.events).encode()).hexdigest())
"""


@pytest.mark.gate
def test_the_same_seeds_give_the_same_events_under_every_hash_seed() -> None:
    results = {
        subprocess.run(
            [sys.executable, "-c", RUN], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True, timeout=60
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(results) == 1
    assert int(results.pop().split()[0]) > 100


names = st.sampled_from(
    ["depth.SOL_USDC", "bookTicker.SOL_USDC", "trade.SOL_USDC", "ticker.SOL_USDC", "account.orderUpdate", "nope"]
)
texts = st.sampled_from(
    [
        b"garbage",
        b'{"id":null,"error":{"code":4006,"message":"Invalid stream"}}',
        b'{"id":null,"error":{"code":4003,"message":"Invalid signature"}}',
        b'{"data":{"E":1,"T":1,"U":5,"a":[["9","1"]],"b":[],"e":"depth","s":"SOL_USDC","u":6},"stream":"depth.SOL_USDC"}',
        b'{"data":{"E":1,"T":1,"U":7,"a":[],"b":[["8","1"]],"e":"depth","s":"SOL_USDC","u":7},"stream":"depth.SOL_USDC"}',
        b'{"data":{"E":1,"T":1,"U":9,"a":[],"b":[["8","1"]],"e":"depth","s":"SOL_USDC","u":9},"stream":"depth.SOL_USDC"}',
        b'{"data":{"A":"1","B":"2","E":1,"T":1,"a":"9","b":"8","e":"bookTicker","s":"SOL_USDC","u":7},"stream":"bookTicker.SOL_USDC"}',
    ]
)
bodies = st.sampled_from(
    [
        b'{"asks":[["9","1"]],"bids":[["8","1"]],"lastUpdateId":"4","timestamp":1}',
        b'{"asks":[],"bids":[],"lastUpdateId":"6","timestamp":1}',
        b"1700000000000",
        b"nonsense",
    ]
)
given_inputs: st.SearchStrategy[Given] = st.one_of(
    st.sampled_from([Open(), Close(), Connected(), ConnectFailed("refused"), Disconnected(1006, ""), TimerFired()]),
    st.sampled_from([ReadingPaused(), ReadingResumed(), BytesReceived(3), PingReceived(b"x"), PongReceived(b"y")]),
    st.builds(lambda name: Subscribe((name,)), names),
    st.builds(lambda name: Unsubscribe((name,)), names),
    st.builds(Verify, names),
    st.builds(RefreshBook, names),
    st.just(Reconnect()),
    st.builds(TextReceived, texts),
    st.builds(
        lambda number, name: Call(call_id=number, endpoint=name), st.integers(1, 3), st.sampled_from(["time", "ping", "nope"])
    ),
    st.builds(
        lambda number, status, body: ResponseReceived(request_id=number, status=status, body=body),
        st.integers(1, 6),
        st.sampled_from([200, 200, 404, 429, 503]),
        bodies,
    ),
    st.builds(lambda number: RequestFailed(request_id=number, reason="reset"), st.integers(1, 6)),
    st.builds(lambda number: Call(call_id=number, endpoint="update_account", parameters={"autoLend": True}), st.integers(1, 3)),
    st.builds(Withdraw, st.integers(1, 3)),
    st.builds(Resolve, st.integers(1, 3)),
    st.builds(RequestLeft, st.integers(1, 6)),
    st.just(FollowAccount()),
)


def test_a_book_that_is_distrusted_begins_again_and_the_others_go_on() -> None:
    witness = Witness()
    witness.simulation.run(60 * SECOND, until=witness.all_live)
    stream, now = "depth.SOL_USDC", witness.simulation.now
    assert all(witness.session.book(symbol).is_live(now.mono_us) for symbol in SYMBOLS)
    witness.simulation.give(RefreshBook(stream))
    assert not witness.session.book(SYMBOLS[0]).is_live(now.mono_us)
    assert witness.session.book(SYMBOLS[1]).is_live(now.mono_us)
    witness.simulation.run(60 * SECOND, until=witness.all_live)
    assert witness.session.book(SYMBOLS[0]).is_live(witness.simulation.now.mono_us)
    with pytest.raises(LocalProtocolError, match=r"no depth stream 'depth.BTC_USDC' is subscribed"):
        witness.simulation.give(RefreshBook("depth.BTC_USDC"))


@pytest.mark.parametrize("kind", ["streams", "books"])
def test_ten_thousand_subscriptions_leave_nothing_behind_when_they_are_gone(kind: str) -> None:
    session = Session(Random(5), canary=False)
    clock = FakeClock()
    session.handle(Open(), clock.now)
    session.handle(Connected(), clock.now)

    def turn(number: int) -> None:
        streams = tuple(f"depth.M{number}X{one}_USDC" for one in range(10))
        session.handle(Subscribe(streams) if kind == "streams" else Subscribe(books=streams), clock.advance(SECOND))
        for stream in streams:
            frame = b'{"data":{"E":1,"T":1,"U":5,"a":[],"b":[],"e":"depth","s":"%b","u":6},"stream":"%b"}'
            session.handle(TextReceived(frame % (stream.removeprefix("depth.").encode(), stream.encode())), clock.now)
        session.handle(Unsubscribe(streams), clock.advance(SECOND))
        # Whatever waits for a moment has it.
        end_us = clock.mono_us + 60 * SECOND
        while (deadline := session.deadline) is not None and deadline <= end_us:
            session.handle(TimerFired(), clock.advance_to(deadline))

    def size() -> int:
        gc.collect()
        return sum(1 for one in gc.get_objects() if isinstance(one, list | dict | set | tuple))

    for number in range(100):
        turn(number)
    begun = size()
    for number in range(100, 1_000):
        turn(number)
    assert size() - begun < 500


@pytest.mark.hypothesis
@pytest.mark.parametrize(("private", "dials"), [(False, True), (True, True), (False, False)])
def test_the_session_keeps_the_laws_of_machines(*, private: bool, dials: bool) -> None:
    signer = Signer(Credentials(private_key="22" * 32)) if private else None
    check_machine(lambda: Session(Random(5), signer=signer, measure_clock=True, dials=dials), given_inputs)


def test_a_session_whose_connections_somebody_else_makes() -> None:
    clock, stream = FakeClock(), "depth.SOL_USDC"
    session = Session(Random(5), dials=False, canary=False)

    def give(*inputs: Given) -> list[Output]:
        return [output for given in inputs for output in session.handle(given, clock.now)]

    def connect(attempt: int, request_id: int) -> None:
        up, subscribe, request = give(Connected())
        assert up == ConnectionUp(attempt=attempt)
        assert isinstance(subscribe, SendText)
        assert msgspec.json.decode(subscribe.text) == {"method": "SUBSCRIBE", "params": [stream]}
        assert isinstance(request, SendRequest)
        assert (request.request_id, request.request.target) == (request_id, "/api/v1/depth?limit=1000&symbol=SOL_USDC")

    def follow(request_id: int, last: int) -> None:
        frame = f'{{"data":{{"E":1,"T":1,"U":{last},"a":[["9","2"]],"b":[],"e":"depth","s":"SOL_USDC","u":{last}}},"stream":"{stream}"}}'
        body = f'{{"asks":[["9","1"]],"bids":[["8","1"]],"lastUpdateId":"{last - 1}","timestamp":1}}'
        outputs = give(TextReceived(frame.encode()), ResponseReceived(request_id=request_id, status=200, body=body.encode()))
        assert [type(output) for output in outputs] == [StreamLive, BookSynced, BookChanged]
        assert session.book(stream).is_live(clock.mono_us)

    assert give(Open(), Subscribe((stream,))) == []
    assert session.deadline is None
    connect(attempt=1, request_id=1)
    follow(request_id=1, last=6)

    down, stale = give(Disconnected(1006, "reset"))
    assert isinstance(down, ConnectionDown)
    assert (down.reason, down.code) == ("reset", 1006)
    assert 0 < down.retry_us <= SECOND
    assert isinstance(stale, BookDesynced)
    assert not session.book(stream).is_live(clock.mono_us)
    assert session.deadline is None

    (failed,) = give(ConnectFailed("refused"))
    assert isinstance(failed, ConnectionDown)
    assert 0 < failed.retry_us <= 2 * SECOND
    clock.advance(failed.retry_us)
    assert give(TimerFired()) == []
    connect(attempt=3, request_id=2)
    follow(request_id=2, last=90)


def test_a_silent_connection_that_somebody_else_made_is_given_up_and_waited_for() -> None:
    clock = FakeClock()
    session = Session(Random(5), dials=False, canary=False)
    session.handle(Open(), clock.now)
    session.handle(Connected(), clock.now)
    outputs: list[Output] = []
    while session.deadline is not None:
        clock.advance_to(session.deadline)
        outputs = [*session.handle(TimerFired(), clock.now)]
    assert [type(output) for output in outputs] == [PeerSilent, DropSocket, ConnectionDown]
    assert session.handle(Connected(), clock.now) == [ConnectionUp(attempt=2)]


def test_tickers_are_events_too() -> None:
    witness = Witness(("book_ticker",))
    witness.simulation.run(3 * SECOND)
    assert {event.symbol for event in witness.events(BookTicker) if isinstance(event, BookTicker)} == set(SYMBOLS)
