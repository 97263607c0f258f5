"""The short way of plain data frames: a run of ordinary frames in one call.

Theory. Nearly every frame of a busy connection is a delta that joins its live book, a trade or a ticker of a stream that has spoken
before, on a path that is proved. Such a frame has the same effects on the machines as on the long way (`Session.handle`), and
gives the same events. The common steps of a run are done once: the connection was heard, the path was proved, latencies were counted. A frame that is not plain ends the run before it is handled, and goes the long way.

A route holds the results of the look-ups that the long way makes for each frame of a stream. Anything else that a session is given may change that, so then all
routes are forgotten. To find one again costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import force_setattr

from .book.books import Books
from .book.sequencer import BookSequencer, SequencerOutput
from .book.signals import TopMatched
from .connection.link import Link
from .connection.subscriptions import ACCOUNT_STREAMS
from .inputs import Given, TextReceived
from .machine import Now
from .metrics import Metrics, TopVerified
from .outputs import BookChanged, Output
from .streams.channels import Channel
from .streams.frames import COMPLETED, UNDECODABLE, decode_data
from .streams.names import parse_stream
from .streams.payloads import BookTicker, Depth, Trade

__all__ = ["Finish", "Routes"]

Finish: TypeAlias = Callable[[BookSequencer, Sequence[SequencerOutput], Now], Sequence[Output]]
"""Passes on the outputs of a book beside its change."""

_PLAIN_KINDS = {
    channel: channel.traits.payloads[0]
    for channel in Channel
    if len(channel.traits.payloads) == 1
    and channel.traits.payloads[0] not in COMPLETED
    and channel.value not in ACCOUNT_STREAMS
}
"""The one type of data of those channels whose frames need no second look, not even for members from the stream's name."""


class _Route(NamedTuple):
    kind: type[Any]
    """Of the data."""
    symbol: str | None
    """Of the book that the data are evidence about, or None."""
    sequencer: BookSequencer | None
    """Of that book, where it is kept."""
    take: Callable[[Any, Now], BookChanged | Sequence[SequencerOutput] | None] | None
    """Its way for such data."""
    shown: bool
    """The data themselves are events."""
    timed: bool
    """The data say when the matching engine made them."""
    tally: list[int]
    """Of the metrics: how many frames, and when the last one came."""


class Routes:
    """Takes runs of plain frames for a session whose machines these are."""

    def __init__(self, link: Link, books: Books, metrics: Metrics, finish: Finish, *, manage_books: bool) -> None:
        """`finish` is given outputs that are more than a change. `manage_books` as in `Session`."""
        self._link = link
        self._books = books
        self._metrics = metrics
        self._finish = finish
        self._manage_books = manage_books
        self._routes: dict[str, _Route] = {}
        self.known = False
        """True when there are any: only plain frames were handled since."""

    def forget(self) -> None:
        """Look everything up again: something else than a plain frame was handled."""
        self._routes.clear()
        self.known = False

    # One loop, for a call costs a tenth of the budget of a frame.
    def take(  # noqa: C901, PLR0912, PLR0915 - see above
        self, batch: Sequence[Given], start: int, now: Now, outputs: list[Output], ends: list[int] | None = None
    ) -> int:
        """Take the run of plain frames at `start`, and add its outputs to `outputs`. Return the end of the run.

        `ends` is given the number of outputs after each frame.
        """
        mono_us, unix_us = now
        latest_us = self._link.latest_us(mono_us)
        if type(batch[start]) is not TextReceived or latest_us is None or not self._link.hear(now):
            return start
        find, decode, add = self._routes.get, decode_data, outputs.append
        latencies_us: list[int] = []
        late = latencies_us.append
        newest_us = last_us = -1
        stamp: int | None = None
        received_us = unix_us
        agreements = 0
        rest: tuple[BookSequencer, Sequence[SequencerOutput]] | None = None
        end = start
        for given in batch if not start else batch[start:]:
            if type(given) is not TextReceived:
                break
            try:
                frame = decode(given.data)
            except UNDECODABLE:
                break
            route = find(frame.stream) or self._find(frame.stream)
            payload: Any = frame.payload
            if route is None:
                break
            kind, symbol, sequencer, take, shown, timed, tally = route
            if type(payload) is not kind:
                break
            emitted_us = payload.emitted_us
            if emitted_us is None or emitted_us > latest_us or (symbol is not None and payload.symbol != symbol):
                break
            produced = () if take is None else take(payload, now)
            if produced is None:
                break
            end += 1
            if given.received_us is not stamp:
                # One for all frames of a read.
                stamp = given.received_us
                received_us = unix_us if stamp is None else stamp
            force_setattr(payload, "received_us", received_us)
            last_us = emitted_us
            if emitted_us > newest_us:  # noqa: PLR1730 - a call of `max`
                newest_us = emitted_us
            tally[0] += 1
            tally[1] = mono_us
            if timed:
                late(received_us - payload.engine_us)
            if shown:
                add(payload)
            if isinstance(produced, BookChanged):
                add(produced)
            elif produced and sequencer is not None:
                if len(produced) == 1 and type(produced[0]) is TopMatched:
                    agreements += 1
                else:
                    rest = sequencer, produced
                    break
            if ends is not None:
                ends.append(len(outputs))
        if end > start:
            self._link.renew(newest_us, last_us, now)
            self._metrics.engine_to_receipt.record_all(latencies_us)
            if agreements:
                self._metrics.handle(TopVerified(agreements), now)
        if rest is not None:
            outputs += self._finish(*rest, now)
            if ends is not None:
                ends.append(len(outputs))
            self.forget()
        return end

    def _find(self, stream: str) -> _Route | None:
        """Look up the route of a frame, or return None where it needs the long way."""
        tally = self._metrics.tally(stream)
        if tally is None or stream in self._link.untyped or not self._link.is_plain(stream):
            return None
        parsed = parse_stream(stream)
        kind = _PLAIN_KINDS.get(parsed.channel)
        if kind is None:
            return None
        symbol: str | None = None
        sequencer: BookSequencer | None = None
        shown = stream in self._link.shown
        if kind is Depth and self._manage_books:
            shown = False
            symbol, sequencer = parsed.symbol, self._books.of_stream(stream)
            if sequencer is None:
                return None
        elif kind is BookTicker or kind is Trade:
            symbol = parsed.symbol or ""
            sequencers = self._books.of_symbol(symbol)
            if len(sequencers) > 1:
                return None
            sequencer = sequencers[0] if sequencers else None
        take = None if sequencer is None else sequencer.follow if kind is Depth else sequencer.witness
        timed = "engine_us" in kind.__struct_fields__
        route = self._routes[stream] = _Route(kind, symbol, sequencer, take, shown, timed, tally)
        self.known = True
        return route
