"""Whether the first byte of a request may leave, and how long it has: decided in one place for every transport."""

from __future__ import annotations

from math import inf

import anyio
import pytest

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import RequestFailed
from backpack_proto.outputs import SendRequest
from backpack_proto.testing.laws import FakeClock
from backpack_runtime.network.proxy import Proxy, ProxyTimeout
from backpack_runtime.transports.base import Progress, Withheld, not_sent

pytestmark = pytest.mark.anyio

PING = HttpRequest(method="GET", target="/api/v1/ping")


def progress(clock: FakeClock, wait_us: int | None = None) -> Progress:
    bound = None if wait_us is None else clock.mono_us + wait_us
    return Progress(SendRequest(request_id=1, request=PING, timeout_us=10_000_000, not_after_us=bound), lambda: clock.now)


def left_s(request: Progress) -> float:
    return request.scope.deadline - anyio.current_time()


async def test_a_request_leaves_until_its_time_has_passed_and_not_later() -> None:
    clock = FakeClock()
    request = progress(clock, 5_000_000)
    clock.advance(5_000_001)
    with pytest.raises(Withheld, match="it has waited too long"):
        request.leave()
    assert request.failed() == RequestFailed(request_id=1, reason="it has waited too long", sent=False)
    clock = FakeClock()
    request = progress(clock, 5_000_000)
    clock.advance(5_000_000)
    request.leave()
    clock.advance(60_000_000)
    request.leave()
    assert request.failed() == RequestFailed(request_id=1, reason="no answer within 10 s", sent=True)


async def test_a_request_that_was_withdrawn_does_not_leave_and_one_that_left_is_not_withdrawn() -> None:
    request = progress(FakeClock())
    assert request.withdraw()
    assert request.scope.cancel_called
    with pytest.raises(Withheld, match="it was withdrawn"):
        request.leave()
    assert request.failed() == RequestFailed(request_id=1, reason="it was withdrawn", sent=False)
    request = progress(FakeClock())
    request.leave()
    assert not request.withdraw()
    assert not request.scope.cancel_called


async def test_it_waits_as_long_as_it_may_then_has_its_timeout_for_a_connection_and_again_for_the_answer() -> None:
    clock = FakeClock()
    assert left_s(progress(clock)) == inf
    request = progress(clock, 60_000_000)
    assert 59 < left_s(request) <= 60.1
    request.connect()
    assert 9 < left_s(request) <= 10
    assert request.failed().reason == "no connection within 10 s"
    request.scope.deadline = anyio.current_time() + 0.5
    request.leave()
    assert 9 < left_s(request) <= 10, "its connection took most of the time that it had"
    request.scope.deadline = anyio.current_time() + 0.5
    request.leave()
    assert left_s(request) <= 0.5, "a second try has what is left"
    clock.advance(59_000_000)
    request = progress(clock, 2_000_000)
    request.connect()
    assert left_s(request) <= 2.1, "no longer than it may leave"


async def test_a_proxy_that_takes_too_long_is_named_unless_it_is_not_to_blame() -> None:
    clock = FakeClock()
    request = progress(clock, 5_000_000)
    request.dialing = Proxy.parse("socks5://proxy.example:1080")
    assert request.failed() == not_sent(1, ProxyTimeout("socks5://proxy.example:1080", "did not answer within 10 s"))
    clock.advance(6_000_000)
    assert request.failed() == RequestFailed(request_id=1, reason="it has waited too long", sent=False)
