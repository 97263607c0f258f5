"""The accounts of the simulated exchange, each with all that serves it: its orders, its private streams and its request budget.

Accounts share only the books: each is a party of its own in the matching engines, and no private frame of one reaches another.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from random import Random

from .account.accounts import Fees, SimulatedAccount
from .account.order_entry import OrderEntry, Tell
from .faults import RateLimits
from .market.market import SimulatedMarket
from .stream.audience import Audience
from .stream.private_streams import PrivateStreams

__all__ = ["FIRST_OWNER", "Member"]

FIRST_OWNER = 2
"""Owner of the first account's orders, the next account has the next number. The smaller numbers are the crowd's."""


class Member:
    """One account, the `number`-th, and all that serves it.

    Raises:
        LocalProtocolError: a deposit is no usable amount, or a fee is too fine.
    """

    def __init__(
        self,
        number: int,
        api_key: str,
        *,
        seed: int,
        deposits: Mapping[str, Decimal],
        fees: Fees,
        markets: Mapping[str, SimulatedMarket],
        tell: Tell,
    ) -> None:
        # The first one draws the same as the only account of an exchange with one.
        suffix = f":{number}" if number else ""
        self.api_key = api_key
        self.account = SimulatedAccount(FIRST_OWNER + number, deposits, fees)
        self.audience = Audience()
        """Who listens to its private streams."""
        self.limits = RateLimits()
        self.streams = PrivateStreams(self.account, self.audience, Random(f"{seed}:streams{suffix}"))
        self.entry = OrderEntry(self.account, markets, self.streams, tell, Random(f"{seed}:positions{suffix}"))

    def uses(self, symbol: str) -> bool:
        """Return whether it has an order or a position in a market."""
        return symbol in self.account.open_positions or any(of == symbol for of, _ in self.account.orders)
