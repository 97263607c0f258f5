"""An account as a client shows it: the session's ledger, and whether it can be trusted at the moment of reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backpack_proto.account.account import Account
from backpack_proto.account.values import Balance, Order, Position
from backpack_proto.machine import Now

__all__ = ["AccountView"]


class AccountView:
    """Ledger of the account: open orders, positions and balances as they are known now.

    `live` is worked out when it is read: the ledger follows the exchange, a reading has proved it within 120 s, and the path of the
    connection is proved (docs/concepts.md).
    """

    __slots__ = ("_account", "_now")

    def __init__(self, account: Account, now: Callable[[], Now]) -> None:
        """`now` reads the clock on which the session lives."""
        self._account = account
        self._now = now

    def __repr__(self) -> str:
        """Show how much there is, and whether it is live."""
        state = "live" if self.live else "stale"
        return f"<AccountView {state}: {len(self.open_orders)} open orders, {len(self.positions)} positions>"

    @property
    def live(self) -> bool:
        """Whether the ledger follows the exchange; otherwise it is what was known last. `doubts` says which parts are excepted."""
        return self._account.is_live(self._now().mono_us)

    @property
    def doubts(self) -> Mapping[str, str]:
        """Parts that a live ledger is not live for, such as `order 5`, `position SOL_USDC_PERP` or `balance SOL`, and why."""
        return self._account.doubts

    @property
    def open_orders(self) -> Mapping[str, Order]:
        """Open orders by order id."""
        return self._account.open_orders

    @property
    def positions(self) -> Mapping[str, Position]:
        """Open positions by symbol."""
        return self._account.positions

    @property
    def balances(self) -> Mapping[str, Balance]:
        """Balances by asset."""
        return self._account.balances
