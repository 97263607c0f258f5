"""The server's side of the websockets: connections, their requests, and their pongs.

Theory of operation. A good request is never acknowledged. Names are taken one by one: one that is refused does not void the
others of its frame (the exchange's behaviour here is not known, docs/protocol.md section 9), and a frame is answered with the first
error found in it. A well-formed name that will never carry data, of an unknown or a Closed market, is met with silence. Private
streams need a signature, and only when they are subscribed to.

A connection is pinged 5 to 38 s after it opened and every 60 s from then on. When the next ping is due and the last one was not
answered, a connection without subscriptions is dropped without a Close frame. One that listens is given 120 s in all and is
then closed (docs/protocol.md 3.4). Only pongs count as answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from random import Random
from typing import TypeAlias

import msgspec
from msgspec import Struct

from backpack_proto.errors import InvalidStream, LocalProtocolError
from backpack_proto.exchange.messages import (
    CloseConnection,
    FrameReceived,
    PingSocket,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.exchange.rest.authentication import Authentication
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers, Transitions
from backpack_proto.streams.channels import DEPTH_WINDOWS_MS
from backpack_proto.streams.names import parse_stream

from .audience import PREVIEW, Audience
from .frames import error_frame

__all__ = ["TRANSITIONS", "Liveness", "SocketInput", "SocketOutput", "Sockets"]

SocketInput: TypeAlias = SocketOpened | FrameReceived | SocketPonged | SocketClosed | TimerFired
SocketOutput: TypeAlias = SendFrame | PingSocket | CloseConnection

FIRST_PING_US = (5_000_000, 38_000_000)
PING_INTERVAL_US = 60_000_000
PONG_TIMEOUT_US = 120_000_000
NO_PONG_CODE = 1011
"""Close code for a client that does not answer. Which one the exchange uses is not known."""
GOING_AWAY = 1001
"""Close code of RFC 6455 section 7.4.1 for a server that goes down. The exchange sends a Close frame then (docs/protocol.md 3)."""

PARSE_ERROR = (4002, "Parse error")
INVALID_SIGNATURE = (4003, "Invalid signature")
INVALID_STREAM = (4006, "Invalid stream")
INVALID_WINDOW = (4008, "Invalid depth window")

_WINDOWS = frozenset(f"{window_ms}ms" for window_ms in DEPTH_WINDOWS_MS)


class Liveness(Enum):
    """State of a connection."""

    ANSWERING = "every ping so far was answered"
    PINGED = "a ping waits for its answer"
    GONE = "closed"


TRANSITIONS = Transitions[Liveness](
    [
        (Liveness.ANSWERING, TimerFired, Liveness.PINGED),
        (Liveness.ANSWERING, SocketPonged, Liveness.ANSWERING),
        (Liveness.ANSWERING, SocketClosed, Liveness.GONE),
        (Liveness.PINGED, SocketPonged, Liveness.ANSWERING),
        (Liveness.PINGED, TimerFired, Liveness.PINGED),
        (Liveness.PINGED, TimerFired, Liveness.GONE),
        (Liveness.PINGED, SocketClosed, Liveness.GONE),
    ]
)
"""The life of a connection. Frames do not change it."""


Greet: TypeAlias = Callable[[int, str, str], list[SendFrame]]
"""Returns the first frames of a connection that begins to listen to a stream, as the account of an API key, or without one."""


def _silence(_connection: int, _stream: str, _api_key: str) -> list[SendFrame]:
    return []


class _Connection(Struct, gc=False):
    liveness: Liveness = Liveness.ANSWERING
    unanswered_us: int = 0
    """Since when a ping waits, on the monotonic clock. Only meaningful while it does."""


class _Request(Struct, frozen=True, gc=False):
    """A frame of a client. Members that are not named here are passed over."""

    method: str
    params: list[str]
    signature: object = None


_decode_request = msgspec.json.Decoder(_Request).decode


class Sockets:
    """All connections of the simulated exchange. Keeps `audience` up to date, and for private streams those of the `accounts`.

    `streams` are the names that exist now. `greet` returns the first frames of a connection that begins to listen to a stream. Data
    of a connection that is unknown, or was ended from here, are passed over: they were on their way. A connection may listen as several
    accounts. It unsubscribes as all of them.
    """

    def __init__(
        self,
        audience: Audience,
        authentication: Authentication,
        streams: frozenset[str],
        rng: Random,
        greet: Greet = _silence,
        accounts: Mapping[str, Audience] | None = None,
    ) -> None:
        self._audience = audience
        self._authentication = authentication
        self.streams = streams
        self._rng = rng
        self._greet = greet
        self._accounts = {} if accounts is None else accounts
        """Who listens to the private streams of an account, by API key, or `audience` for keys that are not there."""
        self._connections: dict[int, _Connection] = {}
        self._pings: Timers[int] = Timers()

    @property
    def deadline(self) -> int | None:
        """When the next ping is due."""
        return self._pings.earliest

    def check(self, given: SocketInput) -> None:
        """Refuse a number that is in use already.

        Raises:
            LocalProtocolError: a connection was opened twice.
        """
        if isinstance(given, SocketOpened) and given.connection in self._connections:
            raise LocalProtocolError(f"connection {given.connection} is open already")

    def handle(self, given: SocketInput, now: Now) -> list[SocketOutput]:
        """Take one input and return its outputs from it.

        Raises:
            LocalProtocolError: as `check`. The state is unchanged.
        """
        self.check(given)
        match given:
            case SocketOpened(connection=connection):
                self._connections[connection] = _Connection()
                self._pings.set(connection, now.mono_us + self._rng.randrange(*FIRST_PING_US))
            case FrameReceived(connection=connection, data=data) if connection in self._connections:
                return self._frame(connection, data, now)
            case SocketPonged(connection=connection) if connection in self._connections:
                known = self._connections[connection]
                known.liveness = TRANSITIONS.step(known.liveness, given, Liveness.ANSWERING)
            case SocketClosed(connection=connection) if connection in self._connections:
                self._forget(connection, given)
            case TimerFired():
                return [output for connection in self._pings.due(now.mono_us) for output in self._due(connection, given, now)]
            case _:
                # Of a connection that is gone: it crossed our own end of it.
                pass
        return []

    def close_all(self, code: int | None = GOING_AWAY) -> list[SocketOutput]:
        """End every connection, as an exchange does that goes away. Without a code, as one that is gone already."""
        connections = tuple(self._connections)
        for connection in connections:
            self._forget(connection, SocketClosed(connection))
        return [CloseConnection(connection, code) for connection in connections]

    @property
    def _audiences(self) -> tuple[Audience, ...]:
        return (self._audience, *self._accounts.values())

    def _due(self, connection: int, given: TimerFired, now: Now) -> list[SocketOutput]:
        """Ping a connection, or give it up."""
        known = self._connections[connection]
        if known.liveness is Liveness.PINGED:
            listens = any(audience.listens(connection) for audience in self._audiences)
            if not listens or now.mono_us - known.unanswered_us >= PONG_TIMEOUT_US:
                self._forget(connection, given)
                return [CloseConnection(connection, NO_PONG_CODE if listens else None)]
        else:
            known.unanswered_us = now.mono_us
        known.liveness = TRANSITIONS.step(known.liveness, given, Liveness.PINGED)
        self._pings.set(connection, now.mono_us + PING_INTERVAL_US)
        return [PingSocket(connection, str(now.unix_us // 1000).encode())]

    def _forget(self, connection: int, given: SocketInput) -> None:
        known = self._connections.pop(connection)
        known.liveness = TRANSITIONS.step(known.liveness, given, Liveness.GONE)
        self._pings.set(connection, None)
        for audience in self._audiences:
            audience.forget(connection)

    def _frame(self, connection: int, data: bytes, now: Now) -> list[SocketOutput]:
        try:
            request = _decode_request(data)
        except (ValueError, RecursionError):  # bytes that are no UTF-8, and nesting without end, have errors of their own
            return _refuse(connection, *PARSE_ERROR)
        error: tuple[int, str] | None = None
        greetings: list[SocketOutput] = []
        if request.method == "SUBSCRIBE":
            signed: bool | None = None
            for name in request.params:
                problem = self._judge(name)
                audience, api_key = self._audience, ""
                if problem is None and name.startswith("account."):
                    if signed is None:
                        signed = self._authentication.verify_subscribe(request.signature, now.unix_us // 1000)
                    problem = None if signed else INVALID_SIGNATURE
                    api_key = _signer(request.signature)
                    audience = self._accounts.get(api_key, audience)
                if problem is None and name in self.streams and connection not in audience.of(name):
                    audience.subscribe(connection, name)
                    greetings += self._greet(connection, name, api_key)
                error = error or problem
        elif request.method == "UNSUBSCRIBE":
            for name in request.params:
                for audience in self._audiences:
                    audience.unsubscribe(connection, name)
                error = error or self._judge(name)
        else:
            error = PARSE_ERROR
        return [*greetings, *(_refuse(connection, *error) if error else [])]

    def _judge(self, name: str) -> tuple[int, str] | None:
        """Return the fault of a stream name. A good one that will be silent for ever does not have one."""
        kind, _, rest = name.partition(".")
        if name in self.streams or (kind == PREVIEW and rest):
            return None
        window = rest.partition(".")[0]
        if kind == "depth" and window[:1].isdigit() and window.endswith("ms") and window not in _WINDOWS:
            return INVALID_WINDOW
        try:
            parse_stream(name)
        except InvalidStream:
            return INVALID_STREAM
        return None


def _signer(signature: object) -> str:
    """The API key that a signature names."""
    match signature:
        case [str(api_key), *_]:
            return api_key
        case _:
            return ""


def _refuse(connection: int, code: int, message: str) -> list[SocketOutput]:
    return [SendFrame(connection, error_frame(code, message))]
