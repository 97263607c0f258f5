"""The crowd of the simulated exchange, and what is told when others have orders in its book."""

from __future__ import annotations

import json
from random import Random

import pytest

from backpack_proto.exchange import LISTINGS, MatchingEngine, OrderSide, OrderTimeInForce, Outcome, SendFrame
from backpack_proto.exchange.market.activity import FLOWS, LIQUIDATIONS, LONGEST_PAUSE_US, Activity
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.stream.audience import Audience
from backpack_proto.exchange.stream.frames import FrameWriter
from backpack_proto.exchange.stream.publication import Publication

BID, ASK = OrderSide.BID, OrderSide.ASK
LISTING = {listing.symbol: listing for listing in LISTINGS}
ACCOUNT = 2


def new_crowd(symbol: str, seed: int = 1) -> tuple[MatchingEngine, Activity]:
    engine = MatchingEngine(update_id=2**32, next_order_id=1, next_trade_id=1)
    listing = LISTING[symbol]
    ticks = listing.opening_ticks
    return engine, Activity(engine, FLOWS[symbol], Random(seed), opening_ticks=ticks, liquidations=listing.perpetual)


@pytest.mark.parametrize("symbol", ["kPEPE_USDC_PERP", "AAPL.US_USDC_PERP"])
def test_a_book_keeps_its_size_and_its_place(symbol: str) -> None:
    engine, crowd = new_crowd(symbol)
    opening = LISTING[symbol].opening_ticks
    lots = [sum(lots for _, lots in engine.levels(side)) for side in OrderSide]
    for number in range(40_000):
        crowd.act()
        if number % 500:
            continue
        bid, ask = engine.best(BID), engine.best(ASK)
        assert bid is not None
        assert ask is not None
        assert bid[0] < ask[0] <= bid[0] + 12 * FLOWS[symbol].spacing
        assert abs((bid[0] + ask[0]) / 2 - opening) < 0.05 * opening
        for side, before in zip(OrderSide, lots, strict=True):
            assert FLOWS[symbol].levels / 2 < len(engine.prices(side)) < FLOWS[symbol].levels * 1.6
            assert before / 4 < sum(lots for _, lots in engine.levels(side)) < before * 4
        assert len(engine.orders) < FLOWS[symbol].levels * 8


def test_the_crowd_withdraws_nothing_that_is_not_its_own() -> None:
    engine, crowd = new_crowd("SOL_USDC")
    bid, ask = engine.best(BID), engine.best(ASK)
    assert bid is not None
    assert ask is not None
    deep = [engine.submit(BID, 10, bid[0] - 4_000 - number, owner=ACCOUNT).order_id for number in range(50)]
    engine.cancel(*[order_id for order_id, order in engine.orders.items() if order.owner != ACCOUNT and order.side is BID])
    for _ in range(3_000):
        outcome = crowd.act()
        assert all(order.owner != ACCOUNT for order in outcome.removed)
    taken = {order_id for order_id in deep if order_id is not None} - set(engine.orders)
    assert len(taken) < 50
    assert all(order.remaining == 10 for order in engine.orders.values() if order.owner == ACCOUNT)


def test_a_crowd_builds_up_what_was_taken_away() -> None:
    engine, crowd = new_crowd("SOL_USDC")
    engine.cancel(*engine.orders)
    assert (engine.best(BID), engine.best(ASK)) == (None, None)
    for _ in range(4_000):
        crowd.act()
    assert min(len(engine.prices(BID)), len(engine.prices(ASK))) > FLOWS["SOL_USDC"].levels / 8


def test_pauses_are_bounded_and_their_mean_is_the_rate() -> None:
    _, crowd = new_crowd("AAPL.US_USDC_PERP")
    pauses = [crowd.pause_us(1.0) for _ in range(20_000)]
    assert min(pauses) > 0
    assert LONGEST_PAUSE_US / 2 < max(pauses) <= LONGEST_PAUSE_US
    assert 25 < 20_000 / (sum(pauses) / 1e6) < 50


def test_only_perpetuals_are_liquidated() -> None:
    for symbol, expected in (("SOL_USDC_PERP", True), ("SOL_USDC", False)):
        _, crowd = new_crowd(symbol)
        forced = {fill.taker_owner == LIQUIDATIONS for _ in range(12_000) for fill in crowd.act().fills}
        assert (True in forced) is expected


def test_a_side_without_orders_is_null() -> None:
    market = SimulatedMarket(LISTING["SOL_USDC"], seed=1, start_us=10**15)
    audience = Audience()
    audience.subscribe(4, "bookTicker.SOL_USDC")
    publication = Publication(market, audience, Random(1))
    for side, name in ((BID, "b"), (ASK, "a")):
        every = [order_id for order_id, order in market.engine.orders.items() if order.side is side]
        (frame,) = publication.book_event(market.engine.cancel(*every), 10**15)
        data = json.loads(frame.data)["data"]
        assert (data[name], data[name.upper()]) == (None, None)
        assert data["u"] == market.engine.update_id


def test_what_changed_nothing_is_not_told() -> None:
    market = SimulatedMarket(LISTING["SOL_USDC"], seed=1, start_us=10**15)
    audience = Audience()
    for stream in ("depth.SOL_USDC", "bookTicker.SOL_USDC", "depth.200ms.SOL_USDC"):
        audience.subscribe(4, stream)
    publication = Publication(market, audience, Random(1))
    refused = market.engine.submit(BID, 10**12, 1, time_in_force=OrderTimeInForce.FOK)
    assert publication.book_event(refused, 10**15) == []
    assert publication.turn(5, 10**15) == []


def test_an_event_without_a_level_is_told_all_the_same() -> None:
    market = SimulatedMarket(LISTING["SOL_USDC"], seed=1, start_us=10**15)
    audience = Audience()
    audience.subscribe(4, "depth.SOL_USDC")
    publication = Publication(market, audience, Random(1))
    (frame,) = publication.book_event(market.engine.pass_by(), 10**15)
    assert isinstance(frame, SendFrame)
    data = json.loads(frame.data)["data"]
    assert (data["U"], data["u"], data["a"], data["b"]) == (market.engine.update_id, market.engine.update_id, [], [])


def test_prices_are_written_right_however_many_there_were() -> None:
    write = FrameWriter(LISTING["SOL_USDC"])
    times = {"first_id": 1, "last_id": 1, "engine_us": 1, "emitted_us": 2}
    for ticks in range(1, 70_000):
        write.depth("depth.SOL_USDC", [(ticks, 1)], [], **times)
    frame = json.loads(write.depth("depth.SOL_USDC", [(1, 1)], [(69_999, 0)], **times))
    assert (frame["data"]["b"], frame["data"]["a"]) == ([["0.01", "0.01"]], [["699.99", "0.00"]])


def test_the_market_records_what_was_traded() -> None:
    market = SimulatedMarket(LISTING["SOL_USDC"], seed=1, start_us=10**15)
    outcome: Outcome = market.engine.submit(BID, 1, None)
    market.record(outcome, 10**15 + 5)
    newest = market.tape.trades(1)[0]
    assert (newest.lots, newest.buyer_is_maker, newest.engine_us) == (1, False, 10**15 + 5)
    assert newest.trade_id == outcome.fills[0].trade_id == market.tape.trades(2)[1].trade_id + 1
