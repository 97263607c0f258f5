"""Reads that find the outcome of orders: open orders, history and fills, in this order (`backpack_proto.orders.resolution`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import anyio

from backpack_proto.account.values import Fill, Order
from backpack_proto.errors import ApiError, BackpackError, OrderNotFound
from backpack_proto.orders.intents import IntentEnded, OrderIntent
from backpack_proto.orders.resolution import (
    Evidence,
    OrderUnresolved,
    Resolution,
    ended,
    find_order,
    judge,
    not_before_ms,
    settled_ms,
)
from backpack_runtime.rest.pages import Pages
from backpack_runtime.rest_methods import RestMethods

__all__ = ["by_client_id", "find", "outcomes", "resolve"]

_symbol = attrgetter("symbol")


async def resolve(calls: RestMethods, intents: Iterable[OrderIntent], *, wait: bool) -> tuple[Resolution, ...]:
    """Find the outcome of orders. With `wait`, wait for the moment from which on it can be known of each."""
    wanted = sorted(intents, key=lambda intent: (intent.symbol, intent.client_id))
    if not wanted:
        return ()
    found = {resolution.intent.client_id: resolution for resolution in await _look(calls, wanted)}
    unknown = [resolution for resolution in found.values() if isinstance(resolution, OrderUnresolved)]
    if unknown and wait:
        await _wait_until(calls, max(resolution.settled_ms for resolution in unknown))
        again = await _look(calls, [resolution.intent for resolution in unknown])
        found |= {resolution.intent.client_id: resolution for resolution in again}
    return tuple(found[intent.client_id] for intent in wanted)


def outcomes(resolutions: Iterable[Resolution]) -> list[IntentEnded]:
    """Return the rows to be written: those of the orders of which it is known."""
    rows = []
    for resolution in resolutions:
        if not isinstance(resolution, OrderUnresolved):
            outcome, order_id = ended(resolution)
            rows.append(IntentEnded(client_id=resolution.intent.client_id, outcome=outcome, order_id=order_id))
    return rows


async def find(
    calls: RestMethods, symbol: str, *, client_id: int | None, order_id: str | None, intent: OrderIntent | None
) -> Order:
    """Return an order by one of its ids, from the open orders, from history, or as far as its fills show it.

    Raises:
        OrderNotFound: it is in neither of them.
    """
    try:
        return await calls.get_order(symbol, order_id=order_id, client_id=client_id)
    except ApiError as refused:
        if not _is_unknown_order(refused):
            raise
    since_ms = None if intent is None else not_before_ms(intent)

    def same(row: Order | Fill) -> bool:
        return row.symbol == symbol and (row.client_id == client_id if order_id is None else row.order_id == order_id)

    async for order in calls.order_history(symbol, order_id=order_id):
        if since_ms is not None and order.created_us is not None and order.created_us < since_ms * 1_000:
            break
        if same(order):
            return order
    fills = [fill async for fill in calls.fills(symbol, order_id=order_id, from_ms=since_ms) if same(fill)]
    if not fills:
        named = f"client_id {client_id}" if order_id is None else f"order_id {order_id}"
        raise OrderNotFound(f"{symbol}: no order with {named} among open orders, history and fills")
    newest = max(fills, key=lambda fill: fill.filled_us).order_id
    return _order_of([fill for fill in fills if fill.order_id == newest])


async def _look(calls: RestMethods, wanted: Sequence[OrderIntent]) -> list[Resolution]:
    """Look once. All orders of one market by the same lists."""
    resolutions: list[Resolution] = []
    for symbol, group in groupby(wanted, key=_symbol):
        intents = list(group)
        try:
            evidence = await _read(calls, symbol, intents)
        except BackpackError as error:
            resolutions += [OrderUnresolved(intent=one, reason=str(error), settled_ms=settled_ms(one)) for one in intents]
        else:
            resolutions += [judge(intent, evidence) for intent in intents]
    return resolutions


async def _read(calls: RestMethods, symbol: str, intents: Sequence[OrderIntent]) -> Evidence:
    """Read the lists one after the other, as far back as the oldest intent.

    Raises:
        BackpackError: one of them could not be read, or not all of it.
    """
    server_ms = (await calls.get_time()).server_us // 1_000
    since_ms = min(map(not_before_ms, intents))
    open_orders = await calls.get_open_orders(symbol)
    if all(find_order(intent, open_orders) for intent in intents):
        return Evidence(server_ms=server_ms, open_orders=open_orders)
    history = await _since(calls.order_history(symbol), since_ms * 1_000)
    found = [find_order(intent, open_orders) or find_order(intent, history) for intent in intents]
    if all(found):
        return Evidence(server_ms=server_ms, open_orders=open_orders, history=history)
    fills = tuple([fill async for fill in calls.fills(symbol, from_ms=since_ms)])
    return Evidence(server_ms=server_ms, open_orders=open_orders, history=history, fills=fills)


async def _since(orders: Pages[Order], since_us: int) -> tuple[Order, ...]:
    """Return the newest rows of a history that is sorted by creation, newest first."""
    rows = []
    async for order in orders:
        if order.created_us is not None and order.created_us < since_us:
            break
        rows.append(order)
    return tuple(rows)


async def _wait_until(calls: RestMethods, server_ms: int) -> None:
    """Wait until the exchange's clock shows a time."""
    while True:
        try:
            left_ms = server_ms - (await calls.get_time()).server_us // 1_000
        except BackpackError:
            return  # the lists will say the same
        if left_ms <= 0:
            return
        await anyio.sleep(left_ms / 1_000)


def _is_unknown_order(refused: ApiError) -> bool:
    """Return whether a refusal says that there is no such open order (docs/protocol.md 1.4)."""
    return refused.status == 404 or refused.code in ("RESOURCE_NOT_FOUND", "INVALID_ORDER")


def _order_of(fills: Sequence[Fill]) -> Order:
    """Return an order as far as its fills show it: it has traded, and is in neither of the lists of orders."""
    first = fills[0]
    executed = sum((fill.quantity for fill in fills[1:]), first.quantity)
    return Order(
        order_id=first.order_id,
        client_id=first.client_id,
        symbol=first.symbol,
        side=first.side,
        state="Filled",
        executed_quantity=executed,
        executed_quote_quantity=sum((fill.quantity * fill.price for fill in fills[1:]), first.quantity * first.price),
        system_order_type=first.system_order_type,
    )


def by_client_id(resolutions: Iterable[Resolution]) -> Mapping[int, Resolution]:
    """Return resolutions by the client id of their order."""
    return {resolution.intent.client_id: resolution for resolution in resolutions}
