"""Data of streams that no channel is for: they reach the user as they came, and nothing is concluded from them but that data come."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.exchange import Exchange
from backpack_proto.inputs import Connected, Open, Subscribe, TextReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Event, Output, StreamLive
from backpack_proto.session import Session
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import BookTicker, Ticker
from backpack_proto.streams.unknown import UnknownPayload, emission_of
from backpack_proto.testing.simulation import Simulation
from payload_table import frame_of

STREAM = "newKind.SOL_USDC"
START = Now(1_000_000_000, 1_795_012_345_000_000)


def frame(data: object, stream: str = STREAM) -> bytes:
    return json.dumps({"data": data, "stream": stream}).encode()


def renamed(data: bytes) -> bytes:
    """A frame of a known kind, as if it came on the unknown stream."""
    return json.dumps(json.loads(data) | {"stream": STREAM}).encode()


def listening(*streams: str, canary: bool = False) -> Session:
    session = Session(Random(1), canary=canary)
    for given in (Open(), Connected(), Subscribe(streams, untyped=(STREAM,))):
        session.handle(given, START)
    return session


def events(outputs: list[Output] | Any) -> list[Event]:
    return [output for output in outputs if isinstance(output, Event) and not isinstance(output, StreamLive)]


def test_the_data_are_read_as_python_values_with_all_their_digits() -> None:
    text = '{"data":{"a":1.10,"b":[3,"x",null,true],"c":123456789012345678901234567890.12},"stream":"newKind.SOL_USDC"}'
    payload = UnknownPayload(stream=STREAM, text=text)
    assert payload.data() == {
        "a": Decimal("1.10"),
        "b": [3, "x", None, True],
        "c": Decimal("123456789012345678901234567890.12"),
    }
    assert str(payload.data()["a"]) == "1.10"


@pytest.mark.parametrize("number", ["1e999999", "-1e400"])
def test_an_absurd_number_is_refused(number: str) -> None:
    payload = UnknownPayload(stream=STREAM, text=f'{{"data":{{"a":{number}}},"stream":"{STREAM}"}}')
    with pytest.raises(RemoteProtocolError, match=r"^newKind\.SOL_USDC: "):
        payload.data()


@pytest.mark.parametrize(
    ("data", "emitted_us"),
    [
        ({"E": 1_795_012_345_310_482}, 1_795_012_345_310_482),
        ({"E": "1795012345310482"}, 1_795_012_345_310_482),
        ({"E": 1_795_012_345_310}, None),
        ({"E": 1_795_012_345_310_482_000}, None),
        ({"E": "soon"}, None),
        ({"E": None}, None),
        ({"e": "newKind"}, None),
        ([1, 2], None),
        ("text", None),
        (None, None),
    ],
)
def test_a_time_of_emission_is_in_microseconds_or_is_none(data: object, emitted_us: int | None) -> None:
    assert emission_of(frame(data)) == emitted_us


@pytest.mark.parametrize("data", [{}, {"e": "newKind"}, [1, 2], "text", 7, {"e": "depth"}, {"e": "kline", "s": "SOL_USDC"}])
def test_data_of_any_form_are_handed_on(data: object) -> None:
    (event,) = events(listening().handle(TextReceived(frame(data), 5), START))
    assert event == UnknownPayload(stream=STREAM, text=frame(data).decode(), received_us=5)
    assert isinstance(event, UnknownPayload)
    assert event.data() == data


KNOWN = ("bookTicker.SOL_USDC", "ticker.SOL_USDC")


def known_at(now: Now) -> list[TextReceived]:
    """A frame of each known stream, emitted 20 ms ago."""
    frames = [json.loads(frame_of(stream.partition(".")[0], stream)) for stream in KNOWN]
    return [TextReceived(json.dumps(one | {"data": one["data"] | {"E": now.unix_us - 20_000}}).encode()) for one in frames]


def later(seconds: int) -> Now:
    return Now(START.mono_us + seconds * 1_000_000, START.unix_us + seconds * 1_000_000)


def proved(now: Now = START) -> Session:
    """A session whose path is proved: two streams agree about the clock of the exchange."""
    session = listening(*KNOWN, canary=True)
    for given in known_at(now) * 2:
        session.handle(given, now)
    assert not path_doubts(session, now)
    return session


def path_doubts(session: Session, now: Now) -> list[str]:
    return [reason for reason in session.health(now).reasons if reason.startswith(("data are", "no data"))]


@pytest.mark.parametrize("event", ["ticker", "depth", "bookTicker", "kline", "orderFill", "stockPrice"])
def test_data_that_look_like_a_known_kind_are_not_taken_for_it(event: str) -> None:
    """What they mean on such a stream is not known. A book must not be compared with them."""
    session = proved()
    alike = json.loads(renamed(frame_of(event)))
    given = TextReceived(json.dumps(alike | {"data": alike["data"] | {"E": START.unix_us - 20_000}}).encode())
    # Several, for the short way of plain frames begins with the second one.
    received = events(session.handle_all([given] * 5, START))
    assert [type(one) for one in received] == [UnknownPayload] * 5
    assert {type(one) for one in events(session.handle_all(known_at(START), START))} == {BookTicker, Ticker}


def test_a_stream_whose_name_begins_like_that_of_positions_is_another_one() -> None:
    """Positions come without an `e` at first (docs/protocol.md 4.11)."""
    stream = "account.positionUpdateV2"
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)), canary=False)
    for given in (Open(), Connected(), Subscribe(("account.positionUpdate",), untyped=(stream,))):
        session.handle(given, START)
    unmarked: tuple[object, ...] = ([], [{}], {"s": "SOL_USDC_PERP"})
    for data in unmarked:
        assert events(session.handle(TextReceived(frame(data, "account.positionUpdate")), START))[1:] == []
        assert [type(event) for event in events(session.handle(TextReceived(frame(data, stream)), START))] == [UnknownPayload]


def test_data_of_a_stream_that_nobody_wants_are_dropped() -> None:
    (event,) = events(listening().handle(TextReceived(frame({}, "other.SOL_USDC")), START))
    assert isinstance(event, FrameDropped)


def test_a_frame_with_a_time_proves_the_path() -> None:
    session = proved()
    session.handle(TextReceived(frame({"E": later(4).unix_us - 20_000})), later(4))
    assert path_doubts(session, later(6)) == []
    without = proved()
    without.handle(TextReceived(frame({"e": "newKind"})), later(4))
    assert path_doubts(without, later(6)) != []


@pytest.mark.parametrize("emitted_us", [1_795_012_344_000, 1_600_000_000_000_000, START.unix_us - 5_000_000, -1, 10**18])
def test_a_time_of_another_meaning_makes_nothing_late(emitted_us: int) -> None:
    session = proved()
    session.handle(TextReceived(frame({"E": emitted_us})), START)
    assert path_doubts(session, START) == []


def test_the_simulated_exchange_has_a_stream_that_no_client_knows() -> None:
    session = Session(Random(1))
    simulation = Simulation(session, Exchange(seed=1, unix_us=START.unix_us), START)
    simulation.give(Open(), Subscribe(("bookTicker.SOL_USDC",), untyped=("preview.SOL_USDC",)))
    simulation.run(5_000_000)
    seen = [event for event in simulation.events if isinstance(event, UnknownPayload)]
    assert len(seen) >= 3
    assert all(event.emitted_us is not None for event in seen)
    data = seen[-1].data()
    assert (data["e"], data["s"]) == ("preview", "SOL_USDC")
    assert isinstance(data["bid"], Decimal | int)
    assert any(isinstance(event, BookTicker) for event in simulation.events)
