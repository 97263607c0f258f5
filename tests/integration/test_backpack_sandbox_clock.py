"""The clock of a served exchange: its markets live by themselves, and between two events it sleeps."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from backpack_proto.exchange import ExchangeInput, ExchangeOutput
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

TIMERS = 10


class Timers:
    """The timers that a sandbox fires, and how many of them before anything was due."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.fired = 0
        self.early = 0
        self.enough = anyio.Event()
        self._exchange = sandbox.exchange
        self._handle: Callable[[ExchangeInput, Now], list[ExchangeOutput]] = sandbox.exchange.handle
        sandbox.exchange.handle = self._count  # type: ignore[method-assign]  # a tap

    def _count(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        if isinstance(given, TimerFired):
            deadline = self._exchange.deadline
            self.fired += 1
            self.early += deadline is None or now.mono_us < deadline
            if self.fired >= TIMERS:
                self.enough.set()
        return self._handle(given, now)


async def test_a_sandbox_that_has_nothing_to_do_sleeps() -> None:
    with anyio.fail_after(60):
        async with serve_sandbox(speed=0.0) as sandbox:
            host, _, port = sandbox.rest_url.removeprefix("http://").rpartition(":")
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(b"GET /api/v1/time HTTP/1.1\r\nHost: sandbox\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            timers = Timers(sandbox)
            await timers.enough.wait()
    # The request, and the loop's own rounding of a moment, may each have woken it once.
    assert timers.early <= 2, f"{timers.early} of {timers.fired} timers were early"
