"""Orders are refused before they are sent, and never by a rule that may be old."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.errors import BackpackError, ClientClosed, ConfigurationError, NotSent, OrderDoesNotFit
from backpack_proto.rest.market_rules import DOUBT_US
from backpack_proto.rest.markets import Market
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.order_context import KnownNow
from backpack_proto.streams.payloads import MarkPrice, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.order_checks import FRESH_US, OrderChecking, OrderChecks, PricesSeen
from order_table import MARKETS

pytestmark = pytest.mark.anyio

SOL, TETHER = "SOL_USDC", "USDT_USDC"
GOOD = NewOrder.limit(SOL, "Bid", price="98.50", quantity="1")
OFF_TICK = NewOrder.limit(SOL, "Bid", price="98.505", quantity="1")
CROSSING = NewOrder.limit(SOL, "Bid", price="120", quantity="1", post_only=True)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Desk:
    """A client that knows some rules, and an exchange that may have others."""

    def __init__(self, checking: OrderChecking | None = "grid") -> None:
        self.known: dict[str, Market] = {SOL: MARKETS[SOL], TETHER: MARKETS[TETHER]}
        self.real = dict(self.known)
        self.looked_up: list[str] = []
        self.failure: BackpackError | None = None
        self.now_us = 1_000
        self.facts: KnownNow = {}
        self.answer: Callable[[], Any] | None = None
        self.checks = OrderChecks(
            checking,
            markets=lambda: self.known,
            known_now=lambda _: self.facts,
            look_up=self.look_up,
            mono_us=lambda: self.now_us,
        )

    async def look_up(self, symbol: str) -> None:
        self.looked_up.append(symbol)
        if self.answer is not None:
            await self.answer()
        if self.failure is not None:
            raise self.failure
        self.known[symbol] = self.real[symbol]

    async def refusal(self, *orders: NewOrder, batch: bool = False) -> OrderDoesNotFit:
        with pytest.raises(OrderDoesNotFit) as caught:
            await self.checks.check(orders, batch=batch)
        return caught.value

    def change_tick(self, tick: str) -> None:
        market = self.real[SOL]
        price = replace(market.filters.price, tick_size=Decimal(tick), min_price=Decimal(tick))
        self.real[SOL] = replace(market, filters=replace(market.filters, price=price))


async def test_an_order_that_fits_passes_without_a_question() -> None:
    desk = Desk()
    await desk.checks.check([GOOD, GOOD], batch=True)
    assert desk.looked_up == []


async def test_an_order_is_refused_after_the_market_was_read_again() -> None:
    desk = Desk()
    assert "98.505 is not on the tick 0.01" in str(await desk.refusal(OFF_TICK))
    assert desk.looked_up == [SOL]


async def test_an_order_that_fits_the_rules_of_now_passes() -> None:
    desk = Desk()
    desk.change_tick("0.001")
    await desk.checks.check([OFF_TICK], batch=False)
    assert desk.known[SOL].tick_size == Decimal("0.001")
    await desk.checks.check([OFF_TICK], batch=False)
    assert desk.looked_up == [SOL]


async def test_a_refusal_names_the_rules_of_now() -> None:
    desk = Desk()
    desk.change_tick("0.1")
    assert "98.505 is not on the tick 0.1; the next valid prices are 98.5 and 98.6" in str(await desk.refusal(OFF_TICK))


async def test_a_market_is_read_at_most_once_a_minute() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.refusal(OFF_TICK)
    desk.now_us += DOUBT_US - 1
    await desk.refusal(OFF_TICK)
    assert desk.looked_up == [SOL]
    desk.now_us += 1
    await desk.refusal(OFF_TICK)
    assert desk.looked_up == [SOL, SOL]


async def test_two_orders_at_once_wait_for_one_reading() -> None:
    desk = Desk()
    desk.change_tick("0.001")
    asked, go_on = anyio.Event(), anyio.Event()

    async def answer() -> None:
        asked.set()
        await go_on.wait()

    desk.answer = answer
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(lambda: desk.checks.check([OFF_TICK], batch=False))
            await asked.wait()
            await anyio.wait_all_tasks_blocked()
            go_on.set()
    assert desk.looked_up == [SOL]


async def test_a_reading_that_was_cancelled_is_made_again() -> None:
    desk = Desk()
    desk.answer = anyio.sleep_forever
    with anyio.move_on_after(0):
        await desk.checks.check([OFF_TICK], batch=False)
    desk.answer = None
    desk.change_tick("0.001")
    with anyio.fail_after(5):
        await desk.checks.check([OFF_TICK], batch=False)


async def test_a_refusal_says_that_the_market_could_not_be_read() -> None:
    desk = Desk()
    desk.failure = NotSent(endpoint="GET /api/v1/market", reason="its turn did not come")
    note = (
        "the rules may be old, for the market could not be read again: GET /api/v1/market was not sent: its turn did not come"
    )
    for _ in range(2):
        assert (await desk.refusal(OFF_TICK)).__notes__ == [note]
    assert desk.looked_up == [SOL]
    desk.failure = None
    desk.now_us += DOUBT_US
    assert not hasattr(await desk.refusal(OFF_TICK), "__notes__")


async def test_a_client_that_is_closed_says_so() -> None:
    desk = Desk()
    desk.failure = ClientClosed("the client has been closed")
    with pytest.raises(ClientClosed):
        await desk.checks.check([OFF_TICK], batch=False)


async def test_a_batch_names_the_orders() -> None:
    desk = Desk()
    part = NewOrder.limit(TETHER, "Bid", price="0.99", quantity="1.5")
    refusal = await desk.refusal(OFF_TICK, GOOD, part, batch=True)
    assert [parameter for parameter, _ in refusal.violations] == ["orders[0].price", "orders[2].quantity"]
    assert refusal.symbol == "SOL_USDC, USDT_USDC"
    assert desk.looked_up == [SOL, TETHER]


async def test_all_is_more_than_the_grid() -> None:
    for checking in ("grid", None):
        desk = Desk(checking)
        desk.facts = {"best_ask": "99"}
        await desk.checks.check([CROSSING], batch=False)
        assert desk.looked_up == []
    desk = Desk("all")
    await desk.checks.check([CROSSING], batch=False)
    desk.facts = {"best_ask": "99"}
    assert "would trade with the best ask 99 at once" in str(await desk.refusal(CROSSING))


def test_prices_are_known_while_they_are_fresh() -> None:
    seen = PricesSeen()
    trade = Trade(
        symbol=SOL,
        price=Decimal("99.12"),
        quantity=Decimal(1),
        trade_id=1,
        buyer_order_id="1",
        seller_order_id="2",
        buyer_is_maker=True,
        engine_us=1,
        emitted_us=1,
    )
    mark = MarkPrice(symbol=SOL, mark_price=Decimal("99.1"), index_price=Decimal(99), emitted_us=1, engine_us=1)
    seen.note([trade], 1_000)
    seen.note([mark], 2_000)
    prices = {"last_price": Decimal("99.12"), "mark_price": Decimal("99.1"), "index_price": Decimal(99)}
    assert seen.known(SOL, 1_000 + FRESH_US) == prices
    assert seen.known(TETHER, 1_000) == {}
    del prices["last_price"]
    assert seen.known(SOL, 1_001 + FRESH_US) == prices
    assert seen.known(SOL, 2_001 + FRESH_US) == {}


async def test_without_checks_everything_passes() -> None:
    await Desk(None).checks.check([OFF_TICK], batch=False)


def test_another_word_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"^check_orders: one of grid, all, None, got 'gird'; did you mean grid\?$"):
        BackpackClient(check_orders="gird")  # type: ignore[arg-type]  # the point
