"""Recordings: what is written, that it gives the same events again, and what is left of one that was cut."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import re
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import backpack_runtime.cli.replay as replaying
import backpack_runtime.recording.writer as writing
from backpack_proto import inputs as of_sessions
from backpack_proto.account.values import Filled
from backpack_proto.errors import BackpackError, ConfigurationError, LocalProtocolError
from backpack_proto.http import Argument
from backpack_proto.inputs import (
    BytesReceived,
    Call,
    Close,
    Connected,
    ConnectFailed,
    Disconnected,
    FollowAccount,
    Given,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    Reconnect,
    RefreshBook,
    RequestFailed,
    RequestLeft,
    Resolve,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Unsubscribe,
    Verify,
    Withdraw,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import BookChanged, BookSynced, CallAnswered, ConnectionUp
from backpack_proto.rest.endpoints.table import ENDPOINTS, find_endpoint
from backpack_proto.rest.results.account import DepositAddress
from backpack_proto.streams.payloads import Depth, Event, Trade
from backpack_proto.testing.faults import Episode
from backpack_proto.testing.strategies import fault_schedules
from backpack_proto.values import REDACTED
from backpack_runtime.cli.parser import main
from backpack_runtime.network.proxy import ProxyAuthFailed
from backpack_runtime.recording.errors import RecordingFailed, RecordingUnreadable, ReplayDiffers
from backpack_runtime.recording.format import RandomState, decode_input, encode_batch, read_row
from backpack_runtime.recording.parts import compress_part, part_path
from backpack_runtime.recording.reader import open_recording
from backpack_runtime.recording.recorder import Recorder
from backpack_runtime.recording.redaction import SECRET_NAMES, redacted_body
from backpack_runtime.recording.summary import summarize
from hypothesis_profiles import examples
from recorded_sessions import START, WITHDRAWAL, RecordedClient, record_account, simulated

NOW = Now(5, 1_790_000_000_000_000)
ORDER: dict[str, Argument] = {
    "symbol": "SOL_USDC",
    "side": "Bid",
    "order_type": "Limit",
    "price": Decimal("1E+2"),
    "quantity": "1.50",
    "postOnly": True,
    "clientId": 7,
}
INPUTS: tuple[Given, ...] = (
    BytesReceived(7),
    Call(call_id=1, endpoint="place_order", parameters=ORDER),
    Call(call_id=2, endpoint="place_orders", parameters={"orders": [ORDER, ORDER]}, max_wait_us=9),
    Close(),
    Connected(),
    ConnectFailed("no way", "socks5://h:1", ProxyAuthFailed("socks5://h:1", "wants others"), 3),
    Disconnected(1006, "gone"),
    FollowAccount(),
    Open(),
    PingReceived(b"\xff\x00"),
    PongReceived(b"1"),
    ReadingPaused(),
    ReadingResumed(),
    Reconnect(),
    RefreshBook("depth.SOL_USDC"),
    RequestFailed(request_id=4, reason="reset", sent=False, error=BackpackError("reset")),
    RequestLeft(4),
    Resolve(2),
    ResponseReceived(request_id=4, status=200, body=b'{"a" : 1.50}', headers=(("x-total", "3"),)),
    ResponseReceived(request_id=5, status=500, body=b"\xff\xfe", retry_after_us=1),
    Subscribe(("trade.SOL_USDC",), ("depth.SOL_USDC",), ("new.SOL_USDC",)),
    TextReceived(b'{"a":"\xc3\xa4\\u0041\\n"}\r\n'),
    TextReceived(b"\xff", 77),
    TimerFired(),
    Unsubscribe(("trade.SOL_USDC",)),
    Verify("depth.SOL_USDC"),
    Withdraw(2),
)


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def replayed(path: Path, *, verify: bool = True) -> list[Event]:
    with open_recording(path, verify=verify) as recording:
        return [event for _, event in recording.events()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder, list[Event]]:
    path = tmp_path_factory.mktemp("recorded") / "session.jsonl"
    recorder, simulation = anyio.run(record_account, path)
    return path, recorder, simulation.events


# ---- the lines


def test_every_input_has_a_row_here() -> None:
    kinds = {getattr(of_sessions, name) for name in of_sessions.__all__}
    assert {type(one) for one in INPUTS} == {
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, of_sessions.Command | of_sessions.Fact)
    } - {of_sessions.Command, of_sessions.Fact}


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: type(one).__name__)
def test_an_input_is_read_back_equal(one: Given) -> None:
    row = read_row(encode_batch([one, TextReceived(b"x")], NOW, "abc"))
    assert (row.mono_us, row.unix_us, row.digest) == (*NOW, "abc")
    assert row.inputs is not None
    back, frame = map(decode_input, row.inputs)
    assert frame == TextReceived(b"x")
    if isinstance(one, Call):
        assert isinstance(back, Call)
        assert (back.call_id, back.endpoint, back.max_wait_us) == (one.call_id, one.endpoint, one.max_wait_us)
        check = find_endpoint(one.endpoint).check
        assert check(back.parameters) == check(one.parameters), "the same stands on the wire"
    else:
        assert back == one


@given(st.binary(max_size=60))
@examples(50)
def test_a_frame_is_kept_byte_for_byte(data: bytes) -> None:
    row = read_row(encode_batch([TextReceived(data)], NOW, None))
    assert row.inputs is not None
    assert decode_input(row.inputs[0]) == TextReceived(data)


def test_a_generator_goes_on_where_it_was() -> None:
    random = Random(7)
    random.gauss(0, 1)
    state = msgspec.json.decode(msgspec.json.encode(RandomState.of(random)), type=RandomState)
    assert [state.random().random() for _ in range(2)] == [RandomState.of(random).random().random()] * 2
    assert state.random().getstate() == random.getstate()


# ---- secrets


def test_every_parameter_that_may_be_secret_is_redacted() -> None:
    secret = {rule.name for endpoint in ENDPOINTS.values() for rule in endpoint.parameters if rule.secret}
    assert secret
    assert secret <= set(SECRET_NAMES)


def test_the_body_of_a_signed_answer_loses_its_secrets_and_nothing_else() -> None:
    body = (
        b'{"toAddress":"a\\"b", "quantity" : 1.50,\n"rows":[{"two_factor_token":123456,"id":7,"Address": "x"}],"\\u0061":"y"}'
    )
    redacted = f'"{REDACTED}"'.encode()
    assert redacted_body(body) == (
        b'{"toAddress":' + redacted + b', "quantity" : 1.50,\n"rows":[{"two_factor_token":' + redacted
        + b',"id":7,"Address": ' + redacted + b'}],"\\u0061":' + redacted + b"}"
    )  # fmt: skip


def test_no_secret_of_a_private_session_is_in_its_recording(recorded: tuple[Path, Recorder, list[Event]]) -> None:
    path, _, events = recorded
    data = path.read_bytes()
    addresses = {
        event.result.address for event in events if isinstance(event, CallAnswered) and isinstance(event.result, DepositAddress)
    }
    assert addresses, "the address was answered"
    for secret in (WITHDRAWAL["address"], WITHDRAWAL["twoFactorToken"], *addresses, "X-Signature"):
        assert secret.encode() not in data
    assert b'"place_order"' in data
    header = json.loads(data.splitlines()[0])
    assert header["redacted"] == list(SECRET_NAMES)


def test_a_refused_command_is_written_without_its_members(tmp_path: Path) -> None:
    client = RecordedClient()

    async def record() -> None:
        async with Recorder(client, tmp_path / "a"):
            wrong = Call(call_id=1, endpoint="withdraw", parameters={"address": 1.5, "privateKey": "canary-key"})  # type: ignore[dict-item]
            with pytest.raises(LocalProtocolError):
                client.session.handle(wrong, START)
            client.session.handle(Open(), START)

    anyio.run(record)
    assert b"canary-key" not in (tmp_path / "a").read_bytes()
    assert b'"refused":{"type":"Call","error":"' in (tmp_path / "a").read_bytes()
    with open_recording(tmp_path / "a", verify=True) as recording:
        assert len(list(recording.steps())) == 1
        assert recording.refused == 1


# ---- the same events


def test_a_replay_gives_the_events_of_the_session(recorded: tuple[Path, Recorder, list[Event]]) -> None:
    path, recorder, events = recorded
    assert sum(isinstance(event, ConnectionUp) for event in events) == 4
    assert any(isinstance(event, Filled) or "Order" in type(event).__name__ for event in events)
    assert any(isinstance(event, BookSynced) for event in events)
    with open_recording(path, verify=True) as recording:
        back = [event for _, event in recording.events()]
        assert names(back) == names(events)
        different = [(one, other) for one, other in zip(back, events, strict=True) if one != other]
        assert {type(one) for one, _ in different} <= {CallAnswered}, "answers are without their secrets"
        assert recording.digest == recorder.digest
        assert (recording.batches, recording.event_count) == (recorder.batches, recorder.events)
        assert recording.end == "stopped"
        assert not recording.torn
        assert recording.header is not None
        assert recording.header.symbols == ("SOL_USDC",)
        book = recording.book("SOL_USDC")
    live = next(event for event in reversed(events) if isinstance(event, BookChanged))
    assert book.bids(3) == live.bids


@given(fault_schedules(duration_ms=8_000, max_episodes=4))
@examples(10)
def test_whatever_goes_wrong_replays_to_the_same_events(
    tmp_path_factory: pytest.TempPathFactory, faults: tuple[Episode, ...]
) -> None:
    path = tmp_path_factory.mktemp("faults") / "a"
    client = RecordedClient()
    simulation = simulated(client, faults)

    async def record() -> None:
        async with Recorder(client, path, rotate_bytes=50_000):
            simulation.give(Open(), FollowAccount(), Subscribe(("trade.SOL_USDC",), ("depth.SOL_USDC",)))
            simulation.run(10_000_000)

    anyio.run(record)
    assert replayed(path) == simulation.events


def test_another_event_is_found_where_it_is(recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path) -> None:
    lines = recorded[0].read_bytes().splitlines(keepends=True)
    number = next(at for at, line in enumerate(lines) if b'\\"e\\":\\"trade\\"' in line and at > 20)
    lines[number] = lines[number].replace(b'\\"m\\":true', b'\\"m\\":0').replace(b'\\"m\\":false', b'\\"m\\":true')
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(lines))
    with pytest.raises(ReplayDiffers, match=rf"other.jsonl, line {number + 1}, .*differs here for the first time"):
        replayed(other)
    assert len(replayed(other, verify=False)) > 100


def test_an_end_with_another_digest_is_found(recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path) -> None:
    path, recorder, _ = recorded
    other = tmp_path / "other.jsonl"
    other.write_bytes(path.read_bytes().replace(recorder.digest.encode(), b"0" * 64))
    with pytest.raises(ReplayDiffers, match="the end: the digest of all events is 0000"):
        replayed(other)


def test_a_recording_is_read_once_and_inside_its_block(recorded: tuple[Path, Recorder, list[Event]]) -> None:
    recording = open_recording(recorded[0])
    with pytest.raises(LocalProtocolError, match="inside"):
        list(recording.events())
    with recording:
        assert list(recording)
        with pytest.raises(LocalProtocolError, match="open it again"):
            recording.steps()


# ---- attaching


def test_a_client_that_was_entered_is_not_recorded(tmp_path: Path) -> None:
    client = RecordedClient()
    client.session.handle(Open(), START)

    async def attach() -> None:
        async with Recorder(client, tmp_path / "a"):
            pass

    with pytest.raises(LocalProtocolError, match="attach the recorder before"):
        anyio.run(attach)
    assert list(tmp_path.iterdir()) == []


def test_a_client_has_one_recorder_and_a_recorder_one_file(tmp_path: Path) -> None:
    client = RecordedClient()

    async def attach() -> None:
        async with Recorder(client, tmp_path / "a") as recorder:
            with pytest.raises(LocalProtocolError, match="another recorder"):
                async with Recorder(client, tmp_path / "b"):
                    pass
        with pytest.raises(LocalProtocolError, match="entered before"):
            await recorder.__aenter__()

    anyio.run(attach)
    for name in ("a", "c"):
        part_path(tmp_path / "c", 1).touch()

        async def again(name: str = name) -> None:
            async with Recorder(RecordedClient(), tmp_path / name):
                pass

        with pytest.raises(ConfigurationError, match="exists already"):
            anyio.run(again)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"path": 5}, "path: the path of a file"),
        ({"rotate_bytes": 0}, "rotate_bytes: a whole number of bytes, at least 1, got 0"),
        ({"rotate_s": 0}, "rotate_s: seconds, more than 0, got 0"),
        ({"level": 23}, "level: a whole number, from 1 to 22, got 23"),
        ({"client": None}, "client: a BackpackClient, got NoneType"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    usual: dict[str, Any] = {"client": RecordedClient(), "path": "a"}
    with pytest.raises(ConfigurationError, match=complaint):
        Recorder(**(usual | arguments))


def test_a_recorder_that_is_left_earlier_records_until_then(tmp_path: Path) -> None:
    client = RecordedClient()

    async def record() -> None:
        async with Recorder(client, tmp_path / "a"):
            client.session.handle(Open(), START)
        client.session.handle(Connected(), START)

    anyio.run(record)
    with open_recording(tmp_path / "a", verify=True) as recording:
        assert len(list(recording.steps())) == 1
        assert recording.end == "stopped"


# ---- parts


def test_parts_are_compressed_and_read_in_order(tmp_path: Path, recorded: tuple[Path, Recorder, list[Event]]) -> None:
    path = tmp_path / "session.jsonl"
    recorder, _ = anyio.run(lambda: record_account(path, rotate_bytes=100_000))
    assert recorder.parts > 3
    assert {part.name for part in tmp_path.iterdir()} == {
        path.name,
        *(f"{path.name}.{number:06}.zst" for number in range(1, recorder.parts)),
    }
    assert recorder.digest == recorded[1].digest
    assert names(replayed(path)) == names(recorded[2])
    # Compressed and not yet removed, as after a kill between the two. And half compressed.
    first = part_path(path, 1)
    first.write_bytes(zstandard.decompress((tmp_path / f"{first.name}.zst").read_bytes(), max_output_size=1 << 24))
    (tmp_path / f"{path.name}.000002.zst.tmp").write_bytes(b"half")
    assert names(replayed(path)) == names(recorded[2])
    (tmp_path / f"{first.name}.zst").unlink()
    assert names(replayed(path)) == names(recorded[2])
    # Finished, and the next one not yet made.
    last = part_path(path, recorder.parts)
    path.rename(last)
    assert names(replayed(path)) == names(recorded[2])
    compress_part(last, 3)
    assert names(replayed(path)) == names(recorded[2])
    (tmp_path / f"{path.name}.000002.zst").unlink()
    with pytest.raises(RecordingUnreadable, match="part 2 is missing"):
        replayed(path)
    (tmp_path / f"{path.name}.000003.zst").rename(tmp_path / f"{path.name}.000002.zst")
    with pytest.raises(RecordingUnreadable, match=r"part 3 is missing|a part is missing"):
        replayed(path)
    with pytest.raises(RecordingUnreadable, match="give the file without the number of a part"):
        replayed(tmp_path / f"{path.name}.000004.zst")


def test_a_part_of_another_recording_is_refused(tmp_path: Path) -> None:
    for name, rotate_bytes in (("a", 100_000), ("b", 130_000)):
        path, size = tmp_path / name, rotate_bytes
        anyio.run(lambda path=path, size=size: record_account(path, rotate_bytes=size))  # type: ignore[misc]
    (tmp_path / "b.000002.zst").replace(tmp_path / "a.000002.zst")
    with pytest.raises(RecordingUnreadable, match="a part is missing, or of another recording"):
        replayed(tmp_path / "a", verify=False)


def test_a_part_ends_by_time(tmp_path: Path) -> None:
    client = RecordedClient()

    async def record() -> None:
        async with Recorder(client, tmp_path / "a", rotate_s=3_600.0) as recorder:
            recorder._part_from_us = 0
            client.session.handle(Open(), Now(10, 10))
            assert recorder.parts == 1
            client.session.handle(Connected(), Now(3_600_000_000, 20))
            assert recorder.parts == 2

    anyio.run(record)
    assert len(replayed(tmp_path / "a")) == 1


# ---- what is left


@given(st.data())
@examples(30)
def test_a_recording_cut_at_any_byte_reads_back_a_prefix(
    recorded: tuple[Path, Recorder, list[Event]], data: st.DataObject
) -> None:
    path, _, events = recorded
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    at = data.draw(
        st.one_of(st.integers(begin, len(whole)), st.integers(begin, begin + 3_000), st.integers(len(whole) - 600, len(whole)))
    )
    cut = path.with_name("cut.jsonl")
    cut.write_bytes(whole[:at])
    with open_recording(cut, verify=True) as recording:
        back = [event for _, event in recording.events()]
        lines = whole[:at].split(b"\n")
        assert recording.torn == (lines[-1] != b"" and not _whole(lines[-1]))
        assert recording.batches == sum(b'"inputs"' in line and _whole(line) for line in lines)
    assert names(back) == names(events)[: len(back)]


def _whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def test_a_header_that_was_cut_is_not_taken_for_a_frame(recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(recorded[0].read_bytes()[:60])
    with pytest.raises(RecordingUnreadable, match="header"):
        replayed(tmp_path / "a")


@pytest.mark.parametrize(
    "garbage", [b"nonsense\n", b"{}\n", b"\x00\x00\n", b'{"mono_us":1,"unix_us":1,"inputs":[{"type":"Gossip"}]}\n']
)
def test_garbage_inside_is_named_and_not_skipped(
    recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path, garbage: bytes
) -> None:
    lines = recorded[0].read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join([*lines[:40], garbage, *lines[40:]]))
    with open_recording(tmp_path / "a", verify=True) as recording:
        with pytest.raises(RecordingUnreadable, match="a, line 41: "):
            list(recording.steps())
        assert recording.batches == 39


def test_a_later_version_of_the_format_is_refused(recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(recorded[0].read_bytes().replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(RecordingUnreadable, match="a recording of version 2, and this program reads version 1"):
        replayed(tmp_path / "a")


@pytest.mark.parametrize("refusal", ["a part of it", "nothing"])
def test_a_full_disk_is_said_once_and_tears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    client = RecordedClient()
    writes = 0

    class Disk:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, descriptor: int, data: bytes) -> int:
            nonlocal writes
            writes += 1
            if writes <= 3:
                return os.write(descriptor, data)
            if refusal == "nothing":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(writing, "os", Disk())

    async def record() -> Recorder:
        recorder = Recorder(client, tmp_path / "a")
        with pytest.raises(RecordingFailed, match=r"is the disk full|No space left"):
            async with recorder:
                for given_input in (Open(), Connected(), TimerFired(), TimerFired(), Reconnect()):
                    client.session.handle(given_input, START)
        return recorder

    with caplog.at_level(logging.ERROR):
        recorder = anyio.run(record)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["the recording has ended"]
    assert recorder.failure is not None
    assert (tmp_path / "a").read_bytes().endswith(b"\n")
    with open_recording(tmp_path / "a", verify=True) as recording:
        assert len(list(recording.steps())) == 2
        assert not recording.torn
        assert recording.end is None


def test_an_error_inside_the_session_ends_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = RecordedClient()

    async def record() -> None:
        async with Recorder(client, tmp_path / "a"):
            client.session.handle(Open(), START)
            monkeypatch.setattr(client.session, "_connected", None)
            monkeypatch.setattr(type(client.session), "_INPUTS", {})
            with pytest.raises(TypeError):
                client.session.handle(Connected(), START)

    with pytest.raises(RecordingFailed, match="interrupted by TypeError"):
        anyio.run(record)


def test_what_has_no_encoding_ends_the_recording_and_not_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = RecordedClient()

    def overflows(*_: object) -> None:
        raise OverflowError("an integer of more than 64 bits")

    async def record() -> None:
        async with Recorder(client, tmp_path / "a") as recorder:
            client.session.handle(Open(), START)
            monkeypatch.setattr(recorder._digest, "update", overflows)
            assert names([one for one in client.session.handle(Connected(), START) if isinstance(one, Event)]) == [
                "ConnectionUp"
            ]
            client.session.handle(TimerFired(), START)

    with pytest.raises(RecordingFailed, match="more than 64 bits"):
        anyio.run(record)
    assert replayed(tmp_path / "a") == []


# ---- figures


def test_the_figures_of_a_recording(recorded: tuple[Path, Recorder, list[Event]]) -> None:
    path, recorder, events = recorded
    with open_recording(path, verify=None) as recording:
        summary = summarize(recording)
    assert summary.verified is True
    assert summary.differs is None
    assert (summary.events, summary.batches) == (recorder.events, recorder.batches)
    assert (summary.connections, summary.connections_lost) == (4, 3)
    assert summary.streams["trade.SOL_USDC"].messages == sum(isinstance(event, Trade) for event in events)
    assert summary.parts == ((path.name, path.stat().st_size),)
    assert summary.engine_to_receipt_p50_us is not None
    assert 19 < summary.seconds < 21


def test_the_figures_of_a_recording_that_differs_say_so(recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path) -> None:
    lines = recorded[0].read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join([*lines[:50], *lines[51:]]))
    with open_recording(tmp_path / "a", verify=None) as recording:
        summary = summarize(recording)
    assert summary.verified is False
    assert "differs here for the first time" in str(summary.differs)


# ---- frames alone


FRAME = b'{"data":{"e":"depth","E":5,"T":4,"s":"SOL_USDC","U":1,"u":2,"b":[["1","2"]],"a":[]},"stream":"depth.200ms.SOL_USDC"}'
PLAIN = FRAME + b"\n\n" + FRAME + b"\n"
TIMES = {
    b"2026-09-22T10:00:01.5Z ": 1_790_071_201_500_000,
    b"2026-09-22 10:00:01,500 < ": 1_790_071_201_500_000,
    b"2026-09-22T12:00:01+02:00\t": 1_790_071_201_000_000,
    b"< [2026-09-22 10:00:01 UTC] ": 1_790_071_201_000_000,
    b"[10:00:01.5] ": None,
    b"1790071201.25,": 1_790_071_201_250_000,
    b"1790071201250 ": 1_790_071_201_250_000,
    b"1790071201250123;": 1_790_071_201_250_123,
    b"1790071201250123456: ": 1_790_071_201_250_123,
    b"< ": None,
}


@pytest.mark.parametrize(
    ("content", "torn"),
    [
        (PLAIN, False),
        (b"\xef\xbb\xbf" + PLAIN, False),
        (PLAIN.replace(b"\n", b"\r\n"), False),
        (PLAIN.strip(), False),
        (b"> {}\n< " + FRAME + b"\n> x\n<  " + FRAME, False),
        (b"[\n" + FRAME + b",\n" + FRAME + b"]\n", False),
        (b" [" + json.dumps(FRAME.decode()).encode() + b"," + FRAME + b"]", False),
        (gzip.compress(PLAIN), False),
        (gzip.compress(FRAME + b"\n") + gzip.compress(b"\xef\xbb\xbf"[:0] + FRAME), False),
        (zstandard.compress(b"\xef\xbb\xbf" + PLAIN), False),
        (zstandard.compress(FRAME + b"\n") + zstandard.compress(FRAME), False),
        (gzip.compress(PLAIN)[:-4], True),
    ],
)
def test_frames_alone_are_read_in_every_usual_form(tmp_path: Path, content: bytes, torn: bool) -> None:  # noqa: FBT001 - parametrised
    (tmp_path / "frames.txt").write_bytes(content)
    with open_recording(tmp_path / "frames.txt") as recording:
        events = [event for _, event in recording.events()]
        assert recording.header is None
        assert recording.frames == 2
        assert recording.torn is torn
    assert names(events) == ["StreamLive", "Depth", "Depth"]


@pytest.mark.parametrize(("before", "received_us"), TIMES.items())
def test_a_time_before_a_frame_is_when_it_was_received(tmp_path: Path, before: bytes, received_us: int | None) -> None:
    (tmp_path / "frames").write_bytes(b"\n".join([before + FRAME] * 2))
    with open_recording(tmp_path / "frames") as recording:
        depths = [event for _, event in recording.events() if isinstance(event, Depth)]
    assert [depth.received_us for depth in depths] == [received_us] * 2


def test_a_line_that_is_no_frame_is_one_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"hello {}\n2026-09-22\n[1,\n" + FRAME)
    assert names(replayed(tmp_path / "frames", verify=False)) == ["FrameDropped"] * 3 + ["StreamLive", "Depth"]


@given(st.binary(max_size=200))
@examples(50)
def test_no_content_of_a_file_is_too_strange(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "strange"
    path.write_bytes(content)
    try:
        with open_recording(path) as recording:
            list(recording.events())
    except RecordingUnreadable:
        assert content.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b'{"format":'))


def test_frames_alone_have_no_digest(tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(PLAIN)
    with pytest.raises(ConfigurationError, match="frames alone have no digest"):
        replayed(tmp_path / "frames")
    with open_recording(tmp_path / "frames", verify=None) as recording:
        summary = summarize(recording)
    assert (summary.verified, summary.has_header, summary.batches) == (None, False, 2)
    assert summary.engine_to_receipt_p50_us is None


# ---- the commands


def test_replay_verifies_and_says_so(
    recorded: tuple[Path, Recorder, list[Event]], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path, recorder, events = recorded
    assert main(["replay", str(path), "--verify"]) == 0
    out, err = capfdbinary.readouterr()
    assert err == b""
    summary = out.decode().partition("\n\n")[2]
    assert summary.startswith(f"{recorder.batches} reads, {len(events)} events, end: stopped, digest {recorder.digest}\n")
    assert main(["replay", str(path), "--json", "--verify"]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert len(lines) == len(events)
    assert any(json.loads(line)["event"] == "book_changed" for line in lines)
    (tmp_path / "a").write_bytes(path.read_bytes()[:-300])
    assert main(["replay", str(tmp_path / "a"), "--json", "--verify"]) == 0
    assert capfdbinary.readouterr().err == (
        b"backpack-feed: warning: the last line of the recording is cut off; what came before it was replayed\n"
    )
    cut = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join([*cut[:50], *cut[51:]]))
    assert main(["replay", str(tmp_path / "a"), "--verify"]) == 1
    assert b"differs here for the first time" in capfdbinary.readouterr().err
    (tmp_path / "a").write_bytes(PLAIN)
    assert main(["replay", str(tmp_path / "a"), "--verify"]) == 2


@pytest.mark.parametrize(("speed", "waited"), [("1", 20.0), ("4", 5.0), ("max", 0.0)])
def test_a_replay_takes_the_time_that_was_recorded(
    recorded: tuple[Path, Recorder, list[Event]], monkeypatch: pytest.MonkeyPatch, speed: str, waited: float
) -> None:
    class Clock:
        now = 5.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(replaying, "time", clock)
    assert main(["replay", str(recorded[0]), "--json", "--speed", speed]) == 0
    assert clock.now - 5.0 == pytest.approx(waited, abs=0.3)


def test_recording_info_is_written_for_people_and_for_programs(
    recorded: tuple[Path, Recorder, list[Event]], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path, recorder, _ = recorded
    assert main(["recording", "info", str(path)]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert "connections  4, lost 3\n" in text
    assert "digest       verified: the replay gives the recorded events\n" in text
    assert re.search(r"^ +\d+ +\d+\.\d  depth\.SOL_USDC$", text, re.MULTILINE)
    assert main(["recording", "info", str(path), "--json"]) == 0
    summary = json.loads(capfdbinary.readouterr().out)
    assert (summary["events"], summary["end"], summary["torn"]) == (recorder.events, "stopped", False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["record", "{}/new", "--faults", "gap"], "--faults is about a simulated exchange: give --sandbox as well"),
        (["record", "{}/new", "--key-file", "x"], "--key-file is for --account: give both"),
        (["record", "{}/new", "--sandbox", "--key-file", "x"], "leave out --key-file"),
        (["record", "{}/new", "--channels", "gossip"], "'gossip' is not a channel of the exchange"),
        (["record", "{}/there", "--sandbox"], "exists already"),
        (["record", "/nowhere/new", "--sandbox"], "cannot be made: No such file or directory"),
        (["recording", "info", "/nowhere/file"], "/nowhere/file: No such file"),
    ],
)
def test_what_cannot_be_recorded_or_read_costs_one_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").touch()
    assert main([argument.replace("{}", str(tmp_path)) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("backpack-feed: ")
    assert err.count("\n") == 1
    assert complaint in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", [Path("/nowhere/at-all"), Path("/")])
def test_a_file_that_cannot_be_opened_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file|Is a directory"):
        replayed(path, verify=False)
