"""Inputs and outputs of the simulated exchange.

The mirror image of the client's vocabulary: the runtime that serves the exchange turns the data of its sockets into these
inputs, and carries out the outputs, in the order given. Connections and requests are numbered by the runtime. A number of a
connection is never used twice. Protocol pings of a client are the runtime's own to answer. Wishes of the operator of the exchange
come in as commands.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.inputs import TimerFired

from .fault_plan import PlannedFault
from .market.listings import BookState

__all__ = [
    "AbandonRequest",
    "ChangeMarket",
    "CloseConnection",
    "CloseMarket",
    "ExchangeInput",
    "ExchangeOutput",
    "FrameReceived",
    "OpenMarket",
    "OperatorCommand",
    "PaceMarket",
    "PingSocket",
    "PlanFaults",
    "RefuseConnections",
    "RequestReceived",
    "Respond",
    "Restart",
    "RestrictMarket",
    "SendFrame",
    "SocketClosed",
    "SocketOpened",
    "SocketPonged",
]


class SocketOpened(Struct, frozen=True, gc=False):
    """A client completed the websocket handshake."""

    connection: int


class FrameReceived(Struct, frozen=True, gc=False):
    """One whole message of a client, any bytes."""

    connection: int
    data: bytes


class SocketPonged(Struct, frozen=True, gc=False):
    """A client answered a protocol ping."""

    connection: int
    payload: bytes


class SocketClosed(Struct, frozen=True, gc=False):
    """A connection is gone, ended by either side."""

    connection: int


class RequestReceived(Struct, frozen=True, gc=False):
    """One whole HTTP request."""

    request_id: int
    method: str
    target: str
    """Path and query, as they stand in the request line."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class PaceMarket(Struct, frozen=True, gc=False):
    """Let a market be busier or quieter from now on."""

    symbol: str
    speed: float
    """A multiple of the market's own pace. 0 stops its book."""


class CloseMarket(Struct, frozen=True, gc=False):
    """Close the book of a market: the account's orders in it expire, and its trading and publishing stop."""

    symbol: str


class ChangeMarket(Struct, frozen=True, gc=False):
    """Give a market another tick and step: orders have to keep them from now on, and the crowd cancels those of its own that do not.

    It is not published. Both sizes are multiples of the units of the market, so it can only become as fine as that.
    """

    symbol: str
    tick_size: Decimal
    step_size: Decimal


class RestrictMarket(Struct, frozen=True, gc=False):
    """Let an open book take less than all orders: only cancels, only limit orders, or only post-only ones. None lifts that.

    The crowd goes on as before, and it is not published.
    """

    symbol: str
    state: BookState | None


class OpenMarket(Struct, frozen=True, gc=False):
    """Open the book of a market again, as it was. Only those who subscribed while it was open are told of it."""

    symbol: str


class Restart(Struct, frozen=True, gc=False):
    """Close every connection, leave every delayed answer unsent, and go on."""

    keep_ids: bool = True
    """Continue the update ids. Otherwise those of every market begin somewhere else."""


class PlanFaults(Struct, frozen=True, gc=False):
    """Let faults happen by a plan, which begins now and takes the place of the one before. No faults end them all."""

    faults: tuple[PlannedFault, ...]


class SendFrame(Struct, frozen=True, gc=False):
    """Send one text message."""

    connection: int
    data: bytes


class PingSocket(Struct, frozen=True, gc=False):
    """Send a protocol ping."""

    connection: int
    payload: bytes


class CloseConnection(Struct, frozen=True, gc=False):
    """End a connection: with a Close frame of this code, or, when it is None, by dropping TCP without a word."""

    connection: int
    code: int | None


class Respond(Struct, frozen=True, gc=False):
    """Answer a request."""

    request_id: int
    status: int
    content_type: str
    """Empty when the answer has no body."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class AbandonRequest(Struct, frozen=True, gc=False):
    """Answer a request never: drop its TCP connection without a word."""

    request_id: int


class RefuseConnections(Struct, frozen=True, gc=False):
    """Cut off all connections and refuse new ones, as long as it holds."""

    refuse: bool


OperatorCommand: TypeAlias = PaceMarket | CloseMarket | OpenMarket | ChangeMarket | RestrictMarket | Restart | PlanFaults
ExchangeInput: TypeAlias = (
    SocketOpened | FrameReceived | SocketPonged | SocketClosed | RequestReceived | TimerFired | OperatorCommand
)
ExchangeOutput: TypeAlias = SendFrame | PingSocket | CloseConnection | Respond | AbandonRequest | RefuseConnections
