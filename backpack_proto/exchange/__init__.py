"""The simulated Backpack exchange: matching, market activity, websocket and REST, without a socket or a clock.

`Exchange` is the machine; the rest is its vocabulary, and the matching engine for those who want to trade on it.
"""

from __future__ import annotations

from .authentication import THROWAWAY_API_KEY, THROWAWAY_SECRET
from .exchange import Exchange
from .listings import LISTINGS, Listing
from .matching import MatchingEngine
from .messages import (
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
from .orders import Change, Fill, Outcome, Refusal, RestingOrder, SelfTrade, Side, TimeInForce

__all__ = [
    "LISTINGS",
    "THROWAWAY_API_KEY",
    "THROWAWAY_SECRET",
    "Change",
    "CloseConnection",
    "Exchange",
    "ExchangeInput",
    "ExchangeOutput",
    "Fill",
    "FrameReceived",
    "Listing",
    "MatchingEngine",
    "Outcome",
    "PongReceived",
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
    "TimeInForce",
]
