"""The simulation's own checks: each sees a planted fault, for one that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from accounts import a_payment
from backpack_proto.account.margin import FundingPaid, MarginChanged
from backpack_proto.account.values import AccountStale, Fill, Filled, Origin
from backpack_proto.http import HttpRequest
from backpack_proto.metrics import Health, Status
from backpack_proto.outputs import BookChanged, BookSynced, ConnectionDown, SendRequest, SendText
from backpack_proto.streams.payloads import Event
from tests.simulation import checks, opinion
from tests.simulation.network import Pending
from tests.simulation.schedule import Plan
from tests.simulation.world import CALM_US, Violation, World

SECOND = 1_000_000
SYMBOL = "S1_USDC"
WELL = Health(status=Status.HEALTHY, reasons=())
UNWELL = Health(status=Status.DEGRADED, reasons=("planted",))


@pytest.fixture
def world() -> World:
    """A calm world whose books are live, and that has kept its events."""
    world = World(Plan(seed=6, duration_ms=10**9, books={SYMBOL: 0.2, "S2_USDC": 0.2}))
    world.kept = []
    world.run(15_000)
    world._trouble_us -= CALM_US
    assert all(world.live.values())
    assert world.calm
    return world


def book_of(world: World, **claims: object) -> Any:
    """A live book, or one that claims something else."""
    book = world.session.book(world.stream_of(SYMBOL))
    members = ("symbol", "last", "coverage", "best_bid", "best_ask", "exhausted", "crossed", "bids", "asks")
    return SimpleNamespace(
        **{**{name: getattr(book, name) for name in members}, "is_live": book.is_live, "age_us": book.age_us, **claims}
    )


def newest(world: World, kind: type[Event]) -> Any:
    return next(event for event in reversed(world.kept or ()) if type(event) is kind)


def connection_of(world: World) -> Any:
    assert world.network.connection is not None
    return world.network.connection


def check_book(name: str, world: World, **claims: object) -> checks.Verdict:
    return checks.BOOK_CHECKS[name](world, book_of(world, **claims))


def check_event(name: str, world: World, event: object) -> checks.Verdict:
    return checks.EVENT_CHECKS[name][1](world, event)


def a_request(world: World, *, method: str = "GET", target: str = "/api/v1/depth", body: bytes = b"") -> Pending:
    request = HttpRequest(method=method, target=target, headers=(), body=body)
    return Pending(SendRequest(request_id=1, request=request, timeout_us=SECOND), world.network.now_us)


def known_id(world: World, *, planted: bool) -> checks.Verdict:
    return check_book("known id", world, **({"last": 2**70} if planted else {}))


def best_levels(world: World, *, planted: bool) -> checks.Verdict:
    return check_book("best levels", world, **({"best_bid": world.session.book(SYMBOL).bids(2)[1]} if planted else {}))


def whole_book(world: World, *, planted: bool) -> checks.Verdict:
    world.full = True
    bids = world.session.book(SYMBOL).bids()
    return check_book("whole book", world, **({"bids": lambda: bids[:-1]} if planted else {}))


def not_crossed(world: World, *, planted: bool) -> checks.Verdict:
    return check_book("not crossed", world, crossed=planted)


def path(world: World, *, planted: bool) -> checks.Verdict:
    connection_of(world).path_us -= 6 * SECOND * planted
    return check_book("path", world)


def chain(world: World, *, planted: bool) -> checks.Verdict:
    last = world.session.book(SYMBOL).last
    if planted:
        world.chain_bound_us = SECOND
        last -= 20
    return check_book("chain", world, last=last)


def age(world: World, *, planted: bool) -> checks.Verdict:
    if planted:
        connection_of(world).path_us -= 3 * SECOND
    age_us = 0 if planted else 2 * SECOND
    return check_book("age", world, age_us=lambda _: age_us)


def no_gap(world: World, *, planted: bool) -> checks.Verdict:
    event = newest(world, BookChanged)
    world.told_last[event.stream] = event.first - 1 - planted
    return check_event("no gap", world, event)


def resync(world: World, *, planted: bool) -> checks.Verdict:
    event = newest(world, BookSynced)
    if planted:
        event = BookSynced(
            stream=event.stream,
            symbol=event.symbol,
            last=event.last,
            engine_us=event.engine_us,
            bids=event.bids[1:],
            asks=event.asks,
        )
    return check_event("resync", world, event)


def no_false_alarm(world: World, *, planted: bool) -> checks.Verdict:
    if not planted:
        world.lasts_us(1)
    return check_event("no false alarm", world, ConnectionDown(reason="planted", code=1006, retry_us=1))


def fills_are_real(world: World, *, planted: bool) -> checks.Verdict:
    fill = Fill(
        symbol=SYMBOL,
        trade_id=1,
        order_id="1",
        client_id=None,
        side="Bid",
        price=Decimal(50),
        quantity=Decimal(2 if planted else 1),
        fee=Decimal(0),
        fee_asset="USDC",
        maker=True,
        filled_us=1,
    )
    true = SimpleNamespace(symbol=SYMBOL, trade_id=1, order_id=1, price=Decimal(50), quantity=Decimal(1))
    world.exchange.account.fills.append(cast("Any", true))
    return check_event("fills are real", world, Filled(fill=fill, origin=Origin.STREAM))


def margin_is_that_of_rest(world: World, *, planted: bool) -> checks.Verdict:
    if planted:
        account = world.session.account
        standing = account._ledger.standing
        assert standing._reading is not None
        listed = standing._reading.collateral
        wrong = replace(listed, net_equity_available=listed.net_equity_available + 1)
        standing._reading = replace(standing._reading, collateral=wrong)
    return check_event("margin is that of REST", world, newest(world, MarginChanged))


def funding_is_real(world: World, *, planted: bool) -> checks.Verdict:
    payment = a_payment(0, SYMBOL, 2 if planted else 1)
    true = SimpleNamespace(symbol=SYMBOL, interval_end_s=payment.interval_end_us // SECOND, amount=Decimal(1))
    world.exchange.account.funding.append(cast("Any", true))
    return check_event("funding is real", world, FundingPaid(payment=payment, origin=Origin.RECONCILIATION))


def mute_is_noticed(world: World, *, planted: bool) -> checks.Verdict:
    connection_of(world).data_us -= 7 * SECOND
    connection_of(world).established_us = 1
    world.health = WELL if planted else UNWELL
    return checks.SAMPLE_CHECKS["mute is noticed"](world)


def mute_is_given_up(world: World, *, planted: bool) -> checks.Verdict:
    connection_of(world).data_us -= (31 if planted else 20) * SECOND
    connection_of(world).established_us = 1
    world.listening_us = 0
    return checks.SAMPLE_CHECKS["mute is given up"](world)


def lateness_is_said(world: World, *, planted: bool) -> checks.Verdict:
    connection_of(world).data_us = world.network.now_us
    connection_of(world).path_us = world.network.now_us - 4 * SECOND
    world.health = WELL if planted else UNWELL
    return checks.SAMPLE_CHECKS["lateness is said"](world)


def staleness_is_said(world: World, *, planted: bool) -> checks.Verdict:
    stream = world.stream_of(SYMBOL)
    world.live[SYMBOL] = False
    world.said_live[stream] = planted
    world.stale_since_us[stream] = 0
    return checks.SAMPLE_CHECKS["staleness is said"](world)


def ledger(world: World, *, planted: bool) -> checks.Verdict:
    world.trader.acted_us = 0
    world.calm_since_us = 1
    if planted:
        world.exchange.account.credit("SOL", 1)
    return checks.SAMPLE_CHECKS["ledger"](world)


def sum_of_fills(world: World, *, planted: bool) -> checks.Verdict:
    world.trader.acted_us = 0
    world.calm_since_us = 1
    if planted:
        world.told_fills[SYMBOL, 1, "1"] = 1
    return checks.END_CHECKS["sum of fills"](world)


def budgets(world: World, *, planted: bool) -> checks.Verdict:
    world.left.extend([(world.network.now_us, "/api/v1/ticker")] * (2_001 if planted else 10))
    return checks.SAMPLE_CHECKS["budgets"](world)


def metrics(world: World, *, planted: bool) -> checks.Verdict:
    world.samples = 59
    world.events["BookDesynced"] += planted
    return checks.SAMPLE_CHECKS["metrics"](world)


def pauses_hold(world: World, *, planted: bool) -> checks.Verdict:
    world.pause_until_us = world.network.now_us + (1 if planted else -1)
    return checks.ASK_CHECKS["pauses hold"](world, a_request(world))


def not_after_giving_up(world: World, *, planted: bool) -> checks.Verdict:
    world.trader.withdrawn[7] = world.network.now_us - (1 if planted else 0)
    pending = a_request(world, method="POST", target="/api/v1/order", body=b'{"clientId":7}')
    return checks.LEAVE_CHECKS["not after giving up"](world, pending)


def calm_is_well(world: World, *, planted: bool) -> checks.Verdict:
    world.calm_us, world.calm_well_us = 1_000, 994 if planted else 995
    return checks.END_CHECKS["calm is well"](world)


def live_half_the_time(world: World, *, planted: bool) -> checks.Verdict:
    world.open_us, world.live_us = 100, 49 if planted else 50
    return checks.END_CHECKS["live half the time"](world)


def the_end(world: World, *, planted: bool) -> checks.Verdict:
    if planted:
        world.truth.markets[SYMBOL]._epochs[-1]._shadow[0][1] = 5
    return checks.END_CHECKS["the end"](world)


PLANTS: dict[str, Callable[..., checks.Verdict]] = {
    "known id": known_id,
    "best levels": best_levels,
    "whole book": whole_book,
    "not crossed": not_crossed,
    "path": path,
    "chain": chain,
    "age": age,
    "no gap": no_gap,
    "resync": resync,
    "no false alarm": no_false_alarm,
    "fills are real": fills_are_real,
    "margin is that of REST": margin_is_that_of_rest,
    "funding is real": funding_is_real,
    "mute is noticed": mute_is_noticed,
    "mute is given up": mute_is_given_up,
    "lateness is said": lateness_is_said,
    "staleness is said": staleness_is_said,
    "ledger": ledger,
    "budgets": budgets,
    "metrics": metrics,
    "pauses hold": pauses_hold,
    "not after giving up": not_after_giving_up,
    "calm is well": calm_is_well,
    "live half the time": live_half_the_time,
    "the end": the_end,
    "sum of fills": sum_of_fills,
}
"""Each check, with a fault planted for it and without."""


def test_every_check_has_a_planted_fault() -> None:
    assert set(PLANTS) == set(checks.CHECKS)


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_seen(world: World, name: str) -> None:
    assert isinstance(PLANTS[name](world, planted=True), str)


@pytest.mark.parametrize("name", PLANTS)
def test_nothing_is_seen_where_nothing_is_planted(world: World, name: str) -> None:
    assert PLANTS[name](world, planted=False) in (True, None)


def test_a_failing_check_names_itself_the_seed_and_the_moment(world: World) -> None:
    with pytest.raises(Violation, match=r"metrics: planted \(seed 6, 15000 ms\)"):
        world.judge("metrics", "planted")


REFUSAL = b'{"id":null,"error":{"code":4003,"message":"Invalid signature"}}'


def test_a_refusal_that_was_lost_excuses_the_account_until_it_was_asked_for_again(world: World) -> None:
    connection, network = connection_of(world), world.network
    stale = AccountStale(reason="planted")
    network.conditions.tampers[0] = lambda frame: [frame]
    network._send_frame(connection.number, REFUSAL)
    assert isinstance(check_event("no false alarm", world, stale), str), "it was heard"
    network.conditions.tampers[0] = lambda _frame: []
    network._send_frame(connection.number, REFUSAL)
    assert check_event("no false alarm", world, stale) is True
    assert isinstance(check_event("no false alarm", world, ConnectionDown(reason="planted", code=1006, retry_us=1)), str)
    network._perform(SendText('{"method":"SUBSCRIBE","params":["account.orderUpdate"],"signature":[]}'))
    assert check_event("no false alarm", world, stale) is True, "finding out takes a moment"
    assert connection.asked_again_us is not None
    connection.asked_again_us -= SECOND + 1
    assert isinstance(check_event("no false alarm", world, stale), str)


def test_samples_weigh_what_the_time_between_them_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is looked at more often, and is no worse for that."""
    open_us = world.open_us
    world.run(world.at_ms + 20_000)
    assert abs(world.open_us - open_us - 2 * 20 * SECOND) <= 2 * SECOND
    monkeypatch.setattr(opinion, "health", lambda *_: UNWELL)
    open_us, calm_us, calm_well_us = world.open_us, world.calm_us, world.calm_well_us
    world.run(world.at_ms + 20_000)
    assert abs(world.open_us - open_us - 2 * 20 * SECOND) <= 2 * SECOND
    assert abs(world.calm_us - calm_us - 20 * SECOND) <= SECOND
    assert world.calm_well_us - calm_well_us <= SECOND
