"""When the books of stocks open and close: outside the sessions of their security, and when one begins (docs/protocol.md 6.5)."""

from __future__ import annotations

from collections.abc import Iterable

from backpack_proto.machine import Now

from .market.listings import Listing
from .market.stocks import SECURITIES, next_bell_us, session_at

__all__ = ["Bells"]


class Bells:
    """The books that follow sessions, among some listings."""

    def __init__(self, listings: Iterable[Listing]) -> None:
        self._securities = {listing.symbol: SECURITIES[listing.base] for listing in listings if listing.by_sessions}
        self._deadline: int | None = None

    @property
    def deadline(self) -> int | None:
        """When the next bell rings, on the monotonic clock, or None before the first look at both clocks."""
        return self._deadline

    def closed(self, unix_us: int) -> tuple[str, ...]:
        """Return the markets whose book is Closed at a time, for a session is open."""
        return tuple(symbol for symbol, stock in self._securities.items() if session_at(stock, unix_us) is not None)

    def ring(self, now: Now) -> dict[str, bool]:
        """Return which books have to be open from now on and which not. Nothing where no bell was due."""
        if not self._securities or (self._deadline is not None and now.mono_us < self._deadline):
            return {}
        bells = (next_bell_us(stock, now.unix_us) for stock in self._securities.values())
        self._deadline = now.mono_us + max(1, min(bells) - now.unix_us)
        closed = self.closed(now.unix_us)
        return {symbol: symbol not in closed for symbol in self._securities}
