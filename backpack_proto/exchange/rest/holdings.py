"""What an account has beside balances and orders: settings, withdrawals, loans that it gave, shares of the vault, and strategies.

Theory of operation. Whatever moves money moves the account's balances at once, so it can be withdrawn, lent or put into the vault once
only. What is elsewhere counts as no collateral. A withdrawal is confirmed, and a redemption paid, when their time has come and somebody
asks. Nothing can be borrowed. A strategy is kept, listed and cancelled, and trades nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from msgspec import Struct

from backpack_proto.exchange.account.accounts import PLACES, SETTLEMENT_ASSET, SimulatedAccount, base_units, quote_units
from backpack_proto.exchange.account.margin import IMF, LEVERAGE_LIMIT, MMF, asset_price, margin_figures
from backpack_proto.exchange.account.order_request import Members, market_listing, refusal, unreadable
from backpack_proto.exchange.account.order_rules import reference_ticks
from backpack_proto.exchange.market.listings import Listing, stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.messages import Respond, SendFrame
from backpack_proto.exchange.stream.frames import iso_time_ms
from backpack_proto.exchange.stream.private_streams import PrivateStreams

from .answers import Answer
from .plain_routes import ADDRESSES, VAULT_ASSET, VAULT_ID, VAULT_TOKEN
from .query import Query
from .strategies import Strategies

__all__ = ["HoldingRoute", "Holdings"]

WITHDRAWAL_US: Final = 30_000_000
"""How long a withdrawal is pending."""
REDEEM_US: Final = 60_000_000
FEE: Final = 10**16
"""Of a withdrawal, in units: what `/assets` says."""
LEAST: Final = 2 * 10**16
NATIVE_DECIMALS: Final = 9
_DECIMAL = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,18}))?")
_FLAGS = ("autoBorrowSettlements", "autoLend", "autoRepayBorrows")
_EMPTY = Respond(0, 200, "", b"")


class HoldingRoute(NamedTuple):
    """What answers one call."""

    instruction: str
    handler: Callable[[Query, Members, int], Answer]
    paged: bool = False
    """Whether the answer is every row of a history, oldest first, of which a page is sent."""


class _Withdrawal(Struct, frozen=True, gc=False, kw_only=True):
    number: int
    asset: str
    units: int
    blockchain: str
    address: str
    client_id: str | None
    created_us: int


class _Redemption(Struct, gc=False, kw_only=True):
    number: int
    units: int
    created_us: int
    state: str = "Requested"


class Holdings:
    """The rest of one account; `streams` tell its listeners when a balance has changed."""

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
        self._withdrawals: list[_Withdrawal] = []
        self._lent: dict[str, int] = {}
        self._movements: list[dict[str, object]] = []
        self._dust: list[dict[str, object]] = []
        self._redemptions: list[_Redemption] = []
        self._strategies = Strategies(listings)
        strategies = self._strategies
        self.routes: dict[tuple[str, str], HoldingRoute] = {
            ("PATCH", "/api/v1/account"): HoldingRoute("accountUpdate", self._update),
            ("POST", "/api/v1/account/convertDust"): HoldingRoute("convertDust", self._convert_dust),
            ("GET", "/api/v1/account/limits/borrow"): HoldingRoute("maxBorrowQuantity", self._most_borrowed),
            ("GET", "/api/v1/account/limits/order"): HoldingRoute("maxOrderQuantity", self._most_ordered),
            ("GET", "/api/v1/account/limits/withdrawal"): HoldingRoute("maxWithdrawalQuantity", self._most_withdrawn),
            ("GET", "/wapi/v1/capital/deposit/address"): HoldingRoute("depositAddressQuery", self._deposit_address),
            ("GET", "/wapi/v1/capital/withdrawals"): HoldingRoute("withdrawalQueryAll", self._list_withdrawals, paged=True),
            ("POST", "/wapi/v1/capital/withdrawals"): HoldingRoute("withdraw", self._withdraw),
            ("GET", "/api/v1/borrowLend/positions"): HoldingRoute("borrowLendPositionQuery", self._loans),
            ("POST", "/api/v1/borrowLend"): HoldingRoute("borrowLendExecute", self._lend),
            ("POST", "/api/v1/vault/mint"): HoldingRoute("vaultMint", self._mint),
            ("POST", "/api/v1/vault/redeem"): HoldingRoute("vaultRedeemRequest", self._redeem),
            ("DELETE", "/api/v1/vault/redeem"): HoldingRoute("vaultRedeemCancel", self._cancel_redeem),
            ("GET", "/api/v1/vault/redeems/pending"): HoldingRoute("vaultPendingRedeemsQuery", self._pending_redeems),
            ("GET", "/api/v1/vault/nav"): HoldingRoute("vaultNavQuery", self._nav),
            ("GET", "/wapi/v1/history/borrowLend"): HoldingRoute(
                "borrowHistoryQueryAll", lambda query, _, __: self._of_symbol(query, self._movements), paged=True
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
        """What answers each method and path."""

    def settle(self, engine_us: int) -> list[SendFrame]:
        """Pay the redemptions whose time has come; to be called before anything about the account is answered."""
        due = [item for item in self._redemptions if item.state == "Requested" and item.created_us + REDEEM_US <= engine_us]
        for redemption in due:
            redemption.state = "Redeemed"
            self._account.credit(VAULT_ASSET, redemption.units)
        return self._streams.balances(engine_us) if due else []

    def told(self, engine_us: int) -> list[SendFrame]:
        """Return what listeners are told once a call was done."""
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
            units = _amount(leverage, "leverageLimit")
            if not 10**PLACES <= units <= 50 * 10**PLACES:
                raise refusal("INVALID_RANGE", "Leverage limit is out of range")
            changes["leverageLimit"] = stripped(units, PLACES)
        self.settings |= changes
        return _EMPTY

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
        return _EMPTY

    def _most_borrowed(self, query: Query, _members: Members, _us: int) -> Answer:
        return {"maxBorrowQuantity": "0", "symbol": self._asset(query.required("symbol"))}

    def _most_withdrawn(self, query: Query, _members: Members, _us: int) -> Answer:
        asset = self._asset(query.required("symbol"))
        most = max(0, self._account.available(asset) - FEE)
        return {
            "autoBorrow": _flag(query, "autoBorrow"),
            "autoLendRedeem": _flag(query, "autoLendRedeem"),
            "maxWithdrawalQuantity": stripped(most, PLACES),
            "symbol": asset,
        }

    def _most_ordered(self, query: Query, _members: Members, _us: int) -> Answer:
        listing = market_listing(query.required("symbol"), self._listings)
        side = query.choice("side", "Side", ("Bid", "Ask"))
        price, reduces = query.optional("price"), _flag(query, "reduceOnly")
        lots = self._most_lots(self._markets[listing.symbol], side, price, reduces=bool(reduces))
        return {
            "autoBorrow": _flag(query, "autoBorrow"),
            "autoBorrowRepay": _flag(query, "autoBorrowRepay"),
            "autoLendRedeem": _flag(query, "autoLendRedeem"),
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
        lot = quote_units(listing, reference_ticks(market, "MarkPrice"))
        if price is not None:
            lot = _amount(price, "price") // 10**listing.quantity_decimals
        if not lot:
            raise refusal("INVALID_PRICE", "Price is below the tick size")
        if not listing.perpetual:
            return account.available(SETTLEMENT_ASSET) // lot
        # What the position of the other side could give back comes on top.
        figures = margin_figures(account, self._markets)
        spare = max(0, figures.equity * LEVERAGE_LIMIT - figures.exposure) // lot
        return spare + max(0, -2 * lots if side == "Bid" else 2 * lots)

    def _deposit_address(self, query: Query, _members: Members, _us: int) -> Answer:
        return {"address": ADDRESSES[query.choice("blockchain", "Blockchain", ADDRESSES)]}

    def _list_withdrawals(self, query: Query, _members: Members, us: int) -> Answer:
        number, client_id = query.optional("id"), query.optional("clientId")
        return [
            _withdrawal_row(withdrawal, us)
            for withdrawal in self._withdrawals
            if number in {None, str(withdrawal.number)} and client_id in {None, withdrawal.client_id}
        ]

    def _withdraw(self, _query: Query, members: Members, us: int) -> Answer:
        asset, address = self._asset(members.get("symbol")), members.get("address")
        blockchain, client_id = members.get("blockchain"), members.get("clientId")
        if not isinstance(address, str) or not isinstance(blockchain, str) or blockchain not in ADDRESSES:
            raise refusal(
                "INVALID_CLIENT_REQUEST", f"A withdrawal needs an address, and a blockchain of {', '.join(ADDRESSES)}"
            )
        units = _amount(members.get("quantity"), "quantity")
        if units < LEAST or units % 10 ** (PLACES - NATIVE_DECIMALS):
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        self._spend(asset, units + FEE)
        withdrawal = _Withdrawal(
            number=len(self._withdrawals) + 1,
            asset=asset,
            units=units,
            blockchain=blockchain,
            address=address,
            client_id=client_id if isinstance(client_id, str) else None,
            created_us=us,
        )
        self._withdrawals.append(withdrawal)
        return _withdrawal_row(withdrawal, us)

    def _loans(self, _query: Query, _members: Members, _us: int) -> Answer:
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

    def _lend(self, _query: Query, members: Members, us: int) -> Answer:
        asset, side = self._asset(members.get("symbol")), members.get("side")
        units = _amount(members.get("quantity"), "quantity")
        lent = self._lent.get(asset, 0)
        if side == "Lend":
            self._spend(asset, units)
            units_after, event = lent + units, "Lend"
        elif side != "Borrow":
            raise unreadable('failed to parse "BorrowLendExecutePayload": field `side` is Borrow or Lend')
        elif units > lent:
            raise refusal("BORROW_LIMIT", "Borrow limit exceeded")
        else:
            self._account.credit(asset, units)
            units_after, event = lent - units, "LendRedeem"
        self._lent[asset] = units_after
        self._movements.append(
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
        return _EMPTY

    def _mint(self, _query: Query, members: Members, _us: int) -> Answer:
        self._check_vault(members)
        if members.get("symbol") != VAULT_ASSET:
            raise refusal("INVALID_ASSET", f"The vault takes {VAULT_ASSET}")
        units = _amount(members.get("quantity"), "quantity")
        self._spend(VAULT_ASSET, units)
        self._account.credit(VAULT_TOKEN, units)
        return _EMPTY

    def _redeem(self, _query: Query, members: Members, us: int) -> Answer:
        self._check_vault(members)
        asked = members.get("vaultTokenQuantity")
        units = self._account.available(VAULT_TOKEN) if asked is None else _amount(asked, "vaultTokenQuantity")
        if not units:
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        self._spend(VAULT_TOKEN, units)
        self._redemptions.append(_Redemption(number=len(self._redemptions) + 1, units=units, created_us=us))
        return _EMPTY

    def _cancel_redeem(self, _query: Query, members: Members, _us: int) -> Answer:
        self._check_vault(members)
        waiting = [redemption for redemption in self._redemptions if redemption.state == "Requested"]
        if not waiting:
            raise refusal("RESOURCE_NOT_FOUND", "Not Found", 404)
        for redemption in waiting:
            redemption.state = "Cancelled"
            self._account.credit(VAULT_TOKEN, redemption.units)
        return _EMPTY

    def _pending_redeems(self, query: Query, _members: Members, _us: int) -> Answer:
        if query.required("vaultId") != str(VAULT_ID):
            return []
        return [
            {
                "id": str(redemption.number),
                "nav": None,
                "quantity": None,
                "reason": None,
                "status": redemption.state,
                "symbol": VAULT_ASSET,
                "timestamp": redemption.created_us // 1_000,
                "vaultId": VAULT_ID,
                "vaultToken": VAULT_TOKEN,
                "vaultTokenQuantity": stripped(redemption.units, PLACES),
            }
            for redemption in self._redemptions
            if redemption.state == "Requested"
        ]

    def _nav(self, _query: Query, _members: Members, us: int) -> Answer:
        ones = dict.fromkeys(("mintNav", "nav", "redeemNav", "twapNav"), "1")
        worth = dict.fromkeys(("netEquity", "tokenCirculatingSupply", "vaultEquity"), "1000000")
        return {"lastCrankTimestamp": us // 1_000, **ones, **worth}

    def _check_vault(self, members: Members) -> None:
        if members.get("vaultId") != str(VAULT_ID):
            raise refusal("INVALID_CLIENT_REQUEST", f"There is one vault, {VAULT_ID}")

    def _asset(self, name: object) -> str:
        """The name of an asset that there is."""
        known = {listing.base for listing in self._listings.values() if not listing.perpetual}
        if not isinstance(name, str) or name not in {*known, SETTLEMENT_ASSET, VAULT_TOKEN}:
            raise refusal("INVALID_SYMBOL", "Invalid symbol")
        return name

    def _spend(self, asset: str, units: int) -> None:
        if units > self._account.available(asset):
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        self._account.credit(asset, -units)

    @staticmethod
    def _of_symbol(query: Query, rows: list[dict[str, object]]) -> list[dict[str, object]]:
        symbol = query.optional("symbol")
        return [row for row in rows if symbol in {None, row["symbol"]}]


def _withdrawal_row(withdrawal: _Withdrawal, us: int) -> dict[str, object]:
    confirmed = us >= withdrawal.created_us + WITHDRAWAL_US
    nothing = dict.fromkeys(
        ("accountIdentifier", "bankIdentifier", "bankName", "fiatFee", "fiatState", "fiatSymbol", "identifier", "providerId")
    )
    return {
        **nothing,
        "blockchain": withdrawal.blockchain,
        "clientId": withdrawal.client_id,
        "createdAt": iso_time_ms(withdrawal.created_us // 1_000),
        "fee": stripped(FEE, PLACES),
        "id": withdrawal.number,
        "isInternal": False,
        "quantity": stripped(withdrawal.units, PLACES),
        "status": "confirmed" if confirmed else "pending",
        "subaccountId": None,
        "symbol": withdrawal.asset,
        "toAddress": withdrawal.address,
        "transactionHash": f"sandbox-{withdrawal.number}" if confirmed else None,
        "triggerAt": None,
    }


def _flag(query: Query, name: str) -> bool | None:
    text = query.optional(name)
    return None if text is None else query.one_of(name, "bool", ("true", "false"), text) == "true"


def _amount(value: object, name: str) -> int:
    """A decimal text as units, above zero."""
    read = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    units = (
        0 if read is None else int(Decimal(read[1]).to_integral_value()) * 10**PLACES + int((read[2] or "").ljust(PLACES, "0"))
    )
    if units <= 0:
        raise refusal("INVALID_QUANTITY" if name != "price" else "INVALID_PRICE", f"Invalid {name}")
    return units
