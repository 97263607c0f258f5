"""Recovery in the user's hand: have a book or the connection begin again, and hear how that ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import anyio

from backpack_proto.inputs import Command, Reconnect, RefreshBook
from backpack_proto.outputs import (
    BookConfirmed,
    BookSynced,
    BookUnavailable,
    Closed,
    ConnectionDown,
    ConnectionUp,
    MarketClosed,
)
from backpack_proto.values import Value

from .delivery import EventStream

__all__ = ["CLOSED_MARKET", "NotRecovered", "Recovered", "RecoveryOutcome", "reconnect", "resync"]

CLOSED_MARKET: Final = "the market is closed"
OpenStream: TypeAlias = Callable[..., EventStream]


class Recovered(Value, frozen=True, gc=False, kw_only=True):
    """It is live again."""

    subject: str
    """The symbol of a book, or `connection`."""
    took_us: int


class NotRecovered(Value, frozen=True, gc=False, kw_only=True):
    """It is not live again, and goes on being brought back by itself unless it is closed."""

    subject: str
    took_us: int
    reason: str


RecoveryOutcome: TypeAlias = Recovered | NotRecovered


async def resync(
    open_stream: OpenStream,
    give: Callable[[Command], None],
    is_live: Callable[[], bool],
    *,
    symbol: str,
    stream: str,
    timeout_s: float,
) -> RecoveryOutcome:
    """Have a book begin again, and wait until it is live."""
    watch = _Watch(symbol)
    reason, synced = "no snapshot has come", False
    async with open_stream(BookSynced, BookConfirmed, BookUnavailable, MarketClosed, ConnectionDown, Closed) as events:
        give(RefreshBook(stream))
        with anyio.move_on_after(timeout_s):
            async for event in events:
                match event:
                    case BookSynced(symbol=of) | BookConfirmed(symbol=of) if of == symbol:
                        synced = synced or isinstance(event, BookSynced)
                        reason = "nothing has confirmed it yet"
                    case BookUnavailable(symbol=of) if of == symbol:
                        reason = event.reason
                    case MarketClosed(symbol=of) if of == symbol:
                        return watch.not_recovered(CLOSED_MARKET)
                    case ConnectionDown():
                        synced, reason = False, f"the connection is down: {event.reason}"
                    case Closed():
                        return watch.not_recovered("the client was closed")
                if synced and is_live():
                    return watch.recovered()
    return watch.not_recovered(f"not live within {timeout_s:g} s: {reason}")


async def reconnect(open_stream: OpenStream, give: Callable[[Command], None], *, timeout_s: float) -> RecoveryOutcome:
    """Have the connection made again, and wait until it is open."""
    watch = _Watch("connection")
    reason = "no connection has been made"
    async with open_stream(ConnectionUp, ConnectionDown, Closed) as events:
        give(Reconnect())
        with anyio.move_on_after(timeout_s):
            async for event in events:
                match event:
                    case ConnectionUp():
                        return watch.recovered()
                    case ConnectionDown():
                        reason = event.reason
                    case Closed():
                        return watch.not_recovered("the client was closed")
    return watch.not_recovered(f"not open within {timeout_s:g} s: {reason}")


class _Watch:
    """Measures a duration."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._begun_ns = time.monotonic_ns()

    def recovered(self) -> Recovered:
        return Recovered(subject=self._subject, took_us=self._took_us)

    def not_recovered(self, reason: str) -> NotRecovered:
        return NotRecovered(subject=self._subject, took_us=self._took_us, reason=reason)

    @property
    def _took_us(self) -> int:
        return (time.monotonic_ns() - self._begun_ns) // 1_000
