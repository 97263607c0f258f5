"""REST methods of strategies: orders that the exchange makes one after the other."""

from __future__ import annotations

from typing import Literal, cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount, Side, TimeInForce
from backpack_proto.rest.results.orders import Strategy

from .caller import Caller

__all__ = ["StrategyMethods"]


class StrategyMethods(Caller):
    """Calls about strategies."""

    async def get_strategy(
        self, symbol: str, *, strategy_id: str | int | None = None, client_strategy_id: int | None = None
    ) -> Strategy:
        """Return one strategy that runs, by exactly one of its ids."""
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "strategy_id": strategy_id,
            "client_strategy_id": client_strategy_id,
        }
        return cast("Strategy", await self.call("strategy", parameters))

    async def get_open_strategies(
        self, symbol: str | None = None, *, market_type: str | None = None, strategy_type: str | None = None
    ) -> tuple[Strategy, ...]:
        """Return the strategies that run."""
        parameters: Arguments = {
            "symbol": await self._any_id(symbol),
            "market_type": market_type,
            "strategy_type": strategy_type,
        }
        return cast("tuple[Strategy, ...]", await self.call("open_strategies", parameters))

    async def create_strategy(
        self,
        symbol: str,
        side: Side,
        *,
        strategy_type: str = "Scheduled",
        quantity: Amount | None = None,
        price: Amount | None = None,
        duration_ms: int | None = None,
        interval_ms: int | None = None,
        randomized_interval_quantity: bool | None = None,
        time_in_force: TimeInForce | None = None,
        post_only: bool | None = None,
        reduce_only: bool | None = None,
        client_strategy_id: int | None = None,
        self_trade_prevention: str | None = None,
        slippage_tolerance: Amount | None = None,
        slippage_tolerance_type: Literal["TickSize", "Percent"] | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        broker_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Strategy:
        """Start a strategy: a quantity in several orders, one each `interval_ms`, over `duration_ms`.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may run. `client_strategy_id`, if one was given, finds out.
        """
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "side": side,
            "strategy_type": strategy_type,
            "quantity": quantity,
            "price": price,
            "duration": duration_ms,
            "interval": interval_ms,
            "randomized_interval_quantity": randomized_interval_quantity,
            "time_in_force": time_in_force,
            "post_only": post_only,
            "reduce_only": reduce_only,
            "client_strategy_id": client_strategy_id,
            "self_trade_prevention": self_trade_prevention,
            "slippage_tolerance": slippage_tolerance,
            "slippage_tolerance_type": slippage_tolerance_type,
            "auto_lend": auto_lend,
            "auto_lend_redeem": auto_lend_redeem,
            "auto_borrow": auto_borrow,
            "auto_borrow_repay": auto_borrow_repay,
            "broker_id": broker_id,
        }
        return cast("Strategy", await self.call("create_strategy", parameters, max_wait_us=max_wait_us))

    async def cancel_strategy(
        self,
        symbol: str,
        *,
        strategy_id: str | int | None = None,
        client_strategy_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Strategy:
        """Cancel one strategy, by exactly one of its ids.

        Raises:
            ApiError: the exchange refused.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled, as after a 202.
        """
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "strategy_id": strategy_id,
            "client_strategy_id": client_strategy_id,
        }
        return cast("Strategy", await self.call("cancel_strategy", parameters, max_wait_us=max_wait_us))

    async def cancel_all_strategies(
        self, symbol: str, *, strategy_type: str | None = None, max_wait_us: int | None = None
    ) -> tuple[Strategy, ...]:
        """Cancel every strategy of a market. Return the cancelled ones.

        Raises:
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: some may have been cancelled.
        """
        parameters: Arguments = {"symbol": await self._id(symbol), "strategy_type": strategy_type}
        cancelled = await self.call("cancel_all_strategies", parameters, max_wait_us=max_wait_us)
        return cast("tuple[Strategy, ...]", cancelled)
