"""Drivers of sockets for a session: the contract of every transport, and the inbox that all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import anyio

from backpack_proto.inputs import (
    BytesReceived,
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    PingReceived,
    PongReceived,
    TextReceived,
    TimerFired,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import Action

from .platforms import monotonic_ns

__all__ = ["OF_A_WEBSOCKET", "Inbox", "Transport", "system_now"]

OF_A_WEBSOCKET = (Connected, ConnectFailed, Disconnected, TextReceived, BytesReceived, PingReceived, PongReceived)
"""The facts that do not come any more once a websocket is dropped."""


_make_now: Final[Callable[[tuple[int, int]], Now]] = partial(tuple.__new__, Now)
"""As `Now` does it, but without a call of Python's: the time is looked at for every read."""


def system_now() -> Now:
    """Return this moment on both clocks of the machine. The monotonic one goes on while the machine sleeps."""
    return _make_now((monotonic_ns() // 1000, time.time_ns() // 1000))


class Transport(Protocol):
    """A runtime's sockets behind four verbs.

    Facts are handed over in batches, one for each socket read, in the order of the wire, to the listener or, without one, by `next`. After `DropSocket` that socket
    is silent. After `OpenSocket` comes `Connected` and later one `Disconnected`, or one `ConnectFailed`. Every
    `SendRequest` is answered once, and is never sent once it has been withdrawn or its time has passed. A transport is an async context manager as well.
    """

    def now(self) -> Now:
        """This moment. `next` measures its deadline on the same monotonic clock."""
        ...

    def perform(self, action: Action) -> None:
        """Begin an action, without waiting: a peer that does not read cannot stop the session, nor a cancelled task a withdrawal."""
        ...

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        """Give facts to `sink` from now on, at once and in their own call: a read costs no turn of the loop more.

        It may be called outside of any task, so it begins no action. It is not called by `perform`, nor by calls of an
        application: facts that follow from those are left to `next`.
        """
        ...

    async def next(self, until: int | None) -> list[Given]:
        """Wait for facts. `TimerFired` is among them once `until` has come. Never ends a read that is under way."""
        ...

    def wake(self) -> None:
        """Let a `next` that waits return early, perhaps without facts, because the deadline has changed."""
        ...

    def pause_reading(self) -> None:
        """Read no more of the websocket, and tell so by a `ReadingPaused`."""
        ...

    def resume_reading(self) -> None:
        """Read on, and tell so by a `ReadingResumed`."""
        ...

    async def aclose(self) -> None:
        """Drop everything at once."""
        ...


class Inbox:
    """Facts on their way to the pump. Any task puts. A batch costs at most one wake-up of the taker."""

    def __init__(self) -> None:
        self._facts: list[Given] = []
        self._arrived = anyio.Event()
        self._sink: Callable[[Sequence[Given]], None] | None = None

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        """Have facts from now on given to `sink` at once. Those that wait are for the taker."""
        self._sink = sink

    def put(self, facts: Sequence[Given]) -> None:
        """Hand over facts that a task of the transport has found."""
        if self._sink is None or self._facts:
            self.put_later(facts)
        else:
            self._sink(facts)

    def put_later(self, facts: Sequence[Given]) -> None:
        """Add facts that follow from a call of the pump or of the application, who is not to be called from there. The taker wakes up."""
        self._facts.extend(facts)
        self._arrived.set()

    def forget_websocket(self) -> None:
        """Take back waiting facts of a websocket that is being dropped: it must be silent afterwards, even about its end."""
        self._facts = [fact for fact in self._facts if not isinstance(fact, OF_A_WEBSOCKET)]

    def wake(self) -> None:
        """Let the taker return, if need be without facts."""
        self._arrived.set()

    async def take(self, until: int | None, now: Now) -> list[Given]:
        """Wait until there are facts, `wake` was called, or the moment `until` has come. Due timers come last."""
        if not self._facts:
            seconds = None if until is None else max(until - now.mono_us, 0) / 1e6
            with anyio.move_on_after(seconds):
                await self._arrived.wait()
        else:
            # A stream that never pauses must not keep the other tasks of the loop waiting.
            await anyio.lowlevel.checkpoint()
        facts, self._facts = self._facts, []
        self._arrived = anyio.Event()
        if until is not None and system_now().mono_us >= until:
            facts.append(TimerFired())
        return facts
