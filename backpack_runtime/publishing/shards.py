"""Sharing markets out among several processes, by how much each of them has to say.

`share_out` is a pure function of the markets' weights and the plan before. Its properties, which tests hold it to:

* It is deterministic: the same weights and the same plan before give the same plan, in whichever order they come.
* A market that is added, removed, or has become busier moves no other one: each keeps its place while the number of parts stays.
* The part that gets a market is the lightest one, so without a plan before no part is heavier than the mean and the heaviest market together.
* Another part takes at most the mean weight from the others, and only it is moved to. One part less moves only the markets of that part.

The weight of a market is made of its trades of the last 24 hours: changes of books come in proportion to them, while
tickers come at the same rate everywhere. Weights decide about new places alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from backpack_proto.streams.payloads import Ticker
from backpack_runtime.client import BackpackClient
from backpack_runtime.market_selection import CLOSED

__all__ = ["MOST_SHARDS", "QUIET_WEIGHT", "loads_of", "open_weights", "share_out", "weights_of"]

MOST_SHARDS: Final = 1_000
QUIET_WEIGHT: Final = 1_000
"""Of a market without trades, in trades a day: its tickers, and quotes that move."""


def weights_of(symbols: Iterable[str], tickers: Iterable[Ticker]) -> dict[str, int]:
    """Return the weight of each market by its trades of the last 24 hours."""
    trades = {ticker.symbol: ticker.trade_count for ticker in tickers}
    return {symbol: QUIET_WEIGHT + max(trades.get(symbol, 0), 0) for symbol in symbols}


async def open_weights(client: BackpackClient) -> dict[str, int]:
    """Return the weight of each market that is open now."""
    markets = await client.load_markets()
    open_ones = sorted({market.symbol for market in markets.values() if market.order_book_state != CLOSED})
    return weights_of(open_ones, await client.get_tickers())


def loads_of(plan: Mapping[str, int], weights: Mapping[str, int], parts: int) -> list[int]:
    """Return the weight of each part."""
    loads = [0] * parts
    for symbol, part in plan.items():
        loads[part] += weights.get(symbol, 0)
    return loads


def share_out(
    weights: Mapping[str, int], parts: int, before: Mapping[str, int] | None = None, before_parts: int = 0
) -> dict[str, int]:
    """Return the part, from 0, of each market.

    Args:
        weights: of the markets that are to have a place.
        parts: how many there are.
        before: the plan so far. Its markets keep their places, those without a weight as well, for they may come back.
        before_parts: how many parts that had.
    """
    plan = {symbol: part for symbol, part in (before or {}).items() if part < parts}
    loads = loads_of(plan, weights, parts)
    if before:
        for part in range(before_parts, parts):
            _fill(plan, loads, weights, part)
    for symbol in sorted(weights.keys() - plan.keys(), key=lambda symbol: (-weights[symbol], symbol)):
        part = loads.index(min(loads))
        plan[symbol] = part
        loads[part] += weights[symbol]
    return dict(sorted(plan.items()))


def _fill(plan: dict[str, int], loads: list[int], weights: Mapping[str, int], part: int) -> None:
    """Give a new part its share, each time from the part that is the heaviest then."""
    share = sum(loads) // len(loads)
    while True:
        giver = loads.index(max(loads))
        room = min(share - loads[part], loads[giver] - share)
        fitting = [symbol for symbol, of in plan.items() if of == giver and 0 < weights.get(symbol, 0) <= room]
        if giver == part or not fitting:
            return
        symbol = max(fitting, key=lambda symbol: (weights[symbol], symbol))
        plan[symbol] = part
        loads[giver] -= weights[symbol]
        loads[part] += weights[symbol]
