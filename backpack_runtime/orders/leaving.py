"""Leaving no orders behind: the end of a client's open orders when its block is left.

Only the client can do it. The exchange has no dead man's switch: after the end of the process by kill -9, or of the machine, open orders stay
open (docs/protocol.md 6.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final

import anyio

from backpack_proto.account.values import Order
from backpack_proto.errors import BackpackError
from backpack_proto.orders.intents import OrderIntent
from backpack_proto.values import Value
from backpack_runtime.rest_methods import RestMethods

from .desk import OrderDesk
from .resolving import outcomes, resolve

__all__ = ["LEAVING_SECONDS", "CancelOnExit", "Leftovers", "cancel_orders", "left_unread"]

OUTCOME_SECONDS: Final = 5.0
"""Time to wait for the outcome of all orders that are on their way."""
CANCEL_SECONDS: Final = 5.0
"""Time to go on cancelling, and reading which orders are open."""
LEAVING_SECONDS: Final = 20.0
"""Time that all of it may take where another client has to be made for it."""
PAUSE_SECONDS: Final = 0.1
"""Between a cancel and the next look: a DELETE may be accepted before it is done (docs/protocol.md 1.4)."""


class CancelOnExit(StrEnum):
    """Which open orders are cancelled when the block is left."""

    MINE = "mine"
    """Those that this client has placed, and those without an outcome that it found in its journal."""
    ALL = "all"
    """All of the account, also those placed by others."""


class Leftovers(Value, frozen=True, gc=False, kw_only=True):
    """Outcome of the orders of a client that was left. When empty, all is well."""

    open_orders: tuple[Order, ...] = ()
    """Those that the exchange still listed when it was last read."""
    unresolved: tuple[OrderIntent, ...] = ()
    """Orders of which it is not known whether they were placed."""
    reasons: tuple[str, ...] = ()
    """Errors that kept the client from doing more."""
    read: bool = True
    """True when the open orders could be read after the last cancel."""

    def __bool__(self) -> bool:
        return bool(self.open_orders or self.unresolved or not self.read)

    def __str__(self) -> str:
        parts = [f"{order.symbol} order {order.order_id} is still open" for order in self.open_orders]
        parts += [f"{intent.symbol} client_id {intent.client_id} has no outcome" for intent in self.unresolved]
        parts += [] if self.read else ["the open orders could not be read"]
        return "; ".join([*parts, *self.reasons]) or "nothing is left"


async def cancel_orders(calls: RestMethods, desk: OrderDesk, which: CancelOnExit) -> Leftovers:
    """Wait for orders on their way, cancel open ones, and read until the lists are free of them. The caller shields it."""
    desk.close()
    with anyio.move_on_after(OUTCOME_SECONDS):
        await desk.idle()
    if which is CancelOnExit.MINE and not desk.has_orders:
        return Leftovers()
    sweep = _Sweep(calls, desk, which)
    with anyio.move_on_after(CANCEL_SECONDS):
        await sweep.run()
    return Leftovers(
        open_orders=tuple(sweep.listed),
        unresolved=tuple(desk.unresolved.values()),
        reasons=tuple(dict.fromkeys(sweep.reasons.values())),
        read=sweep.read,
    )


def left_unread(desk: OrderDesk, reason: str) -> Leftovers:
    """Return the orders that may be left where the lists could not be read."""
    return Leftovers(unresolved=tuple(desk.unresolved.values()), reasons=(reason,), read=False)


class _Sweep:
    def __init__(self, calls: RestMethods, desk: OrderDesk, which: CancelOnExit) -> None:
        self.listed: Sequence[Order] = ()
        """The orders in question that were open at the last look."""
        self.read = False
        self.reasons: dict[str, str] = {}
        """The last error, by the id of an order or the name of a list."""
        self._calls = calls
        self._desk = desk
        self._which = which

    async def run(self) -> None:
        while True:
            self._desk.end(outcomes(await resolve(self._calls, self._desk.unresolved.values(), wait=False)))
            await self._look()
            # An order without an outcome may be placed yet.
            if self.read and not self.listed and not self._desk.unresolved:
                return
            async with anyio.create_task_group() as tasks:
                for symbol, orders in groupby(sorted(self.listed, key=lambda order: order.symbol), lambda order: order.symbol):
                    if self._which is CancelOnExit.ALL:
                        tasks.start_soon(self._cancel_all, symbol)
                        continue
                    for order in orders:
                        tasks.start_soon(self._cancel, order)
            await anyio.sleep(PAUSE_SECONDS)

    async def _look(self) -> None:
        self.read = False
        try:
            listed = await self._calls.get_open_orders()
        except BackpackError as error:
            self.reasons["open orders"] = str(error)
            return
        self.listed = [order for order in listed if self._which is CancelOnExit.ALL or self._desk.is_mine(order.client_id)]
        self.read = True
        still = {name for order in self.listed for name in (order.order_id, order.symbol)}
        self.reasons = {name: reason for name, reason in self.reasons.items() if name in still}

    async def _cancel(self, order: Order) -> None:
        try:
            await self._calls.cancel_order(order.symbol, order_id=order.order_id)
        except BackpackError as error:
            # It may have ended meanwhile. The next look tells.
            self.reasons[order.order_id] = str(error)

    async def _cancel_all(self, symbol: str) -> None:
        try:
            await self._calls.cancel_all_orders(symbol)
        except BackpackError as error:
            self.reasons[symbol] = str(error)
