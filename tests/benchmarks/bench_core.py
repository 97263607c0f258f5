"""What one depth frame costs in the core, beside the same work done the usual way.

    python tests/benchmarks/bench_core.py [frames]

Each side decodes the frame, checks the sequence, applies the levels and reads best bid and ask. The frames are those of the simulated
exchange, with books of several hundred levels. All cases alternate in every round, and what is printed is the median of the rounds
and the median of the ratios inside the rounds: this machine's speed cancels out.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from statistics import median
from time import process_time_ns
from typing import Any

from backpack_proto.book.sequencer import BookSequencer
from backpack_proto.book.signals import SnapshotArrived, StreamRequested
from backpack_proto.exchange import Exchange, FrameReceived, RequestReceived, Respond, SendFrame, SocketOpened
from backpack_proto.inputs import Connected, Open, ResponseReceived, Subscribe, TextReceived, TimerFired
from backpack_proto.machine import Now
from backpack_proto.outputs import BookChanged, SendRequest
from backpack_proto.session import Session
from backpack_proto.streams.frames import Frame, decode_frame, subscribe_text
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth

SYMBOL = "SOL_USDC"
STREAM = f"depth.{SYMBOL}"
ROUNDS = 7
START = Now(10**9, 1_790_000_000_000_000)

Top = tuple[Any, Any]


def record(count: int) -> tuple[bytes, list[bytes]]:
    """A snapshot, and the frames that follow it."""
    exchange = Exchange(seed=11, unix_us=START.unix_us, speed=20.0)
    exchange.handle(SocketOpened(1), START)
    exchange.handle(FrameReceived(1, subscribe_text([STREAM]).encode()), START)
    target = f"/api/v1/depth?symbol={SYMBOL}&limit=1000"
    snapshot = next(
        output.body for output in exchange.handle(RequestReceived(1, "GET", target), START) if isinstance(output, Respond)
    )
    frames: list[bytes] = []
    now = START
    while len(frames) < count:
        deadline = exchange.deadline or now.mono_us
        now = Now(deadline, START.unix_us + deadline - START.mono_us)
        frames += [output.data for output in exchange.handle(TimerFired(), now) if isinstance(output, SendFrame)]
    return snapshot, frames[:count]


def usual(snapshot: bytes, frames: Sequence[bytes]) -> Callable[[], Top]:
    """json.loads, Decimal, and the order book of the order_book package."""
    from order_book import OrderBook  # noqa: PLC0415 - only this case needs it

    def run() -> Top:
        content = json.loads(snapshot)
        book = OrderBook()
        for name in ("bids", "asks"):
            for price, quantity in content[name]:
                book[name][Decimal(price)] = Decimal(quantity)
        last = int(content["lastUpdateId"])
        top: Top = (None, None)
        for frame in frames:
            data = json.loads(frame)["data"]
            if data["U"] != last + 1:
                raise AssertionError("gap")
            last = data["u"]
            for name, levels in (("bids", data["b"]), ("asks", data["a"])):
                side = book[name]
                for price_text, quantity_text in levels:
                    price, quantity = Decimal(price_text), Decimal(quantity_text)
                    if quantity:
                        side[price] = quantity
                    elif price in side:
                        del side[price]
            top = (book.bids.index(0), book.asks.index(0))
        return top

    return run


def core(snapshot: bytes, frames: Sequence[bytes]) -> Callable[[], Top]:
    """Our decoder, sequencer and book."""
    content = json.loads(snapshot)
    levels = {name: [Level(price, quantity) for price, quantity in content[name]] for name in ("bids", "asks")}

    def run() -> Top:
        sequencer = BookSequencer(STREAM, SYMBOL)
        sequencer.handle(StreamRequested(), START)
        first = decode_frame(frames[0])
        if not isinstance(first, Frame) or not isinstance(first.payload, Depth):
            raise TypeError("not a depth frame")
        sequencer.handle(first.payload, START)
        arrived = SnapshotArrived(
            attempt=1,
            last_update_id=int(content["lastUpdateId"]),
            engine_us=content["timestamp"],
            bids=levels["bids"],
            asks=levels["asks"],
            limit=1000,
        )
        sequencer.handle(arrived, START)
        handle = sequencer.handle
        top: Top = (None, None)
        for data in frames[1:]:
            frame = decode_frame(data)
            for output in handle(frame.payload, START):  # type: ignore[union-attr, arg-type]  # all frames are depth frames
                if not isinstance(output, BookChanged):
                    raise TypeError(f"unexpected {output}")
                top = (output.bids[0], output.asks[0])
        return top

    return run


def session(snapshot: bytes, frames: Sequence[bytes], *, read: int) -> Callable[[], Top]:
    """The whole session: heartbeat, subscriptions, metrics and all; `read` frames come at once, when they were emitted."""
    emitted_us = [json.loads(frame)["data"]["E"] for frame in frames]
    moments = [Now(START.mono_us + us - emitted_us[0], START.unix_us + us - emitted_us[0]) for us in emitted_us]

    def run() -> Top:
        whole = Session(Random(1), audit_books=False)
        whole.handle(Open(), START)
        whole.handle(Subscribe((STREAM,)), START)
        requests = [output for output in whole.handle(Connected(), START) if isinstance(output, SendRequest)]
        whole.handle(TextReceived(frames[0]), START)
        whole.handle(ResponseReceived(request_id=requests[0].request_id, status=200, body=snapshot), START)
        top: Top = (None, None)
        for start in range(1, len(frames), read):
            batch = [TextReceived(data) for data in frames[start : start + read]]
            for output in whole.handle_all(batch, moments[start + len(batch) - 1]):
                if isinstance(output, BookChanged):
                    top = (output.bids[0], output.asks[0])
        return top

    return run


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    snapshot, frames = record(count)
    cases: dict[str, Callable[[], Top]] = {"core": core(snapshot, frames), "session": session(snapshot, frames, read=1)}
    cases["session, reads of 100 frames"] = session(snapshot, frames, read=100)
    if importlib.util.find_spec("order_book") is not None:
        cases["json.loads + Decimal + order_book"] = usual(snapshot, frames)
    timings: dict[str, list[float]] = {name: [] for name in cases}
    tops = set()
    for number in range(ROUNDS):
        for name in sorted(cases, key=lambda name: (list(cases).index(name) + number) % len(cases)):
            began = process_time_ns()
            tops.add(cases[name]())
            timings[name].append((process_time_ns() - began) / 1000 / count)
    if len(tops) != 1:
        raise AssertionError(f"the books differ: {tops}")
    levels = sum(len(json.loads(snapshot)[name]) for name in ("bids", "asks"))
    print(f"{count} depth frames, a book of {levels} levels at the start, {ROUNDS} rounds, CPU time")
    for name, spent in timings.items():
        ratio = median(one / other for one, other in zip(spent, timings["core"], strict=True))
        print(f"{name:36} {median(spent):8.2f} us a frame   {ratio:6.1f} x core")


if __name__ == "__main__":
    main()
