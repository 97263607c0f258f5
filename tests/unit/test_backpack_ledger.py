"""The account as tables and as lines, and its events as JSON."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from random import Random

import pytest
from rich.console import Console, Group

from backpack_proto.account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    Origin,
    Position,
    PositionChanged,
)
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.exchange import LISTINGS, THROWAWAY_SECRET, Exchange
from backpack_proto.inputs import Call, FollowAccount, Open
from backpack_proto.machine import Now
from backpack_proto.outputs import ConnectionDown
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event
from backpack_proto.testing.simulation import Simulation
from backpack_runtime.accounts import AccountView
from backpack_runtime.cli.events import json_lines
from backpack_runtime.cli.views.account import event_line, tables

D = Decimal
UNIX_US = 1_800_000_061_000_000  # 08:01:01 UTC
SECOND = 1_000_000
FILL = Fill(
    symbol="SOL_USDC",
    trade_id=7,
    order_id="11",
    side="Bid",
    price=D("1E+2"),
    quantity=D("1.50"),
    fee=D("0.003"),
    fee_asset="SOL",
    maker=False,
    filled_us=1_800_000_000_123_000,
)
ORDER = Order(
    order_id="11",
    symbol="SOL_USDC",
    side="Bid",
    order_type="Limit",
    time_in_force="GTC",
    self_trade_prevention="RejectTaker",
    state="PartiallyFilled",
    executed_quantity=D("1.50"),
    executed_quote_quantity=D(150),
    quantity=D(4),
    price=D("100.00"),
)
MARKET_ORDER = Order(
    order_id="12",
    symbol="SOL_USDC",
    side="Ask",
    order_type="Market",
    time_in_force="IOC",
    self_trade_prevention="RejectTaker",
    state="New",
    executed_quantity=D(0),
    executed_quote_quantity=D(0),
)
SHORT = Position(symbol="SOL_USDC_PERP", net_quantity=D("-2.5"), entry_price=D("99.5"), break_even_price=D("99.4"))
CLOSED = Position(symbol="SOL_USDC_PERP", net_quantity=D(0), entry_price=D(0), break_even_price=D(0))
CASH = Balance(asset="USDC", available=D("1E+6"), locked=D(200), staked=D(0))
FAULT = RemoteProtocolError("x")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Filled(fill=FILL, origin=Origin.STREAM),
            "08:00:00 fill     SOL_USDC Bid 1.50 at 100, fee 0.003 SOL, order 11 (stream)",
        ),
        (
            OrderChanged(order=ORDER, origin=Origin.RECONCILIATION),
            "08:01:01 order    SOL_USDC Bid 1.50/4 at 100.00 PartiallyFilled, order 11 (reconciliation)",
        ),
        (OrderChanged(order=MARKET_ORDER, origin=Origin.STREAM), "08:01:01 order    SOL_USDC Ask 0/- New, order 12 (stream)"),
        (
            PositionChanged(position=SHORT, origin=Origin.STREAM),
            "08:01:01 position SOL_USDC_PERP -2.5 entered at 99.5 (stream)",
        ),
        (PositionChanged(position=CLOSED, origin=Origin.STREAM), "08:01:01 position SOL_USDC_PERP 0 (stream)"),
        (
            BalanceChanged(balance=CASH, origin=Origin.STREAM),
            "08:01:01 balance  USDC 1000000 available, 200 locked (stream)",
        ),
        (AccountSynced(orders=2, fills=1), "08:01:01 live     2 open orders, 1 fills told by reconciliation"),
        (AccountStale(reason="the connection\n is down"), r"08:01:01 stale    the connection\n is down"),
        (AccountDiverged(what="order 1", error=FAULT), "08:01:01 diverged order 1"),
        (AccountDoubted(doubts=("order 5: a\n", "balance SOL: b")), r"08:01:01 doubt    order 5: a\n, balance SOL: b"),
        (AccountDoubted(doubts=()), "08:01:01 doubt    none any more"),
        (AccountUnconfirmed(reason="503"), "08:01:01 unproved 503"),
        (AccountConfirmed(), "08:01:01 live     proved again"),
        (ConnectionDown(reason="gone", code=None, retry_us=5), "08:01:01 connection_down - reason=gone retry_us=5"),
    ],
)
def test_an_event_is_one_line(event: Event, line: str) -> None:
    assert event_line(event, unix_us=UNIX_US) == line


def test_events_of_an_account_as_json() -> None:
    filled, balance = map(
        json.loads,
        json_lines([Filled(fill=FILL, origin=Origin.STREAM), BalanceChanged(balance=CASH, origin=Origin.STREAM)]).splitlines(),
    )
    assert (filled["event"], filled["symbol"], filled["origin"]) == ("filled", "SOL_USDC", "stream")
    assert (filled["fill"]["price"], filled["fill"]["trade_id"], filled["fill"]["maker"]) == ("100", 7, False)
    assert balance["symbol"] is None
    assert balance["balance"] == {"asset": "USDC", "available": "1000000", "locked": "200", "staked": "0"}


def drawn(simulation: Simulation, fills: list[Fill], notice: str) -> str:
    console = Console(file=io.StringIO(), width=100)
    account = AccountView(simulation.session.account, lambda: simulation.now)
    console.print(Group(*tables(account, fills, notice)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_tables_show_what_the_account_holds() -> None:
    listings = [listing for listing in LISTINGS if listing.symbol in {"SOL_USDC", "SOL_USDC_PERP"}]
    start = Now(mono_us=9_000_000, unix_us=1_790_000_000_000_000)
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)))
    simulation = Simulation(session, Exchange(seed=1, unix_us=start.unix_us, listings=listings), start)
    simulation.give(Open(), FollowAccount())
    assert "● stale" in drawn(simulation, [], "")
    simulation.run(5 * SECOND)
    resting = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "12.34", "quantity": "5"}
    short = {"symbol": "SOL_USDC_PERP", "side": "Ask", "orderType": "Market", "quantity": "0.7"}
    for number, order in enumerate((resting, short)):
        simulation.give(Call(call_id=number, endpoint="place_order", parameters=order))
    simulation.run(5 * SECOND)
    picture = drawn(simulation, [FILL], "the connection [bold]is down\x1b")
    assert "● live" in picture
    assert "Open orders (1)" in picture
    lines = [line.split() for line in picture.splitlines()]
    assert ["SOL_USDC", "Bid", "12.34", "5.00", "0", "New"] in lines
    assert ["08:00:00", "SOL_USDC", "Bid", "100", "1.50", "0.003", "SOL"] in lines
    assert any(line[:2] == ["SOL_USDC_PERP", "-0.70"] for line in lines if line)
    assert any(line[:1] == ["USDC"] and "61.7" in line[2] for line in lines if line)
    assert r"the connection [bold]is down\x1b" in picture
