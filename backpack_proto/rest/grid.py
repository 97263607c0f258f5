"""Prices and quantities on the grid of a market: multiples of its tick or its step, exactly.

Everything here is exact arithmetic on decimals: an amount has at most 100 characters (`backpack_proto.decoding.amount`), a tick or a step of
the exchange at most 28 decimals, so no digit is ever cut off. A market whose tick or step is not above zero has no grid.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final, Literal, TypeAlias

from backpack_proto.values import Value

__all__ = ["EXACT", "Grid", "Rounding", "written"]

Rounding: TypeAlias = Literal["down", "up", "nearest"]
"""Where an amount goes that is not on the grid. `nearest` from the middle in the direction that is the default there."""

EXACT: Final = Context(prec=500)
"""Amounts, factors and their products are never rounded in it."""
LONGEST: Final = 40
ZERO: Final = Decimal(0)


class Grid(Value, frozen=True, gc=False):
    """The amounts that a market allows: multiples of an increment from a minimum to a maximum, zero never among them."""

    increment: Decimal
    minimum: Decimal
    maximum: Decimal | None = None

    def holds(self, value: Decimal) -> bool:
        """Return whether a value is a multiple of the increment."""
        return self.increment <= 0 or not EXACT.remainder(value, self.increment)

    def down(self, value: Decimal) -> Decimal:
        """Return the largest multiple that is not above a value, in the increment's own number of decimals."""
        if self.increment <= 0:
            return value
        multiple = EXACT.multiply(EXACT.divide_int(value, self.increment), self.increment)
        return multiple.quantize(self._unit, context=EXACT)

    def up(self, value: Decimal) -> Decimal:
        """Return the smallest multiple that is not below a value, in the increment's own number of decimals."""
        below = self.down(value)
        return below if below >= value else EXACT.add(below, self.increment).quantize(self._unit, context=EXACT)

    def nearest(self, value: Decimal, *, from_the_middle_up: bool) -> Decimal:
        """Return the multiple that is closest to a value."""
        below, above = self.down(value), self.up(value)
        to_below, to_above = EXACT.subtract(value, below), EXACT.subtract(above, value)
        return above if to_above < to_below or (to_above == to_below and from_the_middle_up) else below

    def outside(self, value: Decimal) -> str:
        """Return how a value is outside the range, as a part of a sentence, or empty where it is inside."""
        if value < self.minimum:
            return f"below the minimum {written(self.minimum)}"
        if self.maximum is not None and value > self.maximum:
            return f"above the maximum {written(self.maximum)}"
        return "" if value else "not above zero"

    @property
    def lowest(self) -> Decimal:
        """The smallest amount that is allowed."""
        return self.up(max(self.minimum, self.increment, ZERO))

    @property
    def highest(self) -> Decimal | None:
        """The largest amount that is allowed. None: there is no limit."""
        return None if self.maximum is None else self.down(self.maximum)

    def around(self, value: Decimal) -> tuple[Decimal, ...]:
        """Return the allowed amounts next to a value, the lower one first: two, one at the end of the range, zero in an empty one."""
        lowest, highest = self.lowest, self.highest
        if highest is not None and highest < lowest:
            return ()
        clipped = (max(lowest, one if highest is None else min(one, highest)) for one in (self.down(value), self.up(value)))
        return tuple(dict.fromkeys(clipped))

    @property
    def _unit(self) -> Decimal:
        exponent = self.increment.as_tuple().exponent
        return Decimal(1).scaleb(min(0, exponent) if isinstance(exponent, int) else 0)


def written(value: Decimal) -> str:
    """Return an amount for an error text, in plain digits."""
    text = f"{value:f}"
    return text if len(text) <= LONGEST else f"a number of {len(text)} characters"
