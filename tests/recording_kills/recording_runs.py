"""Runs in which a recording program is killed with -9 at a point that a seed chooses, and what has to be left in its files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio
from anyio.to_thread import run_sync

from backpack_runtime.recording.reader import open_recording
from backpack_runtime.sandbox import Sandbox, serve_sandbox

from .recording_program import PATIENCE_SECONDS, POINTS, Plan, record

__all__ = ["POINTS", "Failed", "run_seeds"]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.recording_kills.recording_program"])
_one_at_a_time = threading.Lock()
"""Starting a process looks after all others."""


class Failed(AssertionError):
    """Something is lost, doubled, or cannot be read."""


class Told:
    """What a program said before it was killed."""

    def __init__(self) -> None:
        self.begun = 0
        self.written = 0
        self.digest = ""

    def take(self, message: bytes) -> None:
        """Take note of one message."""
        if message == b"begun":
            self.begun += 1
        else:
            batches, self.digest = message.decode().split()
            self.written = int(batches)


def _run(plan: Plan, random: Random) -> Told:
    ours, theirs = _processes.Pipe(duplex=False)
    with _one_at_a_time:
        process = _processes.Process(target=record, args=(plan, theirs), daemon=True)
        process.start()
    theirs.close()
    told = Told()
    seconds = random.uniform(0.0, 1.5)
    killer: threading.Timer | None = None
    try:
        for message in _messages(ours):
            told.take(message)
            if killer is None and plan.point == "time":
                killer = threading.Timer(seconds, os.kill, (process.pid, signal.SIGKILL))
                killer.start()
    finally:
        with _one_at_a_time:
            process.join(PATIENCE_SECONDS)
        if process.exitcode != -signal.SIGKILL:
            process.kill()
            raise Failed(f"{plan}: it ended with {process.exitcode}, {told.written} batches were written")
    return told


def _messages(pipe: Connection) -> Iterator[bytes]:
    """Return what comes until the other end is gone."""
    try:
        while pipe.poll(PATIENCE_SECONDS):
            yield pipe.recv_bytes()
    except (EOFError, ConnectionResetError):
        return


def _check(plan: Plan, told: Told) -> Counter[str]:
    seen: Counter[str] = Counter({plan.point: 1})
    digests = {0: ""}
    with open_recording(plan.path, verify=True) as recording:
        for _ in recording.steps():
            digests[recording.batches] = recording.digest
        read = recording.batches
        seen["torn"] += recording.torn
        seen["parts"] += len(recording.parts)
    seen["batches"] += read
    if not told.begun - 1 <= read <= told.begun:
        raise Failed(f"{plan}: {told.begun} reads were begun, and {read} are in the recording")
    if read < told.written or digests[told.written] not in ("", told.digest):
        raise Failed(f"{plan}: {told.written} reads were written, and {read} are in the recording, or others")
    seen["last read lost"] += read < told.begun
    return seen


async def run_seeds(seeds: Sequence[int], *, at_once: int) -> Counter[str]:
    """Run all seeds and return what was seen.

    Raises:
        Failed: something does not hold.
    """
    seen: Counter[str] = Counter()
    limiter = anyio.CapacityLimiter(at_once)

    async def one(seed: int, sandbox: Sandbox, folder: Path) -> None:
        random = Random(seed)
        plan = Plan(
            sandbox.rest_url,
            sandbox.ws_url,
            str(folder / f"{seed}.jsonl"),
            POINTS[seed % len(POINTS)] if seed % 2 else "time",
            random.randint(1, 4 if seed % len(POINTS) > 1 else 40),
        )
        told = await run_sync(_run, plan, random, limiter=limiter)
        seen.update(await run_sync(_check, plan, told))

    with TemporaryDirectory() as folder:
        async with serve_sandbox(seed=1) as sandbox, anyio.create_task_group() as tasks:
            for seed in seeds:
                tasks.start_soon(one, seed, sandbox, Path(folder))
    return seen
