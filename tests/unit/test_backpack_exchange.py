"""The simulated exchange as a machine: determinism, control frames, pings, time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backpack_proto.exchange
import hypothesis_profiles
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import InvalidKey, LocalProtocolError, UnknownSymbol
from backpack_proto.exchange import (
    LISTINGS,
    THROWAWAY_API_KEY,
    THROWAWAY_SECRET,
    CloseConnection,
    Exchange,
    ExchangeInput,
    ExchangeOutput,
    FrameReceived,
    PingSocket,
    RequestReceived,
    Respond,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.exchange.market.activity import FLOWS
from backpack_proto.exchange.rest.authentication import Authentication
from backpack_proto.exchange.stream.audience import Audience, existing_streams
from backpack_proto.exchange.stream.sockets import Sockets
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples

PARSE_ERROR = b'{"id":null,"error":{"code":4002,"message":"Parse error"}}'
INVALID_SIGNATURE = b'{"id":null,"error":{"code":4003,"message":"Invalid signature"}}'
INVALID_STREAM = b'{"id":null,"error":{"code":4006,"message":"Invalid stream"}}'
INVALID_WINDOW = b'{"id":null,"error":{"code":4008,"message":"Invalid depth window"}}'


def request(method: str, *params: str, **members: object) -> bytes:
    return json.dumps({"method": method, "params": params, **members}).encode()


def still_exchange(clock: FakeClock) -> Exchange:
    """An exchange on whose books nothing happens, with connection 1 open."""
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=0.0)
    assert exchange.handle(SocketOpened(1), clock.now) == []
    return exchange


def run(exchange: Exchange, clock: FakeClock, us: int) -> list[ExchangeOutput]:
    """Fire every deadline for so long."""
    outputs: list[ExchangeOutput] = []
    end = clock.mono_us + us
    while (deadline := exchange.deadline) is not None and deadline <= end:
        outputs += exchange.handle(TimerFired(), clock.advance_to(deadline))
    clock.advance(end - clock.mono_us)
    return outputs


def digest_of_a_run() -> str:
    """A hash over everything that an exchange sends to two busy clients in five seconds."""
    clock = FakeClock()
    exchange = Exchange(seed=42, unix_us=clock.unix_us)
    streams = sorted(existing_streams(LISTINGS))
    public = [stream for stream in streams if not stream.startswith("account.")]
    outputs = exchange.handle(SocketOpened(1), clock.now)
    outputs += exchange.handle(SocketOpened(2), clock.now)
    outputs += exchange.handle(FrameReceived(1, request("SUBSCRIBE", *public)), clock.now)
    outputs += exchange.handle(FrameReceived(2, request("SUBSCRIBE", *public[::-3], *streams)), clock.now)
    for path in ("markets", "tickers", "depth?symbol=SOL_USDC", "klines?symbol=BTC_USDC&interval=1m&startTime=0", "assets"):
        outputs += exchange.handle(RequestReceived(1, "GET", f"/api/v1/{path}"), clock.now)
        outputs += run(exchange, clock, 1_000_000)
    assert len(outputs) > 3_000
    return hashlib.sha256(repr(outputs).encode()).hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_the_same_inputs_give_the_same_bytes_in_every_process(hash_seed: str) -> None:
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('digest', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['digest'] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(module.digest_of_a_run())\n"
    )
    roots = (Path(backpack_proto.exchange.__file__).parents[2], Path(hypothesis_profiles.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(map(str, roots))},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == digest_of_a_run()


def test_another_seed_is_another_market() -> None:
    levels = [Exchange(seed=seed, unix_us=10**15).levels("SOL_USDC") for seed in (1, 1, 2)]
    assert levels[0] == levels[1]
    assert levels[0] != levels[2]


def test_the_markets_stand_still_until_the_first_input() -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    before = exchange.levels("SOL_USDC")
    deadlines = [exchange.deadline]
    assert exchange.handle(TimerFired(), clock.advance(10**9)) == []
    deadlines.append(exchange.deadline)
    assert deadlines == [None, None]
    assert exchange.levels("SOL_USDC") == before
    exchange.handle(SocketOpened(1), clock.now)
    run(exchange, clock, 1_500_000)
    assert exchange.levels("SOL_USDC") != before


def test_early_timers_leave_no_trace_and_the_wall_clock_moves_no_deadline() -> None:
    """What the laws of machines say, by way of twins: the state of a whole exchange is too large to compare at every step."""
    clock = FakeClock()
    one, other, elsewhen = (Exchange(seed=6, unix_us=clock.unix_us) for _ in range(3))
    frame = FrameReceived(1, request("SUBSCRIBE", "depth.SOL_USDC", "bookTicker.BTC_USDC"))
    for exchange in (one, other, elsewhen):
        exchange.handle(SocketOpened(1), clock.now)
        exchange.handle(frame, clock.now)
    for step in range(600):
        deadline = one.deadline
        assert deadline is not None
        assert deadline == other.deadline == elsewhen.deadline
        if deadline > clock.mono_us + 1:
            before = (other._engine_us, other._scheduled)
            assert other.handle(TimerFired(), clock.advance((deadline - clock.mono_us) // 2)) == []
            assert (other.deadline, other._engine_us, other._scheduled) == (deadline, *before)
        late = clock.advance_to(deadline + 40_000 * (step % 50 == 0))
        outputs = one.handle(TimerFired(), late)
        assert outputs == other.handle(TimerFired(), late)
        elsewhen.handle(TimerFired(), Now(late.mono_us, late.unix_us + 86_400_000_000))
        following = one.deadline
        assert following is not None
        assert following > late.mono_us


INPUTS = st.one_of(
    st.builds(SocketOpened, st.integers(1, 3)),
    st.builds(SocketClosed, st.integers(1, 3)),
    st.builds(SocketPonged, st.integers(1, 3), st.binary(max_size=2)),
    st.builds(
        FrameReceived,
        st.integers(1, 3),
        st.sampled_from(
            [
                request("SUBSCRIBE", "depth.SOL_USDC", "nope"),
                request("UNSUBSCRIBE", "depth.SOL_USDC"),
                request("SUBSCRIBE", "account.orderUpdate", "trade.SOL_USDC"),
                b"\xff",
            ]
        ),
    ),
)


@pytest.mark.hypothesis
def test_the_sockets_keep_the_laws_of_machines() -> None:
    def make() -> Sockets:
        return Sockets(Audience(), Authentication(THROWAWAY_API_KEY), existing_streams(LISTINGS), Random(3))

    check_machine(make, INPUTS, max_examples=examples(60).max_examples)


def test_a_connection_cannot_be_opened_twice() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    deadline = exchange.deadline
    with pytest.raises(LocalProtocolError):
        exchange.handle(SocketOpened(1), clock.advance(10**9))
    assert exchange.deadline == deadline


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        (request("SUBSCRIBE", "depth.SOL_USDC", "kline.1m.AAPL.US_USDC_PERP", "liquidation"), []),
        (request("SUBSCRIBE", "depth.SOL_USDC", "depth.SOL_USDC", id=7), []),
        (request("SUBSCRIBE"), []),
        (request("UNSUBSCRIBE", "trade.SOL_USDC"), []),
        (request("SUBSCRIBE", "depth.NOPE_USDC", "depth.HNT_USDC", "depth.5.SOL_USDC", "stockPrice.NVDA"), []),
        (request("SUBSCRIBE", "preview.SOL_USDC", "preview.NOPE", "externalTicker.NVDA.US_USDC"), []),
        (request("SUBSCRIBE", "markPrice.SOL_USDC", "liquidation.SOL_USDC"), []),
        (request("SUBSCRIBE", "nope.BTC_USDC_PERP"), [INVALID_STREAM]),
        (request("SUBSCRIBE", "depth"), [INVALID_STREAM]),
        (request("SUBSCRIBE", ""), [INVALID_STREAM]),
        (request("SUBSCRIBE", "kline.7m.SOL_USDC"), [INVALID_STREAM]),
        (request("UNSUBSCRIBE", "nope.BTC_USDC_PERP"), [INVALID_STREAM]),
        (request("SUBSCRIBE", "depth.100ms.SOL_USDC"), [INVALID_WINDOW]),
        (request("SUBSCRIBE", "depth.0ms.SOL_USDC", "nope"), [INVALID_WINDOW]),
        (request("SUBSCRIBE", "account.orderUpdate"), [INVALID_SIGNATURE]),
        (request("SUBSCRIBE", "account.positionUpdate.NOPE"), [INVALID_SIGNATURE]),
        (request("UNSUBSCRIBE", "account.orderUpdate"), []),
        (request("PING"), [PARSE_ERROR]),
        (b'{"method":"PING"}', [PARSE_ERROR]),
        (b'{"method":"SUBSCRIBE"}', [PARSE_ERROR]),
        (b'{"method":"SUBSCRIBE","params":"depth.SOL_USDC"}', [PARSE_ERROR]),
        (b"hello", [PARSE_ERROR]),
        (b"", [PARSE_ERROR]),
        (b'"\xff"', [PARSE_ERROR]),
        (b'{"method":"SUBSCRIBE","params":[],"more":' + b"[" * 100_000, [PARSE_ERROR]),
    ],
)
def test_what_is_answered_to_a_frame(data: bytes, answers: list[bytes]) -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    expected = [SendFrame(1, answer) for answer in answers]
    assert exchange.handle(FrameReceived(1, data), clock.now) == expected


def streams_of(outputs: list[ExchangeOutput], connection: int = 1) -> set[str]:
    return {
        json.loads(output.data)["stream"]
        for output in outputs
        if isinstance(output, SendFrame) and output.connection == connection
    }


def test_a_refused_name_does_not_void_the_others_of_its_frame() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    names = ("ticker.SOL_USDC", "nope", "account.orderUpdate", "ticker.BTC_USDC", "depth.100ms.SOL_USDC")
    assert exchange.handle(FrameReceived(1, request("SUBSCRIBE", *names)), clock.now) == [SendFrame(1, INVALID_STREAM)]
    assert streams_of(run(exchange, clock, 1_000_000)) == {"ticker.SOL_USDC", "ticker.BTC_USDC"}


def test_streams_are_delivered_once_until_they_are_unsubscribed() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    exchange.handle(SocketOpened(2), clock.now)
    for _ in range(2):
        exchange.handle(FrameReceived(1, request("SUBSCRIBE", "ticker.SOL_USDC", "ticker.BTC_USDC")), clock.now)
    exchange.handle(FrameReceived(2, request("SUBSCRIBE", "ticker.SOL_USDC")), clock.now)
    outputs = run(exchange, clock, 1_000_000)
    assert len(outputs) == 3
    assert streams_of(outputs, 2) == {"ticker.SOL_USDC"}
    exchange.handle(FrameReceived(1, request("UNSUBSCRIBE", "ticker.SOL_USDC")), clock.now)
    outputs = run(exchange, clock, 1_000_000)
    assert (streams_of(outputs, 1), streams_of(outputs, 2)) == ({"ticker.BTC_USDC"}, {"ticker.SOL_USDC"})
    exchange.handle(SocketClosed(2), clock.now)
    assert streams_of(run(exchange, clock, 1_000_000), 2) == set()


def signature(clock: FakeClock, *, late_ms: int = 0, window_ms: int = 5_000) -> list[str]:
    signer = Signer(Credentials(THROWAWAY_SECRET), window_ms=window_ms)
    return list(signer.subscribe_signature(clock.unix_us - late_ms * 1000))


@pytest.mark.parametrize(
    ("late_ms", "window_ms", "good"),
    [
        (0, 5_000, True),
        (5_000, 5_000, True),
        (5_001, 5_000, False),
        (-5_000, 5_000, True),
        (-5_001, 5_000, False),
        (2, 1, False),
    ],
)
def test_a_private_subscription_is_silent_when_its_signature_holds(late_ms: int, window_ms: int, *, good: bool) -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    signed = signature(clock, late_ms=late_ms, window_ms=window_ms)
    frame = request("SUBSCRIBE", "account.orderUpdate", "account.positionUpdate.SOL_USDC_PERP", signature=signed)
    expected = [] if good else [SendFrame(1, INVALID_SIGNATURE)]
    assert exchange.handle(FrameReceived(1, frame), clock.now) == expected


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: None,
        lambda _: [],
        lambda s: s[:3],
        lambda s: [*s, "1"],
        lambda s: [*s[:2], int(s[2]), int(s[3])],
        lambda s: [*s[:3], "60001"],
        lambda s: [*s[:3], "5001"],
        lambda s: [*s[:3], "0"],
        lambda s: [*s[:3], "-5000"],
        lambda s: [*s[:3], "9" * 5_000],
        lambda s: [*s[:2], "now", s[3]],
        lambda s: [s[0], "", *s[2:]],
        lambda s: [s[0], s[1].swapcase(), *s[2:]],
        lambda s: [s[0].swapcase(), *s[1:]],
        lambda s: ["", *s[1:]],
        lambda s: {"key": s},
    ],
)
def test_any_other_signature_is_refused(spoil: object) -> None:
    assert callable(spoil)
    clock = FakeClock()
    exchange = still_exchange(clock)
    frame = request("SUBSCRIBE", "account.balanceUpdate", signature=spoil(signature(clock)))
    assert exchange.handle(FrameReceived(1, frame), clock.now) == [SendFrame(1, INVALID_SIGNATURE)]


def test_a_key_of_another_account_is_unknown() -> None:
    clock = FakeClock()
    other = Credentials("11" * 32).api_key
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=0.0, api_keys=[other])
    assert exchange.api_key == other
    exchange.handle(SocketOpened(1), clock.now)
    frame = request("SUBSCRIBE", "account.balanceUpdate", signature=signature(clock))
    assert exchange.handle(FrameReceived(1, frame), clock.now) == [SendFrame(1, INVALID_SIGNATURE)]


def test_construction_refuses_what_cannot_be() -> None:
    for api_key in ("", "nope", THROWAWAY_API_KEY[:-4]):
        with pytest.raises(InvalidKey):
            Exchange(seed=1, unix_us=0, api_keys=[api_key])
    for speed in (-1.0, float("nan"), float("inf")):
        with pytest.raises(LocalProtocolError):
            Exchange(seed=1, unix_us=0, speed=speed)


def test_it_shows_its_markets() -> None:
    exchange = Exchange(seed=1, unix_us=10**15)
    assert exchange.symbols == tuple(listing.symbol for listing in LISTINGS if listing.open) == tuple(FLOWS)
    assert exchange.api_key == THROWAWAY_API_KEY == Credentials(THROWAWAY_SECRET).api_key
    for symbol in exchange.symbols:
        bids, asks, last = exchange.levels(symbol)
        assert len(bids) > 250
        assert len(asks) > 250
        assert list(bids) == sorted(bids, reverse=True)
        assert list(asks) == sorted(asks)
        assert bids[0][0] < asks[0][0]
        assert last > 2**32
    for symbol in ("HNT_USDC", "NOPE"):
        with pytest.raises(UnknownSymbol):
            exchange.levels(symbol)


def pings_and_ends(exchange: Exchange, clock: FakeClock, us: int, *, answer: bool) -> list[tuple[int, ExchangeOutput]]:
    """What is sent besides frames, with its second since now. Pings are answered or not."""
    start = clock.mono_us
    found: list[tuple[int, ExchangeOutput]] = []
    while (deadline := exchange.deadline) is not None and deadline <= start + us:
        for output in exchange.handle(TimerFired(), clock.advance_to(deadline)):
            if not isinstance(output, SendFrame):
                found.append(((clock.mono_us - start) // 1_000_000, output))
            if isinstance(output, PingSocket) and answer:
                assert exchange.handle(SocketPonged(output.connection, output.payload), clock.now) == []
    return found


def test_pings_come_every_60_s_and_the_first_5_to_38_s_after_opening() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    pings = pings_and_ends(exchange, clock, 400_000_000, answer=True)
    assert all(isinstance(ping, PingSocket) for _, ping in pings)
    seconds = [second for second, _ in pings]
    assert 5 <= seconds[0] < 38
    assert seconds == [seconds[0] + 60 * number for number in range(len(seconds))]
    assert len(seconds) >= 6


def test_an_idle_connection_that_ignores_a_ping_is_dropped_when_the_next_is_due() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    (first, ping), (second, end) = pings_and_ends(exchange, clock, 400_000_000, answer=False)
    assert isinstance(ping, PingSocket)
    assert end == CloseConnection(1, None)
    assert second - first == 60
    for late in (FrameReceived(1, request("SUBSCRIBE", "ticker.SOL_USDC")), SocketPonged(1, b""), SocketClosed(1)):
        assert exchange.handle(late, clock.now) == []
    assert run(exchange, clock, 2_000_000) == []


def test_a_subscribed_connection_that_ignores_pings_is_closed_after_120_s() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    exchange.handle(FrameReceived(1, request("SUBSCRIBE", "trade.SOL_USDC")), clock.now)
    found = pings_and_ends(exchange, clock, 400_000_000, answer=False)
    assert [type(output) for _, output in found] == [PingSocket, PingSocket, CloseConnection]
    assert found[2][0] - found[0][0] == 120
    assert found[2][1] == CloseConnection(1, 1011)


def test_one_pong_in_time_is_enough() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    for _ in range(5):
        ping = next(output for output in run_to_ping(exchange, clock) if isinstance(output, PingSocket))
        clock.advance(59_000_000)
        exchange.handle(SocketPonged(1, ping.payload), clock.now)


def run_to_ping(exchange: Exchange, clock: FakeClock) -> list[ExchangeOutput]:
    outputs: list[ExchangeOutput] = []
    while not any(isinstance(output, PingSocket | CloseConnection) for output in outputs):
        outputs = exchange.handle(TimerFired(), clock.advance_to(exchange.deadline))
    return outputs


def test_what_was_missed_does_not_all_happen_at_once() -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    exchange.handle(SocketOpened(1), clock.now)
    streams = ("depth.BTC_USDC", "ticker.BTC_USDC", "depth.200ms.BTC_USDC")
    exchange.handle(FrameReceived(1, request("SUBSCRIBE", *streams)), clock.now)
    run(exchange, clock, 3_000_000)
    last = exchange.levels("BTC_USDC")[2]
    outputs = exchange.handle(TimerFired(), clock.advance(3_600_000_000))
    frames = [json.loads(output.data) for output in outputs if isinstance(output, SendFrame)]
    deltas = [frame["data"] for frame in frames if frame["stream"] == "depth.BTC_USDC"]
    assert 0 < len(deltas) < 300
    assert [delta["U"] for delta in deltas] == list(range(last + 1, last + 1 + len(deltas)))
    assert all(0 <= clock.unix_us - delta["T"] <= 1_000_000 for delta in deltas)
    assert sum(frame["stream"] == "ticker.BTC_USDC" for frame in frames) == 1
    deadline = exchange.deadline
    assert deadline is not None
    assert clock.mono_us < deadline <= clock.mono_us + 1_000_000


def test_no_speed_can_hang_it() -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=1000.0)
    exchange.handle(SocketOpened(1), clock.now)
    before = sum(exchange.levels(symbol)[2] for symbol in exchange.symbols)
    exchange.handle(TimerFired(), clock.advance(1_000_000))
    after = sum(exchange.levels(symbol)[2] for symbol in exchange.symbols)
    assert 2_000 <= after - before <= 2_000 + len(exchange.symbols)
    deadline = exchange.deadline
    assert deadline is not None
    assert deadline > clock.mono_us


def test_engine_time_stays_when_the_wall_clock_jumps_back() -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    exchange.handle(SocketOpened(1), clock.now)
    exchange.handle(FrameReceived(1, request("SUBSCRIBE", "depth.SOL_USDC")), clock.now)
    run(exchange, clock, 1_000_000)
    before = clock.unix_us
    clock.unix_us -= 5_000_000
    times = [json.loads(o.data)["data"]["T"] for o in run(exchange, clock, 4_000_000) if isinstance(o, SendFrame)]
    assert set(times) <= set(range(before - 200_000, before + 1))
    assert times == sorted(times)


def test_a_request_sees_everything_up_to_its_moment() -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    exchange.handle(SocketOpened(1), clock.now)
    last = exchange.levels("SOL_USDC")[2]
    answer = exchange.handle(RequestReceived(9, "GET", "/api/v1/depth?symbol=SOL_USDC"), clock.advance(2_000_000))[-1]
    assert isinstance(answer, Respond)
    body = json.loads(answer.body)
    assert int(body["lastUpdateId"]) > last
    assert body["timestamp"] == clock.unix_us


GARBAGE: st.SearchStrategy[ExchangeInput] = st.one_of(
    st.builds(FrameReceived, st.integers(0, 2), st.binary(max_size=200)),
    st.builds(
        FrameReceived,
        st.just(1),
        st.fixed_dictionaries(
            {
                "method": st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE"]) | st.text(),
                "params": st.lists(st.text() | st.sampled_from(sorted(existing_streams(LISTINGS))), max_size=4),
            },
            optional={"signature": st.lists(st.text(), max_size=5), "id": st.integers()},
        ).map(lambda frame: json.dumps(frame).encode()),
    ),
    st.builds(SocketPonged, st.integers(0, 2), st.binary(max_size=125)),
    st.builds(RequestReceived, st.integers(), st.text(), st.text(), st.just(()), st.binary()),
    st.builds(SocketClosed, st.integers(2, 5)),
)


@examples(15)
@given(st.lists(st.tuples(GARBAGE, st.integers(0, 30_000_000)), max_size=40))
def test_garbage_raises_nothing(steps: list[tuple[ExchangeInput, int]]) -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    for given_, gap_us in steps:
        for output in exchange.handle(given_, clock.advance(gap_us)):
            if isinstance(output, SendFrame):
                json.loads(output.data)


def test_a_day_without_a_trade_has_no_ticker() -> None:
    clock = FakeClock()
    exchange = still_exchange(clock)
    exchange.handle(FrameReceived(1, request("SUBSCRIBE", "ticker.SOL_USDC")), clock.now)
    assert streams_of(run(exchange, clock, 1_000_000)) == {"ticker.SOL_USDC"}
    exchange.handle(TimerFired(), clock.advance(90_000_000_000))
    exchange.handle(SocketOpened(2), clock.now)
    exchange.handle(FrameReceived(2, request("SUBSCRIBE", "ticker.SOL_USDC")), clock.now)
    assert streams_of(run(exchange, clock, 1_000_000), 2) == set()
    answer = exchange.handle(RequestReceived(9, "GET", "/api/v1/ticker?symbol=SOL_USDC"), clock.now)[-1]
    assert answer == Respond(9, 204, "", b"")
