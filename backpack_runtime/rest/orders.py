"""REST methods of orders: look up, place, cancel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, cast

from msgspec.structs import replace

from backpack_proto.account.values import Order
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount, NewOrder, OrderType, Side, TimeInForce
from backpack_proto.rest.results.orders import OrderRefused

from .caller import Caller

__all__ = ["OrderMethods"]


class OrderMethods(Caller):
    """Calls about orders."""

    @abstractmethod
    async def _check_orders(self, orders: Sequence[NewOrder], *, batch: bool) -> None:
        """Refuse orders that break rules of their markets. `batch` says that they are several, even if there is one."""

    async def _checked(self, orders: Iterable[object], *, batch: bool = False) -> list[NewOrder]:
        """Return orders that may be sent, each with the id of its market. All that is placed goes through here."""
        checked: list[NewOrder] = []
        for number, order in enumerate(orders):
            if not isinstance(order, NewOrder):
                name = f"orders[{number}]" if batch else "order"
                raise ConfigurationError(f"{name}: a NewOrder, such as NewOrder.limit(...), got {shown(order)}")
            checked.append(replace(order, symbol=await self._id(order.symbol)))
        await self._check_orders(checked, batch=batch)
        return checked

    async def get_open_orders(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Order, ...]:
        """The open orders."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[Order, ...]", await self.call("open_orders", parameters))

    async def get_order(self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None) -> Order:
        """One open order, by exactly one of its ids."""
        parameters: Arguments = {"symbol": await self._id(symbol), "order_id": order_id, "client_id": client_id}
        return cast("Order", await self.call("order", parameters))

    async def place(self, order: NewOrder, *, max_wait_us: int | None = None) -> Order:
        """Place one order, such as `NewOrder.limit("SOL_USDC", "Bid", price="98.50", quantity="2")`.

        Raises:
            OrderDoesNotFit: it breaks rules of its market, as far as the client checks them (`check_orders`). Nothing was sent.
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed. Its `client_id`, if it has one, finds out.
        """
        (order,) = await self._checked([order])
        return cast("Order", await self.call("place_order", order.arguments(), max_wait_us=max_wait_us))

    async def place_order(
        self,
        symbol: str,
        side: Side,
        order_type: OrderType,
        *,
        quantity: Amount | None = None,
        quote_quantity: Amount | None = None,
        price: Amount | None = None,
        client_id: int | None = None,
        time_in_force: TimeInForce | None = None,
        post_only: bool | None = None,
        reduce_only: bool | None = None,
        self_trade_prevention: str | None = None,
        trigger_price: Amount | None = None,
        trigger_quantity: Amount | None = None,
        trigger_by: str | None = None,
        take_profit_trigger_price: Amount | None = None,
        take_profit_limit_price: Amount | None = None,
        take_profit_trigger_by: str | None = None,
        stop_loss_trigger_price: Amount | None = None,
        stop_loss_limit_price: Amount | None = None,
        stop_loss_trigger_by: str | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        slippage_tolerance: Amount | None = None,
        slippage_tolerance_type: str | None = None,
        broker_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Order:
        """Place one order of any kind. Units and meanings are those of `NewOrder`, and `place` is shorter for everyday orders.

        Raises:
            OrderDoesNotFit: it breaks rules of its market, as far as the client checks them (`check_orders`). Nothing was sent.
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed. `client_id`, if one was given, finds out.
        """
        order = NewOrder(
            symbol=symbol,
            side=side,
            order_type=order_type,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            client_id=client_id,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
            self_trade_prevention=self_trade_prevention,
            trigger_price=trigger_price,
            trigger_quantity=trigger_quantity,
            trigger_by=trigger_by,
            take_profit_trigger_price=take_profit_trigger_price,
            take_profit_limit_price=take_profit_limit_price,
            take_profit_trigger_by=take_profit_trigger_by,
            stop_loss_trigger_price=stop_loss_trigger_price,
            stop_loss_limit_price=stop_loss_limit_price,
            stop_loss_trigger_by=stop_loss_trigger_by,
            auto_borrow=auto_borrow,
            auto_borrow_repay=auto_borrow_repay,
            auto_lend=auto_lend,
            auto_lend_redeem=auto_lend_redeem,
            slippage_tolerance=slippage_tolerance,
            slippage_tolerance_type=slippage_tolerance_type,
            broker_id=broker_id,
        )
        return await self.place(order, max_wait_us=max_wait_us)

    async def place_orders(
        self, orders: Iterable[NewOrder], *, max_wait_us: int | None = None
    ) -> tuple[Order | OrderRefused, ...]:
        """Place up to 20 orders at once. One answer for each, in their order.

        Raises:
            OrderDoesNotFit: one or more break rules of their markets, as far as the client checks them (`check_orders`). None was sent.
            ApiError: the exchange refused all of them.
            NotSent: they did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: any of them may have been placed. Its `orders` hold their client ids.
        """
        batch = [order.arguments() for order in await self._checked(orders, batch=True)]
        placed = await self.call("place_orders", {"orders": batch}, max_wait_us=max_wait_us)
        return cast("tuple[Order | OrderRefused, ...]", placed)

    async def cancel_order(
        self,
        symbol: str,
        *,
        order_id: str | int | None = None,
        client_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Order | None:
        """Cancel one order, by exactly one of its ids, or None when the exchange accepted, and has yet to do it.

        Raises:
            ApiError: the exchange refused, perhaps because the order is not open any more.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        parameters: Arguments = {"symbol": await self._id(symbol), "order_id": order_id, "client_id": client_id}
        return cast("Order | None", await self.call("cancel_order", parameters, max_wait_us=max_wait_us))

    async def cancel_all_orders(
        self,
        symbol: str,
        *,
        order_type: Literal["RestingLimitOrder", "ConditionalOrder"] | None = None,
        max_wait_us: int | None = None,
    ) -> tuple[Order, ...]:
        """Cancel every open order of a market, or those of one type. Return the cancelled orders.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        parameters: Arguments = {"symbol": await self._id(symbol), "order_type": order_type}
        return cast("tuple[Order, ...]", await self.call("cancel_all_orders", parameters, max_wait_us=max_wait_us))
