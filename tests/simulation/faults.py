"""Every kind of fault, one function each, in one table.

A fault is given the world and a generator of its own. It does its harm and counts it with `world.fired`. If it lasts, it returns how it
is taken back. What it counts is the harm that was done, not the attempt: a reset without a connection counts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from backpack_proto.exchange import CloseMarket, OpenMarket, PaceMarket, Restart
from backpack_proto.inputs import Fact, RequestFailed, ResponseReceived

if TYPE_CHECKING:
    from .network import Connection, Pending, Tamper
    from .world import World

__all__ = ["FAULTS", "FRAME_FAULTS", "Fault"]

SECOND = 1_000_000
Undo = Callable[[], None]
Begin = Callable[["World", Random], Undo | None]
DEPTH = "/api/v1/depth"
CLOSE_CODES = (1000, 1001, 1008, 1011, 1012, 1013)
RESTARTING_MS = (1_000, 20_000)


class Fault(NamedTuple):
    """One kind of fault, and how long it lasts, in ms."""

    begin: Begin
    shortest_ms: int
    longest_ms: int


FAULTS: dict[str, Fault] = {}
FRAME_FAULTS = ("frames_cut", "frames_dropped", "frames_repeated", "frames_reordered", "frames_garbage", "frames_unknown")
"""Those whose count is of frames, not of episodes."""


def fault(shortest_ms: int, longest_ms: int) -> Callable[[Begin], Begin]:
    """Put a function into the table, under its name."""

    def register(begin: Begin) -> Begin:
        FAULTS[begin.__name__] = Fault(begin, shortest_ms, longest_ms)
        return begin

    return register


# The connection.


@fault(0, 0)
def reset(world: World, _: Random) -> None:
    if world.network.reset():
        world.fired("reset")


@fault(5_000, 60_000)
def half_open(world: World, _: Random) -> Undo | None:
    connection = world.network.connection
    if connection is None:
        return None
    connection.half_open = True
    world.fired("half_open")

    def undo() -> None:
        if world.network.connection is connection:
            world.network.reset()

    return undo


@fault(0, 0)
def close_frame(world: World, rng: Random) -> None:
    if world.network.close(rng.choice(CLOSE_CODES)):
        world.fired("close_frame")


@fault(1_000, 30_000)
def refused(world: World, rng: Random) -> Undo:
    world.network.conditions.refusing += 1
    if rng.random() < 0.5:
        world.network.reset()
    world.fired("refused")

    def undo() -> None:
        world.network.conditions.refusing -= 1

    return undo


@fault(3_000, 90_000)
def mute(world: World, _: Random) -> Undo:
    world.network.conditions.mute += 1
    world.fired("mute")

    def undo() -> None:
        world.network.conditions.mute -= 1

    return undo


@fault(5_000, 60_000)
def mute_from_birth(world: World, _: Random) -> Undo:
    conditions, born = world.network.conditions, world.network.connections
    conditions.mute_births += 1
    world.network.reset()

    def undo() -> None:
        conditions.mute_births -= 1
        if world.network.connections > born:
            world.fired("mute_from_birth")

    return undo


def _mute_streams(world: World, name: str, streams: list[str]) -> Undo:
    conditions = world.network.conditions
    before = sum(conditions.muted[stream] for stream in streams)
    conditions.mute_streams.update(streams)

    def undo() -> None:
        if sum(conditions.muted[stream] for stream in streams) > before:
            world.fired(name)
        conditions.mute_streams -= Counter(streams)

    return undo


@fault(10_000, 190_000)
def mute_stream(world: World, rng: Random) -> Undo:
    symbol = rng.choice(world.symbols)
    return _mute_streams(world, "mute_stream", [world.stream_of(symbol)])


@fault(10_000, 190_000)
def mute_market(world: World, rng: Random) -> Undo:
    symbol = rng.choice(world.symbols)
    return _mute_streams(world, "mute_market", [world.stream_of(symbol), f"bookTicker.{symbol}"])


@fault(3_000, 60_000)
def drip(world: World, rng: Random) -> Undo:
    running = [True]

    def drop() -> None:
        if running:
            if world.network.drip(rng.randrange(1, 400)):
                world.fired("drip")
            world.network.after(rng.randrange(200_000, 3 * SECOND), drop)

    world.network.conditions.drips += 1
    drop()

    def undo() -> None:
        running.clear()
        world.network.conditions.drips -= 1
        world.network.unstick()

    return undo


# The path.


def _late(world: World, name: str, rng: Random, extra: Callable[[int, Connection], int]) -> Undo:
    conditions, key = world.network.conditions, rng.getrandbits(62)

    def delayed(now_us: int, connection: Connection) -> int:
        delay_us = extra(now_us, connection)
        if delay_us:
            world.fired(name)
        return delay_us

    conditions.delays[key] = delayed
    late_rest = rng.random() < 0.3
    if late_rest:
        peak_us = rng.randrange(SECOND, 8 * SECOND)
        conditions.rest_delays[key] = lambda _: peak_us

    def undo() -> None:
        del conditions.delays[key]
        if late_rest:
            del conditions.rest_delays[key]

    return undo


@fault(5_000, 120_000)
def late_constant(world: World, rng: Random) -> Undo:
    by_us = rng.randrange(SECOND // 2, 15 * SECOND)
    return _late(world, "late_constant", rng, lambda _now, _connection: by_us)


@fault(10_000, 120_000)
def late_growing(world: World, rng: Random) -> Undo:
    start_us, slope = world.network.now_us, rng.uniform(0.02, 0.6)
    return _late(world, "late_growing", rng, lambda now_us, _: min(int((now_us - start_us) * slope), 20 * SECOND))


@fault(10_000, 120_000)
def late_from_birth(world: World, rng: Random) -> Undo:
    start_us, by_us = world.network.now_us, rng.randrange(SECOND, 12 * SECOND)
    undo = _late(world, "late_from_birth", rng, lambda _now, connection: by_us if connection.born_us >= start_us else 0)
    world.network.reset()
    return undo


# The client's machine and its consumer.


@fault(500, 15_000)
def blocked_loop(world: World, rng: Random) -> Undo | None:
    duration_us = rng.randrange(SECOND // 2, 12 * SECOND)
    world.network.freeze(duration_us, timer_first=rng.random() < 0.5)
    world.lasts_us(duration_us)
    world.fired("blocked_loop")
    return None


@fault(10_000, 60_000)
def suspended(world: World, rng: Random) -> Undo | None:
    duration_us = rng.randrange(8 * SECOND, 150 * SECOND)
    world.network.freeze(duration_us, timer_first=rng.random() < 0.5)
    world.lasts_us(duration_us)
    if rng.random() < 0.5:
        world.network.reset()
    world.fired("suspended")
    return None


@fault(0, 0)
def clock_step(world: World, rng: Random) -> None:
    world.network.wall_error_us += rng.choice((-1, 1)) * rng.choice((1, 5, 30, 600, 3_600)) * SECOND
    world.fired("clock_step")


@fault(5_000, 120_000)
def clock_skew(world: World, rng: Random) -> Undo:
    world.network.set_drift(rng.uniform(-0.02, 0.02))
    world.fired("clock_skew")
    return lambda: world.network.set_drift(0.0)


@fault(5_000, 60_000)
def slow_consumer(world: World, rng: Random) -> Undo:
    network, running = world.network, [True]

    def pause() -> None:
        if running:
            network.pause_reading()
            world.fired("slow_consumer")
            network.after(rng.randrange(SECOND // 10, 3 * SECOND), resume)

    def resume() -> None:
        network.resume_reading()
        network.after(rng.randrange(SECOND // 10, SECOND), pause)

    pause()

    def undo() -> None:
        running.clear()
        network.resume_reading()

    return undo


@fault(3_000, 90_000)
def absent_consumer(world: World, _: Random) -> Undo:
    world.network.pause_reading()
    world.fired("absent_consumer")
    return world.network.resume_reading


# Frames.


def _tamper(world: World, rng: Random, tamper: Tamper) -> Undo:
    tampers, key = world.network.conditions.tampers, rng.getrandbits(62)
    tampers[key] = tamper

    def undo() -> None:
        del tampers[key]

    return undo


def _change_some(name: str, change: Callable[[World, Random, bytes], list[bytes]]) -> None:
    def begin(world: World, rng: Random) -> Undo:
        share = rng.choice((0.05, 0.3, 0.6, 0.9))

        def tamper(frame: bytes) -> list[bytes]:
            if rng.random() >= share:
                return [frame]
            changed = change(world, rng, frame)
            world.fired(name, abs(len(changed) - 1) or 1)
            return changed

        return _tamper(world, rng, tamper)

    FAULTS[name] = Fault(begin, 10_000, 70_000)


GARBAGE = (
    b"",
    b"\x00\xff\xfe",
    b"{",
    b"[]",
    b"null",
    b'"\xed\xa0\x80"',
    b"[" * 3_000,
    b'{"data":{"E":1,"T":1,"U":1,"a":[["1E+1000000","1"]],"b":[],"e":"depth","s":"SOL_USDC","u":1},"stream":"depth.SOL_USDC"}',
)
_change_some("frames_cut", lambda _, rng, frame: [frame[: rng.randrange(len(frame) + 1)]])
_change_some("frames_dropped", lambda _world, _rng, _frame: [])
_change_some("frames_repeated", lambda _, rng, frame: [frame] * rng.randrange(2, 5))
_change_some("frames_garbage", lambda _, rng, frame: [frame, *(rng.choice(GARBAGE) for _ in range(rng.randrange(1, 10)))])


def _unknown(world: World, rng: Random, frame: bytes) -> list[bytes]:
    stream = world.stream_of(rng.choice(world.symbols))
    unknown = (
        f'{{"data":{{"e":"zork{rng.randrange(3)}"}},"stream":"{stream}"}}',
        f'{{"data":{{"e":"zork"}},"stream":"zork.{rng.randrange(9)}"}}',
        f'{{"data":[],"stream":"{stream}"}}',
        '{"data":{"e":"orderPondered"},"stream":"account.orderUpdate"}',
    )
    return [frame, *(rng.choice(unknown).encode() for _ in range(rng.randrange(1, 6)))]


_change_some("frames_unknown", _unknown)


@fault(5_000, 60_000)
def frames_reordered(world: World, rng: Random) -> Undo:
    share = rng.choice((0.05, 0.2, 0.5))
    kept: list[bytes] = []

    def tamper(frame: bytes) -> list[bytes]:
        if kept:
            world.fired("frames_reordered")
            return [frame, kept.pop()]
        if rng.random() < share:
            kept.append(frame)
            return []
        return [frame]

    return _tamper(world, rng, tamper)


# REST.


def _intercept(world: World, name: str, rng: Random, answer: Callable[[Pending], Fact | None]) -> Undo:
    intercepts, key = world.network.conditions.intercepts, rng.getrandbits(62)

    def counted(pending: Pending) -> Fact | None:
        fact = answer(pending)
        if fact is not None:
            world.fired(name)
        return fact

    intercepts[key] = counted

    def undo() -> None:
        del intercepts[key]

    return undo


def _replace(world: World, name: str, rng: Random, replace: Callable[[Pending, ResponseReceived], Fact | int | None]) -> Undo:
    answers, key = world.network.conditions.answers, rng.getrandbits(62)

    def counted(pending: Pending, given: ResponseReceived) -> Fact | int | None:
        replaced = replace(pending, given)
        if replaced is not given:
            world.fired(name)
        return replaced

    answers[key] = counted

    def undo() -> None:
        del answers[key]

    return undo


def _status(pending: Pending, status: int, body: bytes, retry_after_us: int | None = None) -> ResponseReceived:
    request_id = pending.action.request_id
    return ResponseReceived(request_id=request_id, status=status, body=body, retry_after_us=retry_after_us)


@fault(5_000, 60_000)
def http_401(world: World, rng: Random) -> Undo:
    body = b'{"code":"UNAUTHORIZED","message":"Unauthorized"}'
    return _intercept(world, "http_401", rng, lambda pending: _status(pending, 401, body) if pending.signed else None)


@fault(5_000, 60_000)
def http_404(world: World, rng: Random) -> Undo:
    body = b'{"code":"RESOURCE_NOT_FOUND","message":"Not Found"}'
    return _intercept(world, "http_404", rng, lambda pending: _status(pending, 404, body) if pending.path == DEPTH else None)


@fault(1_000, 20_000)
def http_429(world: World, rng: Random) -> Undo:
    left = rng.randrange(1, 20)
    retry_after_us = rng.choice((None, SECOND, 5 * SECOND, 20 * SECOND, 900 * SECOND))
    body = b'{"code":"TOO_MANY_REQUESTS","message":"Too many requests"}'

    def answer(pending: Pending) -> Fact | None:
        nonlocal left
        left -= 1
        return _status(pending, 429, body, retry_after_us) if left >= 0 else None

    return _intercept(world, "http_429", rng, answer)


@fault(5_000, 60_000)
def http_5xx(world: World, rng: Random) -> Undo:
    status, share = rng.choice((500, 502, 503)), rng.choice((0.3, 1.0))
    return _intercept(
        world,
        "http_5xx",
        rng,
        lambda pending: _status(pending, status, b"upstream connect error") if rng.random() < share else None,
    )


@fault(5_000, 40_000)
def http_5xx_after(world: World, rng: Random) -> Undo:
    share = rng.choice((0.3, 1.0))
    return _replace(
        world,
        "http_5xx_after",
        rng,
        lambda pending, given: _status(pending, 502, b"Bad Gateway") if rng.random() < share else given,
    )


def _snapshots(name: str, replace: Callable[[World, Random, Pending, ResponseReceived], Fact | int | None]) -> None:
    """Have a fault do something to the answers of `/depth`, all of them or some."""

    def begin(world: World, rng: Random) -> Undo:
        share = rng.choice((0.3, 0.7, 1.0))

        def some(pending: Pending, given: ResponseReceived) -> Fact | int | None:
            if pending.path != DEPTH or given.status != 200 or rng.random() >= share:
                return given
            return replace(world, rng, pending, given)

        return _replace(world, name, rng, some)

    FAULTS[name] = Fault(begin, 10_000, 120_000)


def _stale(world: World, rng: Random, pending: Pending, given: ResponseReceived) -> Fact | int | None:
    old = world.old_snapshots(pending.symbol)
    return _status(pending, 200, rng.choice(old)) if old else given


def _failed(_world: World, _rng: Random, pending: Pending, _given: ResponseReceived) -> Fact:
    return RequestFailed(request_id=pending.action.request_id, reason="connection reset by peer")


def _truncated(_world: World, rng: Random, pending: Pending, given: ResponseReceived) -> Fact:
    return _status(pending, 200, given.body[: rng.randrange(max(len(given.body), 1))])


INSANE = (
    b'{"asks":[["1.02","1"]],"bids":[["-1.01","1"]],"lastUpdateId":"%d","timestamp":%d}',
    b'{"asks":[["1.02","1"]],"bids":[["0","1"]],"lastUpdateId":"%d","timestamp":%d}',
    b'{"asks":[["1.02","-1"]],"bids":[["1.01","1"]],"lastUpdateId":"%d","timestamp":%d}',
    b'{"asks":[["1E+1000000","1"]],"bids":[["1.01","1"]],"lastUpdateId":"%d","timestamp":%d}',
    b'{"asks":[["1.02","1"]],"bids":[["1.01","1"]],"lastUpdateId":"1180591620717411303424","timestamp":%d}',
    b'{"asks":[],"bids":[],"lastUpdateId":"%d","timestamp":1600000000000000}',
    b'{"asks":[["1.01","1"]],"bids":[["1.02","1"]],"lastUpdateId":"%d","timestamp":%d}',
)
"""Negative and zero prices, negative quantities, an exponent, an id of 2^70, an empty book of old, a crossed one."""


def _insane(world: World, rng: Random, pending: Pending, _given: ResponseReceived) -> Fact:
    body = rng.choice(INSANE)
    last = world.exchange.levels(pending.symbol)[2]
    numbers = (last, world.network.true_now.unix_us)
    fills = body.count(b"%d")
    return _status(pending, 200, body % (numbers if fills == 2 else numbers[:1] if b'Id":"%d' in body else numbers[1:]))


_snapshots("snapshot_lost", lambda _world, _rng, _pending, _given: None)
_snapshots("snapshot_late", lambda _world, rng, _pending, _given: rng.randrange(SECOND, 25 * SECOND))
_snapshots("snapshot_stale", _stale)
_snapshots("snapshot_failed", _failed)
_snapshots("snapshot_truncated", _truncated)
_snapshots("snapshot_insane", _insane)


# The exchange and the account.


def _restart(world: World, rng: Random, *, keep_ids: bool) -> None:
    network = world.network
    network.conditions.refusing += 1
    network.give_exchange(Restart(keep_ids=keep_ids))
    if not keep_ids:
        for symbol in world.exchange.symbols:
            world.truth.markets[symbol].begin(network.now_us)

    def up() -> None:
        network.conditions.refusing -= 1

    duration_us = rng.randrange(*RESTARTING_MS) * 1_000
    world.lasts_us(duration_us)
    network.after(duration_us, up)


@fault(1_000, 20_000)
def restarted(world: World, rng: Random) -> None:
    _restart(world, rng, keep_ids=True)
    world.fired("restarted")


@fault(1_000, 20_000)
def restarted_ids(world: World, rng: Random) -> None:
    _restart(world, rng, keep_ids=False)
    world.fired("restarted_ids")


@fault(20_000, 200_000)
def market_closed(world: World, rng: Random) -> Undo | None:
    symbol, network = rng.choice(world.symbols), world.network
    truth = world.truth.markets[symbol]
    if truth.closed_us is not None:
        return None
    network.give_exchange(CloseMarket(symbol))
    truth.closed_us = network.now_us
    world.fired("market_closed")

    def undo() -> None:
        network.give_exchange(OpenMarket(symbol))
        truth.closed_us = None
        if not truth.knows(world.exchange.levels(symbol)[2]):
            # The exchange was restarted meanwhile, and gave up its ids.
            truth.begin(network.now_us)

    return undo


@fault(5_000, 60_000)
def pace_changed(world: World, rng: Random) -> Undo:
    symbol, usual = rng.choice(list(world.plan.books.items()))
    world.network.give_exchange(PaceMarket(symbol, rng.choice((0.0, 0.0, 0.3, 1.0)) if usual < 0.2 else 0.0))
    world.fired("pace_changed")
    return lambda: world.network.give_exchange(PaceMarket(symbol, usual))


@fault(2_000, 30_000)
def abandoned_calls(world: World, rng: Random) -> Undo:
    return world.repeat(rng, (20_000, SECOND), lambda: world.trader.call_and_abandon(rng))


@fault(5_000, 60_000)
def outage_orders(world: World, rng: Random) -> Undo:
    """Orders live and die while the connection is down."""
    network = world.network
    network.conditions.refusing += 1
    network.reset()
    stop = world.repeat(rng, (200_000, 3 * SECOND), lambda: world.trader.act_elsewhere(rng, "outage_orders"))

    def undo() -> None:
        stop()
        network.conditions.refusing -= 1

    return undo


@fault(5_000, 60_000)
def second_client(world: World, rng: Random) -> Undo:
    return world.repeat(rng, (200_000, 5 * SECOND), lambda: world.trader.act_elsewhere(rng, "second_client"))
