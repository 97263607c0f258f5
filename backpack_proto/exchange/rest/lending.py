"""Loans that an account gave: they earn no interest, are no collateral, and can be taken back. Borrowing is refused."""

from __future__ import annotations

from collections.abc import Mapping

from backpack_proto.exchange.account.accounts import PLACES
from backpack_proto.exchange.account.margin import asset_price
from backpack_proto.exchange.account.order_request import Members, refusal, unreadable
from backpack_proto.exchange.market.listings import stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.stream.frames import iso_time_ms

from .answers import Answer
from .purse import EMPTY, Purse, read_amount
from .query import Query

__all__ = ["Lending"]

IMF, MMF = "0.02", "0.0125"
"""Margin fractions that a loan has on the exchange. Here it is no collateral, so they are unused."""


class Lending:
    """The loans of one account."""

    def __init__(self, purse: Purse, markets: Mapping[str, SimulatedMarket]) -> None:
        self._purse = purse
        self._markets = markets
        self._lent: dict[str, int] = {}
        self.movements: list[dict[str, object]] = []
        """Loans given and taken back, oldest first."""

    def most_borrowed(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show how much could be borrowed."""
        return {"maxBorrowQuantity": "0", "symbol": self._purse.asset(query.required("symbol"))}

    def loans(self, _query: Query, _members: Members, _us: int) -> Answer:
        """Show the loans."""
        rows: list[dict[str, object]] = []
        for number, (asset, units) in enumerate(self._lent.items(), start=1):
            if not units:
                continue
            ticks, decimals = asset_price(asset, self._markets)
            function = {"type": "sqrt", "base": IMF, "factor": "0"}
            rows.append(
                {
                    "cumulativeInterest": "0",
                    "estLiquidationPrice": None,
                    "id": str(number),
                    "imf": IMF,
                    "imfFunction": function,
                    "markPrice": stripped(ticks, decimals),
                    "mmf": MMF,
                    "mmfFunction": {**function, "base": MMF},
                    "netExposureNotional": stripped(units * ticks // 10**decimals, PLACES),
                    "netExposureQuantity": stripped(units, PLACES),
                    "netQuantity": stripped(units, PLACES),
                    "symbol": asset,
                }
            )
        return rows

    def lend(self, _query: Query, members: Members, us: int) -> Answer:
        """Lend something, or take it back."""
        asset, side = self._purse.asset(members.get("symbol")), members.get("side")
        units = read_amount(members.get("quantity"), "quantity")
        lent = self._lent.get(asset, 0)
        if side == "Lend":
            self._purse.spend(asset, units)
            units_after, event = lent + units, "Lend"
        elif side != "Borrow":
            raise unreadable('failed to parse "BorrowLendExecutePayload": field `side` is Borrow or Lend')
        elif units > lent:
            raise refusal("BORROW_LIMIT", "Borrow limit exceeded")
        else:
            self._purse.account.credit(asset, units)
            units_after, event = lent - units, "LendRedeem"
        self._lent[asset] = units_after
        self.movements.append(
            {
                "eventType": event,
                "positionId": str(list(self._lent).index(asset) + 1),
                "positionQuantity": stripped(units_after, PLACES),
                "quantity": stripped(units, PLACES),
                "source": "Manual",
                "spotMarginOrderId": None,
                "symbol": asset,
                "timestamp": iso_time_ms(us // 1_000),
            }
        )
        return EMPTY
