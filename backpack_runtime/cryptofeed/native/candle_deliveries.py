"""Hands on candles: those of the stream, and those that are filled in, in the order that `CandleHistory` says."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import gmtime, strftime

from backpack_proto.inputs import Command
from backpack_proto.outputs import CallAnswered, CallFailed, ConnectionDown
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event, Kline, StreamPayload
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.logs import LimitedLog

from .candles import CandleHistory, CandleOutput, CandlesMissing
from .tallies import Tallies

__all__ = ["CandleDeliveries"]

MOST_NAMES = 3
"""Symbols that a reason names."""

Hand = Callable[[Kline, bytes | None, float], Awaitable[None]]
"""Takes a candle, its frame if it has one, and when that was received."""


class CandleDeliveries:
    """The candles of a feed. Its methods return commands for the session."""

    def __init__(self, hand: Hand, symbol_of: Callable[[str], str], tallies: Tallies) -> None:
        self._hand = hand
        self._symbol_of = symbol_of
        self._tallies = tallies
        self._log = LimitedLog(LOG)
        self._history: CandleHistory | None = None
        self.wanted = False
        """True when candles are filled in."""

    def want(self, interval: str, symbols: Iterable[str]) -> None:
        """Fill in the candles of these symbols, ids of the exchange."""
        self._history, self.wanted = CandleHistory(interval, symbols), True

    async def received(self, candle: Kline, data: bytes | None, receipt: float) -> Sequence[Command]:
        """Take a candle of the stream."""
        if self._history is None:
            await self._hand(candle, data, receipt)
            return ()
        return await self._put(self._history.seen(candle), receipt, candle, data)

    async def heard(self, event: StreamPayload, receipt: float) -> Sequence[Command]:
        """Take the time of other data."""
        return () if self._history is None else await self._put(self._history.clock(event.emitted_us), receipt)

    async def answered(self, event: CallAnswered | CallFailed, receipt: float) -> Sequence[Command]:
        """Take the candles that were asked for."""
        if self._history is None:
            return ()
        outputs = self._history.answered(event)
        self._tallies.candles_filled = self._history.filled
        return await self._put(outputs, receipt)

    def doubt(self, event: Event) -> Sequence[Command]:
        """Take an event after which candles may have been missed."""
        if self._history is None:
            return ()
        match event:
            case ConnectionDown():
                return self._history.connection_lost()
            case FrameDropped(stream=stream):
                self._history.frame_lost(stream)
        return ()

    def reasons(self) -> list[str]:
        """Return why not all is well with the candles."""
        waiting = [] if self._history is None else self._history.waiting
        if not waiting:
            return []
        more = f" and {len(waiting) - MOST_NAMES} more" if len(waiting) > MOST_NAMES else ""
        names = ", ".join(map(self._symbol_of, waiting[:MOST_NAMES]))
        return [f"candles of {names}{more} wait until those that were missed are fetched"]

    async def _put(
        self, outputs: Iterable[CandleOutput], receipt: float, received: Kline | None = None, data: bytes | None = None
    ) -> Sequence[Command]:
        commands: list[Command] = []
        for output in outputs:
            match output:
                case Kline():
                    await self._hand(output, data if output is received else None, receipt)
                case CandlesMissing():
                    self._tallies.candle_gaps += 1
                    text = "BACKPACK: candles of %s are missing from %s to %s: %s"
                    times = _time_of(output.from_us), _time_of(output.until_us)
                    symbol = self._symbol_of(output.symbol)
                    self._log.write(logging.WARNING, "candles missing", text, symbol, *times, output.reason)
                case _:
                    commands.append(output)
        return commands


def _time_of(unix_us: int) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", gmtime(unix_us // 1_000_000))
