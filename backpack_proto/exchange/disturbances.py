"""Planned faults at work: those that hold now, and their effect on all that the exchange sends.

Theory of operation. All outputs of the exchange pass `disturb`. Frames that come late wait here, in order, and leave at once when
the fault ends. A connection that ends takes its frames along. Faults of requests are passed to `Faults`, and the one that only the process
that serves the exchange can do leaves as `RefuseConnections`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backpack_proto.machine import earliest

from .fault_plan import FAULT_KINDS, FaultSchedule, PlannedFault
from .faults import Faults
from .messages import CloseConnection, ExchangeOutput, PingSocket, RefuseConnections, SendFrame
from .stream.sockets import GOING_AWAY

__all__ = ["LATE_US", "Disturbances"]

LATE_US: Final = 6_000_000
"""Delay of a frame. A client may bear some seconds."""
_DEPTH: Final = b'"stream":"depth.'

CloseAll = Callable[[int | None], Sequence[ExchangeOutput]]
"""Ends every websocket: with a Close frame of a code, or without a word."""


class Disturbances:
    """The faults of a plan. `close_all` ends every websocket of the exchange, `faults` decides about its requests."""

    def __init__(self, seed: str, faults: Faults, close_all: CloseAll) -> None:
        self.schedule = FaultSchedule(seed)
        self._faults = faults
        self._close_all = close_all
        self._late: deque[tuple[int, SendFrame | PingSocket]] = deque()
        """Frames that wait, each with the time at which it leaves."""
        self._gapped: set[int] = set()
        """Connections that have lost their frame to the gap that is under way."""
        self._active: frozenset[str] = frozenset()
        self._losing_all = False

    @property
    def deadline(self) -> int | None:
        """When a fault begins or ends, or a late frame leaves."""
        return earliest(self.schedule.deadline, self._late[0][0] if self._late else None)

    def plan(self, faults: Iterable[PlannedFault], mono_us: int) -> list[ExchangeOutput]:
        """Begin another plan. The faults that are under way end."""
        outputs = self._end(self.schedule.active, ())
        self.schedule.plan(faults, mono_us)
        return outputs + self.advance(mono_us)

    def advance(self, mono_us: int) -> list[ExchangeOutput]:
        """Begin and end faults that are due, and return the outputs that they need at once."""
        begun, ended = self.schedule.advance(mono_us)
        if not begun and not ended:
            return []
        outputs: list[ExchangeOutput] = []
        for planned in begun:
            match planned.name:
                case "drop":
                    outputs += self._close_all(None)
                case "restart":
                    outputs += self._close_all(GOING_AWAY)
                case "refuse":
                    outputs += [*self._close_all(None), RefuseConnections(refuse=True)]
                case "gap":
                    self._gapped.clear()
        return outputs + self._end(ended, self.schedule.active)

    def disturb(self, outputs: list[ExchangeOutput], mono_us: int) -> list[ExchangeOutput]:
        """Return the outputs that really leave, after late ones that are due."""
        if not self._active and not self._late:
            return outputs
        left: list[ExchangeOutput] = []
        while self._late and self._late[0][0] <= mono_us:
            left.append(self._late.popleft()[1])
        for output in outputs:
            match output:
                case CloseConnection(connection=connection):
                    self._late = deque(entry for entry in self._late if entry[1].connection != connection)
                    left.append(output)
                case SendFrame() | PingSocket() if "mute" in self._active:
                    pass
                case SendFrame() if "gap" in self._active and self._is_lost(output):
                    pass
                case SendFrame() | PingSocket() if "late" in self._active:
                    self._late.append((mono_us + LATE_US, output))
                case _:
                    left.append(output)
        return left

    def _is_lost(self, frame: SendFrame) -> bool:
        if _DEPTH not in frame.data or (frame.connection in self._gapped and not self._losing_all):
            return False
        self._gapped.add(frame.connection)
        return True

    def _end(self, ended: Iterable[PlannedFault], active: Sequence[PlannedFault]) -> list[ExchangeOutput]:
        """Take over the faults that hold from now on, and return the outputs that follow from the end of others."""
        self._active = frozenset(planned.name for planned in active)
        self._losing_all = any(planned.name == "gap" and planned.in_spans for planned in active)
        requests = [FAULT_KINDS[planned.name].request for planned in active]
        self._faults.always = next((fault for fault in requests if fault is not None), None)
        outputs: list[ExchangeOutput] = []
        names = {planned.name for planned in ended} - self._active
        if "late" in names:
            outputs += [frame for _, frame in self._late]
            self._late.clear()
        if "refuse" in names:
            outputs.append(RefuseConnections(refuse=False))
        return outputs
