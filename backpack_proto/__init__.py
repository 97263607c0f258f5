"""Backpack Exchange as pure state machines: no socket, no clock, no thread.

`Session` takes commands and facts and returns events and actions. A runtime does the actions. The simulated exchange is in
`backpack_proto.exchange`, its join with a session, the laws of machines and strategies for hypothesis in `backpack_proto.testing`.
"""

from __future__ import annotations

from .account.account import Account
from .account.margin import FundingPaid, LiquidationPrice, Margin, MarginChanged
from .account.sync import AccountState
from .account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    MarginFunction,
    Order,
    OrderChanged,
    Origin,
    Position,
    PositionChanged,
)
from .auth.keys import Credentials
from .auth.signing import Scheme, Signer
from .book.levels import Book, Coverage
from .buckets import Durations
from .candles import CandleGap
from .decoding import Amount, UnixUs, UnixUsOfText
from .encoding import SCHEMA, decode_event, encode_event
from .errors import (
    ApiError,
    BackpackError,
    ClientClosed,
    ConfigurationError,
    InvalidKey,
    InvalidStream,
    LocalProtocolError,
    NothingTraded,
    NotSent,
    OrderDoesNotFit,
    OrderNotFound,
    OrdersLeft,
    OrderStillOpen,
    OutcomeUnknown,
    PartlyUnreadable,
    RemoteProtocolError,
    UnknownSymbol,
)
from .http import Argument, Headers, HttpRequest, Parameter
from .importance import Importance
from .inputs import (
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
from .machine import Machine, Now
from .metrics import BooksSnapshot, Health, MetricsSnapshot, Status, StreamMetrics
from .observation import BookSeen, ChannelSeen, SessionObservation
from .orders.intents import IdReserved, IntentEnded, IntentOutcome, Intents, JournalBegan, OrderIntent, encode_rows, read_rows
from .orders.resolution import Evidence, OrderFound, OrderNeverHappened, OrderUnresolved, Resolution, judge
from .outputs import (
    Action,
    BookChanged,
    BookCheckFailed,
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    CallAnswered,
    CallFailed,
    CallUnresolved,
    Closed,
    CloseSocket,
    ConnectionDown,
    ConnectionUp,
    DropSocket,
    ErrorReceived,
    EventsDropped,
    MarketClosed,
    MarketOpened,
    OpenSocket,
    Output,
    PeerSilent,
    RowsSkipped,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    StreamLive,
    StreamSilent,
    StreamsRefused,
    WithdrawRequest,
)
from .published import FeedGap, PublisherEnded, PublisherReport, PublisherStarted
from .rest.endpoints.rules import Group, ParameterRule
from .rest.endpoints.table import ENDPOINTS, Endpoint, find_endpoint
from .rest.exchange_clock import ClockStepped
from .rest.grid import Grid, Rounding
from .rest.market_rules import MarketChanged
from .rest.markets import (
    Band,
    Filters,
    Market,
    Markets,
    PremiumBand,
    PriceFilter,
    QuantityFilter,
)
from .rest.new_order import (
    NewOrder,
    OrderType,
    Side,
    TimeInForce,
)
from .rest.order_context import KnownNow
from .rest.pacing import PacerState
from .rest.results import account as _account
from .rest.results import market_data as _market_data
from .rest.results import orders as _orders
from .rest.results import reference as _reference
from .rest.results.account import *  # noqa: F403 - all of them are public, and a new one must not be forgotten
from .rest.results.market_data import *  # noqa: F403 - as above
from .rest.results.orders import *  # noqa: F403 - as above
from .rest.results.reference import *  # noqa: F403 - as above
from .rest.violations import Violation
from .session import Session
from .streams import payloads
from .streams.channels import DEPTH_WINDOWS_MS, KLINE_INTERVALS, Channel, SymbolKind, SymbolRule, Traits
from .streams.frames import Drop, FrameDropped
from .streams.levels import Level
from .streams.names import Stream, bare_ticker, parse_channel, parse_stream, streams_for
from .streams.payloads import *  # noqa: F403 - as above
from .streams.unknown import UnknownPayload
from .values import Sealed, SecretText, Value

__version__ = "0.1.0"

__all__ = [
    "DEPTH_WINDOWS_MS",
    "ENDPOINTS",
    "KLINE_INTERVALS",
    "SCHEMA",
    "Account",
    "AccountConfirmed",
    "AccountDiverged",
    "AccountDoubted",
    "AccountStale",
    "AccountState",
    "AccountSynced",
    "AccountUnconfirmed",
    "Action",
    "Amount",
    "ApiError",
    "Argument",
    "Arguments",
    "BackpackError",
    "Balance",
    "BalanceChanged",
    "Band",
    "Book",
    "BookChanged",
    "BookCheckFailed",
    "BookConfirmed",
    "BookDesynced",
    "BookSeen",
    "BookStale",
    "BookSynced",
    "BookUnavailable",
    "BookVerified",
    "BooksProgress",
    "BooksSnapshot",
    "BytesReceived",
    "Call",
    "CallAnswered",
    "CallFailed",
    "CallUnresolved",
    "CandleGap",
    "Channel",
    "ChannelSeen",
    "ClientClosed",
    "ClockStepped",
    "Close",
    "CloseSocket",
    "Closed",
    "Command",
    "ConfigurationError",
    "ConnectFailed",
    "Connected",
    "ConnectionDown",
    "ConnectionUp",
    "Coverage",
    "Credentials",
    "Disconnected",
    "Drop",
    "DropSocket",
    "Durations",
    "Endpoint",
    "ErrorReceived",
    "EventsDropped",
    "Evidence",
    "Fact",
    "FeedGap",
    "Fill",
    "Filled",
    "Filters",
    "FollowAccount",
    "FrameDropped",
    "FundingPaid",
    "Given",
    "Grid",
    "Group",
    "Headers",
    "Health",
    "HttpRequest",
    "IdReserved",
    "Importance",
    "IntentEnded",
    "IntentOutcome",
    "Intents",
    "InvalidKey",
    "InvalidStream",
    "JournalBegan",
    "KnownNow",
    "Level",
    "LiquidationPrice",
    "LocalProtocolError",
    "Machine",
    "Margin",
    "MarginChanged",
    "MarginFunction",
    "Market",
    "MarketChanged",
    "MarketClosed",
    "MarketOpened",
    "Markets",
    "MetricsSnapshot",
    "NewOrder",
    "NotSent",
    "NothingTraded",
    "Now",
    "Open",
    "OpenSocket",
    "Order",
    "OrderChanged",
    "OrderDoesNotFit",
    "OrderFound",
    "OrderIntent",
    "OrderNeverHappened",
    "OrderNotFound",
    "OrderStillOpen",
    "OrderType",
    "OrderUnresolved",
    "OrdersLeft",
    "Origin",
    "OutcomeUnknown",
    "Output",
    "PacerState",
    "Parameter",
    "ParameterRule",
    "PartlyUnreadable",
    "PeerSilent",
    "PingReceived",
    "PongReceived",
    "Position",
    "PositionChanged",
    "PremiumBand",
    "PriceFilter",
    "PublisherEnded",
    "PublisherReport",
    "PublisherStarted",
    "QuantityFilter",
    "ReadingPaused",
    "ReadingResumed",
    "Reconnect",
    "RefreshBook",
    "RemoteProtocolError",
    "RequestFailed",
    "RequestLeft",
    "Resolution",
    "Resolve",
    "ResponseReceived",
    "Rounding",
    "RowsSkipped",
    "Scheme",
    "Sealed",
    "SecretText",
    "SendPing",
    "SendPong",
    "SendRequest",
    "SendText",
    "Session",
    "SessionObservation",
    "Side",
    "Signer",
    "Status",
    "Stream",
    "StreamLive",
    "StreamMetrics",
    "StreamSilent",
    "StreamsRefused",
    "Subscribe",
    "SymbolKind",
    "SymbolRule",
    "TextReceived",
    "TimeInForce",
    "TimerFired",
    "Traits",
    "UnixUs",
    "UnixUsOfText",
    "UnknownPayload",
    "UnknownSymbol",
    "Unsubscribe",
    "Value",
    "Verify",
    "Violation",
    "Withdraw",
    "WithdrawRequest",
    "bare_ticker",
    "decode_event",
    "encode_event",
    "encode_rows",
    "find_endpoint",
    "judge",
    "parse_channel",
    "parse_stream",
    "read_rows",
    "streams_for",
]

__all__ += _account.__all__
__all__ += _market_data.__all__
__all__ += _orders.__all__
__all__ += _reference.__all__
__all__ += payloads.__all__
