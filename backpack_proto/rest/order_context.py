"""Knowledge of a caller at the moment of an order, beside the rules of its market."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, TypedDict

from msgspec import Struct

from backpack_proto.decoding import Amount, amount
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import NOT_EXACT, one_of, shown
from backpack_proto.streams.levels import Level

__all__ = ["NOTHING_KNOWN", "KnownNow", "OrderContext", "exact_amount"]


class KnownNow(TypedDict, total=False):
    """Knowledge of a caller at the moment, beside the rules of a market. Members that are left out or None are unknown.

    `bids` and `asks` are levels of the book, best first, such as `client.book(symbol).bids()`: for the depth of a market order. Their
    best prices are `best_bid` and `best_ask`, unless given: a post-only order must not meet them. `last_price` is that of the last trade,
    for the multipliers. `mark_price` stands for the mean mark price and, with `index_price`, for the mean premium, which are not public.
    `oracle_price` is the latest price outside the exchange, for the discovery bound. `position` is the net quantity held in the market,
    negative where it is short and zero without one, for `reduce_only`.
    """

    best_bid: Amount | None
    best_ask: Amount | None
    last_price: Amount | None
    mark_price: Amount | None
    index_price: Amount | None
    oracle_price: Amount | None
    position: Decimal | int | None
    bids: Sequence[Level]
    asks: Sequence[Level]


class OrderContext(Struct, frozen=True, gc=False, kw_only=True):
    """`KnownNow` as exact decimals."""

    best_bid: Decimal | None = None
    best_ask: Decimal | None = None
    last_price: Decimal | None = None
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    oracle_price: Decimal | None = None
    position: Decimal | None = None
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()

    @classmethod
    def of(cls, known: KnownNow) -> OrderContext:
        """Read the knowledge of a caller.

        Raises:
            ConfigurationError: there is no such fact, or its value is not an exact number.
        """
        read: dict[str, Any] = {}
        for name, value in known.items():
            if name in ("bids", "asks"):
                read[name] = _levels(name, value)
            elif name == "position":
                read[name] = _position(value)
            elif name in cls.__struct_fields__:
                read[name] = None if value is None else exact_amount(name, value)
            else:
                raise ConfigurationError(one_of("check_order takes", name, cls.__struct_fields__))
        for name, levels in (("best_bid", read.get("bids")), ("best_ask", read.get("asks"))):
            if levels and read.get(name) is None:
                read[name] = levels[0].price
        return cls(**read)


NOTHING_KNOWN: Final = OrderContext()


def exact_amount(name: str, value: object) -> Decimal:
    """Return an amount as an exact decimal.

    Raises:
        ConfigurationError: it is a float, a bool, or anything else that is no amount.
    """
    exact = amount(value)
    if exact is None:
        raise ConfigurationError(
            f"{name}: a Decimal, an int or text in plain digits, got {shown(value)}{NOT_EXACT if isinstance(value, float) else ''}"
        )
    return exact


def _position(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | None):
        shape = "the net quantity, a Decimal or an int, negative where it is short"
        raise ConfigurationError(f"position: {shape}, got {shown(value)}")
    return None if value is None else Decimal(value)


def _levels(name: str, value: object) -> Sequence[Level]:
    if not isinstance(value, Sequence) or not all(isinstance(level, Level) for level in value):
        raise ConfigurationError(f"{name}: levels, best first, such as client.book(symbol).{name}(), got {shown(value)}")
    return value
