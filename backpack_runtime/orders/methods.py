"""Calls about orders that are more than one request: finding their outcome, and waiting for their end."""

from __future__ import annotations

from abc import abstractmethod

import anyio

from backpack_proto.account.values import Order
from backpack_proto.errors import ConfigurationError, LocalProtocolError, NotSent, OrderNotFound, OrderStillOpen, OutcomeUnknown
from backpack_proto.orders.intents import IntentEnded, IntentOutcome
from backpack_proto.orders.resolution import OrderFound, OrderNeverHappened, Resolution
from backpack_proto.rest.new_order import NewOrder
from backpack_runtime.checks import checked_flag, checked_seconds
from backpack_runtime.rest_methods import RestMethods

from .desk import OrderDesk
from .resolving import by_client_id, find, outcomes, resolve
from .safety import JournalView, OrderSafety

__all__ = ["SafeOrderMethods"]

FIRST_LOOK_SECONDS = 0.25
LONGEST_LOOK_SECONDS = 2.0
"""Longest time between two looks at an order that is waited for."""


class SafeOrderMethods(RestMethods):
    """Methods of a client for the safety of its orders."""

    _orders: OrderSafety

    @abstractmethod
    def _check_inside(self) -> None:
        """Refuse before the block is entered."""

    @abstractmethod
    def _dismiss_call(self, call_id: int) -> list[int]:
        """Take a call off the unresolved ones. Return the client ids of the orders that it was to place.

        Raises:
            LocalProtocolError: it is not among them.
        """

    @abstractmethod
    def _unresolved_calls(self, client_ids: frozenset[int]) -> list[int]:
        """Return the unresolved calls all of whose orders are among these."""

    @property
    def journal(self) -> JournalView | None:
        """The journal of orders now, or None before the first order of a client that was given neither `journal` nor `instance`."""
        self._check_inside()
        return self._orders.view

    async def resolve(self, *, wait: bool = False) -> tuple[Resolution, ...]:
        """Find the outcome of every order without one, those of earlier programs with the same journal included.

        Each is `OrderFound`, in open orders, history or fills. `OrderNeverHappened`, once all three were read completely after its signature had run out. Or
        `OrderUnresolved`, with the reason. The first two are written down, and their calls are not `unresolved` any more. Orders are not sent again.

        Args:
            wait: wait until each outcome can be known: the signature's window and 2 s, from its signature on.
        """
        self._check_open()
        checked_flag("wait", wait)
        desk = await self._orders.desk()
        resolutions = await resolve(self, desk.unresolved.values(), wait=wait)
        rows = outcomes(resolutions)
        self._end(desk, rows)
        return resolutions

    def dismiss(self, *, client_id: int | None = None, call_id: int | None = None) -> None:
        """Take an order off those without an outcome, or a call off `unresolved`: you have found out in another way how it ended.

        Raises:
            LocalProtocolError: it is not among them.
            ConfigurationError: not exactly one of the ids is given.
        """
        self._check_open()
        if (client_id is None) == (call_id is None):
            raise ConfigurationError("dismiss: give exactly one of client_id and call_id")
        desk = self._orders.opened
        if call_id is not None:
            client_ids = self._dismiss_call(call_id)
        elif desk is not None and client_id is not None and client_id in desk.unresolved:
            client_ids = [client_id]
        else:
            raise LocalProtocolError(f"client_id: {client_id} is not that of an order without an outcome")
        if desk is not None:
            open_ = desk.unresolved
            rows = [IntentEnded(client_id=one, outcome=IntentOutcome.DISMISSED) for one in client_ids if one in open_]
            self._end(desk, rows)

    async def order(self, symbol: str, *, client_id: int | None = None, order_id: str | None = None) -> Order:
        """Return an order, open or ended, by one of its ids: from the open orders, from history, or as far as its fills tell of it.

        By a client id that was used more than once it is the newest. One that this client did not make may have history read to its end.

        Raises:
            OrderNotFound: the exchange lists no such order.
            ConfigurationError: not exactly one of the ids is given.
        """
        self._check_open()
        if (client_id is None) == (order_id is None):
            raise ConfigurationError("order: give exactly one of client_id and order_id")
        symbol = await self._id(symbol)
        opened = self._orders.opened
        intent = None if opened is None or client_id is None else opened.journal.intents.open.get(client_id)
        return await find(self, symbol, client_id=client_id, order_id=order_id, intent=intent)

    async def place_and_wait(self, order: NewOrder, *, timeout_s: float = 60.0, max_wait_us: int | None = None) -> Order:
        """Place an order and return it as it ended: filled, cancelled or expired.

        Where the answer to its placing does not come, its outcome is looked up. It is not sent again.

        Args:
            order: the order to place.
            timeout_s: how long to wait for its end. The order is not cancelled then.
            max_wait_us: how long it may wait to be sent, 5 s unless given.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave in time.
            OutcomeUnknown: it may have been placed, and neither the answer nor the exchange's lists have its outcome.
            OrderStillOpen: it had not ended in time. The error has its ids.
        """
        self._check_open()
        checked_seconds("timeout_s", timeout_s)
        until = anyio.current_time() + timeout_s
        try:
            known = await self.place(order, max_wait_us=max_wait_us)
        except OutcomeUnknown as unknown:
            known = await self._found_out(unknown)
        pause = FIRST_LOOK_SECONDS
        while known.open:
            left = until - anyio.current_time()
            if left <= 0:
                raise OrderStillOpen(symbol=known.symbol, order_id=known.order_id, client_id=known.client_id, state=known.state)
            await anyio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)
            try:
                known = await self.order(known.symbol, order_id=known.order_id)
            except OrderNotFound:
                continue  # between two lists
        return known

    async def _found_out(self, unknown: OutcomeUnknown) -> Order:
        """Return the order that an unanswered call has placed."""
        client_id = unknown.client_id
        resolutions = by_client_id(await self.resolve(wait=True))
        resolution = resolutions.get(client_id) if isinstance(client_id, int) else None
        if isinstance(resolution, OrderNeverHappened):
            raise NotSent(endpoint=unknown.endpoint, reason=f"the exchange lists no such order ({unknown.reason})")
        if not isinstance(resolution, OrderFound):
            raise unknown
        if resolution.order is not None:
            return resolution.order
        return await self.order(resolution.intent.symbol, order_id=resolution.order_id)

    def _end(self, desk: OrderDesk, rows: list[IntentEnded]) -> None:
        desk.end(rows)
        for call_id in self._unresolved_calls(frozenset(row.client_id for row in rows)):
            self._dismiss_call(call_id)
