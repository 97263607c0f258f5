"""Client framing, still without I/O: bytes that the runtime reads go in, values come out.

`WebsocketFraming` is one websocket connection, handshake included. `HttpFraming` is one HTTP/1.1 connection for REST calls.
The bytes to send leave by the call that asks for them. Neither opens a socket, waits, or knows the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

import h11
from msgspec import Struct
from wsproto.connection import ConnectionType
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError as WsprotoRemoteProtocolError

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.http import Headers, HttpRequest
from backpack_proto.inputs import BytesReceived, Connected, ConnectFailed, Fact
from backpack_proto.outputs import CloseSocket, SendPing, SendPong, SendText
from backpack_proto.rest.codec import redirect_refused, retry_after_us

from .deflate import Deflate
from .frames import MAX_MESSAGE_BYTES, Frames
from .lengths import says_two_lengths

__all__ = [
    "EXCERPT_BYTES",
    "MAX_BODY_BYTES",
    "USER_AGENT",
    "HttpFraming",
    "HttpResponse",
    "Sendable",
    "WebsocketFraming",
    "refusal",
    "request_headers",
]

USER_AGENT = "backpack-feed"
MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
EXCERPT_BYTES = 200
FRAMING_HEADERS = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}
END_OF_HEAD = re.compile(rb"\n\r?\n")

Sendable: TypeAlias = SendText | SendPing | SendPong | CloseSocket
"""The actions that become bytes of an open websocket."""


class WebsocketFraming:
    """The client's side of one websocket connection.

    Send `open()`, give every read to `receive`, send the results of `send` and, after each `receive`, of `to_send`, and close the
    TCP connection once `closed` is true. The facts are `Connected`, or `ConnectFailed` alone. Then messages,
    pings and pongs. At last one `Disconnected`. Pings are not answered here: the answer is a `SendPong` of the core
    (docs/protocol.md 3.4). A binary message, which the exchange never sends, is a `TextReceived` as well.

    `host` is the value of the Host header, `target` path and query, `headers` further ones of the upgrade request.
    `compression` offers permessage-deflate (docs/protocol.md 3.5). `max_message_bytes` bounds one message.

    Raises:
        LocalProtocolError: `host`, `target` or `headers` cannot be put into an HTTP request.
    """

    def __init__(
        self,
        host: str,
        target: str = "/",
        *,
        compression: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        try:
            extra_headers = [
                (name.encode("ascii"), value.encode("ascii"))
                for name, value in _with_defaults(headers, ("User-Agent", USER_AGENT))
            ]
            extensions: list[Extension] = [Deflate()] if compression else []
            request = Request(host=host, target=target, extensions=extensions, extra_headers=extra_headers)
            self._request: bytes | None = self._handshake.send(request)
        except (ValueError, h11.LocalProtocolError):
            raise LocalProtocolError("host, target or headers of the upgrade request are impossible in HTTP/1.1") from None
        self._head = bytearray()
        self._rejection: RejectConnection | None = None
        self._excerpt = bytearray()
        self._frames: Frames | None = None
        self._failed = False

    @property
    def refused(self) -> bool:
        """True if the handshake was refused, and only the rest of the reason is still to come: it need not be waited for.

        To wait no longer, give `receive` the end of the connection.
        """
        return self._rejection is not None and not self._failed

    @property
    def closed(self) -> bool:
        """True when the TCP connection can be closed, once `to_send` has been sent."""
        return self._failed or (self._frames is not None and self._frames.ended)

    def open(self) -> bytes:
        """The upgrade request.

        Raises:
            LocalProtocolError: it was taken before.
        """
        if self._request is None:
            raise LocalProtocolError("the upgrade request goes out once")
        request, self._request = self._request, None
        return request

    def receive(self, data: bytes, received_us: int | None = None) -> list[Fact]:
        """Take one read, and its time. Return its facts, or `BytesReceived` when it does not complete one.

        A read of `b""` says that the peer closed the TCP connection. `Disconnected` is the last fact.
        """
        frames = self._frames
        if frames is not None:
            return [] if frames.ended else frames.receive(data, received_us) or [BytesReceived(len(data))]
        return [] if self._failed else self._receive_answer(data, received_us)

    def to_send(self) -> bytes:
        """Take the bytes that have to go out in reply to the peer: a Close frame at most."""
        return b"" if self._frames is None else self._frames.to_send()

    def send(self, action: Sendable) -> bytes:
        """The bytes of an action. None once the websocket is ending, for the fact that says so may still be on its way.

        Text is sent uncompressed, even where compression was agreed on: requests are short, and their signatures do not deflate.

        Raises:
            LocalProtocolError: there is no websocket yet, text follows a `CloseSocket`, or the action cannot be encoded.
        """
        if self._frames is None:
            if self._failed:
                return b""
            raise LocalProtocolError(f"{type(action).__name__} before the websocket is open")
        if isinstance(action, SendText) and self._frames.closing:
            raise LocalProtocolError("SendText after CloseSocket")
        try:
            return self._frames.send(_event(action))
        except ValueError as error:
            raise LocalProtocolError(f"{type(action).__name__} cannot be encoded as a frame: {error}") from None

    def _receive_answer(self, data: bytes, received_us: int | None) -> list[Fact]:
        """Collect the head of the answer, which goes to wsproto alone: the bytes behind a 101 are frames already."""
        if not data:
            return self._fail("connection closed during the websocket handshake")
        if self._rejection is not None:
            return self._digest_answer(data)
        searched = max(0, len(self._head) - 2)
        self._head += data
        end = END_OF_HEAD.search(self._head, searched)
        if len(self._head if end is None else self._head[: end.end()]) > MAX_HEAD_BYTES:
            return self._fail("answer to the websocket handshake has too long a head")
        if end is None:
            return []
        head, rest = bytes(self._head[: end.end()]), bytes(self._head[end.end() :])
        facts = self._digest_answer(head)
        if not rest or self._failed:
            return facts
        if self._frames is None:
            return self._digest_answer(rest)
        return [*facts, *self._frames.receive(rest, received_us)]

    def _digest_answer(self, data: bytes) -> list[Fact]:
        problem = ""
        try:
            self._handshake.receive_data(data)
        except WsprotoRemoteProtocolError as error:
            problem = f"websocket handshake failed: {error}"
        except (ValueError, IndexError):
            # Errors that wsproto lets through: parameters of an extension that are not numbers, headers that are not ASCII.
            problem = "websocket handshake failed: malformed headers"
        finished = bool(problem)
        for event in self._handshake.events():
            if isinstance(event, AcceptConnection):
                self._frames = Frames(ConnectionType.CLIENT, event.extensions, self._max_message_bytes)
                return [Connected()]
            if isinstance(event, RejectConnection):
                self._rejection = event
                finished |= not event.has_body
            elif isinstance(event, RejectData):
                self._excerpt += event.data
                finished |= event.body_finished
        if finished or len(self._excerpt) >= EXCERPT_BYTES:
            return self._fail(problem)
        return []

    def _fail(self, reason: str) -> list[Fact]:
        self._failed = True
        if self._rejection is None:
            return [ConnectFailed(reason)]
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._rejection.headers)
        return [refusal(self._rejection.status_code, self._excerpt, headers)]


def refusal(status: int, body: bytes | bytearray, headers: Headers) -> ConnectFailed:
    """Say of a response to the upgrade request that it is no upgrade. `body` is its beginning."""
    if 300 <= status < 400:
        location = next((value for name, value in headers if name.lower() == "location"), "")
        return ConnectFailed(f"websocket handshake was answered with status {status}, {redirect_refused(location)}")
    text = " ".join(bytes(body[:EXCERPT_BYTES]).decode(errors="replace").split())
    reason = f"websocket handshake was refused with status {status}: {text or '(no body)'}"
    return ConnectFailed(reason, retry_after_us=retry_after_us(headers))


def _event(action: Sendable) -> Event:
    if isinstance(action, SendText):
        return TextMessage(data=action.text)
    if isinstance(action, SendPing):
        return Ping(payload=action.payload)
    if isinstance(action, SendPong):
        return Pong(payload=action.payload)
    return CloseConnection(code=action.code, reason=action.reason)


def _with_defaults(headers: Iterable[tuple[str, str]], *defaults: tuple[str, str]) -> list[tuple[str, str]]:
    """The headers given, behind the defaults that they do not replace."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    return [*((name, value) for name, value in defaults if name.lower() not in names), *given]


def request_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """The headers of a REST request, but for those that are the connection's own.

    Raises:
        LocalProtocolError: the request has one of those.
    """
    if FRAMING_HEADERS & {name.lower() for name, _ in request.headers}:
        raise LocalProtocolError(f"{request!r} has a header that is the connection's own")
    defaults = [("Accept", "application/json"), ("User-Agent", USER_AGENT)]
    if request.body:
        defaults.append(("Content-Type", "application/json; charset=utf-8"))
    return _with_defaults(request.headers, *defaults)


class HttpResponse(Struct, frozen=True, gc=False, kw_only=True):
    """A whole HTTP response. Redirects are responses like any other."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """In the order received, names in lower case."""
    body: bytes


class HttpFraming:
    """The client's side of one HTTP/1.1 connection, one request at a time.

    Send the result of `request`, give every read to `receive` until it returns the response, and go on with the next request
    as long as `reusable` is true. Bodies are sent as JSON and received as they are. No compression is asked for
    (docs/protocol.md 1.1). `max_body_bytes` bounds the body of a response.
    """

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._connection = h11.Connection(h11.CLIENT)
        self._broken = False
        self._status = 0
        self._headers: tuple[tuple[str, str], ...] = ()
        self._body = bytearray()

    @property
    def reusable(self) -> bool:
        """True when a request can be sent: the last one is complete, and the server keeps the connection."""
        return not self._broken and self._connection.our_state is h11.IDLE

    def request(self, request: HttpRequest, host: str) -> bytes:
        """Return the bytes of a request. `host` is the value of its Host header.

        Raises:
            LocalProtocolError: the connection is not `reusable`, or the request is impossible in HTTP/1.1.
        """
        if not self.reusable:
            raise LocalProtocolError("the HTTP connection is busy, or at its end")
        headers = [("Host", host), *request_headers(request)]
        if request.body or request.method in {"POST", "PUT", "PATCH"}:
            headers.append(("Content-Length", str(len(request.body))))
        try:
            head = h11.Request(method=request.method, target=request.target, headers=headers)
        except (ValueError, h11.LocalProtocolError):
            # h11's own words would show the value of a header, which may be a secret.
            raise LocalProtocolError(f"{request!r} is impossible in HTTP/1.1") from None
        data = self._connection.send(head)
        if request.body:
            data += self._connection.send(h11.Data(data=request.body))
        return data + self._connection.send(h11.EndOfMessage())

    def receive(self, data: bytes) -> HttpResponse | None:
        """Take one read. Return the response once it is complete.

        A read of `b""` says that the peer closed the TCP connection.

        Raises:
            RemoteProtocolError: the response is malformed, truncated, too long, or unexpected.
        """
        if self.reusable:
            self._broken = True
            if data:
                raise RemoteProtocolError("bytes from the server without a request")
        if self._broken:
            return None
        try:
            self._connection.receive_data(data)
            return self._parse()
        except h11.RemoteProtocolError as error:
            self._broken = True
            reason = (
                f"malformed response: {error}"[:EXCERPT_BYTES] if data else "connection closed before the response was complete"
            )
            raise RemoteProtocolError(reason) from error

    def _parse(self) -> HttpResponse | None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Response):
                self._status = event.status_code
                self._headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers)
                if says_two_lengths(event.headers):
                    self._broken = True
                    raise RemoteProtocolError("malformed response: it has both Content-Length and Transfer-Encoding")
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._max_body_bytes:
                    self._broken = True
                    raise RemoteProtocolError(f"body of the response is longer than {self._max_body_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return self._finish()
            elif not isinstance(event, h11.InformationalResponse):
                return None

    def _finish(self) -> HttpResponse:
        response = HttpResponse(status=self._status, headers=self._headers, body=bytes(self._body))
        self._body.clear()
        # Bytes behind the response do not belong to a request: the next one must not meet them.
        if self._connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} and self._connection.trailing_data == (
            b"",
            False,
        ):
            self._connection.start_next_cycle()
        else:
            self._broken = True
        return response
