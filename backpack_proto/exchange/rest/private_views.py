"""An account in REST answers, shape for shape (docs/protocol.md 6.3 and 6.4).

Numbers are strings without trailing zeros, missing members are an explicit null. Orders count time in milliseconds, histories write it
as text without a zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from backpack_proto.exchange.account.accounts import (
    PLACES,
    SimulatedAccount,
    SimulatedFill,
    SimulatedFundingPayment,
    mark_ticks,
    quote_units,
    show_position,
)
from backpack_proto.exchange.account.margin import (
    LEVERAGE_LIMIT,
    asset_price,
    asset_worth,
    collateral_percent,
    collateral_value,
    exposure_lots,
    initial_fraction,
    liquidation_price,
    maintenance_fraction,
    margin_figures,
)
from backpack_proto.exchange.account.orders import AccountOrder, OrderState
from backpack_proto.exchange.market.listings import market_object, stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.stream.frames import iso_time, iso_time_ms

from .query import Query

__all__ = [
    "account_summary",
    "balance_rows",
    "collateral_summary",
    "deposit_rows",
    "fill_row",
    "funding_row",
    "order_history_row",
    "order_row",
    "page",
    "position_row",
]

USER_ID = 1

Row = TypeVar("Row")


def order_row(order: AccountOrder) -> dict[str, object]:
    """An order as order routes show it."""
    request = order.request
    row = {**_order(order), "createdAt": order.created_us // 1000}
    row["relatedOrderId"] = None if order.related_order_id is None else str(order.related_order_id)
    row["strategyId"] = None
    row["triggeredAt"] = None if order.triggered_us is None else order.triggered_us // 1000
    row["reduceOnly"] = request.reduce_only
    if request.price is None:
        del row["price"], row["postOnly"]
    else:
        del row["quoteQuantity"]
    return dict(sorted(row.items()))


def order_history_row(order: AccountOrder) -> dict[str, object]:
    """An order as the history shows it."""
    row = {**_order(order), "createdAt": iso_time_ms(order.created_us // 1000)}
    row |= {"expiryReason": order.expiry_reason, "strategyId": None, "systemOrderType": None}
    row |= {"slippageTolerance": None, "slippageToleranceType": None}
    if order.request.slippage is not None:
        row["slippageTolerance"] = f"{order.request.slippage:f}"
        row["slippageToleranceType"] = "TickSize" if order.request.slippage_in_ticks else "Percent"
    return dict(sorted(row.items()))


def fill_row(fill: SimulatedFill) -> dict[str, object]:
    """One fill of the history. The client id is text here, unlike everywhere else."""
    return {
        "clientId": None if fill.client_id is None else str(fill.client_id),
        "fee": _text(fill.fee),
        "feeSymbol": fill.fee_asset,
        "isMaker": fill.maker,
        "orderId": str(fill.order_id),
        "price": _text(fill.price),
        "quantity": _text(fill.quantity),
        "side": fill.side,
        "symbol": fill.symbol,
        "systemOrderType": None,
        "timestamp": iso_time_ms(fill.engine_us // 1000),
        "tradeId": fill.trade_id,
    }


def funding_row(payment: SimulatedFundingPayment) -> dict[str, object]:
    """One funding payment of the history."""
    return {
        "fundingRate": _text(payment.rate),
        "intervalEndTimestamp": iso_time(payment.interval_end_s),
        "quantity": _text(payment.amount),
        "subaccountId": 0,
        "symbol": payment.symbol,
        "userId": USER_ID,
    }


def deposit_rows(account: SimulatedAccount, start_us: int) -> list[dict[str, object]]:
    """The deposits of the account."""
    return [
        {
            "createdAt": iso_time_ms(start_us // 1000),
            "fromAddress": None,
            "id": number,
            "quantity": _text(amount),
            "source": "administrator",
            "status": "confirmed",
            "symbol": asset,
            "toAddress": None,
            "transactionHash": None,
        }
        for number, (asset, amount) in enumerate(account.deposits.items(), start=1)
    ]


def balance_rows(account: SimulatedAccount) -> dict[str, dict[str, str]]:
    """The balances by asset, without those of zero."""
    return {
        asset: {"available": _text(held.available), "locked": _text(held.locked), "staked": _text(held.staked)}
        for asset, held in account.balances.items()
        if held.available or held.locked or held.lent
    }


def position_row(
    account: SimulatedAccount, market: SimulatedMarket, markets: Mapping[str, SimulatedMarket]
) -> dict[str, object]:
    """The open position of a market."""
    _, position = account.open_positions[market.symbol]
    shown = show_position(market, position)
    rules = market_object(market.listing)
    lots = exposure_lots(account, market)
    notional = quote_units(market.listing, lots * mark_ticks(market))
    return {
        "breakEvenPrice": _text(shown.break_even_price),
        "cumulativeFundingPayment": _text(shown.funding),
        "cumulativeInterest": "0",
        "entryPrice": _text(shown.entry_price),
        "estLiquidationPrice": _text(liquidation_price(account, markets, market)),
        "imf": stripped(initial_fraction(notional), PLACES),
        "imfFunction": rules["imfFunction"],
        "markPrice": _text(shown.mark_price),
        "mmf": stripped(maintenance_fraction(notional), PLACES),
        "mmfFunction": rules["mmfFunction"],
        "netCost": _text(shown.net_cost),
        "netExposureNotional": stripped(notional, PLACES),
        "netExposureQuantity": stripped(lots, market.listing.quantity_decimals),
        "netQuantity": _text(shown.net_quantity),
        "pnlRealized": _text(shown.realized_pnl),
        "pnlUnrealized": _text(shown.unrealized_pnl),
        "positionId": str(shown.position_id),
        "subaccountId": 0,
        "symbol": market.symbol,
        "userId": USER_ID,
    }


def account_summary(account: SimulatedAccount) -> dict[str, object]:
    """Settings, fees and limits."""
    triggers = sum(order.state is OrderState.TRIGGER_PENDING for order in account.orders.values())
    maker, taker = _text(account.fees.maker_bps), _text(account.fees.taker_bps)
    return {
        "autoBorrowSettlements": False,
        "autoLend": False,
        "autoRealizePnl": True,
        "autoRepayBorrows": False,
        "borrowLimit": "0",
        "futuresMakerFee": maker,
        "futuresTakerFee": taker,
        "leverageLimit": str(LEVERAGE_LIMIT),
        "limitOrders": len(account.orders) - triggers,
        "liquidating": False,
        "positionLimit": "50000000",
        "spotMakerFee": maker,
        "spotTakerFee": taker,
        "triggerOrders": triggers,
    }


def collateral_summary(account: SimulatedAccount, markets: Mapping[str, SimulatedMarket]) -> dict[str, object]:
    """Equity and margin of the whole account, and the part of each asset."""
    figures = margin_figures(account, markets)
    fraction = None
    if figures.exposure:
        fraction = stripped(figures.equity * 10**PLACES // figures.exposure, PLACES)
    return {
        "assetsValue": stripped(figures.assets, PLACES),
        "borrowLiability": "0",
        "collateral": [
            {
                "assetMarkPrice": stripped(*asset_price(asset, markets)),
                "availableQuantity": _text(held.available),
                "balanceNotional": stripped(asset_worth(account, asset, markets), PLACES),
                "collateralValue": stripped(collateral_value(account, asset, markets), PLACES),
                "collateralWeight": stripped(collateral_percent(asset), 2),
                "lendQuantity": _text(held.lent),
                "openOrderQuantity": _text(held.locked),
                "symbol": asset,
                "totalQuantity": stripped(account.total(asset), PLACES),
            }
            for asset, held in account.balances.items()
        ],
        "imf": stripped(figures.imf, PLACES),
        "liabilitiesValue": "0",
        "marginFraction": fraction,
        "mmf": stripped(figures.mmf, PLACES),
        "netEquity": stripped(figures.equity, PLACES),
        "netEquityAvailable": stripped(max(0, figures.available), PLACES),
        "netEquityLocked": stripped(figures.locked, PLACES),
        "netExposureFutures": stripped(figures.exposure, PLACES),
        "pnlUnrealized": stripped(figures.pnl, PLACES),
        "unsettledEquity": "0",
    }


def page(query: Query, rows: Sequence[Row]) -> tuple[list[Row], tuple[tuple[str, str], ...]]:
    """The page of a history that is asked for, and the headers that say where it lies. `rows` are oldest first."""
    limit = query.integer("limit", 100, minimum=1, maximum=1_000)
    offset = query.integer("offset", 0, minimum=0, maximum=10**9)
    ascending = query.choice("sortDirection", "SortDirection", ("Asc", "Desc"), default="Desc") == "Asc"
    ordered = rows if ascending else rows[::-1]
    headers = (
        ("X-Page-Count", str(-(-len(rows) // limit))),
        ("X-Current-Page", str(offset // limit + 1)),
        ("X-Page-Size", str(limit)),
        ("X-Total", str(len(rows))),
    )
    return list(ordered[offset : offset + limit]), headers


def _order(order: AccountOrder) -> dict[str, object]:
    request = order.request
    listing = request.listing
    profit, loss = request.take_profit, request.stop_loss
    both = listing.price_decimals + listing.quantity_decimals
    asked = request.tick_lots if request.price is None else order.lots * request.price

    def price(ticks: int | None) -> str | None:
        return None if ticks is None else stripped(ticks, listing.price_decimals)

    return {
        "clientId": request.client_id,
        "executedQuantity": stripped(order.executed, listing.quantity_decimals),
        "executedQuoteQuantity": stripped(order.paid, both),
        "id": str(order.order_id),
        "orderType": "Market" if request.price is None else "Limit",
        "postOnly": bool(request.post_only),
        "price": price(request.price),
        "quantity": None if request.tick_lots is not None else stripped(order.lots, listing.quantity_decimals),
        "quoteQuantity": None if asked is None else stripped(asked, both),
        "selfTradePrevention": request.self_trade,
        "side": request.side,
        "status": order.state,
        "stopLossLimitPrice": None if loss is None else price(loss.limit_price),
        "stopLossTriggerBy": None if loss is None else loss.trigger_by,
        "stopLossTriggerPrice": None if loss is None else price(loss.trigger_price),
        "symbol": listing.symbol,
        "takeProfitLimitPrice": None if profit is None else price(profit.limit_price),
        "takeProfitTriggerBy": None if profit is None else profit.trigger_by,
        "takeProfitTriggerPrice": None if profit is None else price(profit.trigger_price),
        "timeInForce": request.time_in_force,
        "triggerBy": None if request.trigger_price is None else request.trigger_by,
        "triggerPrice": price(request.trigger_price),
        "triggerQuantity": request.trigger_quantity,
    }


def _text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
