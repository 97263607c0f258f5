"""Counts what a client delivers, and reports it as lines of JSON on standard output."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, process_time_ns, time_ns
from typing import Any

import msgspec

from tests.benchmarks.frames import END_TRADE, MARK_TRADE, SYMBOL

__all__ = ["END_TRADE", "MARK_TRADE", "SYMBOL", "Meter", "Options", "load_options", "report"]

PAGE_KB = resource.getpagesize() // 1024


class Options(msgspec.Struct, frozen=True):
    """What a program is to do. Its first argument."""

    port: int = 0
    symbols: tuple[str, ...] = (SYMBOL,)
    warm: dict[str, int] = {}
    """Update id at which the book of each market is up."""
    variant: str = ""
    """Runtime, library or module that is measured."""
    fetch: str = ""
    """`batches` or `callback`. One event after the other unless given."""
    native: bool | None = None
    """Native kernels or none of them. As they are installed unless given."""
    top: bool = False
    """Read best bid and ask at each change of a book."""
    levels: int = 1
    compression: bool = False
    latency: bool = False
    """Measure from the time in each frame to the consumer."""
    ca_file: str | None = None
    frames: int = 0
    """How many frames, events or calls to measure, for programs without a server."""
    sandbox: dict[str, Any] = {}

    def url(self, scheme: str) -> str:
        """Return the address of the server, as `http` or `ws`."""
        return f"{scheme}{'s' if self.ca_file else ''}://127.0.0.1:{self.port}"


def load_options() -> Options:
    """Return the options that the program was started with."""
    return msgspec.json.decode(sys.argv[1], type=Options)


def report(**figures: object) -> None:
    """Print a line that the benchmark reads."""
    print(json.dumps(figures), flush=True)


class Meter:
    """Counter of one client.

    It hears of each book that comes up (`warm`), of the mark and of the end trade. What lies between is counted by the program, in
    `events` and, where latency is measured, in `late_us`.
    """

    def __init__(self, options: Options) -> None:
        self.events = 0
        self.late_us: list[int] | None = [] if options.latency else None
        self._missing = dict(options.warm)
        self._begun_kb = _resident_kb()
        self._began = perf_counter_ns()
        self._ready = False
        self._cpu = 0
        self._wall = 0

    @property
    def ready(self) -> bool:
        """True when it was reported that all books are up."""
        return self._ready

    def warm(self, symbol: str, last: int) -> bool:
        """Take note of the update id of a book. Return whether all books are up."""
        if last >= self._missing.get(symbol, last + 1):
            del self._missing[symbol]
        return not self._missing

    def report_ready(self) -> None:
        """Report that all books are up, once."""
        if not self._ready:
            self._ready = True
            report(ready=True, start_ms=(perf_counter_ns() - self._began) / 1e6, books_kb=_resident_kb() - self._begun_kb)

    def mark(self) -> None:
        """Start to count."""
        self.events = 0
        if self.late_us is not None:
            self.late_us.clear()
        self._cpu, self._wall = process_time_ns(), perf_counter_ns()

    def end(self, tops: Callable[[], Mapping[str, tuple[object, object]]] | None = None) -> None:
        """Report all figures. `tops` returns best bid and ask of each market and is called after the measurement."""
        cpu, wall = process_time_ns() - self._cpu, perf_counter_ns() - self._wall
        late = sorted(self.late_us or ())
        found = {f"p{name}_us": late[int(len(late) * share)] for name, share in LATENCIES.items() if late}
        prices = None if tops is None else {symbol: [str(price) for price in top] for symbol, top in tops().items()}
        report(
            done=True,
            events=self.events,
            cpu_us=cpu / 1000,
            wall_us=wall / 1000,
            peak_mb=_peak_kb() / 1024,
            tops=prices,
            **found,
        )


LATENCIES = {"50": 0.5, "99": 0.99, "99_9": 0.999}


def now_us() -> int:
    """Return the time of day, in the unit of the frames."""
    return time_ns() // 1000


def _resident_kb() -> int:
    statm = Path("/proc/self/statm")
    # Elsewhere the peak is the best that there is.
    return int(statm.read_text().split()[1]) * PAGE_KB if statm.exists() else _peak_kb()


def _peak_kb() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # `getrusage` on Linux counts what the process was before it became this program: a copy of its parent.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
