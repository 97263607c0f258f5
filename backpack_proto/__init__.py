"""Backpack Exchange as pure state machines: no socket, no clock, no thread.

`Session` takes commands and facts and returns events and actions; a runtime does the actions. The simulated exchange is in
`backpack_proto.exchange`, its join with a session in `backpack_proto.testing.simulation`, the laws of machines in `backpack_proto.testing.laws`.
"""

from __future__ import annotations

from .account.ledger import Account
from .account.values import (
    AccountDiverged,
    AccountStale,
    AccountSynced,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    Origin,
    Position,
    PositionChanged,
)
from .auth.keys import Credentials
from .auth.signing import Scheme, Signer
from .book.levels import Book, Coverage
from .errors import (
    ApiError,
    BackpackError,
    InvalidKey,
    InvalidStream,
    LocalProtocolError,
    OutcomeUnknown,
    RemoteProtocolError,
    UnknownSymbol,
)
from .http import HttpRequest, Parameter
from .inputs import (
    Argument,
    Arguments,
    BytesReceived,
    Call,
    Close,
    Command,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    FollowAccount,
    Given,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Unsubscribe,
    Verify,
)
from .machine import Machine, Now
from .metrics import Health, MetricsSnapshot, Status, StreamMetrics
from .outputs import (
    Action,
    BookChanged,
    BookDesynced,
    BookSynced,
    BookUnavailable,
    BookVerified,
    CallAnswered,
    CallFailed,
    Closed,
    CloseSocket,
    ConnectionDown,
    ConnectionUp,
    DropSocket,
    ErrorReceived,
    OpenSocket,
    Output,
    PeerSilent,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from .rest.endpoints.table import ENDPOINTS, Endpoint, find_endpoint
from .rest.exchange_clock import ClockStepped
from .rest.markets import Market, Markets
from .rest.pacing import PacerState
from .rest.results.market_data import Page
from .session import Session
from .streams import payloads
from .streams.channels import DEPTH_WINDOWS_MS, KLINE_INTERVALS, Channel
from .streams.frames import Drop, FrameDropped
from .streams.names import Stream, parse_channel, parse_stream, streams_for
from .streams.payloads import *  # noqa: F403 - all of them are public, and a new one must not be forgotten

__version__ = "0.1.0"

__all__ = [
    "DEPTH_WINDOWS_MS",
    "ENDPOINTS",
    "KLINE_INTERVALS",
    "Account",
    "AccountDiverged",
    "AccountStale",
    "AccountSynced",
    "Action",
    "ApiError",
    "Argument",
    "Arguments",
    "BackpackError",
    "Balance",
    "BalanceChanged",
    "Book",
    "BookChanged",
    "BookDesynced",
    "BookSynced",
    "BookUnavailable",
    "BookVerified",
    "BytesReceived",
    "Call",
    "CallAnswered",
    "CallFailed",
    "Channel",
    "ClockStepped",
    "Close",
    "CloseSocket",
    "Closed",
    "Command",
    "ConnectFailed",
    "Connected",
    "ConnectionDown",
    "ConnectionUp",
    "Coverage",
    "Credentials",
    "Disconnected",
    "Drop",
    "DropSocket",
    "Endpoint",
    "ErrorReceived",
    "Fact",
    "Fill",
    "Filled",
    "FollowAccount",
    "FrameDropped",
    "Given",
    "Health",
    "HttpRequest",
    "InvalidKey",
    "InvalidStream",
    "LocalProtocolError",
    "Machine",
    "Market",
    "Markets",
    "MetricsSnapshot",
    "Now",
    "Open",
    "OpenSocket",
    "Order",
    "OrderChanged",
    "Origin",
    "OutcomeUnknown",
    "Output",
    "PacerState",
    "Page",
    "Parameter",
    "PeerSilent",
    "PingReceived",
    "PongReceived",
    "Position",
    "PositionChanged",
    "ReadingPaused",
    "ReadingResumed",
    "RemoteProtocolError",
    "RequestFailed",
    "ResponseReceived",
    "Scheme",
    "SendPing",
    "SendPong",
    "SendRequest",
    "SendText",
    "Session",
    "Signer",
    "Status",
    "Stream",
    "StreamLive",
    "StreamMetrics",
    "StreamSilent",
    "StreamsRefused",
    "Subscribe",
    "TextReceived",
    "TimerFired",
    "UnknownSymbol",
    "Unsubscribe",
    "Verify",
    "find_endpoint",
    "parse_channel",
    "parse_stream",
    "streams_for",
]

__all__ += payloads.__all__
