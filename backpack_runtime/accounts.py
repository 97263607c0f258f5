"""An account as a client shows it: the session's ledger, and whether it can be trusted at the moment of reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from backpack_proto.account.account import Account
from backpack_proto.account.margin import LiquidationPrice, Margin
from backpack_proto.account.values import Balance, Order, Position
from backpack_proto.machine import Now
from backpack_proto.rest.results.account import FundingPayment

__all__ = ["AccountView"]


class AccountView:
    """Ledger of the account: open orders, positions, balances, margin and funding as they are known now.

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
        """True when the ledger follows the exchange. Otherwise it is the last known state. `doubts` names the exceptions."""
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
        """Open positions by symbol. `mark_price` and `unrealized_pnl` follow the mark prices that streams tell."""
        return self._account.positions

    @property
    def balances(self) -> Mapping[str, Balance]:
        """Balances by asset. On cross margin `available` is not the amount that can be spent: that is `buying_power`."""
        return self._account.balances

    @property
    def margin(self) -> Margin | None:
        """Margin of the account, in USDC, or None before the first reading.

        It is as REST listed it at `margin.as_of_us`, but for the three figures that follow mark prices where `margin.estimated` says so.
        `margin.moved` says that orders, positions or balances have moved since, or may have.
        """
        return self._account.margin

    @property
    def margin_age_us(self) -> int | None:
        """Age of the reading of the margin, from its sending, or None before there is one."""
        sent = self._account.margin_sent
        return None if sent is None else max(self._now().mono_us - sent.mono_us, 0)

    @property
    def equity(self) -> Decimal | None:
        """Net equity in USDC: `margin.net_equity`, or None before it is known."""
        margin = self.margin
        return None if margin is None else margin.net_equity

    @property
    def buying_power(self) -> Decimal | None:
        """Equity for new orders, in USDC: `margin.net_equity_available`, or None before it is known.

        Use this, not the `available` of balances: once a position is open that goes to about zero, while lent assets
        count as collateral (docs/protocol.md 6.4).
        """
        margin = self.margin
        return None if margin is None else margin.net_equity_available

    @property
    def unrealized_pnl(self) -> Decimal | None:
        """Unrealised profit of all positions, in USDC: `margin.unrealized_pnl`, or None before it is known."""
        margin = self.margin
        return None if margin is None else margin.unrealized_pnl

    def liquidation_price(self, symbol: str) -> LiquidationPrice | None:
        """Return where an open position would be liquidated, as REST estimated it last, or None before that is known.

        Raises:
            LocalProtocolError: no such position is open.
        """
        return self._account.liquidation_price(symbol)

    @property
    def lent(self) -> Mapping[str, Decimal] | None:
        """Amounts lent, by asset, or None before it is known."""
        margin = self.margin
        return None if margin is None else margin.lent

    @property
    def borrowed(self) -> Mapping[str, Decimal] | None:
        """Amounts borrowed, by asset, or None before they are known, and where the exchange lacks them (`doubts` says why)."""
        margin = self.margin
        return None if margin is None else margin.borrowed

    @property
    def funding(self) -> tuple[FundingPayment, ...] | None:
        """Funding payments that are known, the oldest first: the newest 100 from before the ledger, and all since. None before it is known."""
        return self._account.funding
