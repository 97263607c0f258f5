"""The account as tables and as lines, and its events as JSON."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from random import Random

import pytest
from rich.console import Console, Group

from accounts import a_collateral, a_loan, a_payment, an_asset
from backpack_proto.account.margin import FundingPaid, Margin, MarginChanged
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
from backpack_proto.exchange.market.listings import market_object
from backpack_proto.inputs import Call, FollowAccount, Open
from backpack_proto.machine import Now
from backpack_proto.outputs import ConnectionDown
from backpack_proto.rest.markets import parse_markets
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event
from backpack_proto.testing.simulation import Simulation
from backpack_runtime.accounts import AccountView
from backpack_runtime.cli.events import json_lines
from backpack_runtime.cli.views.account import event_line, tables
from backpack_runtime.cli.views.figures import rounded

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
MARGIN = Margin(
    as_of_us=UNIX_US,
    collateral=a_collateral(assets=(an_asset("USDC", total=70, lent=50),)),
    loans=(a_loan("USDC", 50), a_loan("SOL", -3)),
    unrealized_pnl=D("-0.473490"),
    net_equity=D("1000.000000001"),
    net_equity_available=D(900),
    estimated=False,
    moved=False,
)
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
        (
            MarginChanged(margin=MARGIN),
            "08:01:01 margin   buying power 900, equity 1000, unrealised -0.473490, lent 50 USDC, borrowed 3 SOL",
        ),
        (
            FundingPaid(payment=a_payment(0, "SOL_USDC_PERP", -2), origin=Origin.RECONCILIATION),
            "14:25:00 funding  SOL_USDC_PERP 2 paid at a rate of 0.0001",
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


def test_the_margin_as_json_has_every_digit() -> None:
    (line,) = json_lines([MarginChanged(margin=MARGIN)]).splitlines()
    margin = json.loads(line)["margin"]
    assert (margin["net_equity"], margin["unrealized_pnl"], margin["as_of_us"]) == ("1000.000000001", "-0.473490", UNIX_US)
    assert margin["collateral"]["net_equity_locked"] == "100"
    assert [loan["net_quantity"] for loan in margin["loans"]] == ["50", "-3"]


def drawn(simulation: Simulation, fills: list[Fill], notice: str, *, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    account = AccountView(simulation.session.account, lambda: simulation.now)
    markets = parse_markets(json.dumps([market_object(listing) for listing in LISTINGS]).encode())
    console.print(Group(*tables(account, fills, notice, markets=markets, width=width)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def a_simulation() -> Simulation:
    listings = [listing for listing in LISTINGS if listing.symbol in {"SOL_USDC", "SOL_USDC_PERP"}]
    start = Now(mono_us=9_000_000, unix_us=1_790_000_000_000_000)
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)))
    return Simulation(session, Exchange(seed=1, unix_us=start.unix_us, listings=listings), start)


@pytest.fixture(scope="module")
def traded() -> Simulation:
    """An account with an order, and a short position that was sold at several prices."""
    simulation = a_simulation()
    simulation.give(Open(), FollowAccount())
    simulation.run(5 * SECOND)
    resting = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "12.34", "quantity": "5"}
    short = {"symbol": "SOL_USDC_PERP", "side": "Ask", "orderType": "Market", "quantity": "0.7"}
    shorts = [short | {"quantity": quantity} for quantity in ("0.07", "11.13", "300")]
    for number, order in enumerate((resting, short, *shorts)):
        simulation.give(Call(call_id=number, endpoint="place_order", parameters=order))
        simulation.run(2 * SECOND)
    simulation.run(10 * SECOND)
    return simulation


def test_the_tables_show_what_the_account_holds(traded: Simulation) -> None:
    simulation = a_simulation()
    simulation.give(Open(), FollowAccount())
    assert "● stale" in drawn(simulation, [], "")
    assert "margin: not known yet" in drawn(simulation, [], "")
    picture = drawn(traded, [FILL], "the connection [bold]is down\x1b")
    assert "● live" in picture
    assert "Open orders (1)" in picture
    lines = [line.split() for line in picture.splitlines()]
    assert ["SOL_USDC", "Bid", "12.34", "5.00", "0", "New"] in lines
    assert ["08:00:00", "SOL_USDC", "Bid", "100", "1.50", "0.003", "SOL"] in lines
    assert any(line[:2] == ["SOL_USDC_PERP", "-311.90"] for line in lines if line)
    assert any(line[:1] == ["USDC"] and "61.7" in line[2] for line in lines if line)
    assert r"the connection [bold]is down\x1b" in picture


def test_numbers_are_rounded_for_people(traded: Simulation) -> None:
    account = traded.session.account
    (position,) = account.positions.values()
    assert len(str(position.break_even_price)) > 20, "as the exchange has it"
    picture = drawn(traded, [], "")
    digits = [len(word.strip("-").replace(".", "")) for line in picture.splitlines() for word in line.split() if "." in word]
    assert max(digits) <= 8 + 1, "eight significant digits, and the nought before the point"
    row = next(line.split() for line in picture.splitlines() if line.startswith("SOL_USDC_PERP"))
    assert [len(price.partition(".")[2]) for price in (*row[2:5], row[6])] == [2, 2, 2, 2], "prices have the digits of the tick"
    liquidation = account.liquidation_price("SOL_USDC_PERP")
    assert liquidation is not None
    assert liquidation.price is not None
    assert abs(D(row[6]) - liquidation.price) < D("0.01")
    margin = account.margin
    assert margin is not None
    figures = picture.splitlines()[3].split()
    assert abs(D(figures[0]) - margin.net_equity_available) <= D("0.05")
    assert "as REST listed it" in picture


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_tables_fit_and_no_number_is_cut(traded: Simulation, width: int) -> None:
    picture = drawn(traded, [FILL], "", width=width)
    assert max(map(len, picture.splitlines())) <= width
    assert "…" not in picture
    assert "buying power" in picture
    assert ("break-even" in picture) is (width >= 80)
    assert any(line.startswith("SOL_USDC_PERP") and "-311.90" in line for line in picture.splitlines())


@pytest.mark.parametrize(
    ("value", "tick", "text"),
    [
        (None, None, "-"),
        (D("99.43571428571428571428571429"), D("0.01"), "99.44"),
        (D("99.43571428571428571428571429"), None, "99.435714"),
        (D("-99.995"), D("0.01"), "-100.00"),
        (D("5"), D("0.10"), "5.0"),
        (D("0.00001234"), D("0.01"), "0.00001234"),
        (D(0), D("0.01"), "0.00"),
        (D("1.50"), None, "1.50"),
        (D("1E+6"), None, "1000000"),
        (D("123456789012.5"), None, "123456789012"),
        (D("0.000000123456789012"), None, "0.00000012345679"),
        (D("1.000000000000000000"), None, "1"),
        (D("999999.999999"), None, "1000000"),
        (D("1E+900"), D("0.01"), "1E+900"),
    ],
)
def test_a_number_for_people(value: Decimal | None, tick: Decimal | None, text: str) -> None:
    assert rounded(value, tick) == text
