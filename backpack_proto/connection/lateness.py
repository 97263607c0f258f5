"""Lateness of data, by the exchange's clock and our monotonic one. Our wall clock has no say.

Theory. A frame says when it was emitted (`E`). Our monotonic clock at its arrival less `E` is a constant, the distance of the two clocks, plus the time
that the frame took. The smallest such difference of the last ten minutes is taken for a frame that took no time, and the shortest
round trip of a request is added, for the part that clocks cannot show is counted against us: a path that is slow both ways from the beginning
would otherwise look fresh.

A difference far below the smallest one known says that a frame came before it was emitted: either everything until now was late, or this
one `E` is wrong. It counts once a second stream, or the exchange's answer to `/time`, shows the same.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LEAP_US", "Lateness", "WindowMinimum"]

WINDOW_US = 600_000_000
SLOTS = 10
LEAP_US = 1_000_000
"""A difference that is so much smaller than all others needs a second witness."""


class WindowMinimum:
    """The smallest value of the last ten minutes, in slots of a minute. The last one known when the window is empty."""

    __slots__ = ("_closed", "_slot", "_slot_minimum", "value")

    def __init__(self) -> None:
        self._closed: deque[tuple[int, int]] = deque()
        self._slot = 0
        self._slot_minimum: int | None = None
        self.value: int | None = None
        """The minimum, or None before the first value."""

    def add(self, value: int, mono_us: int) -> None:
        """Take a value in."""
        slot = mono_us * SLOTS // WINDOW_US
        if slot != self._slot:
            self._turn(slot)
        if self._slot_minimum is None or value < self._slot_minimum:
            self._slot_minimum = value
            if self.value is None or value < self.value or not self._closed:
                self.value = value

    def _turn(self, slot: int) -> None:
        if self._slot_minimum is not None:
            self._closed.append((self._slot, self._slot_minimum))
        while self._closed and self._closed[0][0] <= slot - SLOTS:
            self._closed.popleft()
        self._slot, self._slot_minimum = slot, None
        if self._closed:
            self.value = min(minimum for _, minimum in self._closed)


class Lateness:
    """The offset from the exchange's clock to ours, from received data."""

    __slots__ = ("_differences", "_round_trips", "_witness", "offset_us", "smallest_us")

    def __init__(self) -> None:
        self._differences = WindowMinimum()
        self._round_trips = WindowMinimum()
        self._witness: tuple[str, int] | None = None
        """The stream that showed a leap, and the difference that it showed."""
        self.smallest_us: int | None = None
        """The smallest difference of the two clocks that is known."""
        self.offset_us: int | None = None
        """Offset that turns a time of the exchange into one on our monotonic clock, or None before any is known."""

    def frame(self, stream: str, emitted_us: int, mono_us: int) -> bool:
        """Take in a frame. Return whether its time counts."""
        difference = mono_us - emitted_us
        smallest_us = self.smallest_us
        if smallest_us is None or difference < smallest_us - LEAP_US:
            return self._leap(stream, difference, mono_us)
        self._differences.add(difference, mono_us)
        if self._differences.value != smallest_us:
            self._conclude()
        return True

    def answer(self, round_trip_us: int, mono_us: int, *, server_us: int | None = None) -> None:
        """Take in the answer to a request, and the time of the exchange's clock in it."""
        self._round_trips.add(round_trip_us, mono_us)
        if server_us is not None:
            self._witness = None
            self._differences.add(mono_us - server_us, mono_us)
        self._conclude()

    def _leap(self, stream: str, difference: int, mono_us: int) -> bool:
        witness = self._witness
        if witness is not None and witness[0] != stream and abs(witness[1] - difference) <= LEAP_US:
            self._witness = None
            self._differences.add(max(witness[1], difference), mono_us)
            self._conclude()
            return True
        self._witness = (stream, difference)
        return False

    def _conclude(self) -> None:
        self.smallest_us = smallest_us = self._differences.value
        self.offset_us = None if smallest_us is None else smallest_us - (self._round_trips.value or 0)
