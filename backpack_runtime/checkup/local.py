"""Checks of this machine and this installation."""

from __future__ import annotations

import platform
import ssl
from importlib.metadata import version

import anyio

from backpack_proto import __version__
from backpack_proto.histogram import Histogram
from backpack_runtime.kernels import kernels_in_use
from backpack_runtime.platforms import open_files_limit
from backpack_runtime.transport import system_now

from .findings import Finding, milliseconds, ok, skipped, warning
from .subject import Subject

__all__ = ["event_loop_lag", "file_descriptors", "versions", "watch_event_loop"]

FEW_FILES = 256
"""A client has one websocket and up to 32 connections for calls. The rest is the program's own."""
TICK_SECONDS = 0.02
LATE_US = 100_000
"""Books are stale when a loop stands still for seconds. Latency suffers from here on."""


async def versions(subject: Subject) -> Finding:
    """Name the versions in use."""
    kernels = kernels_in_use()
    library = version(subject.settings.runtime) if subject.settings.runtime in {"anyio", "aiohttp"} else "of another package"
    return ok(
        f"backpack-feed {__version__} ({kernels}), {platform.python_implementation()} {platform.python_version()} on"
        f" {platform.system()} {platform.machine()}, runtime {subject.settings.runtime} {library} on {subject.backend},"
        f" {ssl.OPENSSL_VERSION}",
        version=__version__,
        kernels=kernels,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        machine=platform.machine(),
        runtime=subject.settings.runtime,
        backend=subject.backend,
        openssl=ssl.OPENSSL_VERSION,
    )


async def file_descriptors(_: Subject) -> Finding:
    """Compare the limit of open files with the needs of a client."""
    limit = open_files_limit()
    if limit is None:
        return skipped("this system sets no such limit for a process")
    found = f"{limit} may be open at once" if limit >= 0 else "no limit"
    if 0 <= limit < FEW_FILES:
        return warning(f"{found}: raise the limit (ulimit -n), a busy client needs up to 33 for itself", limit=limit)
    return ok(found, limit=limit)


async def watch_event_loop(subject: Subject) -> None:
    """Note how late each of many short timers fires, until cancelled."""
    while True:
        before_us = system_now().mono_us
        await anyio.sleep(TICK_SECONDS)
        subject.lags_us.append(system_now().mono_us - before_us - round(TICK_SECONDS * 1e6))


async def event_loop_lag(subject: Subject) -> Finding:
    """Say how late timers fired while all the other checks ran."""
    if not subject.lags_us:
        return skipped("no timer has fired yet")
    lags = Histogram()
    lags.record_all(subject.lags_us)
    p50_us, p99_us, longest_us = lags.percentile(0.5) or 0, lags.percentile(0.99) or 0, max(subject.lags_us)
    text = f"p50 {milliseconds(p50_us)}, p99 {milliseconds(p99_us)}, longest {milliseconds(longest_us)} of {len(subject.lags_us)} timers"
    figures = {"p50_us": p50_us, "p99_us": p99_us, "longest_us": longest_us, "timers": len(subject.lags_us)}
    if p99_us > LATE_US:
        return warning(f"{text}: something else keeps this machine busy", **figures)
    return ok(text, **figures)
