"""The consumer of a published feed without an engine: when its books are live, and what it does with what is late or old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from backpack_proto.machine import Now
from backpack_proto.outputs import BookSynced, ConnectionDown
from backpack_proto.published import FeedGap, PublisherReport, PublisherStarted
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event
from backpack_proto.testing import FakeClock
from backpack_runtime import FeedConsumer, FromPublisher
from backpack_runtime.publishing import consumer as module
from backpack_runtime.publishing.consumer import ABANDONED_SECONDS, OVERLAP_SECONDS, PROOF_US, first_moment
from backpack_runtime.publishing.messages import Messages

SYMBOL = "SOL_USDC"
SECOND = 1_000_000


class Source:
    """A reading, as far as a consumer looks at it."""

    caught_up = True


class Setting:
    """A consumer, the messages that come to it, and its clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.source = Source()
        self._send, receive = anyio.create_memory_object_stream[Any](1_000)
        self._receive = receive
        self.consumer = FeedConsumer(receive)
        self._messages: dict[str, Messages] = {}

    def close(self) -> None:
        self._send.close()
        self._receive.close()

    def take(self, *events: Event, publisher: str = "one") -> list[Event | FromPublisher]:
        """Let messages come, and fetch all events that follow from them."""
        messages = self._messages.setdefault(publisher, Messages(publisher, run=1))
        for event in events:
            made = messages.of(event, self.clock.now.unix_us)
            assert made is not None
            message = SimpleNamespace(subject=made.subject, data=made.payload, headers=made.headers)
            self._send.send_nowait((self.source, message))
        return self.fetch()

    def fetch(self) -> list[Event | FromPublisher]:
        found: list[Event | FromPublisher] = []

        async def main() -> None:
            with anyio.move_on_after(0.05):
                async for event in self.consumer:
                    found.append(event)  # noqa: PERF401 - until it is cancelled

        anyio.run(main)
        return found

    def report(self, *live: str, publisher: str = "one", late_us: int = 0, clock_us: int = 0) -> list[Event | FromPublisher]:
        """A report that was made so long ago, by a clock that is so far from ours."""
        sent_us = self.clock.mono_us - late_us + clock_us
        report = PublisherReport(publisher=publisher, sent_us=sent_us, live=live, waiting=0, troubles=())
        return self.take(report, publisher=publisher)

    def is_live(self) -> bool:
        return self.consumer.book(SYMBOL).live


@contextmanager
def a_setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    clock = FakeClock()

    def now() -> Now:
        return clock.now

    monkeypatch.setattr(module, "system_now", now)
    setting = Setting(clock)
    yield setting
    setting.close()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    with a_setting(monkeypatch) as made:
        yield made


def depth(number: int, *, bid: str = "99.10") -> Depth:
    return Depth(
        emitted_us=number,
        symbol=SYMBOL,
        engine_us=number,
        first_update_id=number,
        last_update_id=number,
        bids=(Level(bid, "2.0"),),
        asks=(),
    )


def book(last: int) -> BookSynced:
    return BookSynced(
        stream="depth.SOL_USDC",
        symbol=SYMBOL,
        last=last,
        engine_us=last,
        bids=(Level("99.00", "1.0"),),
        asks=(Level("99.90", "1.0"),),
    )


def test_a_book_is_live_while_a_publisher_says_so(setting: Setting) -> None:
    assert setting.take(book(10), depth(11)) == [book(10), depth(11)]
    assert not setting.is_live(), "nobody has said that it is"
    setting.report(SYMBOL)
    assert setting.is_live()
    assert setting.consumer.book(SYMBOL).age_us == 0
    setting.clock.advance(PROOF_US)
    assert setting.is_live()
    setting.clock.advance(1)
    assert not setting.is_live()
    assert setting.consumer.book(SYMBOL).best_bid == Level("99.10", "2.0")


def test_one_publisher_that_is_well_is_enough(setting: Setting) -> None:
    setting.take(book(10))
    setting.report(SYMBOL, publisher="one")
    setting.report(publisher="other", clock_us=-50 * SECOND)
    assert setting.is_live()
    setting.report(publisher="one")
    assert not setting.is_live()
    setting.report(SYMBOL, publisher="other", clock_us=-50 * SECOND)
    assert setting.is_live()
    assert set(setting.consumer.publishers) == {"one", "other"}


def test_reports_that_come_late_prove_nothing(setting: Setting) -> None:
    setting.take(book(10))
    setting.report(SYMBOL)
    setting.clock.advance(10 * SECOND)
    setting.report(SYMBOL, late_us=7 * SECOND)
    assert not setting.is_live()
    setting.report(SYMBOL, late_us=2 * SECOND)
    assert setting.is_live()
    assert setting.consumer.book(SYMBOL).age_us == 2 * SECOND


def test_what_is_read_again_at_the_beginning_proves_nothing(setting: Setting) -> None:
    setting.source.caught_up = False
    setting.take(book(10))
    setting.report(SYMBOL)
    assert not setting.is_live()
    setting.source.caught_up = True
    assert not setting.is_live()
    setting.report(SYMBOL)
    assert setting.is_live()


def test_a_publisher_that_is_started_again_has_another_clock(setting: Setting) -> None:
    setting.take(book(10))
    setting.report(SYMBOL, clock_us=100 * SECOND)
    started = PublisherStarted(publisher="one", version="1", channels=(), selection="all")
    assert setting.take(started) == [FromPublisher("one", started)]
    assert not setting.is_live()
    setting.report(SYMBOL)
    assert setting.is_live()


def test_a_book_with_a_hole_is_not_live_and_comes_back_with_the_next_whole_one(setting: Setting) -> None:
    setting.take(book(10))
    setting.report(SYMBOL)
    assert setting.take(depth(12)) == []
    assert not setting.is_live()
    assert setting.take(depth(11)) == [depth(11), depth(12)]
    assert setting.is_live()
    setting.take(depth(14))
    setting.clock.advance(2 * SECOND)
    gap = FeedGap(symbol=SYMBOL, channel="depth", first=13, last=13, reason="did not come within 2 s")
    assert setting.fetch() == [gap]
    assert not setting.is_live()
    setting.report(SYMBOL)
    assert setting.take(book(13)) == [book(13), depth(14)]
    assert setting.is_live()
    assert setting.consumer.book(SYMBOL).last == 14


def test_a_book_that_is_crossed_is_not_live(setting: Setting) -> None:
    setting.take(book(10), depth(11, bid="99.95"))
    setting.report(SYMBOL)
    assert not setting.is_live()


def test_states_say_whose_they_are(setting: Setting) -> None:
    down = ConnectionDown(reason="gone", code=None, retry_us=1)
    assert setting.take(down, publisher="host.1") == [FromPublisher("host.1", down)]


def test_an_abandoned_market_does_not_make_everybody_read_a_day() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    overlap = timedelta(seconds=OVERLAP_SECONDS)
    recent = now - timedelta(seconds=59)
    assert first_moment([now]) == now - overlap
    assert first_moment([now, recent]) == recent - overlap
    assert first_moment([now, recent, now - timedelta(days=1)]) == now - timedelta(seconds=ABANDONED_SECONDS) - overlap
