"""Every value of the two roots survives msgspec's JSON and MessagePack, pickle and copy, and says its members by Python's names."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec import Struct

import backpack_proto
import backpack_runtime
from backpack_proto import (
    ENDPOINTS,
    SCHEMA,
    AccountDiverged,
    ApiError,
    BackpackError,
    BookChanged,
    BookSynced,
    Call,
    CallAnswered,
    CallFailed,
    ConfigurationError,
    ConnectionDown,
    Depth,
    Endpoint,
    Event,
    HttpRequest,
    InvalidKey,
    InvalidStream,
    Level,
    LocalProtocolError,
    NewOrder,
    NothingTraded,
    NotSent,
    OrderDoesNotFit,
    OutcomeUnknown,
    Page,
    PartlyUnreadable,
    RemoteProtocolError,
    Sealed,
    SecretText,
    SendRequest,
    SendText,
    Trade,
    Traits,
    UnknownSymbol,
    Value,
    decode_event,
    encode_event,
)
from backpack_proto.decoding import Amount, UnixUs, UnixUsOfText
from backpack_proto.exchange import PlannedFault
from backpack_proto.rest.codec import parse_response
from backpack_proto.rest.endpoints.rules import Group, ParameterRule
from backpack_runtime import InvalidProxy, Proxies, ProxyAuthFailed, ProxyError, Settings
from backpack_runtime.delivery import Delivery, SlowConsumer

D = Decimal
EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "backpack" / "rest.json").read_text()
)

# Proxies and Settings may hold credentials. The others describe endpoints and channels, with functions and types in them: they are code.
NO_VALUES = {Endpoint, Group, ParameterRule, Proxies, Settings, Traits}
# Parameters may be secret: see the tests of secrets below.
NEVER_ENCODED = {Call}

STAND_INS: dict[Any, object] = {
    Amount: D("0.10"),
    UnixUs: 1_795_012_345_000_000,
    UnixUsOfText: 60_000_000,
}
SCALARS: dict[Any, object] = {
    **STAND_INS,
    Decimal: D("1.50"),
    Level: Level("100.10", "2.0"),
    str: "text",
    int: 7,
    bool: True,
    bytes: b"\x00\xff",
    BackpackError: ApiError(status=400, code="NO", message="no", endpoint="GET /x", retry_after_us=5),
    RemoteProtocolError: RemoteProtocolError("gap"),
    LocalProtocolError: InvalidStream("l2_book"),
}


def every_value() -> list[type[Value]]:
    for package in (backpack_proto, backpack_runtime):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if ".cryptofeed" not in module.name:
                import_module(module.name)

    def below(kind: type[Value]) -> Iterator[type[Value]]:
        for subclass in kind.__subclasses__():
            yield subclass
            yield from below(subclass)

    # Parametrised generics, such as Page[Trade], are subclasses of their own.
    found = dict.fromkeys(kind for kind in below(Value) if kind.__module__.startswith("backpack_"))
    return [kind for kind in found if not get_args(kind)]


VALUES = every_value()
TRAVELLERS = [kind for kind in VALUES if kind not in NEVER_ENCODED | {CallAnswered}]
EVENTS = [kind for kind in TRAVELLERS if issubclass(kind, Event) and kind is not Event]


def sample(hint: Any, *, bare: bool) -> Any:
    """Some value of a type. A bare one has no more than it must."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    match origin:
        case _ if origin in (Union, UnionType):
            return (
                None
                if bare and NoneType in arguments
                else sample(next(one for one in arguments if one is not NoneType), bare=bare)
            )
        case _ if origin is Literal:
            return arguments[0]
        case type() if issubclass(origin, Mapping):
            return {} if bare else {"key": sample(arguments[1], bare=bare)}
        case type() if issubclass(origin, tuple) and arguments[-1] is not Ellipsis:
            return tuple(sample(one, bare=bare) for one in arguments)
        case type() if issubclass(origin, Sequence):
            return () if bare else (sample(arguments[0], bare=bare),)
    if isinstance(hint, TypeVar):
        return SCALARS[int]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(hint)[-1]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return sample_of(hint, bare=bare)
    raise AssertionError(f"no sample of {hint}: say one in SCALARS")


def sample_of(kind: type[Struct], *, bare: bool) -> Any:
    hints = get_type_hints(kind)
    wanted = [field.name for field in msgspec.structs.fields(kind) if field.required or not bare]
    members = {name: sample(hints[name], bare=bare) for name in wanted}
    if kind is SendText:
        members["signed"] = False
    if kind is PlannedFault:
        members |= {"name": "gap"} if bare else {"name": "gap", "end_us": 8}
    return kind(**members)


both_samples = pytest.mark.parametrize("bare", [True, False], ids=["bare", "full"])
each_traveller = pytest.mark.parametrize("kind", TRAVELLERS, ids=lambda kind: kind.__name__)
each_event = pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)


def test_every_struct_that_a_root_exports_is_a_value() -> None:
    exported = [getattr(root, name) for root in (backpack_proto, backpack_runtime) for name in root.__all__]
    structs = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Struct)}
    assert structs - NO_VALUES - {Level, Value} <= set(VALUES)
    assert len(VALUES) > 120


@both_samples
@each_traveller
def test_a_value_survives_msgspec_pickle_and_copy(kind: type[Value], *, bare: bool) -> None:
    value = sample_of(kind, bare=bare)
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - our own bytes
        assert (type(again), again) == (kind, value)
    assert copy.copy(value) == copy.deepcopy(value) == value


def assert_plain(value: object) -> None:
    match value:
        case None | bool() | int() | str() | Decimal() | bytes():
            assert type(value) in {NoneType, bool, int, str, Decimal, bytes}
        case dict():
            assert all(type(name) is str for name in value)
            for item in value.values():
                assert_plain(item)
        case tuple() | list():
            for item in value:
                assert_plain(item)
        case _:
            raise AssertionError(f"{value!r} is not plain")


@both_samples
@each_traveller
def test_a_value_gives_its_members_by_python_s_names(kind: type[Value], *, bare: bool) -> None:
    value = sample_of(kind, bare=bare)
    found = value.to_dict()
    assert tuple(found) == kind.__struct_fields__
    assert_plain(found)


def test_nested_values_have_python_s_names_too() -> None:
    changed = sample_of(BookChanged, bare=False)
    found = changed.to_dict()
    assert found["bids"] == ((D("100.10"), D("2.0")),)
    assert found["delta"]["first_update_id"] == 7
    assert found["delta"]["asks"] == ((D("100.10"), D("2.0")),)
    page = Page(rows=(sample_of(Trade, bare=True),), total=1)
    assert page.to_dict()["rows"][0]["buyer_is_maker"] is True
    assert msgspec.json.decode(msgspec.json.encode(page), type=Page[Trade]) == page


def test_an_order_is_the_same_whichever_form_its_numbers_had() -> None:
    given = NewOrder.limit("SOL_USDC", "Bid", price="141.20", quantity="1")
    assert given == NewOrder.limit("SOL_USDC", "Bid", price=D("141.20"), quantity=D(1))
    assert str(given.price) == "141.20"
    assert NewOrder.limit("SOL_USDC", "Bid", price=141, quantity=1).price == D(141)
    trigger = NewOrder.trigger("SOL_USDC", "Ask", trigger_price="1", trigger_quantity="80%")
    assert trigger.trigger_quantity == "80%"
    for order in (given, trigger):
        assert msgspec.json.decode(msgspec.json.encode(order), type=NewOrder) == order


# Errors.

ERRORS: list[BackpackError] = [
    RemoteProtocolError("gap: expected 2, got 3"),
    LocalProtocolError(""),
    InvalidKey("not base64"),
    UnknownSymbol("SOL"),
    ConfigurationError("price: not a number"),
    OrderDoesNotFit(
        symbol="SOL_USDC", violations=(("price", "98.505 is not on the tick 0.01"), ("quantity", "0 is not above zero"))
    ),
    NotSent(endpoint="POST /order", reason="withdrawn"),
    NothingTraded(endpoint="GET /ticker", symbol="NEW_USDC"),
    ApiError(status=429, code="TOO_MANY", message="slow down", endpoint="GET /x", retry_after_us=1_000),
    OutcomeUnknown(endpoint="POST /orders", reason="reset", orders=(("SOL_USDC", 7), ("BTC_USDC", None))),
    PartlyUnreadable(endpoint="GET /orders", rows=(), errors=(("5", "no symbol"), ("", "not an object"))),
    OutcomeUnknown(endpoint="DELETE /order", reason="reset", symbol="SOL_USDC", order_id="9"),
    ProxyAuthFailed("http://127.0.0.1:1", "wants other credentials"),
    InvalidProxy("no port"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_inside_an_event_survives_with_its_type(error: BackpackError) -> None:
    event = CallFailed(call_id=1, endpoint="ticker", error=error)
    for again in (
        msgspec.json.decode(msgspec.json.encode(event), type=CallFailed),
        msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=CallFailed),
        pickle.loads(pickle.dumps(event)),  # noqa: S301 - our own bytes
        copy.deepcopy(event),
        decode_event(encode_event(event)),
    ):
        assert again == event
        assert isinstance(again, CallFailed)
        assert type(again.error) is type(error)
        assert str(again.error) == str(error)
        assert vars(again.error) == vars(error)
    assert event.to_dict()["error"]["error"] == type(error).__name__
    assert event.to_dict()["error"]["text"] == str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": "ApiError", "text": "", "details": {}},
        {"error": "ApiError", "text": "", "details": {"status": 1}},
        {"error": "NoSuchError", "text": "", "details": {}},
        {"error": "SystemExit", "text": "", "details": {}},
        {"error": "RemoteProtocolError", "text": ""},
        {"error": 1, "text": "", "details": {}},
        "gap",
    ],
)
def test_an_error_that_may_not_stand_there_is_refused(wrong: object) -> None:
    data = msgspec.json.encode({"what": "fills", "error": wrong})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(data, type=AccountDiverged)


def test_a_traceback_of_an_error_that_cannot_be_read_can_be_shown() -> None:
    data = b'{"call_id":1,"endpoint":"x","error":{"error":"NoSuchError","text":"","details":{}}}'
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(data, type=CallFailed)
    cause = refused.value.__cause__
    assert cause is not None
    inner = cause.__traceback__
    while inner is not None and inner.tb_next is not None:
        inner = inner.tb_next
    assert inner is not None
    # The frame has the half-made error, which would crash the interpreter without `args`.
    assert [repr(value) for name, value in inner.tb_frame.f_locals.items() if name == "self"] == ["BackpackError()"]


def test_the_error_of_a_proxy_is_still_one_when_an_event_is_read_back() -> None:
    down = ConnectionDown(reason="refused", code=None, retry_us=1, error=ProxyError("http://p:1", "hung up"))
    again = decode_event(encode_event(down))
    assert isinstance(again, ConnectionDown)
    assert isinstance(again.error, ProxyError)
    assert again.error.proxy == "http://p:1"


# The encoder of events.


@both_samples
@each_event
def test_an_encoded_event_is_read_back_equal(kind: type[Event], *, bare: bool) -> None:
    event = sample_of(kind, bare=bare)
    data = encode_event(event)
    members = json.loads(data)
    assert tuple(members) == ("schema", "event", *kind.__struct_fields__)
    assert (members["schema"], members["event"]) == (SCHEMA, kind.__name__)
    again = decode_event(data)
    assert (type(again), again) == (kind, event)
    assert decode_event(data.decode()) == event


@both_samples
@each_event
def test_every_event_can_wait_for_a_consumer_and_is_weighed(kind: type[Event], *, bare: bool) -> None:
    event = sample_of(kind, bare=bare)
    assert isinstance(event, Event)
    for policy in SlowConsumer:
        delivery = Delivery(policy, 9, pause=lambda: None, resume=lambda: None)
        delivery.put([event])
        assert 512 <= delivery.snapshot.waiting_bytes < 10_000
        assert delivery.take() == event
        assert delivery.snapshot.waiting_bytes == 0


def test_an_encoded_book_has_the_texts_that_were_sent() -> None:
    levels = (Level("100.10", "2.00"), Level("99", "0.00000001"))
    synced = BookSynced(stream="depth.X", symbol="X", last=1, engine_us=2, bids=levels, asks=())
    assert encode_event(synced) == (
        b'{"schema":1,"event":"BookSynced","stream":"depth.X","symbol":"X","last":1,"engine_us":2,'
        b'"bids":[["100.10","2.00"],["99","0.00000001"]],"asks":[]}'
    )
    again = decode_event(encode_event(synced))
    assert isinstance(again, BookSynced)
    assert [(level.price_text, level.quantity_text) for level in again.bids] == [("100.10", "2.00"), ("99", "0.00000001")]


def test_an_encoded_decimal_has_no_exponent() -> None:
    trade = msgspec.structs.replace(sample_of(Trade, bare=True), price=D("1E+5"), quantity=D("1E-8"))
    members = json.loads(encode_event(trade))
    assert (members["price"], members["quantity"]) == ("100000", "0.00000001")
    assert decode_event(encode_event(trade)) == trade


@pytest.mark.parametrize("name", [name for name, endpoint in ENDPOINTS.items() if name in EXAMPLES])
def test_the_answer_of_every_call_is_read_back_with_its_type(name: str) -> None:
    endpoint, example = ENDPOINTS[name], EXAMPLES[name]
    body = example["text"].encode() if "text" in example else json.dumps(example.get("body")).encode()
    headers = tuple(example.get("headers", {}).items())
    result = parse_response(endpoint, example["parameters"], status=200, body=body, headers=headers)
    answered = CallAnswered(call_id=1, endpoint=name, result=result)
    again = decode_event(encode_event(answered))
    assert isinstance(again, CallAnswered)
    assert (type(again.result), again) == (type(result), answered)
    assert pickle.loads(pickle.dumps(answered)) == answered  # noqa: S301 - our own bytes
    assert_plain(answered.to_dict())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"schema":2,"event":"Closed"}',
        b'{"schema":1}',
        b'{"schema":1,"event":"Nothing"}',
        b'{"schema":1,"event":["Closed"]}',
        b'{"schema":1,"event":"Value"}',
        b'{"schema":1,"event":"StreamLive"}',
        b'{"schema":1,"event":"StreamLive","stream":1}',
        b'{"schema":1,"event":"StreamLive","stream":"x","more":1}',
        b'{"schema":1,"event":"CallAnswered","call_id":1,"endpoint":"nothing","result":1}',
        b'{"schema":1,"event":"CallAnswered","call_id":1,"endpoint":"ticker","result":{"symbol":1}}',
        b'{"schema":1,"event":"BookSynced","stream":"d","symbol":"X","last":1,"engine_us":2,"bids":[["-1","1"]],"asks":[]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_encoded_event_is_refused(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode_event(data)


def test_levels_of_a_delta_that_is_read_back_are_judged() -> None:
    delta = encode_event(sample_of(Depth, bare=False)).replace(b'"100.10"', b'"NaN"')
    with pytest.raises(LocalProtocolError, match="not a Depth"):
        decode_event(delta)


def test_the_delta_of_a_change_that_is_read_back_is_checked() -> None:
    change = msgspec.structs.replace(sample_of(BookChanged, bare=False), bids=(), asks=())
    delta = change.delta
    assert decode_event(encode_event(change)) == change
    for wrong in (
        msgspec.structs.replace(delta, first_update_id=delta.last_update_id + 1),
        msgspec.structs.replace(delta, last_update_id=2**63),
    ):
        with pytest.raises(LocalProtocolError, match="ids are not in order, or out of range"):
            decode_event(encode_event(msgspec.structs.replace(change, delta=wrong)))


# Secrets.

SIGNATURE = "c2lnbmF0dXJl"
SIGNED = HttpRequest(
    method="POST", target="/api/v1/order", headers=(("X-API-Key", "k"), ("X-Signature", SIGNATURE)), body=b'{"token":"123456"}'
)
SECRETS: list[Value] = [
    SendText(f'{{"signature":["k","{SIGNATURE}"]}}', signed=True),
    SIGNED,
    SendRequest(request_id=1, request=SIGNED, timeout_us=1),
    HttpRequest(method="GET", target="/x", headers=(("x-passphrase", SIGNATURE),)),
    Call(call_id=1, endpoint="withdraw", parameters={"twoFactorToken": SIGNATURE}),
    Call(call_id=1, endpoint="place_orders", parameters={"orders": [{"symbol": SIGNATURE}]}),
]


@pytest.mark.parametrize("value", SECRETS, ids=lambda value: type(value).__name__)
def test_a_value_with_a_secret_is_not_encoded_and_not_pickled(value: Value) -> None:
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps):
        with pytest.raises(TypeError) as refused:
            encode(value)
        assert SIGNATURE not in str(refused.value)
    shown = f"{value!r} {value} {value.to_dict()} {json.dumps(value.to_dict(), default=str)}"
    assert SIGNATURE not in shown
    assert "123456" not in shown
    assert copy.deepcopy(value) == copy.copy(value) == value


def test_what_is_signed_can_still_be_sent() -> None:
    text = SendText("signed", signed=True).text
    assert isinstance(text, str)
    assert (text, text.encode()) == ("signed", b"signed")
    assert dict(SIGNED.headers)["X-Signature"] == SIGNATURE
    assert SendText("open") == SendText("open", signed=False)


def test_the_parameters_of_a_call_are_its_own() -> None:
    given = {"symbol": "SOL_USDC"}
    call = Call(call_id=1, endpoint="ticker", parameters=given)
    given["symbol"] = "BTC_USDC"
    assert call.parameters == {"symbol": "SOL_USDC"}
    assert dict(call.parameters) == {"symbol": "SOL_USDC"}
    assert "SOL_USDC" not in repr(call.parameters)


def test_a_secret_is_text_that_does_not_show() -> None:
    secret = SecretText("x")
    assert (secret, repr(secret), copy.copy(secret)) == ("x", "<secret>", "x")
    sealed = Sealed({"a": 1})
    assert (sealed["a"], len(sealed), repr(sealed)) == (1, 1, "<a>")
