from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from inspect import Parameter as Given
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from msgspec.structs import fields

from backpack_proto.errors import ConfigurationError, LocalProtocolError, UnknownSymbol
from backpack_proto.inputs import Arguments
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.results.market_data import Page
from backpack_proto.rest.results.reference import Security
from backpack_runtime.rest_methods import RestMethods

pytestmark = pytest.mark.anyio

EXAMPLES = json.loads((Path(__file__).parents[1] / "fixtures" / "backpack" / "rest.json").read_text())
READS = tuple(name for name in ENDPOINTS if hasattr(RestMethods, f"get_{name}"))
NAMED = {"fill_history": "fills"}
OTHERWISE = {"place_order", "place_orders"}
"""Their parameters are those of a `NewOrder`, which have tests of their own."""
PAGING = {"limit", "offset", "sortDirection"}
"""Of a history: its iterator takes care of them."""
WIRE_NAMES = {"asset": "symbol", "withdrawal_id": "id", "conversion_id": "id", "movement_type": "type"}
"""Parameters of methods that are not named by the wire. Durations and times say their unit besides."""
UNOFFERED = {("markets", "nonce"): "of `load_markets(fresh=True)`, and without a meaning of its own"}


def method_of(endpoint: str) -> str:
    """The name of the method that calls an endpoint."""
    return f"get_{endpoint}" if endpoint in READS else NAMED.get(endpoint, endpoint)


def wire_names(endpoint: str) -> dict[str, str]:
    """The name on the wire of each parameter of a method."""
    rules = {rule.python_name: rule.name for rule in ENDPOINTS[endpoint].parameters}
    found = {}
    for name in signature(getattr(RestMethods, method_of(endpoint))).parameters:
        if name in rules or name.removesuffix("_ms") in rules:
            found[name] = rules.get(name) or rules[name.removesuffix("_ms")]
        elif name in WIRE_NAMES:
            found[name] = WIRE_NAMES[name]
    return found


class Scripted(RestMethods):
    """Takes down what is called, and answers with the next of its pages."""

    def __init__(self, *answers: object) -> None:
        self.calls: list[tuple[str, Mapping[str, object]]] = []
        self.waits: list[int | None] = []
        self.checked: list[tuple[tuple[NewOrder, ...], bool]] = []
        self.answers = list(answers)
        self.listed: set[str] | None = None
        """The markets that there are. None: every one."""

    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        self.waits.append(max_wait_us)
        self.calls.append((endpoint, ENDPOINTS[endpoint].check(parameters or {})))
        return self.answers.pop(0) if self.answers else None

    async def _id(self, symbol: str) -> str:
        symbol = symbol.replace("-", "_")
        if self.listed is not None and symbol not in self.listed:
            raise UnknownSymbol(f"{symbol!r} is not a market of the exchange")
        return symbol

    def _check_open(self) -> None:
        pass

    async def _check_orders(self, orders: Sequence[NewOrder], *, batch: bool) -> None:
        self.checked.append((tuple(orders), batch))


@pytest.mark.parametrize("name", READS)
def test_a_read_returns_what_its_endpoint_does(name: str) -> None:
    returned = get_type_hints(getattr(RestMethods, f"get_{name}"))["return"]
    assert str(returned) == str(ENDPOINTS[name].result)


@pytest.mark.parametrize("name", sorted(set(ENDPOINTS) - OTHERWISE))
def test_a_method_takes_all_parameters_of_its_endpoint(name: str) -> None:
    endpoint = ENDPOINTS[name]
    rules = {rule.name for rule in endpoint.parameters} - (PAGING if endpoint.paged else set())
    rules -= {parameter for known, parameter in UNOFFERED if known == name}
    assert set(wire_names(name).values()) == rules
    ours = set(signature(getattr(RestMethods, method_of(name))).parameters) - set(wire_names(name))
    may_wait = set() if endpoint.idempotent else {"max_wait_us"}
    assert ours - {"self", "oldest_first", "page_size"} == may_wait


@pytest.mark.parametrize("name", sorted(set(ENDPOINTS) - OTHERWISE))
async def test_a_method_passes_what_it_is_given_as_its_endpoint_has_it(name: str) -> None:
    """That is the example of a call, with every parameter that goes with the others."""
    example = {key: value for key, value in EXAMPLES[name]["parameters"].items() if (name, key) not in UNOFFERED}
    client = Scripted(Page[object](rows=()) if ENDPOINTS[name].paged else None)
    method = getattr(client, method_of(name))
    given = {ours: example[wire] for ours, wire in wire_names(name).items() if wire in example}
    called = method(**given)
    if ENDPOINTS[name].paged:
        assert [row async for row in called] == []
        paging = {"limit": 1000, "offset": 0} | ({"sortDirection": "Desc"} if "sortDirection" in example else {})
        example |= paging
    else:
        await called
    assert client.calls == [(name, example)]


async def test_a_market_for_requests_for_quotes_of_a_stock_comes_from_the_list_of_securities() -> None:
    security = Security(asset="AAPL.US", name="Apple", sessions=())
    client = Scripted((security,), None, None, None)
    client.listed = {"SOL_USDC_RFQ"}
    await client.submit_rfq("AAPL.US_USDC_RFQ", "Bid", quantity="1")
    await client.submit_rfq("AAPL.US-USDC-RFQ", "Bid", quantity="1", price="240", execution_mode="Immediate")
    await client.submit_rfq("SOL-USDC-RFQ", "Ask", quantity="1")
    buy = {"symbol": "AAPL.US_USDC_RFQ", "side": "Bid", "quantity": "1"}
    assert client.calls == [
        ("securities", {}),
        ("submit_rfq", buy),
        ("submit_rfq", {**buy, "price": "240", "executionMode": "Immediate"}),
        ("submit_rfq", {"symbol": "SOL_USDC_RFQ", "side": "Ask", "quantity": "1"}),
    ]


async def test_a_market_for_requests_for_quotes_that_nobody_has_is_refused() -> None:
    client = Scripted((Security(asset="AAPL.US", name="Apple", sessions=()),))
    client.listed = set()
    with pytest.raises(UnknownSymbol, match=r"'ABCD\.US_USDC_RFQ' is not <asset>_USDC_RFQ of a security either$"):
        await client.submit_rfq("ABCD.US_USDC_RFQ", "Bid", quantity="1")
    with pytest.raises(UnknownSymbol):
        await client.place(NewOrder.limit("AAPL.US_USDC_RFQ", "Bid", price="1", quantity="1"))


async def test_figures_from_outside_are_there_for_what_no_list_of_markets_has() -> None:
    client = Scripted()
    client.listed = set()
    await client.get_ticker("NVDA.US_USDC", source="External")
    await client.get_klines("NVDA.US_USDC", "1d", start_s=1, source="External")
    assert [passed["symbol"] for _, passed in client.calls] == ["NVDA.US_USDC"] * 2
    with pytest.raises(UnknownSymbol):
        await client.get_ticker("NVDA.US_USDC")


async def test_an_immediate_request_for_quotes_needs_a_price() -> None:
    client = Scripted()
    with pytest.raises(LocalProtocolError, match="price where execution_mode is Immediate"):
        await client.submit_rfq("SOL-USDC-RFQ", "Bid", quantity="1", execution_mode="Immediate")
    with pytest.raises(LocalProtocolError, match="exactly one of quantity, quote_quantity"):
        await client.submit_rfq("SOL-USDC-RFQ", "Bid")
    with pytest.raises(LocalProtocolError, match="exactly one of rfq_id, client_id"):
        await client.accept_quote("1")


def test_an_order_has_the_parameters_of_its_endpoint() -> None:
    names = {field.encode_name for field in fields(NewOrder)}
    assert names == {rule.name for rule in ENDPOINTS["place_order"].parameters}
    method = {name for name in signature(RestMethods.place_order).parameters if name != "self"}
    assert method == {field.name for field in fields(NewOrder)} | {"max_wait_us"}


async def test_every_parameter_of_an_order_arrives_under_its_own_name() -> None:
    client = Scripted()
    optional = [name for name, given in signature(client.place_order).parameters.items() if given.kind is Given.KEYWORD_ONLY]
    optional.remove("max_wait_us")
    groups: list[dict[str, Any]] = [
        {name: Decimal(number) for number, name in enumerate(optional, 1) if name.endswith("price") or name == "quantity"}
        | {"trigger_quantity": "80%"},
        {"quantity": "1", "price": "2", "client_id": 7, "time_in_force": "IOC", "broker_id": 3, "slippage_tolerance": "1.0"}
        | {name: number % 2 == 0 for number, name in enumerate(optional) if name.startswith(("auto_", "post", "reduce"))}
        | {name: name for name in optional if name.endswith(("_by", "_type", "_prevention"))},
    ]
    for given in groups:
        await client.place_order("SOL-USDC", "Bid", "Limit", **given)
        _, passed = client.calls[-1]
        names = {field.encode_name: field.name for field in fields(NewOrder)}
        back = {names[name]: value for name, value in passed.items()}
        text = {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in given.items()}
        assert back == {"symbol": "SOL_USDC", "side": "Bid", "order_type": "Limit"} | text
    assert set().union(*groups) == set(optional) - {"quote_quantity"}


async def test_an_impossible_order_is_refused_before_it_leaves() -> None:
    client = Scripted()
    with pytest.raises(LocalProtocolError, match="quantity"):
        await client.place_order("SOL_USDC", "Bid", "Limit", quantity=0.1, price="1")  # type: ignore[arg-type]  # the point
    with pytest.raises(LocalProtocolError, match="price"):
        await client.place_order("SOL_USDC", "Bid", "Limit", quantity="1")
    with pytest.raises(LocalProtocolError, match="client_id"):
        await client.place_order("SOL_USDC", "Bid", "Market", quantity="1", client_id=2**32)
    with pytest.raises(LocalProtocolError, match="exactly one"):
        await client.cancel_order("SOL_USDC")
    assert client.calls == []


async def test_everyday_orders_have_short_names() -> None:
    client = Scripted()
    await client.place(NewOrder.limit("SOL-USDC", "Bid", price="98.50", quantity="2", client_id=7, post_only=True))
    await client.place(NewOrder.market("SOL-USDC", "Ask", quantity=Decimal("0.50"), reduce_only=True))
    await client.place(NewOrder.market("SOL-USDC", "Bid", quote_quantity="100"))
    await client.place(NewOrder.trigger("SOL-USDC", "Ask", trigger_price="90", trigger_quantity="100%"))
    await client.place(NewOrder.trigger("SOL-USDC", "Ask", trigger_price="90", trigger_quantity="1", price="89"))
    sell = {"symbol": "SOL_USDC", "side": "Ask"}
    buy = {"symbol": "SOL_USDC", "side": "Bid"}
    limit = {"orderType": "Limit", "price": "98.50", "quantity": "2", "clientId": 7, "postOnly": True}
    trigger = {"triggerPrice": "90", "triggerQuantity": "1"}
    assert [passed for _, passed in client.calls] == [
        {**buy, **limit},
        {**sell, "orderType": "Market", "quantity": "0.50", "reduceOnly": True},
        {**buy, "orderType": "Market", "quoteQuantity": "100"},
        {**sell, "orderType": "Market", "triggerPrice": "90", "triggerQuantity": "100%"},
        {**sell, "orderType": "Limit", "price": "89", **trigger},
    ]
    assert {endpoint for endpoint, _ in client.calls} == {"place_order"}


async def test_an_order_that_does_not_fit_together_is_refused_in_python_names() -> None:
    client = Scripted()
    order = NewOrder.market("SOL-USDC", "buy")  # type: ignore[arg-type]  # the point
    with pytest.raises(LocalProtocolError, match=r"^place_order: side: one of Bid, Ask, got 'buy'; did you mean Bid\?$"):
        await client.place(order)
    with pytest.raises(LocalProtocolError, match="at least 1 of quantity, quote_quantity, trigger_quantity; given: none"):
        await client.place(NewOrder.market("SOL-USDC", "Bid"))
    assert client.calls == []


@pytest.mark.parametrize("page_size", [0, 1001, True, 10.0])
def test_pages_of_an_impossible_size_are_refused(page_size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^page_size: a whole number, from 1 to 1000, got "):
        Scripted().fills(page_size=page_size)


async def test_a_batch_and_cancels() -> None:
    client = Scripted((), None, ())
    orders = [NewOrder(symbol="SOL-USDC", side="Ask", order_type="Market", quantity=Decimal("1.0"), client_id=5)]
    await client.place_orders(orders)
    await client.cancel_order("SOL-USDC", order_id=28)
    assert await client.cancel_all_orders("SOL-USDC", order_type="ConditionalOrder") == ()
    order = {"symbol": "SOL_USDC", "side": "Ask", "orderType": "Market", "quantity": "1.0", "clientId": 5}
    assert client.calls == [
        ("place_orders", {"orders": (order,)}),
        ("cancel_order", {"symbol": "SOL_USDC", "orderId": 28}),
        ("cancel_all_orders", {"symbol": "SOL_USDC", "orderType": "ConditionalOrder"}),
    ]


async def test_what_is_no_order_is_refused_by_its_place() -> None:
    client = Scripted()
    with pytest.raises(ConfigurationError, match=r"^order: a NewOrder, such as NewOrder.limit\(...\), got a dict$"):
        await client.place({"symbol": "SOL_USDC"})  # type: ignore[arg-type]  # the point
    with pytest.raises(ConfigurationError, match=r"^orders\[1\]: a NewOrder"):
        await client.place_orders([NewOrder.market("SOL_USDC", "Bid", quantity=1), "SOL_USDC"])  # type: ignore[list-item]  # the point
    assert (client.calls, client.checked) == ([], [])


async def test_all_that_is_placed_is_checked_first_with_the_ids_of_its_markets() -> None:
    client = Scripted()
    order = NewOrder.limit("SOL-USDC", "Bid", price=98, quantity=2)
    known = NewOrder.limit("SOL_USDC", "Bid", price="98", quantity="2")
    await client.place(order)
    await client.place_order("SOL-USDC", "Bid", "Limit", price=98, quantity=2)
    await client.place_orders([order, order])
    assert client.checked == [((known,), False), ((known,), False), ((known, known), True)]


async def test_what_changes_something_passes_on_how_long_it_may_wait() -> None:
    client = Scripted()
    await client.place_order("SOL-USDC", "Bid", "Market", quantity="1", max_wait_us=1)
    await client.place_orders([NewOrder(symbol="SOL_USDC", side="Ask", order_type="Market", quantity="1")], max_wait_us=2)
    await client.cancel_order("SOL-USDC", order_id=28, max_wait_us=3)
    await client.cancel_all_orders("SOL-USDC", max_wait_us=4)
    await client.cancel_all_orders("SOL-USDC")
    assert client.waits == [1, 2, 3, 4, None]


class _Row:
    def __init__(self, order_id: str) -> None:
        self.order_id = order_id


def a_page(ids: str, total: int | None = None) -> Page[_Row]:
    return Page(rows=tuple(_Row(one) for one in ids), total=total)


@pytest.mark.parametrize(
    ("pages", "offsets"),
    [
        ([a_page("")], [0]),
        ([a_page("f")], [0]),
        ([a_page("fe"), a_page("dc"), a_page("")], [0, 2, 4]),
        ([a_page("fe", 4), a_page("dc", 4)], [0, 2]),
        # Two newer rows have come meanwhile, so a whole page is known already.
        ([a_page("fe", 4), a_page("fe", 6), a_page("dc", 6)], [0, 2, 4]),
        ([a_page("fe"), a_page("ed"), a_page("c")], [0, 2, 4]),
        # The exchange gives less than was asked for, though there is more.
        ([a_page("f", 3), a_page("e", 3), a_page("d", 3)], [0, 1, 2]),
        # Rows are gone that were counted.
        ([a_page("fe", 4), a_page("", 4)], [0, 2]),
    ],
)
async def test_a_history_is_read_to_its_end_and_no_row_comes_twice(pages: list[Page[_Row]], offsets: list[int]) -> None:
    expected = list(dict.fromkeys(row.order_id for page in pages for row in page))
    client = Scripted(*pages)
    history = client.order_history("SOL-USDC", page_size=2, oldest_first=True)
    assert [row.order_id async for row in history] == expected
    assert [row async for row in history] == []
    fixed = {"symbol": "SOL_USDC", "limit": 2, "sortDirection": "Asc"}
    assert client.calls == [("order_history", {**fixed, "offset": offset}) for offset in offsets]


async def test_rows_that_are_equal_are_as_many_as_one_page_has() -> None:
    client = Scripted(a_page("ff"), a_page("fe"), a_page("d"))
    assert [row.order_id async for row in client.order_history(page_size=2)] == ["f", "f", "e", "d"]


async def test_a_history_can_be_left_in_the_middle_and_gone_on_with() -> None:
    client = Scripted(a_page("fe"), a_page("d"))
    history = client.order_history(page_size=2)
    async for row in history:
        assert row.order_id == "f"
        break
    assert len(client.calls) == 1
    assert [row.order_id async for row in history] == ["e", "d"]


async def test_fills_pass_on_their_filters() -> None:
    client = Scripted(Page[object](rows=()))
    fills = client.fills("SOL-USDC", order_id=5, from_ms=1, to_ms=2, fill_type="User", market_type="SPOT", page_size=9)
    assert [row async for row in fills] == []
    assert client.calls == [
        (
            "fill_history",
            {
                "symbol": "SOL_USDC",
                "orderId": 5,
                "from": 1,
                "to": 2,
                "fillType": "User",
                "marketType": "SPOT",
                "limit": 9,
                "offset": 0,
                "sortDirection": "Desc",
            },
        )
    ]
