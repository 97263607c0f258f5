"""BackpackFeed in programs of cryptofeed, against the simulated exchange over TLS, and on recorded frames without any network."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from itertools import starmap

from cryptofeed import FeedHandler
from cryptofeed.exchanges import EXCHANGE_MAP
from cryptofeed.symbols import Symbols

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import OrderSide, Outcome
from backpack_proto.exchange.market.listings import to_decimal
from backpack_proto.streams.levels import Level
from backpack_runtime.client import BackpackClient
from backpack_runtime.cryptofeed import BackpackConfig, BackpackFeed, register
from backpack_runtime.cryptofeed.markets import loading as market_loading
from backpack_runtime.cryptofeed.markets.symbols import symbols_of
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from levels import by_price
from payload_table import FRAMES

pytestmark = pytest.mark.anyio

Running = Callable[[Any], AbstractAsyncContextManager[None]]
Levels = dict[Decimal, Decimal]

FIXTURES = Path(__file__).parent.parent / "fixtures" / "backpack"
PATIENCE_SECONDS = 60
HANDLER = {"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}}
MARKET_DATA = ["trades", "l2_book", "l1_book", "ticker", "candles", "funding", "index", "open_interest"]
PRIVATE = ["order_info", "fills", "positions", "balances"]
SPOT = ["SOL-USDC"]
PERPETUALS = ["BTC-USDC-PERP", "AAPL.US-USDC-PERP", "SOL-USDC-PERP"]


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cryptofeed's registries are those of the process. Its files go to where they harm nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(market_loading, "_origin", [])
    before = dict(EXCHANGE_MAP)
    yield
    EXCHANGE_MAP.clear()
    EXCHANGE_MAP.update(before)
    Symbols.data.pop("BACKPACK", None)


class Program:
    """The callbacks of a program, and what they were given."""

    def __init__(self, channels: list[str]) -> None:
        self.got: dict[str, list[Any]] = defaultdict(list)
        self.receipts: dict[str, list[float]] = defaultdict(list)
        self.callbacks = {channel: self._callback(channel) for channel in channels}

    def _callback(self, channel: str) -> Callable[[Any, float], Any]:
        async def take(found: Any, receipt: float) -> None:
            self.got[channel].append(found)
            self.receipts[channel].append(receipt)

        return take

    async def until(self, *channels: str, count: int = 1) -> None:
        """Wait for so many objects of each channel."""
        await until(lambda: all(len(self.got[channel]) >= count for channel in channels), lambda: str(self.counts))

    @property
    def counts(self) -> dict[str, int]:
        return {channel: len(self.got[channel]) for channel in self.callbacks}


async def until(reached: Callable[[], object], what: Callable[[], str] = str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it did not come to pass: {what()}") from None


@asynccontextmanager
async def a_trader(sandbox: Sandbox) -> AsyncIterator[BackpackClient]:
    signer = Signer(Credentials(sandbox.secret))
    async with BackpackClient((), channels=(), signer=signer, settings=sandbox.settings) as client:
        yield client


async def trade(sandbox: Sandbox, program: Program) -> None:
    """Place orders until every private channel has told of them, and cancel what is left."""
    async with a_trader(sandbox) as trader:
        bids, _, _ = sandbox.exchange.levels("SOL_USDC")
        price = (bids[0][0] * Decimal("0.95")).quantize(Decimal("0.1"))
        resting = await trader.place_order("SOL-USDC", "Bid", "Limit", price=price, quantity="1.50", client_id=7)
        filled = await trader.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
        await trader.place_order("SOL-USDC-PERP", "Ask", "Market", quantity="2")
        await program.until(*PRIVATE)
        await trader.cancel_order("SOL-USDC", client_id=7)

        def ended() -> bool:
            return {
                (resting.order_id, "open"),
                (resting.order_id, "cancelled"),
                (filled.order_id, "filled"),
            } <= {(order.id, order.status) for order in program.got["order_info"]}

        await until(ended, lambda: str(program.got["order_info"]))


def speak(sandbox: Sandbox) -> None:
    """Say at once what the exchange says once a minute."""
    engine_us = sandbox.exchange._engine_us
    for publication in sandbox.exchange._publications.values():
        for frame in publication.minute(engine_us):
            sandbox.inject(frame.data)


def check_market_data(program: Program) -> None:
    for channel in MARKET_DATA:
        for found in program.got[channel]:
            assert found.exchange == "BACKPACK", channel
            assert isinstance(found.timestamp, float), channel
    for found in program.got["trades"]:
        assert isinstance(found.id, str)
        assert isinstance(found.price, Decimal)
        assert found.side in {"buy", "sell"}
        assert found.raw["p"] == str(found.price)
    for found in program.got["ticker"]:
        assert found.bid < found.ask
    for found in program.got["candles"]:
        assert found.interval == "1s"
        assert found.stop - found.start == 1.0
        assert found.low <= found.open <= found.high
    for found in program.got["funding"]:
        assert found.symbol in PERPETUALS
        assert found.next_funding_time > found.timestamp
    assert {found.symbol for found in program.got["index"]} == set(PERPETUALS)
    assert {found.symbol for found in program.got["open_interest"]} == set(PERPETUALS)
    assert {found.symbol for found in program.got["l1_book"]} == {*SPOT, *PERPETUALS}


def check_account(program: Program, sandbox: Sandbox) -> None:
    account = sandbox.exchange.account
    fills = program.got["fills"]
    assert sorted((fill.order_id, fill.id) for fill in fills) == sorted(
        (str(fill.order_id), str(fill.trade_id)) for fill in account.fills
    )
    assert {fill.liquidity for fill in fills} == {"taker"}
    position = program.got["positions"][-1]
    assert (position.symbol, position.position, position.side) == ("SOL-USDC-PERP", Decimal(-2), "short")
    balances = {found.currency: (found.balance, found.reserved) for found in program.got["balances"]}
    assert balances == {asset: (held.available, held.locked) for asset, held in account.balances.items() if asset in balances}
    assert {"SOL", "USDC"} <= balances.keys()
    for channel in PRIVATE:
        for found in program.got[channel]:
            assert isinstance(found.timestamp, float)
            assert json.dumps(found.to_dict(numeric_type=float, none_to=None))


async def in_a_thread(make: Callable[[], Any]) -> Any:
    """Earlier versions of cryptofeed load the markets, and block, where a feed is made. The sandbox answers in this thread."""
    return await asyncio.to_thread(make)


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "by instance"])
async def test_a_program_receives_every_channel(running: Running, *, by_name: bool) -> None:
    register(native=True)
    program = Program([*MARKET_DATA, *PRIVATE])
    wanted: dict[str, Any] = {
        "symbols": [*SPOT, *PERPETUALS],
        "channels": [*MARKET_DATA, *PRIVATE],
        "callbacks": program.callbacks,
        "candle_interval": "1s",
    }
    async with serve_sandbox(tls=True, speed=2.0) as sandbox:
        if by_name:
            section = {
                "key_id": sandbox.api_key,
                "key_secret": sandbox.secret,
                "use_sandbox": True,
                "sandbox_url": sandbox.rest_url,
                "ca_file": str(sandbox.ca_file),
            }
            handler = FeedHandler(config={**HANDLER, "backpack": section})
            await in_a_thread(lambda: handler.add_feed("BACKPACK", **wanted))
        else:
            handler = FeedHandler(config=HANDLER)
            config = BackpackConfig(
                enable_private_channels=True,
                auth={"api_key": sandbox.api_key, "public_key": sandbox.api_key, "private_key": sandbox.secret},
                use_sandbox=True,
                sandbox_url=sandbox.rest_url,
                ca_file=sandbox.ca_file,
            )
            # As the specification of this feed names them.
            wanted["channels"] = [*MARKET_DATA, "order.*", "fills", "position.*", "balances"]
            handler.add_feed(await in_a_thread(lambda: BackpackFeed(config=config, **wanted)))
        (feed,) = handler.feeds
        assert isinstance(feed, BackpackFeed)
        assert not feed.health().healthy
        async with running(handler):
            await program.until("l2_book", "balances")
            await trade(sandbox, program)
            speak(sandbox)
            await program.until(*MARKET_DATA, count=3)
            await until(lambda: feed.health().healthy, lambda: str(feed.health().reasons))
        check_market_data(program)
        check_account(program, sandbox)
        counters = feed.metrics_snapshot()
        assert counters["dropped_messages"] == 0
        assert counters["book_divergences"] == 0
        assert counters["order_updates"] > 0
        counts = program.counts
        await asyncio.sleep(0.1)
        assert program.counts == counts, "nothing is delivered once the feed has stopped"


class Transcript:
    """What the exchange's own books were at each update id."""

    def __init__(self, sandbox: Sandbox, symbols: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.books: dict[tuple[str, int], tuple[Levels, Levels]] = {}
        self._exchange = sandbox.exchange
        for name, symbol in symbols.items():
            bids, asks, update_id = self._exchange.levels(symbol)
            self.books[name, update_id] = by_price(bids), by_price(asks)
            publication = self._exchange._publications[symbol]
            noting = self._noting(name, symbol, update_id, publication.book_event)
            monkeypatch.setattr(publication, "book_event", noting)

    def _noting(self, name: str, symbol: str, last: int, tell: Callable[..., Any]) -> Callable[..., Any]:
        listing = self._exchange._markets[symbol].listing

        def told(outcome: Outcome, engine_us: int) -> Any:
            nonlocal last
            if outcome.update_id is not None:
                bids, asks = (dict(side) for side in self.books[name, last])
                for change in outcome.changes:
                    side = bids if change.side is OrderSide.BID else asks
                    price = to_decimal(change.price, listing.price_decimals)
                    if change.lots:
                        side[price] = to_decimal(change.lots, listing.quantity_decimals)
                    else:
                        side.pop(price, None)
                last = outcome.update_id
                self.books[name, last] = bids, asks
                if last % 20 == 0:
                    assert self._exchange.levels(symbol) == (
                        tuple(starmap(Level, sorted(bids.items(), reverse=True))),
                        tuple(starmap(Level, sorted(asks.items()))),
                        last,
                    )
            return tell(outcome, engine_us)

        return told


class Follower:
    """A callback that compares each book with the exchange's, and follows the deltas like somebody who keeps a book of his own."""

    def __init__(self, transcript: Transcript) -> None:
        self.compared: dict[str, int] = defaultdict(int)
        self.snapshots: dict[str, int] = defaultdict(int)
        self.wrong: list[str] = []
        self._transcript = transcript
        self._last: dict[str, int] = {}
        self._own: dict[str, tuple[Levels, Levels]] = {}

    async def __call__(self, book: Any, receipt: float) -> None:
        name, at = book.symbol, book.sequence_number
        held = book.book.bids.to_dict(), book.book.asks.to_dict()
        if book.delta is None:
            self.snapshots[name] += 1
            self._own[name] = dict(held[0]), dict(held[1])
        else:
            if at <= self._last[name]:
                self.wrong.append(f"{name} went from {self._last[name]} to {at}")
            for side, levels in zip(self._own[name], (book.delta["bid"], book.delta["ask"]), strict=True):
                for price, quantity in levels:
                    if quantity:
                        side[price] = quantity
                    else:
                        del side[price]
        self._last[name] = at
        exchange = self._transcript.books.get((name, at))
        if exchange is None or held != exchange or self._own[name] != exchange:
            self.wrong.append(f"{name} at {at}")
        if list(held[0]) != sorted(held[0], reverse=True) or list(held[1]) != sorted(held[1]):
            self.wrong.append(f"{name} at {at} is not in order")
        assert receipt >= book.timestamp
        self.compared[name] += 1


async def test_books_are_the_exchange_s_at_every_update_id(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = {"SOL-USDC": "SOL_USDC", "AAPL.US-USDC-PERP": "AAPL.US_USDC_PERP"}
    # Slow enough for the comparison of whole books to keep up.
    async with serve_sandbox(tls=True, speed=1.0, seed=11) as sandbox:
        transcript = Transcript(sandbox, symbols, monkeypatch)
        follower = Follower(transcript)
        settings = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "ca_file": sandbox.ca_file}
        feed = await in_a_thread(
            lambda: BackpackFeed(config=settings, symbols=[*symbols], channels=["l2_book"], callbacks={"l2_book": follower})
        )
        handler = FeedHandler(config=HANDLER)
        handler.add_feed(feed)
        async with running(handler):
            await until(lambda: len(follower.compared) == 2 and min(follower.compared.values()) >= 30)
            # A cut and what follows it are no excuse.
            sandbox.drop_connections()
            await until(lambda: min(follower.snapshots.values()) == 2, lambda: str(follower.snapshots))
            before = dict(follower.compared)
            await until(lambda: all(count >= before[name] + 30 for name, count in follower.compared.items()))
        assert follower.wrong == []
        assert follower.snapshots == dict.fromkeys(symbols, 2)
        assert feed.metrics_snapshot()["book_divergences"] == 0
        assert feed.metrics_snapshot()["ws_reconnects"] == 1


class Recording:
    """A connection that is played back: it has a subscription, and takes what is written."""

    def __init__(self, subscription: dict[str, list[str]]) -> None:
        self.subscription = subscription
        self.written: list[Any] = []
        self.raw_data_callback = None

    async def write(self, text: str) -> None:
        self.written.append(json.loads(text))


class Answers:
    """cryptofeed's HTTP connection, without a network."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def read(self, address: str, header: object = None) -> str:
        assert not header
        self.asked.append(address)
        (answer,) = (answer for part, answer in self.answers.items() if part in address)
        return json.dumps(answer)

    async def close(self) -> None:
        pass


def recorded(stream: str) -> list[bytes]:
    """The recorded frames of a stream, in order."""
    return [line for line in FRAMES if json.loads(line)["stream"] == stream]


async def test_recorded_snapshot_and_deltas_give_the_book_without_a_network() -> None:
    markets = json.loads((FIXTURES / "rest.json").read_text())["markets"]["body"]
    spot = {**markets[0], "symbol": "SOL_USDC", "baseSymbol": "SOL", "quoteSymbol": "USDC", "marketType": "SPOT"}
    Symbols.set("BACKPACK", *symbols_of([spot]))
    program = Program(["l2_book", "ticker", "trades"])
    seen: list[tuple[int, Levels, Levels, Any]] = []

    async def follow(book: Any, _receipt: float) -> None:
        seen.append((book.sequence_number, book.book.bids.to_dict(), book.book.asks.to_dict(), book.delta))

    feed: Any = BackpackFeed(
        symbols=["SOL-USDC"],
        channels=["l2_book", "ticker", "trades"],
        callbacks={**program.callbacks, "l2_book": follow},
    )
    snapshot = {
        "asks": [["143.31", "18.25"], ["143.40", "2"]],
        "bids": [["143.20", "1"], ["143.29", "7.5"]],
        "lastUpdateId": "5120449001",
        "timestamp": 1795012401309655,
    }
    await feed.http_conn.close()
    answers = Answers({"/api/v1/depth": snapshot, "/api/v1/markets": []})
    feed.http_conn = answers
    connection = Recording({"depth": ["SOL_USDC"], "bookTicker>ticker": ["SOL_USDC"], "trade": ["SOL_USDC"]})
    await feed.subscribe(connection)
    frames = [*recorded("bookTicker.SOL_USDC"), *recorded("depth.SOL_USDC"), *recorded("trade.SOL_USDC")]
    assert len(frames) >= 4
    for frame in frames:
        engine_us = json.loads(frame)["data"]["E"]
        await feed.message_handler(frame.decode(), connection, engine_us / 1e6)
    assert connection.written == [
        {"method": "SUBSCRIBE", "params": [f"{kind}.SOL_USDC"]} for kind in ("depth", "bookTicker", "trade")
    ]
    (snapshots,) = (url for url in answers.asked if "/depth" in url)
    assert "symbol=SOL_USDC" in snapshots
    bids = {Decimal("143.29"): Decimal("7.5"), Decimal("143.20"): Decimal(1)}
    asks = {Decimal("143.31"): Decimal("18.25"), Decimal("143.40"): Decimal(2)}
    later = {Decimal("143.31"): Decimal("18.20")}
    assert seen == [
        (5120449001, bids, asks, None),
        (5120449002, bids, later, {"bid": [], "ask": [(Decimal("143.40"), Decimal(0)), (Decimal("143.31"), Decimal("18.20"))]}),
        (5120449003, bids, later, {"bid": [], "ask": []}),
    ]
    (ticker,) = program.got["ticker"]
    assert (ticker.bid, ticker.ask) == (Decimal("143.29"), Decimal("143.31"))
    (sale,) = program.got["trades"]
    assert (sale.side, sale.id, sale.timestamp) == ("sell", "41399812", 1795012402.744398)
    assert feed.metrics_snapshot()["dropped_messages"] == 0
    await feed.shutdown()
