"""An account as tables for a terminal, and its events as lines for a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from backpack_proto.account.margin import FundingPaid, Margin, MarginChanged
from backpack_proto.account.values import (
    ZERO,
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    PositionChanged,
)
from backpack_proto.outputs import ConnectionDown, ConnectionUp, StreamsRefused
from backpack_proto.rest.markets import Market
from backpack_proto.streams.payloads import Event
from backpack_proto.text import printable
from backpack_runtime.accounts import AccountView
from backpack_runtime.cli.events import text_line, time_of_day

from .figures import Column, rounded, table

__all__ = ["NOTICES", "ROWS", "TOLD", "event_line", "tables"]

ROWS: Final = 12
"""Orders, and fills, that are shown at once."""
FUNDING_ROWS: Final = 4
NOTICES = (
    *(ConnectionUp, ConnectionDown, StreamsRefused, AccountSynced, AccountStale, AccountDiverged),
    *(AccountDoubted, AccountUnconfirmed, AccountConfirmed),
)
"""Events about how far the ledger is to be trusted."""
TOLD = (*NOTICES, OrderChanged, Filled, PositionChanged, BalanceChanged, MarginChanged, FundingPaid)
"""Events that people are told of. The updates that they are made from stay with the programs."""


def tables(
    account: AccountView, fills: Iterable[Fill], notice: str, *, markets: Mapping[str, Market], width: int
) -> list[Table | Text]:
    """Everything that the account holds at this moment, its last fills (newest first), and the last notice.

    Prices have the decimals of their market's tick, all other numbers eight significant digits at most.
    """
    live = account.live
    state = Text("● live", "green") if live else Text("● stale: what was known last", "yellow")
    if live and account.doubts:
        state = Text(printable(f"● live, but for {', '.join(account.doubts)}"), "yellow")
    return [
        state,
        *_margin(account, width),
        _balances(account, width),
        _positions(account, markets, width),
        _orders(account, width),
        _fills(fills, width),
        *_funding(account, width),
        Text(printable(notice), "yellow"),
    ]


def _margin(account: AccountView, width: int) -> list[Table | Text]:
    margin, age_us = account.margin, account.margin_age_us
    if margin is None or age_us is None:
        return [Text("margin: not known yet", "dim")]
    listed = margin.collateral
    columns = (
        *(Column("buying power"), Column("equity"), Column("unrealised", 1), Column("locked", 2)),
        *(Column("margin fraction", 4), Column("liabilities", 3)),
    )
    figures = (margin.net_equity_available, margin.net_equity, margin.unrealized_pnl, listed.net_equity_locked)
    row = [rounded(value) for value in (*figures, listed.margin_fraction, listed.liabilities_value)]
    said = f"as REST listed it {age_us // 1_000_000} s ago"
    if margin.estimated:
        said += "; the first three follow profits since"
    if margin.moved:
        said += "; the account has moved since, or may have"
    return [table("Margin (USDC)", columns, [row], width=width), Text(said, "dim")]


def _balances(account: AccountView, width: int) -> Table:
    lent, borrowed = account.lent or {}, account.borrowed or {}
    columns = [Column("asset", left=True), Column("available"), Column("locked", 1), Column("staked", 4)]
    columns += [Column("lent", 2)] if lent else []
    columns += [Column("borrowed", 3)] if borrowed else []
    rows = []
    for asset in sorted({*account.balances, *lent, *borrowed}):
        balance = account.balances.get(asset)
        held = (ZERO, ZERO, ZERO) if balance is None else (balance.available, balance.locked, balance.staked)
        loans = [*([lent.get(asset, ZERO)] if lent else []), *([borrowed.get(asset, ZERO)] if borrowed else [])]
        if any((*held, *loans)):
            rows.append([asset, *(rounded(value) for value in (*held, *loans))])
    return table("Balances", columns, rows, width=width)


def _positions(account: AccountView, markets: Mapping[str, Market], width: int) -> Table:
    columns = (
        *(Column("market", left=True), Column("quantity"), Column("entry", 3), Column("break-even", 5)),
        *(Column("mark", 4), Column("unrealised", 1), Column("liquidation", 2)),
    )
    rows = []
    for symbol, position in sorted(account.positions.items()):
        market = markets.get(symbol)
        tick = None if market is None else market.tick_size
        liquidation = account.liquidation_price(symbol)
        prices = (position.entry_price, position.break_even_price, position.mark_price)
        shown = [rounded(price, tick) for price in prices]
        last = "-" if liquidation is None or liquidation.price is None else rounded(liquidation.price, tick)
        rows.append([symbol, rounded(position.net_quantity), *shown, rounded(position.unrealized_pnl), last])
    return table("Positions", columns, rows, width=width)


def _orders(account: AccountView, width: int) -> Table:
    columns = (
        *(Column("market", left=True), Column("side", left=True), Column("price"), Column("quantity")),
        *(Column("executed", 1), Column("state", 2, left=True)),
    )
    found = list(account.open_orders.values())
    rows = [
        [order.symbol, order.side, *map(rounded, (order.price, order.quantity, order.executed_quantity)), order.state]
        for order in found[-ROWS:]
    ]
    return table(f"Open orders ({len(found)})", columns, rows, width=width)


def _fills(fills: Iterable[Fill], width: int) -> Table:
    columns = (
        *(Column("UTC", 1, left=True), Column("market", left=True), Column("side", left=True)),
        *(Column("price"), Column("quantity"), Column("fee", 2)),
    )
    rows = [
        [time_of_day(fill.filled_us), fill.symbol, fill.side, rounded(fill.price), rounded(fill.quantity), _fee(fill)]
        for fill in list(fills)[:ROWS]
    ]
    return table("Fills", columns, rows, width=width)


def _funding(account: AccountView, width: int) -> list[Table]:
    payments = (account.funding or ())[: -FUNDING_ROWS - 1 : -1]
    columns = (Column("UTC", 1, left=True), Column("market", left=True), Column("received"), Column("rate", 2))
    rows = [
        [time_of_day(payment.interval_end_us), payment.symbol, rounded(payment.quantity), rounded(payment.funding_rate)]
        for payment in payments
    ]
    return [table("Funding", columns, rows, width=width)] if rows else []


def event_line(event: Event, *, unix_us: int) -> str:
    """One event on one line. `unix_us` is when it came, which is shown where it does not say itself when it happened."""
    when = time_of_day(unix_us)
    match event:
        case Filled(fill=fill, origin=origin):
            when = time_of_day(fill.filled_us)
            what = (
                f"fill     {fill.symbol} {fill.side} {rounded(fill.quantity)} at {rounded(fill.price)},"
                f" fee {_fee(fill)}, order {fill.order_id} ({origin.value})"
            )
        case OrderChanged(order=order, origin=origin):
            what = f"order    {_order(order)} ({origin.value})"
        case PositionChanged(position=position, origin=origin):
            entry = f" entered at {rounded(position.entry_price)}" if position.net_quantity else ""
            what = f"position {position.symbol} {rounded(position.net_quantity)}{entry} ({origin.value})"
        case BalanceChanged(balance=balance, origin=origin):
            held = f"{rounded(balance.available)} available, {rounded(balance.locked)} locked"
            what = f"balance  {balance.asset} {held} ({origin.value})"
        case MarginChanged(margin=margin):
            what = f"margin   {_margin_line(margin)}"
        case FundingPaid(payment=payment):
            when = time_of_day(payment.interval_end_us)
            way = "paid" if payment.quantity < ZERO else "received"
            what = (
                f"funding  {payment.symbol} {rounded(abs(payment.quantity))} {way} at a rate of {rounded(payment.funding_rate)}"
            )
        case AccountSynced(orders=orders, fills=fills):
            what = f"live     {orders} open orders, {fills} fills told by reconciliation"
        case AccountStale(reason=reason):
            what = f"stale    {reason}"
        case AccountDiverged(what=contradiction):
            what = f"diverged {contradiction}"
        case AccountDoubted(doubts=doubts):
            what = f"doubt    {', '.join(doubts) or 'none any more'}"
        case AccountUnconfirmed(reason=reason):
            what = f"unproved {reason}"
        case AccountConfirmed():
            what = "live     proved again"
        case _:
            what = text_line(event).strip()
    return printable(f"{when} {what}", None)


def _margin_line(margin: Margin) -> str:
    figures = [f"buying power {rounded(margin.net_equity_available)}", f"equity {rounded(margin.net_equity)}"]
    figures.append(f"unrealised {rounded(margin.unrealized_pnl)}")
    for name, held in (("lent", margin.lent), ("borrowed", margin.borrowed or {})):
        figures += [f"{name} {rounded(quantity)} {asset}" for asset, quantity in held.items()]
    return ", ".join(figures)


def _fee(fill: Fill) -> str:
    return f"{rounded(fill.fee)} {fill.fee_asset or ''}".strip()


def _order(order: Order) -> str:
    price = "" if order.price is None else f" at {rounded(order.price)}"
    executed = f"{rounded(order.executed_quantity)}/{rounded(order.quantity)}"
    return f"{order.symbol} {order.side} {executed}{price} {order.state}, order {order.order_id}"
