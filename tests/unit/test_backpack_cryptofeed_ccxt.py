from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

import ccxt
from cryptofeed.defines import CANDLES, L2_BOOK, TICKER, TRADES
from cryptofeed.exceptions import UnsupportedDataFeed, UnsupportedSymbol
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols

from backpack_runtime.cryptofeed.ccxt.connection import CcxtConnection, CcxtMessage
from backpack_runtime.cryptofeed.ccxt.feed import CcxtBackpackFeed
from backpack_runtime.cryptofeed.ccxt.sources import (
    INTERVALS,
    POLLED,
    WATCHED,
    BookTaken,
    CandleSeen,
    QuoteTaken,
    Wish,
)
from backpack_runtime.cryptofeed.errors import BackpackWebsocketError
from backpack_runtime.cryptofeed.markets import loading as market_loading
from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.addresses import REST_URL

NAMES = {"SOL-USDC": "SOL_USDC", "BTC-USDC-PERP": "BTC_USDC_PERP"}
RECEIPT = 1_700_000_000.5
MINUTE = INTERVALS["1m"]
WISH = Wish("", 0.0, "1m", 0)


@pytest.fixture(autouse=True)
def markets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The markets are known, so nothing is asked for."""
    monkeypatch.setattr(market_loading, "_origin", [REST_URL])
    before = dict(Symbols.data)
    Symbols.set("BACKPACK", dict(NAMES), {"instrument_type": dict.fromkeys(NAMES, "spot")})
    yield
    Symbols.data = before


def feed(**options: Any) -> tuple[CcxtBackpackFeed, list[tuple[str, Any, float]]]:
    """A feed, and a list of what its callbacks get."""
    delivered: list[tuple[str, Any, float]] = []

    def callback(channel: str) -> Callable[[Any, float], Any]:
        async def deliver(given: Any, receipt: float) -> None:
            delivered.append((channel, given, receipt))

        return deliver

    channels = [TRADES, L2_BOOK, TICKER, CANDLES]
    made = CcxtBackpackFeed(
        {"log": {"disabled": True}},
        **{"symbols": list(NAMES), "channels": channels, "callbacks": {name: callback(name) for name in channels}, **options},
    )
    return made, delivered


def handle(given: CcxtBackpackFeed, *news: Any) -> None:
    async def run() -> None:
        ((conn, *_),) = given.connect()
        for one in news:
            await given.message_handler(CcxtMessage("?", "SOL_USDC", RECEIPT, [one]), conn, RECEIPT)

    asyncio.run(run())


def candle(minute: int, close: float | None) -> CandleSeen:
    return CandleSeen(minute * MINUTE, (close, close, close, close), 2.5)


def test_a_trade_is_converted_without_the_noise_of_binary_floats() -> None:
    given, delivered = feed()
    told = {"side": "sell", "amount": 0.1, "price": 1e-07, "timestamp": 1_700_000_000_123, "id": "77", "info": {"t": 77}}
    handle(given, told)
    ((channel, trade, receipt),) = delivered
    assert (channel, receipt) == (TRADES, RECEIPT)
    assert (trade.exchange, trade.symbol, trade.side, trade.id) == ("BACKPACK", "SOL-USDC", "sell", "77")
    assert (trade.amount, trade.price, trade.timestamp) == (Decimal("0.1"), Decimal("0.0000001"), 1_700_000_000.123)
    assert trade.raw == {"t": 77}


def test_a_book_is_a_whole_one_each_time() -> None:
    given, delivered = feed()
    handle(given, BookTaken([[99.1, 2.0], [99.0, 1.5]], [[99.2, 3.0]], 1_700_000_000_250, 42))
    ((channel, book, _),) = delivered
    assert channel == L2_BOOK
    assert book.book.bids.to_dict() == {Decimal("99.1"): Decimal("2.0"), Decimal("99.0"): Decimal("1.5")}
    assert book.book.asks.to_dict() == {Decimal("99.2"): Decimal("3.0")}
    assert (book.sequence_number, book.timestamp, book.delta) == (42, 1_700_000_000.25, None)


def test_a_ticker_needs_both_sides() -> None:
    given, delivered = feed()
    handle(given, QuoteTaken(None, 2.0, None, None), QuoteTaken(1.9, 2.0, 1_700_000_000_000, {"a": "2"}))
    ((channel, ticker, _),) = delivered
    assert channel == TICKER
    assert (ticker.bid, ticker.ask, ticker.timestamp) == (Decimal("1.9"), Decimal("2.0"), 1_700_000_000.0)


def test_a_candle_is_closed_once_the_next_one_has_begun() -> None:
    given, delivered = feed()
    handle(given, candle(1, 10.0), candle(1, 11.0), candle(2, 12.0), candle(1, 9.0), candle(3, 13.0))
    (channel, closed, _), (_, following, _) = delivered
    assert (channel, following.close) == (CANDLES, Decimal("12.0"))
    assert (closed.start, closed.stop, closed.interval, closed.closed) == (60.0, 120.0, "1m", True)
    assert (closed.close, closed.volume, closed.trades, closed.timestamp) == (Decimal("11.0"), Decimal("2.5"), None, None)


def test_open_candles_are_delivered_when_asked_for_and_changed() -> None:
    given, delivered = feed(candle_closed_only=False)
    handle(given, candle(1, 10.0), candle(1, 10.0), candle(2, None), candle(2, 12.0))
    assert [(one.start, one.close, one.closed) for _, one, _ in delivered] == [
        (60.0, Decimal("10.0"), False),
        (60.0, Decimal("10.0"), True),
        (120.0, Decimal("12.0"), False),
    ]


def test_a_candle_that_was_open_before_a_reconnect_is_not_closed_by_guess() -> None:
    given, delivered = feed()
    handle(given, candle(1, 10.0))
    asyncio.run(given.subscribe(given.connect()[0][0]))
    handle(given, candle(5, 11.0), candle(6, 12.0))
    assert [one.start for _, one, _ in delivered] == [300.0]


def test_a_connection_comes_in_the_shape_of_its_cryptofeed() -> None:
    given, _ = feed(channels=[TRADES, L2_BOOK])
    ((connection, subscribe, handler, *others),) = given.connect()
    assert (subscribe, handler) == (given.subscribe, given.message_handler)
    assert len(others) == hasattr(Feed, "authenticate")
    assert connection.subscription == {channel: sorted(NAMES.values()) for channel in ("depth", "trade")}
    assert not connection.is_open


def test_nothing_subscribed_is_no_connection() -> None:
    given, _ = feed(symbols=None, channels=None)
    assert given.connect() == []


@pytest.mark.parametrize("options", [{"snapshot_interval": -1}, {"stall_seconds": 0}, {"candle_interval": "1M"}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        feed(**options)


def test_channels_that_ccxt_does_not_serve_are_refused() -> None:
    with pytest.raises(UnsupportedDataFeed):
        feed(channels=["funding"])


def test_proxies_have_ccxts_names() -> None:
    def names(proxies: Any, **options: Any) -> dict[str, str]:
        made = CcxtBackpackFeed({"proxies": proxies}, **options)._ccxt_proxies
        return dict(made)

    assert names("http://p:1") == {"httpsProxy": "http://p:1", "wssProxy": "http://p:1"}
    assert names({"url": "socks5h://p:1"}) == {"socksProxy": "socks5h://p:1", "wsSocksProxy": "socks5h://p:1"}
    assert names({"ws": {"url": "http://p:1"}}) == {"wssProxy": "http://p:1"}
    assert names(None, http_proxy="http://q:2") == {"httpsProxy": "http://q:2"}
    assert names(None) == {}
    assert names({"url": "socks5://me:p%40ss@p:1", "timeout_seconds": 5})["socksProxy"] == "socks5h://me:p%40ss@p:1"
    assert names({"url": "socks5://p:1", "remote_dns": False})["wsSocksProxy"] == "socks5://p:1"


def test_without_ccxt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ccxt", "ccxt.pro"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingExtra, match=r"""CcxtBackpackFeed needs the extra "ccxt" .*: .* pip install "\.\[ccxt\]","""
    ) as told:
        feed()
    assert isinstance(told.value, ImportError)


class Exchange:
    """What the connection sees of ccxt: each call to watch or fetch gives what was scripted next, and waits at the end."""

    def __init__(self, **script: list[Any]) -> None:
        self.script = script
        self.asked: list[tuple[Any, ...]] = []
        self.closed = 0
        self.markets_by_id = {"SOL_USDC": [{"symbol": "SOL/USDC"}]}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer(*given: Any, **options: Any) -> Any:
            self.asked.append((name, *given, *options.values()))
            waiting = self.script.get(name, [])
            if not waiting:
                await asyncio.Event().wait()
            told = waiting.pop(0)
            if isinstance(told, BaseException):
                raise told
            return told

        return answer

    async def load_markets(self) -> None:
        for told in self.script.get("load_markets", []):
            raise told

    async def close(self) -> None:
        self.closed += 1


def connection(
    exchange: Exchange, *, patience: float = 60, channel: str = "trade", market_id: str = "SOL_USDC"
) -> CcxtConnection:
    return CcxtConnection("BACKPACK", lambda: exchange, {channel: [market_id]}, WISH, rest_only=False, timeout_seconds=patience)


async def read_all(opened: CcxtConnection) -> tuple[list[Any], BaseException | None]:
    """All messages' news, and what the connection ended with."""
    news: list[Any] = []
    async with asyncio.timeout(5):
        try:
            async with opened.connect():
                async for message in opened.read():
                    news += message.news
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - it is what the test is about
            return news, error
    return news, None


def ended(exchange: Exchange, **options: Any) -> tuple[list[Any], BaseException | None]:
    return asyncio.run(read_all(connection(exchange, **options)))


def test_what_was_told_before_an_end_is_read_before_it() -> None:
    exchange = Exchange(watch_trades=[["a", "b"], ["c"], ccxt.NetworkError("gone")])
    news, error = ended(exchange)
    assert news == ["a", "b", "c"]
    assert isinstance(error, ConnectionResetError)
    assert "gone" in str(error)
    assert exchange.closed == 1


def test_what_is_no_fault_of_the_network_stays_what_it_is() -> None:
    news, error = ended(Exchange(watch_trades=[["a"], ccxt.BadSymbol("no")]))
    assert news == ["a"]
    assert isinstance(error, ccxt.BadSymbol)


def test_a_connection_that_ccxt_gives_up_by_cancelling_is_one_that_has_ended() -> None:
    _, error = ended(Exchange(watch_trades=[["a"], asyncio.CancelledError()]))
    assert isinstance(error, BackpackWebsocketError)


def test_a_lost_connection_is_noticed_although_no_subscribed_channel_waits() -> None:
    exchange = Exchange(watch_ticker=[{}, ccxt.NetworkError("gone")])
    news, error = ended(exchange)
    assert (news, exchange.closed) == ([], 1)
    assert isinstance(error, BackpackWebsocketError)


def test_markets_that_cannot_be_loaded_are_a_failed_attempt() -> None:
    exchange = Exchange(load_markets=[ccxt.ExchangeNotAvailable("down")])
    news, error = ended(exchange)
    assert (news, exchange.closed, exchange.asked) == ([], 1, [])
    assert isinstance(error, BackpackWebsocketError)


def test_a_market_that_ccxt_does_not_know_is_said_so() -> None:
    exchange = Exchange()
    _, error = ended(exchange, market_id="NOPE_USDC")
    assert isinstance(error, UnsupportedSymbol)
    assert exchange.closed == 1


def test_silence_from_the_beginning_is_a_failed_attempt() -> None:
    exchange = Exchange()
    _, error = ended(exchange, patience=0.05)
    assert isinstance(error, BackpackWebsocketError)
    assert "silent" in str(error)
    assert exchange.closed == 1


def test_silence_later_on_ends_the_connection() -> None:
    news, error = ended(Exchange(watch_trades=[["a"]]), patience=0.05)
    assert news == ["a"]
    assert isinstance(error, BackpackWebsocketError)


def test_all_who_close_wait_until_it_is_done() -> None:
    async def run() -> None:
        exchange = Exchange(watch_trades=[["a"]])
        opened = connection(exchange)
        async with opened.connect():
            states = [opened.is_open]
            await asyncio.gather(opened.close(), opened.close())
            states.append(opened.is_open)
            assert states == [True, False]
            with pytest.raises(BackpackWebsocketError):
                [message async for message in opened.read()]
        assert exchange.closed == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def take(source: AsyncIterator[Any], count: int) -> list[Any]:
    async def run() -> list[Any]:
        return [await anext(source) for _ in range(count)]

    return asyncio.run(run())


def test_a_watched_candle_is_told_by_its_end_and_a_fetched_one_by_its_beginning() -> None:
    row = [2 * MINUTE, 1.0, 3.0, 0.5, 2.0, 9.0]
    watched = WATCHED["kline"](Exchange(watch_ohlcv=[[row]]), WISH)
    fetched = POLLED["kline"](Exchange(fetch_ohlcv=[[row]]), WISH)
    assert take(watched, 1) == [[CandleSeen(MINUTE, (1.0, 3.0, 0.5, 2.0), 9.0)]]
    assert take(fetched, 1) == [[CandleSeen(2 * MINUTE, (1.0, 3.0, 0.5, 2.0), 9.0)]]


def test_a_watched_book_is_copied_and_cut() -> None:
    told = {"bids": [[3.0, 1.0], [2.0, 1.0]], "asks": [[4.0, 1.0]], "timestamp": 5, "nonce": 6}
    ((book,),) = take(WATCHED["depth"](Exchange(watch_order_book=[told]), WISH._replace(depth=1)), 1)
    told["bids"][0][1] = 7.0  # type: ignore[index]
    assert book == BookTaken([[3.0, 1.0]], [[4.0, 1.0]], 5, 6)


def test_polled_trades_begin_with_the_first_that_is_new() -> None:
    answers = [[{"id": "1"}], [{"id": "1"}, {"id": "2"}], [{"id": "2"}]]
    assert take(POLLED["trade"](Exchange(fetch_trades=answers), WISH), 3) == [[], [{"id": "2"}], []]


def test_a_polled_ticker_is_the_top_of_a_book() -> None:
    answers = [{"bids": [[1.0, 5.0]], "asks": [], "timestamp": 9, "nonce": 1}]
    assert take(POLLED["bookTicker"](Exchange(fetch_order_book=answers), WISH), 1) == [[QuoteTaken(1.0, None, 9, None)]]


def test_closed_candles_of_the_past_are_not_polled() -> None:
    rows = [[minute * MINUTE, 1.0, 1.0, 1.0, 1.0, 1.0] for minute in (1, 2, 3)]
    first, second = take(POLLED["kline"](Exchange(fetch_ohlcv=[rows, rows]), WISH), 2)
    assert [seen.start_ms for seen in first] == [3 * MINUTE]
    assert [seen.start_ms for seen in second] == [MINUTE, 2 * MINUTE, 3 * MINUTE]
