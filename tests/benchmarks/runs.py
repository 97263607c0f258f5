"""Runs cases: each in a process of its own, one after the other, all of a group in every round."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, NamedTuple

from backpack_runtime.kernels import KERNELS

from .authority import Authority
from .cases import Case, Group, Load, why_not
from .figures import Figures, TooFewEvents, checked
from .frames import Tape, in_binances_words, record
from .server import QUIET_SECONDS, Server

__all__ = ["CouldNotRun", "Failed", "Found", "Interpreter", "Runner"]

ROOT = Path(__file__).parents[2]
READY_SECONDS = 120.0
DONE_SECONDS = 60.0
FRAME_SECONDS = 0.002
"""The time that a frame may take in addition: some clients need a quarter of it on a slow machine."""
PURE = (
    f"import runpy, sys; sys.modules.update(dict.fromkeys({KERNELS!r})); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""Runs a module that finds no native kernels: they are hidden before anything is imported."""


class CouldNotRun(Exception):
    """A case lacks something here. The text says what."""


class Failed(Exception):
    """A program ended or was silent before it was done."""


@dataclass
class Found:
    """What came of a group."""

    group: Group
    rounds: dict[str, list[Figures | None]] = field(default_factory=dict)
    """By case, one for each round, or None where it failed."""
    could_not_run: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class _Program:
    """A process, and the lines of JSON that it prints."""

    def __init__(self, command: Sequence[str], errors: IO[bytes], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | environment
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._errors = errors
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, seconds: float) -> dict[str, Any]:
        """Wait for a line.

        Raises:
            Failed: none came.
        """
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            raise Failed(f"nothing came for {seconds:.0f} s") from None
        if not line:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"the program ended: {said[-1] if said else 'it said nothing'}")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # Libraries print as well.
                if line.startswith("{"):
                    self._lines.put(line)
        self._lines.put("")


class Interpreter(NamedTuple):
    """A Python, and what is installed there."""

    path: str
    python: str
    versions: dict[str, str]
    """Of the distributions that cases need."""
    native: bool = False
    """True when native kernels are installed."""


class Runner:
    """Runs the cases of groups, each by the first interpreter that has what it needs."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._tapes: dict[tuple[int, int, bool], Tape] = {}
        self.interpreters: list[Interpreter] = []
        for path in paths:
            with _running(_command(path, "installed", {})) as program:
                found = program.line(READY_SECONDS)
            self.interpreters.append(Interpreter(path, found["python"], found["versions"], found["native"]))

    def run(self, group: Group, rounds: int, progress: Callable[[int, int, Case, Figures | None], None]) -> Found:
        """Run all cases of a group in every round, in another order each time. `progress` is called after each one."""
        found = Found(group)
        able = []
        for case in group.cases:
            reasons = [why_not(case, interpreter.versions, native=interpreter.native) for interpreter in self.interpreters]
            if None in reasons:
                able.append(case)
            else:
                found.could_not_run[case.name] = reasons[0] or ""
        for number in range(rounds):
            start = number * max(1, len(able) // rounds) % max(1, len(able))
            for at, case in enumerate(able[start:] + able[:start]):
                if case.name in found.could_not_run:
                    continue
                figures: Figures | None = None
                try:
                    figures = self.measure(case)
                except CouldNotRun as error:
                    found.could_not_run[case.name] = str(error)
                except (Failed, TooFewEvents) as error:
                    found.failed[case.name] = str(error)
                found.rounds.setdefault(case.name, [None] * rounds)[number] = figures
                progress(number, at, case, figures)
        return found

    def measure(self, case: Case) -> Figures:
        """Run one case once.

        Raises:
            CouldNotRun: it lacks something.
            Failed: it was never done.
            TooFewEvents: it was done, but not with everything.
        """
        if case.load is not None:
            return self._measure_load(case, case.load)
        with (
            self._sandbox(case) if case.sandbox else _nowhere() as sandbox,
            self._started(case, sandbox) as program,
        ):
            line = program.line(DONE_SECONDS)
        wanted = case.options.get("frames")
        if wanted is not None and line["events"] != wanted:
            raise TooFewEvents(f"{line['events']:,} of {wanted:,} were done")
        return _numbers(line)

    def _measure_load(self, case: Case, load: Load) -> Figures:
        tape = self._tape(load)
        authority = Authority() if load.tls else None
        with (
            _closing(authority),
            Server(tape, tls=None if authority is None else authority.context, compress=load.compress) as server,
        ):
            options: dict[str, Any] = {
                "port": server.port,
                "symbols": tape.symbols,
                "warm": {symbol: messages[-1].last for symbol, messages in tape.warm.items()},
                "ca_file": None if authority is None else str(authority.ca_file),
            }
            # Clients that know of no certificates but those of the system find this one.
            environment = {} if authority is None else {"SSL_CERT_FILE": str(authority.ca_file)}
            with self._started(case, options, environment) as program:
                ready = program.line(READY_SECONDS)
                if load.compress and not server.compressing:
                    raise CouldNotRun("it offers no permessage-deflate")
                threading.Thread(target=_play, args=(server, load), daemon=True).start()
                paced_seconds = 0.0 if load.pace is None else load.frames / load.pace.per_second
                done = program.line(DONE_SECONDS + load.frames * FRAME_SECONDS + paced_seconds)
            if server.websockets != 1:
                raise Failed(f"it opened {server.websockets} websockets")
        frames = len(tape.measured)
        checked(done["events"], frames, done["tops"], {symbol: book.top for symbol, book in tape.finals.items()})
        figures = _numbers(ready | done)
        return {
            **figures,
            "us_a_frame": figures["cpu_us"] / frames,
            "per_second": frames * 1e6 / (figures["wall_us"] - QUIET_SECONDS * 1e6),
            "book_kb": figures["books_kb"] / len(tape.symbols),
        }

    def _tape(self, load: Load) -> Tape:
        key = load.frames, load.symbols, load.binance
        if key not in self._tapes:
            tape = record(load.frames, symbols=load.symbols)
            self._tapes[key] = in_binances_words(tape) if load.binance else tape
        return self._tapes[key]

    def _path(self, case: Case) -> str:
        return next(found.path for found in self.interpreters if why_not(case, found.versions, native=found.native) is None)

    @contextmanager
    def _started(self, case: Case, options: dict[str, Any], environment: Mapping[str, str] | None = None) -> Iterator[_Program]:
        options = case.options | options | {"native": case.native}
        command = _command(self._path(case), case.program, options, pure=case.native is False)
        with _running(command, environment) as program:
            yield program

    @contextmanager
    def _sandbox(self, case: Case) -> Iterator[dict[str, Any]]:
        """Serve the simulated exchange, in a process of its own."""
        command = [self._path(case), "-m", "backpack_runtime.cli.parser", "sandbox", "--seed", "5"]
        with _running(command) as running:
            yield {"sandbox": running.line(READY_SECONDS)}


def _command(path: str, name: str, options: dict[str, Any], *, pure: bool = False) -> list[str]:
    """Return the command of a program. `pure` hides the native kernels from it."""
    return [path, *(("-c", PURE) if pure else ("-m",)), f"tests.benchmarks.programs.{name}", json.dumps(options)]


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[_Program]:
    with tempfile.TemporaryFile() as errors:
        program = _Program(command, errors, environment or {})
        try:
            yield program
        finally:
            program.end()


@contextmanager
def _nowhere() -> Iterator[dict[str, Any]]:
    yield {}


@contextmanager
def _closing(authority: Authority | None) -> Iterator[None]:
    try:
        yield
    finally:
        if authority is not None:
            authority.close()


def _play(server: Server, load: Load) -> None:
    # A client that fails ends the connection, and its own report says so.
    with suppress(OSError):
        server.play(load.pace)


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if isinstance(value, int | float) and not isinstance(value, bool)}
