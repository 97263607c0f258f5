"""Which private events become which callbacks: orders, fills, positions and balances, told by streams or by REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from backpack_proto.account.values import BalanceChanged, Filled, OrderChanged, Origin, PositionChanged
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionUpdate
from backpack_runtime.cryptofeed.channels import BALANCES, FILLS, ORDER_INFO, POSITIONS

from . import conversion
from .objects import raw_of
from .records import FillInfo, PositionInfo
from .tallies import Tallies

__all__ = ["AccountDeliveries"]

REMEMBERED_FILLS = 100_000

Hand = Callable[[str, Any, float], Awaitable[None]]
"""Takes a channel, an object of it, and when that was received."""


class AccountDeliveries:
    """Deliveries of a feed about its account."""

    def __init__(
        self,
        hand: Hand,
        wants: Callable[[str, str | None], bool],
        symbol_of: Callable[[str], str],
        tallies: Tallies,
        account: str | None,
    ) -> None:
        """Begin without a connection.

        Args:
            hand: is given the objects of a channel.
            wants: whether a channel is wanted of an id of the exchange, or None where the channel has no such ids.
            symbol_of: normalises an id of the exchange.
            tallies: counts.
            account: the name of the account, in every order and fill.
        """
        self._hand = hand
        self._wants = wants
        self._symbol_of = symbol_of
        self._tallies = tallies
        self._account = account
        self._fills: dict[tuple[str, str | None, str, Decimal], None] = {}
        self._positions: dict[str, PositionInfo] = {}
        """The last deliveries, by symbol."""

    async def streamed(self, event: Event, data: bytes | None, receipt: float) -> None:
        """Hand on an update of a stream. `data` is its frame."""
        self._tallies.last_message = receipt
        match event:
            case OrderUpdate(symbol=symbol):
                self._tallies.order_updates += 1
                if self._wants(ORDER_INFO, symbol):
                    found = conversion.order_info(event, self._symbol_of(symbol), raw_of(data), self._account)
                    await self._hand(ORDER_INFO, found, receipt)
                if isinstance(event, OrderFill) and event.trade_id is not None and self._wants(FILLS, symbol):
                    await self._hand_fill(conversion.fill(event, self._symbol_of(symbol), raw_of(data), self._account), receipt)
            case PositionUpdate(symbol=symbol):
                self._tallies.position_updates += 1
                held = self._known(conversion.position(event, self._symbol_of(symbol), raw_of(data)))
                if self._wants(POSITIONS, symbol):
                    await self._hand(POSITIONS, held, receipt)
            case BalanceUpdate():
                if self._wants(BALANCES, None):
                    await self._hand(BALANCES, conversion.balance_update(event, raw_of(data)), receipt)
            case _:
                raise TypeError(f"no private data: {type(event).__name__}")

    async def _hand_fill(self, found: FillInfo | None, receipt: float) -> None:
        """Hand on each fill once: streams and REST report the same ones."""
        if found is None:
            return
        key = (found.symbol, found.id, found.order_id, found.amount)
        if key in self._fills:
            return
        if found.id is not None:
            # Those without an id come from the ledger alone, which counts them: two may be equal in every member.
            self._fills[key] = None
        if len(self._fills) > REMEMBERED_FILLS:
            del self._fills[next(iter(self._fills))]
        await self._hand(FILLS, found, receipt)

    async def reconciled(self, event: Event, receipt: float) -> None:
        """Hand on changes that only REST has reported. Updates of the streams have been handed on as they came."""
        match event:
            case Filled(fill=fill, origin=origin) if origin is Origin.RECONCILIATION or fill.trade_id is None:
                if self._wants(FILLS, fill.symbol):
                    known = conversion.reconciled_fill(fill, self._symbol_of(fill.symbol), self._account)
                    await self._hand_fill(known, receipt)
            case OrderChanged(order=order, origin=Origin.RECONCILIATION):
                self._tallies.order_updates += 1
                if self._wants(ORDER_INFO, order.symbol):
                    found = conversion.reconciled_order(order, self._symbol_of(order.symbol), receipt, self._account)
                    await self._hand(ORDER_INFO, found, receipt)
            case PositionChanged(position=position, origin=Origin.RECONCILIATION):
                self._tallies.position_updates += 1
                held = self._known(conversion.reconciled_position(position, self._symbol_of(position.symbol), receipt))
                if self._wants(POSITIONS, position.symbol):
                    await self._hand(POSITIONS, held, receipt)
            case BalanceChanged(balance=balance, origin=Origin.RECONCILIATION):
                if self._wants(BALANCES, None):
                    await self._hand(BALANCES, conversion.balance(balance, receipt), receipt)
            case _:
                pass

    def _known(self, position: PositionInfo) -> PositionInfo:
        """Return a position that keeps known members where its source lacks them, so that no row takes them back."""
        before = self._positions.get(position.symbol)
        if position.unrealised_pnl is None and before is not None and before.side == position.side:
            position = replace(position, unrealised_pnl=before.unrealised_pnl)
        self._positions[position.symbol] = position
        return position
