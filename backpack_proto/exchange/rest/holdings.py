"""Holdings of an account beside balances and orders: settings, withdrawals, loans that it gave, shares of the vault, and strategies.

Theory of operation. A transfer moves the account's balances at once, so money can be withdrawn, lent or put into the vault once
only. Money elsewhere does not count as collateral. A withdrawal is confirmed, and a redemption paid, by the first request after their
time has come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from backpack_proto.exchange.account.accounts import PLACES, SETTLEMENT_ASSET, SimulatedAccount, base_units, quote_units
from backpack_proto.exchange.account.margin import asset_price, within_margin
from backpack_proto.exchange.account.order_request import Members, market_listing, refusal, unreadable
from backpack_proto.exchange.account.order_rules import reference_ticks
from backpack_proto.exchange.market.listings import Listing, stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.messages import SendFrame
from backpack_proto.exchange.stream.frames import iso_time_ms
from backpack_proto.exchange.stream.private_streams import PrivateStreams

from .answers import Answer
from .lending import Lending
from .purse import EMPTY, Purse, read_amount, read_flag
from .query import Query
from .strategies import Strategies
from .vault import SimulatedVault
from .withdrawals import Withdrawals

__all__ = ["HoldingRoute", "Holdings"]

_MANY = 10**18
"""More lots than can be paid."""
_FLAGS = ("autoBorrowSettlements", "autoLend", "autoRepayBorrows")


class HoldingRoute(NamedTuple):
    """Function that answers one call."""

    instruction: str
    handler: Callable[[Query, Members, int], Answer]
    paged: bool = False
    """True when the answer is every row of a history, oldest first, of which a page is sent."""


class Holdings:
    """The rest of one account. `streams` tell its listeners when a balance has changed."""

    def __init__(
        self,
        account: SimulatedAccount,
        streams: PrivateStreams,
        listings: Mapping[str, Listing],
        markets: Mapping[str, SimulatedMarket],
    ) -> None:
        self._account = account
        self._streams = streams
        self._listings = listings
        self._markets = markets
        self.settings: dict[str, object] = {}
        """The settings that the account has changed, as `/account` shows them."""
        self._dust: list[dict[str, object]] = []
        purse = Purse(account, listings)
        lending, strategies, withdrawals = Lending(purse, markets), Strategies(listings), Withdrawals(purse)
        self._vault = vault = SimulatedVault(purse)
        self.routes: dict[tuple[str, str], HoldingRoute] = {
            ("PATCH", "/api/v1/account"): HoldingRoute("accountUpdate", self._update),
            ("POST", "/api/v1/account/convertDust"): HoldingRoute("convertDust", self._convert_dust),
            ("GET", "/api/v1/account/limits/borrow"): HoldingRoute("maxBorrowQuantity", lending.most_borrowed),
            ("GET", "/api/v1/account/limits/order"): HoldingRoute("maxOrderQuantity", self._most_ordered),
            ("GET", "/api/v1/account/limits/withdrawal"): HoldingRoute("maxWithdrawalQuantity", withdrawals.most_withdrawn),
            ("GET", "/wapi/v1/capital/deposit/address"): HoldingRoute("depositAddressQuery", withdrawals.deposit_address),
            ("GET", "/wapi/v1/capital/withdrawals"): HoldingRoute(
                "withdrawalQueryAll", withdrawals.list_withdrawals, paged=True
            ),
            ("POST", "/wapi/v1/capital/withdrawals"): HoldingRoute("withdraw", withdrawals.withdraw),
            ("GET", "/api/v1/borrowLend/positions"): HoldingRoute("borrowLendPositionQuery", lending.loans),
            ("POST", "/api/v1/borrowLend"): HoldingRoute("borrowLendExecute", lending.lend),
            ("POST", "/api/v1/vault/mint"): HoldingRoute("vaultMint", vault.mint),
            ("POST", "/api/v1/vault/redeem"): HoldingRoute("vaultRedeemRequest", vault.redeem),
            ("DELETE", "/api/v1/vault/redeem"): HoldingRoute("vaultRedeemCancel", vault.cancel_redeem),
            ("GET", "/api/v1/vault/redeems/pending"): HoldingRoute("vaultPendingRedeemsQuery", vault.pending_redeems),
            ("GET", "/api/v1/vault/nav"): HoldingRoute("vaultNavQuery", vault.nav),
            ("GET", "/wapi/v1/history/borrowLend"): HoldingRoute(
                "borrowHistoryQueryAll", lambda query, _, __: self._of_symbol(query, lending.movements), paged=True
            ),
            ("GET", "/wapi/v1/history/dust"): HoldingRoute(
                "dustHistoryQueryAll", lambda query, _, __: self._of_symbol(query, self._dust), paged=True
            ),
            ("GET", "/api/v1/strategy"): HoldingRoute("strategyQuery", strategies.find),
            ("POST", "/api/v1/strategy"): HoldingRoute("strategyCreate", strategies.create),
            ("DELETE", "/api/v1/strategy"): HoldingRoute("strategyCancel", strategies.cancel),
            ("GET", "/api/v1/strategies"): HoldingRoute("strategyQueryAll", strategies.list_open),
            ("DELETE", "/api/v1/strategies"): HoldingRoute("strategyCancelAll", strategies.cancel_all),
            ("GET", "/wapi/v1/history/strategies"): HoldingRoute("strategyHistoryQueryAll", strategies.history, paged=True),
        }
        """Functions that answer each method and path."""

    def settle(self, engine_us: int) -> list[SendFrame]:
        """Pay the redemptions whose time has come. To be called before anything about the account is answered."""
        return self._streams.balances(engine_us) if self._vault.settle(engine_us) else []

    def told(self, engine_us: int) -> list[SendFrame]:
        """Return the frames for listeners after a call."""
        return self._streams.balances(engine_us)

    def _update(self, _query: Query, members: Members, _us: int) -> Answer:
        changes: dict[str, object] = {}
        for name in _FLAGS:
            value = members.get(name)
            if value is not None and not isinstance(value, bool):
                raise unreadable(f'failed to parse "AccountUpdatePayload": field `{name}` is a boolean')
            if value is not None:
                changes[name] = value
        leverage = members.get("leverageLimit")
        if leverage is not None:
            units = read_amount(leverage, "leverageLimit")
            if not 10**PLACES <= units <= 50 * 10**PLACES:
                raise refusal("INVALID_RANGE", "Leverage limit is out of range")
            changes["leverageLimit"] = stripped(units, PLACES)
        self.settings |= changes
        return EMPTY

    def _convert_dust(self, _query: Query, members: Members, us: int) -> Answer:
        wanted = members.get("symbol")
        converted = 0
        for asset in self._account.balances:
            market = self._markets.get(f"{asset}_{SETTLEMENT_ASSET}")
            units = self._account.available(asset)
            if (
                wanted not in {None, asset}
                or market is None
                or not 0 < units < base_units(market.listing, market.listing.lots_per_quantity)
            ):
                continue
            ticks, decimals = asset_price(asset, self._markets)
            received = units * ticks // 10**decimals
            self._account.credit(asset, -units)
            self._account.credit(SETTLEMENT_ASSET, received)
            converted += 1
            self._dust.append(
                {
                    "id": len(self._dust) + 1,
                    "quantity": stripped(units, PLACES),
                    "symbol": asset,
                    "timestamp": iso_time_ms(us // 1_000),
                    "usdcReceived": stripped(received, PLACES),
                }
            )
        if wanted is not None and not converted:
            raise refusal("INVALID_QUANTITY", "There is no dust of that asset: less than one step of its market")
        return EMPTY

    def _most_ordered(self, query: Query, _members: Members, _us: int) -> Answer:
        listing = market_listing(query.required("symbol"), self._listings)
        side = query.choice("side", "Side", ("Bid", "Ask"))
        price, reduces = query.optional("price"), read_flag(query, "reduceOnly")
        lots = self._most_lots(self._markets[listing.symbol], side, price, reduces=bool(reduces))
        return {
            "autoBorrow": read_flag(query, "autoBorrow"),
            "autoBorrowRepay": read_flag(query, "autoBorrowRepay"),
            "autoLendRedeem": read_flag(query, "autoLendRedeem"),
            "maxOrderQuantity": stripped(lots - lots % listing.lots_per_quantity, listing.quantity_decimals),
            "price": price,
            "reduceOnly": reduces,
            "side": side,
            "symbol": listing.symbol,
        }

    def _most_lots(self, market: SimulatedMarket, side: str, price: str | None, *, reduces: bool) -> int:
        listing, account = market.listing, self._account
        held = account.open_positions.get(market.symbol)
        lots = 0 if held is None else held[1].lots
        if reduces:
            return max(0, lots if side == "Ask" else -lots)
        if not listing.perpetual and side == "Ask":
            return account.available(listing.base) // base_units(listing, 1)
        if not listing.perpetual:
            lot = quote_units(listing, reference_ticks(market, "LastPrice"))
            # Rounded up: an order locks no less.
            paid = lot if price is None else -(-read_amount(price, "price") // 10**listing.quantity_decimals)
            return account.available(SETTLEMENT_ASSET) // paid
        sign = 1 if side == "Bid" else -1
        least, most = 0, 1
        while most < _MANY and within_margin(account, self._markets, market, sign * most):
            least, most = most, 2 * most
        while most - least > 1:
            middle = (least + most) // 2
            if within_margin(account, self._markets, market, sign * middle):
                least = middle
            else:
                most = middle
        return least

    @staticmethod
    def _of_symbol(query: Query, rows: list[dict[str, object]]) -> list[dict[str, object]]:
        symbol = query.optional("symbol")
        return [row for row in rows if symbol in {None, row["symbol"]}]
