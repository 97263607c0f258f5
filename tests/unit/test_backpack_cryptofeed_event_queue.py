"""The feed's queue measures how long an event takes from receipt to the end of its callbacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from msgspec.structs import replace

from backpack_proto.inputs import Command
from backpack_proto.outputs import ConnectionUp
from backpack_proto.streams.payloads import Event, Trade
from backpack_runtime.cryptofeed.native.event_queue import EventQueue

pytestmark = pytest.mark.anyio

RECEIVED_US = 1_790_000_000_000_000
TRADE = Trade(
    emitted_us=1, engine_us=1, symbol="SOL_USDC", price=Decimal(1), quantity=Decimal(1), trade_id=1, buyer_is_maker=True
)


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


class Clock:
    """The wall clock of the queue. Each callback takes 40 ms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.us = RECEIVED_US
        monkeypatch.setattr(time, "time_ns", lambda: self.us * 1000)

    async def deliver(self, event: Event, _data: bytes | None, _receipt: float) -> Sequence[Command]:
        self.us += 40_000
        if isinstance(event, Trade) and event.trade_id == 13:
            raise ValueError("a callback raised it, and the application wants it raised")
        return ()

    async def command(self, _given: Command, _receipt: float) -> None:
        raise AssertionError("nobody gave a command")


async def test_the_time_of_the_callbacks_and_that_of_waiting_behind_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    queue = EventQueue(clock.deliver, clock.command)
    assert queue.latency.percentile(0.5) is None
    for number in range(3):
        queue.put(replace(TRADE, trade_id=number, received_us=RECEIVED_US), b"", 1.0)
    await queue.deliver()
    # 40, 80 and 120 ms, at most 6.25 % too high.
    for share, exact_us in ((0.3, 40_000), (0.5, 80_000), (0.99, 120_000)):
        found_us = queue.latency.percentile(share)
        assert found_us is not None
        assert exact_us <= found_us <= exact_us * 1.0625


async def test_events_that_did_not_come_from_the_wire_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    queue = EventQueue(clock.deliver, clock.command)
    queue.put(ConnectionUp(attempt=1), None, 1.0)
    await queue.deliver()
    assert queue.latency.percentile(0.5) is None


async def test_a_delivery_that_failed_has_no_end_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    queue = EventQueue(clock.deliver, clock.command)
    queue.put(replace(TRADE, trade_id=13, received_us=RECEIVED_US), b"", 1.0)
    with pytest.raises(ValueError, match="wants it raised"):
        await queue.deliver()
    assert queue.latency.percentile(0.5) is None
