"""Consumer of a published feed: events in order, each once, and books that say whether they are live.

        async with open_consumer("nats://127.0.0.1:4222", ["SOL_USDC"]) as events:
            async for event in events:
                match event:
                    case Depth() | Trade(): ...
                    case FeedGap(): ...

Order and repetition are the work of `backpack_proto.ordering`. Messages older than the latest one of their subject are dropped.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from backpack_proto.book.levels import Book
from backpack_proto.encoding import decode_event
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.ordering import Base, Missed, Ordering, OrderingInput, OrderingOutput, Piece
from backpack_proto.outputs import BookSynced
from backpack_proto.published import FeedGap, PublisherReport, PublisherStarted
from backpack_proto.streams.payloads import Depth, Event, StreamPayload, Trade
from backpack_runtime.books import BookView
from backpack_runtime.checks import checked_count, checked_flag, checked_names
from backpack_runtime.transport import system_now

from .errors import EngineFailed, tasks_inside
from .messages import ORDER
from .subjects import BOOK, DEPTH, PLAN, STATE, TRADE, name_of, subject_of, subjects_of

if TYPE_CHECKING:
    from .engine import Engine
    from .reading import Place, Reading

__all__ = ["FeedConsumer", "FromPublisher", "PublishedBook", "open_consumer"]

_log = logging.getLogger("backpack_runtime.publishing")

PROOF_US: Final = 6_000_000
"""A book is live for so long after the newest report of a publisher that calls it live."""
OVERLAP_SECONDS: Final = 10
"""A reading begins so long before the last whole book, as another publisher may have been ahead of it."""

ABANDONED_SECONDS: Final = 180
"""A market without a whole book for so long, while others have had one, has no publisher: each has one a minute."""


@dataclass(frozen=True)
class FromPublisher:
    """Event of one publisher: about itself, its connection to the exchange, or a book there."""

    publisher: str
    event: Event


class _Publisher:
    """One publisher: its newest report, and the difference of its clock and ours."""

    def __init__(self) -> None:
        self.live: frozenset[str] = frozenset()
        self.sent_us = 0
        self.offset_us: int | None = None

    def take(self, report: PublisherReport, mono_us: int) -> None:
        """Take a report. The smallest difference of the clocks that was ever seen is that of a message without delay."""
        offset_us = mono_us - report.sent_us
        self.offset_us = offset_us if self.offset_us is None else min(offset_us, self.offset_us)
        self.sent_us = report.sent_us
        self.live = frozenset(report.live)

    def age_us(self, mono_us: int) -> int:
        """Return how old the newest report is."""
        return mono_us - self.sent_us - (self.offset_us or 0)


class PublishedBook(BookView):
    """Order book of one market, made of published events, always at the latest one that was fetched.

    It is live while no change is missing, all that was published has been read, and a publisher has said within PROOF_US that its own book is live.
    """

    __slots__ = ("_consumer", "_following")

    def __init__(self, symbol: str, consumer: FeedConsumer) -> None:
        """It is empty."""
        super().__init__(Book(symbol), system_now)
        self._consumer = consumer
        self._following = False

    @property
    def live(self) -> bool:
        """True while the book has no hole, and fresh proof says that it is that of the exchange."""
        age_us = self.age_us
        return self._following and self._consumer.is_complete(self.symbol) and age_us is not None and age_us <= PROOF_US

    @property
    def age_us(self) -> int | None:
        """Age of the newest report by which the book is live, in microseconds, None without one."""
        return self._consumer.proof_age_us(self.symbol)

    def take(self, event: Event) -> None:
        """Follow an event that comes in order."""
        match event:
            case BookSynced():
                book = Book(self.symbol, bids=event.bids, asks=event.asks, last=event.last, engine_us=event.engine_us)
                self._book.take_over(book)
                self._following = True
            case Depth() if self._following:
                sound = self._book.apply(event.bids, event.asks, last=event.last_update_id, engine_us=event.engine_us)
                self._following = sound
            case FeedGap(channel=channel) if channel == DEPTH:
                self._following = False


class FeedConsumer:
    """Events of a published feed, in order and each once. One task iterates."""

    def __init__(self, arrivals: MemoryObjectReceiveStream[Any]) -> None:
        """`arrivals` gives pairs of the reading by which a message came, and the message."""
        self._arrivals = arrivals
        self._ready: deque[Event | FromPublisher] = deque()
        self._chains: dict[tuple[str, str], Ordering] = {}
        self._holes: dict[tuple[str, str], Ordering] = {}
        """Those that have a deadline."""
        self._newest: dict[str, int] = {}
        """The time of the latest message of each subject of which the latest counts."""
        self._books: dict[str, PublishedBook] = {}
        self._publishers: dict[str, _Publisher] = {}
        self._sources: dict[str, Reading] = {}
        """By which reading the changes of a book come."""
        self.unreadable = 0
        """Messages that are no events of this schema, which were left out."""

    def __aiter__(self) -> AsyncIterator[Event | FromPublisher]:
        return self

    async def __anext__(self) -> Event | FromPublisher:
        """Return the next event.

        Raises:
            EngineFailed: NATS has refused the connection for good. It comes out of the block.
        """
        while not self._ready:
            deadline = min((hole.deadline for hole in self._holes.values() if hole.deadline is not None), default=None)
            wait_s = None if deadline is None else max(deadline - system_now().mono_us, 0) / 1e6
            arrival = None
            with anyio.move_on_after(wait_s):
                try:
                    arrival = await self._arrivals.receive()
                except anyio.EndOfStream:
                    raise StopAsyncIteration from None
            self._fire(system_now())
            if arrival is not None:
                source, message = arrival
                self._take(source, message, system_now())
        return self._ready.popleft()

    def book(self, symbol: str) -> PublishedBook:
        """Return the book of a symbol of the exchange: always the same object, at the latest event that was fetched."""
        if symbol not in self._books:
            self._books[symbol] = PublishedBook(symbol, self)
        return self._books[symbol]

    @property
    def publishers(self) -> dict[str, int]:
        """Age of the newest report of each publisher, in microseconds."""
        mono_us = system_now().mono_us
        return {
            name: publisher.age_us(mono_us) for name, publisher in self._publishers.items() if publisher.offset_us is not None
        }

    def is_complete(self, symbol: str) -> bool:
        """Return whether no change of a book is missing, and all that was published has been read once."""
        chain, source = self._chains.get((DEPTH, symbol)), self._sources.get(symbol)
        return chain is not None and chain.complete and source is not None and source.caught_up

    def proof_age_us(self, symbol: str) -> int | None:
        """Return how old the newest report is that calls the book of a symbol live, None without one."""
        mono_us = system_now().mono_us
        ages = [publisher.age_us(mono_us) for publisher in self._publishers.values() if symbol in publisher.live]
        return min(ages, default=None)

    def _fire(self, now: Now) -> None:
        for key, chain in list(self._holes.items()):
            self._handle(key, chain, TimerFired(), now)

    def _take(self, source: Reading, message: Any, now: Now) -> None:
        try:
            channel, name = name_of(message.subject)
            if channel == PLAN:
                return
            event = decode_event(message.data)
        except LocalProtocolError as unreadable:
            self.unreadable += 1
            if self.unreadable == 1:
                _log.warning("%s: a message cannot be read and is left out: %s", message.subject, unreadable)
            return
        match event:
            case Depth() if channel == DEPTH:
                self._sources[name] = source
                piece = Piece(first=event.first_update_id, last=event.last_update_id, engine_us=event.engine_us, value=event)
                self._number(DEPTH, name, piece, now)
            case BookSynced() if channel == BOOK:
                self._sources[name] = source
                self._number(DEPTH, name, Base(last=event.last, value=event), now)
            case Trade(trade_id=int(number)):
                self._number(TRADE, name, Piece(first=number, last=number, engine_us=event.engine_us, value=event), now)
            case StreamPayload():
                self._take_latest(message, event)
            case _:
                self._take_state(source, name, event, now)

    def _number(self, channel: str, symbol: str, given: OrderingInput, now: Now) -> None:
        key = (channel, symbol)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Ordering(needs_base=channel == DEPTH)
        self._handle(key, chain, given, now)

    def _handle(self, key: tuple[str, str], chain: Ordering, given: OrderingInput, now: Now) -> None:
        for output in chain.handle(given, now):
            event = _event_of(key, output)
            if key[0] == DEPTH:
                self.book(key[1]).take(event)
            self._ready.append(event)
        if chain.deadline is None:
            self._holes.pop(key, None)
        else:
            self._holes[key] = chain

    def _take_latest(self, message: Any, event: Event) -> None:
        order_us = int((message.headers or {}).get(ORDER, "0"))
        if order_us >= self._newest.get(message.subject, 0):
            self._newest[message.subject] = order_us
            self._ready.append(event)

    def _take_state(self, source: Reading, publisher: str, event: Event, now: Now) -> None:
        if isinstance(event, PublisherStarted) or publisher not in self._publishers:
            self._publishers[publisher] = _Publisher()
        if isinstance(event, PublisherReport) and source.caught_up:
            # An older one that is read again is no proof.
            self._publishers[publisher].take(event, now.mono_us)
        self._ready.append(FromPublisher(publisher, event))


def _event_of(key: tuple[str, str], output: OrderingOutput) -> Event:
    match output:
        case Missed(first=first, last=last, reason=reason):
            return FeedGap(symbol=key[1], channel=key[0], first=first, last=last, reason=reason)
        case Piece(value=Event() as event) | Base(value=Event() as event):
            return event
        case _:
            raise TypeError(f"not an event of {key}: {output!r}")


@asynccontextmanager
async def open_consumer(
    url: str, symbols: Iterable[str] = (), *, latest: bool = True, buffer: int = 10_000
) -> AsyncGenerator[FeedConsumer]:
    """Read a published feed from NATS, from the last whole book of each market on, for as long as the block runs.

    Args:
        url: of the NATS server, such as `nats://user:password@127.0.0.1:4222`.
        symbols: ids of the exchange (`SOL_USDC`), every market that is published unless given.
        latest: read the channels of which the latest message counts as well, such as `ticker` and `bookTicker`.
        buffer: how many messages may wait. Then reading stops, and the server waits.

    Raises:
        ConfigurationError: an argument cannot be used, or this is not asyncio.
        EngineFailed: NATS cannot be reached, refuses, or has no such streams yet.
        MissingExtra: the extra `nats` is not installed.
    """
    # Loaded here, so that the name can be imported without the extra.
    from .engine import FEED, LAST, open_engine  # noqa: PLC0415
    from .reading import Reading, first_message, from_now_on  # noqa: PLC0415

    names = checked_names("symbols", symbols)
    checked_flag("latest", latest)
    sender, receiver = anyio.create_memory_object_stream[tuple[Reading, Any]](checked_count("buffer", buffer))

    async def take(source: Reading, message: Any) -> None:
        await sender.send((source, message))

    async with sender, receiver, open_engine(url, name="backpack-feed consumer") as engine:
        await engine.check_streams(create=False)
        places: list[tuple[str, str, Place]] = []
        for name in names or [""]:
            feed, last = subjects_of(name)
            places.append((FEED, feed, await _beginning(engine, name)))
            if latest:
                places.append((LAST, last, first_message()))
        if names:
            places.append((FEED, subject_of(STATE), from_now_on()))
        async with tasks_inside() as tasks:
            for stream, subject, place in places:
                tasks.start_soon(Reading(engine, stream, subject, place, take).run)
            yield FeedConsumer(receiver)


async def _beginning(engine: Engine, name: str) -> Place:
    """Return from where on a market is read, or all of them: a little before the last whole book of each that has publishers."""
    from .engine import FEED, NatsError, NotFoundError, described  # noqa: PLC0415 - as above
    from .reading import at_time, from_now_on  # noqa: PLC0415 - as above

    try:
        if name:
            subjects = [subject_of(BOOK, name)]
        else:
            subjects = list((await engine.stream.stream_info(FEED, subjects_filter=subject_of(BOOK))).state.subjects or {})
        moments = []
        for subject in subjects:
            try:
                moments.append((await engine.stream.get_last_msg(FEED, subject)).time)
            except NotFoundError:
                continue  # it was never published
    except (NatsError, TimeoutError) as failed:
        raise EngineFailed(f"JetStream of NATS at {engine.url} cannot be read: {described(failed)}") from None
    return at_time(first_moment(moments)) if moments else from_now_on()


def first_moment(whole_books: Sequence[datetime]) -> datetime:
    """Return from when on markets are read whose last whole books are of these times."""
    # A market without publishers must not make all consumers read a day.
    first = max(min(whole_books), max(whole_books) - timedelta(seconds=ABANDONED_SECONDS))
    return first - timedelta(seconds=OVERLAP_SECONDS)
