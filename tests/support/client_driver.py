"""A client library in a process of its own, told call by call what to do, beside the simulated exchange that it talks to.

The exchange lives on a trading day at ten in the morning in New York, whenever this runs, and its crowd stands still. At each request
that arrives its state is read in the same moment, so that an answer can be compared to the last digit.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import Exchange, ExchangeInput, ExchangeOutput, FrameReceived, RequestReceived, Respond, SendFrame
from backpack_proto.machine import Now
from backpack_proto.rest.codec import build_request
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import system_now

__all__ = ["PROGRAMS", "Client", "Outcome", "Served", "equal", "serve_on_a_trading_day", "start"]

PROGRAMS = Path(__file__).parents[1] / "clients"
OPENING_US = int(datetime(2026, 12, 1, 15, tzinfo=UTC).timestamp()) * 1_000_000
PATIENCE_S = 30
STIR_S = 0.1
T = TypeVar("T")
_OURS = 10**9
"""Requests from this number on are the test's own."""


class Outcome(NamedTuple):
    """What became of one call."""

    returned: Any
    raised: str | None
    requests: list[str]
    """Method, path and status of each request, and each frame, in order. Some come late."""
    truths: list[Any]
    """What was looked up at the start, and at each request or frame that it caused."""


class Served:
    """The exchange as the test sees it: asked from within, with what clients ask of it on record."""

    def __init__(self, portal: BlockingPortal, sandbox: Sandbox, offset_us: int) -> None:
        self.portal, self.sandbox, self.offset_us = portal, sandbox, offset_us
        self.exchange: Exchange = sandbox.exchange
        self.books: dict[tuple[str, int], tuple[Any, Any]] = {}
        """Each state that a book had, by symbol and update id."""
        self.seen: list[str] = []
        self.truths: list[Any] = []
        self.look: Callable[[], Any] | None = None
        """Reads the state at each request and each frame."""
        self._paths: dict[int, str] = {}
        self._answers: dict[int, Respond] = {}
        self._numbers = itertools.count(_OURS)
        self._now = _at(offset_us)
        self._handle = self.exchange.handle
        self._signers = [Signer(Credentials(account.secret)) for account in sandbox.accounts]
        self.exchange.handle = self._witness  # type: ignore[method-assign]
        self.exchange.on_book = lambda symbol, _outcome: self._keep(symbol)

    @property
    def unix_us(self) -> int:
        """The time of the exchange."""
        return time.time_ns() // 1_000 + self.offset_us

    def _keep(self, symbol: str) -> None:
        bids, asks, update_id = self.exchange.levels(symbol)
        self.books[symbol, update_id] = bids, asks

    def _witness(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        self._now = now
        outputs = self._handle(given, now)
        foreign = isinstance(given, RequestReceived) and given.request_id < _OURS
        if isinstance(given, RequestReceived) and foreign:
            self._paths[given.request_id] = f"{given.method} {given.target.partition('?')[0]}"
        if isinstance(given, FrameReceived):
            frame = json.loads(given.data)
            self.seen.append(f"{frame['method']} {' '.join(frame['params'])}")
        for output in outputs:
            if isinstance(output, Respond) and output.request_id < _OURS:
                self.seen.append(f"{self._paths.pop(output.request_id)} {output.status}")
            elif isinstance(output, Respond):
                self._answers[output.request_id] = output
        if self.look is not None and (foreign or any(isinstance(output, SendFrame) for output in outputs)):
            look, self.look = self.look, None  # it asks, too
            try:
                self.truths.append(look())
            except Exception as error:  # noqa: BLE001 - the exchange goes on. The row fails
                self.truths.append(error)
            self.look = look
        return outputs

    def _request(self, name: str, parameters: Mapping[str, Any], account: int) -> RequestReceived:
        endpoint = ENDPOINTS[name]
        request = build_request(endpoint, endpoint.check(parameters), signer=self._signers[account], unix_us=self._now.unix_us)
        return RequestReceived(next(self._numbers), request.method, request.target, request.headers, request.body)

    def peek(self, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return what the exchange has under an endpoint at this moment. Within a look only, in the thread of the exchange."""
        asked = self._request(name, parameters or {}, 0)
        for output in self._handle(asked, self._now):
            if isinstance(output, Respond):
                return _read(output)
        raise AssertionError(f"{name} is not answered at once")

    def ask(self, name: str, parameters: Mapping[str, Any] | None = None, account: int = 0) -> Any:
        """Make a call from within, and return its answer as it leaves the exchange."""
        number = self.portal.call(self._give, name, parameters or {}, account)
        deadline = time.monotonic() + PATIENCE_S
        while number not in self._answers:
            assert time.monotonic() < deadline, f"{name} is not answered"
            self.portal.call(_breathe)
        answer = self._answers.pop(number)
        assert answer.status < 300, (name, parameters, answer.body)
        return _read(answer)

    def read(self, what: Callable[[], T]) -> T:
        """Read something of the exchange in its own thread."""
        return self.portal.call(what)

    def pause(self) -> None:
        """Let the exchange go on for a moment."""
        self.portal.call(_breathe)

    def unheard(self, stream: str) -> bool:
        """Return whether everybody has stopped to listen to a stream, once what is on its way has arrived."""
        deadline = time.monotonic() + PATIENCE_S
        while self.listeners(stream):
            if time.monotonic() > deadline:
                return False
            self.pause()
        return True

    def listeners(self, stream: str) -> int:
        """Return how many connections listen to a stream."""
        audiences = [self.exchange._audience, *(member.audience for member in self.exchange._members.values())]
        return self.read(lambda: sum(len(audience.of(stream)) for audience in audiences))

    def _give(self, name: str, parameters: Mapping[str, Any], account: int) -> int:
        self._now = _at(self.offset_us)
        asked = self._request(name, parameters, account)
        self.sandbox._give(asked)
        return asked.request_id


def _at(offset_us: int) -> Now:
    now = system_now()
    return Now(mono_us=now.mono_us, unix_us=now.unix_us + offset_us)


async def _breathe() -> None:
    await anyio.sleep(0.01)


def _read(answer: Respond) -> Any:
    text = answer.body.decode()
    return json.loads(text) if "json" in answer.content_type and text else text


@contextmanager
def serve_on_a_trading_day() -> Iterator[Served]:
    """Serve a simulated exchange whose crowd stands still, with two accounts, in a thread of its own."""
    offset_us = OPENING_US - time.time_ns() // 1_000
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + offset_us * 1_000)
    with (
        patch("backpack_runtime.sandbox.time", clock),
        patch("backpack_runtime.sandbox.system_now", lambda: _at(offset_us)),
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve_sandbox(seed=7, speed=0.0, accounts=2)) as sandbox,
    ):
        yield Served(portal, sandbox, offset_us)


class Client:
    """A library in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], served: Served) -> None:
        self._process, self.served = process, served
        self.notes: dict[str, Any] = {}
        """What calls have returned, and others need."""
        self._lines: list[str] = []
        self._come = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.calls: list[str] = self._outcome(None)["calls"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._come:
                self._lines.append(line)
                self._come.notify()
        with self._come:
            self._lines.append("")
            self._come.notify()

    def _outcome(self, stir: Callable[[], None] | None) -> Any:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while time.monotonic() < deadline:
            with self._come:
                self._come.wait_for(lambda: self._lines, STIR_S if stir else deadline - time.monotonic())
                if self._lines:
                    line = self._lines.pop(0)
                    assert line, "the program has ended"
                    return json.loads(line)
            if stir is not None:
                stir()
        raise AssertionError("the program does not answer")

    def call(
        self,
        name: str,
        positional: Sequence[Any],
        named: Mapping[str, Any],
        *,
        look: Callable[[], Any] | None,
        stir: Callable[[], None] | None,
    ) -> Outcome:
        """Make one call. While it has not ended, `stir` is done again and again, and `look` at the start and whenever something happens."""
        served = self.served
        # A frame may be on its way already: what it says is how things are now.
        served.seen, served.truths, served.look = [], [served.read(look)] if look else [], look
        assert self._process.stdin is not None
        asked = {"call": name, "positional": positional, "named": named, "patience_s": PATIENCE_S}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        outcome = self._outcome(stir)
        served.look = None
        return Outcome(outcome.get("returned"), outcome.get("raised"), served.seen, served.truths)


@contextmanager
def start(python: str, program: str, served: Served) -> Iterator[Client]:
    """Start the program of a library under an interpreter that has it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    sandbox = served.sandbox
    variables = {
        "SANDBOX_REST_URL": sandbox.rest_url,
        "SANDBOX_WS_URL": sandbox.ws_url,
        "SANDBOX_API_KEY": sandbox.api_key,
        "SANDBOX_SECRET": sandbox.secret,
        "SANDBOX_CLOCK_OFFSET_S": str(served.offset_us / 1e6),
    }
    process = subprocess.Popen(
        [python, str(PROGRAMS / program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own | variables
    )
    try:
        yield Client(process, served)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _number(value: Any) -> Decimal | float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return value
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None


def equal(left: Any, right: Any) -> bool:
    """Return whether two answers say the same: numbers by value, however they are written."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    first, second = _number(left), _number(right)
    if first is None or second is None:
        return bool(left == right)
    # What a client has made a float of is compared as one.
    return float(first) == float(second) if float in {type(first), type(second)} else first == second
