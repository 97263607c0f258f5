"""An account as tables for a terminal, and its events as lines for a log."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from rich.table import Table
from rich.text import Text

from backpack_proto.account.values import (
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
from backpack_proto.streams.payloads import Event
from backpack_proto.text import printable
from backpack_runtime.accounts import AccountView
from backpack_runtime.cli.events import plain, text_line, time_of_day

__all__ = ["NOTICES", "ROWS", "TOLD", "event_line", "tables"]

ROWS: Final = 12
"""Orders, and fills, that are shown at once."""
NOTICES = (
    *(ConnectionUp, ConnectionDown, StreamsRefused, AccountSynced, AccountStale, AccountDiverged),
    *(AccountDoubted, AccountUnconfirmed, AccountConfirmed),
)
"""Events about how far the ledger is to be trusted."""
TOLD = (*NOTICES, OrderChanged, Filled, PositionChanged, BalanceChanged)
"""Events that people are told of; the updates that they are made from stay with the programs."""


def tables(account: AccountView, fills: Iterable[Fill], notice: str) -> list[Table | Text]:
    """Everything that the account holds at this moment, its last fills (newest first), and the last notice."""
    live = account.live
    state = Text("● live", "green") if live else Text("● stale: what was known last", "yellow")
    if live and account.doubts:
        state = Text(printable(f"● live, but for {', '.join(account.doubts)}"), "yellow")
    balances = _table("Balances", "asset", "available", "locked", "staked")
    for balance in sorted(account.balances.values(), key=lambda one: one.asset):
        if balance.available or balance.locked or balance.staked:
            _row(balances, balance.asset, balance.available, balance.locked, balance.staked)
    positions = _table("Positions", "market", "quantity", "entry", "break-even")
    for position in sorted(account.positions.values(), key=lambda one: one.symbol):
        _row(positions, position.symbol, position.net_quantity, position.entry_price, position.break_even_price)
    open_orders = list(account.open_orders.values())
    orders = _table(f"Open orders ({len(open_orders)})", "market", "side", "price", "quantity", "executed", "state")
    for order in open_orders[-ROWS:]:
        _row(orders, order.symbol, order.side, order.price, order.quantity, order.executed_quantity, order.state)
    last = _table("Fills", "UTC", "market", "side", "price", "quantity", "fee")
    for fill in list(fills)[:ROWS]:
        when = time_of_day(fill.filled_us)
        _row(last, when, fill.symbol, fill.side, fill.price, fill.quantity, _fee(fill))
    return [state, balances, positions, orders, last, Text(printable(notice), "yellow")]


def event_line(event: Event, *, unix_us: int) -> str:
    """One event on one line; `unix_us` is when it came, which is shown where it does not say itself when it happened."""
    when = time_of_day(unix_us)
    match event:
        case Filled(fill=fill, origin=origin):
            when = time_of_day(fill.filled_us)
            what = (
                f"fill     {fill.symbol} {fill.side} {_text(fill.quantity)} at {_text(fill.price)},"
                f" fee {_fee(fill)}, order {fill.order_id} ({origin.value})"
            )
        case OrderChanged(order=order, origin=origin):
            what = f"order    {_order(order)} ({origin.value})"
        case PositionChanged(position=position, origin=origin):
            entry = f" entered at {_text(position.entry_price)}" if position.net_quantity else ""
            what = f"position {position.symbol} {_text(position.net_quantity)}{entry} ({origin.value})"
        case BalanceChanged(balance=balance, origin=origin):
            held = f"{_text(balance.available)} available, {_text(balance.locked)} locked"
            what = f"balance  {balance.asset} {held} ({origin.value})"
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


def _fee(fill: Fill) -> str:
    return f"{_text(fill.fee)} {fill.fee_asset or ''}".strip()


def _order(order: Order) -> str:
    price = "" if order.price is None else f" at {_text(order.price)}"
    executed = f"{_text(order.executed_quantity)}/{_text(order.quantity)}"
    return f"{order.symbol} {order.side} {executed}{price} {order.state}, order {order.order_id}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in {"asset", "market", "side", "state", "UTC"} else "right", no_wrap=True)
    return table


def _row(table: Table, *cells: str | Decimal | None) -> None:
    table.add_row(*(Text(printable(_text(cell))) for cell in cells))


def _text(value: str | Decimal | None) -> str:
    if value is None:
        return "-"
    return plain(value) if isinstance(value, Decimal) else value
