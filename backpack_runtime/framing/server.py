"""Server framing, the twin of `framing`: one TCP connection to the simulated exchange, HTTP/1.1 first, a websocket perhaps.

Theory of operation. A TCP connection begins as HTTP. Requests may come pipelined, and each has an h11 connection of its own,
so that all requests of a read are facts of that read. The ones not answered yet wait in a queue, for responses have to leave
in the order of the requests. Invalid requests are answered by their status (400 mostly) behind those, and the connection
ends. A request to become a websocket stops the reading of HTTP until it is answered, by `accept` or by a response.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from struct import pack
from typing import TypeAlias

import h11
from msgspec import Struct
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, RejectConnection
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError as WsprotoRemoteProtocolError

from backpack_proto.errors import LocalProtocolError
from backpack_proto.http import Headers
from backpack_proto.inputs import Disconnected, PingReceived, PongReceived, TextReceived

from .frames import Frames
from .lengths import says_two_lengths

__all__ = ["HttpRequestReceived", "MessageReceived", "PeerClosed", "ServerFact", "ServerFraming", "UpgradeRequested"]

MAX_REQUEST_BODY_BYTES = 1024 * 1024
MAX_REQUEST_MESSAGE_BYTES = 1024 * 1024
SLICE_BYTES = 64 * 1024  # a parsed request copies the bytes behind it once
TEXT_FRAME = 0x81


class HttpRequestReceived(Struct, frozen=True, gc=False, kw_only=True):
    """A whole HTTP request. Answer with `ServerFraming.respond`, in the order of the requests."""

    method: str
    target: str
    """Path and query, as they were sent."""
    headers: Headers
    """In the order received, names in lower case."""
    body: bytes


class UpgradeRequested(Struct, frozen=True, gc=False, kw_only=True):
    """A request to become a websocket. Answer with `ServerFraming.accept` or `respond`."""

    target: str
    headers: Headers


class MessageReceived(Struct, frozen=True, gc=False):
    """One whole message of the websocket, text or binary."""

    data: bytes


class PeerClosed(Struct, frozen=True, gc=False):
    """The websocket is gone. `code` is of RFC 6455 section 7.4, 1006 when there was no Close frame."""

    code: int


ServerFact: TypeAlias = HttpRequestReceived | UpgradeRequested | MessageReceived | PongReceived | PeerClosed


class _Request(Struct):
    """A request, and the h11 connection that knows how to answer it."""

    http: h11.Connection
    head: h11.Request
    body: bytearray


class _Upgrade(Struct):
    """First bytes of a websocket."""

    answer: bytes
    extensions: list[Extension]


class ServerFraming:
    """The server's side of one TCP connection.

    Give every read to `receive`, send the results of the other methods and, after each `receive`, of `to_send`, and
    close the TCP connection once `closed` is true. Pings of the client are answered here. `compression` accepts
    permessage-deflate if it is offered, and then compresses every message.
    """

    def __init__(
        self,
        *,
        compression: bool = False,
        max_message_bytes: int = MAX_REQUEST_MESSAGE_BYTES,
        max_body_bytes: int = MAX_REQUEST_BODY_BYTES,
    ) -> None:
        self._compression = compression
        self._max_message_bytes = max_message_bytes
        self._max_body_bytes = max_body_bytes
        self._http = h11.Connection(h11.SERVER)
        self._request: _Request | None = None
        self._unanswered: deque[_Request] = deque()
        self._upgrade: _Upgrade | None = None
        self._early = bytearray()
        self._frames: Frames | None = None
        self._compressing = False
        self._reading = True
        self._refusal = b""
        self._outgoing = bytearray()
        self._closed = False

    @property
    def closed(self) -> bool:
        """True when the TCP connection can be closed, once `to_send` has been sent."""
        return self._closed or (self._frames is not None and self._frames.ended)

    def receive(self, data: bytes) -> list[ServerFact]:
        """Take one read. Return the requests or messages that it completes.

        A read of `b""` says that the peer closed the TCP connection.
        """
        if self.closed:
            return []
        if self._frames is not None:
            return self._receive_frames(self._frames, data)
        if not data:
            self._reading = False
            self._closed = not self._unanswered
            return []
        facts: list[ServerFact] = []
        for start in range(0, len(data), SLICE_BYTES):
            self._receive_http(data[start : start + SLICE_BYTES], facts)
        return facts

    def to_send(self) -> bytes:
        """Take the bytes that have to go out in reply to the client: pongs, Close frames, refusals."""
        data = bytes(self._outgoing) + (b"" if self._frames is None else self._frames.to_send())
        self._outgoing.clear()
        return data

    def respond(self, status: int, content_type: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
        """Return the bytes of the response to the first request without one. An empty `content_type` leaves that header out.

        Raises:
            LocalProtocolError: no request waits, or the response is impossible in HTTP/1.1.
        """
        if not self._unanswered:
            raise LocalProtocolError("no request waits for a response")
        request = self._unanswered[0]
        bodiless = status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        if body and bodiless:
            raise LocalProtocolError(f"a response of status {status} has no body")
        fields = [*headers, ("Content-Type", content_type)] if content_type else [*headers]
        if not bodiless:
            fields.append(("Content-Length", str(len(body))))
        if self._upgrade is not None and len(self._unanswered) == 1:
            fields.append(("Connection", "close"))
        try:
            head = h11.Response(status_code=status, headers=fields)
        except (ValueError, h11.LocalProtocolError) as error:
            raise LocalProtocolError(f"impossible response: {error}") from error
        data = request.http.send(head)
        if body and request.head.method != b"HEAD":
            data += request.http.send(h11.Data(data=body))
        data += request.http.send(h11.EndOfMessage())
        self._unanswered.popleft()
        if request.http.our_state is not h11.DONE:
            self._reading = False
            self._closed = True
        elif not self._reading and not self._unanswered:
            data += self._refusal
            self._closed = True
        return data

    def accept(self) -> bytes:
        """The bytes that make the connection a websocket.

        Raises:
            LocalProtocolError: no client asked for one, or requests before it wait for a response.
        """
        if self._upgrade is None or len(self._unanswered) != 1:
            raise LocalProtocolError("no request to become a websocket is next to be answered")
        self._frames = Frames(ConnectionType.SERVER, self._upgrade.extensions, self._max_message_bytes)
        self._compressing = any(extension.enabled() for extension in self._upgrade.extensions)
        self._unanswered.clear()
        return self._upgrade.answer

    def message(self, data: bytes) -> bytes:
        """The bytes of a text message. `data` is UTF-8. None once a Close frame went out or came in.

        Raises:
            LocalProtocolError: the connection is no websocket.
        """
        frames = self._websocket()
        if self._compressing:
            return frames.send_compressed(data.decode())
        if frames.ended or frames.closing:
            return b""
        length = len(data)
        if length < 126:
            return pack("!BB", TEXT_FRAME, length) + data
        if length <= 0xFFFF:
            return pack("!BBH", TEXT_FRAME, 126, length) + data
        return pack("!BBQ", TEXT_FRAME, 127, length) + data

    def ping(self, payload: bytes) -> bytes:
        """The bytes of a ping of at most 125 bytes. None once a Close frame went out or came in.

        Raises:
            LocalProtocolError: the connection is no websocket, or the payload is too long.
        """
        return self._send(Ping(payload=payload))

    def close(self, code: int) -> bytes:
        """The bytes of a Close frame. None if one went out or came in already. `PeerClosed` follows.

        Raises:
            LocalProtocolError: the connection is no websocket, or the code is not for a Close frame.
        """
        return self._send(CloseConnection(code=code))

    def _send(self, event: Event) -> bytes:
        try:
            return self._websocket().send(event)
        except ValueError as error:
            raise LocalProtocolError(f"{type(event).__name__} cannot be encoded as a frame: {error}") from error

    def _websocket(self) -> Frames:
        if self._frames is None:
            raise LocalProtocolError("the connection is no websocket")
        return self._frames

    def _receive_frames(self, frames: Frames, data: bytes) -> list[ServerFact]:
        if data and self._early:
            data = bytes(self._early) + data
            self._early.clear()
        facts: list[ServerFact] = []
        for fact in frames.receive(data):
            if isinstance(fact, TextReceived):
                facts.append(MessageReceived(fact.data))
            elif isinstance(fact, PingReceived):
                self._outgoing += frames.send(Pong(payload=fact.payload))
            elif isinstance(fact, PongReceived):
                facts.append(fact)
            elif isinstance(fact, Disconnected):
                facts.append(PeerClosed(fact.code))
        return facts

    def _receive_http(self, data: bytes, facts: list[ServerFact]) -> None:
        if self._upgrade is not None:
            self._early += data
            return
        try:
            while self._reading and data:
                self._http.receive_data(data)
                data = self._parse_request(facts)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _parse_request(self, facts: list[ServerFact]) -> bytes:
        """Read on in the current request. Return the bytes behind it once it is complete."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                if says_two_lengths(event.headers):
                    self._refuse(HTTPStatus.BAD_REQUEST)
                    return b""
                self._request = _Request(self._http, event, bytearray())
            elif self._request is not None and isinstance(event, h11.Data):
                self._request.body += event.data
                if len(self._request.body) > self._max_body_bytes:
                    self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return b""
            elif self._request is not None and isinstance(event, h11.EndOfMessage):
                request, self._request = self._request, None
                rest, _ = self._http.trailing_data
                self._reading = self._http.their_state is not h11.MUST_CLOSE
                self._http = h11.Connection(h11.SERVER)
                return self._take_request(request, rest, facts)
            else:
                return b""

    def _take_request(self, request: _Request, rest: bytes, facts: list[ServerFact]) -> bytes:
        head = request.head
        target = head.target.decode("ascii")
        headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
        if not any(name == "upgrade" and value.lower() == "websocket" for name, value in headers):
            self._unanswered.append(request)
            body = bytes(request.body)
            facts.append(HttpRequestReceived(method=head.method.decode("ascii"), target=target, headers=headers, body=body))
            return rest
        try:
            self._upgrade = self._prepare_upgrade(request)
        except WsprotoRemoteProtocolError as error:
            hint = error.event_hint
            refusal = hint if isinstance(hint, RejectConnection) else RejectConnection()
            self._refuse(refusal.status_code, refusal.headers)
        except (ValueError, h11.LocalProtocolError, h11.RemoteProtocolError):
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            self._unanswered.append(request)
            self._early += rest
            facts.append(UpgradeRequested(target=target, headers=headers))
        return b""

    def _prepare_upgrade(self, request: _Request) -> _Upgrade:
        """Go through the handshake at once, so that its faults are known before the exchange is asked."""
        if request.head.method != b"GET" or request.body or request.head.http_version < b"1.1":
            raise WsprotoRemoteProtocolError("RFC 6455 section 4.2.1 asks for a GET of HTTP/1.1 at least")
        handshake = H11Handshake(ConnectionType.SERVER)
        handshake.initiate_upgrade_connection(list(request.head.headers), request.head.target)
        if self._compression:
            try:
                extension = PerMessageDeflate()
                return _Upgrade(handshake.send(AcceptConnection(extensions=[extension])), [extension])
            except ValueError:
                # An offer whose parameters are no numbers is declined (RFC 7692 section 5.1).
                pass
        return _Upgrade(handshake.send(AcceptConnection()), [])

    def _refuse(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer an invalid request, behind the responses that are still due, and end the connection."""
        self._reading = False
        body = HTTPStatus(status).phrase.encode()
        fields = [*headers, (b"Content-Type", b"text/plain; charset=utf-8"), (b"Connection", b"close")]
        fields.append((b"Content-Length", str(len(body)).encode()))
        http = h11.Connection(h11.SERVER)
        answer = http.send(h11.Response(status_code=status, headers=fields)) + http.send(h11.Data(data=body))
        answer += http.send(h11.EndOfMessage())
        if self._unanswered:
            self._refusal = answer
        else:
            self._outgoing += answer
            self._closed = True
