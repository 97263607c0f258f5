"""The askers of REST requests inside a session: open requests, and values that come back with the answer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

from msgspec import Struct

from .account.readings import ReadAccount
from .account.reconciliation import arguments_of, endpoint_of
from .book.openings import ReadMarket
from .book.signals import FetchSnapshot, SnapshotArrived, SnapshotFailed
from .connection.canary import ReadMarkets
from .errors import ApiError, OutcomeUnknown
from .importance import Importance
from .inputs import Arguments, Call
from .outputs import CallUnresolved
from .rest.asks import Ask, WithdrawAsk
from .rest.codec import DepthSnapshot
from .rest.market_rules import RulesRefused
from .rest.markets import Market
from .rest.results.orders import OrderRefused

__all__ = [
    "SNAPSHOT_LIMIT",
    "Asked",
    "Asking",
    "Caller",
    "MarketAsker",
    "MarketListAsker",
    "SnapshotAsker",
    "may_be_canary",
    "order_markets",
    "rules_refused",
    "snapshot_of",
    "unresolved_of",
]

SNAPSHOT_LIMIT = 1000
"""Levels a side that are asked for, always explicitly, for the sources disagree on the default (docs/protocol.md 5.1)."""
_FINAL = (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
"""Refusals that the next request would have as well."""
_RULE_CODES = ("INVALID_PRICE", "INVALID_QUANTITY")
_TOO_LONG = "decimal too long"
"""End of the message about too many decimals, whose code does not show the cause (docs/protocol.md 1.4)."""


class SnapshotAsker(Struct, frozen=True, gc=False):
    """Who asked for a snapshot."""

    stream: str
    attempt: int


class MarketListAsker(Struct, frozen=True, gc=False):
    """The canary asked for the list of markets."""


class MarketAsker(Struct, frozen=True, gc=False):
    """A market's state was asked for, to see whether it is closed."""

    symbol: str


class Caller(Struct, frozen=True, gc=False):
    """Who made a `Call`. The id alone tells callers apart."""

    call_id: int
    endpoint: str = ""
    """As the caller wrote it."""
    symbols: tuple[str, ...] = ()
    """The market of each order that it is about, in their order."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and self.call_id == other.call_id

    def __hash__(self) -> int:
        return hash(self.call_id)

    def __repr__(self) -> str:
        return f"call_id {self.call_id}"


Asking: TypeAlias = FetchSnapshot | ReadAccount | ReadMarkets | ReadMarket | Call
"""Origin of a REST request."""


class Asked:
    """Requests that `Requests` has not settled: no request is made twice, and those that are not awaited any more are withdrawn."""

    def __init__(self) -> None:
        self._snapshots: dict[str, SnapshotAsker] = {}
        """By stream."""
        self._reading: ReadAccount | None = None
        self._markets = False
        self._states: set[str] = set()
        """The markets whose states are looked up, one by one. They may wait for the end of a pause."""

    @property
    def snapshots(self) -> bool:
        """True when any snapshot is awaited."""
        return bool(self._snapshots)

    def ask(self, given: Asking) -> Ask | None:
        """Return the request that is to be made, or None when it has been made, and its answer will serve."""
        match given:
            case FetchSnapshot(stream=stream, attempt=attempt):
                self._snapshots[stream] = SnapshotAsker(stream, attempt)
            case ReadAccount():
                self._reading = given
            case ReadMarkets():
                if self._markets:
                    return None
                self._markets = True
            case ReadMarket(symbol):
                if symbol in self._states:
                    return None
                self._states.add(symbol)
        return _ask_of(given)

    def settle(self, asker: Hashable) -> None:
        """Take note that something has been answered, or will not be."""
        match asker:
            case SnapshotAsker(stream):
                del self._snapshots[stream]
            case ReadAccount():
                self._reading = None
            case MarketListAsker():
                self._markets = False
            case MarketAsker(symbol):
                self._states.discard(symbol)

    def unwanted_snapshot(self, stream: str, awaited: int | None) -> Sequence[WithdrawAsk]:
        """Take back the snapshot of a stream unless it is of the attempt that is awaited."""
        asked = self._snapshots.get(stream)
        if asked is None or asked.attempt == awaited:
            return ()
        del self._snapshots[stream]
        return (WithdrawAsk(asked),)

    def unwanted_reading(self, awaited: int | None) -> Sequence[WithdrawAsk]:
        """Take back the reading of the ledger unless it is of the attempt that is awaited."""
        asked = self._reading
        if asked is None or asked.attempt == awaited:
            return ()
        self._reading = None
        return (WithdrawAsk(asked),)


def _ask_of(given: Asking) -> Ask:
    match given:
        case FetchSnapshot(stream=stream, symbol=symbol, attempt=attempt):
            return Ask(
                asker=SnapshotAsker(stream, attempt),
                endpoint="depth",
                parameters={"symbol": symbol, "limit": SNAPSHOT_LIMIT},
                importance=Importance.SNAPSHOT if given.urgent else Importance.AUDIT,
            )
        case ReadAccount():
            return Ask(
                asker=given,
                endpoint=endpoint_of(given),
                parameters=arguments_of(given),
                importance=Importance.LEDGER,
            )
        case ReadMarkets():
            # Without a canary no book is live, so this one request goes before the snapshots of all of them.
            return Ask(asker=MarketListAsker(), endpoint="markets", parameters={}, importance=Importance.READ)
        case ReadMarket(symbol):
            return Ask(
                asker=MarketAsker(symbol),
                endpoint="market",
                parameters={"symbol": symbol},
                importance=Importance.SNAPSHOT,
            )
        case Call(call_id=call_id, endpoint=endpoint):
            return Ask(
                asker=Caller(call_id, endpoint, order_markets(given.parameters)),
                endpoint=endpoint,
                parameters=given.parameters,
                max_wait_us=given.max_wait_us,
            )


def may_be_canary(market: Market) -> bool:
    """Return whether a market trades all the time, so that it has data every second."""
    return (
        market.market_type == "PERP" and market.order_book_state == "Open" and market.rwa_market_type is None and market.visible
    )


def order_markets(parameters: Arguments) -> tuple[str, ...]:
    """Return the market of a call, or that of each order of a batch, or empty without one."""
    orders: object = parameters.get("orders")
    rows: Sequence[object] = orders if isinstance(orders, Sequence) and not isinstance(orders, str) else (parameters,)
    return tuple(str(row.get("symbol", "")) for row in rows if isinstance(row, Mapping))


def rules_refused(caller: Caller, result: object) -> list[RulesRefused]:
    """Return the markets of orders that the exchange has refused for their price or quantity."""
    results = result if isinstance(result, tuple) and len(result) == len(caller.symbols) else (result,)
    refused = [
        symbol
        for symbol, one in zip(caller.symbols, results, strict=False)
        if isinstance(one, ApiError | OrderRefused) and _is_about_rules(one)
    ]
    return [RulesRefused(symbol) for symbol in dict.fromkeys(refused)]


def _is_about_rules(refused: ApiError | OrderRefused) -> bool:
    return refused.code in _RULE_CODES or (refused.message or "").endswith(_TOO_LONG)


def unresolved_of(caller: Caller, error: OutcomeUnknown) -> CallUnresolved:
    """Return the event that says that a call may have had its effect."""
    return CallUnresolved(
        call_id=caller.call_id,
        endpoint=caller.endpoint,
        reason=error.reason,
        symbol=error.symbol,
        client_id=error.client_id,
        order_id=error.order_id,
        orders=error.orders,
    )


def snapshot_of(asker: SnapshotAsker, result: object) -> SnapshotArrived | SnapshotFailed:
    """Return an answer, or the error in its place, as the book takes it."""
    if not isinstance(result, DepthSnapshot):
        final = isinstance(result, ApiError) and result.status in _FINAL
        return SnapshotFailed(attempt=asker.attempt, reason=str(result), final=final)
    return SnapshotArrived(
        attempt=asker.attempt,
        last_update_id=result.last_update_id,
        engine_us=result.engine_us,
        bids=result.bids,
        asks=result.asks,
        limit=SNAPSHOT_LIMIT,
    )
