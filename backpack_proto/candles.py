"""Candles of one market and interval: the history by REST and the live stream, joined without a hole. A pure machine.

Theory of operation. Candles are handed on in order, the closed ones once each. `next` is the start of the one that follows. A frame of
the stream is the whole state of a candle, so only the end of a candle can be lost with a frame:

* a frame of `next` is handed on, as the running candle or as the closed one, and then `next` moves.
* a frame of a later candle says that the one before has ended unseen: it is held, and REST is asked for those between.
* when a candle should have ended a while ago and no frame has come, REST is asked as well: a quiet market is silent.

So an outage, a lost frame and the beginning are one case. REST may be minutes old (docs/protocol.md 1.2), and does not say which candles have
closed. An answer is believed as far as it proves itself: a candle has closed if a later one stands in the same answer, or if the end of
the request is older than any cache. The end of other requests is the exchange's time, which makes each one of its own in the eyes
of a cache. An answer that does not reach up to the stream is asked for again. After ATTEMPTS without a step the hole is
reported (`CandleGap`), and the rest goes on.

        READING --answer--> FOLLOWING --hole, quiet--> READING ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .inputs import TimerFired
from .machine import Now, due
from .streams.channels import KLINE_SECONDS
from .streams.payloads import Kline
from .values import Value

__all__ = [
    "CandleClock",
    "CandleGap",
    "CandleInput",
    "CandleJoin",
    "CandleOutput",
    "CandlesRead",
    "CandlesUnread",
    "FetchCandles",
]

SETTLED_US: Final = 2_000_000
"""A candle that ended so long ago, by the exchange's time, has all of its trades."""
QUIET_US: Final = 5_000_000
"""A candle whose end the stream has not told so long after it is looked for by REST."""
CACHED_US: Final = 240_000_000
"""No cache holds an answer for longer: 60 s, two minutes more while it is renewed, and a margin (docs/protocol.md 1.2)."""
PAGE: Final = 1_000
"""Candles of one request."""
ATTEMPTS: Final = 5
"""Answers in a row without progress."""
RETRY_US: Final = 2_000_000
"""Time between an answer without progress and the next request. Longer after each."""


class CandleClock(Struct, frozen=True, gc=False, kw_only=True):
    """The exchange's time at this moment. The first one begins the reading."""

    exchange_us: int


class FetchCandles(Struct, frozen=True, gc=False, kw_only=True):
    """Ask REST for candles, seconds since the epoch, and report the answer as `CandlesRead` or `CandlesUnread`."""

    start_s: int
    end_s: int


class CandlesRead(Struct, frozen=True, gc=False):
    """The rows of an answer."""

    rows: tuple[Kline, ...]


class CandlesUnread(Struct, frozen=True, gc=False):
    """There is no usable answer."""

    reason: str


class CandleGap(Value, frozen=True, gc=False, kw_only=True):
    """Candles that will not come, from one moment up to another, microseconds since the epoch. Those behind them follow."""

    symbol: str
    interval: str
    from_us: int
    until_us: int
    reason: str


CandleInput: TypeAlias = CandleClock | Kline | CandlesRead | CandlesUnread | TimerFired
CandleOutput: TypeAlias = Kline | CandleGap | FetchCandles


class _Asked(Struct, frozen=True, gc=False):
    until_us: int
    at_us: int
    """The exchange's time then."""
    is_past: bool
    """No cache can have an answer from before its end."""


class CandleJoin:
    """The candles of one market and interval from a moment on. A machine. Give it the frames of the stream, and do its `FetchCandles`."""

    def __init__(self, symbol: str, interval: str, since_us: int) -> None:
        """Candles that start at `since_us` or later are wanted, microseconds since the epoch."""
        self._symbol = symbol
        self._interval = interval
        self._length_us = KLINE_SECONDS[interval] * 1_000_000
        self._since_us = since_us
        self._from_us = since_us
        """Begin of the next page of the history, while no candle was found."""
        self._next_us: int | None = None
        self._running: Kline | None = None
        """The latest state of the running candle that was handed on."""
        self._held: list[Kline] = []
        """Frames behind a hole: closed candles, and the latest state of the running one."""
        self._clock: Now | None = None
        self._exchange_us = 0
        """The exchange's time at `_clock`."""
        self._asked: _Asked | None = None
        self._stalled = 0
        """Answers in a row without progress."""
        self._deadline: int | None = None

    @property
    def deadline(self) -> int | None:
        """When REST is to be asked next."""
        return self._deadline

    def handle(self, given: CandleInput, now: Now) -> Sequence[CandleOutput]:
        """Take one input. Return candles, holes, and requests to make."""
        match given:
            case Kline():
                return self._seen(given, now)
            case CandlesRead(rows):
                return self._read(rows, now)
            case CandlesUnread(reason):
                return self._unread(reason, now)
            case TimerFired():
                return self._ask(now) if due(self._deadline, now) else []
            case CandleClock(exchange_us=exchange_us):
                begins = self._clock is None
                self._set_clock(exchange_us, now)
                return self._ask(now) if begins else []

    def _set_clock(self, exchange_us: int, now: Now) -> None:
        self._clock, self._exchange_us = now, exchange_us

    def _now_us(self, now: Now) -> int:
        """The exchange's time."""
        return self._exchange_us + now.mono_us - (self._clock or now).mono_us

    # The stream.

    def _seen(self, frame: Kline, now: Now) -> list[CandleOutput]:
        if (frame.symbol, frame.interval) != (self._symbol, self._interval):
            return []
        if self._clock is not None and frame.emitted_us is not None and frame.emitted_us > self._now_us(now):
            self._set_clock(frame.emitted_us, now)
        if frame.end_us <= (self._next_us or self._since_us):
            return []
        if self._next_us is None or self._held or frame.start_us != self._next_us:
            begins = not self._held
            self._hold(frame)
            if begins and self._next_us is not None:
                # From here on a hole is counted. Requests planned for one are not put off by each frame.
                self._stalled = 0
                self._plan(now)
            return []
        handed = self._hand(frame)
        self._plan(now)
        return handed

    def _hold(self, frame: Kline) -> None:
        held = self._held
        if held and frame.start_us < held[-1].start_us:
            return
        if held and held[-1].start_us == frame.start_us:
            if not held[-1].closed:
                held[-1] = frame
            return
        held.append(frame)
        if len(held) > PAGE:
            # It is asked for with those before it.
            del held[0]

    def _hand(self, candle: Kline) -> list[CandleOutput]:
        """Hand on a state of the next candle, if it is new."""
        if candle.closed:
            self._next_us, self._running, self._stalled = candle.end_us, None, 0
            return [candle]
        if self._running is not None and _same(self._running, candle):
            return []
        self._running = candle
        return [candle]

    def _release(self) -> list[CandleOutput]:
        """Hand on held candles, up to the next hole."""
        handed: list[CandleOutput] = []
        while self._held and self._next_us is not None and self._held[0].start_us <= self._next_us:
            frame = self._held.pop(0)
            if frame.start_us == self._next_us:
                handed += self._hand(frame)
        return handed

    # REST.

    def _ask(self, now: Now) -> list[CandleOutput]:
        at_us = self._now_us(now)
        start_us = self._from_us if self._next_us is None else self._next_us
        page_us = start_us + PAGE * self._length_us
        is_past = page_us <= at_us - CACHED_US
        self._asked = _Asked(page_us if is_past else at_us, at_us, is_past)
        self._deadline = None
        # The end of a page that ends now is another one each second.
        return [FetchCandles(start_s=start_us // 1_000_000, end_s=max(self._asked.until_us, start_us) // 1_000_000)]

    def _read(self, rows: Iterable[Kline], now: Now) -> list[CandleOutput]:
        asked, self._asked = self._asked, None
        if asked is None:
            return []
        known_us = self._since_us if self._next_us is None else self._next_us
        listed = sorted((row for row in rows if row.start_us >= known_us), key=lambda row: row.start_us)
        outputs = self._begin_with(listed)
        before_us = self._next_us
        for number, row in enumerate(listed):
            if row.start_us != self._next_us:
                break
            followed = number + 1 < len(listed) and row.end_us <= asked.at_us - SETTLED_US
            if followed or (asked.is_past and row.end_us <= asked.until_us):
                # REST does not say that it has closed, and has no time of sending: it was complete at its end.
                outputs += self._hand(replace(row, closed=True, emitted_us=row.end_us))
            elif not self._held:
                outputs += self._hand(replace(row, closed=False))
        if self._next_us is None and asked.is_past:
            self._from_us = asked.until_us
            return self._ask(now)
        outputs += self._release()
        moved = self._next_us != before_us
        return [*outputs, *self._go_on(listed, asked, now, moved=moved, reason="the exchange does not list them")]

    def _begin_with(self, listed: list[Kline]) -> list[CandleOutput]:
        """Begin with the first candle that there is. Say so where it is not the first that is wanted."""
        if self._next_us is not None or not listed:
            return []
        self._next_us = listed[0].start_us
        if self._next_us < self._since_us + self._length_us:
            return []
        return [self._missing(self._since_us, self._next_us, "the exchange lists none before")]

    def _unread(self, reason: str, now: Now) -> list[CandleOutput]:
        asked, self._asked = self._asked, None
        return [] if asked is None else self._go_on([], asked, now, moved=False, reason=reason)

    def _go_on(self, listed: list[Kline], asked: _Asked, now: Now, *, moved: bool, reason: str) -> list[CandleOutput]:
        """Read on, follow the stream, ask again, or tell a hole."""
        self._stalled = 0 if moved else self._stalled + 1
        if moved and asked.is_past:
            return self._ask(now)
        known_us = self._since_us if self._next_us is None else self._next_us
        behind = [frame.start_us for frame in (*self._held[:1], *listed) if frame.start_us > known_us]
        if asked.is_past and not behind:
            behind = [asked.until_us]
        if moved or not behind or self._stalled < ATTEMPTS:
            attempts = max(self._stalled, 1) if behind else self._stalled
            self._plan(now, at_least_us=RETRY_US * min(attempts, ATTEMPTS), at_once=bool(behind))
            return []
        hole = self._missing(known_us, min(behind), reason)
        self._next_us, self._running, self._stalled = min(behind), None, 0
        outputs = [hole, *self._release()]
        self._plan(now)
        return outputs

    def _plan(self, now: Now, *, at_least_us: int = 0, at_once: bool = False) -> None:
        """Say when REST is to be asked next, as things are, or `at_once` where something is known to be behind a hole."""
        if self._asked is not None:
            return
        if self._next_us is None or at_once:
            wait_us = 0
        elif self._held:
            # Those before it have all of their trades by then.
            wait_us = self._held[0].start_us + SETTLED_US - self._now_us(now)
        else:
            wait_us = self._next_us + self._length_us + QUIET_US - self._now_us(now)
        self._deadline = now.mono_us + max(wait_us, at_least_us)

    def _missing(self, from_us: int, until_us: int, reason: str) -> CandleGap:
        return CandleGap(symbol=self._symbol, interval=self._interval, from_us=from_us, until_us=until_us, reason=reason)


def _same(one: Kline, other: Kline) -> bool:
    """Return whether two states of a candle differ only in the times of sending and receipt."""
    return replace(one, emitted_us=None, received_us=None, quote_volume=None) == replace(
        other, emitted_us=None, received_us=None, quote_volume=None
    )
