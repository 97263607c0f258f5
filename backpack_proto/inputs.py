"""Inputs of the core: commands of the application, facts of the outside world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self, TypeAlias

from msgspec.structs import force_setattr

from .errors import BackpackError
from .http import Argument
from .streams.names import Stream
from .values import Sealed, Value

__all__ = [
    "Arguments",
    "BytesReceived",
    "Call",
    "Close",
    "Command",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "Fact",
    "FollowAccount",
    "Given",
    "Open",
    "PingReceived",
    "PongReceived",
    "ReadingPaused",
    "ReadingResumed",
    "Reconnect",
    "RefreshBook",
    "RequestFailed",
    "RequestLeft",
    "Resolve",
    "ResponseReceived",
    "Subscribe",
    "TextReceived",
    "TimerFired",
    "Unsubscribe",
    "Verify",
    "Withdraw",
]

Arguments: TypeAlias = Mapping[str, Argument | Sequence[Mapping[str, Argument]]]
"""The parameters of a call. A batch has its orders in one of them."""


class Command(Value, frozen=True, gc=False):
    """A wish of the application."""


class Fact(Value, frozen=True, gc=False):
    """An observation of the runtime."""


class Open(Command, frozen=True, gc=False):
    """Connect, and stay connected."""


class Close(Command, frozen=True, gc=False):
    """Disconnect in order, and stay so."""


class Subscribe(Command, frozen=True, gc=False):
    """Want streams (names of the exchange) on this connection and on each that follows. Their data are events."""

    streams: tuple[str, ...] = ()
    books: tuple[str, ...] = ()
    """Depth streams that are wanted as well, and whose books are verified: the `bookTicker` that this takes is requested along with
    them, and is among the events only when it is wanted itself."""
    untyped: tuple[str, ...] = ()
    """Streams of kinds that `Channel` does not have, as the exchange spells them: their data are `UnknownPayload`."""

    @classmethod
    def of(cls, streams: Iterable[Stream]) -> Self:
        """Want these. A depth stream that is `verified` is a book."""
        streams = tuple(streams)
        return cls(
            tuple(stream.name for stream in streams if not stream.verified),
            tuple(stream.name for stream in streams if stream.verified),
        )


class Unsubscribe(Command, frozen=True, gc=False):
    """Want these streams no more. A depth stream takes along the streams that only the verification of its book needed.

    Streams with another need stay, unseen: the `bookTicker` of a book that is verified, the streams of the ledger.
    """

    streams: tuple[str, ...]

    @classmethod
    def of(cls, streams: Iterable[Stream]) -> Self:
        """Want these no more, verified or not."""
        return cls(tuple(stream.name for stream in streams))


class Verify(Command, frozen=True, gc=False):
    """Check the book of this depth stream against a fresh REST snapshot now."""

    stream: str


class RefreshBook(Command, frozen=True, gc=False):
    """Distrust the book of this depth stream: it is stale at once, its stream is requested again, and a new snapshot fetched."""

    stream: str


class Reconnect(Command, frozen=True, gc=False):
    """Drop the connection and open another one at once, also while waiting for the next attempt. One that is being made is left alone."""


_NOTHING: Arguments = Sealed({})


class Call(Command, frozen=True, gc=False, kw_only=True):
    """Call a REST endpoint. The answer is a `CallAnswered` or `CallFailed` with the same `call_id`."""

    call_id: int
    endpoint: str
    """A name of the endpoint table, an instruction, or a method and a path, as `endpoints.find_endpoint` takes it."""
    parameters: Arguments = _NOTHING
    """Sealed: some of them are secret, so a call is not pickled, encoded or logged."""
    max_wait_us: int | None = None
    """Time that it may wait to be sent, then it fails as `NotSent`. None is `MAX_WAIT_US` where it changes something, else no bound."""

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Sealed):
            force_setattr(self, "parameters", Sealed(self.parameters))

    def __repr__(self) -> str:
        return f"Call({self.call_id}, {self.endpoint}, {', '.join(self.parameters) or 'no parameters'})"


class Withdraw(Command, frozen=True, gc=False):
    """Give up a `Call`: one that has not been sent never will be.

    If it changes something and may have been sent, a `CallUnresolved` says so. It has no effect when its answer has come already.
    """

    call_id: int


class Resolve(Command, frozen=True, gc=False):
    """Take a call off the unresolved ones: how it ended was found out otherwise."""

    call_id: int


class FollowAccount(Command, frozen=True, gc=False):
    """Keep a ledger of the account: orders, fills, positions and balances, on this connection and on each that follows."""


class Connected(Fact, frozen=True, gc=False):
    """The websocket handshake is done. Frames can be sent."""


class ConnectFailed(Fact, frozen=True, gc=False):
    """The connection could not be made: name, TCP, TLS, proxy or handshake. `reason` says which."""

    reason: str
    proxy: str | None = None
    """The endpoint of the proxy at which it failed, or None where no proxy is to blame."""
    error: BackpackError | None = None
    """The same as a type, where there is one of its own."""
    retry_after_us: int | None = None
    """The wait that a refused handshake asks for, from its Retry-After header."""


class Disconnected(Fact, frozen=True, gc=False):
    """The websocket is gone. `code` is of RFC 6455 section 7.4, 1006 when there was no Close frame."""

    code: int
    reason: str


class TextReceived(Fact, frozen=True, gc=False):
    """One whole text message, still encoded."""

    data: bytes
    received_us: int | None = None
    """When it was read, by the wall clock, microseconds since the epoch. None: at the moment at which it is given to the session."""


class BytesReceived(Fact, frozen=True, gc=False):
    """Bytes came that do not complete a message: the connection is alive nevertheless."""

    count: int


class PingReceived(Fact, frozen=True, gc=False):
    """The exchange's protocol ping (RFC 6455 section 5.5.2). Nobody has answered it yet."""

    payload: bytes


class PongReceived(Fact, frozen=True, gc=False):
    """The answer to a ping of ours."""

    payload: bytes


class ReadingPaused(Fact, frozen=True, gc=False):
    """The runtime stopped reading the socket, for the application does not keep up."""


class ReadingResumed(Fact, frozen=True, gc=False):
    """The runtime reads again."""


class ResponseReceived(Fact, frozen=True, gc=False, kw_only=True):
    """The answer to a `SendRequest`."""

    request_id: int
    status: int
    body: bytes
    retry_after_us: int | None = None
    """From the Retry-After header, should there be one."""
    headers: tuple[tuple[str, str], ...] = ()
    """Those with page counts are read (docs/protocol.md 6.4). Others may be left out."""


class RequestFailed(Fact, frozen=True, gc=False, kw_only=True):
    """No answer came to a `SendRequest`."""

    request_id: int
    reason: str
    sent: bool = True
    """False only when it is certain that the exchange did not see the request."""
    proxy: str | None = None
    """The endpoint of the proxy at which it failed, or None where no proxy is to blame."""
    error: BackpackError | None = None
    """The same as a type, where there is one of its own."""


class RequestLeft(Fact, frozen=True, gc=False):
    """A `WithdrawRequest` came too late: the request has been sent, at least in part, and its answer is still waited for."""

    request_id: int


class TimerFired(Fact, frozen=True, gc=False):
    """The moment that `deadline` named has come."""


Given: TypeAlias = Command | Fact
