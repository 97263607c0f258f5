"""Resolution of an order whose placing was never answered.

Theory of operation. Such an order is looked for by its client id among the open orders, in history, and among the fills, in this order: an order
moves in this direction only, so one that leaves a list before that is read is in the next. OrderFound, it happened. An order can still be
placed until its signature runs out, so an order that was not found may still come before then: SETTLED_MS is added for an order that waits inside the exchange
(its speed bump, docs/protocol.md 6.3) and for lists that lag. After that, and once all three were read completely, it never
happened. Every time is the exchange's own: that of the signature, and `/time`, which is read before the lists.

A client id may have been used before, by another program or by hand. An order that was created more than SLACK_MS before the intent was
signed, and than the error of the clock that it was signed by, is another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from backpack_proto.account.values import Fill, Order
from backpack_proto.values import Value

from .intents import IntentOutcome, OrderIntent

__all__ = [
    "SETTLED_MS",
    "SLACK_MS",
    "Evidence",
    "OrderFound",
    "OrderNeverHappened",
    "OrderUnresolved",
    "Resolution",
    "ended",
    "find_fills",
    "find_order",
    "judge",
    "not_before_ms",
    "settled_ms",
]

SETTLED_MS: Final = 2_000
"""Latest time after the end of its signature at which an accepted order shows up."""
SLACK_MS: Final = 60_000
"""Time that an order may have been created before the time of its signature, beside the error of the clock: the widest window that the
exchange takes (docs/protocol.md 2.1)."""
UNMEASURED_MS: Final = 86_400_000
"""The same where the exchange's clock had not been measured: it takes signatures of its future."""


class OrderFound(Value, frozen=True, gc=False, kw_only=True):
    """An order that was placed."""

    intent: OrderIntent
    order: Order | None = None
    """As it was listed, or None where only its fills were."""
    fills: tuple[Fill, ...] = ()
    """Those that were read: all of them where `order` is None."""

    @property
    def order_id(self) -> str:
        """The exchange's id of it."""
        return self.fills[0].order_id if self.order is None else self.order.order_id


class OrderNeverHappened(Value, frozen=True, gc=False, kw_only=True):
    """An order that was not placed, and cannot be any more."""

    intent: OrderIntent


class OrderUnresolved(Value, frozen=True, gc=False, kw_only=True):
    """An order of which it cannot be said yet."""

    intent: OrderIntent
    reason: str
    settled_ms: int
    """From when on it can be: exchange time, in milliseconds since the epoch."""


Resolution: TypeAlias = OrderFound | OrderNeverHappened | OrderUnresolved


class Evidence(Value, frozen=True, gc=False, kw_only=True):
    """Lists that were read completely, one after the other, since the exchange's clock showed `server_ms`."""

    server_ms: int
    open_orders: tuple[Order, ...] = ()
    history: tuple[Order, ...] = ()
    fills: tuple[Fill, ...] = ()


def settled_ms(intent: OrderIntent) -> int:
    """Return from when on lists that do not have an order prove that it never happened."""
    return intent.signed_ms + intent.window_ms + SETTLED_MS


def not_before_ms(intent: OrderIntent) -> int:
    """Return since when history and fills have to be read."""
    error_ms = UNMEASURED_MS if intent.clock_error_ms is None else intent.clock_error_ms
    return intent.signed_ms - SLACK_MS - error_ms


def find_order(intent: OrderIntent, orders: Iterable[Order]) -> Order | None:
    """Return the order that an intent became, the newest if there are several, or None if it is not among them."""
    earliest_us = not_before_ms(intent) * 1_000
    same = [
        order
        for order in orders
        if order.client_id == intent.client_id
        and order.symbol == intent.symbol
        and (order.created_us is None or order.created_us >= earliest_us)
    ]
    return max(same, key=lambda order: order.created_us or earliest_us, default=None)


def find_fills(intent: OrderIntent, fills: Iterable[Fill]) -> tuple[Fill, ...]:
    """Return the fills of the order that an intent became. Those of the newest if there are several."""
    earliest_us = not_before_ms(intent) * 1_000
    same = [
        fill
        for fill in fills
        if fill.client_id == intent.client_id and fill.symbol == intent.symbol and fill.filled_us >= earliest_us
    ]
    if not same:
        return ()
    newest = max(same, key=lambda fill: fill.filled_us).order_id
    return tuple(fill for fill in same if fill.order_id == newest)


def judge(intent: OrderIntent, evidence: Evidence) -> Resolution:
    """Return the outcome of an order by lists that were read completely."""
    fills = find_fills(intent, evidence.fills)
    order = find_order(intent, evidence.open_orders) or find_order(intent, evidence.history)
    if order is not None or fills:
        return OrderFound(intent=intent, order=order, fills=fills)
    settled = settled_ms(intent)
    if evidence.server_ms < settled:
        wait_s = (settled - evidence.server_ms) / 1_000
        return OrderUnresolved(intent=intent, reason=f"it may still be placed for {wait_s:.1f} s", settled_ms=settled)
    if intent.clock_error_ms is None:
        reason = "the exchange's clock was not known when it was signed, so it may be older than what was read"
        return OrderUnresolved(intent=intent, reason=reason, settled_ms=settled)
    return OrderNeverHappened(intent=intent)


def ended(resolution: OrderFound | OrderNeverHappened) -> tuple[IntentOutcome, str | None]:
    """Return the outcome that is written down, and the id of the order."""
    if isinstance(resolution, OrderFound):
        return IntentOutcome.FOUND, resolution.order_id
    return IntentOutcome.NEVER_HAPPENED, None
