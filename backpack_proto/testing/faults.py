"""Faults between a session and the exchange: a schedule that can be printed, replayed and shrunk.

A schedule is a sequence of episodes. Each is one fault, from when on and for how long. Its `repr` is the expression that makes it, so
a schedule that found something is pasted into a test as it was printed. Nothing is drawn here: a frame fault does its harm to each
`every`th frame, so the same schedule and the same seed give the same run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import one_of
from backpack_proto.values import Value

__all__ = ["FAULTS", "FRAME_FAULTS", "MOMENTARY", "Episode", "FaultName", "Weather"]

FaultName: TypeAlias = Literal["gap", "repeat", "reorder", "tear", "drop", "restart", "refuse", "mute", "late", "lost"]

MOMENTARY: Final[tuple[FaultName, ...]] = ("drop", "restart")
"""Faults that happen at one moment."""
FRAME_FAULTS: Final[tuple[FaultName, ...]] = ("gap", "repeat", "reorder", "tear")
"""Faults that are done to each `every`th frame."""
LATE_US: Final = 6_000_000
"""Delay of the frames in an episode of lateness."""
LATEST_MS: Final = 10**9

FAULTS: Final[Mapping[FaultName, str]] = MappingProxyType(
    {
        "gap": "frames are lost",
        "repeat": "frames come twice",
        "reorder": "a frame comes behind the next one",
        "tear": "of a frame only the first half comes",
        "drop": "the websocket breaks without a word",
        "restart": "the exchange closes every websocket, and answers no request that is under way",
        "refuse": "the websocket breaks, and new ones are refused",
        "mute": "the websocket stays open, and nothing comes of it",
        "late": f"what the exchange sends comes {LATE_US // 1_000_000} s later, in order",
        "lost": "answers of REST are lost",
    }
)
"""Every kind of fault, and its effect."""


class Episode(Value, frozen=True, gc=False, kw_only=True):
    """One fault of a schedule.

    Raises:
        LocalProtocolError: there is no such fault, or a number is out of range.
    """

    fault: FaultName
    """A name of `FAULTS`."""
    start_ms: int = 0
    """After the start of the simulation."""
    duration_ms: int = 0
    """Time that it lasts. Faults of one moment have no duration."""
    every: int = 1
    """A fault of frames is done to each frame with this number, 1 for all."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if self.fault not in FAULTS:
            raise LocalProtocolError(one_of("fault", self.fault, tuple(FAULTS)))
        if not 0 <= self.start_ms <= LATEST_MS:
            raise LocalProtocolError(f"start_ms: from 0 to {LATEST_MS}, got {self.start_ms}")
        if not 0 <= self.duration_ms <= LATEST_MS:
            raise LocalProtocolError(f"duration_ms: from 0 to {LATEST_MS}, got {self.duration_ms}")
        if self.duration_ms and self.fault in MOMENTARY:
            raise LocalProtocolError(f"duration_ms: 0, for {self.fault!r} happens at one moment, got {self.duration_ms}")
        if self.every < 1:
            raise LocalProtocolError(f"every: 1 or more, got {self.every}")

    @property
    def end_ms(self) -> int:
        """When it is over."""
        return self.start_ms + self.duration_ms


class Weather:
    """A schedule at work: the faults that hold at a moment, and their effect on a frame."""

    def __init__(self, episodes: Iterable[Episode], start_us: int) -> None:
        """`start_us` is the start of the schedule, on the monotonic clock."""
        self.start_us = start_us
        self._spans = sorted(
            ((start_us + one.start_ms * 1_000, start_us + one.end_ms * 1_000, one) for one in episodes),
            key=lambda span: span[0],
        )
        self._begun = 0
        self._frames = 0
        self._held: list[bytes] = []

    @property
    def deadline(self) -> int | None:
        """When the next episode begins."""
        return self._spans[self._begun][0] if self._begun < len(self._spans) else None

    def begin(self, mono_us: int) -> list[FaultName]:
        """Return the faults that begin by a moment, in their order."""
        first = self._begun
        while (deadline := self.deadline) is not None and deadline <= mono_us:
            self._begun += 1
        return [one.fault for _, _, one in self._spans[first : self._begun]]

    def holds(self, fault: FaultName, mono_us: int) -> bool:
        """Tell whether a fault that lasts holds at a moment."""
        return any(one.fault == fault for one in self._now(mono_us))

    def carry(self, frame: bytes, mono_us: int) -> list[bytes]:
        """Return the frames that arrive in place of a frame."""
        self._frames += 1
        faults = {one.fault for one in self._now(mono_us) if self._frames % one.every == 0}
        held, self._held = self._held, []
        if "gap" in faults:
            return held
        if "tear" in faults:
            frame = frame[: len(frame) // 2]
        if "reorder" in faults and not held:
            self._held = [frame]
            return []
        return [frame, *([frame] if "repeat" in faults else []), *held]

    def _now(self, mono_us: int) -> list[Episode]:
        return [one for start_us, end_us, one in self._spans[: self._begun] if start_us <= mono_us < end_us]
