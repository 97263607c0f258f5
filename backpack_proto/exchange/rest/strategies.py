"""Strategies of one account: they are kept, listed and cancelled, and never trade (docs/protocol.md 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from backpack_proto.exchange.account.order_request import Members, Number, market_listing, refusal, unreadable
from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.stream.frames import iso_time_ms

from .answers import Answer
from .query import Query

__all__ = ["Strategies"]

MOST_OPEN: Final = 50
FIRST_ID: Final = 55_001


class _Strategy(Struct, gc=False, kw_only=True):
    number: int
    symbol: str
    created_us: int
    asked: dict[str, object]
    """The request that made it, as it is shown."""
    state: str = "Running"

    def row(self) -> dict[str, object]:
        return {
            **self.asked,
            "createdAt": self.created_us // 1_000,
            "executedQuantity": "0",
            "executedQuoteQuantity": "0",
            "id": str(self.number),
            "status": self.state,
            "symbol": self.symbol,
        }


class Strategies:
    """The strategies of one account."""

    def __init__(self, listings: Mapping[str, Listing]) -> None:
        self._listings = listings
        self._all: list[_Strategy] = []

    def create(self, _query: Query, members: Members, us: int) -> Answer:
        """Keep a new one."""
        listing = market_listing(_text(members, "symbol"), self._listings)
        side, kind = members.get("side"), members.get("strategyType")
        if side not in ("Bid", "Ask") or kind != "Scheduled":
            raise unreadable('failed to parse "StrategyCreatePayload": fields `side` and `strategyType` are required')
        duration, interval = _whole(members, "duration"), _whole(members, "interval")
        client_id = _whole(members, "clientStrategyId") if members.get("clientStrategyId") is not None else None
        if not duration or not interval or interval > duration:
            raise refusal("INVALID_ORDER", "A strategy has a duration, and an interval that is not longer")
        if client_id is not None and any(known.asked["clientStrategyId"] == client_id for known in self._open()):
            raise refusal("INVALID_ORDER", "Duplicate client strategy ID")
        if len(self._open()) >= MOST_OPEN:
            raise refusal("ORDER_LIMIT", "Too many strategies")
        asked: dict[str, object] = {
            "clientStrategyId": client_id,
            "duration": duration,
            "interval": interval,
            "quantity": members.get("quantity"),
            "randomizedIntervalQuantity": bool(members.get("randomizedIntervalQuantity")),
            "reduceOnly": members.get("reduceOnly"),
            "selfTradePrevention": members.get("selfTradePrevention") or "RejectTaker",
            "side": side,
            "slippageTolerance": members.get("slippageTolerance"),
            "slippageToleranceType": members.get("slippageToleranceType"),
            "strategyType": kind,
            "timeInForce": members.get("timeInForce") or "GTC",
        }
        strategy = _Strategy(number=FIRST_ID + len(self._all), symbol=listing.symbol, created_us=us, asked=asked)
        self._all.append(strategy)
        return strategy.row()

    def find(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show an open one by one of its ids."""
        return self._one(query.required("symbol"), query.optional("strategyId"), query.optional("clientStrategyId")).row()

    def cancel(self, _query: Query, members: Members, _us: int) -> Answer:
        """Cancel one."""
        strategy = self._one(members.get("symbol"), members.get("strategyId"), members.get("clientStrategyId"))
        strategy.state = "Cancelled"
        return strategy.row()

    def list_open(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show those that are open."""
        symbol = query.optional("symbol")
        return [strategy.row() for strategy in self._open() if symbol in {None, strategy.symbol}]

    def cancel_all(self, _query: Query, members: Members, _us: int) -> Answer:
        """Cancel those of one market."""
        listing = market_listing(_text(members, "symbol"), self._listings)
        cancelled = [strategy for strategy in self._open() if strategy.symbol == listing.symbol]
        for strategy in cancelled:
            strategy.state = "Cancelled"
        return [strategy.row() for strategy in cancelled]

    def history(self, query: Query, _members: Members, _us: int) -> Answer:
        """Every one, oldest first."""
        symbol, number = query.optional("symbol"), query.optional("strategyId")
        return [
            {
                **strategy.row(),
                "cancelReason": "UserCancelled" if strategy.state == "Cancelled" else None,
                "createdAt": iso_time_ms(strategy.created_us // 1_000),
            }
            for strategy in self._all
            if symbol in {None, strategy.symbol} and number in {None, str(strategy.number)}
        ]

    def _open(self) -> list[_Strategy]:
        return [strategy for strategy in self._all if strategy.state == "Running"]

    def _one(self, symbol: object, number: object, client_id: object) -> _Strategy:
        if (number is None) is (client_id is None):
            raise refusal("INVALID_CLIENT_REQUEST", "Exactly one of strategyId and clientStrategyId must be given")
        for strategy in self._open():
            by_client = strategy.asked["clientStrategyId"]
            if strategy.symbol == symbol and (
                number == str(strategy.number) or (client_id is not None and str(client_id) == str(by_client))
            ):
                return strategy
        raise refusal("RESOURCE_NOT_FOUND", "Not Found", 404)


def _text(members: Members, name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""


def _whole(members: Members, name: str) -> int:
    value = members.get(name)
    if value is None:
        return 0
    if not isinstance(value, Number) or not value.isdecimal() or len(value) > 15:
        raise unreadable(f'failed to parse "StrategyCreatePayload": field `{name}` is a whole number')
    return int(value)
