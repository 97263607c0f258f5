"""Fills in the candles that closed without a connection.

Theory of operation. A stream sends a candle once, when it has closed, so each connection that ends may have cost some. From then
on the candles of a symbol are in doubt, and those that come are held. The first that comes settles it: when the last known candle
reaches up to it, they are complete. Otherwise those between the two are asked for by REST, and are handed on before it. Of a
symbol that stays quiet the candles up to now are asked for once, when one must have closed, and its first candle still settles it.

        FOLLOWED --connection lost, frame lost--> IN DOUBT --asked--> ASKED --answer--> FOLLOWED, or IN DOUBT while nothing has come

No clock of ours says that a candle has closed, but the exchange's own times, in its frames: an unfinished candle handed on as closed
would be worse than one that is late. They also make each request one of its own: its end is the newest such time, so that no cache
holds an older answer to it (docs/protocol.md 1.2). One request is made at a time, and the exchange allows 30 of this kind a minute
(docs/protocol.md 1.3): 100 symbols take almost four minutes, and the candles of each wait for its turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backpack_proto.inputs import Call, Withdraw
from backpack_proto.machine import Timers
from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.streams.channels import KLINE_SECONDS
from backpack_proto.streams.payloads import Kline

__all__ = ["CandleHistory", "CandleOutput", "CandlesMissing"]

SETTLED_US = 2_000_000
"""A candle that ended so long ago, by the exchange's time, has all of its trades."""
QUIET_US = 10_000_000
"""A symbol whose stream is silent for so long is asked for without it."""
MOST_CANDLES = 1_000
"""Of one symbol that are filled in after an outage, and that are held meanwhile. The latest ones."""
ATTEMPTS = 3
"""Requests for the same candles that may fail."""
RETRY_US = 5_000_000
"""Time that after a failure the next attempt is made. Twice as long after the second."""


class CandlesMissing(Struct, frozen=True, gc=False, kw_only=True):
    """Candles that will not be handed on. Microseconds since the epoch."""

    symbol: str
    from_us: int
    until_us: int
    reason: str


CandleOutput: TypeAlias = Kline | Call | Withdraw | CandlesMissing


class _Doubt(Struct):
    """State of a symbol since candles of it may have been missed."""

    held: list[Kline] = []
    """Candles that came since: those that closed, and the latest state of the running one."""
    failures: int = 0
    not_before_us: int = 0
    quiet_us: int | None = None
    """When, by the exchange's time, the stream has been quiet for long, or None until that time is known."""
    asked_in_silence: bool = False
    """The candles up to a moment were asked for before any had come."""


class _Series(Struct):
    """The candles of one symbol."""

    known_us: int
    """None that ended by then is missing."""
    handed_us: int = 0
    """End of the latest that was handed on as closed."""
    doubt: _Doubt | None = None


class _Asked(NamedTuple):
    """The request that has not been answered."""

    call_id: int
    symbol: str
    until_us: int
    """Candles that end by then are wanted."""
    in_silence: bool
    """No candle has shown that those before it have closed."""


class CandleHistory:
    """The closed candles of all symbols, each once and in order, across all connections.

    Driven by the events of the session. It returns candles to hand on, and commands for the session.
    """

    def __init__(self, interval: str, symbols: Iterable[str]) -> None:
        """`interval` is the exchange's name of it, `symbols` are its ids."""
        self.interval = interval
        self.filled = 0
        """Number of candles that came by REST."""
        self._length_us = KLINE_SECONDS[interval] * 1_000_000
        self._symbols = tuple(symbols)
        self._series: dict[str, _Series] = {}
        """Empty until the exchange's time is known."""
        self._exchange_us = 0
        """The time in the newest frame."""
        self._heard = False
        """True when this connection has had a frame with a time."""
        self._ready: Timers[str] = Timers()
        """When, by the exchange's time, the candles of a symbol can be asked for."""
        self._asked: _Asked | None = None
        self._last_call_id = 0

    @property
    def waiting(self) -> list[str]:
        """The symbols of which candles are held."""
        return [symbol for symbol, series in self._series.items() if series.doubt is not None and series.doubt.held]

    def clock(self, emitted_us: int | None) -> list[CandleOutput]:
        """Take the time of any frame of the exchange."""
        self._set_time(emitted_us)
        return self._ask()

    def seen(self, candle: Kline) -> list[CandleOutput]:
        """Take a candle of the stream."""
        self._set_time(candle.emitted_us)
        series = self._series.get(candle.symbol)
        if series is not None and not series.handed_us:
            # A first frame with a wrong time would have all candles known for ever.
            series.known_us = min(series.known_us, candle.start_us)
        if series is None or (doubt := series.doubt) is None or candle.end_us <= series.known_us:
            # One that is repeated does not settle it.
            return [*self._hand_on(series, [candle]), *self._ask()]
        _hold(doubt.held, candle)
        return [*self._settle(candle.symbol, series, doubt), *self._ask()]

    def connection_lost(self) -> list[Withdraw]:
        """Doubt all candles from here on."""
        withdrawn = [] if self._asked is None else [Withdraw(self._asked.call_id)]
        self._asked = None
        self._heard = False
        for symbol, series in self._series.items():
            # The held ones closed after the last known candle, so they are asked for again.
            series.doubt = _Doubt()
            self._ready.set(symbol, None)
        return withdrawn

    def frame_lost(self, stream: str | None) -> None:
        """Doubt the candles of a stream, or of all: a frame could not be read, perhaps not even its stream."""
        prefix = f"kline.{self.interval}."
        symbols = self._series if stream is None else [stream.removeprefix(prefix)] if stream.startswith(prefix) else []
        for symbol in symbols:
            series = self._series.get(symbol)
            if series is None:
                continue
            if series.doubt is None:
                series.doubt = _Doubt()
            # The lost one may have closed before those.
            series.doubt.held.clear()
            series.doubt.quiet_us = self._exchange_us + QUIET_US
            self._settle(symbol, series, series.doubt)

    def answered(self, given: CallAnswered | CallFailed) -> list[CandleOutput]:
        """Take the answer to a request, or the error in its place."""
        asked = self._asked
        if asked is None or asked.call_id != given.call_id:
            return []
        self._asked = None
        series = self._series[asked.symbol]
        doubt = series.doubt
        if doubt is None:
            raise AssertionError("a request is made for candles in doubt")
        outputs: list[CandleOutput] = []
        if isinstance(given, CallFailed):
            doubt.failures += 1
            if doubt.failures < ATTEMPTS:
                doubt.not_before_us = self._exchange_us + RETRY_US * doubt.failures
                return [*self._settle(asked.symbol, series, doubt), *self._ask()]
            if not asked.in_silence:
                outputs.append(_missing(asked.symbol, series.known_us, asked.until_us, str(given.error)))
        else:
            outputs += self._fill(series, asked, given.result)
        if not asked.in_silence:
            series.known_us = max(series.known_us, asked.until_us)
        doubt.failures, doubt.not_before_us, doubt.asked_in_silence = 0, 0, True
        return [*outputs, *self._settle(asked.symbol, series, doubt), *self._ask()]

    def _set_time(self, emitted_us: int | None) -> None:
        if emitted_us is None:
            return
        self._exchange_us = emitted_us
        if self._heard:
            return
        self._heard = True
        if not self._series:
            self._series = {symbol: _Series(emitted_us - SETTLED_US) for symbol in self._symbols}
        for symbol, series in self._series.items():
            if series.doubt is not None:
                series.doubt.quiet_us = emitted_us + QUIET_US
                self._settle(symbol, series, series.doubt)

    def _settle(self, symbol: str, series: _Series, doubt: _Doubt) -> list[CandleOutput]:
        """Hand on held candles if none before them is missing, otherwise say when the rest can be asked for."""
        if self._asked is not None and self._asked.symbol == symbol:
            self._ready.set(symbol, None)
            return []
        if doubt.held and doubt.held[0].start_us <= series.known_us:
            series.doubt = None
            self._ready.set(symbol, None)
            return self._hand_on(series, doubt.held)
        if doubt.held:
            self._ready.set(symbol, max(doubt.held[0].start_us + SETTLED_US, doubt.not_before_us))
        elif doubt.asked_in_silence or doubt.quiet_us is None:
            self._ready.set(symbol, None)
        else:
            closed_us = series.known_us + self._length_us + SETTLED_US
            self._ready.set(symbol, max(closed_us, doubt.quiet_us, doubt.not_before_us))
        return []

    def _hand_on(self, series: _Series | None, candles: Iterable[Kline]) -> list[CandleOutput]:
        """Return candles without those that were handed on before."""
        found: list[CandleOutput] = []
        for candle in candles:
            if series is not None and candle.closed:
                if candle.end_us <= series.handed_us:
                    continue
                series.handed_us = candle.end_us
                series.known_us = max(series.known_us, candle.end_us)
            found.append(candle)
        return found

    def _fill(self, series: _Series, asked: _Asked, rows: object) -> list[CandleOutput]:
        if not isinstance(rows, tuple):
            raise TypeError(f"not an answer with candles: {type(rows).__name__}")
        listed = sorted((row for row in rows if row.symbol == asked.symbol), key=lambda row: row.start_us)
        if asked.in_silence:
            # The last one is under way, whichever frame showed the time.
            del listed[-1:]
        wanted = [row for row in listed if series.known_us < row.end_us <= asked.until_us]
        # REST does not say that they have closed, and has no time of sending: they were complete at their end.
        filled = self._hand_on(series, [replace(row, closed=True, emitted_us=row.end_us) for row in wanted])
        self.filled += len(filled)
        return filled

    def _ask(self) -> list[CandleOutput]:
        """Ask for the candles of the symbol that can be asked for first."""
        ready_us = self._ready.earliest
        if self._asked is not None or ready_us is None or ready_us > self._exchange_us:
            return []
        symbol = self._ready.due(self._exchange_us)[0]
        self._ready.set(symbol, None)
        series = self._series[symbol]
        held = series.doubt.held if series.doubt is not None else []
        most_us = MOST_CANDLES * self._length_us
        until_us = held[0].start_us if held else min(self._exchange_us - SETTLED_US, series.known_us + most_us)
        outputs: list[CandleOutput] = []
        earliest_us = until_us - most_us
        if series.known_us < earliest_us:
            reason = f"only the latest {MOST_CANDLES} are filled in"
            outputs.append(_missing(symbol, series.known_us, earliest_us, reason))
            series.known_us = earliest_us
        self._last_call_id += 1
        self._asked = _Asked(self._last_call_id, symbol, until_us, in_silence=not held)
        parameters: dict[str, str | int] = {
            "symbol": symbol,
            "interval": self.interval,
            # The first that is wanted may have started a whole length before the end of the last one that is known.
            "startTime": (series.known_us - self._length_us) // 1_000_000,
            "endTime": self._exchange_us // 1_000_000,
        }
        return [*outputs, Call(call_id=self._last_call_id, endpoint="klines", parameters=parameters)]


def _hold(held: list[Kline], candle: Kline) -> None:
    if held and held[-1].start_us == candle.start_us and not held[-1].closed:
        held[-1] = candle
        return
    held.append(candle)
    if len(held) > MOST_CANDLES:
        # It is asked for with those before it.
        del held[0]


def _missing(symbol: str, from_us: int, until_us: int, reason: str) -> CandlesMissing:
    return CandlesMissing(symbol=symbol, from_us=from_us, until_us=until_us, reason=reason)
