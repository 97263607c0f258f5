"""The REST calls of every day, with real signatures; `call` reaches the whole of the endpoint table.

`get_` and the name of an endpoint is one request; histories are read page by page as they are iterated over. Prices and quantities are
`Decimal` or text in plain digits, never floats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, Literal, Self, TypeVar, cast

from msgspec.structs import replace

from backpack_proto.account.values import Balance, Fill, Order, Position
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.inputs import Arguments
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.new_order import Amount, NewOrder, OrderType, Side, TimeInForce
from backpack_proto.rest.results.market_data import (
    DepthSnapshot,
    FundingRate,
    Page,
    ServerTime,
)
from backpack_proto.rest.results.orders import OrderRefused
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

from .checks import checked_count

__all__ = ["Pages", "RestMethods"]

Row = TypeVar("Row")

PAGE = 1000
"""Rows on a page of a history at the most (docs/protocol.md 6.4)."""


class Pages(Generic[Row]):
    """All rows of a history, newest first unless asked for otherwise; an async iterator that reads a page when it needs one.

    Newer rows that push older ones on to the next page do not make them come twice.
    """

    def __init__(
        self, read: Callable[[int], Awaitable[Page[Row]]], key: Callable[[Row], Hashable], *, page_size: int = PAGE
    ) -> None:
        """`read` fetches the page that begins at an offset, `key` tells rows apart."""
        self._read = read
        self._key = key
        self._page_size = page_size
        self._offset = 0
        self._rows: list[Row] = []
        """Those still to be given out, the next one last."""
        self._seen: Counter[Hashable] = Counter()
        """How many equal rows one page had at most: the same one may be on two pages, and two on one page are two."""
        self._ended = False

    def __aiter__(self) -> Self:
        """Go on where the last iteration left off."""
        return self

    async def __anext__(self) -> Row:
        while not self._rows:
            if self._ended:
                raise StopAsyncIteration
            await self._turn()
        return self._rows.pop()

    async def _turn(self) -> None:
        page = await self._read(self._offset)
        self._offset += len(page)
        self._ended = len(page) < self._page_size if page.total is None else not len(page) or self._offset >= page.total
        fresh: list[Row] = []
        here: Counter[Hashable] = Counter()
        for row in page:
            key = self._key(row)
            here[key] += 1
            if here[key] > self._seen[key]:
                fresh.append(row)
        self._seen |= here
        self._rows = fresh[::-1]


class RestMethods(ABC):
    """Calls by methods of their own; all of them raise what `call` raises, and take symbols in both spellings."""

    @abstractmethod
    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call an endpoint."""

    @abstractmethod
    async def _id(self, symbol: str) -> str:
        """Return the exchange's spelling of a symbol; one that is not in the list of markets is asked for."""

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse to promise what no call can keep any more."""

    async def get_markets(self, *, market_type: str | None = None) -> Markets:
        """Every market, or those of one type such as `SPOT` and `PERP`."""
        return cast("Markets", await self.call("markets", {"market_type": market_type}))

    async def get_depth(self, symbol: str, *, limit: int = 1000) -> DepthSnapshot:
        """The book, best prices first; `limit` levels a side: 5, 10, 20, 50, 100, 500 or 1000."""
        return cast("DepthSnapshot", await self.call("depth", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_klines(
        self, symbol: str, interval: str, *, start_s: int, end_s: int | None = None, price_type: str | None = None
    ) -> tuple[Kline, ...]:
        """Candles, oldest first, from and to in seconds since the epoch; prices are `Last`, `Index` or `Mark`."""
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "interval": interval,
            "start_s": start_s,
            "end_s": end_s,
            "price_type": price_type,
        }
        return cast("tuple[Kline, ...]", await self.call("klines", parameters))

    async def get_trades(self, symbol: str, *, limit: int | None = None) -> tuple[Trade, ...]:
        """The last public trades, up to 1000."""
        return cast("tuple[Trade, ...]", await self.call("trades", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_ticker(self, symbol: str, *, interval: Literal["1d", "1w"] | None = None) -> Ticker:
        """A day or a week of one market.

        Raises:
            NothingTraded: there was no trade in that time, as in a market that has just been listed.
        """
        return cast("Ticker", await self.call("ticker", {"symbol": await self._id(symbol), "interval": interval}))

    async def get_tickers(self, *, interval: Literal["1d", "1w"] | None = None) -> tuple[Ticker, ...]:
        """A day or a week of every market."""
        return cast("tuple[Ticker, ...]", await self.call("tickers", {"interval": interval}))

    async def get_mark_prices(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[MarkPrice, ...]:
        """Mark prices, index prices and funding of one market or all."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[MarkPrice, ...]", await self.call("mark_prices", parameters))

    async def get_open_interest(self, symbol: str | None = None) -> tuple[OpenInterest, ...]:
        """Open contracts of one market or all, in base units."""
        return cast("tuple[OpenInterest, ...]", await self.call("open_interest", {"symbol": await self._any_id(symbol)}))

    async def get_funding_rates(
        self, symbol: str, *, limit: int | None = None, offset: int | None = None
    ) -> tuple[FundingRate, ...]:
        """Funding rates, newest first; fractions per interval."""
        parameters: Arguments = {"symbol": await self._id(symbol), "limit": limit, "offset": offset}
        return cast("tuple[FundingRate, ...]", await self.call("funding_rates", parameters))

    async def get_time(self) -> ServerTime:
        """The exchange's clock, in microseconds since the epoch."""
        return cast("ServerTime", await self.call("time"))

    async def get_balances(self) -> dict[str, Balance]:
        """What the account holds, by asset."""
        return cast("dict[str, Balance]", await self.call("balances"))

    async def get_positions(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Position, ...]:
        """The open positions."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[Position, ...]", await self.call("positions", parameters))

    async def get_open_orders(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Order, ...]:
        """The open orders."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[Order, ...]", await self.call("open_orders", parameters))

    async def get_order(self, symbol: str, *, order_id: str | int | None = None, client_id: int | None = None) -> Order:
        """One open order, by exactly one of its ids."""
        parameters: Arguments = {"symbol": await self._id(symbol), "order_id": order_id, "client_id": client_id}
        return cast("Order", await self.call("order", parameters))

    def order_history(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Order]:
        """Every order of the past, open ones among them, as an async iterator."""
        parameters: Arguments = {"order_id": order_id, "market_type": market_type}
        return self._pages("order_history", symbol, parameters, _order_key, oldest_first=oldest_first, page_size=page_size)

    def fills(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        fill_type: str | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Fill]:
        """Every fill, from and to in milliseconds since the epoch, as an async iterator."""
        parameters: Arguments = {
            "order_id": order_id,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "fill_type": fill_type,
            "market_type": market_type,
        }
        return self._pages("fill_history", symbol, parameters, _fill_key, oldest_first=oldest_first, page_size=page_size)

    async def place(self, order: NewOrder, *, max_wait_us: int | None = None) -> Order:
        """Place one order, such as `NewOrder.limit("SOL_USDC", "Bid", price="98.50", quantity="2")`.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed; its `client_id`, if it has one, finds out.
        """
        if not isinstance(order, NewOrder):
            raise ConfigurationError(f"order: a NewOrder, such as NewOrder.limit(...), got {shown(order)}")
        order = replace(order, symbol=await self._id(order.symbol))
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
        """Place one order of any kind; units and meanings are those of `NewOrder`, and `place` is shorter for everyday orders.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been placed; `client_id`, if one was given, finds out.
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
        """Place up to 20 orders at once; one answer for each, in their order.

        Raises:
            ApiError: the exchange refused all of them.
            NotSent: they did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: any of them may have been placed; its `orders` hold their client ids.
        """
        batch = [replace(order, symbol=await self._id(order.symbol)).arguments() for order in orders]
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
        """Cancel one order, by exactly one of its ids; None when the exchange accepted, and has yet to do it.

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
        """Cancel every open order of a market, or those of one type; returns what was cancelled.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        parameters: Arguments = {"symbol": await self._id(symbol), "order_type": order_type}
        return cast("tuple[Order, ...]", await self.call("cancel_all_orders", parameters, max_wait_us=max_wait_us))

    async def _any_id(self, symbol: str | None) -> str | None:
        return None if symbol is None else await self._id(symbol)

    def _pages(
        self,
        endpoint: str,
        symbol: str | None,
        parameters: Arguments,
        key: Callable[[Row], Hashable],
        *,
        oldest_first: bool,
        page_size: int,
    ) -> Pages[Row]:
        self._check_open()
        checked_count("page_size", page_size, maximum=PAGE)
        direction = "Asc" if oldest_first else "Desc"

        async def read(offset: int) -> Page[Row]:
            paging: Arguments = {"limit": page_size, "offset": offset, "sort_direction": direction}
            page = await self.call(endpoint, {"symbol": await self._any_id(symbol), **parameters, **paging})
            return cast("Page[Row]", page)

        return Pages(read, key, page_size=page_size)


def _order_key(order: Order) -> Hashable:
    return order.order_id


def _fill_key(fill: Fill) -> Hashable:
    # Fills that the exchange itself made may have no trade id.
    return fill if fill.trade_id is None else fill.key
