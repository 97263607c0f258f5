"""Order entry: orders of an account to the books, and their effects on it.

Theory of operation. An order is checked, priced and funded before the engine sees it, so a refused order leaves no trace. Every
change of a book comes back through `settle`, which alone moves money: a resting order is filled by the crowd in the
same way as an arriving one. Reduce-only orders that rest are shrunk, the newest first, as soon as their position is smaller than they
are. Triggers wait elsewhere (`triggers`), and are looked at by `fire` after each event is published. One that fires keeps its id, and
fails if the order could not have been placed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TypeAlias

from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import BookState, to_decimal
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.orders import Match, OrderSide, OrderTimeInForce, Outcome, Refusal, RestingOrder
from backpack_proto.exchange.messages import SendFrame
from backpack_proto.exchange.stream.private_streams import PrivateStreams

from .accounts import SETTLEMENT_ASSET, HeldPosition, SimulatedAccount, SimulatedFill, base_units, quote_units, to_amount
from .margin import pay_funding
from .order_request import refusal, trigger_size
from .order_rules import WOULD_TAKE, limit_of, plan_order, reference_ticks, time_in_force_of, why_given_up, why_not_triggered
from .orders import AccountOrder, OrderRequest, OrderState
from .triggers import Triggers, attached_request, is_rising, shielded_lots

__all__ = ["OrderEntry", "Tell"]

Tell: TypeAlias = Callable[[SimulatedMarket, Outcome], list[SendFrame]]
"""Publishes an event of a book, and settles it."""


class OrderEntry:
    """The orders of one account on all markets. `tell` publishes each change of a book and calls `settle` with it."""

    def __init__(
        self,
        account: SimulatedAccount,
        markets: Mapping[str, SimulatedMarket],
        streams: PrivateStreams,
        tell: Tell,
        rng: Random,
    ) -> None:
        self._account = account
        self._markets = markets
        self._streams = streams
        self._tell = tell
        self._triggers = Triggers()
        self._next_position_id = rng.randrange(4_000_000_000, 6_000_000_000)

    def place(self, request: OrderRequest, engine_us: int) -> tuple[AccountOrder, list[SendFrame]]:
        """Take an order. Return it as it stands after its immediate fills.

        Raises:
            ApiError: the order is refused, and the state is unchanged.
        """
        market = self._markets[request.listing.symbol]
        if request.client_id is not None and self.find(market.symbol, None, request.client_id) is not None:
            raise refusal("INVALID_ORDER", "Duplicate client order ID")
        order = AccountOrder(order_id=market.engine.take_order_id(), request=request, created_us=engine_us)
        if request.trigger_price is None:
            return order, self._execute(market, order, engine_us)
        if self._triggers.full:
            raise refusal("ORDER_LIMIT", "Too many trigger orders")
        order.rising = request.trigger_price > reference_ticks(market, request.trigger_by)
        self._triggers.add(order)
        self._account.enlist(order)
        return order, self._streams.order("triggerPlaced", order, engine_us)

    def find(self, symbol: str, order_id: int | None, client_id: int | None) -> AccountOrder | None:
        """An open order by one of its ids."""
        orders = self._account.orders
        if order_id is not None:
            return orders.get((symbol, order_id))
        return next((o for o in orders.values() if o.symbol == symbol and o.request.client_id == client_id), None)

    def resting(self, market: SimulatedMarket) -> list[RestingOrder]:
        """The account's orders in a book, oldest first."""
        orders = market.engine.orders
        mine = (order.order_id for order in self._account.orders.values() if order.symbol == market.symbol)
        return [orders[order_id] for order_id in mine if order_id in orders]

    def cancel(self, orders: list[AccountOrder], engine_us: int) -> list[SendFrame]:
        """Cancel open orders of one market."""
        frames: list[SendFrame] = []
        resting: list[int] = []
        for order in orders:
            if order.state is OrderState.TRIGGER_PENDING:
                self._triggers.remove(order)
                frames += self._end(order, OrderState.EXPIRED if order.expiry_reason else OrderState.CANCELLED, engine_us)
            else:
                resting.append(order.order_id)
        if resting:
            market = self._markets[orders[0].symbol]
            frames += self._tell(market, market.engine.cancel(*resting))
        return frames

    def expire(self, market: SimulatedMarket, reason: str, engine_us: int) -> list[SendFrame]:
        """End every open order of a market, triggers that wait included."""
        orders = [order for order in self._account.orders.values() if order.symbol == market.symbol]
        for order in orders:
            order.expiry_reason = reason
        return self.cancel(orders, engine_us) if orders else []

    def settle(self, market: SimulatedMarket, outcome: Outcome, engine_us: int) -> list[SendFrame]:
        """Take in the effects of one event on a book."""
        if outcome.fills:
            self._triggers.touch(market.symbol)
        if not self._account.orders:
            return []
        owner = self._account.owner
        frames: list[SendFrame] = []
        mine = False
        traded: dict[int, AccountOrder] = {}
        for fill in outcome.fills:
            if owner in (fill.taker_owner, fill.maker_owner):
                mine = True
                order = self._account.orders[market.symbol, fill.taker_id if fill.taker_owner == owner else fill.maker_id]
                traded[order.order_id] = order
                frames += self._fill(market, order, fill, engine_us)
        for removed in outcome.removed:
            if removed.owner == owner:
                mine = True
                frames += self._removed(market, removed, engine_us, yielded=outcome.order_id is not None)
        if mine:
            frames += self._streams.balances(engine_us)
            for order in traded.values():
                frames += self._shield(market, order, engine_us)
            if market.listing.perpetual and outcome.fills:
                frames += self._trim(market, engine_us)
        return frames

    def fire(self, engine_us: int) -> list[SendFrame]:
        """Let every trigger fire whose price has come. Their effects on the books may make others fire."""
        frames: list[SendFrame] = []
        for symbol in self._triggers.moved():
            market = self._markets[symbol]
            for order in self._triggers.due(market):
                frames += self._trigger(market, order, engine_us)
        return frames

    def second(self, market: SimulatedMarket, engine_us: int, funding_us: int | None) -> list[SendFrame]:
        """Once a second per market: marks have moved, and funding may be due for the interval that ended at `funding_us`."""
        self._triggers.touch(market.symbol)
        held = self._account.open_positions.get(market.symbol)
        if funding_us is None or held is None:
            return []
        pay_funding(self._account, market, held[1], funding_us)
        frames = self._streams.position("positionAdjusted", market, held[1], engine_us)
        return frames + self._streams.balances(engine_us)

    def _execute(self, market: SimulatedMarket, order: AccountOrder, engine_us: int) -> list[SendFrame]:
        """Fund an order and give it to the engine.

        Raises:
            ApiError: it is refused, and the state is unchanged.
        """
        account, request = self._account, order.request
        whole = trigger_size(request, self._whole(market, request)) if request.trigger_quantity else None
        lots, reserve = plan_order(account, self._markets, market, request, whole)
        limit, time_in_force = limit_of(market, request), time_in_force_of(request)
        # A post-only book treats all orders as post-only, and ends those that cannot be.
        only_posts = market.listing.restriction is BookState.POST_ONLY
        if only_posts and time_in_force is not OrderTimeInForce.GTC:
            return self._end_unposted(order, lots, engine_us)
        outcome = market.engine.submit(
            request.side,
            lots,
            limit,
            time_in_force=time_in_force,
            post_only=only_posts or bool(request.post_only),
            owner=account.owner,
            self_trade=request.self_trade,
            order_id=order.order_id,
        )
        if outcome.refusal is Refusal.WOULD_TAKE:
            if not request.post_only:
                return self._end_unposted(order, lots, engine_us)
            raise refusal("INVALID_ORDER", WOULD_TAKE)
        order.lots, order.reserved, order.state = lots, reserve, OrderState.NEW
        if request.trigger_price is None:
            self._account.enlist(order)
        else:
            order.triggered_us = engine_us
        account.lock(order.spends, reserve)
        frames = self._streams.order("orderAccepted", order, engine_us)
        reason = why_given_up(account.owner, market, request, outcome, limit)
        frames += self._tell(market, outcome)
        if outcome.given_up:
            order.expiry_reason = reason
            frames += self._end(order, OrderState.EXPIRED, engine_us)
        return frames + self._streams.balances(engine_us)

    def _end_unposted(self, order: AccountOrder, lots: int, engine_us: int) -> list[SendFrame]:
        """End an order that would have taken from a book that does not allow it."""
        order.lots, order.state, order.expiry_reason = lots, OrderState.NEW, "PostOnlyMode"
        if order.key not in self._account.orders:
            self._account.enlist(order)
        frames = self._streams.order("orderAccepted", order, engine_us)
        return frames + self._end(order, OrderState.EXPIRED, engine_us)

    def _whole(self, market: SimulatedMarket, request: OrderRequest) -> int:
        """Return the base of a percentage, in lots: the position that the order reduces, or what a spot order could sell or buy."""
        listing = market.listing
        if listing.perpetual:
            held = self._account.open_positions.get(market.symbol)
            return 0 if held is None or (held[1].lots > 0) is (request.side is OrderSide.BID) else abs(held[1].lots)
        if request.side is OrderSide.ASK:
            return self._account.available(listing.base) // base_units(listing, 1)
        price = request.price or reference_ticks(market, "LastPrice")
        return self._account.available(SETTLEMENT_ASSET) // quote_units(listing, price)

    def _trigger(self, market: SimulatedMarket, order: AccountOrder, engine_us: int) -> list[SendFrame]:
        self._triggers.remove(order)
        try:
            return self._execute(market, order, engine_us)
        except ApiError as error:
            order.expiry_reason = why_not_triggered(error)
            return self._end(order, OrderState.TRIGGER_FAILED, engine_us)

    def _shield(self, market: SimulatedMarket, order: AccountOrder, engine_us: int) -> list[SendFrame]:
        """Place the take profit and the stop loss of an order that has traded, or let them grow with it."""
        request = order.request
        lots = shielded_lots(order)
        frames: list[SendFrame] = []
        for profits, attached in ((True, request.take_profit), (False, request.stop_loss)):
            last, before = order.shields.get(profits, (None, 0))
            if attached is None or lots <= before:
                continue
            if last is not None and last.state is OrderState.TRIGGER_PENDING:
                last.request = attached_request(order, attached, lots - before)
                frames += self._streams.order("triggerPlaced", last, engine_us)
                continue
            if last is not None:
                before += trigger_size(last.request, 0)
            if lots <= before:
                continue
            placed = AccountOrder(
                order_id=market.engine.take_order_id(),
                request=attached_request(order, attached, lots - before),
                created_us=engine_us,
                rising=is_rising(order, profits=profits),
                related_order_id=order.order_id,
            )
            order.shields[profits] = placed, before
            self._account.enlist(placed)
            if self._triggers.full:
                placed.expiry_reason = "MaxStopOrdersPerPosition"
                frames += self._end(placed, OrderState.TRIGGER_FAILED, engine_us)
                continue
            self._triggers.add(placed)
            self._triggers.touch(market.symbol)
            frames += self._streams.order("triggerPlaced", placed, engine_us)
        return frames

    def _fill(self, market: SimulatedMarket, order: AccountOrder, fill: Match, engine_us: int) -> list[SendFrame]:
        account, listing = self._account, market.listing
        maker = fill.taker_owner != account.owner
        bought = order.request.side is OrderSide.BID
        order.executed += fill.lots
        order.paid += fill.price * fill.lots
        order.state = OrderState.PARTIALLY_FILLED if order.remaining else OrderState.FILLED
        paid, base = quote_units(listing, fill.price * fill.lots), base_units(listing, fill.lots)
        fee_asset = listing.base if bought and not listing.perpetual else SETTLEMENT_ASSET
        fee = account.fees.of(base if fee_asset == listing.base else paid, maker=maker)
        position_frames: list[SendFrame] = []
        if listing.perpetual:
            position_frames = self._change_position(market, fill.lots if bought else -fill.lots, paid, fee, engine_us)
        else:
            spent = paid if bought else base
            unlocked = spent
            if bought and order.request.price is not None:
                unlocked = quote_units(listing, order.request.price * fill.lots)
            order.reserved -= unlocked
            order.charged += fee if bought else 0
            account.lock(order.spends, -unlocked)
            account.credit(order.spends, -spent)
            account.credit(listing.base if bought else SETTLEMENT_ASSET, (base if bought else paid) - fee)
        account.fills.append(
            SimulatedFill(
                trade_id=fill.trade_id,
                order_id=order.order_id,
                client_id=order.request.client_id,
                symbol=market.symbol,
                side=order.request.side,
                price=to_decimal(fill.price, listing.price_decimals),
                quantity=to_decimal(fill.lots, listing.quantity_decimals),
                fee=to_amount(fee),
                fee_asset=fee_asset,
                maker=maker,
                engine_us=engine_us,
            )
        )
        if order.state is OrderState.FILLED:
            self._close(order)
        frames = self._streams.order("orderFill", order, engine_us, fill=fill, fee=fee, fee_asset=fee_asset)
        return frames + position_frames

    def _change_position(self, market: SimulatedMarket, lots: int, paid: int, fee: int, engine_us: int) -> list[SendFrame]:
        positions = self._account.open_positions
        event = "positionAdjusted"
        if market.symbol not in positions:
            event = "positionOpened"
            positions[market.symbol] = (market, HeldPosition(self._next_position_id))
            self._next_position_id += 1
        position = positions[market.symbol][1]
        position.charges += fee
        realized = position.trade(lots, paid if lots > 0 else -paid)
        self._account.credit(SETTLEMENT_ASSET, realized - fee)
        if not position.lots:
            event = "positionClosed"
            del positions[market.symbol]
        return self._streams.position(event, market, position, engine_us)

    def _removed(self, market: SimulatedMarket, removed: RestingOrder, engine_us: int, *, yielded: bool) -> list[SendFrame]:
        order = self._account.orders[market.symbol, removed.order_id]
        if yielded:
            order.expiry_reason = "SelfTradePrevention"
        return self._end(order, OrderState.EXPIRED if order.expiry_reason else OrderState.CANCELLED, engine_us)

    def _end(self, order: AccountOrder, state: OrderState, engine_us: int) -> list[SendFrame]:
        order.state = state
        self._close(order)
        event = {OrderState.CANCELLED: "orderCancelled", OrderState.TRIGGER_FAILED: "triggerFailed"}.get(state, "orderExpired")
        return self._streams.order(event, order, engine_us)

    def _close(self, order: AccountOrder) -> None:
        """Give back the amount that an order still has locked."""
        del self._account.orders[order.key]
        self._account.lock(order.spends, -order.reserved)
        order.reserved = 0

    def _trim(self, market: SimulatedMarket, engine_us: int) -> list[SendFrame]:
        """Shrink orders that could turn a position round that they should only reduce, and end those attached to one that is gone."""
        held = self._account.open_positions.get(market.symbol)
        lots = 0 if held is None else held[1].lots
        left = {OrderSide.ASK: max(lots, 0), OrderSide.BID: max(-lots, 0)}
        frames: list[SendFrame] = []
        for orphan in self._triggers.orphans(market.symbol, lots):
            self._triggers.remove(orphan)
            orphan.expiry_reason = "StopWithoutPosition"
            frames += self._end(orphan, OrderState.EXPIRED, engine_us)
        for order in tuple(self._account.orders.values()):
            if not order.request.reduce_only or order.symbol != market.symbol or order.order_id not in market.engine.orders:
                continue
            room = left[order.request.side]
            excess = order.remaining - room
            left[order.request.side] = max(0, -excess)
            if excess > 0 and room:
                outcome = market.engine.reduce(order.order_id, room)
                order.lots -= excess
                frames += self._streams.order("orderModified", order, engine_us) + self._tell(market, outcome)
            elif excess > 0:
                order.expiry_reason = "ReduceOnlyNotReduced"
                frames += self._tell(market, market.engine.cancel(order.order_id))
        return frames
