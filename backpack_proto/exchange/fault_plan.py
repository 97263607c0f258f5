"""The plan of a misbehaving exchange: which faults come, when, and for how long.

A plan is text such as `gap,drop@12,mute@20-30`: names between commas, each with a moment or a span in seconds after the start of
the plan. A fault without a time comes again and again, at times that the seed decides. The plan runs in the exchange's own time, so a
simulation sees the same faults as a served exchange.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import did_you_mean, shown
from backpack_proto.machine import earliest
from backpack_proto.values import Value

from .faults import Fault

__all__ = ["FAULT_KINDS", "FaultKind", "FaultSchedule", "FiredFault", "PlannedFault", "parse_faults"]

MOST_FAULTS = 1_000
"""Faults of one plan, and how many past ones are remembered."""
LATEST_S = 1_000_000
FIRST_US = (3_000_000, 15_000_000)
"""When a fault without a time comes for the first time."""
PAUSE_US = (10_000_000, 30_000_000)
"""Time between its end and its next beginning."""

_ENTRY = re.compile(r"(?P<name>[^@]*)(?:@(?P<start>[0-9]{1,7}(?:\.[0-9]{1,6})?)(?:-(?P<end>[0-9]{1,7}(?:\.[0-9]{1,6})?))?)?")


class FaultKind(Value, frozen=True, gc=False, kw_only=True):
    """One kind of fault."""

    what: str
    """Its effect, for people."""
    lasts_us: int
    """Time that it lasts where the plan does not say, or 0 for faults of one moment."""
    request: Fault | None = None
    """Effect on every request meanwhile."""


FAULT_KINDS: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        "gap": FaultKind(what="depth frames are lost: the next one of every connection, or all of a span", lasts_us=3_000_000),
        "drop": FaultKind(what="every websocket is cut without a word", lasts_us=0),
        "restart": FaultKind(what="every websocket is closed in order, as for an update of the exchange", lasts_us=0),
        "mute": FaultKind(what="websockets stay open and are silent", lasts_us=8_000_000),
        "late": FaultKind(what="every frame comes 6 s late, at the end all that wait at once", lasts_us=10_000_000),
        "refuse": FaultKind(what="everybody is cut off, and new connections are refused", lasts_us=5_000_000),
        "429": FaultKind(what="REST answers 429, too many requests", lasts_us=5_000_000, request=Fault.TOO_MANY_REQUESTS),
        "503": FaultKind(what="REST answers 503 without acting", lasts_us=5_000_000, request=Fault.ERROR_BEFORE),
        "502": FaultKind(what="REST acts, and answers 502", lasts_us=5_000_000, request=Fault.ERROR_AFTER),
        "lost": FaultKind(
            what="REST acts, and drops the connection in place of an answer",
            lasts_us=5_000_000,
            request=Fault.LOSE_REPLY,
        ),
        "slow": FaultKind(what="REST acts, and answers 2 s later", lasts_us=5_000_000, request=Fault.DELAY),
        "expired": FaultKind(what="REST refuses every signed request as too old", lasts_us=5_000_000, request=Fault.EXPIRED),
    }
)
"""Every kind of fault, by name."""


class PlannedFault(Value, frozen=True, gc=False, kw_only=True):
    """One entry of a plan.

    Raises:
        LocalProtocolError: there is no such fault, or it cannot be at that time.
    """

    name: str
    start_us: int | None = None
    """Since the start of the plan, or None for again and again."""
    end_us: int | None = None
    """Since the start of the plan, or None for as long as its kind lasts."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        kind = FAULT_KINDS.get(self.name)
        if kind is None:
            hint = did_you_mean(self.name, FAULT_KINDS)
            raise LocalProtocolError(f"faults: one of {', '.join(FAULT_KINDS)}, got {shown(self.name)}{hint}")
        if self.start_us is None:
            if self.end_us is not None:
                raise LocalProtocolError(f"faults: {self.name} has an end and no start: give both, or none")
            return
        if not 0 <= self.start_us <= LATEST_S * 1_000_000:
            raise LocalProtocolError(f"faults: {self.name} starts 0 to {LATEST_S} seconds after the start of the plan")
        if self.end_us is None:
            return
        if not kind.lasts_us:
            raise LocalProtocolError(f"faults: {self.name} happens at one moment: leave out its end")
        if not self.start_us < self.end_us <= LATEST_S * 1_000_000:
            raise LocalProtocolError(f"faults: {self.name} ends after it starts, got {self.text}")

    @property
    def in_spans(self) -> bool:
        """True when it was planned from one time to another."""
        return self.end_us is not None

    @property
    def text(self) -> str:
        """The entry as `parse_faults` reads it."""
        if self.start_us is None:
            return self.name
        end = "" if self.end_us is None else f"-{_seconds(self.end_us)}"
        return f"{self.name}@{_seconds(self.start_us)}{end}"


def parse_faults(text: str) -> tuple[PlannedFault, ...]:
    """Read a plan: `NAME`, `NAME@T` or `NAME@T-U` between commas, with seconds after the start. Empty text is an empty plan.

    Raises:
        LocalProtocolError: an entry has another form, or names a fault that there is not. The text lists those that there are.
    """
    entries = [entry.strip() for entry in text.split(",")] if text.strip() else []
    if len(entries) > MOST_FAULTS:
        raise LocalProtocolError(f"faults: at most {MOST_FAULTS} in one plan, got {len(entries)}")
    planned: list[PlannedFault] = []
    for entry in entries:
        read = _ENTRY.fullmatch(entry)
        if read is None:
            raise LocalProtocolError(
                f"faults: NAME, NAME@T or NAME@T-U in seconds, NAME one of {', '.join(FAULT_KINDS)}; got {entry[:40]!r}"
            )
        start, end = read["start"], read["end"]
        planned.append(
            PlannedFault(
                name=read["name"],
                start_us=None if start is None else _microseconds(start),
                end_us=None if end is None else _microseconds(end),
            )
        )
    return tuple(planned)


class FiredFault(Value, frozen=True, gc=False, kw_only=True):
    """A fault that came. Times are since the start of the plan."""

    name: str
    start_us: int
    end_us: int


class _Due(Struct, gc=False):
    """A planned fault and its next time, on the monotonic clock."""

    planned: PlannedFault
    rng: Random
    start_us: int | None
    end_us: int = 0
    running: bool = False


class FaultSchedule:
    """Says when faults begin and end. Their effects are made elsewhere. Everything is drawn from `seed`."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._plans = 0
        self._origin_us = 0
        self._due: list[_Due] = []
        self._earliest: int | None = None
        self.fired: list[FiredFault] = []
        """The latest faults that came, oldest first."""

    @property
    def planned(self) -> tuple[PlannedFault, ...]:
        """The plan."""
        return tuple(due.planned for due in self._due)

    @property
    def deadline(self) -> int | None:
        """When the next fault begins or ends."""
        return self._earliest

    @property
    def active(self) -> tuple[PlannedFault, ...]:
        """The faults that have begun and not ended."""
        return tuple(due.planned for due in self._due if due.running)

    def next_us(self) -> tuple[int | None, ...]:
        """When each fault of the plan comes next, since the start of the plan, or None where it is under way or over."""
        return tuple(None if due.running or due.start_us is None else due.start_us - self._origin_us for due in self._due)

    def elapsed_us(self, mono_us: int) -> int:
        """Return the time since the start of the plan."""
        return mono_us - self._origin_us

    def plan(self, faults: Iterable[PlannedFault], mono_us: int) -> None:
        """Begin another plan. Faults under way end without an output, as `active` shows."""
        self._plans += 1
        self._origin_us = mono_us
        self.fired = []
        self._due = []
        for number, planned in enumerate(faults):
            # Each has numbers of its own: the times of one do not depend on the others.
            rng = Random(f"{self._seed}:{self._plans}:{planned.name}:{number}")
            start_us = rng.randrange(*FIRST_US) if planned.start_us is None else planned.start_us
            self._due.append(self._set(_Due(planned, rng, None), mono_us + start_us))
        self._find_earliest()

    def advance(self, mono_us: int) -> tuple[list[PlannedFault], list[PlannedFault]]:
        """Return the beginnings and ends of faults by that time, in the order of the plan. A missed fault has both."""
        if self._earliest is None or mono_us < self._earliest:
            return [], []
        begun: list[PlannedFault] = []
        ended: list[PlannedFault] = []
        for due in self._due:
            if not due.running and due.start_us is not None and due.start_us <= mono_us:
                due.running = True
                begun.append(due.planned)
                start_us = due.start_us - self._origin_us
                self.fired.append(FiredFault(name=due.planned.name, start_us=start_us, end_us=due.end_us - self._origin_us))
                del self.fired[:-MOST_FAULTS]
            if due.running and due.end_us <= mono_us:
                due.running = False
                ended.append(due.planned)
                again_us = None if due.planned.start_us is not None else mono_us + due.rng.randrange(*PAUSE_US)
                self._set(due, again_us)
        self._find_earliest()
        return begun, ended

    def _set(self, due: _Due, start_us: int | None) -> _Due:
        due.start_us = start_us
        if start_us is not None:
            planned = due.planned
            if planned.end_us is not None and planned.start_us is not None:
                due.end_us = start_us + planned.end_us - planned.start_us
            else:
                due.end_us = start_us + FAULT_KINDS[planned.name].lasts_us
        return due

    def _find_earliest(self) -> None:
        self._earliest = earliest(*(due.end_us if due.running else due.start_us for due in self._due))


def _microseconds(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))


def _seconds(microseconds: int) -> str:
    whole, rest = divmod(microseconds, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
