"""Rules for a feed that came through an engine: nothing is lost, nothing is doubled, and it says what the exchange said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from backpack_proto.published import FeedGap
from backpack_proto.streams.payloads import Depth, Event, Trade

__all__ = ["Failed", "Seen", "check"]


class Failed(AssertionError):
    """Something was lost, doubled, or is not what the exchange sent."""


class Seen(NamedTuple):
    """All that a consumer had, and that the engine has in the end."""

    events: list[Event]
    ids: Counter[str]
    """The number of times that the engine has each message."""
    kills: int = 0
    restarts: int = 0


def check(seen: Seen, sent_depth: Mapping[int, Depth], sent_trades: Mapping[int, Trade]) -> None:
    """Compare with what the exchange has sent, by its ids.

    Raises:
        Failed: they differ, or something is there twice or missing.
    """
    twice = {key: count for key, count in seen.ids.items() if count > 1}
    if twice:
        raise Failed(f"the engine has more than once: {twice}")
    gaps = [event for event in seen.events if isinstance(event, FeedGap)]
    if gaps:
        raise Failed(f"missing: {gaps}")
    depth = [event for event in seen.events if isinstance(event, Depth)]
    _check_chain("depth", [event.last_update_id for event in depth], reach=max(sent_depth))
    for event in depth:
        sent = sent_depth.get(event.last_update_id)
        if sent is None or (event.bids, event.asks, event.engine_us) != (sent.bids, sent.asks, sent.engine_us):
            raise Failed(f"{event} is not what the exchange sent: {sent}")
    trades = [event for event in seen.events if isinstance(event, Trade)]
    _check_chain("trade", [event.trade_id or 0 for event in trades], reach=max(sent_trades))
    for trade in trades:
        sent_trade = sent_trades.get(trade.trade_id or 0)
        if sent_trade is None or (trade.price, trade.quantity) != (sent_trade.price, sent_trade.quantity):
            raise Failed(f"{trade} is not what the exchange sent: {sent_trade}")


def _check_chain(what: str, ids: Sequence[int], *, reach: int) -> None:
    if not ids:
        raise Failed(f"{what}: nothing came")
    for one, following in pairwise(ids):
        if following != one + 1:
            raise Failed(f"{what}: {one} is followed by {following}")
    if ids[-1] < reach:
        raise Failed(f"{what}: it ends at {ids[-1]}, before {reach}")
