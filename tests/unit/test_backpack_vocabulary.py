"""One word for one thing: public names are defined once, and a value is of the same class whoever tells of it."""

from __future__ import annotations

import ast
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from msgspec.structs import asdict

import backpack_proto
import backpack_runtime
from backpack_proto import (
    Balance,
    BalanceUpdate,
    Fill,
    Order,
    OrderAccepted,
    OrderFill,
    Position,
    PositionAdjusted,
)
from backpack_proto.decoding import decode_json

PACKAGES = (backpack_proto, backpack_runtime)
PUBLIC = sorted({name for package in PACKAGES for name in package.__all__})

NO_STATE = {"Health": "how well the session is, in one word of its own", "ResponseReceived": "the status of HTTP"}
"""Public values with a member `status`. The state of a thing of the exchange is its `state`."""

DURATIONS = {"duration_ms", "interval_ms", "redeem_delay_ms"}


def definitions(package: ModuleType) -> dict[str, set[str]]:
    """The modules that define each class and each type alias of a package."""
    assert package.__file__ is not None
    root = Path(package.__file__).parent
    found: dict[str, set[str]] = defaultdict(set)
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].add(str(path.relative_to(root.parent)))
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
                found[ast.unparse(node.target)].add(str(path.relative_to(root.parent)))
    return found


def public_structs() -> list[type[msgspec.Struct]]:
    found = [getattr(package, name) for package in PACKAGES for name in package.__all__]
    return [value for value in found if isinstance(value, type) and issubclass(value, msgspec.Struct)]


def test_a_public_name_means_one_thing() -> None:
    core, runtime = map(definitions, PACKAGES)
    homes = {name: sorted(core[name] | runtime[name]) for name in PUBLIC}
    # What the runtime adds to a class of the core is the same thing, with access to the machine.
    assert issubclass(backpack_runtime.Credentials, backpack_proto.Credentials)
    homes["Credentials"].remove("backpack_runtime/credentials.py")
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_the_state_of_a_thing_is_called_state() -> None:
    named = {value.__name__ for value in public_structs() if "status" in value.__struct_fields__}
    assert named == set(NO_STATE)


@pytest.mark.parametrize("module", ["account.values", "rest.results.account", "rest.results.orders", "rest.results.reference"])
def test_times_of_an_account_are_in_microseconds(module: str) -> None:
    home = f"backpack_proto.{module}"
    values = [value for value in public_structs() if value.__module__ == home]
    assert values
    names = {name for value in values for name in value.__struct_fields__}
    assert {name for name in names if name.endswith(("_ms", "_at"))} <= DURATIONS


def test_all_values_of_an_account_are_public() -> None:
    for home in ("account.values", "rest.results.account", "rest.results.orders", "rest.results.reference", "rest.new_order"):
        module = __import__(f"backpack_proto.{home}", fromlist=["__all__"])
        for name in module.__all__:
            assert getattr(backpack_proto, name) is getattr(module, name)


ROW = b"""{"clientId":7001,"createdAt":1788285244094,"executedQuantity":"4.20","executedQuoteQuantity":"601.77","id":"59669287267",
"orderType":"Limit","postOnly":true,"price":"143.28","quantity":"12.50","quoteQuantity":null,"reduceOnly":false,"relatedOrderId":"5",
"selfTradePrevention":"RejectTaker","side":"Bid","status":"PartiallyFilled","stopLossTriggerPrice":"130","strategyId":"6",
"symbol":"SOL_USDC","timeInForce":"GTC","triggerBy":"LastPrice","triggerPrice":"140","triggerQuantity":"80%","triggeredAt":null,
"takeProfitLimitPrice":"151","takeProfitTriggerBy":"MarkPrice","takeProfitTriggerPrice":"150","stopLossLimitPrice":"129",
"stopLossTriggerBy":"IndexPrice"}"""
UPDATE = OrderAccepted(
    emitted_us=1_788_285_244_094_999,
    engine_us=1_788_285_244_094_321,
    symbol="SOL_USDC",
    order_id="59669287267",
    client_id=7001,
    side="Bid",
    order_type="LIMIT",
    time_in_force="GTC",
    state="PartiallyFilled",
    executed_quantity=Decimal("4.20"),
    executed_quote_quantity=Decimal("601.77"),
    self_trade_prevention="RejectTaker",
    origin="USER",
    quantity=Decimal("12.50"),
    price=Decimal("143.28"),
    reduce_only=False,
    post_only=True,
    trigger_price=Decimal(140),
    trigger_by="LastPrice",
    trigger_quantity="80%",
    take_profit_trigger_price=Decimal(150),
    take_profit_limit_price=Decimal(151),
    take_profit_trigger_by="MarkPrice",
    stop_loss_trigger_price=Decimal(130),
    stop_loss_limit_price=Decimal(129),
    stop_loss_trigger_by="IndexPrice",
    related_order_id="5",
    strategy_id="6",
)


def test_an_order_is_the_same_from_rest_and_from_a_stream_but_for_what_only_rest_tells() -> None:
    from_rest = decode_json(ROW, Order, "order")
    assert from_rest.created_us == 1_788_285_244_094_000
    assert msgspec.structs.replace(from_rest, created_us=None) == Order.of(UPDATE)
    assert {type(value) for value in asdict(Order.of(UPDATE)).values()} == {str, int, bool, Decimal, type(None)}


def test_the_order_type_of_a_stream_is_that_of_rest() -> None:
    words = {word: Order.of(msgspec.structs.replace(UPDATE, order_type=word)).order_type for word in ("LIMIT", "MARKET", "New")}
    assert words == {"LIMIT": "Limit", "MARKET": "Market", "New": "New"}


def test_a_fill_is_the_same_from_rest_and_from_a_stream_but_for_the_digits_of_its_time() -> None:
    row = b"""{"clientId":"7001","fee":"0.0102","feeSymbol":"SOL","isMaker":true,"orderId":"59669287267","price":"143.28",
    "quantity":"4.20","side":"Bid","symbol":"SOL_USDC","systemOrderType":null,"timestamp":"2026-09-01T17:54:04.094","tradeId":31}"""
    update = OrderFill(
        **asdict(UPDATE)
        | {
            "trade_id": 31,
            "fill_quantity": Decimal("4.20"),
            "fill_price": Decimal("143.28"),
            "maker": True,
            "fee": Decimal("0.0102"),
            "fee_asset": "SOL",
        }
    )
    from_rest, from_stream = decode_json(row, Fill, "fill"), Fill.of(update)
    assert from_stream is not None
    assert (from_rest.filled_us, from_stream.filled_us) == (1_788_285_244_094_000, 1_788_285_244_094_321)
    assert msgspec.structs.replace(from_rest, filled_us=from_stream.filled_us) == from_stream
    assert from_rest.key == from_stream.key == ("SOL_USDC", 31, "59669287267", Decimal("4.20"))


def test_a_row_without_a_trade_has_a_key_too() -> None:
    row = b"""{"fee":"0","feeSymbol":"USDC","isMaker":false,"orderId":"5","price":"1","quantity":"2","side":"Ask","symbol":"S",
    "timestamp":"2026-09-01T17:54:04.094123"}"""
    settled = decode_json(row, Fill, "fill")
    assert settled.key == ("S", None, "5", Decimal(2))
    assert settled.profile == ("S", "5", Decimal(1), Decimal(2), 1_788_285_244_094)
    assert settled.filled_us == 1_788_285_244_094_123


def test_a_position_of_a_stream_has_what_the_stream_tells_and_nothing_else() -> None:
    update = PositionAdjusted(
        emitted_us=2,
        engine_us=1,
        symbol="SOL_USDC_PERP",
        position_id=880412,
        net_quantity=Decimal("-12.5"),
        entry_price=Decimal("139.04"),
        break_even_price=Decimal("139.11"),
        mark_price=Decimal("143.27"),
        net_exposure_quantity=Decimal(14),
        net_exposure_notional=Decimal("2005.78"),
        realized_pnl=Decimal("-3.75"),
        unrealized_pnl=Decimal("52.875"),
        initial_margin_fraction=Decimal("0.02"),
        maintenance_margin_fraction=Decimal("0.0125"),
    )
    row = b"""{"breakEvenPrice":"139.11","entryPrice":"139.04","imf":"0.02","markPrice":"143.27","mmf":"0.0125",
    "netQuantity":"-12.5","netExposureQuantity":"14","netExposureNotional":"2005.78","pnlRealized":"-3.75","pnlUnrealized":"52.875",
    "symbol":"SOL_USDC_PERP","positionId":"880412","netCost":"1738.00","estLiquidationPrice":"92.50","userId":4711}"""
    from_rest, from_stream = decode_json(row, Position, "position"), Position.of(update)
    assert (from_rest.net_cost, from_rest.estimated_liquidation_price, from_rest.user_id) == (
        Decimal(1738),
        Decimal("92.50"),
        4711,
    )
    assert msgspec.structs.replace(from_rest, net_cost=None, estimated_liquidation_price=None, user_id=None) == from_stream


def test_a_balance_of_a_stream_is_that_of_rest() -> None:
    update = BalanceUpdate(emitted_us=2, engine_us=1, asset="SOL", available=Decimal(1), locked=Decimal(2), staked=Decimal(3))
    assert Balance.of(update) == Balance(asset="SOL", available=Decimal(1), locked=Decimal(2), staked=Decimal(3))
