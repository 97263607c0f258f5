"""No secret comes out: a canary key is used everywhere, and looked for in everything that can be seen of it."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import quote

import anyio
import msgspec
import pytest
from nacl import bindings
from nacl.signing import SigningKey

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Scheme, Signer
from backpack_proto.errors import BackpackError
from backpack_proto.exchange import LISTINGS, Exchange
from backpack_proto.http import Argument, HttpRequest
from backpack_proto.inputs import Call, FollowAccount, Given, Open, Subscribe
from backpack_proto.machine import Now
from backpack_proto.outputs import Output, SendRequest, SendText
from backpack_proto.session import Session
from backpack_proto.testing.laws import freeze
from backpack_proto.testing.simulation import Simulation
from backpack_runtime.cli.events import json_lines, text_line
from backpack_runtime.cli.parser import main
from backpack_runtime.client import BackpackClient
from backpack_runtime.key_sources import ENVIRONMENT
from backpack_runtime.recording.old_frames import Replay
from backpack_runtime.recording.reader import open_recording
from backpack_runtime.recording.recorder import Recorder
from backpack_runtime.sandbox import serve_sandbox
from recorded_sessions import WITHDRAWAL

pytestmark = pytest.mark.gate

ROOT = Path(__file__).parents[2]
START = Now(mono_us=9_000_000, unix_us=1_790_000_000_000_000)
SECOND = 1_000_000
SEED = next(  # one whose base64 has both characters in which the alphabets differ, so that no two spellings are the same
    seed
    for seed in (hashlib.sha256(f"canary {number}".encode()).digest() for number in range(100))
    if {b"+", b"/"} <= {bytes([byte]) for byte in b64encode(seed)[:16]}
)
PUBLIC = SigningKey(SEED).verify_key.encode()
PRIVATE_KEY = b64encode(SEED).decode()
PUBLIC_KEY = b64encode(PUBLIC).decode()
PASSPHRASE = "canary-passphrase-0fd1"
FORMS = {
    "raw": SEED,
    "raw as text": SEED.decode("latin-1").encode(),
    "repr": repr(SEED)[2:-1].encode(),
    "numbers": ", ".join(map(str, SEED)).encode(),
    "hex": SEED.hex().encode(),
    "hex in capitals": SEED.hex().upper().encode(),
    "base64": b64encode(SEED),
    "base64 without padding": b64encode(SEED).rstrip(b"="),
    "base64 of seed and public key": b64encode(SEED + PUBLIC)[:42],  # the rest is no secret
    "url-safe base64": urlsafe_b64encode(SEED),
    "url-safe base64 without padding": urlsafe_b64encode(SEED).rstrip(b"="),
    "base64 in JSON": b64encode(SEED).replace(b"/", rb"\/"),
    "percent-encoded base64": quote(b64encode(SEED), safe="").encode(),
    "percent-encoded base64 in small letters": quote(b64encode(SEED), safe="")
    .replace("%2B", "%2b")
    .replace("%2F", "%2f")
    .encode(),
    "percent-encoded raw": quote(SEED, safe="").encode(),
    "percent-encoded raw in small letters": "".join(f"%{byte:02x}" for byte in SEED).encode(),
}
PART = 16
"""So many characters of a form are a leak too, wherever a step of half as many begins."""
NEEDLES = {form[start : start + PART] for form in FORMS.values() for start in range(0, len(form) - PART + 1, PART // 2)}


def leaks(text: str | bytes) -> bool:
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return any(needle in data for needle in NEEDLES)


class Seen:
    """Everything that could be seen, by where."""

    def __init__(self) -> None:
        self.where: dict[str, bytes] = {}

    def add(self, where: str, text: str | bytes) -> None:
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        self.where[where] = self.where.get(where, b"") + data + b"\n"

    def show(self, where: str, value: object) -> None:
        """Add every way in which a value is turned into text."""
        for name, text in {"repr": repr(value), "str": str(value), "format": f"{value}", "%": "%s %r" % (value, value)}.items():  # noqa: UP031 - as logging does
            self.add(f"{where} {name}", text)
        if hasattr(value, "__dict__"):
            self.add(f"{where} vars", repr(vars(value)))
        self.add(f"{where} state", repr(freeze(value)))
        try:
            self.add(f"{where} pickled", pickle.dumps(value))
        except (TypeError, AttributeError, pickle.PicklingError) as refusal:
            self.add(f"{where} pickled", str(refusal))
        try:
            self.add(f"{where} as JSON", msgspec.json.encode(value, enc_hook=repr))
        except (TypeError, ValueError, msgspec.MsgspecError) as refusal:
            self.add(f"{where} as JSON", str(refusal))

    def failure(
        self, where: str, call: Callable[[], object], kind: type[BaseException] | tuple[type[BaseException], ...]
    ) -> None:
        """Have something fail, and add its traceback with the locals of all frames."""
        with pytest.raises(kind) as caught:
            call()
        error = caught.value
        # Without this frame, whose `call` has the key that the caller of the library hands over.
        assert error.__traceback__ is not None
        self.error(where, error.with_traceback(error.__traceback__.tb_next))

    def error(self, where: str, error: BaseException) -> None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.add(f"{where} traceback", "".join(told.format()))

    def assert_clean(self, *, at_least: int) -> None:
        assert len(self.where) >= at_least
        assert all(self.where.values())
        assert [where for where, data in self.where.items() if leaks(data)] == []


@pytest.fixture
def seen() -> Seen:
    return Seen()


class Listening(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Everything that is logged while a test runs is looked through at its end."""
    records: list[logging.LogRecord] = []
    handler = Listening(records)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    logging.getLogger("canary").debug("the log is listened to")
    yield
    root.removeHandler(handler)
    root.setLevel(level)
    text = "".join(f"{logging.Formatter().format(record)}{vars(record)}" for record in records)
    assert "the log is listened to" in text
    assert not leaks(text)
    assert PASSPHRASE not in text


def a_signer(scheme: Scheme = Scheme.INSTRUCTION) -> Signer:
    return Signer(Credentials(PRIVATE_KEY, api_key=PUBLIC_KEY, public_key=PUBLIC.hex(), passphrase=PASSPHRASE), scheme=scheme)


@pytest.mark.parametrize("name", FORMS)
def test_the_search_finds_a_planted_leak(name: str) -> None:
    for planted in (FORMS[name], b"x" * 1000 + FORMS[name] + b"x", FORMS[name][: len(FORMS[name]) // 2]):
        assert leaks(planted)
        with pytest.raises(AssertionError):
            seen = Seen()
            seen.add("here", planted)
            seen.assert_clean(at_least=1)


def test_the_search_finds_a_leak_in_the_locals_of_a_traceback_and_in_an_attribute() -> None:
    def careless(key: bytes) -> None:
        raise ValueError(len(key))

    class Careless:
        def __init__(self) -> None:
            self.key = SEED

    seen = Seen()
    seen.failure("careless", lambda: careless(SEED), ValueError)
    seen.show("object", Careless())
    assert leaks(seen.where["careless traceback"])
    assert leaks(seen.where["object vars"])
    assert leaks(seen.where["object state"])


def test_the_search_does_not_find_what_is_public() -> None:
    assert not leaks(PUBLIC_KEY + PUBLIC.hex() + repr(PUBLIC) + a_signer().subscribe_signature(0)[1])


@pytest.mark.parametrize("spelling", [PRIVATE_KEY, SEED.hex(), (SEED + PUBLIC).hex(), urlsafe_b64encode(SEED).decode()])
def test_credentials_and_signers(seen: Seen, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials(spelling, passphrase=PASSPHRASE)
    for scheme in Scheme:
        signer = Signer(credentials, scheme=scheme)
        for name, value in {"credentials": credentials, "signer": signer, "copy": copy.deepcopy(credentials)}.items():
            seen.show(f"{scheme.value} {name}", value)
            with pytest.raises(TypeError):
                pickle.dumps(value)
            with pytest.raises(TypeError):
                vars(value)
        request = HttpRequest(method="GET", target="/", body=None)  # type: ignore[arg-type]
        fail = partial(signer.headers, request, instruction="x", parameters={}, unix_us="now")  # type: ignore[arg-type]
        seen.failure(f"{scheme.value} headers", fail, TypeError)
        seen.failure(f"{scheme.value} time", partial(signer.subscribe_signature, "now"), TypeError)  # type: ignore[arg-type]
    seen.failure("sign a number", partial(credentials.sign, 5), TypeError)  # type: ignore[arg-type]
    seen.failure("sign half a character", partial(credentials.sign, "\ud800"), UnicodeEncodeError)
    seen.failure("another public key", partial(Credentials, spelling, public_key=b64encode(bytes(32)).decode()), BackpackError)
    seen.failure("a bad public key", partial(Credentials, spelling, api_key="your-api-key"), BackpackError)
    seen.failure("a bad passphrase", partial(Credentials, spelling, passphrase="\n"), BackpackError)
    seen.failure("a key with a typing error", partial(Credentials, spelling + "!"), BackpackError)
    seen.failure("two keys", partial(Credentials, spelling + spelling), BackpackError)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bindings, "crypto_sign", out_of_memory)
    seen.failure("no memory", partial(credentials.sign, "text"), MemoryError)
    for where, data in seen.where.items():
        assert PASSPHRASE.encode() not in data, where
    seen.assert_clean(at_least=30)


class Watched(Session):
    """A session of which everything that goes in and out is added."""

    seen: Seen

    def handle(self, given: Given, now: Now) -> Sequence[Output]:
        outputs = super().handle(given, now)
        self.seen.add("inputs", repr(given))
        for output in outputs:
            self.seen.add("outputs", f"{output!r} {output}")
            if isinstance(output, SendRequest):
                request = output.request
                self.seen.add("wire", f"{request.method} {request.target} {request.headers} {request.body!r}")
            elif isinstance(output, SendText):
                self.seen.add("wire", output.text)
        return outputs


ORDERS: tuple[dict[str, Argument], ...] = (
    {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Market", "quantity": "1.5"},
    {"symbol": "SOL_USDC_PERP", "side": "Ask", "orderType": "Market", "quantity": "0.7"},
    {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "1.00", "quantity": "2"},
    {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "1.00", "quantity": "9999999"},
)
CALLS: tuple[tuple[str, dict[str, Argument]], ...] = (
    *(("place_order", order) for order in ORDERS),
    ("balances", {}),
    ("positions", {}),
    ("open_orders", {"symbol": "SOL_USDC"}),
    ("fill_history", {"limit": 10}),
    ("cancel_all_orders", {"symbol": "SOL_USDC"}),
)


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("known", [True, False])
def test_a_private_session_in_the_simulation(seen: Seen, scheme: Scheme, known: bool) -> None:  # noqa: FBT001 - parametrised
    listings = [listing for listing in LISTINGS if listing.symbol in {"SOL_USDC", "SOL_USDC_PERP"}]
    options = {"api_keys": (PUBLIC_KEY,)} if known else {}
    exchange = Exchange(seed=1, unix_us=START.unix_us, listings=listings, **options)  # type: ignore[arg-type]
    session = Watched(Random(1), signer=a_signer(scheme), measure_clock=True)
    session.seen = seen
    simulation = Simulation(session, exchange, START)
    recording: list[bytes] = []

    def record(frame: bytes) -> list[bytes]:
        recording.append(frame)
        return [frame]

    simulation.tamper = record
    simulation.give(Open(), FollowAccount(), Subscribe(("account.orderUpdate.SOL_USDC", "bookTicker.SOL_USDC")))
    simulation.run(10 * SECOND)
    for number, (endpoint, parameters) in enumerate(CALLS):
        simulation.give(Call(call_id=number, endpoint=endpoint, parameters=parameters))
        simulation.run(SECOND)
    simulation.cut()
    simulation.run(20 * SECOND)
    assert session.account.live is known
    assert (session.metrics(simulation.now).auth_failures > 0) is not known
    for name, value in {
        "session": session,
        "requests": session._requests,
        "account": session.account,
        "simulation": simulation,
        "metrics": session.metrics(simulation.now),
        "health": session.health(simulation.now),
        "budget": session.budget(simulation.now),
        "calls": [Call(call_id=1, endpoint=endpoint, parameters=parameters) for endpoint, parameters in CALLS],
    }.items():
        seen.show(name, value)
    for event in simulation.events:
        seen.add("events", f"{event!r} {text_line(event)}")
        error = getattr(event, "error", None)
        if isinstance(error, BaseException):
            seen.error(f"error of {type(event).__name__}", error)
    seen.add("events as JSON", json_lines(simulation.events))
    bad = Call(call_id=99, endpoint="place_order", parameters={**ORDERS[2], "price": 1.5})  # type: ignore[dict-item]
    seen.failure("a call with a float", partial(session.handle, bad, simulation.now), BackpackError)
    seen.failure("an unknown stream", partial(session.handle, Subscribe(("account.nothing",)), simulation.now), BackpackError)
    session._requests._signer = None  # as an error in the middle of signing
    broken = Now(simulation.now.mono_us, None)  # type: ignore[arg-type]
    seen.failure("subscribing", partial(_subscribe, session, broken), TypeError)
    seen.add("recording", b"\n".join(recording))
    replay = Replay()
    for frame in recording:
        events = replay.give(frame)
        seen.add("replay", json_lines(events) + "".join(map(text_line, events)).encode())
    assert PUBLIC_KEY.encode() in seen.where["wire"]
    if known:
        assert b'"filled"' in seen.where["events as JSON"]
    seen.assert_clean(at_least=40)
    for where, data in seen.where.items():
        # What is sent holds it, and so does a request that waits for its answer, as long as nobody prints it.
        assert PASSPHRASE.encode() not in data or where == "wire" or where.endswith(" state"), where


def _subscribe(session: Session, now: Now) -> None:
    session._sign_subscription(now)


@pytest.mark.anyio
async def test_the_real_client_and_the_command_line(seen: Seen, monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> None:
    monkeypatch.setattr("backpack_runtime.sandbox.Exchange", lambda **given: Exchange(**{**given, "api_keys": (PUBLIC_KEY,)}))
    recording: list[bytes] = []
    async with serve_sandbox(seed=3) as sandbox:
        client = BackpackClient(
            ["SOL_USDC"],
            channels=["order.*", "position.*", "trades"],
            signer=a_signer(),
            follow_account=True,
            settings=sandbox.settings,
        )
        events = []
        async with client:
            with anyio.fail_after(20):
                async for event in client:
                    events.append(event)
                    if client.account.live:
                        break
            for endpoint, parameters in CALLS:
                try:
                    seen.show(f"result of {endpoint}", await client.call(endpoint, parameters))
                except BackpackError as error:
                    seen.error(f"refusal of {endpoint}", error)
            sandbox.drop_connections()
            with anyio.fail_after(20):
                async for event in client:
                    events.append(event)
                    if type(event).__name__ == "AccountSynced":
                        break
            with pytest.raises(BackpackError) as caught:
                await client.call("place_order", {**ORDERS[2], "price": 1.5})  # type: ignore[dict-item]
            seen.error("a call with a float", caught.value)
            with pytest.raises(RuntimeError) as failed:
                await _fail_while_signing(client, monkeypatch)
            seen.error("an error while signing", failed.value)
            for name, value in {"metrics": client.metrics, "health": client.health, "delivery": client.delivery}.items():
                seen.show(name, value)
        for name, one in {"client": client, "session": client._session, "account": client.account}.items():
            for text in (repr(one), str(one), repr(getattr(one, "__dict__", None))):
                seen.add(name, text)
        seen.add("state of the session", repr(freeze(client._session)))
        with pytest.raises(TypeError):
            pickle.dumps(client)
        seen.add("events", repr(events))
        seen.add("events as JSON", json_lines(events))
        recording += [json_lines([event]) for event in events]
        command = [
            sys.executable,
            "-m",
            "backpack_runtime.cli.parser",
            "account",
            "-vv",
            "--seconds",
            "4",
            "--backend",
            anyio_backend,
        ]
        urls = ["--rest-url", sandbox.rest_url, "--ws-url", sandbox.ws_url]
        for mode in ([], ["--json"]):
            environment = os.environ | {"BACKPACK_PRIVATE_KEY": PRIVATE_KEY, "BACKPACK_API_KEY": PUBLIC_KEY}
            done = await anyio.run_process([*command, *urls, *mode], env=environment, cwd=ROOT)
            assert b"live" in done.stdout or b'"account_synced"' in done.stdout
            seen.add(f"account {mode}", done.stdout + done.stderr)
    seen.assert_clean(at_least=30)
    for name, data in seen.where.items():
        assert PASSPHRASE.encode() not in data, name


@pytest.mark.anyio
async def test_a_recording_of_a_private_client(seen: Seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("backpack_runtime.sandbox.Exchange", lambda **given: Exchange(**{**given, "api_keys": (PUBLIC_KEY,)}))
    path = tmp_path / "session.jsonl"
    client = BackpackClient(["SOL_USDC"], channels=["order.*"], signer=a_signer(), sandbox=True, follow_account=True)
    secrets = [PASSPHRASE, "X-Signature", WITHDRAWAL["address"], WITHDRAWAL["twoFactorToken"]]
    with anyio.fail_after(20):
        async with Recorder(client, path), client:
            async for _ in client:
                if client.account.live:
                    break
            for endpoint, parameters in CALLS:
                try:
                    await client.call(endpoint, parameters)
                except BackpackError as error:
                    seen.error(f"refusal of {endpoint}", error)
            await client.call("withdraw", WITHDRAWAL)
            secrets += [one.to_address for one in await client.get_withdrawals()]
            secrets += [(await client.get_deposit_address("Solana")).address]
            assert len(secrets) >= 6
    session = path.read_bytes()
    assert b'"place_order"' in session
    assert [secret for secret in secrets if secret.encode() in session] == []
    seen.add("recording", session)
    with open_recording(path, verify=True) as replay:
        events = [event for _, event in replay.events()]
        assert replay.end == "closed"
    seen.add("replay", json_lines(events) + repr(events).encode())
    seen.assert_clean(at_least=3)


async def _fail_while_signing(client: BackpackClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error from the depths of the cryptography, through session, pump and client."""

    def broken(*_: object) -> None:
        raise RuntimeError("no entropy")

    with monkeypatch.context() as patch:
        patch.setattr(bindings, "crypto_sign", broken)
        await client.call("balances")


@pytest.mark.parametrize("spelling", [PRIVATE_KEY, SEED.hex(), SEED.hex().upper(), urlsafe_b64encode(SEED + PUBLIC).decode()])
def test_auth_check(
    seen: Seen, spelling: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"private_key": spelling, "public_key": PUBLIC_KEY}))
    runs: list[tuple[list[str], dict[str, str], int]] = [
        (["--private-key", spelling, "--public-key", PUBLIC_KEY, "--api-key", PUBLIC_KEY], {}, 0),
        ([], {"BACKPACK_PRIVATE_KEY": spelling, "BACKPACK_API_KEY": PUBLIC.hex()}, 0),
        (["--key-file", str(file)], {}, 0),
        (["--private-key", spelling, "--api-key", "your-api-key"], {}, 2),
        (["--private-key", spelling, "--public-key", spelling], {}, 2),
        (["--private-key", PUBLIC_KEY, "--public-key", spelling, "--api-key", spelling], {}, 2),
        (["--private-key", spelling + "!"], {}, 2),
        (["--private-key", "x", "--public-key", spelling], {}, 2),
        (["--key-file", spelling], {}, 2),
        ([spelling], {}, 2),
        ([f"--private_key={spelling}"], {}, 2),
    ]
    for number, (arguments, environment, code) in enumerate(runs):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", None)
            for variable, value in environment.items():
                patch.setenv(variable, value)
            try:
                assert main(["auth-check", "-vv", *arguments]) == code
            except SystemExit as ended:
                assert ended.code == code  # noqa: PT017 - the parser ends like that
        output = capfd.readouterr()
        seen.add(f"run {number}", output.out + output.err)
    assert b"OK: " in seen.where["run 0"]
    seen.assert_clean(at_least=len(runs))


def test_the_tool_of_the_checkout(seen: Seen) -> None:
    keys = ["--api-key", PUBLIC_KEY, "--public-key", PUBLIC.hex(), "--private-key", PRIVATE_KEY]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tools.backpack_auth_check", *keys],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert f"public, base64: {PUBLIC_KEY}\n".encode() in done.stdout
    assert b"list of processes" in done.stderr
    seen.add("tool", done.stdout + done.stderr)
    seen.assert_clean(at_least=1)
