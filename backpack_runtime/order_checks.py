"""Orders are checked by the rules of their markets before they are sent, and never refused by a rule that may be old.

The exchange does not announce a new rule (docs/concepts.md, Rules of markets). So an order that breaks a rule as it is known has the market read
again, which no cache answers, at most once a minute for each market, and is then checked by its rules now. The refusal says
when the market could not be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import anyio
from msgspec.structs import replace

from backpack_proto.errors import BackpackError, ConfigurationError, LocalProtocolError
from backpack_proto.hints import one_of
from backpack_proto.rest.market_rules import DOUBT_US
from backpack_proto.rest.markets import Market
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.order_check import check_grid
from backpack_proto.rest.order_context import KnownNow
from backpack_proto.rest.violations import Violation, misfit
from backpack_proto.streams.payloads import Event, MarkPrice, Trade

__all__ = ["FRESH_US", "LOOK_UP_WAIT_US", "OrderChecking", "OrderChecks", "PricesSeen"]

OrderChecking: TypeAlias = Literal["grid", "all"]
"""Extent of the checks of an order before it is sent: the rules that do not depend on the moment, or all that is known."""

LOOK_UP_WAIT_US: Final = 2_000_000
"""Time that reading a market may wait for its turn: somebody waits for the answer to an order."""


FRESH_US: Final = 5_000_000
"""Largest age of a price that an order is checked by. Mark prices come every second."""


class PricesSeen:
    """The mark, index and last prices among the events of a client, as long as they are fresh."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[int, MarkPrice]] = {}
        self._trades: dict[str, tuple[int, Trade]] = {}

    def note(self, events: Iterable[Event], mono_us: int) -> None:
        """Remember the prices among events that have just come."""
        for event in events:
            if type(event) is Trade:
                self._trades[event.symbol] = mono_us, event
            elif type(event) is MarkPrice:
                self._marks[event.symbol] = mono_us, event

    def known(self, symbol: str, mono_us: int) -> KnownNow:
        """Return the fresh prices of a market."""
        known: KnownNow = {}
        seen_us, trade = self._trades.get(symbol, (0, None))
        if trade is not None and mono_us - seen_us <= FRESH_US:
            known["last_price"] = trade.price
        seen_us, mark = self._marks.get(symbol, (0, None))
        if mark is not None and mono_us - seen_us <= FRESH_US:
            known["mark_price"], known["index_price"] = mark.mark_price, mark.index_price
        return known


class _LookUp(NamedTuple):
    ended_us: int
    failed: BackpackError | None


class OrderChecks:
    """Checks the orders of one client."""

    def __init__(
        self,
        checking: OrderChecking | None,
        *,
        markets: Callable[[], Mapping[str, Market]],
        known_now: Callable[[NewOrder], KnownNow],
        look_up: Callable[[str], Awaitable[None]],
        mono_us: Callable[[], int],
    ) -> None:
        """`look_up` asks the exchange for one market, which is among `markets` from then on.

        Raises:
            ConfigurationError: `checking` is not one of its words.
        """
        if checking not in ("grid", "all", None):
            raise ConfigurationError(one_of("check_orders", checking, ("grid", "all", "None")))
        self._checking = checking
        self._markets = markets
        self._known_now = known_now
        self._look_up = look_up
        self._mono_us = mono_us
        self._looked_up: dict[str, _LookUp] = {}
        self._turns: dict[str, anyio.Lock] = {}

    async def check(self, orders: Sequence[NewOrder], *, batch: bool) -> None:
        """Return when all orders fit, as far as is known.

        Raises:
            OrderDoesNotFit: some do not. The error names all that is wrong with each.
            ClientClosed: the client was closed meanwhile.
        """
        if self._checking is None or not any(map(self._violations, orders)):
            return
        failed: list[BackpackError] = []
        for symbol in dict.fromkeys(order.symbol for order in orders if self._violations(order)):
            problem = await self._read_again(symbol)
            if problem is not None:
                failed.append(problem)
        found: list[Violation] = []
        symbols: dict[str, None] = {}
        for number, order in enumerate(orders):
            violations = self._violations(order)
            if violations:
                symbols[order.symbol] = None
            place = f"orders[{number}]." if batch else ""
            found += [replace(one, parameter=f"{place}{one.parameter}") for one in violations]
        if not found:
            return
        refusal = misfit(", ".join(symbols), found)
        for problem in failed:
            refusal.add_note(f"the rules may be old, for the market could not be read again: {problem}")
        raise refusal

    def _violations(self, order: NewOrder) -> tuple[Violation, ...]:
        market = self._markets()[order.symbol]
        if self._checking == "grid":
            return check_grid(market, order)
        return market.check_order(order, **self._known_now(order))

    async def _read_again(self, symbol: str) -> BackpackError | None:
        """Have a market read unless that was done within a minute. Returns the error of the last reading."""
        # One at a time: the second one waits for the result of the first.
        async with self._turns.setdefault(symbol, anyio.Lock()):
            last = self._looked_up.get(symbol)
            if last is None or self._mono_us() - last.ended_us >= DOUBT_US:
                failed: BackpackError | None = None
                try:
                    await self._look_up(symbol)
                except LocalProtocolError:
                    raise  # the client is closed
                except BackpackError as error:
                    failed = error
                last = self._looked_up[symbol] = _LookUp(self._mono_us(), failed)
            return last.failed
