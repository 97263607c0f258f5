"""Subscriptions against a model of the exchange, which takes note of what every frame asks for and never acknowledges."""

from __future__ import annotations

import json

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backpack_proto.connection.refusals import BLAME_US
from backpack_proto.connection.signals import ConnectionLost, DataSeen, InForce, Released, Requested
from backpack_proto.connection.signatures import Signature
from backpack_proto.connection.subscriptions import (
    CANARY_SILENCE_US,
    Subscriptions,
    SubscriptionsInput,
)
from backpack_proto.connection.wanted_stream import StreamState
from backpack_proto.inputs import Connected, Subscribe, TimerFired, Unsubscribe
from backpack_proto.machine import Now
from backpack_proto.outputs import ErrorReceived, SendText, StreamLive, StreamSilent, StreamsRefused
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import ErrorFrame
from backpack_proto.streams.names import parse_stream
from backpack_proto.testing.laws import FakeClock
from hypothesis_profiles import examples

SECOND = 1_000_000

PUBLIC = [f"{channel}.M{number}_USDC" for number in range(24) for channel in ("trade", "ticker", "depth.200ms", "openInterest")]
PRIVATE = [f"account.orderUpdate.M{number}_USDC" for number in range(60)]
UNIVERSE = [name for pair in zip(PUBLIC, PRIVATE, strict=False) for name in pair] + PUBLIC[60:]

few = st.lists(st.sampled_from(UNIVERSE), max_size=6).map(tuple)
many = st.tuples(st.integers(0, len(UNIVERSE)), st.integers(0, len(UNIVERSE))).map(lambda ends: tuple(UNIVERSE[slice(*ends)]))
names = few | many
gaps = st.integers(0, 200 * SECOND) | st.sampled_from([0, SECOND, 5 * SECOND, 10 * SECOND, 60 * SECOND])


def sign(now: Now) -> Signature:
    return Signature(("key", f"signed at {now.unix_us}", str(now.unix_us // 1000), "5000"), now.unix_us)


def is_canary(name: str) -> bool:
    return parse_stream(name).channel in {Channel.TICKER, Channel.MARK_PRICE}


class SubscriptionsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.subscriptions = Subscriptions(sign)
        self.connected = False
        self.wanted: dict[str, None] = {}
        self.on_the_wire: set[str] = set()
        self.since_us: dict[str, int] = {}
        """When each stream on the wire was requested or, once live, last heard."""
        self.live: set[str] = set()
        self.silent: set[str] = set()
        self.suspected: set[str] = set()

    def give(self, given: SubscriptionsInput) -> None:
        now = self.clock.now
        outputs = self.subscriptions.handle(given, now)
        requested: list[str] = []
        for out in outputs:
            match out:
                case SendText(text, signed):
                    requested += self.exchange_receives(text, signed=signed, now=now)
                case Requested(streams):
                    assert out is outputs[-1]
                    assert sorted(streams) == sorted(requested)
                    order = [*self.subscriptions.wanted]
                    assert [*streams] == [name for name in order if name in set(streams)]
                    requested = []
                case Released(streams):
                    assert isinstance(given, Unsubscribe)
                    assert out is outputs[-1]
                    assert set(streams) <= set(given.streams)
                case InForce(streams):
                    assert isinstance(given, DataSeen)
                    assert set(streams) <= self.on_the_wire
                case StreamLive(stream=name):
                    assert isinstance(given, DataSeen)
                    assert name == given.stream
                    assert name not in self.live or name in self.silent
                case StreamSilent(stream=name, silent_us=silent_us):
                    assert isinstance(given, TimerFired)
                    assert name in self.on_the_wire - self.silent
                    assert silent_us == now.mono_us - self.since_us[name]
                    assert silent_us >= self.limit_us(name)
                    self.silent.add(name)
                case StreamsRefused(suspects=suspects, code=code, authentication=authentication):
                    assert suspects
                    assert authentication == (code == 4003)
                    assert set(suspects) == self.suspects_of(code)
                    self.suspected |= set(suspects)
                case ErrorReceived(code=code):
                    assert not self.suspects_of(code)
                case _:
                    raise AssertionError(out)
        assert requested == [], "what is sent is told by Requested"

    def exchange_receives(self, text: str, *, signed: bool, now: Now) -> list[str]:
        assert self.connected
        frame = json.loads(text)
        assert text == json.dumps(frame, separators=(",", ":"))
        streams: list[str] = frame["params"]
        assert 1 <= len(streams) <= 50
        assert len(set(streams)) == len(streams)
        private = {parse_stream(name).private for name in streams}
        assert len(private) == 1, "public and private streams are never mixed"
        assert len({parse_stream(name).channel for name in streams}) == 1, "a frame is about one kind"
        assert signed == ("signature" in frame)
        if frame["method"] == "UNSUBSCRIBE":
            assert not signed
            assert self.on_the_wire >= set(streams)
            for name in streams:
                self.forget(name)
            return []
        assert frame["method"] == "SUBSCRIBE"
        assert private == {signed}
        assert not signed or tuple(frame["signature"]) == sign(now).parts, "signed at the moment of sending"
        assert not self.on_the_wire & set(streams)
        self.on_the_wire |= set(streams)
        self.since_us |= dict.fromkeys(streams, now.mono_us)
        return streams

    def forget(self, name: str) -> None:
        self.on_the_wire.discard(name)
        self.live.discard(name)
        self.silent.discard(name)
        self.suspected.discard(name)
        self.since_us.pop(name)

    def limit_us(self, name: str) -> float:
        if name in self.live:
            return CANARY_SILENCE_US if is_canary(name) else float("inf")
        return parse_stream(name).channel.traits.first_data_us or float("inf")

    def suspects_of(self, code: int) -> set[str]:
        now_us = self.clock.mono_us
        pending = {name for name in self.on_the_wire - self.live if now_us - self.since_us[name] < BLAME_US}
        if code == 4003:
            return pending & set(PRIVATE)
        if code == 4006:
            return pending & set(PUBLIC) or pending
        if code == 4008:
            return {name for name in pending if name.startswith("depth.200ms.")}
        return pending

    @initialize(streams=names)
    def start(self, streams: tuple[str, ...]) -> None:
        self.subscribe(streams)
        self.connect()

    @rule(streams=names)
    def subscribe(self, streams: tuple[str, ...]) -> None:
        self.wanted |= dict.fromkeys(streams)
        self.give(Subscribe(streams))

    @rule(streams=names)
    def unsubscribe(self, streams: tuple[str, ...]) -> None:
        for name in streams:
            self.wanted.pop(name, None)
        self.give(Unsubscribe(streams))

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.give(Connected())

    @precondition(lambda self: self.connected)
    @rule(reconnects=st.booleans(), after_us=st.integers(0, 100 * SECOND))
    def connection_ends(self, after_us: int, *, reconnects: bool) -> None:
        self.connected = False
        for name in [*self.on_the_wire]:
            self.forget(name)
        self.give(ConnectionLost())
        self.wait(after_us)
        if reconnects:
            self.connect()

    @precondition(lambda self: self.on_the_wire)
    @rule(
        which=st.tuples(st.integers(0, 3), st.integers(1, 5)).map(lambda ends: slice(ends[0], None, ends[1])),
        gaps_us=st.lists(gaps, min_size=1, max_size=3),
    )
    def exchange_sends(self, which: slice, gaps_us: list[int]) -> None:
        for gap_us in gaps_us:
            self.wait(gap_us)
            for name in sorted(self.on_the_wire)[which]:
                self.data(name)

    def data(self, name: str) -> None:
        if name in self.subscriptions.awaited:
            self.give(DataSeen(name))
            self.since_us[name] = self.clock.mono_us
            self.silent.discard(name)
            self.suspected.discard(name)
            self.live.add(name)
        else:
            assert name in self.live, "first data may not be missed"
            assert not is_canary(name)

    @precondition(lambda self: self.connected)
    @rule(code=st.sampled_from([4002, 4003, 4006, 4008]), after_us=gaps)
    def exchange_refuses(self, code: int, after_us: int) -> None:
        self.wait(after_us)
        suspects = self.suspects_of(code)
        if code == 4003 and suspects and suspects <= self.suspected:
            assert self.subscriptions.handle(ErrorFrame(code, "message"), self.clock.now) == [], "it was reported"
        else:
            self.give(ErrorFrame(code, "message"))

    @rule(us=gaps)
    def time_passes(self, us: int) -> None:
        self.wait(us)

    def wait(self, us: int) -> None:
        end_us = self.clock.mono_us + us
        while self.subscriptions.deadline is not None and self.subscriptions.deadline <= end_us:
            self.clock.advance_to(self.subscriptions.deadline)
            self.give(TimerFired())
        self.clock.advance_to(end_us)

    @invariant()
    def the_wire_carries_what_is_wanted(self) -> None:
        assert [*self.subscriptions.wanted] == [*self.wanted]
        assert self.on_the_wire == (set(self.wanted) if self.connected else set())

    @invariant()
    def states_say_what_was_seen(self) -> None:
        for name, state in self.subscriptions.states.items():
            if not self.connected:
                assert state is StreamState.WANTED
            elif name in self.live:
                assert state is StreamState.LIVE
            elif name in self.suspected:
                assert state is StreamState.REFUSED
            else:
                assert state is StreamState.REQUESTED

    @invariant()
    def silent_streams_are_known(self) -> None:
        assert set(self.subscriptions.silent) == self.silent

    @invariant()
    def awaited_is_what_matters(self) -> None:
        canaries = {name for name in self.on_the_wire if is_canary(name)}
        assert set(self.subscriptions.awaited) == (self.on_the_wire - self.live) | canaries

    @invariant()
    def no_silence_goes_unnoticed(self) -> None:
        now_us = self.clock.mono_us
        for name in self.on_the_wire - self.silent:
            assert now_us - self.since_us[name] < self.limit_us(name)


TestSubscriptions = SubscriptionsMachine.TestCase
TestSubscriptions.settings = examples(80, steps=30)
