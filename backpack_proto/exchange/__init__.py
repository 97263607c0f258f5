"""The simulated Backpack exchange: matching, market activity, websocket and REST, without a socket or a clock.

`Exchange` is the machine. The rest is its vocabulary, and the matching engine for those who want to trade on it.
"""

from __future__ import annotations

from backpack_proto.auth.keys import THROWAWAY_API_KEY, THROWAWAY_SECRET

from .account.accounts import DEFAULT_DEPOSITS, Fees, SimulatedAccount, SimulatedBalance, SimulatedFill, SimulatedPosition
from .account.orders import OrderState, SimulatedOrder
from .exchange import Exchange
from .fault_plan import FAULT_KINDS, FaultKind, FiredFault, PlannedFault, parse_faults
from .faults import Fault, Faults, RateLimits
from .market.listings import LISTINGS, BookState, Listing, more_listings
from .market.matching import MatchingEngine
from .market.orders import Change, Match, OrderSide, OrderTimeInForce, Outcome, Refusal, RestingOrder, SelfTrade
from .messages import (
    AbandonRequest,
    ChangeMarket,
    CloseConnection,
    CloseMarket,
    ExchangeInput,
    ExchangeOutput,
    FrameReceived,
    OpenMarket,
    PaceMarket,
    PingSocket,
    PlanFaults,
    RefuseConnections,
    RequestReceived,
    Respond,
    Restart,
    RestrictMarket,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)

__all__ = [
    "DEFAULT_DEPOSITS",
    "FAULT_KINDS",
    "LISTINGS",
    "THROWAWAY_API_KEY",
    "THROWAWAY_SECRET",
    "AbandonRequest",
    "BookState",
    "Change",
    "ChangeMarket",
    "CloseConnection",
    "CloseMarket",
    "Exchange",
    "ExchangeInput",
    "ExchangeOutput",
    "Fault",
    "FaultKind",
    "Faults",
    "Fees",
    "FiredFault",
    "FrameReceived",
    "Listing",
    "Match",
    "MatchingEngine",
    "OpenMarket",
    "OrderSide",
    "OrderState",
    "OrderTimeInForce",
    "Outcome",
    "PaceMarket",
    "PingSocket",
    "PlanFaults",
    "PlannedFault",
    "RateLimits",
    "Refusal",
    "RefuseConnections",
    "RequestReceived",
    "Respond",
    "Restart",
    "RestingOrder",
    "RestrictMarket",
    "SelfTrade",
    "SendFrame",
    "SimulatedAccount",
    "SimulatedBalance",
    "SimulatedFill",
    "SimulatedOrder",
    "SimulatedPosition",
    "SocketClosed",
    "SocketOpened",
    "SocketPonged",
    "more_listings",
    "parse_faults",
]
