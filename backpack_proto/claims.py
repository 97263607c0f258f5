"""Claims that expire: on the age of the data of a connection, and on the time that a book may go without proof.

A state that is shown to the user is concluded from positive, recent evidence, never from the absence of bad news (docs/concepts.md).
The path machine keeps the proof of its connection here, each book the time of its own. Each read of a book asks both, at the moment of
reading, so that a program that was kept from running does not show a live book.
"""

from __future__ import annotations

__all__ = ["AUDITS_PER_MINUTE", "AUDIT_US", "PATH_BOUND_US", "AuditPace", "Claims", "PathClaim"]

PATH_BOUND_US = 5_000_000
"""Age of the newest proof at which a connection's data count as old."""
AUDIT_US = 60_000_000
"""Interval of the comparisons of a book with a snapshot while there are few books."""
AUDITS_PER_MINUTE = 500
"""A quarter of the request budget (docs/protocol.md 1.3). More books than that are audited less often."""


class PathClaim:
    """The newest proof that data come through a connection. The path machine writes it."""

    __slots__ = ("bounded", "offset_us", "proved_us")

    def __init__(self, *, bounded: bool = True) -> None:
        """Without a bound the path is never doubted."""
        self.bounded = bounded
        self.proved_us: int | None = None
        """When the exchange emitted the newest frame that counts, by its own clock, or None without one on this connection."""
        self.offset_us = 0
        """Largest offset that turns the exchange's clock into our monotonic one."""

    def age_us(self, mono_us: int) -> int | None:
        """Return the age of the newest proof, in microseconds, or None without one."""
        return None if self.proved_us is None else max(mono_us - self.proved_us - self.offset_us, 0)

    def holds(self, mono_us: int) -> bool:
        """Return whether the proof is recent enough. One from the future does not count, for the clocks were wrong."""
        proved_us = self.proved_us
        return not self.bounded or (proved_us is not None and 0 <= mono_us - proved_us - self.offset_us < PATH_BOUND_US)


class AuditPace:
    """Interval of audits, and time that a book may go without proof. Both grow with the number of books."""

    __slots__ = ("audits", "books")

    def __init__(self, *, audits: bool = True) -> None:
        """Without audits the chain of a book has no bound."""
        self.audits = audits
        self.books = 0

    @property
    def interval_us(self) -> int:
        """Time between two audits of one book."""
        return max(AUDIT_US, -(-self.books * AUDIT_US // AUDITS_PER_MINUTE))

    @property
    def bound_us(self) -> int | None:
        """Time for which a proof of the chain holds.

        Two audits, less the bound of the path: data that have just arrived may be as old as that.
        """
        return 2 * self.interval_us - PATH_BOUND_US if self.audits else None


class Claims:
    """Claims that a live book needs beside its own evidence."""

    __slots__ = ("pace", "path")

    def __init__(self, path: PathClaim | None = None, pace: AuditPace | None = None) -> None:
        """Without arguments the claims have no bounds, as for a book that is fed by hand."""
        self.path = PathClaim(bounded=False) if path is None else path
        self.pace = AuditPace(audits=False) if pace is None else pace

    def chain_until_us(self, confirmed_us: int) -> int | None:
        """Return when a proof of the chain expires, on the monotonic clock. None: never."""
        bound_us = self.pace.bound_us
        return None if bound_us is None else confirmed_us + bound_us

    def hold(self, confirmed_us: int, mono_us: int) -> bool:
        """Return whether path and chain hold at this moment."""
        until_us = self.chain_until_us(confirmed_us)
        return self.path.holds(mono_us) and (until_us is None or mono_us < until_us)
