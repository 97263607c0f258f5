"""Scripted hours and minutes of the simulation: the faults that cost money, with the figures that they may cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

import pytest

from backpack_proto.account.values import AccountStale
from backpack_proto.book.levels import Book
from backpack_proto.connection.subscriptions import ACCOUNT_STREAMS
from backpack_proto.exchange import ChangeMarket, CloseMarket, OpenMarket, Restart
from backpack_proto.inputs import Call
from backpack_proto.outputs import BookDesynced, ConnectionDown, ConnectionUp, PeerSilent
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.payloads import Event
from tests.simulation import opinion
from tests.simulation.network import Connection, Pending
from tests.simulation.schedule import Plan
from tests.simulation.world import World

SECOND = 1_000_000
LIVELY: Mapping[str, float] = {"SOL_USDC": 0.05, "S1_USDC": 0.05}


class Scene:
    """A world without a schedule, and a look at it every 250 ms."""

    def __init__(
        self, books: Mapping[str, float] = LIVELY, *, trades: bool = False, account: bool = False, seed: int = 3
    ) -> None:
        self.world = World(Plan(seed=seed, duration_ms=10**9, books=books, trades=trades, account=account), fine=True)
        self.network = self.world.network
        self.samples = self.live = self.behind = self.well = 0
        self.unwell_after_s: float | None = None
        self.texts: list[tuple[int, str]] = []
        self.connected: list[int] = []
        # What these scenes do to the network is in no plan.
        self.world.lasts_us(10**12)
        self.network.on_text = lambda text: self.texts.append((self.network.now_us, text))
        self.run(40)

    @property
    def books(self) -> list[Book]:
        return [self.world.session.book(self.world.stream_of(symbol)) for symbol in self.world.symbols]

    def all_live(self) -> bool:
        return all(opinion.is_live(book, self.network.now) for book in self.books)

    def none_live(self) -> bool:
        return not any(opinion.is_live(book, self.network.now) for book in self.books)

    def healthy(self) -> bool:
        return opinion.is_well(opinion.health(self.world.session, self.network.now))

    def run(self, seconds: float) -> None:
        """Let time pass, and count on the way."""
        started_us = self.network.now_us
        self.samples = self.live = self.behind = self.well = 0
        self.unwell_after_s = None
        while self.network.now_us < started_us + seconds * SECOND:
            self.world.run(self.world.at_ms + 250)
            self.samples += 1
            healthy = self.healthy()
            self.well += healthy
            if not healthy and self.unwell_after_s is None:
                self.unwell_after_s = (self.network.now_us - started_us) / SECOND
            for symbol, book in zip(self.world.symbols, self.books, strict=True):
                if opinion.is_live(book, self.network.now):
                    self.live += 1
                    missing_us = self.world.truth.markets[symbol].missing_since_us(book.last)
                    self.behind += missing_us is not None and self.network.now_us - missing_us > 3 * SECOND

    def until_stale(self, symbol: str, most_s: float) -> float:
        """Run until a book is stale, and return how long that took."""
        book = self.world.session.book(self.world.stream_of(symbol))
        started_us = self.network.now_us
        while opinion.is_live(book, self.network.now):
            assert self.network.now_us < started_us + most_s * SECOND, f"live after {most_s} s"
            self.world.run(self.world.at_ms + 50)
        return (self.network.now_us - started_us) / SECOND

    def delay(self, seconds: float) -> None:
        late_us = int(seconds * SECOND)

        def delayed(_now_us: int, _connection: Connection) -> int:
            return late_us

        self.network.conditions.delays[1] = delayed

    def requested(self, method: str, stream: str) -> list[int]:
        """Return when the client asked for a stream, or undid it."""
        asked = [(at_us, json.loads(text)) for at_us, text in self.texts]
        return [at_us for at_us, frame in asked if frame["method"] == method and stream in frame["params"]]


def test_an_hour_of_a_mute_exchange() -> None:
    scene = Scene()
    assert scene.all_live()
    scene.network.conditions.mute += 1
    connections = scene.network.connections
    scene.run(30)
    assert scene.unwell_after_s is not None
    assert scene.unwell_after_s <= 6.25
    assert scene.network.connections > connections, "no reconnect within 30 s"
    behind, samples = scene.behind, scene.samples
    scene.run(3_570)
    behind += scene.behind
    samples += scene.samples
    assert behind / (samples * len(LIVELY)) < 0.002
    assert scene.well == 0
    scene.network.conditions.mute -= 1
    scene.run(60)
    assert scene.all_live()


def test_a_mute_book_stream_is_seen_by_its_book_ticker_within_2_s() -> None:
    scene = Scene()
    stream = scene.world.stream_of("SOL_USDC")
    connections, asked = scene.network.connections, len(scene.requested("SUBSCRIBE", stream))
    scene.network.conditions.mute_streams[stream] += 1
    ahead_us = 0
    book = scene.world.session.book(stream)
    while not ahead_us:
        last, best = book.last, scene.world.exchange.best("SOL_USDC")
        scene.world.run(scene.world.at_ms + 50)
        if book.last == last and scene.world.exchange.best("SOL_USDC") != best:
            ahead_us = scene.network.now_us
    assert scene.until_stale("SOL_USDC", 2.5) <= 2.5
    scene.run(30)
    again = scene.requested("SUBSCRIBE", stream)
    assert len(again) > asked, "no resubscription"
    if scene.network.connections > connections:
        connection = scene.network.connection
        assert connection is not None
        assert connection.born_us > again[asked], "a reconnect before a resubscription"


def test_a_mute_book_is_seen_by_a_trade_within_2_s() -> None:
    scene = Scene({"BTC_USDC_PERP": 0.3}, trades=True)
    symbol = "BTC_USDC_PERP"
    streams = [scene.world.stream_of(symbol), f"bookTicker.{symbol}"]
    for stream in streams:
        scene.network.conditions.mute_streams[stream] += 1
    tape = scene.world.exchange._markets[symbol].tape
    newest = tape.trades(1)[0].trade_id
    while tape.trades(1)[0].trade_id == newest:
        scene.world.run(scene.world.at_ms + 50)
    assert scene.until_stale(symbol, 2.75) <= 2.75


def test_a_mute_book_beside_a_living_canary_is_stale_within_the_bound_of_its_chain() -> None:
    scene = Scene()
    connections = scene.network.connections
    for stream in (scene.world.stream_of("SOL_USDC"), "bookTicker.SOL_USDC"):
        scene.network.conditions.mute_streams[stream] += 1
    assert scene.until_stale("SOL_USDC", 125) <= 121
    assert scene.network.connections == connections
    assert opinion.is_live(scene.world.session.book(scene.world.stream_of("S1_USDC")), scene.network.now)


def test_private_streams_that_are_mute_are_requested_again_and_then_the_connection_is_given_up() -> None:
    """The account trades, its streams say nothing, and all else goes on: only the audit can see it."""
    scene = Scene(account=True)
    account = scene.world.session.account
    scene.run(30)
    assert account.is_live(scene.network.now.mono_us)
    asked = len(scene.requested("SUBSCRIBE", ACCOUNT_STREAMS[0]))
    connections = scene.network.connections
    scene.network.conditions.mute_streams.update(ACCOUNT_STREAMS)
    scene.run(100)
    assert len(scene.requested("SUBSCRIBE", ACCOUNT_STREAMS[0])) > asked
    assert scene.network.connections == connections, "a reconnect before a resubscription"
    scene.run(100)
    assert scene.network.connections > connections
    scene.network.conditions.mute_streams.clear()
    scene.run(90)
    stale: list[AccountStale] = []
    seen = scene.network.on_event

    def keep(event: object) -> None:
        if isinstance(event, AccountStale):
            stale.append(event)
        seen(event)  # type: ignore[arg-type]  # it is an event

    scene.network.on_event = keep
    scene.run(200)
    assert stale == []
    assert account.is_live(scene.network.now.mono_us)


@pytest.mark.parametrize("from_birth", [False, True])
def test_a_path_that_is_8_s_late_is_stale(*, from_birth: bool) -> None:
    scene = Scene()
    scene.delay(8)
    if from_birth:
        scene.network.reset()
    scene.run(12)
    scene.run(120)
    assert scene.live == 0
    assert scene.well == 0
    scene.network.conditions.delays.clear()
    scene.run(40)
    assert scene.all_live()


def test_a_path_that_is_4_s_late_is_live_old_and_not_well() -> None:
    scene = Scene()
    scene.delay(4)
    scene.run(15)
    scene.run(60)
    assert scene.live > 0.9 * scene.samples * len(LIVELY)
    assert scene.well == 0
    for book in scene.books:
        age_us = opinion.age_us(book, scene.network.now)
        assert age_us is not None
        assert 4 * SECOND - 250_000 <= age_us <= 5.5 * SECOND


@pytest.mark.parametrize("timer_first", [False, True])
def test_a_loop_that_is_blocked_for_8_s_leaves_no_live_book(*, timer_first: bool) -> None:
    scene = Scene()
    connections = scene.network.connections
    scene.network.freeze(8 * SECOND, timer_first=timer_first)
    scene.run(7.5)
    assert scene.none_live()
    scene.run(3)
    assert scene.all_live()
    assert scene.network.connections == connections, "what waited was thrown away"


def test_a_market_that_closes_for_half_an_hour() -> None:
    scene = Scene()
    symbol = "SOL_USDC"
    book = scene.world.session.book(scene.world.stream_of(symbol))
    scene.network.give_exchange(CloseMarket(symbol))
    scene.world.truth.markets[symbol].closed_us = scene.network.now_us
    scene.run(121)
    assert not opinion.is_live(book, scene.network.now)
    asked = len(scene.world.left)
    scene.run(1_680)
    assert scene.live <= scene.samples, "the other book is live"
    scene.world.forget_requests()
    assert len(scene.world.left) <= 12, asked
    scene.network.give_exchange(OpenMarket(symbol))
    scene.world.truth.markets[symbol].closed_us = None
    scene.run(90)
    assert opinion.is_live(book, scene.network.now)


def _quiet_markets(count: int, seconds: int) -> None:
    """Nothing but a few changes happens: no book may be stale, no connection may be given up, and N books cost N requests or 2 N."""
    books = {f"Q{number}_USDC": 0.0 if number % 10 else 0.00002 for number in range(count)}
    world = World(Plan(seed=1, duration_ms=seconds * 1_000, books=books, account=False))
    kept: list[object] = []
    seen = world.network.on_event

    def keep(event: object) -> None:
        if isinstance(event, BookDesynced | ConnectionDown | PeerSilent | ConnectionUp) or type(event).__name__ == "BookStale":
            kept.append(event)
        seen(event)  # type: ignore[arg-type]  # it is an event

    world.network.on_event = keep
    world.run(120_000)
    starting = sum(1 for _, path in world.left if path == "/api/v1/depth")
    assert starting <= 2 * count + 20
    world.run()
    assert [event for event in kept if not isinstance(event, ConnectionUp)] == []
    assert all(world.live.values())
    assert opinion.is_well(world.health), world.health


@pytest.mark.gate
def test_200_quiet_markets_for_a_quarter_of_an_hour_give_no_false_alarm() -> None:
    _quiet_markets(200, 900)


@pytest.mark.soak
def test_1000_quiet_markets_for_6_hours_give_no_false_alarm() -> None:
    _quiet_markets(1_000, 6 * 3_600)


def test_a_quiet_market_whose_ids_start_over_is_live_again_soon() -> None:
    """No frame comes that could join: two snapshots that show the same are all that there is."""
    scene = Scene({"S1_USDC": 0.0, "S2_USDC": 0.05})
    scene.network.give_exchange(Restart(keep_ids=False))
    for symbol in scene.world.symbols:
        scene.world.truth.markets[symbol].begin(scene.network.now_us)
    scene.run(90)
    assert scene.all_live()
    asked = sum(1 for _, path in scene.world.left if path == "/api/v1/depth")
    assert asked <= 12


def test_a_tick_that_becomes_finer_is_known_within_two_audits() -> None:
    scene = Scene({"SOL_USDC": 0.5, "S1_USDC": 0.05})
    symbol = "SOL_USDC"
    told: list[MarketChanged] = []
    passed_on = scene.network.on_event

    def keep(event: Event) -> None:
        if isinstance(event, MarketChanged):
            told.append(event)
        passed_on(event)

    scene.network.on_event = keep
    looked_up: list[str] = []
    leaves = scene.network.on_leave

    def note(pending: Pending) -> None:
        if "/market?" in pending.action.request.target:
            looked_up.append(pending.action.request.target)
        leaves(pending)

    scene.network.on_leave = note
    scene.network.give_exchange(ChangeMarket(symbol, Decimal("0.1"), Decimal("0.1")))
    scene.run(130)
    assert told == [], "what is coarser lies on the finer grid, so no book shows it"
    scene.network.give(Call(call_id=10**6, endpoint="market", parameters={"symbol": symbol}))
    scene.run(1)
    assert [(event.previous.tick_size, event.market.tick_size) for event in told] == [(Decimal("0.01"), Decimal("0.1"))]
    told.clear()
    looked_up.clear()
    scene.network.give_exchange(ChangeMarket(symbol, Decimal("0.01"), Decimal("0.01")))
    scene.run(125)
    assert [(event.previous.tick_size, event.market.tick_size) for event in told] == [(Decimal("0.1"), Decimal("0.01"))]
    scene.run(600)
    assert len(told) == 1
    assert looked_up == [f"/api/v1/market?symbol={symbol}"], "once is enough"
    assert scene.all_live()
    assert scene.healthy()


def test_a_connection_that_breaks_behind_a_blocked_loop_was_there_first() -> None:
    """What the loop finds when it goes on is in the order in which it happened: a connection, and then its end."""
    scene = Scene()
    network = scene.network
    events: list[Event] = []
    scene.world.kept = events
    network.reset()
    while network.connection is None or network.connection.established_us is not None:
        scene.world.run(scene.world.at_ms + 1)
    network.freeze(2 * SECOND, timer_first=False)
    scene.world.run(scene.world.at_ms + 1_000)
    network.reset()
    scene.run(60)
    kinds = [type(event) for event in events if isinstance(event, ConnectionUp | ConnectionDown)]
    assert kinds == [ConnectionDown, ConnectionUp, ConnectionDown, ConnectionUp]
    assert scene.all_live()
