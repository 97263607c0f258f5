"""Values of a checkup: the finding of a check, and the row that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from backpack_proto.values import Value

__all__ = ["Figure", "Finding", "Result", "Row", "failed", "milliseconds", "ok", "skipped", "warning"]

Figure: TypeAlias = str | int | float | bool | Sequence[str] | None


class Result(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """Outcome of a check, in words and in figures whose names have their units."""

    result: Result
    text: str
    figures: Mapping[str, Figure]


class Row(Value, frozen=True, gc=False, kw_only=True):
    """One line of the table."""

    check: str
    result: Result
    text: str
    figures: dict[str, Figure]


def ok(text: str, **figures: Figure) -> Finding:
    """Return the finding that all is well."""
    return Finding(Result.OK, text, figures)


def warning(text: str, **figures: Figure) -> Finding:
    """Return the finding that something deserves a look, and works."""
    return Finding(Result.WARNING, text, figures)


def failed(text: str, **figures: Figure) -> Finding:
    """Return the finding that something does not work."""
    return Finding(Result.FAILED, text, figures)


def skipped(text: str, **figures: Figure) -> Finding:
    """Return the finding that the check does not apply here."""
    return Finding(Result.SKIPPED, text, figures)


def milliseconds(duration_us: int) -> str:
    """Write a duration in milliseconds, with a decimal where it is short: `0.4 ms`, `35 ms`."""
    return f"{duration_us / 1000:.{1 if abs(duration_us) < 10_000 else 0}f} ms"
