"""Reading the request of an order, and the words in which the exchange refuses it (docs/protocol.md 1.4 and 6.3).

A body that cannot be read at all is refused in plain text, with the whole request. An order that makes no sense is refused with a
code, alone. Answers of the exchange that were never recorded are made up here, in the style of the known ones.

The `auto...` members and `brokerId` are read, and have no effect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final, NoReturn, TypeAlias, TypeVar

from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.market.orders import OrderSide, OrderTimeInForce, SelfTrade

from .orders import Attached, OrderRequest

__all__ = [
    "MAX_CLIENT_ID",
    "Members",
    "Number",
    "Reader",
    "choose_order",
    "market_listing",
    "read_body",
    "read_order",
    "read_price",
    "read_quantity",
    "read_units",
    "refusal",
    "trigger_size",
    "unreadable",
]

MAX_CLIENT_ID: Final = 2**32 - 1
TRIGGERS_BY: Final = ("LastPrice", "MarkPrice", "IndexPrice")

_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")
_TYPES = ("Limit", "Market")
_SLIPPAGE_TYPES = ("TickSize", "Percent")
_FLAGS = ("autoLend", "autoLendRedeem", "autoBorrow", "autoBorrowRepay")
_ATTACHED = ("takeProfit", "stopLoss")

Word = TypeVar("Word", bound=StrEnum)


class Number(str):
    """A number of a JSON text, as it stands there: its digits were signed."""

    __slots__ = ()


Members: TypeAlias = Mapping[str, "str | bool | None"]
"""The members of a JSON object. Numbers are `Number`."""


def refusal(code: str, message: str, status: int = 400) -> ApiError:
    """An error in the exchange's own words."""
    return ApiError(status=status, code=code, message=message, endpoint="")


def unreadable(problem: str) -> ApiError:
    """An error of the parser in front of the exchange: plain text."""
    return ApiError(status=400, code="", message=f"parse request payload error: {problem}", endpoint="")


def read_body(body: bytes) -> list[Members] | Members:
    """The objects in a JSON body: one, or a list of them. An empty body is an empty object.

    Raises:
        ApiError: it is neither, or an object has anything but text, numbers, booleans and nulls in it.
    """
    if not body:
        return {}
    try:
        value = json.loads(body, parse_int=Number, parse_float=Number, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # bytes that are no UTF-8 raise UnicodeDecodeError, a ValueError
        raise unreadable('failed to parse "JSON": expected value') from None
    objects = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) and _is_flat(item) for item in objects):
        raise unreadable('failed to parse "JSON": expected an object')
    return objects if isinstance(value, list) else objects[0]


def read_order(members: Members, listings: Mapping[str, Listing]) -> OrderRequest | ApiError:
    """One order out of a body. Faults of its sense are returned, for the others of a batch go on.

    Raises:
        ApiError: a member is missing or cannot be read at all.
    """
    read = Reader(members)
    symbol = read.text("symbol")
    if symbol is None:
        raise unreadable('failed to parse "OrderExecutePayload": field `symbol` is required')
    side = read.word("side", OrderSide)
    order_type = read.choice("orderType", _TYPES)
    if side is None or order_type is None:
        raise unreadable('failed to parse "OrderExecutePayload": fields `side` and `orderType` are required')
    decimals = {
        name: read.decimal(name) for name in ("price", "quantity", "quoteQuantity", "triggerPrice", "slippageTolerance")
    }
    time_in_force = read.word("timeInForce", OrderTimeInForce)
    self_trade = read.word("selfTradePrevention", SelfTrade)
    flags = {name: read.flag(name) for name in ("postOnly", "reduceOnly", *_FLAGS)}
    client_id = read.whole("clientId", MAX_CLIENT_ID)
    trigger_by = read.choice("triggerBy", TRIGGERS_BY)
    attached = {kind: _read_attached(read, kind) for kind in _ATTACHED}
    trigger_quantity = read.text("triggerQuantity")
    slippage_type = read.choice("slippageToleranceType", _SLIPPAGE_TYPES)
    try:
        listing = market_listing(symbol, listings)
        slippage = decimals["slippageTolerance"]
        if (slippage is None) != (slippage_type is None) or (slippage and (order_type == "Limit" or slippage.startswith("-"))):
            raise refusal("INVALID_ORDER", "Invalid order")
        request = OrderRequest(
            listing=listing,
            side=side,
            price=read_price(decimals["price"], listing),
            lots=read_quantity(decimals["quantity"], listing),
            tick_lots=read_units(decimals["quoteQuantity"], listing.price_decimals + listing.quantity_decimals, "Quantity"),
            time_in_force=time_in_force or OrderTimeInForce.GTC,
            post_only=flags["postOnly"],
            reduce_only=flags["reduceOnly"],
            client_id=client_id,
            self_trade=self_trade or SelfTrade.REJECT_TAKER,
            trigger_price=read_price(decimals["triggerPrice"], listing),
            trigger_by=trigger_by or "LastPrice",
            trigger_quantity=trigger_quantity,
            slippage=None if slippage is None else Decimal(slippage),
            slippage_in_ticks=slippage_type == "TickSize",
            take_profit=_attached(attached["takeProfit"], listing),
            stop_loss=_attached(attached["stopLoss"], listing),
        )
        _check(request, limit=order_type == "Limit")
    except ApiError as error:
        return error
    return request


def _read_attached(read: Reader, kind: str) -> tuple[str | None, str | None, str | None]:
    """The trigger price, the limit price and the reference of a take profit or a stop loss, as they stand there."""
    trigger, limit = read.decimal(f"{kind}TriggerPrice"), read.decimal(f"{kind}LimitPrice")
    return trigger, limit, read.choice(f"{kind}TriggerBy", TRIGGERS_BY)


def _attached(given: tuple[str | None, str | None, str | None], listing: Listing) -> Attached | None:
    """The take profit or the stop loss of an order.

    Raises:
        ApiError: it has no trigger price, or a price that makes no sense.
    """
    trigger_price, limit_price = read_price(given[0], listing), read_price(given[1], listing)
    if trigger_price is None:
        if given != (None, None, None):
            raise refusal("INVALID_ORDER", "Invalid order")
        return None
    if trigger_price < 1 or (limit_price is not None and limit_price < 1):
        raise refusal("INVALID_PRICE", "Invalid price")
    return Attached(trigger_price=trigger_price, limit_price=limit_price, trigger_by=given[2] or "LastPrice")


def market_listing(symbol: str, listings: Mapping[str, Listing]) -> Listing:
    """Return the market of an order.

    Raises:
        ApiError: it does not exist, or its book is closed.
    """
    listing = listings.get(symbol)
    if listing is None:
        raise refusal("INVALID_MARKET", "Invalid market")
    if not listing.open:
        raise refusal("TRADING_PAUSED", "Trading is paused")
    return listing


def choose_order(members: Members) -> tuple[str, int | None, int | None]:
    """Symbol, order id and client id of an order that is asked for. One of the ids is there, and the order id goes before the other.

    Raises:
        ApiError: the symbol is missing, or both ids are.
    """
    read = Reader(members)
    symbol = read.text("symbol")
    if symbol is None:
        raise unreadable('failed to parse "OrderCancelPayload": field `symbol` is required')
    order_id, client_id = read.text("orderId"), read.whole("clientId", MAX_CLIENT_ID)
    if order_id is None:
        if client_id is None:
            raise refusal("INVALID_CLIENT_REQUEST", "Must specify exactly one of `orderId` or `clientId`")
        return symbol, None, client_id
    # An id that is not a number belongs to no order.
    return symbol, int(order_id) if re.fullmatch("[0-9]{1,20}", order_id) else -1, None


def _check(request: OrderRequest, *, limit: bool) -> None:
    """Return whether the parts of an order go together."""
    if (request.trigger_price is None) != (request.trigger_quantity is None):
        raise refusal("INVALID_CLIENT_REQUEST", "Must specify both `triggerPrice` and `triggerQuantity` or neither")
    sizes = (request.lots, request.tick_lots, request.trigger_quantity)
    if sum(size is not None for size in sizes) != 1 or (request.price is not None) != limit:
        raise refusal("INVALID_ORDER", "Invalid order")
    if (request.tick_lots is not None and limit) or (request.reduce_only and not request.listing.perpetual):
        raise refusal("INVALID_ORDER", "Invalid order")
    if request.post_only and (not limit or request.time_in_force is not OrderTimeInForce.GTC):
        raise refusal("INVALID_ORDER", "Invalid order")
    if any(price is not None and price < 1 for price in (request.price, request.trigger_price)):
        raise refusal("INVALID_PRICE", "Invalid price")
    if any(size is not None and size < 1 for size in (request.lots, request.tick_lots)):
        raise refusal("INVALID_QUANTITY", "Invalid quantity")
    if request.trigger_quantity is not None:
        trigger_size(request, 0)


def trigger_size(request: OrderRequest, whole: int) -> int:
    """Lots that a triggered order is for. A percentage is one of `whole` lots, rounded down.

    Raises:
        ApiError: the text is neither a quantity nor a percentage.
    """
    text = request.trigger_quantity or ""
    percentage = _PERCENTAGE.fullmatch(text)
    if percentage is None:
        if not _DECIMAL.fullmatch(text):
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        lots = read_quantity(text, request.listing) or 0
        if lots < 1:
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        return lots
    share = Decimal(percentage[1])
    if not 0 < share <= 100:
        raise refusal("INVALID_QUANTITY", "Invalid quantity")
    return whole * int(share * 10_000) // 1_000_000


class Reader:
    """Members of one object by type. Each of its methods raises `ApiError` for one that cannot be read, None is not there."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def text(self, name: str) -> str | None:
        """Return a text. An empty one is not there."""
        value = self._members.get(name)
        if value is not None and (isinstance(value, bool) or type(value) is Number):
            self._fail(name, 'Expected input type "string"')
        return value or None

    def decimal(self, name: str) -> str | None:
        """Return a number in plain digits, as text."""
        value = self.text(name)
        if value is not None and not _DECIMAL.fullmatch(value):
            self._fail(name, "Invalid decimal")
        return value

    def flag(self, name: str) -> bool | None:
        """Return a boolean."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            self._fail(name, 'Expected input type "boolean"')
        return value

    def whole(self, name: str, maximum: int) -> int | None:
        """Return a whole number up to a maximum."""
        value = self._members.get(name)
        if value is None:
            return None
        if type(value) is not Number or not re.fullmatch("[0-9]{1,19}", value) or int(value) > maximum:
            self._fail(name, 'failed to parse "integer_uint32"')
        return int(value)

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """Return one of the allowed words."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self._fail(name, "Expect a valid enumeration value.")
        return value

    def word(self, name: str, kind: type[Word]) -> Word | None:
        """Return a word as a member of its enumeration."""
        value = self.choice(name, [word.value for word in kind])
        return None if value is None else kind(value)

    def _fail(self, name: str, problem: str) -> NoReturn:
        raise unreadable(f"failed to parse field `{name}`: {problem}")


def read_price(text: str | None, listing: Listing) -> int | None:
    """A price in ticks.

    Raises:
        ApiError: it does not keep the market's tick size.
    """
    ticks = read_units(text, listing.price_decimals, "Price")
    _keep(ticks, listing.ticks_per_price, "Price")
    return ticks


def read_quantity(text: str | None, listing: Listing) -> int | None:
    """A quantity in lots.

    Raises:
        ApiError: it does not keep the market's step size.
    """
    lots = read_units(text, listing.quantity_decimals, "Quantity")
    _keep(lots, listing.lots_per_quantity, "Quantity")
    return lots


def _keep(units: int | None, grid: int, what: str) -> None:
    if units is None or not units % grid:
        return
    if str(grid).strip("0") == "1":
        raise refusal("INVALID_CLIENT_REQUEST", f"{what} decimal too long")
    raise refusal(f"INVALID_{what.upper()}", f"Invalid {what.lower()}")


def read_units(text: str | None, decimals: int, what: str) -> int | None:
    """A decimal number as a whole number of 10^-decimals.

    Raises:
        ApiError: it has more decimals.
    """
    if text is None:
        return None
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > decimals:
        raise refusal("INVALID_CLIENT_REQUEST", f"{what} decimal too long")
    return int(whole + fraction.ljust(decimals, "0"))


def _is_flat(item: dict[str, object]) -> bool:
    return all(value is None or isinstance(value, str | bool) for value in item.values())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
