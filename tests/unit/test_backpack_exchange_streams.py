"""What the simulated exchange sends on its public streams, in virtual time."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import starmap
from typing import Any

import msgspec
import pytest

from backpack_proto.decoding import from_wire
from backpack_proto.exchange import (
    LISTINGS,
    Exchange,
    ExchangeInput,
    FrameReceived,
    PingSocket,
    RequestReceived,
    Respond,
    SendFrame,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.exchange.stream.audience import PREVIEW, existing_streams
from backpack_proto.inputs import TimerFired
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import parse_stream
from backpack_proto.streams.payloads import BookTicker, Depth, Kline, Payload, Ticker, Trade
from backpack_proto.testing.laws import FakeClock
from payload_table import FRAMES

SYMBOLS = (
    "SOL_USDC",
    "BTC_USDC",
    "USDT_USDC",
    "SOL_USDC_PERP",
    "BTC_USDC_PERP",
    "kPEPE_USDC_PERP",
    "AAPL.US_USDC_PERP",
)
SPOT = SYMBOLS[:3]
PERPETUALS = SYMBOLS[3:]


class Envelope(msgspec.Struct):
    data: Payload
    stream: str


DECODE = msgspec.json.Decoder(Envelope, dec_hook=from_wire).decode


@dataclass
class World:
    """An exchange with one client that answers pings, and a clock."""

    exchange: Exchange
    clock: FakeClock = field(default_factory=FakeClock)

    def give(self, given: ExchangeInput) -> list[bytes]:
        """The frames that follow from an input."""
        frames = []
        for output in self.exchange.handle(given, self.clock.now):
            if isinstance(output, SendFrame):
                frames.append(output.data)
            elif isinstance(output, PingSocket):
                frames += self.give(SocketPonged(output.connection, output.payload))
        return frames

    def subscribe(self, *streams: str, connection: int = 1) -> None:
        frame = json.dumps({"method": "SUBSCRIBE", "params": streams}).encode()
        assert self.give(FrameReceived(connection, frame)) == []

    def turns(self, us: int) -> Iterator[list[bytes]]:
        """What each turn of the exchange sends, for so long."""
        end = self.clock.mono_us + us
        while (deadline := self.exchange.deadline) is not None and deadline <= end:
            self.clock.advance_to(deadline)
            yield self.give(TimerFired())
        self.clock.advance_to(end)

    def frames(self, us: int) -> list[bytes]:
        return [frame for turn in self.turns(us) for frame in turn]

    def get(self, target: str) -> Any:
        answer = self.exchange.handle(RequestReceived(1, "GET", target), self.clock.now)[-1]
        assert isinstance(answer, Respond)
        assert answer.status == 200
        return json.loads(answer.body)


def new_world(*streams: str, seed: int = 3, speed: float = 1.0) -> World:
    clock = FakeClock()
    world = World(Exchange(seed=seed, unix_us=clock.unix_us, speed=speed), clock)
    world.give(SocketOpened(1))
    world.subscribe(*streams)
    return world


@dataclass
class Replica:
    """A book as a client builds it: a snapshot, and then every delta."""

    bids: dict[Decimal, Decimal]
    asks: dict[Decimal, Decimal]
    last: int

    @classmethod
    def fetch(cls, world: World, symbol: str) -> Replica:
        body = world.get(f"/api/v1/depth?symbol={symbol}")
        assert type(body["lastUpdateId"]) is str
        bids, asks = ({Decimal(p): Decimal(q) for p, q in body[side]} for side in ("bids", "asks"))
        return cls(bids, asks, int(body["lastUpdateId"]))

    def apply(self, depth: Depth) -> None:
        if depth.last_update_id <= self.last:
            return
        assert depth.first_update_id <= self.last + 1
        self.last = depth.last_update_id
        for side, changes in ((self.bids, depth.bids), (self.asks, depth.asks)):
            for price, quantity in changes:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def apply_all(self, frames: list[bytes], stream: str) -> int:
        """Apply the deltas of one stream. How many there were."""
        deltas = [frame.data for frame in map(DECODE, frames) if frame.stream == stream]
        for delta in deltas:
            assert isinstance(delta, Depth)
            self.apply(delta)
        return len(deltas)

    def levels(self) -> tuple[tuple[Level, ...], tuple[Level, ...], int]:
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        return tuple(starmap(Level, bids)), tuple(starmap(Level, asks)), self.last


def of_type(frames: Iterable[bytes], kind: type) -> list[Any]:
    decoded = [DECODE(frame) for frame in frames]
    return [frame.data for frame in decoded if isinstance(frame.data, kind)]


def test_deltas_on_a_snapshot_are_the_book_at_every_id() -> None:
    world = new_world(*(f"depth.{symbol}" for symbol in SYMBOLS))
    replicas = {symbol: Replica.fetch(world, symbol) for symbol in SYMBOLS}
    for turn in world.turns(2_500_000):
        for delta in of_type(turn, Depth):
            assert delta.first_update_id == delta.last_update_id == replicas[delta.symbol].last + 1
            replicas[delta.symbol].apply(delta)
        for symbol in {delta.symbol for delta in of_type(turn, Depth)}:
            assert replicas[symbol].levels() == world.exchange.levels(symbol)


def test_ids_are_contiguous_above_two_to_the_32_and_different_per_market() -> None:
    world = new_world(*(f"depth.{symbol}" for symbol in SYMBOLS))
    starts = {symbol: world.exchange.levels(symbol)[2] for symbol in SYMBOLS}
    assert len(set(starts.values())) == len(SYMBOLS)
    assert min(starts.values()) > 2**32
    last = dict(starts)
    for delta in of_type(world.frames(20_000_000), Depth):
        assert delta.first_update_id == last[delta.symbol] + 1
        last[delta.symbol] = delta.last_update_id
    assert all(last[symbol] - starts[symbol] > 350 for symbol in SYMBOLS)


@pytest.mark.parametrize("window_ms", [200, 600, 1000])
def test_windows_join_and_say_the_same_as_every_event(window_ms: int) -> None:
    stream = f"depth.{window_ms}ms.SOL_USDC"
    world = new_world(stream, "depth.SOL_USDC")
    aggregated, exact = Replica.fetch(world, "SOL_USDC"), Replica.fetch(world, "SOL_USDC")
    last = aggregated.last
    frames = 0
    straddled = 0
    for turn in world.turns(12_000_000):
        for frame in map(DECODE, turn):
            assert isinstance(frame.data, Depth)
            if frame.stream != stream:
                exact.apply(frame.data)
                continue
            frames += 1
            straddled += frame.data.first_update_id < frame.data.last_update_id
            assert frame.data.first_update_id == last + 1
            last = frame.data.last_update_id
            aggregated.apply(frame.data)
            assert aggregated.levels() == exact.levels()
            for side in (frame.data.bids, frame.data.asks):
                assert list(side) == sorted(side)
    assert straddled > frames * 0.8
    assert 0.75 * 12_000 / window_ms < frames <= 12_000 / window_ms


def test_a_window_covers_no_hole_for_one_who_comes_back() -> None:
    stream = "depth.1000ms.SOL_USDC"
    world = new_world(stream, "depth.SOL_USDC")
    exact = Replica.fetch(world, "SOL_USDC")
    compared = 0
    for _ in range(8):
        for turn in world.turns(370_000):
            exact.apply_all(turn, "depth.SOL_USDC")
        world.give(FrameReceived(1, b'{"method":"UNSUBSCRIBE","params":["depth.1000ms.SOL_USDC"]}'))
        for turn in world.turns(150_000):
            exact.apply_all(turn, "depth.SOL_USDC")
        world.subscribe(stream)
        aggregated = Replica.fetch(world, "SOL_USDC")
        for turn in world.turns(1_200_000):
            exact.apply_all(turn, "depth.SOL_USDC")
            if aggregated.apply_all(turn, stream):
                assert aggregated.levels() == exact.levels()
                compared += 1
    assert compared >= 8


def test_one_who_joins_in_the_middle_of_a_window_gets_all_of_it() -> None:
    world = new_world("depth.1000ms.BTC_USDC_PERP")
    world.frames(5_500_000)
    world.give(SocketOpened(2))
    world.subscribe("depth.1000ms.BTC_USDC_PERP", connection=2)
    outputs: dict[int, list[bytes]] = defaultdict(list)
    for _ in range(200):
        world.clock.advance_to(world.exchange.deadline)
        for output in world.exchange.handle(TimerFired(), world.clock.now):
            if isinstance(output, SendFrame):
                outputs[output.connection].append(output.data)
    assert outputs[2]
    assert outputs[1] == outputs[2]


def test_the_book_is_never_crossed_and_neither_grows_nor_dies() -> None:
    world = new_world(*(f"bookTicker.{symbol}" for symbol in SYMBOLS), speed=20.0)
    for turn in world.turns(6_000_000):
        for ticker in of_type(turn, BookTicker):
            assert ticker.bid_price < ticker.ask_price
    for symbol in SYMBOLS:
        bids, asks, _ = world.exchange.levels(symbol)
        assert 150 < len(bids) < 700
        assert 150 < len(asks) < 700
        assert bids[0][0] < asks[0][0]


def test_book_ticker_is_the_top_at_its_id_and_comes_on_either_side_of_the_delta() -> None:
    world = new_world(*(f"{channel}.{symbol}" for channel in ("depth", "bookTicker") for symbol in SYMBOLS))
    replicas = {symbol: Replica.fetch(world, symbol) for symbol in SYMBOLS}
    tops = {symbol: (bids[0], asks[0]) for symbol in SYMBOLS for bids, asks, _ in [world.exchange.levels(symbol)]}
    orders: Counter[bool] = Counter()
    for turn in world.turns(10_000_000):
        decoded = [DECODE(frame).data for frame in turn]
        for data in decoded:
            if isinstance(data, Depth):
                replicas[data.symbol].apply(data)
        told = {data.symbol: (at, data) for at, data in enumerate(decoded) if isinstance(data, BookTicker)}
        for symbol in {data.symbol for data in decoded if isinstance(data, Depth)}:
            bids, asks, last = replicas[symbol].levels()
            top = (bids[0], asks[0])
            if top == tops[symbol]:
                assert symbol not in told
                continue
            tops[symbol] = top
            at, ticker = told[symbol]
            assert ticker.update_id == last
            assert (tuple(top[0]), tuple(top[1])) == (
                (ticker.bid_price, ticker.bid_quantity),
                (ticker.ask_price, ticker.ask_quantity),
            )
            orders[any(isinstance(data, Depth) for data in decoded[:at])] += 1
    assert min(orders[True], orders[False]) > 0.3 * orders.total()


def test_trades_happened_at_prices_that_the_book_had() -> None:
    world = new_world(*(f"{channel}.{symbol}" for channel in ("depth", "trade") for symbol in SYMBOLS))
    replicas = {symbol: Replica.fetch(world, symbol) for symbol in SYMBOLS}
    ids: dict[str, int] = {}
    makers: Counter[bool] = Counter()
    for turn in world.turns(12_000_000):
        before = (
            {symbol: (dict(replica.bids), dict(replica.asks)) for symbol, replica in replicas.items()} if len(turn) > 1 else {}
        )
        decoded = [DECODE(frame).data for frame in turn]
        for data in decoded:
            if isinstance(data, Depth):
                replicas[data.symbol].apply(data)
        traded: Counter[tuple[str, bool, Decimal]] = Counter()
        for trade in decoded:
            if isinstance(trade, Trade):
                assert trade.trade_id is not None
                assert trade.trade_id == ids.get(trade.symbol, trade.trade_id)
                ids[trade.symbol] = trade.trade_id + 1
                makers[trade.buyer_is_maker] += 1
                traded[trade.symbol, trade.buyer_is_maker, trade.price] += trade.quantity  # type: ignore[assignment]
                # A newer order takes from an older one, and ids are given in the order of arrival.
                assert trade.buyer_order_id is not None
                assert trade.seller_order_id is not None
                assert (int(trade.buyer_order_id) < int(trade.seller_order_id)) is trade.buyer_is_maker
        for (symbol, buyer_is_maker, price), quantity in traded.items():
            bids, asks = before[symbol]
            after = replicas[symbol].bids if buyer_is_maker else replicas[symbol].asks
            assert (bids if buyer_is_maker else asks)[price] - after.get(price, Decimal(0)) == quantity
    assert min(makers.values()) > 20


def test_every_market_is_lively_and_never_silent_for_long() -> None:
    channels = ("depth", "bookTicker", "trade", "ticker")
    world = new_world(*(f"{channel}.{symbol}" for channel in channels for symbol in SYMBOLS))
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[str, int] = {}
    for turn in world.turns(60_000_000):
        for data in (DECODE(frame).data for frame in turn):
            assert isinstance(data, Depth | BookTicker | Trade | Ticker)
            counts[type(data).__name__, data.symbol] += 1
            if isinstance(data, Depth):
                assert data.engine_us - last.get(data.symbol, data.engine_us) <= 1_500_000
                last[data.symbol] = data.engine_us
    for symbol in SYMBOLS:
        assert counts["Depth", symbol] / 60 > (25 if symbol.startswith("AAPL") else 30)
        assert 2 < counts["BookTicker", symbol] / 60 < 15
        assert 1 < counts["Trade", symbol] / 60 < 9
        assert counts["Ticker", symbol] == 60
    assert counts["Depth", "AAPL.US_USDC_PERP"] < counts["Depth", "BTC_USDC_PERP"]


def test_books_see_sweeps_and_empty_deltas() -> None:
    world = new_world(*(f"depth.{symbol}" for symbol in SYMBOLS))
    sizes: Counter[int] = Counter(len(delta.bids) + len(delta.asks) for delta in of_type(world.frames(60_000_000), Depth))
    assert sizes[1] > 0.9 * sizes.total()
    assert sizes[0] > 0
    assert sum(count for size, count in sizes.items() if size > 2) > 0


def test_speed_is_how_much_happens_in_a_second() -> None:
    def deltas(speed: float) -> int:
        return len(new_world("depth.SOL_USDC", speed=speed).frames(10_000_000))

    usual = deltas(1.0)
    assert deltas(0.0) == 0
    assert 0.3 * usual < deltas(0.5) < 0.75 * usual
    assert 3 * usual < deltas(4.0) < 6 * usual


MEMBERS = {
    frame["data"]["e"]: list(frame["data"])
    for frame in map(json.loads, sorted(FRAMES, key=len))
    if "e" in frame["data"] and not frame["stream"].startswith("account.")
}
"""Of each kind of public frame, in the order of the wire, from its longest example."""


def public_streams() -> list[str]:
    # The spot book of a stock is closed while its sessions are open.
    known = [name for name in existing_streams(LISTINGS) if not name.startswith(f"{PREVIEW}.") and ".MU" not in name]
    return sorted(name for name in known if not parse_stream(name).private)


def test_every_stream_that_exists_sends_and_every_frame_is_typed_and_of_the_wire() -> None:
    forced = [name for name in public_streams() if parse_stream(name).channel is Channel.LIQUIDATION]
    streams = [name for name in public_streams() if name not in forced]
    world = new_world(*streams, "liquidation", seed=11)
    seen: Counter[str] = Counter()
    for frame in world.frames(65_000_000):
        text = frame.decode()
        raw = json.loads(text)
        assert list(raw) == ["data", "stream"]
        if raw["data"]["e"].startswith("stock"):
            # Known at second hand: neither their order nor which of them come is (docs/protocol.md 4.14).
            assert {"e", "symbol", "bid", "ask"} <= set(raw["data"])
        else:
            assert list(raw["data"]) == MEMBERS[raw["data"]["e"]]
        assert json.dumps(raw, separators=(",", ":")) == text
        typed = DECODE(frame)
        seen[typed.stream] += 1
    assert set(seen) == {*streams, "liquidation"}
    assert {parse_stream(name).channel for name in seen} == {channel for channel in Channel if not channel.private}
    for symbol in PERPETUALS:
        assert 64 <= seen[f"markPrice.{symbol}"] <= 66
        assert 1 <= seen[f"openInterest.{symbol}"] <= 2


def test_numbers_are_padded_in_books_and_trades_and_stripped_elsewhere() -> None:
    world = new_world(*(f"{form}.BTC_USDC" for form in ("depth", "bookTicker", "trade", "ticker")))
    kinds: Counter[str] = Counter()
    for frame in world.frames(10_000_000):
        data = json.loads(frame)["data"]
        kinds[data["e"]] += 1
        match data:
            case {"e": "depth", "a": asks, "b": bids}:
                levels = asks + bids
            case {"e": "bookTicker"}:
                levels = [(data["a"], data["A"]), (data["b"], data["B"])]
            case {"e": "trade"}:
                levels = [(data["p"], data["q"])]
            case _:
                levels = []
                assert not any(data[name].endswith("0") for name in "Vv" if "." in data[name])
        for price, quantity in levels:
            assert (len(price.split(".")[1]), len(quantity.split(".")[1])) == (1, 5)
    assert set(kinds) == {"depth", "bookTicker", "trade", "ticker"}


def test_engine_time_never_goes_back_and_frames_leave_100_to_300_us_later() -> None:
    world = new_world("depth.SOL_USDC", "depth.BTC_USDC", "trade.SOL_USDC")
    before = 0
    for data in of_type(world.frames(10_000_000), Depth):
        assert data.engine_us >= before
        before = data.engine_us
        assert 100 <= data.emitted_us - data.engine_us <= 300
        assert abs(data.engine_us - world.clock.unix_us) < 10_100_000


def test_klines_end_with_a_closed_frame_and_agree_with_the_trades() -> None:
    world = new_world("kline.1s.SOL_USDC", "kline.1m.SOL_USDC", "trade.SOL_USDC")
    trades: list[Trade] = []
    closed: dict[str, list[Kline]] = defaultdict(list)
    for frame in map(DECODE, world.frames(130_000_000)):
        if isinstance(frame.data, Trade):
            trades.append(frame.data)
        if isinstance(frame.data, Kline) and frame.data.closed:
            closed[frame.stream].append(frame.data)
    for candles in closed.values():
        assert [candle.end_us for candle in candles[:-1]] == [candle.start_us for candle in candles[1:]]
    assert len(closed["kline.1m.SOL_USDC"]) == 2
    assert len(closed["kline.1s.SOL_USDC"]) in {129, 130}
    empty = [candle for candle in closed["kline.1s.SOL_USDC"] if candle.trade_count == 0]
    assert empty
    for candle in empty:
        assert (candle.open, candle.high, candle.low, candle.close) == (None, None, None, None)
        assert candle.volume == 0
    whole = closed["kline.1m.SOL_USDC"][1]
    rows = world.get("/api/v1/klines?symbol=SOL_USDC&interval=1m&startTime=1788367440")
    row = next(row for row in rows if row["start"] == utc(whole.start_us))
    assert row["end"] == utc(whole.end_us)
    inside = [trade for trade in trades if row["start"] <= utc(trade.engine_us) < row["end"]]
    assert whole.trade_count == len(inside) == int(row["trades"])
    assert whole.volume == sum(trade.quantity for trade in inside) == Decimal(row["volume"])
    assert (whole.open, whole.close) == (inside[0].price, inside[-1].price) == (Decimal(row["open"]), Decimal(row["close"]))
    assert whole.high == max(trade.price for trade in inside) == Decimal(row["high"])
    assert Decimal(row["quoteVolume"]) == sum(trade.price * trade.quantity for trade in inside)


def utc(unix_us: int) -> str:
    return datetime.fromtimestamp(unix_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def test_liquidations_come_under_both_names() -> None:
    world = new_world("liquidation", *(f"liquidation.{symbol}" for symbol in PERPETUALS), speed=10.0)
    all_markets: list[Any] = []
    one: list[Any] = []
    for frame in world.frames(16_000_000):
        raw = json.loads(frame)
        assert raw["data"]["S"] in {"Bid", "Ask"}
        (all_markets if raw["stream"] == "liquidation" else one).append(raw["data"])
    assert all_markets == one
    assert len(all_markets) > 2


def test_the_ticker_stream_and_the_route_agree() -> None:
    world = new_world("ticker.SOL_USDC_PERP")
    for turn in world.turns(5_000_000):
        for ticker in of_type(turn, Ticker):
            row = world.get("/api/v1/ticker?symbol=SOL_USDC_PERP")
            assert Decimal(row["lastPrice"]) == ticker.last_price
            assert Decimal(row["firstPrice"]) == ticker.first_price
            assert Decimal(row["quoteVolume"]) == ticker.quote_volume
            assert int(row["trades"]) == ticker.trade_count


@pytest.mark.parametrize(
    "stream",
    ["markPrice.SOL_USDC", "depth.HNT_USDC", "bookTicker.NOPE_USDC", "stockPrice.NVDA", "preview.NOPE", "depth.5.SOL_USDC"],
)
def test_streams_that_do_not_exist_are_silent(stream: str) -> None:
    assert new_world(stream).frames(5_000_000) == []
