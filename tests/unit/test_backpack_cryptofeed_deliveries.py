"""Which event calls which callback, with what, and what is logged of the rest."""

from __future__ import annotations

import json
import logging
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

import cryptofeed.defines

from backpack_proto.account.values import (
    AccountConfirmed,
    AccountStale,
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
from backpack_proto.askers import SNAPSHOT_LIMIT
from backpack_proto.book.levels import Book
from backpack_proto.decoding import decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.exchange.market.listings import LISTINGS, market_object
from backpack_proto.inputs import Call, Command
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    CallAnswered,
    CallFailed,
    ConnectionDown,
    ConnectionUp,
    ErrorReceived,
    PeerSilent,
    StreamLive,
    StreamsRefused,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.markets import Market
from backpack_proto.streams.channels import CHANNEL_OF
from backpack_proto.streams.frames import Drop, Frame, FrameDropped, decode_frame
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import (
    Depth,
    Event,
    Kline,
    OrderFill,
    Payload,
    Trade,
)
from backpack_runtime.cryptofeed.channels import PRIVATE_CHANNELS, WEBSOCKET_CHANNELS
from backpack_runtime.cryptofeed.native.deliveries import Deliveries
from levels import by_price
from payload_table import FIRST_ROWS, frame_of

pytestmark = pytest.mark.anyio

STREAM = "depth.SOL_USDC"
NAMES = {"SOL_USDC": "SOL-USDC", "SOL_USDC_PERP": "SOL-USDC-PERP", "ETH_USDC": "ETH-USDC"}
ERROR = RemoteProtocolError("wrong")
LOGGER = "backpack_runtime.cryptofeed"
PUBLIC = tuple(name for name in WEBSOCKET_CHANNELS if name not in PRIVATE_CHANNELS)
PRIVATE = tuple(name for name in WEBSOCKET_CHANNELS if name in PRIVATE_CHANNELS)


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


class Setting:
    """Deliveries, and what they delivered."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[tuple[str, Any, float]] = []
        self.rows: list[dict[str, Any]] = []
        """What only backends of books are told."""
        self.taken_up: list[str] = []
        self.books: list[tuple[int, dict[str, Any]]] = []
        self.book = Book("SOL_USDC")
        self.deliveries = Deliveries(
            callback=self._call,
            hand_book=self._hand_book,
            symbol_of=lambda symbol: NAMES.get(symbol, symbol),
            book_of=lambda _stream: self.book,
            **{"max_depth": 0, "candle_closed_only": False, "take_up": self.taken_up.append, **options},
        )

    async def _call(self, channel: str, found: Any, receipt: float, which: Any = None) -> None:
        if which is None:
            self.calls.append((channel, found, receipt))
        else:
            self.rows.append(found.to_dict(delta=found.delta is not None))

    async def _hand_book(self, book: Any, receipt: float) -> None:
        sides = book.book.bids.to_dict(), book.book.asks.to_dict()
        details = {name: getattr(book, name) for name in ("timestamp", "sequence_number", "delta", "raw")}
        self.books.append((book.sequence_number, details | {"bids": sides[0], "asks": sides[1], "receipt": receipt}))

    def want(self, *channels: str, symbols: frozenset[str] | None = None) -> None:
        self.deliveries.want(dict.fromkeys(channels, symbols))

    async def give(self, *events: Event, data: bytes | None = None, receipt: float = 9.0) -> None:
        for event in events:
            await self.deliveries.deliver(event, data, receipt)

    async def give_recorded(self, kind: str, stream: str = "") -> dict[str, Any]:
        """Give the first recorded payload of a kind. Returns it as it came."""
        data = frame_of(kind, stream)
        frame = decode_frame(data)
        assert isinstance(frame, Frame)
        assert frame.payload is not None
        await self.give(frame.payload, data=data)
        raw: dict[str, Any] = json.loads(data)["data"]
        return raw

    @property
    def channels(self) -> list[str]:
        return [channel for channel, _, _ in self.calls]


def test_the_table_of_channels_has_cryptofeed_s_names() -> None:
    names = set(WEBSOCKET_CHANNELS) - PRIVATE_CHANNELS
    assert names <= {value for value in vars(cryptofeed.defines).values() if isinstance(value, str)}


def test_the_document_has_a_row_for_every_channel_with_its_stream() -> None:
    text = (Path(__file__).parents[2] / "docs" / "exchanges" / "backpack.md").read_text()
    for name, stream in WEBSOCKET_CHANNELS.items():
        assert re.search(rf"^\|.*`{name}`.*\|.*{re.escape(stream.partition('>')[0])}", text, re.MULTILINE), name


def channels_of(payload: Payload) -> set[str]:
    """The channels that the table has for a payload's own one: of orders only fills are on both, and a delta is the session's."""
    names = set(CHANNEL_OF[type(payload)].traits.cryptofeed) - {"l2_book"}
    return names if isinstance(payload, OrderFill) else names - {"fills"}


@pytest.mark.parametrize(("data", "payload"), FIRST_ROWS, ids=[type(payload).__name__ for _, payload in FIRST_ROWS])
async def test_a_payload_calls_its_channels_with_the_frame_as_it_came(data: bytes, payload: Payload) -> None:
    setting = Setting()
    setting.want(*PUBLIC, *PRIVATE)
    await setting.give(payload, data=data)
    assert len(setting.channels) == len(channels_of(payload))
    assert set(setting.channels) == channels_of(payload)
    raw = json.loads(data)["data"]
    symbol = str(raw.get("s") or raw.get("a"))
    for _, found, receipt in setting.calls:
        assert found.raw == raw
        assert receipt == 9.0
        assert found.symbol == NAMES.get(symbol, symbol)


@pytest.mark.parametrize(
    ("kind", "channel"),
    [
        ("bookTicker", "ticker"),
        ("bookTicker", "l1_book"),
        ("markPrice", "funding"),
        ("markPrice", "index"),
        ("orderFill", "order_info"),
        ("orderFill", "fills"),
    ],
)
async def test_of_a_payload_with_two_channels_only_the_subscribed_one_is_called(kind: str, channel: str) -> None:
    setting = Setting()
    setting.want(channel)
    await setting.give_recorded(kind)
    assert setting.channels == [channel]


async def test_only_what_was_subscribed_is_delivered() -> None:
    setting = Setting()
    setting.want("l1_book", symbols=frozenset({"SOL_USDC"}))
    await setting.give_recorded("bookTicker", "bookTicker.SOL_USDC")
    await setting.give_recorded("bookTicker", "bookTicker.AAPL")
    await setting.give_recorded("trade")
    await setting.give_recorded("orderFill")
    assert setting.channels == ["l1_book"]
    tallies = setting.deliveries.tallies
    assert tallies.last_trade == tallies.last_ticker == tallies.last_message == 9.0
    assert tallies.order_updates == 1


async def test_private_channels_without_symbols_are_for_all_and_with_symbols_for_those() -> None:
    setting = Setting()
    setting.deliveries.want({"fills": None, "order_info": frozenset({"SOL_USDC"})})
    await setting.give_recorded("orderFill")
    await setting.give_recorded("orderAccepted")
    assert setting.channels == ["fills", "order_info"]


async def test_candles_that_are_not_closed_can_be_left_out() -> None:
    setting = Setting(candle_closed_only=True)
    setting.want("candles")
    await setting.give_recorded("kline", "kline.1m")
    assert setting.calls == []
    assert setting.deliveries.tallies.candle_updates == 1
    frame = decode_frame(frame_of("kline", "kline.1m."))
    assert isinstance(frame, Frame)
    assert isinstance(frame.payload, Kline)
    await setting.give(msgspec.structs.replace(frame.payload, closed=True))
    assert setting.channels == ["candles"]


async def test_candles_that_were_missed_are_handed_on_before_later_ones(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting(candle_closed_only=True)
    setting.want("candles", "trades")
    setting.deliveries.candles.want("1m", ["SOL_USDC"])
    data = frame_of("kline", "kline.1m.")
    frame = decode_frame(data)
    assert isinstance(frame, Frame)
    assert isinstance(frame.payload, Kline)
    first = msgspec.structs.replace(frame.payload, closed=True)
    minute_us = first.end_us - first.start_us

    def later(count: int, *, closed: bool | None = True) -> Kline:
        shift = count * minute_us
        emitted_us = None if closed is None else first.end_us + shift + 100_000
        return msgspec.structs.replace(
            first, start_us=first.start_us + shift, end_us=first.end_us + shift, closed=closed, emitted_us=emitted_us
        )

    async def commands(event: Event, data: bytes | None = None) -> list[Command]:
        return list(await setting.deliveries.deliver(event, data, 9.0))

    assert await commands(first, data) == []
    assert await commands(DOWN) == []
    (call,) = await commands(later(3), data)
    assert isinstance(call, Call)
    assert call.endpoint == "klines"
    assert setting.deliveries.candles.reasons() == ["candles of SOL-USDC wait until those that were missed are fetched"]
    answer = CallAnswered(call_id=call.call_id, endpoint="klines", result=tuple(later(n, closed=None) for n in range(4)))
    assert await commands(answer) == []
    assert setting.deliveries.candles.reasons() == []
    starts = [(found.start * 1e6 - first.start_us) / minute_us for _, found, _ in setting.calls]
    assert starts == [0, 1, 2, 3]
    assert all(found.closed and found.timestamp is not None for _, found, _ in setting.calls)
    assert [bool(found.raw) for _, found, _ in setting.calls] == [True, False, False, False]
    assert setting.deliveries.tallies.candles_filled == 2
    # What cannot be had is said.
    await commands(FrameDropped(reason=Drop.MALFORMED, error=ERROR, stream="kline.1m.SOL_USDC"))
    (call,) = await commands(later(6), data)
    for attempt in range(3):
        assert isinstance(call, Call)
        await commands(CallFailed(call_id=call.call_id, endpoint="klines", error=ERROR))
        trade = decode_frame(frame_of("trade"))
        assert isinstance(trade, Frame)
        assert isinstance(trade.payload, Trade)
        emitted_us = first.end_us + (7 + attempt) * minute_us
        call, *_ = [*await commands(msgspec.structs.replace(trade.payload, emitted_us=emitted_us)), call]
    assert setting.deliveries.tallies.candle_gaps == 1
    assert "BACKPACK: candles of SOL-USDC are missing from 2026-11-18 14:37:00 to 2026-11-18 14:39:00: wrong" in caplog.text
    assert setting.channels.count("candles") == 5


async def test_without_candles_nothing_is_asked_for() -> None:
    setting = Setting()
    setting.want("trades")
    await setting.give_recorded("kline", "kline.1m")
    answer = CallAnswered(call_id=1, endpoint="klines", result=())
    for event in (DOWN, answer):
        assert await setting.deliveries.deliver(event, None, 9.0) == ()
    assert setting.calls == []
    assert setting.deliveries.candles.reasons() == []


def a_fill(trade_id: int | None = 3104477, order_id: str = "6120046020") -> Fill:
    return Fill(
        symbol="ETH_USDC",
        trade_id=trade_id,
        order_id=order_id,
        side="Bid",
        price=Decimal("3104.12"),
        quantity=Decimal("0.002"),
        fee=Decimal(0),
        fee_asset="ETH",
        maker=False,
        filled_us=1_000,
    )


async def test_a_fill_is_told_once_whoever_tells_it_first() -> None:
    setting = Setting()
    setting.want("fills")
    await setting.give_recorded("orderFill")
    await setting.give(Filled(fill=a_fill(), origin=Origin.RECONCILIATION))
    await setting.give_recorded("orderFill")
    assert [fill.id for _, fill, _ in setting.calls] == ["3104477"]
    # A trade with oneself belongs to two orders.
    await setting.give(Filled(fill=a_fill(order_id="1"), origin=Origin.RECONCILIATION))
    await setting.give(Filled(fill=a_fill(trade_id=9), origin=Origin.RECONCILIATION))
    await setting.give(Filled(fill=a_fill(trade_id=9), origin=Origin.RECONCILIATION))
    assert [(fill.id, fill.order_id) for _, fill, _ in setting.calls[1:]] == [("3104477", "1"), ("9", "6120046020")]
    # A settlement has no trade id, and there may be two that are equal in everything. The ledger has counted them.
    await setting.give(
        *[Filled(fill=a_fill(trade_id=None), origin=origin) for origin in (Origin.RECONCILIATION, Origin.STREAM)]
    )
    assert [fill.id for _, fill, _ in setting.calls[3:]] == [None, None]
    # Two of one id that differ in quantity are two.
    await setting.give(Filled(fill=msgspec.structs.replace(a_fill(), quantity=Decimal(77)), origin=Origin.RECONCILIATION))
    assert [(fill.id, fill.amount) for _, fill, _ in setting.calls[5:]] == [("3104477", Decimal(77))]


def ledger_events(origin: Origin) -> list[Event]:
    order = Order(
        order_id="5",
        symbol="SOL_USDC",
        side="Ask",
        order_type="Limit",
        time_in_force="GTC",
        self_trade_prevention="RejectTaker",
        state="Cancelled",
        executed_quantity=Decimal(1),
        executed_quote_quantity=Decimal(99),
        quantity=Decimal(3),
    )
    position = Position(symbol="SOL_USDC_PERP", net_quantity=Decimal(0), entry_price=Decimal(9), break_even_price=Decimal(8))
    balance = Balance(asset="SOL", available=Decimal(1), locked=Decimal(2), staked=Decimal(0))
    return [
        OrderChanged(order=order, origin=origin),
        PositionChanged(position=position, origin=origin),
        BalanceChanged(balance=balance, origin=origin),
    ]


async def test_the_ledger_tells_what_only_rest_knew_and_repeats_no_stream() -> None:
    setting = Setting()
    setting.want(*PRIVATE)
    await setting.give(*ledger_events(Origin.STREAM))
    assert setting.calls == []
    await setting.give(*ledger_events(Origin.RECONCILIATION))
    assert setting.channels == ["order_info", "positions", "balances"]
    assert (setting.deliveries.tallies.order_updates, setting.deliveries.tallies.position_updates) == (1, 1)
    order, position, balance = (found for _, found, _ in setting.calls)
    assert (order.symbol, order.status, order.remaining, order.type, order.timestamp) == (
        "SOL-USDC",
        "cancelled",
        Decimal(2),
        "limit",
        9.0,
    )
    assert (position.symbol, position.side, position.unrealised_pnl) == ("SOL-USDC-PERP", None, 0), "it is closed"
    assert (balance.currency, balance.balance, balance.reserved) == ("SOL", Decimal(1), Decimal(2))


async def test_a_position_keeps_what_rest_does_not_tell() -> None:
    setting = Setting()
    setting.want("positions")
    held = Position(symbol="SOL_USDC_PERP", net_quantity=Decimal(2), entry_price=Decimal(90), break_even_price=Decimal(91))

    def told(position: Position) -> PositionChanged:
        return PositionChanged(position=position, origin=Origin.RECONCILIATION)

    profitable = msgspec.structs.replace(held, unrealized_pnl=Decimal("1.5"))
    short = msgspec.structs.replace(held, net_quantity=Decimal(-1))
    closed = msgspec.structs.replace(held, net_quantity=Decimal(0))
    await setting.give(*map(told, (held, profitable, held, short, profitable, closed)))
    pnl = [found.unrealised_pnl for _, found, _ in setting.calls]
    assert pnl == [None, Decimal("1.5"), Decimal("1.5"), None, Decimal("1.5"), Decimal(0)], (
        "that of the other side is not its own"
    )


async def test_orders_and_fills_have_the_name_of_the_account() -> None:
    setting = Setting(account="main")
    setting.want(*PRIVATE)
    await setting.give_recorded("orderFill")
    await setting.give(*ledger_events(Origin.RECONCILIATION))
    accounts = {channel: found.account for channel, found, _ in setting.calls if hasattr(found, "account")}
    assert accounts == {"order_info": "main", "fills": "main"}


BIDS: tuple[Level, ...] = (Level("99.1", 5), Level("99.0", 7))
ASKS: tuple[Level, ...] = (Level("99.2", 1),)
SYNCED = BookSynced(stream=STREAM, symbol="SOL_USDC", last=10, engine_us=2_000_000, bids=BIDS, asks=ASKS)


def changed(last: int, bids: tuple[Level, ...] = (), asks: tuple[Level, ...] = ()) -> BookChanged:
    delta = Depth(
        symbol="SOL_USDC",
        engine_us=3_000_000,
        emitted_us=3_000_100,
        first_update_id=last,
        last_update_id=last,
        bids=bids,
        asks=asks,
    )
    return BookChanged(
        stream=STREAM,
        symbol="SOL_USDC",
        first=last,
        last=last,
        engine_us=3_000_000,
        bids=(),
        asks=(),
        verified=True,
        delta=delta,
    )


async def test_a_book_is_handed_on_whole_and_then_with_each_change() -> None:
    setting = Setting()
    gone = Level("99.0", 0)
    never_there = Level("98.0", 0)
    fresh = Level("99.3", 4)
    data = b'{"stream":"depth.SOL_USDC","data":{"e":"depth","u":11}}'
    await setting.give(SYNCED)
    await setting.give(changed(11, (gone, never_there), (fresh,)), data=data)
    await setting.give(changed(12), data=data)
    (first, whole), (second, change), (third, nothing) = setting.books
    assert (first, second, third) == (10, 11, 12)
    assert whole == {
        "timestamp": 2.0,
        "sequence_number": 10,
        "delta": None,
        "raw": None,
        "bids": by_price(BIDS),
        "asks": by_price(ASKS),
        "receipt": 9.0,
    }
    assert change["delta"] == {"bid": [gone], "ask": [fresh]}, "what was not there need not be deleted"
    assert change["raw"] == {"e": "depth", "u": 11}
    assert (change["bids"], change["asks"]) == ({Decimal("99.1"): Decimal(5)}, by_price([*ASKS, fresh]))
    assert change["timestamp"] == 3.0
    assert nothing["raw"] == {}, "a frame that was kept came with another one"
    assert nothing["delta"] == {"bid": [], "ask": []}
    tallies = setting.deliveries.tallies
    assert (tallies.last_sequence, tallies.snapshots) == (12, {STREAM: 9.0})


async def test_beyond_what_a_snapshot_knows_nothing_is_told() -> None:
    setting = Setting()
    bids = tuple(Level(1000 - number, 1) for number in range(SNAPSHOT_LIMIT))
    await setting.give(msgspec.structs.replace(SYNCED, bids=bids, asks=(Level(1001, 1),)))
    await setting.give(changed(11, (Level("0.5", 1), Level(1, 2)), (Level(9999, 1),)))
    _, change = setting.books[1]
    assert change["delta"] == {"bid": [Level(1, 2)], "ask": [Level(9999, 1)]}
    # The check against a fresh one knows more of what is near, so the book is handed on again.
    setting.book = Book("SOL_USDC", bids=BIDS, asks=ASKS, last=11, engine_us=4_000_000, limit=SNAPSHOT_LIMIT)
    await setting.give(BookVerified(stream=STREAM, symbol="SOL_USDC", last=11, against="bookTicker"))
    assert len(setting.books) == 2
    await setting.give(BookVerified(stream=STREAM, symbol="SOL_USDC", last=11, against="snapshot"), receipt=10.0)
    at, anew = setting.books[2]
    assert (at, anew["bids"], anew["asks"], anew["timestamp"]) == (11, by_price(BIDS), by_price(ASKS), 4.0)
    assert anew["delta"] is None


async def test_a_check_of_a_session_that_is_ahead_renews_the_book_once_that_is_delivered() -> None:
    setting = Setting()
    bids = tuple(Level(1000 - number, 1) for number in range(SNAPSHOT_LIMIT))
    await setting.give(msgspec.structs.replace(SYNCED, bids=bids, asks=(Level(1001, 1),)))
    setting.book = Book("SOL_USDC", bids=BIDS, asks=ASKS, last=13, engine_us=4_000_000, limit=SNAPSHOT_LIMIT)
    await setting.give(changed(11), BookVerified(stream=STREAM, symbol="SOL_USDC", last=11, against="snapshot"))
    await setting.give(changed(12), changed(13), changed(14))
    assert [(at, book["delta"] is None) for at, book in setting.books] == [
        (10, True),
        (11, False),
        (12, False),
        (13, False),
        (13, True),
        (14, False),
    ]
    assert setting.books[4][1]["bids"] == by_price(BIDS)


async def test_a_complete_book_is_not_handed_on_again_when_it_is_verified() -> None:
    setting = Setting()
    setting.book = Book("SOL_USDC", bids=BIDS, asks=ASKS, last=10, engine_us=4_000_000, limit=SNAPSHOT_LIMIT)
    await setting.give(SYNCED)
    await setting.give(BookVerified(stream=STREAM, symbol="SOL_USDC", last=10, against="snapshot"), receipt=10.0)
    assert len(setting.books) == 1
    assert setting.deliveries.tallies.snapshots == {STREAM: 10.0}


async def test_max_depth_is_cryptofeed_s() -> None:
    setting = Setting(max_depth=1)
    await setting.give(SYNCED)
    assert setting.books[0][1]["bids"] == {Decimal("99.1"): Decimal(5)}


DESYNCED = BookDesynced(stream=STREAM, symbol="SOL_USDC", last=10, reason="gap", diverged=False, error=ERROR)
DOWN = ConnectionDown(reason="lost", code=1006, retry_us=1_500_000)


async def test_backends_are_told_of_a_book_that_is_stale_and_of_its_return() -> None:
    setting = Setting()
    stale = BookStale(stream=STREAM, symbol="SOL_USDC", last=11, reason="mute\x1b")
    confirmed = BookConfirmed(stream=STREAM, symbol="SOL_USDC", last=11)
    await setting.give(ConnectionUp(attempt=1), SYNCED, changed(11), stale)
    handed = len(setting.books)
    assert [(row["sequence_number"], row["stale"], row["timestamp"]) for row in setting.rows] == [(11, "mute\\x1b", 9.0)]
    await setting.give(confirmed)
    assert (setting.rows[1]["sequence_number"], "stale" in setting.rows[1], setting.rows[1]["delta"]) == (11, False, None)
    assert setting.rows[1]["book"]["bid"] == by_price(BIDS)
    await setting.give(DESYNCED, DESYNCED)
    assert [row.get("stale") for row in setting.rows] == ["mute\\x1b", None, "gap"], "once"
    await setting.give(SYNCED, DOWN, DESYNCED)
    assert setting.rows[-1]["stale"] == "the connection is down: lost"
    assert len(setting.rows) == 4
    assert len(setting.books) == handed + 1, "other callbacks are told of books alone"


async def test_lines_name_the_channel_and_the_symbol(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()
    caplog.set_level(logging.INFO, LOGGER)
    await setting.give(ConnectionUp(attempt=1), SYNCED, DESYNCED, SYNCED)
    await setting.give(BookUnavailable(stream=STREAM, symbol="SOL_USDC", reason="404", retry_us=1_000_000))
    await setting.give(DOWN, DESYNCED, PeerSilent(silent_us=25_000_000), StreamLive(stream=STREAM))
    await setting.give(
        StreamsRefused(
            error=ERROR, code=4003, message="Invalid signature", suspects=("account.orderUpdate",), authentication=True
        )
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "BACKPACK: connected"),
        ("WARNING", "BACKPACK: l2_book of SOL-USDC is stale: gap; it is fetched anew"),
        ("INFO", "BACKPACK: resynced l2_book of SOL-USDC at 10"),
        ("WARNING", "BACKPACK: no snapshot for l2_book of SOL-USDC: 404; asked for again after 1.0 s"),
        ("WARNING", "BACKPACK: the connection is down (lost, code 1006), to be back in 1.5 s"),
        ("WARNING", "BACKPACK: nothing heard for 25 s, not even an answer to a ping"),
        ("ERROR", "BACKPACK: the exchange refused (4003 Invalid signature), one or all of: account.orderUpdate"),
    ]
    assert {record.name for record in caplog.records} == {LOGGER}
    assert setting.deliveries.books == {}


async def test_what_was_dropped_is_said_a_few_times_and_what_was_kept_back_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    setting = Setting()
    dropped = FrameDropped(reason=Drop.NOT_JSON, error=ERROR, excerpt="garbage")
    await setting.give(*[dropped] * 100)
    assert len(caplog.records) == 5
    assert "dropped payload (not JSON, stream None): garbage" in caplog.text
    now += 60.0
    await setting.give(dropped)
    assert len(caplog.records) == 6
    assert caplog.messages[-1].endswith("garbage (95 of these lines were left out)")


async def test_a_refused_signature_is_said_however_much_garbage_came_before_it(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()
    await setting.give(*[FrameDropped(reason=Drop.NOT_JSON, error=ERROR, excerpt="garbage")] * 100)
    await setting.give(
        ErrorReceived(error=ERROR, code=4000, message="other"),
        StreamsRefused(error=ERROR, code=4003, message="no\x1b[2J\nINFO all is well", suspects=("x",), authentication=True),
    )
    assert caplog.messages[-2:] == [
        "BACKPACK: the exchange answered 4000 other",
        "BACKPACK: the exchange refused (4003 no\\x1b[2J\\nINFO all is well), one or all of: x",
    ]


async def test_each_message_is_logged_where_that_is_asked_for_only(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()
    setting.want("trades")
    caplog.set_level(logging.INFO, LOGGER)
    await setting.give_recorded("trade")
    await setting.give(SYNCED, changed(11))
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, LOGGER)
    await setting.give_recorded("trade")
    await setting.give(changed(12))
    trade, book = (record.getMessage() for record in caplog.records)
    assert "trades" in trade
    assert "SOL-USDC" in trade
    assert book == "BACKPACK: l2_book SOL-USDC 12..12"


async def test_claims_that_expire_and_hold_again_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    setting = Setting()
    await setting.give(
        BookStale(stream=STREAM, symbol="SOL_USDC", last=7, reason="mute"),
        AccountStale(reason="mute"),
        BookConfirmed(stream=STREAM, symbol="SOL_USDC", last=9),
        AccountConfirmed(),
        BooksProgress(wanted=600, live=37, queued=500, remaining_us=16_800_000),
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "BACKPACK: l2_book of SOL-USDC is stale: mute; it goes on following its stream"),
        ("WARNING", "BACKPACK: the account is stale: mute"),
        ("INFO", "BACKPACK: l2_book of SOL-USDC is live again at 9"),
        ("INFO", "BACKPACK: the account is live, and proved again"),
        ("INFO", "BACKPACK: 37 of 600 books are live, the others wait for 17 s more"),
    ]


async def test_new_rules_of_a_market_are_taken_up_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    setting = Setting()
    old, new = (
        decode_json(
            json.dumps(market_object(msgspec.structs.replace(LISTINGS[0], ticks_per_price=ticks))).encode(), Market, "market"
        )
        for ticks in (1, 10)
    )
    await setting.give(MarketChanged(symbol="SOL_USDC", market=new, previous=old))
    assert setting.taken_up == ["SOL_USDC"]
    assert caplog.messages == ["BACKPACK: the exchange has changed the rules of SOL-USDC: tick size 0.1, step size 0.01"]
