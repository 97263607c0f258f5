"""Checks of calls: round trip, clock, and request budget."""

from __future__ import annotations

from statistics import median

import anyio

from backpack_proto.auth.signing import DEFAULT_WINDOW_MS
from backpack_proto.rest.exchange_clock import ClockSampled, StartMeasuring
from backpack_runtime.transport import system_now

from .findings import Finding, failed, milliseconds, ok, warning
from .subject import Subject

__all__ = ["clock_offset", "request_budget", "round_trip"]

SAMPLES = 8
ENOUGH_SECONDS = 6.0
"""No further call is begun after this time."""
SLOW_US = 1_000_000
PAUSE_SECONDS = 0.1
"""Between calls, so that they do not wait for the request budget."""
WRONG_CLOCK_US = 1_000_000
"""This client corrects its signatures. Other programs on this machine may not, and the age of data is judged by clocks."""


async def round_trip(subject: Subject) -> Finding:
    """Start the client, and measure calls of the exchange's time."""
    await subject.start_client()
    subject.clock.handle(StartMeasuring(), system_now())
    durations_us: list[int] = []
    enough = anyio.current_time() + ENOUGH_SECONDS
    for number in range(SAMPLES + 1):
        if durations_us and anyio.current_time() > enough:
            break
        sent = system_now()
        server_us = (await subject.client.get_time()).server_us
        now = system_now()
        if number:
            # The first one may have had to connect.
            durations_us.append(now.mono_us - sent.mono_us)
            subject.clock.handle(ClockSampled(sent=sent, server_ms=server_us // 1000), now)
            subject.clock.handle(StartMeasuring(), now)
        await anyio.sleep(PAUSE_SECONDS)
    least_us, median_us = min(durations_us), round(median(durations_us))
    text = f"min {milliseconds(least_us)}, median {milliseconds(median_us)} of {len(durations_us)} calls"
    figures = {"min_us": least_us, "median_us": median_us, "calls": len(durations_us)}
    return warning(f"{text}: slow", **figures) if median_us > SLOW_US else ok(text, **figures)


async def clock_offset(subject: Subject) -> Finding:
    """Compare the clock of this machine with the exchange's, and with how long a signature is good for."""
    now = system_now()
    offset_us, error_us = subject.clock.offset_us, subject.clock.error_us(now)
    if offset_us is None or error_us is None:
        return failed("the exchange has not told its time")
    window_ms = DEFAULT_WINDOW_MS if subject.signer is None else subject.signer.window_ms
    text = (
        f"the exchange's is {abs(offset_us) / 1000:,.1f} ms {'ahead' if offset_us >= 0 else 'behind'}, +- {milliseconds(error_us)};"
        f" a signature is good for {window_ms:,} ms, and this client signs by the exchange's clock"
    )
    figures = {"offset_us": offset_us, "error_us": error_us, "window_us": window_ms * 1000}
    if abs(offset_us) - error_us > WRONG_CLOCK_US:
        return warning(f"{text}; set the clock of this machine (NTP)", **figures)
    if error_us * 2 > window_ms * 1000:
        return warning(f"{text}; the error is larger than that allows for", **figures)
    return ok(text, **figures)


async def request_budget(subject: Subject) -> Finding:
    """Say how much of the request budget is left, and whether the exchange has refused calls as too many."""
    budget, refused = subject.client.budget, subject.client.metrics.rate_limited
    text = f"{budget.standard_available} calls and {budget.reserve_available} cancels could leave at once; {refused} refused as too many"
    figures = {
        "standard_available": budget.standard_available,
        "reserve_available": budget.reserve_available,
        "rate_limited": refused,
        "paused": budget.paused_until_us is not None,
    }
    if budget.paused_until_us is not None:
        return warning(f"{text}; all calls pause for {budget.pause_us / 1e6:g} s", **figures)
    return warning(text, **figures) if refused else ok(text, **figures)
