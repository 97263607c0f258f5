"""Clients that are recorded over real sockets, and the recordings replayed, here and by other interpreters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.inputs import RefreshBook
from backpack_proto.outputs import ConnectionUp
from backpack_proto.streams.payloads import Event
from backpack_runtime import BackpackClient, Recorder, Recovered, Settings, open_recording

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
PATIENCE_SECONDS = 60.0
SYMBOL = "SOL_USDC"
ORDER = {"symbol": SYMBOL, "side": "Bid", "orderType": "Limit", "price": "1.00", "quantity": "2"}
"""Below the market, so it rests."""
REPLAY = """
import sys
from backpack_runtime import open_recording
with open_recording(sys.argv[1], verify=True) as recording:
    print(sum(1 for _ in recording.events()), recording.digest, recording.end)
"""


@pytest.fixture(
    params=["asyncio", pytest.param("trio", marks=pytest.mark.slow), pytest.param("aiohttp", marks=pytest.mark.slow)]
)
def runtime(request: pytest.FixtureRequest) -> str:
    """A test runs in every runtime."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "trio" if runtime == "trio" else "asyncio"


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> None:
    async for event in client:
        if reached(event):
            return
    raise AssertionError("the events ended")


async def use(client: BackpackClient) -> None:
    """Have an account, orders, calls that are cancelled and refused, subscriptions that come and go, and a reconnect."""
    await until(client, lambda _: client.book(SYMBOL).live and client.account.live)
    await client.call("place_order", ORDER)
    for endpoint, parameters in (("balances", {}), ("place_order", ORDER)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, endpoint, parameters)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    with pytest.raises(BackpackError):
        await client.call("place_order", {**ORDER, "quantity": "99999999"})
    with pytest.raises(LocalProtocolError):
        client._inside().pump.give(RefreshBook("depth.NOT_SUBSCRIBED"))
    await client.subscribe(["ticker"], [SYMBOL])
    assert isinstance(await client.reconnect(), Recovered)
    await client.unsubscribe(["ticker"], [SYMBOL])
    await until(client, lambda _: client.book(SYMBOL).live and client.account.live)
    await client.cancel_all_orders(SYMBOL)


@pytest.mark.anyio
async def test_a_recorded_client_replays_to_the_same_events(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    client = BackpackClient(
        [SYMBOL],
        sandbox=True,
        sandbox_faults="gap@1",
        settings=Settings(runtime="aiohttp" if runtime == "aiohttp" else "anyio"),
        signer=Signer(Credentials(THROWAWAY_SECRET)),
        follow_account=True,
    )
    recorder = Recorder(client, path, rotate_bytes=100_000)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with recorder, client:
            await use(client)
    with open_recording(path, verify=True) as recording:
        events = [event for _, event in recording.events()]
        assert (recording.digest, len(events)) == (recorder.digest, recorder.events)
        assert recording.end == "closed"
        assert recording.refused == 1
        assert len(recording.parts) > 1
        live = client.metrics
        assert recording.metrics.streams.keys() == live.streams.keys()
        assert recording.metrics.ws_reconnects == live.ws_reconnects == 1
        assert recording.book(SYMBOL).bids() == client.book(SYMBOL).bids()
    names = {type(event).__name__ for event in events}
    assert {"AccountSynced", "BookSynced", "BookChanged", "CallAnswered", "CallFailed", "Closed", "Trade"} <= names


@pytest.mark.anyio
@pytest.mark.usefixtures("runtime")
async def test_a_client_goes_on_when_its_recording_cannot(tmp_path: Path) -> None:
    client = BackpackClient([SYMBOL], sandbox=True)
    recorder = Recorder(client, tmp_path / "a")
    with anyio.fail_after(PATIENCE_SECONDS):
        with pytest.raises(BackpackError, match="cannot be written"):
            async with recorder, client:
                await until(client, lambda _: client.book(SYMBOL).live)
                assert recorder._writer is not None
                os.close(recorder._writer._descriptor)
                recorder._writer._is_open = False
                await until(client, lambda event: recorder.failure is not None and "Book" in type(event).__name__)
    with open_recording(tmp_path / "a", verify=True) as recording:
        assert len(list(recording.events())) > 3


def record_by_command(path: Path, *, seconds: float, faults: str) -> str:
    """Record the sandbox by the command, and return the digest that it prints."""
    arguments = ("record", str(path), SYMBOL, "BTC_USDC_PERP", "--sandbox", "--account", "--faults", faults)
    limits = ("--seconds", str(seconds), "--rotate-mib", "0.2")
    done = subprocess.run((*COMMAND, *arguments, *limits), capture_output=True, text=True, timeout=seconds + 60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def interpreters() -> list[str]:
    """Return every interpreter beside this one that has the libraries."""
    beside = Path(sys.prefix).parent.glob("py*/bin/python")
    found = [str(python) for python in beside if Path(python).resolve() != Path(sys.executable).resolve()]
    return [python for python in sorted(found) if _has_libraries(python)]


def _has_libraries(python: str) -> bool:
    needed = [python, "-c", "import msgspec, nacl, zstandard, anyio, wsproto, h11"]
    return subprocess.run(needed, capture_output=True, timeout=60, check=False).returncode == 0


def replay_by(python: str, path: Path, hash_seed: int) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [python, "-c", REPLAY, str(path)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "faults"),
    [
        # The delay before an attempt grows, to 4 s at most for the third one.
        (15.0, "drop@1.5,drop@4,drop@8"),
        pytest.param(60.0, "drop@10,drop@25,drop@40", marks=pytest.mark.gate),
    ],
)
def test_three_reconnects_replay_to_the_same_digest_on_every_interpreter(seconds: float, faults: str, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    digest = record_by_command(path, seconds=seconds, faults=faults)
    with open_recording(path, verify=True) as recording:
        assert sum(isinstance(event, ConnectionUp) for _, event in recording.events()) == 4
        assert recording.digest == digest
    others = interpreters()
    for number, python in enumerate((sys.executable, *others)):
        assert replay_by(python, path, number)[1:] == [digest, "closed"], python
    if not others:
        pytest.skip("there is no other interpreter with the libraries beside this one; this one agrees under two hash seeds")


@pytest.mark.slow
def test_a_file_that_may_not_grow_ends_the_command_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    command = ("sh", "-c", 'ulimit -f 120; exec "$@"', "sh", *COMMAND, "record", str(path), "--sandbox")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"backpack-feed: {path}: ")
    with open_recording(path, verify=True) as recording:
        assert len(list(recording.events())) > 10
        assert not recording.torn
        assert recording.end is None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_recording_in_order(number: signal.Signals, code: int, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    with subprocess.Popen(
        (*COMMAND, "record", str(path), "--sandbox"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        try:
            follow = ("timeout", str(PATIENCE_SECONDS), "tail", "-n", "+1", "-F", str(path))
            with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as lines:
                assert lines.stdout is not None
                assert all(lines.stdout.readline() for _ in range(30)), "each read is in the file at once"
                lines.terminate()
            program.send_signal(number)
            out, err = program.communicate(timeout=PATIENCE_SECONDS)
        finally:
            program.kill()
    assert program.returncode == code
    assert b" events of " in out
    assert err == b""
    done = subprocess.run((*COMMAND, "replay", str(path), "--verify", "--json"), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 20
    done = subprocess.run((*COMMAND, "recording", "info", str(path), "--json"), capture_output=True, timeout=60, check=False)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["verified"], summary["end"], summary["torn"]) == (0, True, "closed", False)
    again = subprocess.run((*COMMAND, "record", str(path), "--sandbox"), capture_output=True, timeout=60, check=False)
    assert again.returncode == 2
    assert b"exists already, and a recording is never added to" in again.stderr
