"""A broken rule of an order as a value, and the one error for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from backpack_proto.errors import OrderDoesNotFit
from backpack_proto.values import Value

__all__ = ["Violation", "misfit"]


class Violation(Value, frozen=True, gc=False, kw_only=True):
    """One rule that an order breaks."""

    parameter: str
    """Of `NewOrder`, in Python's spelling."""
    rule: str
    """The rule by the Python name of the market's filter or member, such as `tick_size` or `order_book_state`, or `order` for rules of all orders."""
    reason: str
    """The value, the rule, and valid values."""
    valid: tuple[Decimal, ...] = ()
    """The next valid values, the lower one first, where the rule is about a number."""

    def __str__(self) -> str:
        return f"{self.parameter}: {self.reason}"


def misfit(symbol: str, violations: Sequence[Violation]) -> OrderDoesNotFit:
    """Return one error that names all that is wrong."""
    return OrderDoesNotFit(symbol=symbol, violations=tuple((one.parameter, one.reason) for one in violations))
