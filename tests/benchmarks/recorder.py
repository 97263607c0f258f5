"""Cost of a recorder, as ratios of one run: python -m tests.benchmarks.recorder.

One session is driven by the same batches of frames again and again: alone, and with a recorder in their way.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from backpack_proto.inputs import Given
from backpack_proto.machine import Now
from backpack_runtime import BackpackClient, Recorder, open_recording
from backpack_runtime.recording.batches import Batches
from backpack_runtime.recording.source import SessionInputs, Source
from backpack_runtime.recording.streams import chunks_of, lines_of

SYMBOLS = ("SOL_USDC", "BTC_USDC", "SOL_USDC_PERP", "BTC_USDC_PERP")


async def _record(path: Path, seconds: float) -> None:
    client = BackpackClient(SYMBOLS, sandbox=True, on_event=lambda _: None)
    async with Recorder(client, path), client:
        await anyio.sleep(seconds)


class _Client:
    """A client without a transport, whose session begins as the recorded one did."""

    def __init__(self, read: Batches) -> None:
        self.inputs = SessionInputs(read.session())
        header = read.header
        self._source = Source(self.inputs, header.random.random(), header.session, None, header.symbols, header.channels)

    def __recording_source__(self) -> Source:
        return self._source


def _batches(path: Path) -> tuple[Batches, list[tuple[list[Given], Now]]]:
    with path.open("rb") as file:
        lines = lines_of(chunks_of(file))
        read = Batches(next(lines), [(path.name, lines)])
        return read, [(batch.inputs, batch.now) for batch in read]


def _seconds(handle_all: Callable[[list[Given], Now], object], batches: list[tuple[list[Given], Now]]) -> float:
    begun = time.perf_counter()
    for batch, now in batches:
        handle_all(batch, now)
    return time.perf_counter() - begun


async def _measure(path: Path, rounds: int) -> None:
    alone: list[float] = []
    recorded: list[float] = []
    replayed: list[float] = []
    sizes: set[int] = set()
    count = 0
    _, batches = _batches(path)
    frames = sum(map(len, (batch for batch, _ in batches)))
    for number in range(rounds):
        client = _Client(_batches(path)[0])
        alone.append(_seconds(client.inputs.handle_all, batches))
        client = _Client(_batches(path)[0])
        async with Recorder(client, path.with_name(f"again-{number}")) as recorder:
            recorded.append(_seconds(client.inputs.handle_all, batches))
        sizes.add(recorder.size_bytes)
        begun = time.perf_counter()
        with open_recording(path, verify=True) as recording:
            count = sum(1 for _ in recording.events())
        replayed.append(time.perf_counter() - begun)
    base = statistics.median(alone)
    print(f"{frames} inputs in {len(batches)} batches, {count} events, {rounds} rounds")
    print(f"recorded: {statistics.median(recorded) / base:.2f} of the session alone")
    print(f"replayed and verified, reading included: {statistics.median(replayed) / base:.2f}")
    print(f"size: {max(sizes) / frames:.0f} bytes an input, before compression")


def main() -> None:
    """Record the sandbox for some seconds, and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recorder", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to record")
    parser.add_argument("--rounds", type=int, default=9, help="how often to measure")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "session.jsonl"
        anyio.run(_record, path, arguments.seconds)
        anyio.run(_measure, path, arguments.rounds)


if __name__ == "__main__":
    main()
