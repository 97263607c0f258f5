"""The core alone, on frames of one market: `decode`, `book`, `session`, `session-100` or, the way of most clients, `usual`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from time import process_time_ns
from typing import Any

from backpack_proto.book.sequencer import BookSequencer
from backpack_proto.book.signals import SnapshotArrived, StreamRequested
from backpack_proto.inputs import Connected, Open, ResponseReceived, Subscribe, TextReceived, TimerFired
from backpack_proto.machine import Now
from backpack_proto.outputs import BookChanged, Output, SendRequest
from backpack_proto.session import Session
from backpack_proto.streams.frames import Frame, decode_data, decode_frame
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Trade
from tests.benchmarks.frames import SYMBOL, Snapshot, Tape, record

from .metering import load_options, report

STREAM = f"depth.{SYMBOL}"
START_US = 1_790_000_000_000_000
BETWEEN_US = 400
"""From one frame to the next one."""
TURNS = 200
TURN_US = 50_000

Top = tuple[Any, Any]
Run = Callable[[], tuple[int, Top | None]]
"""Takes all frames. Returns how many events came of them, and the best bid and ask at the end, from all that keep a book."""


def moment(number: int) -> Now:
    """Return when the frame of this number is emitted, and received."""
    unix_us = START_US + number * BETWEEN_US
    return Now(unix_us - START_US + 10**9, unix_us)


def texts(tape: Tape) -> list[bytes]:
    """Return all frames of the tape, the first ones to bring the book up."""
    messages = [*tape.warm[SYMBOL], *tape.measured]
    return [message.at(moment(number).unix_us) for number, message in enumerate(messages)]


def decode(tape: Tape) -> Run:
    """Prepare our decoder alone."""
    frames = texts(tape)[len(tape.warm[SYMBOL]) :]

    def run() -> tuple[int, None]:
        return sum(decode_data(text).payload is not None for text in frames), None

    return run


def book(tape: Tape) -> Run:
    """Prepare our decoder, sequencer and book, without a session."""
    start = moment(0)
    sequencer = BookSequencer(STREAM, SYMBOL)
    sequencer.handle(StreamRequested(), start)
    warm, frames = len(tape.warm[SYMBOL]), texts(tape)
    sequencer.handle(_depth(frames[0]), start)
    snapshot = tape.snapshots[SYMBOL]
    sides = [[Level(price, quantity) for price, quantity in side.items()] for side in (snapshot.bids, snapshot.asks)]
    arrived = SnapshotArrived(
        attempt=1, last_update_id=snapshot.last, engine_us=START_US, bids=sides[0], asks=sides[1], limit=1000
    )
    sequencer.handle(arrived, start)
    for text in frames[1:warm]:
        sequencer.handle(_depth(text), start)

    def run() -> tuple[int, Top]:
        top: Top = (None, None)
        events = 0
        for text in frames[warm:]:
            payload: Any = decode_data(text).payload
            events += 1
            if type(payload) is Depth:
                # As the session: the short way, and the long one where that does not do.
                output = sequencer.follow(payload, start) or sequencer.handle(payload, start)[0]
                assert isinstance(output, BookChanged)
                top = output.bids[0].price, output.asks[0].price
        return events, top

    return run


def _depth(text: bytes) -> Depth:
    frame = decode_frame(text)
    assert isinstance(frame, Frame)
    assert isinstance(frame.payload, Depth)
    return frame.payload


def session(tape: Tape, *, read: int) -> Run:
    """Prepare the whole session, its path proved and its book live. `read` frames come at once."""
    whole = Session(Random(1))
    start = moment(0)
    whole.handle(Open(), start)
    whole.handle(Subscribe(books=(STREAM,), streams=(f"trade.{SYMBOL}", f"bookTicker.{SYMBOL}")), start)
    outputs = whole.handle(Connected(), start)
    warm, frames = len(tape.warm[SYMBOL]), texts(tape)
    for number, text in enumerate(frames[:warm]):
        outputs = [*outputs, *_answered(whole, outputs, tape.snapshots[SYMBOL], start)]
        outputs = whole.handle(TextReceived(text), moment(number))
    # What is asked later than that, by the clock, is asked before the first frame: its time does not go on meanwhile.
    now = moment(warm - 1)
    for _ in range(TURNS):
        if whole.book(STREAM).is_live(now.mono_us):
            break
        outputs = _answered(whole, outputs, tape.snapshots[SYMBOL], now)
        now = Now(now.mono_us + TURN_US, now.unix_us + TURN_US)
        outputs = [*outputs, *whole.handle(TimerFired(), now)]
    else:
        raise AssertionError("the book did not come up")
    late_us = now.unix_us - moment(warm - 1).unix_us

    def run() -> tuple[int, Top]:
        top: Top = (None, None)
        events = 0
        for begin in range(warm, len(frames), read):
            batch = [TextReceived(text) for text in frames[begin : begin + read]]
            mono_us, unix_us = moment(begin + len(batch) - 1)
            outputs: list[Any] = whole.handle_all(batch, Now(mono_us + late_us, unix_us + late_us))
            for output in outputs:
                kind = type(output)
                if kind is BookChanged:
                    events += 1
                    top = output.bids[0].price, output.asks[0].price
                elif kind is Trade or kind is BookTicker:
                    events += 1
        return events, top

    return run


def _answered(whole: Session, outputs: Sequence[Output], snapshot: Snapshot, now: Now) -> list[Output]:
    """Answer all requests, and those that follow from the answers."""
    open_requests = [output for output in outputs if isinstance(output, SendRequest)]
    others: list[Output] = []
    while open_requests:
        request = open_requests.pop()
        if "/depth" in request.request.target:
            body = snapshot.body(now.unix_us)
        else:
            body = str(now.unix_us // 1000).encode() if "/time" in request.request.target else b"[]"
        for output in whole.handle(ResponseReceived(request_id=request.request_id, status=200, body=body), now):
            (open_requests if isinstance(output, SendRequest) else others).append(output)  # type: ignore[arg-type]  # by its kind
    return others


def usual(tape: Tape) -> Run:
    """Prepare json.loads, Decimal, and the order book of the order_book package."""
    from order_book import OrderBook  # noqa: PLC0415 - only this case needs it

    frames = texts(tape)
    snapshot = tape.snapshots[SYMBOL]
    kept = OrderBook()
    for name, levels in (("bids", snapshot.bids), ("asks", snapshot.asks)):
        for price, quantity in levels.items():
            kept[name][Decimal(price)] = Decimal(quantity)
    last = snapshot.last

    def take(text: bytes) -> Top | None:
        nonlocal last
        data = json.loads(text)["data"]
        if data["e"] != "depth":
            return None
        if data["U"] != last + 1:
            raise AssertionError("gap")
        last = data["u"]
        for name, levels in (("bids", data["b"]), ("asks", data["a"])):
            side = kept[name]
            for price_text, quantity_text in levels:
                price, quantity = Decimal(price_text), Decimal(quantity_text)
                if quantity:
                    side[price] = quantity
                elif price in side:
                    del side[price]
        return kept.bids.index(0)[0], kept.asks.index(0)[0]

    warm = len(tape.warm[SYMBOL])
    for text in frames[:warm]:
        take(text)

    def run() -> tuple[int, Top]:
        top: Top = (None, None)
        events = 0
        for text in frames[warm:]:
            top = take(text) or top
            events += 1
        return events, top

    return run


def main() -> None:
    options = load_options()
    tape = record(options.frames)
    prepare: dict[str, Callable[[Tape], Run]] = {
        "decode": decode,
        "book": book,
        "session": lambda tape: session(tape, read=1),
        "session-100": lambda tape: session(tape, read=100),
        "usual": usual,
    }
    run = prepare[options.variant](tape)
    began = process_time_ns()
    events, top = run()
    spent = process_time_ns() - began
    assert top is None or tuple(map(float, top)) == tuple(map(float, tape.finals[SYMBOL].top)), f"the book is wrong: {top}"
    report(done=True, events=events, us_a_frame=spent / 1000 / options.frames)


if __name__ == "__main__":
    main()
