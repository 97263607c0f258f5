"""Relations between the members of a value, such as the high and the low of a candle.

Members are drawn one by one, and then made to fit. A type that is not in the table `FITS` has no relations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from backpack_proto.decoding import MAX_ID
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.streams.channels import KLINE_SECONDS
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Kline, Ticker

__all__ = ["fitted"]


def fitted(kind: type, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a value, by name, as they fit each other."""
    return next((FITS[base](drawn) for base in kind.__mro__ if base in FITS), drawn)


def _distinct(side: Iterable[Level]) -> list[Level]:
    """Return levels with each price once: the last one."""
    return list({level.price: level for level in side}.values())


def _fit_depth(drawn: dict[str, Any]) -> dict[str, Any]:
    first = drawn["first_update_id"]
    last = min(first + drawn["last_update_id"] % 4, MAX_ID)
    sides = {side: tuple(_distinct(drawn[side])) for side in ("bids", "asks")}
    return {**drawn, "last_update_id": last, **sides}


def _fit_book(drawn: dict[str, Any]) -> dict[str, Any]:
    """Best first, each price once, and no bid at or above an ask."""
    bids, asks = ([level for level in _distinct(drawn[side]) if level.quantity > 0] for side in ("bids", "asks"))
    bids.sort(reverse=True)
    asks.sort()
    if bids:
        asks = [level for level in asks if level.price > bids[0].price]
    return {**drawn, "bids": tuple(bids), "asks": tuple(asks), "stream": f"depth.{drawn['symbol']}"}


def _fit_change(drawn: dict[str, Any]) -> dict[str, Any]:
    delta: Depth = drawn["delta"]
    fitted = {
        **drawn,
        "first": delta.first_update_id,
        "last": delta.last_update_id,
        "symbol": delta.symbol,
        "engine_us": delta.engine_us,
    }
    return _fit_book(fitted)


def _fit_top(drawn: dict[str, Any]) -> dict[str, Any]:
    fitted = dict(drawn)
    for side in ("bid", "ask"):
        if drawn[f"{side}_price"] is None or drawn[f"{side}_quantity"] is None:
            fitted[f"{side}_price"] = fitted[f"{side}_quantity"] = None
    bid, ask = fitted["bid_price"], fitted["ask_price"]
    if bid is not None and ask is not None and bid >= ask:
        fitted["ask_price"] = bid + max(ask, Decimal(1))
    return fitted


def _fit_candle(drawn: dict[str, Any]) -> dict[str, Any]:
    names = ("open", "high", "low", "close")
    known = [drawn[name] for name in names]
    end_us = drawn["start_us"] + KLINE_SECONDS[drawn["interval"]] * 1_000_000
    if None in known:
        return {**drawn, **dict.fromkeys(names), "end_us": end_us, "trade_count": 0, "volume": Decimal(0)}
    return {**drawn, "high": max(known), "low": min(known), "end_us": end_us}


def _fit_ticker(drawn: dict[str, Any]) -> dict[str, Any]:
    known = [drawn[name] for name in ("first_price", "last_price", "high", "low")]
    return {**drawn, "high": max(known), "low": min(known)}


FITS: Final[Mapping[type, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    BookChanged: _fit_change,
    BookSynced: _fit_book,
    BookTicker: _fit_top,
    Depth: _fit_depth,
    Kline: _fit_candle,
    Ticker: _fit_ticker,
}
