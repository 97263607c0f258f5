"""The one stream of commands into the matching engine, and the speed bump that orders pass on their way (docs/protocol.md 6.3).

Theory of operation. All commands of all accounts reach the books in one order, that of their times. An order without `postOnly` waits
for the speed bump first, even one that is refused then, and its request is answered when it has reached the book. Post-only orders and
cancels do not wait, so they overtake: a cancel that comes while an order still waits does not find it, and the order is placed
behind it. A trigger waits once, when it is submitted. The order that it becomes goes to the book at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange.messages import Respond, SendFrame

__all__ = ["SPEED_BUMP_US", "CommandStream", "Execute"]

SPEED_BUMP_US: Final = 100_000
"""Time that an order without `postOnly` waits, on the exchange as of October 2026."""
LONGEST_BUMP_US: Final = 60_000_000

Execute: TypeAlias = Callable[[int], tuple[list[SendFrame], Respond]]
"""Does a command at a time of the engine, and returns frames and answers."""


class CommandStream:
    """The commands that wait for the speed bump, in the order in which they came. 0 switches the waiting off.

    Raises:
        LocalProtocolError: `speed_bump_us` is not from 0 to a minute.
    """

    def __init__(self, speed_bump_us: int) -> None:
        if not 0 <= speed_bump_us <= LONGEST_BUMP_US:
            raise LocalProtocolError(f"speed_bump_us: 0 to {LONGEST_BUMP_US}, got {speed_bump_us}")
        self.speed_bump_us = speed_bump_us
        self._waiting: deque[tuple[int, Execute]] = deque()

    @property
    def deadline(self) -> int | None:
        """When the first of them reaches the book, on the monotonic clock."""
        return self._waiting[0][0] if self._waiting else None

    def hold(self, execute: Execute, mono_us: int) -> None:
        """Let a command that came at that time wait."""
        self._waiting.append((mono_us + self.speed_bump_us, execute))

    def take(self) -> Execute:
        """Return the first command, which waits no more."""
        return self._waiting.popleft()[1]
