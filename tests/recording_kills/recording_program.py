"""The program that is killed: it records a client, and says over a pipe what it is about to handle and what it has written."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import anyio

from backpack_proto.inputs import Given
from backpack_proto.machine import Now
from backpack_proto.outputs import Output
from backpack_runtime.client import BackpackClient
from backpack_runtime.recording import recorder as recording
from backpack_runtime.recording import writer as writing
from backpack_runtime.recording.parts import compress_part, part_path
from backpack_runtime.recording.recorder import Recorder
from backpack_runtime.recording.writer import Writer
from backpack_runtime.settings import Settings

__all__ = ["POINTS", "Plan", "record"]

POINTS = (
    "time",
    "half a line",
    "between two parts",
    "an empty part",
    "half a header",
    "half compressed",
    "compressed and not removed",
)
"""Where it is killed: from outside, after a time. Or by itself."""
ROTATE_BYTES = 6_000
PATIENCE_SECONDS = 30.0


class Plan(NamedTuple):
    """One run."""

    rest_url: str
    ws_url: str
    path: str
    point: str
    after: int
    """At the so manieth time that it comes there."""


def record(plan: Plan, pipe: Connection) -> None:
    """Record until killed."""
    _plant(plan)
    anyio.run(_record, plan, pipe)


async def _record(plan: Plan, pipe: Connection) -> None:
    client = BackpackClient(
        ["SOL_USDC", "BTC_USDC"],
        settings=Settings(rest_url=plan.rest_url, ws_url=plan.ws_url),
        on_event=lambda _: None,
    )
    async with Recorder(client, plan.path, rotate_bytes=ROTATE_BYTES, level=1) as recorder:
        inputs = client.__recording_source__().inputs
        handle_all = inputs.handle_all

        def told(batch: Sequence[Given], now: Now) -> Sequence[Output]:
            if not batch:
                return handle_all(batch, now)
            pipe.send_bytes(b"begun")
            outputs = handle_all(batch, now)
            pipe.send_bytes(f"{recorder.batches} {recorder.digest}".encode())
            return outputs

        inputs.handle_all = told
        async with client:
            await anyio.sleep(PATIENCE_SECONDS)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _plant(plan: Plan) -> None:
    left = plan.after

    def now() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    class Killing(Writer):
        """Kills its program in the middle of what it does."""

        def write(self, line: bytes) -> None:
            header = line.startswith(b'{"format"')
            if (plan.point == "half a line" and not header and now()) or (
                plan.point == "half a header" and header and self.part > 1 and now()
            ):
                os.write(self._descriptor, line[: len(line) // 2])
                _end()
            super().write(line)

        def turn(self) -> None:
            if plan.point in ("between two parts", "an empty part") and now():
                self.close()
                self.path.replace(part_path(self.path, self.part))
                if plan.point == "an empty part":
                    self.path.touch()
                _end()
            super().turn()

    def compress(part: Path, level: int) -> None:
        if plan.point == "half compressed" and now():
            part.with_name(f"{part.name}.zst.tmp").write_bytes(part.read_bytes()[:1_000])
            _end()
        if plan.point == "compressed and not removed" and now():
            kept = part.with_name("kept")
            shutil.copy(part, kept)
            compress_part(part, level)
            kept.replace(part)
            _end()
        compress_part(part, level)

    vars(recording)["Writer"] = Killing
    vars(writing)["compress_part"] = compress
