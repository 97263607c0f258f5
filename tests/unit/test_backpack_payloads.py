"""Every frame of the exchange's shapes, beside the value that it becomes; and the spellings that sources disagree on."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backpack_proto.streams.frames import Drop, Frame, FrameDropped, decode
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import (
    BalanceUpdate,
    BookTicker,
    Depth,
    ExternalTicker,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFill,
    OrderModified,
    OrderUpdate,
    Payload,
    PositionAdjusted,
    PositionClosed,
    PositionOpened,
    PositionSnapshot,
    PositionUpdate,
    PositionUpdated,
    QuoteAccepted,
    QuoteCancelled,
    RfqAccepted,
    RfqAcceptedBinding,
    RfqActive,
    RfqCancelled,
    RfqCandidate,
    RfqFilled,
    RfqRefreshed,
    RfqUpdate,
    Ticker,
    Trade,
    TriggerFailed,
    TriggerPlaced,
)

D = Decimal
FRAMES = (Path(__file__).parents[1] / "fixtures/backpack/frames.jsonl").read_bytes().splitlines()
RFQ_ID = 113392053149171712

EXPECTED: tuple[tuple[str, Payload], ...] = (
    (
        "bookTicker.SOL_USDC",
        BookTicker(
            emitted_us=1795012401310482,
            symbol="SOL_USDC",
            engine_us=1795012401309655,
            update_id=5120449001,
            bid_price=D("143.29"),
            bid_quantity=D("7.50"),
            ask_price=D("143.31"),
            ask_quantity=D("18.25"),
        ),
    ),
    (
        "bookTicker.AAPL.US_USDC_PERP",
        BookTicker(
            emitted_us=1795012401310999,
            symbol="AAPL.US_USDC_PERP",
            engine_us=1795012401311000,
            update_id=70012,
            bid_price=D("228.40"),
            bid_quantity=D("3.0"),
            ask_price=None,
            ask_quantity=None,
        ),
    ),
    (
        "depth.SOL_USDC",
        Depth(
            emitted_us=1795012401402117,
            symbol="SOL_USDC",
            engine_us=1795012401401930,
            first_update_id=5120449002,
            last_update_id=5120449002,
            bids=(),
            asks=(Level("143.40", "0.00"), Level("143.31", "18.20")),
        ),
    ),
    (
        "depth.200ms.ETH_USDC_PERP",
        Depth(
            emitted_us=1795012401600218,
            symbol="ETH_USDC_PERP",
            engine_us=1795012401588071,
            first_update_id=8011200401,
            last_update_id=8011200412,
            bids=(Level("3099.40", "0.7500"), Level("3102.95", "0.0000"), Level("3103.60", "11.0250")),
            asks=(Level("3104.12", "2.4000"),),
        ),
    ),
    (
        "depth.SOL_USDC",
        Depth(
            emitted_us=1795012401702200,
            symbol="SOL_USDC",
            engine_us=1795012401702011,
            first_update_id=5120449003,
            last_update_id=5120449003,
            bids=(),
            asks=(),
        ),
    ),
    (
        "kline.1m.SOL_USDC",
        Kline(
            emitted_us=1795012402020731,
            symbol="SOL_USDC",
            start_us=1795012380000000,
            end_us=1795012440000000,
            closed=False,
            trade_count=4,
            volume=D("27.83"),
            open=D("143.26"),
            high=D("143.310000000"),
            low=D("143.25"),
            close=D("143.28"),
            interval="1m",
        ),
    ),
    (
        "kline.1month.AAPL.US_USDC_PERP",
        Kline(
            emitted_us=1795012402020990,
            symbol="AAPL.US_USDC_PERP",
            start_us=1793491200000000,
            end_us=1796083200000000,
            closed=True,
            trade_count=0,
            volume=D(0),
            interval="1month",
        ),
    ),
    (
        "trade.SOL_USDC",
        Trade(
            emitted_us=1795012402745457,
            symbol="SOL_USDC",
            engine_us=1795012402744398,
            trade_id=41399812,
            price=D("143.29"),
            quantity=D("0.35"),
            buyer_is_maker=True,
            buyer_order_id="61200460771",
            seller_order_id="61200460988",
        ),
    ),
    (
        "ticker.SOL_USDC",
        Ticker(
            emitted_us=1795012403549871,
            symbol="SOL_USDC",
            first_price=D("140.55"),
            last_price=D("143.28"),
            high=D("146.9"),
            low=D("139.04"),
            volume=D("16233.41"),
            quote_volume=D("2318450.0725"),
            trade_count=8127,
        ),
    ),
    (
        "externalTicker.AAPL.US_USDC_PERP",
        ExternalTicker(
            emitted_us=1795012403549990,
            symbol="AAPL.US_USDC_PERP",
            first_price=D("227.9"),
            last_price=D("228.42"),
            high=D(230),
            low=D("226.71"),
            volume=D("4290.8"),
            quote_volume=D("980112.5"),
            trade_count=512,
        ),
    ),
    (
        "markPrice.SOL_USDC_PERP",
        MarkPrice(
            emitted_us=1795012403422650,
            symbol="SOL_USDC_PERP",
            engine_us=1795012403421980,
            mark_price=D("143.27"),
            index_price=D("143.26114"),
            funding_rate=D("-0.0000083"),
            next_funding_us=1795014000000000,
        ),
    ),
    (
        "markPrice.FDVEXTD1B_USDC_PREDICTION",
        MarkPrice(
            emitted_us=1795012403422651,
            symbol="FDVEXTD1B_USDC_PREDICTION",
            engine_us=1795012403421981,
            mark_price=D("0.412"),
        ),
    ),
    (
        "openInterest.SOL_USDC_PERP",
        OpenInterest(emitted_us=1795012440001944, symbol="SOL_USDC_PERP", open_interest=D("48211.7")),
    ),
    (
        "liquidation",
        Liquidation(
            emitted_us=1795012441655107,
            symbol="SOL_USDC_PERP",
            engine_us=1795012441654290,
            price=D("142.1"),
            quantity=D(35),
            side="Ask",
        ),
    ),
    (
        "liquidation.SOL_USDC_PERP",
        Liquidation(
            emitted_us=1795012441655108,
            symbol="SOL_USDC_PERP",
            engine_us=1795012441654291,
            price=D("142.2"),
            quantity=D("1.5"),
            side="Bid",
        ),
    ),
    (
        "account.orderUpdate",
        OrderAccepted(
            emitted_us=1795012450063155,
            symbol="SOL_USDC",
            engine_us=1795012450062990,
            order_id="61200460115",
            side="Bid",
            order_type="LIMIT",
            time_in_force="GTC",
            state="New",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectTaker",
            origin="USER",
            client_id=4294967295,
            quantity=D(15),
            quote_quantity=D("2122.50"),
            price=D("141.50"),
            reduce_only=False,
            post_only=True,
            take_profit_trigger_price=D(150),
            stop_loss_trigger_price=D(130),
            take_profit_limit_price=D("150.5"),
            stop_loss_limit_price=D("129.5"),
            take_profit_trigger_by="LastPrice",
            stop_loss_trigger_by="MarkPrice",
        ),
    ),
    (
        "account.orderUpdate.ETH_USDC",
        OrderFill(
            emitted_us=1795012452175880,
            symbol="ETH_USDC",
            engine_us=1795012452174711,
            order_id="6120046020",
            side="Bid",
            order_type="MARKET",
            time_in_force="GTC",
            state="Filled",
            executed_quantity=D("0.0020"),
            executed_quote_quantity=D("6.208240"),
            self_trade_prevention="RejectTaker",
            origin="USER",
            quantity=D("0.0020"),
            quote_quantity=D("6.21"),
            reduce_only=False,
            trade_id=3104477,
            fill_quantity=D("0.0020"),
            fill_price=D("3104.12"),
            maker=False,
            fee=D("0.000002"),
            fee_asset="ETH",
        ),
    ),
    (
        "account.orderUpdate",
        OrderCancelled(
            emitted_us=1795012455405230,
            symbol="SOL_USDC",
            engine_us=1795012455404380,
            order_id="61200461942",
            side="Ask",
            order_type="MARKET",
            time_in_force="GTC",
            state="Cancelled",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectTaker",
            origin="USER",
            quantity=D(0),
            reduce_only=False,
            trigger_price=D("151.20"),
            trigger_by="LastPrice",
            trigger_quantity="60%",
        ),
    ),
    (
        "account.orderUpdate",
        OrderExpired(
            emitted_us=1795012456000000,
            symbol="SOL_USDC_PERP",
            engine_us=1795012455999000,
            order_id="61200461950",
            side="Ask",
            order_type="LIMIT",
            time_in_force="IOC",
            state="Expired",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectBoth",
            origin="LIQUIDATION_AUTOCLOSE",
            quantity=D(2),
            price=D("143.00"),
            reduce_only=True,
            post_only=False,
            expiry_reason="PRICE_BAND",
            related_order_id="61200461942",
            strategy_id="77",
        ),
    ),
    (
        "account.orderUpdate",
        OrderModified(
            emitted_us=1795012457000000,
            symbol="SOL_USDC_PERP",
            engine_us=1795012456999000,
            order_id="61200461960",
            side="Ask",
            order_type="LIMIT",
            time_in_force="GTC",
            state="New",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectTaker",
            origin="USER",
            quantity=D("1.5"),
            price=D("145.00"),
            reduce_only=True,
        ),
    ),
    (
        "account.orderUpdate",
        TriggerPlaced(
            emitted_us=1795012458000000,
            symbol="SOL_USDC_PERP",
            engine_us=1795012457999000,
            order_id="61200461970",
            side="Ask",
            order_type="MARKET",
            time_in_force="GTC",
            state="TriggerPending",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectTaker",
            origin="USER",
            quantity=D(0),
            quote_quantity=D(0),
            reduce_only=False,
            trigger_price=D("151.20"),
            trigger_by="MarkPrice",
            trigger_quantity="4",
        ),
    ),
    (
        "account.orderUpdate",
        TriggerFailed(
            emitted_us=1795012459000000,
            symbol="SOL_USDC_PERP",
            engine_us=1795012458999000,
            order_id="61200461970",
            side="Ask",
            order_type="MARKET",
            time_in_force="GTC",
            state="TriggerFailed",
            executed_quantity=D(0),
            executed_quote_quantity=D(0),
            self_trade_prevention="RejectTaker",
            origin="USER",
            quantity=D(0),
            reduce_only=False,
            trigger_price=D("151.20"),
            trigger_by="IndexPrice",
            trigger_quantity="4",
        ),
    ),
    (
        "account.positionUpdate",
        PositionOpened(
            emitted_us=1795012460182041,
            symbol="ETH_USDC_PERP",
            engine_us=1795012460182042,
            position_id=6120046188,
            net_quantity=D("0.0050"),
            entry_price=D("3098.40"),
            break_even_price=D("3100.075"),
            mark_price=D("3104.11"),
            net_exposure_quantity=D("0.0050"),
            net_exposure_notional=D("15.52055"),
            realized_pnl=D(0),
            unrealized_pnl=D("0.02855"),
            initial_margin_fraction=D("0.02"),
            maintenance_margin_fraction=D("0.0125"),
        ),
    ),
    (
        "account.positionUpdate.ETH_USDC_PERP",
        PositionAdjusted(
            emitted_us=1795012461182041,
            symbol="ETH_USDC_PERP",
            engine_us=1795012461182040,
            position_id=6120046188,
            net_quantity=D("-0.0050"),
            entry_price=D("3098.40"),
            break_even_price=D("3100.075"),
            mark_price=D("3104.11"),
            net_exposure_quantity=D("0.0100"),
            net_exposure_notional=D("15.52055"),
            realized_pnl=D(0),
            unrealized_pnl=D("-0.02855"),
            initial_margin_fraction=D("0.02"),
            maintenance_margin_fraction=D("0.0125"),
        ),
    ),
    (
        "account.positionUpdate",
        PositionUpdated(
            emitted_us=1795012462182041,
            symbol="ETH_USDC_PERP",
            engine_us=1795012462182040,
            position_id=6120046188,
            net_quantity=D(0),
            entry_price=D("3098.40"),
            break_even_price=D("3100.075"),
            mark_price=D("3104.11"),
            net_exposure_quantity=D(0),
            net_exposure_notional=D(0),
            realized_pnl=D("0.01"),
            unrealized_pnl=D(0),
            initial_margin_fraction=D("0.02"),
            maintenance_margin_fraction=D("0.0125"),
        ),
    ),
    (
        "account.positionUpdate",
        PositionClosed(
            emitted_us=1795012463182041,
            symbol="ETH_USDC_PERP",
            engine_us=1795012463182040,
            position_id=6120046188,
            net_quantity=D(0),
            entry_price=D("3098.40"),
            break_even_price=D("3100.075"),
            mark_price=D("3104.11"),
            net_exposure_quantity=D(0),
            net_exposure_notional=D(0),
            realized_pnl=D("0.014275"),
            unrealized_pnl=D(0),
            initial_margin_fraction=D("0.02"),
            maintenance_margin_fraction=D("0.0125"),
        ),
    ),
    (
        "account.balanceUpdate",
        BalanceUpdate(
            emitted_us=1795012464063170,
            engine_us=1795012464062993,
            asset="USDC",
            available=D(250),
            locked=D(75),
            staked=D(0),
        ),
    ),
    (
        "account.rfqUpdate",
        RfqActive(
            emitted_us=1795012470000001,
            engine_us=1795012470000000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            state="New",
            quantity=D(10),
            submitted_us=1795012470000000,
            expires_us=1795012475000000,
        ),
    ),
    (
        "account.rfqUpdate",
        RfqAccepted(
            emitted_us=1795012470100001,
            engine_us=1795012470100000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            client_id=123,
            side="Bid",
            state="New",
            quantity=D(10),
            submitted_us=1795012470000000,
            expires_us=1795012475000000,
        ),
    ),
    (
        "account.rfqUpdate.SOL_USDC_RFQ",
        RfqAcceptedBinding(
            emitted_us=1795012470200001,
            engine_us=1795012470200000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID + 1,
            client_id=124,
            side="Ask",
            state="New",
            quote_quantity=D(1500),
            submitted_us=1795012470000000,
            expires_us=1795012475000000,
        ),
    ),
    (
        "account.rfqUpdate",
        RfqRefreshed(
            emitted_us=1795012470300001,
            engine_us=1795012470300000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            side="Bid",
            state="New",
            quantity=D(10),
            submitted_us=1795012480000000,
            expires_us=1795012485000000,
        ),
    ),
    (
        "account.rfqUpdate",
        RfqCancelled(
            emitted_us=1795012470400001,
            engine_us=1795012470400000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID + 1,
            side="Ask",
            state="Cancelled",
            quote_quantity=D(1500),
            submitted_us=1795012470000000,
            expires_us=1795012475000000,
            system_order_type="CollateralConversion",
        ),
    ),
    (
        "account.rfqUpdate",
        RfqCandidate(
            emitted_us=1795012470500001,
            engine_us=1795012470500000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            quote_id=RFQ_ID + 8,
            side="Bid",
            state="New",
            quantity=D(10),
            quote_quantity=D("1432.9"),
            price=D("143.29"),
            submitted_us=1795012480000000,
            expires_us=1795012485000000,
        ),
    ),
    (
        "account.rfqUpdate",
        RfqFilled(
            emitted_us=1795012470600001,
            engine_us=1795012470600000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            quote_id=RFQ_ID + 8,
            side="Bid",
            state="Filled",
            quantity=D(10),
            price=D("143.29"),
            submitted_us=1795012480000000,
            expires_us=1795012485000000,
        ),
    ),
    (
        "account.rfqUpdate",
        QuoteAccepted(
            emitted_us=1795012470700001,
            engine_us=1795012470700000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            quote_id=RFQ_ID + 9,
            client_id=7,
            state="New",
            price=D("143.20"),
        ),
    ),
    (
        "account.rfqUpdate",
        QuoteCancelled(
            emitted_us=1795012470800001,
            engine_us=1795012470800000,
            symbol="SOL_USDC_RFQ",
            rfq_id=RFQ_ID,
            quote_id=RFQ_ID + 9,
            state="Cancelled",
            price=D("143.20"),
        ),
    ),
    (
        "account.positionUpdate",
        PositionSnapshot(
            emitted_us=1795012480182041,
            symbol="ETH_USDC_PERP",
            engine_us=1795012480182042,
            position_id=6120046188,
            net_quantity=D("0.0050"),
            entry_price=D("3098.40"),
            break_even_price=D("3100.0751234567890123456789"),
            mark_price=D("3104.11"),
            net_exposure_quantity=D("0.0050"),
            net_exposure_notional=D("15.52055"),
            realized_pnl=D(0),
            unrealized_pnl=D("0.02855"),
            initial_margin_fraction=D("0.02"),
            maintenance_margin_fraction=D("0.0125"),
        ),
    ),
)


def only(data: bytes) -> Payload:
    """The one payload of a frame, whether or not it came as the first message of a position stream."""
    decoded = decode(data)
    frame = decoded[0] if isinstance(decoded, tuple) else decoded
    assert isinstance(frame, Frame), decoded
    assert frame.payload is not None
    return frame.payload


def frame_of(kind: type[Payload]) -> dict[str, Any]:
    """The first fixture of a kind, as JSON."""
    for line, (_, payload) in zip(FRAMES, EXPECTED, strict=True):
        if type(payload) is kind:
            frame: dict[str, Any] = json.loads(line)
            return frame
    raise AssertionError(kind)


def changed(kind: type[Payload], **members: object) -> bytes:
    """A fixture with other members; `...` takes one away."""
    frame = frame_of(kind)
    data = frame["data"] | members
    frame["data"] = {name: value for name, value in data.items() if value is not ...}
    return json.dumps(frame).encode()


def test_every_event_type_has_a_fixture() -> None:
    assert {type(payload) for _, payload in EXPECTED} == set(Payload.__args__)
    assert len(FRAMES) == len(EXPECTED)


@pytest.mark.parametrize(("line", "expected"), list(zip(FRAMES, EXPECTED, strict=True)), ids=range(len(EXPECTED)))
def test_a_frame_becomes_its_value(line: bytes, expected: tuple[str, Payload]) -> None:
    stream, payload = expected
    frame = Frame(payload, stream)
    decoded = decode(line)
    assert decoded == ((frame,) if isinstance(payload, PositionSnapshot) else frame)
    read = only(line)
    assert type(read) is type(payload)
    for name in read.__struct_fields__:
        # Equal is not enough: 1 == 1.0 == Decimal("1.00").
        one, other = getattr(read, name), getattr(payload, name)
        assert (type(one), str(one)) == (type(other), str(other)), name


@pytest.mark.parametrize(("line", "expected"), list(zip(FRAMES, EXPECTED, strict=True)), ids=range(len(EXPECTED)))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_members_come_in_any_order(line: bytes, expected: tuple[str, Payload], data: st.DataObject) -> None:
    # Decimals stay the digits that they are.
    frame = json.loads(line, parse_float=lambda digits: f"<{digits}>")
    inner = frame["data"] = dict(data.draw(st.permutations(list(frame["data"].items()))))
    envelope = dict(data.draw(st.permutations([("data", inner), ("stream", frame["stream"])])))
    text = json.dumps(envelope).replace('"<', "").replace('>"', "")
    assert only(text.encode()) == expected[1]


@pytest.mark.parametrize(("line", "expected"), list(zip(FRAMES, EXPECTED, strict=True)), ids=range(len(EXPECTED)))
def test_unknown_members_are_passed_over(line: bytes, expected: tuple[str, Payload]) -> None:
    more = line.replace(b'{"data":{', b'{"new":[{}],"data":{"zz":{"deep":[1,null,"x"]},"new":1.5,')
    more = more.removesuffix(b"}") + b',"id":null}'
    assert only(more) == expected[1]


@pytest.mark.parametrize(("line", "expected"), list(zip(FRAMES, EXPECTED, strict=True)), ids=range(len(EXPECTED)))
def test_decimals_may_come_as_numbers_and_integers_as_strings(line: bytes, expected: tuple[str, Payload]) -> None:
    frame = json.loads(line, parse_float=str)
    decimals = {
        field.encode_name
        for field in msgspec.structs.fields(type(expected[1]))
        if field.type in {Decimal, Decimal | None} and isinstance(frame["data"].get(field.encode_name), str | int)
    }
    integers = {
        field.encode_name
        for field in msgspec.structs.fields(type(expected[1]))
        if field.type in {int, int | None} and isinstance(frame["data"].get(field.encode_name), str | int)
    }
    for name in decimals:
        frame["data"][name] = f"<{frame['data'][name]}>"
    for name in integers:
        frame["data"][name] = str(frame["data"][name])
    for side in ("a", "b") if isinstance(expected[1], Depth) else ():
        frame["data"][side] = [[f"<{number}>" for number in level] for level in frame["data"][side]]
    text = json.dumps(frame).replace('"<', "").replace('>"', "")
    assert only(text.encode()) == expected[1]


@pytest.mark.parametrize("spelling", [61200461942, "61200461942"])
def test_ids_may_come_as_numbers_or_strings(spelling: object) -> None:
    accepted = only(changed(OrderAccepted, i=spelling, I=spelling, H=spelling))
    assert isinstance(accepted, OrderUpdate)
    assert (accepted.order_id, accepted.related_order_id, accepted.strategy_id) == ("61200461942",) * 3
    trade = only(changed(Trade, a=spelling, b=spelling))
    assert isinstance(trade, Trade)
    assert (trade.buyer_order_id, trade.seller_order_id) == ("61200461942",) * 2
    ticker = only(changed(BookTicker, u=spelling))
    assert isinstance(ticker, BookTicker)
    assert ticker.update_id == 61200461942
    position = only(changed(PositionOpened, i=spelling))
    assert isinstance(position, PositionUpdate)
    assert position.position_id == 61200461942
    rfq = only(changed(RfqAccepted, C=spelling, R=spelling, u=spelling))
    assert isinstance(rfq, RfqUpdate)
    assert (rfq.client_id, rfq.rfq_id, rfq.quote_id) == (61200461942,) * 3


def test_an_id_that_is_no_string_in_the_documents_may_be_any_text() -> None:
    accepted = only(changed(OrderAccepted, I="a-b-c", H="0x1f"))
    assert isinstance(accepted, OrderUpdate)
    assert (accepted.related_order_id, accepted.strategy_id) == ("a-b-c", "0x1f")


@pytest.mark.parametrize("value", [True, 1.5, [], {}, ["1"]])
def test_an_id_is_a_string_or_an_integer(value: object) -> None:
    dropped = decode(changed(OrderAccepted, i=value))
    assert isinstance(dropped, FrameDropped)
    assert dropped.reason is Drop.MALFORMED
    assert "$.data.i" in str(dropped.error)


@pytest.mark.parametrize("kind", [OrderAccepted, OrderFill, OrderCancelled])
def test_what_is_optional_may_be_null_or_missing(kind: type[Payload]) -> None:
    optional = [
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if not field.required and field.encode_name.strip() == field.encode_name
    ]
    bare = only(changed(kind, **dict.fromkeys(optional, ...)))
    null = only(changed(kind, **dict.fromkeys(optional, None)))
    assert bare == null
    assert isinstance(bare, OrderUpdate)
    assert (bare.client_id, bare.price, bare.trade_id, bare.reduce_only, bare.related_order_id) == (None,) * 5


@pytest.mark.parametrize("kind", [type(payload) for _, payload in EXPECTED if not isinstance(payload, PositionSnapshot)])
def test_what_is_required_may_not_be_missing(kind: type[Payload]) -> None:
    for field in msgspec.structs.fields(kind):
        if field.required:
            dropped = decode(changed(kind, **{field.encode_name: ...}))
            assert isinstance(dropped, FrameDropped)
            assert dropped.reason is Drop.MALFORMED
            assert f"`{field.encode_name}`" in str(dropped.error)


def test_words_of_open_lists_are_taken_as_they_come() -> None:
    modified = only(changed(OrderModified, X="Exploded", o="ICEBERG", f="GTD", V="Decrement", O="MOON", R="Bored", B="Dice"))
    assert isinstance(modified, OrderUpdate)
    assert (modified.state, modified.order_type, modified.time_in_force) == ("Exploded", "ICEBERG", "GTD")
    assert (modified.self_trade_prevention, modified.origin) == ("Decrement", "MOON")
    assert (modified.expiry_reason, modified.trigger_by) == ("Bored", "Dice")
    rfq = only(changed(RfqActive, X="Paused", S="Both", o="Auto"))
    assert isinstance(rfq, RfqUpdate)
    assert (rfq.state, rfq.side, rfq.system_order_type) == ("Paused", "Both", "Auto")


@pytest.mark.parametrize("none", [{"a": None, "A": None}, {"b": None, "B": None}, {"a": None, "A": None, "b": None, "B": None}])
def test_an_empty_side_of_a_ticker_is_none(none: dict[str, None]) -> None:
    ticker = only(changed(BookTicker, **none))
    assert isinstance(ticker, BookTicker)
    read = {"a": ticker.ask_price, "A": ticker.ask_quantity, "b": ticker.bid_price, "B": ticker.bid_quantity}
    assert {name for name, value in read.items() if value is None} == set(none)


@pytest.mark.parametrize("number", ["NaN", "-NaN", "sNaN", "nan123", "Infinity", "-Infinity", "inf"])
@pytest.mark.parametrize("kind", [type(payload) for _, payload in EXPECTED if not isinstance(payload, Depth)])
def test_a_number_that_is_none_makes_a_frame_malformed(kind: type[Payload], number: str) -> None:
    fields = [field for field in msgspec.structs.fields(kind) if field.type in {Decimal, Decimal | None}]
    assert fields
    for field in fields:
        dropped = decode(changed(kind, **{field.encode_name: number}))
        assert isinstance(dropped, FrameDropped)
        assert dropped.reason is Drop.MALFORMED
        assert f"{field.name} is not a finite number" in str(dropped.error)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    "level",
    [
        ["NaN", "1"],
        ["1", "NaN"],
        ["sNaN", "1"],
        ["1", "-NaN"],
        ["Infinity", "1"],
        ["1", "Infinity"],
        ["-1", "1"],
        ["1", "-1"],
        ["0", "1"],
        ["0.00", "0"],
        ["1"],
        ["1", "2", "3"],
        [],
        ["", "1"],
        ["one", "1"],
        [None, "1"],
        ["1", None],
        "12",
        None,
        {"1": "2"},
    ],
)
def test_a_level_is_a_positive_price_and_a_quantity(side: str, level: object) -> None:
    dropped = decode(changed(Depth, **{side: [["143.29", "1"], level]}))
    assert isinstance(dropped, FrameDropped)
    assert (dropped.reason, dropped.stream) == (Drop.MALFORMED, "depth.SOL_USDC")


@pytest.mark.parametrize(
    "members", [{"U": 7, "u": 6}, {"U": 1.5}, {"u": "x"}, {"U": None}, {"U": True}, {"a": None}, {"b": {}}]
)
def test_a_delta_covers_ids_in_their_order(members: dict[str, object]) -> None:
    dropped = decode(changed(Depth, **members))
    assert isinstance(dropped, FrameDropped)
    assert dropped.reason is Drop.MALFORMED


def test_candles_have_times_of_text() -> None:
    # The official client types them as seconds, which is stale (docs/protocol.md 4.4).
    assert isinstance(decode(changed(Kline, t=1795012380, T=1795012440)), FrameDropped)


def test_payloads_are_values() -> None:
    for line, (_, payload) in zip(FRAMES, EXPECTED, strict=True):
        assert only(line) == payload
        assert hash(only(line)) == hash(payload)
        with pytest.raises(AttributeError):
            payload.emitted_us = 0  # type: ignore[misc]
