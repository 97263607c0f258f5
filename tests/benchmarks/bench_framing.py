"""UnixUs per websocket frame: our framing next to wsproto alone, on the same bytes, as a ratio.

python tests/benchmarks/bench_framing.py [frames] [rounds]
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from backpack_proto.inputs import TextReceived
from backpack_runtime.framing.client import WebsocketFraming
from backpack_runtime.framing.server import ServerFraming

READ_BYTES = 64 * 1024


def messages(count: int) -> list[bytes]:
    """Depth messages of the usual size, 170 to 290 bytes."""
    rng = random.Random(20240907)
    texts = []
    for number in range(count):
        levels = [[f"{rng.uniform(100, 200):.2f}", f"{rng.uniform(0, 50):.3f}"] for _ in range(rng.randint(1, 6))]
        half = rng.randint(0, len(levels))
        data = {
            "E": 1700000000000000 + number,
            "T": 1700000000000000 + number,
            "U": number,
            "a": levels[:half],
            "b": levels[half:],
            "e": "depth",
            "s": "SOL_USDC",
            "u": number,
        }
        texts.append(json.dumps({"data": data, "stream": "depth.SOL_USDC"}, separators=(",", ":")).encode())
    return texts


def reads(texts: list[bytes], *, compression: bool) -> tuple[WebsocketFraming, list[bytes]]:
    """A client with an open websocket, and the frames for it as a socket would hand them over."""
    client, server = WebsocketFraming("h", compression=compression), ServerFraming(compression=compression)
    server.receive(client.open())
    client.receive(server.accept())
    stream = b"".join(map(server.message, texts))
    return client, [stream[start : start + READ_BYTES] for start in range(0, len(stream), READ_BYTES)]


def ours(texts: list[bytes], *, compression: bool = False) -> float:
    client, pieces = reads(texts, compression=compression)
    count = 0
    begin = time.perf_counter()
    for piece in pieces:
        for fact in client.receive(piece):
            count += type(fact) is TextReceived
    spent = time.perf_counter() - begin
    assert count == len(texts)
    return spent


def wsproto_alone(texts: list[bytes]) -> float:
    _, pieces = reads(texts, compression=False)
    connection = Connection(ConnectionType.CLIENT)
    count = 0
    parts: list[str] = []
    begin = time.perf_counter()
    for piece in pieces:
        connection.receive_data(piece)
        for event in connection.events():
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    "".join(parts)
                    parts.clear()
                    count += 1
    spent = time.perf_counter() - begin
    assert count == len(texts)
    return spent


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    texts = messages(frames)
    cases: dict[str, Callable[[list[bytes]], float]] = {
        "wsproto alone": wsproto_alone,
        "framing": ours,
        "framing, permessage-deflate": lambda texts: ours(texts, compression=True),
    }
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        names = list(cases)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            spent[name].append(cases[name](texts))
    print(f"{frames} frames, mean {sum(map(len, texts)) / frames:.0f} bytes, {rounds} rounds in rotating order, medians")
    for name, times in spent.items():
        ratio = statistics.median(base / mine for base, mine in zip(spent["wsproto alone"], times, strict=True))
        print(f"{name:30} {statistics.median(times) / frames * 1e6:8.3f} us/frame   wsproto alone / this: {ratio:6.2f}")


if __name__ == "__main__":
    main()
