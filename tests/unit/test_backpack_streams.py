from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backpack_proto.errors import InvalidStream
from backpack_proto.streams.channels import DEPTH_WINDOWS_MS, KLINE_INTERVALS, Channel, SymbolKind
from backpack_proto.streams.names import Stream, bare_ticker, parse_channel, parse_stream, streams_for

SYMBOLS = ("SOL_USDC", "AAPL.US_USDC_PERP", "0G_USDC_PERP", "2Z_USDC_PERP", "kPEPE_USDC_PERP", "FDVEXTD1B_USDC_PREDICTION")
PRIVATE = ("account.orderUpdate", "account.positionUpdate", "account.rfqUpdate")


TICKERS = {
    "AAPL": "AAPL",
    "AAPL.US": "AAPL",
    "BRK.B": "BRK.B",
    "BRK.B.US": "BRK.B",
    "0700.HK": "0700",
    "MU.US_USDC": "MU",
    "MU.US-USDC": "MU",
    "AAPL.US_USDC_RFQ": "AAPL",
    "BRK.B.US_USDC_PERP": "BRK.B",
    "SOL_USDC": "SOL_USDC",
}
ABOUT_TICKERS = [channel for channel in Channel if channel.traits.symbol_kind is SymbolKind.TICKER]


@pytest.mark.parametrize(("symbol", "ticker"), TICKERS.items())
def test_a_channel_about_stocks_takes_any_name_of_a_stock(symbol: str, ticker: str) -> None:
    assert bare_ticker(symbol) == ticker
    (stream,) = streams_for(["stock_price"], [symbol])
    assert (stream.name, parse_stream(stream.name)) == (f"stockPrice.{ticker}", stream)


@pytest.mark.parametrize("channel", ABOUT_TICKERS)
def test_a_stream_of_a_stock_has_the_bare_ticker_in_its_name(channel: Channel) -> None:
    """Another one would be silent for ever."""
    with pytest.raises(InvalidStream, match=rf"^'{channel}\.BRK\.B\.US': {channel} takes the bare ticker, 'BRK\.B'$"):
        parse_stream(f"{channel}.BRK.B.US")


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize(
    "channel",
    [channel for channel in Channel if channel not in {Channel.KLINE, Channel.BALANCE_UPDATE, *ABOUT_TICKERS}],
)
def test_a_name_is_read_and_written_with_dots_in_its_symbol(channel: Channel, symbol: str) -> None:
    stream = parse_stream(f"{channel.value}.{symbol}")
    assert stream == Stream(channel=channel, symbol=symbol)
    assert stream.name == f"{channel.value}.{symbol}"
    assert stream.private == channel.value.startswith("account.")


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("window_ms", DEPTH_WINDOWS_MS)
def test_a_depth_window_is_no_part_of_the_symbol(window_ms: int, symbol: str) -> None:
    stream = parse_stream(f"depth.{window_ms}ms.{symbol}")
    assert stream == Stream(channel=Channel.DEPTH, symbol=symbol, window_ms=window_ms)
    assert stream.name == f"depth.{window_ms}ms.{symbol}"


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", KLINE_INTERVALS)
def test_a_kline_has_exactly_one_interval(interval: str, symbol: str) -> None:
    stream = parse_stream(f"kline.{interval}.{symbol}")
    assert stream == Stream(channel=Channel.KLINE, symbol=symbol, interval=interval)
    assert stream.name == f"kline.{interval}.{symbol}"


@pytest.mark.parametrize("name", ["liquidation", "account.balanceUpdate", *PRIVATE])
def test_some_streams_need_no_symbol(name: str) -> None:
    assert parse_stream(name) == Stream(channel=Channel(name))
    assert parse_stream(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "depth",
        "depth.",
        "depth.SOL_USDC.",
        "depth.200ms",
        "depth.200ms.",
        "depth.100ms.SOL_USDC",
        "depth.5ms.SOL_USDC",
        "bookTicker",
        "booKTicker.SOL_USDC",
        "kline",
        "kline.",
        "kline.1m",
        "kline.1m.",
        "kline.SOL_USDC",
        "kline.2m.SOL_USDC",
        "kline.1M.SOL_USDC",
        "nope.SOL_USDC",
        "tickers.SOL_USDC",
        "tickerSOL_USDC",
        "account",
        "account.",
        "account.orderUpdates",
        "account.balanceUpdate.SOL_USDC",
        "accountXorderUpdate",
        "depth.SOL USDC",
        "depth.SOL\tUSDC",
        'depth.SOL"',
        "depth.SOL\\",
        "depth.SOL\x00",
        "depth.SOL\ud800",
        " depth.SOL_USDC",
        "depth.SOL_USDC\n",
    ],
)
def test_what_the_exchange_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidStream):
        parse_stream(name)


def check_spelling(name: str) -> None:
    """A name that is no stream is refused. Any other is spelt as it was, and can be sent."""
    try:
        stream = parse_stream(name)
    except InvalidStream:
        return
    assert stream.name == name
    assert name.encode().decode() == name


@given(st.text())
def test_any_text_is_a_stream_that_is_spelt_the_same_or_refused(name: str) -> None:
    check_spelling(name)


@given(
    st.sampled_from(list(Channel)),
    st.none() | st.text(st.characters(codec="ascii", categories=("L", "N"), include_characters="._"), min_size=1),
    st.sampled_from(["", *(f"{window}ms." for window in DEPTH_WINDOWS_MS), *(f"{name}." for name in KLINE_INTERVALS)]),
)
def test_names_near_the_right_ones_are_spelt_the_same_or_refused(channel: Channel, symbol: str | None, middle: str) -> None:
    check_spelling(channel.value if symbol is None else f"{channel.value}.{middle}{symbol}")


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("book", Stream(channel=Channel.DEPTH, verified=True)),
        ("book.200ms", Stream(channel=Channel.DEPTH, window_ms=200, verified=True)),
        ("depth", Stream(channel=Channel.DEPTH)),
        ("depth.1000ms", Stream(channel=Channel.DEPTH, window_ms=1000)),
        ("bookTicker", Stream(channel=Channel.BOOK_TICKER)),
        ("book_ticker", Stream(channel=Channel.BOOK_TICKER)),
        ("trade", Stream(channel=Channel.TRADE)),
        ("trades", Stream(channel=Channel.TRADE)),
        ("kline.1month", Stream(channel=Channel.KLINE, interval="1month")),
        ("klines.1m", Stream(channel=Channel.KLINE, interval="1m")),
        ("candles.15m", Stream(channel=Channel.KLINE, interval="15m")),
        ("ticker", Stream(channel=Channel.TICKER)),
        ("mark_price", Stream(channel=Channel.MARK_PRICE)),
        ("open_interest", Stream(channel=Channel.OPEN_INTEREST)),
        ("liquidations", Stream(channel=Channel.LIQUIDATION)),
        ("external_ticker", Stream(channel=Channel.EXTERNAL_TICKER)),
        ("account.orderUpdate", Stream(channel=Channel.ORDER_UPDATE)),
        ("account.balanceUpdate", Stream(channel=Channel.BALANCE_UPDATE)),
    ],
)
def test_channels_have_common_names(name: str, stream: Stream) -> None:
    assert parse_channel(name) == stream


@pytest.mark.parametrize(
    "name",
    [
        "",
        "books",
        "book.",
        "book.SOL_USDC",
        "book.100ms",
        "book.200ms.SOL_USDC",
        "depth.",
        "depth.SOL_USDC",
        "depth.200ms.",
        "depth.200ms.SOL_USDC",
        "trades.SOL_USDC",
        "trades.",
        "klines",
        "klines.2m",
        "kline.1m.",
        "kline.1m.SOL_USDC",
        "liquidations.SOL_USDC",
        "account",
        "account.orderUpdate.SOL_USDC",
    ],
)
def test_a_channel_names_no_symbol(name: str) -> None:
    with pytest.raises(InvalidStream):
        parse_channel(name)


def names_for(channels: Iterable[str], symbols: Iterable[str]) -> tuple[str, ...]:
    return tuple(stream.name for stream in streams_for(channels, symbols))


@pytest.mark.parametrize("channels", [["book", "depth"], ["depth", "book"]])
def test_a_book_that_is_asked_for_with_and_without_verification_is_verified(channels: list[str]) -> None:
    assert streams_for(channels, ["SOL_USDC"]) == (Stream(channel=Channel.DEPTH, symbol="SOL_USDC", verified=True),)


def test_streams_are_every_channel_on_every_symbol_without_repeats() -> None:
    channels = ["book", "bookTicker", "klines.1m", "trades", "account.balanceUpdate", "account.orderUpdate"]
    assert names_for(channels, ["SOL_USDC", "AAPL.US_USDC_PERP", "SOL_USDC"]) == (
        "depth.SOL_USDC",
        "depth.AAPL.US_USDC_PERP",
        "bookTicker.SOL_USDC",
        "bookTicker.AAPL.US_USDC_PERP",
        "kline.1m.SOL_USDC",
        "kline.1m.AAPL.US_USDC_PERP",
        "trade.SOL_USDC",
        "trade.AAPL.US_USDC_PERP",
        "account.balanceUpdate",
        "account.orderUpdate.SOL_USDC",
        "account.orderUpdate.AAPL.US_USDC_PERP",
    )


def test_without_symbols_a_channel_that_can_do_without_means_all_of_it() -> None:
    channels = ["book", "liquidations", "account.balanceUpdate", *PRIVATE]
    assert names_for(iter(channels), iter(())) == ("liquidation", "account.balanceUpdate", *PRIVATE)


def test_an_unknown_channel_is_refused_even_without_symbols() -> None:
    with pytest.raises(InvalidStream, match="nope"):
        streams_for(["trades", "nope"], [])


def test_every_stream_of_every_channel_can_be_read_back() -> None:
    channels = [name for name in (*_channel_names(), "book.600ms") if name != "kline"]
    for stream in streams_for(channels, SYMBOLS):
        assert parse_stream(stream.name) == replace(stream, verified=False)


def _channel_names() -> list[str]:
    return [*(channel.value for channel in Channel), *(f"kline.{interval}" for interval in KLINE_INTERVALS)]


@pytest.mark.parametrize(
    ("name", "channel"),
    [("order", Channel.ORDER_UPDATE), ("position", Channel.POSITION_UPDATE), ("balance", Channel.BALANCE_UPDATE)],
)
def test_channels_of_the_account_have_short_names(name: str, channel: Channel) -> None:
    assert parse_channel(f"{name}.*") == parse_channel(name) == Stream(channel=channel)
    assert names_for([f"{name}.*"], []) == names_for([f"{name}.*"], SYMBOLS) == (channel.value,)
    assert names_for([name], []) == (channel.value,)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("name", ["order", "position"])
def test_a_channel_of_the_account_may_name_its_symbol(name: str, symbol: str) -> None:
    long = f"account.{name}Update.{symbol}"
    assert parse_channel(f"{name}.{symbol}") == parse_stream(long)
    assert names_for([f"{name}.{symbol}"], []) == names_for([f"{name}.{symbol}"], SYMBOLS) == (long,)


def test_short_and_long_names_of_the_account_s_channels_are_one() -> None:
    channels = ["order.*", "account.orderUpdate", "order.BTC_USDC", "book"]
    assert names_for(channels, []) == ("account.orderUpdate", "account.orderUpdate.BTC_USDC")
    assert names_for(channels, ["BTC_USDC"]) == (
        "account.orderUpdate",
        "account.orderUpdate.BTC_USDC",
        "depth.BTC_USDC",
    )


@pytest.mark.parametrize(
    "name", ["balance.SOL_USDC", "order.", "position.SOL_USDC.", "orders.*", "book.*", "trade.*", "*", "account.*"]
)
def test_there_are_no_other_short_names(name: str) -> None:
    with pytest.raises(InvalidStream):
        parse_channel(name)
