"""The simulated Backpack exchange: matching, market activity, websocket and REST, without a socket or a clock.

`Exchange` is the machine; the rest is its vocabulary, and the matching engine for those who want to trade on it.
"""

from __future__ import annotations

from backpack_proto.auth.keys import THROWAWAY_API_KEY, THROWAWAY_SECRET

from .account.accounts import DEFAULT_DEPOSITS, Account, AccountBalance, AccountFill, AccountPosition, Fees
from .account.orders import OrderState, Status
from .exchange import Exchange
from .faults import Fault, Faults, RateLimits
from .market.listings import LISTINGS, Listing
from .market.matching import MatchingEngine
from .market.orders import Change, Fill, Outcome, Refusal, RestingOrder, SelfTrade, Side, TimeInForce
from .messages import (
    AbandonRequest,
    CloseConnection,
    ExchangeInput,
    ExchangeOutput,
    FrameReceived,
    PongReceived,
    RequestReceived,
    Respond,
    SendFrame,
    SendPing,
    SocketClosed,
    SocketOpened,
)

__all__ = [
    "DEFAULT_DEPOSITS",
    "LISTINGS",
    "THROWAWAY_API_KEY",
    "THROWAWAY_SECRET",
    "AbandonRequest",
    "Account",
    "AccountBalance",
    "AccountFill",
    "AccountPosition",
    "Change",
    "CloseConnection",
    "Exchange",
    "ExchangeInput",
    "ExchangeOutput",
    "Fault",
    "Faults",
    "Fees",
    "Fill",
    "FrameReceived",
    "Listing",
    "MatchingEngine",
    "OrderState",
    "Outcome",
    "PongReceived",
    "RateLimits",
    "Refusal",
    "RequestReceived",
    "Respond",
    "RestingOrder",
    "SelfTrade",
    "SendFrame",
    "SendPing",
    "Side",
    "SocketClosed",
    "SocketOpened",
    "Status",
    "TimeInForce",
]
