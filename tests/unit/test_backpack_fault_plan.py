"""The plan of a misbehaving exchange: how it is read, when its faults come, and what each of them does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange import (
    FAULT_KINDS,
    LISTINGS,
    AbandonRequest,
    CloseConnection,
    Exchange,
    ExchangeOutput,
    FrameReceived,
    PlanFaults,
    PlannedFault,
    RefuseConnections,
    RequestReceived,
    Respond,
    SendFrame,
    SocketOpened,
    parse_faults,
)
from backpack_proto.exchange.fault_plan import FaultSchedule
from backpack_proto.inputs import TimerFired
from backpack_proto.testing.laws import FakeClock
from hypothesis_profiles import examples

SECOND = 1_000_000


def test_a_plan_is_names_with_moments_and_spans_in_seconds() -> None:
    assert parse_faults("gap, drop@12,mute@20-30.5") == (
        PlannedFault(name="gap"),
        PlannedFault(name="drop", start_us=12 * SECOND),
        PlannedFault(name="mute", start_us=20 * SECOND, end_us=30_500_000),
    )
    assert parse_faults("") == parse_faults("  ") == ()
    assert [planned.text for planned in parse_faults("429@0.25,late@1-2,gap")] == ["429@0.25", "late@1-2", "gap"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpa", "faults: one of gap, drop, restart, mute, late, refuse, 429, 503, 502, lost, slow, expired, got 'gpa'"),
        ("muted@3", "did you mean mute"),
        ("gap@x", r"NAME, NAME@T or NAME@T-U in seconds, NAME one of gap, .*; got 'gap@x'"),
        ("gap@-3", "NAME@T"),
        ("gap,,mute", "one of gap"),
        ("mute@9-3", "mute ends after it starts, got mute@9-3"),
        ("drop@3-9", "drop happens at one moment: leave out its end"),
        ("gap@9999999", "gap starts 0 to 1000000 seconds after"),
        (",".join(["gap"] * 1_001), "at most 1000 in one plan, got 1001"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        parse_faults(text)


def test_an_end_needs_a_start() -> None:
    with pytest.raises(LocalProtocolError, match="mute has an end and no start"):
        PlannedFault(name="mute", end_us=3)


@given(
    st.lists(
        st.sampled_from([name for name, kind in FAULT_KINDS.items() if kind.lasts_us]).flatmap(
            lambda name: st.tuples(st.just(name), st.none() | st.integers(0, 10**9), st.none() | st.integers(1, 10**9))
        )
    )
)
@examples(50)
def test_a_plan_reads_what_it_writes(entries: list[tuple[str, int | None, int | None]]) -> None:
    planned = tuple(
        PlannedFault(name=name, start_us=start, end_us=None if start is None or length is None else start + length)
        for name, start, length in entries
    )
    assert parse_faults(",".join(fault.text for fault in planned)) == planned


def test_faults_without_a_time_come_again_and_again_at_times_of_the_seed() -> None:
    def times(seed: str) -> list[tuple[str, int]]:
        schedule = FaultSchedule(seed)
        schedule.plan(parse_faults("mute,gap"), 0)
        while schedule.deadline is not None and schedule.deadline < 300 * SECOND:
            schedule.advance(schedule.deadline)
        return [(fired.name, fired.start_us) for fired in schedule.fired]

    assert times("a") == times("a") != times("b")
    assert {name for name, _ in times("a")} == {"mute", "gap"}
    starts = [start for name, start in times("a") if name == "mute"]
    assert len(starts) > 5
    assert 3 * SECOND <= starts[0] < 15 * SECOND
    assert all(18 * SECOND <= later - earlier < 38 * SECOND for earlier, later in itertools.pairwise(starts))


def test_what_was_slept_through_has_begun_and_ended() -> None:
    schedule = FaultSchedule("a")
    schedule.plan(parse_faults("mute@1-2,late@3-9"), 5 * SECOND)
    assert schedule.next_us() == (1 * SECOND, 3 * SECOND)
    assert schedule.advance(5 * SECOND) == ([], [])
    mute, late = schedule.planned
    assert schedule.advance(9 * SECOND) == ([mute, late], [mute])
    assert (schedule.active, schedule.next_us()) == ((late,), (None, None))
    assert schedule.advance(14 * SECOND) == ([], [late])
    assert schedule.deadline is None
    assert [(fired.name, fired.start_us, fired.end_us) for fired in schedule.fired] == [
        ("mute", 1 * SECOND, 2 * SECOND),
        ("late", 3 * SECOND, 9 * SECOND),
    ]


class Faulty:
    """An exchange with a plan, two listeners to one book, and what it sends, with the time."""

    def __init__(self, plan: str) -> None:
        self.clock = FakeClock()
        self.began_us = self.clock.mono_us
        self.exchange = Exchange(seed=3, unix_us=self.clock.unix_us, listings=LISTINGS[:1])
        self.sent: list[tuple[int, ExchangeOutput]] = []
        self.give(PlanFaults(parse_faults(plan)))
        for connection in (1, 2):
            self.listen(connection)

    def listen(self, connection: int) -> None:
        self.give(SocketOpened(connection))
        self.give(FrameReceived(connection, b'{"method":"SUBSCRIBE","params":["depth.SOL_USDC","trade.SOL_USDC"]}'))

    def give(self, given: object) -> list[ExchangeOutput]:
        outputs = self.exchange.handle(given, self.clock.now)  # type: ignore[arg-type]
        self.sent += [(self.clock.mono_us - self.began_us, output) for output in outputs]
        return outputs

    def run(self, until_s: float) -> None:
        until_us = self.began_us + round(until_s * 1e6)
        while (deadline := self.exchange.deadline) is not None and deadline <= until_us:
            self.clock.advance_to(deadline)
            self.give(TimerFired())
        self.clock.advance_to(until_us)

    def ask(self, path: str = "/api/v1/time") -> ExchangeOutput:
        (answer,) = (
            output for output in self.give(RequestReceived(7, "GET", path)) if isinstance(output, Respond | AbandonRequest)
        )
        return answer

    def gaps(self, connection: int) -> list[float]:
        """When a frame came of a connection before which another was missing, in seconds."""
        found: list[float] = []
        last = 0
        for at_us, output in self.sent:
            if isinstance(output, SendFrame) and output.connection == connection and b'"e":"depth"' in output.data:
                data = json.loads(output.data)["data"]
                if last and data["U"] != last + 1:
                    found.append(at_us / 1e6)
                last = data["u"]
        return found

    def frames(self, from_s: float, to_s: float) -> Sequence[SendFrame]:
        return [output for at_us, output in self.sent if isinstance(output, SendFrame) and from_s * 1e6 <= at_us < to_s * 1e6]


def test_a_gap_loses_one_depth_frame_of_every_connection() -> None:
    faulty = Faulty("gap@2")
    faulty.run(10)
    for connection in (1, 2):
        (at_s,) = faulty.gaps(connection)
        assert 2 <= at_s < 4


def test_a_gap_over_a_span_loses_all_depth_frames_and_nothing_else() -> None:
    faulty = Faulty("gap@2-6")
    faulty.run(10)
    lost = faulty.frames(2, 6)
    assert lost, "trades go on"
    assert not any(b'"e":"depth"' in frame.data for frame in lost)
    assert len(faulty.gaps(1)) == len(faulty.gaps(2)) == 1


def test_drop_cuts_every_websocket_without_a_word_and_restart_with_one() -> None:
    faulty = Faulty("drop@1,restart@3")
    faulty.run(2)
    faulty.listen(3)
    faulty.run(4)
    ends = [(at_us // SECOND, output) for at_us, output in faulty.sent if isinstance(output, CloseConnection)]
    assert ends == [(1, CloseConnection(1, None)), (1, CloseConnection(2, None)), (3, CloseConnection(3, 1001))]


def test_mute_says_nothing_and_answers_requests() -> None:
    faulty = Faulty("mute@2-5")
    faulty.run(3)
    assert isinstance(faulty.ask(), Respond)
    faulty.run(8)
    assert not faulty.frames(2, 5)
    assert faulty.frames(1, 2)
    assert faulty.frames(5, 6)
    assert len(faulty.gaps(1)) == 1, "what was not said is lost"


def test_late_delays_every_frame_and_loses_none() -> None:
    faulty = Faulty("late@2-12")
    faulty.run(20)
    assert not faulty.frames(2, 8)
    assert faulty.frames(8, 12)
    assert not faulty.gaps(1)
    emitted = [json.loads(frame.data)["data"]["E"] for frame in faulty.frames(8, 12) if frame.connection == 1]
    assert faulty.clock.unix_us - emitted[0] > (20 - 3) * SECOND
    # At the end all that waits comes at once.
    assert len(faulty.frames(12, 12.000_001)) > 20


def test_a_connection_that_ends_takes_its_late_frames_along() -> None:
    faulty = Faulty("late@1-9,drop@3")
    faulty.run(12)
    assert not faulty.frames(1, 12)


def test_refuse_cuts_everybody_off_for_a_while() -> None:
    faulty = Faulty("refuse@2-6")
    faulty.run(10)
    told = [
        (at_us // SECOND, output) for at_us, output in faulty.sent if isinstance(output, RefuseConnections | CloseConnection)
    ]
    assert told == [
        (2, CloseConnection(1, None)),
        (2, CloseConnection(2, None)),
        (2, RefuseConnections(refuse=True)),
        (6, RefuseConnections(refuse=False)),
    ]


@pytest.mark.parametrize(("name", "status"), [("429", 429), ("503", 503), ("502", 502), ("slow", 200), ("expired", 200)])
def test_requests_go_wrong_as_long_as_it_holds(name: str, status: int) -> None:
    faulty = Faulty(f"{name}@2-4")
    assert getattr(faulty.ask(), "status", None) == 200
    faulty.run(3)
    if name == "slow":
        assert not [output for output in faulty.give(RequestReceived(7, "GET", "/api/v1/time")) if isinstance(output, Respond)]
        faulty.run(6)
        assert any(isinstance(output, Respond) for at_us, output in faulty.sent if at_us == 5 * SECOND)
    else:
        assert getattr(faulty.ask(), "status", None) == status
    faulty.run(6)
    assert getattr(faulty.ask(), "status", None) == 200


def test_an_answer_that_is_lost_drops_its_connection() -> None:
    faulty = Faulty("lost@0-2")
    assert faulty.ask() == AbandonRequest(7)
    faulty.run(2)
    assert isinstance(faulty.ask(), Respond)


def test_another_plan_ends_what_holds() -> None:
    faulty = Faulty("refuse@1-99,429@1-99,late@1-99")
    faulty.run(3)
    outputs = faulty.give(PlanFaults(()))
    assert RefuseConnections(refuse=False) in outputs
    assert getattr(faulty.ask(), "status", None) == 200
    assert faulty.exchange.disturbances.schedule.planned == ()


def test_the_same_plan_and_seed_send_the_same() -> None:
    plan = "gap,mute,late,drop@9"
    one, other = Faulty(plan), Faulty(plan)
    for faulty in (one, other):
        faulty.run(40)
    assert one.sent == other.sent
