"""The text of the public frames, member for member as the exchange sends it (docs/protocol.md sections 3.3 and 4).

`data` comes first, its members are in the order of the wire: alphabetical, capitals first, only klines differ. Depth, bookTicker
and trade numbers are padded to the market's precision, the others stripped. Times named `_us` are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from backpack_proto.exchange.market.listings import Listing, padded, stripped
from backpack_proto.exchange.market.market import INDEX_DECIMALS, RATE_DECIMALS, Reference
from backpack_proto.exchange.market.orders import Match, OrderSide
from backpack_proto.exchange.market.tape import TapedCandle

__all__ = ["FrameWriter", "data_frame", "error_frame", "iso_time", "iso_time_ms"]

_MOST_CACHED_PRICES = 65_536


def iso_time(second: int, separator: str = "T") -> str:
    """A second since the epoch as the exchange writes candle times: UTC without a zone, such as `2026-09-02T16:44:00`."""
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat(separator)


def iso_time_ms(unix_ms: int) -> str:
    """A millisecond since the epoch as the histories write it, such as `2026-09-01T17:54:04.094`."""
    return f"{iso_time(unix_ms // 1000)}.{unix_ms % 1000:03}"


def error_frame(code: int, message: str) -> bytes:
    """An error frame. It does not say which request failed (docs/protocol.md 3.2)."""
    return f'{{"id":null,"error":{{"code":{code},"message":"{message}"}}}}'.encode()


def data_frame(stream: str, data: Mapping[str, object]) -> bytes:
    """The frame of a stream whose members are in the usual order: alphabetical, capitals first."""
    return msgspec.json.encode({"data": dict(sorted(data.items())), "stream": stream})


class FrameWriter:
    """Writes the frames of one market."""

    def __init__(self, listing: Listing) -> None:
        self._symbol = listing.symbol
        self._price_decimals = listing.price_decimals
        self._quantity_decimals = listing.quantity_decimals
        self._prices: dict[int, str] = {}

    def book_ticker(
        self, bid: tuple[int, int] | None, ask: tuple[int, int] | None, update_id: int, *, engine_us: int, emitted_us: int
    ) -> bytes:
        """Best bid and ask as (ticks, lots), None for an empty side (docs/protocol.md 4.2)."""
        bid_price, bid_quantity = self._best(bid)
        ask_price, ask_quantity = self._best(ask)
        return (
            f'{{"data":{{"A":{ask_quantity},"B":{bid_quantity},"E":{emitted_us},"T":{engine_us},"a":{ask_price},"b":{bid_price},'
            f'"e":"bookTicker","s":"{self._symbol}","u":{update_id}}},"stream":"bookTicker.{self._symbol}"}}'
        ).encode()

    def depth(
        self,
        stream: str,
        bids: Iterable[tuple[int, int]],
        asks: Iterable[tuple[int, int]],
        *,
        first_id: int,
        last_id: int,
        engine_us: int,
        emitted_us: int,
    ) -> bytes:
        """Changed levels as (ticks, lots) in the order given. `stream` is the name subscribed to (docs/protocol.md 4.3)."""
        return (
            f'{{"data":{{"E":{emitted_us},"T":{engine_us},"U":{first_id},"a":[{self._levels(asks)}],"b":[{self._levels(bids)}],'
            f'"e":"depth","s":"{self._symbol}","u":{last_id}}},"stream":"{stream}"}}'
        ).encode()

    def trade(self, fill: Match, *, engine_us: int, emitted_us: int) -> bytes:
        """One fill (docs/protocol.md 4.5)."""
        sold = fill.taker_side is OrderSide.ASK
        buyer, seller = (fill.maker_id, fill.taker_id) if sold else (fill.taker_id, fill.maker_id)
        return (
            f'{{"data":{{"E":{emitted_us},"T":{engine_us},"a":"{seller}","b":"{buyer}","e":"trade","m":{"true" if sold else "false"},'
            f'"p":"{self._price(fill.price)}","q":"{padded(fill.lots, self._quantity_decimals)}","s":"{self._symbol}",'
            f'"t":{fill.trade_id}}},"stream":"trade.{self._symbol}"}}'
        ).encode()

    def ticker(self, day: TapedCandle, *, emitted_us: int, event: str = "ticker", symbol: str = "") -> bytes:
        """The rolling day, which must have seen a trade. `event` may be `externalTicker`, of another symbol (docs/protocol.md 4.6)."""
        symbol = symbol or self._symbol
        paid = stripped(day.paid, self._price_decimals + self._quantity_decimals)
        return (
            f'{{"data":{{"E":{emitted_us},"V":"{paid}","c":{self._stripped(day.close)},"e":"{event}","h":{self._stripped(day.high)},'
            f'"l":{self._stripped(day.low)},"n":{day.trades},"o":{self._stripped(day.open)},"s":"{symbol}",'
            f'"v":"{stripped(day.lots, self._quantity_decimals)}"}},"stream":"{event}.{symbol}"}}'
        ).encode()

    def kline(self, interval: str, candle: TapedCandle, *, closed: bool, emitted_us: int) -> bytes:
        """One candle. Its prices are null without a trade (docs/protocol.md 4.4)."""
        return (
            f'{{"data":{{"E":{emitted_us},"e":"kline","s":"{self._symbol}","T":"{iso_time(candle.end_s)}",'
            f'"X":{"true" if closed else "false"},"c":{self._stripped(candle.close)},"h":{self._stripped(candle.high)},'
            f'"l":{self._stripped(candle.low)},"n":{candle.trades},"o":{self._stripped(candle.open)},"t":"{iso_time(candle.start_s)}",'
            f'"v":"{stripped(candle.lots, self._quantity_decimals)}"}},"stream":"kline.{interval}.{self._symbol}"}}'
        ).encode()

    def mark_price(self, reference: Reference, next_funding_ms: int, *, engine_us: int, emitted_us: int) -> bytes:
        """Mark price, index and estimated funding (docs/protocol.md 4.7)."""
        return (
            f'{{"data":{{"E":{emitted_us},"T":{engine_us},"e":"markPrice","f":"{stripped(reference.funding, RATE_DECIMALS)}",'
            f'"i":"{stripped(reference.index, INDEX_DECIMALS)}","n":{next_funding_ms},"p":{self._stripped(reference.mark)},'
            f'"s":"{self._symbol}"}},"stream":"markPrice.{self._symbol}"}}'
        ).encode()

    def open_interest(self, reference: Reference, *, emitted_us: int) -> bytes:
        """Open contracts (docs/protocol.md 4.8)."""
        return (
            f'{{"data":{{"E":{emitted_us},"e":"openInterest","o":"{stripped(reference.open_interest, self._quantity_decimals)}",'
            f'"s":"{self._symbol}"}},"stream":"openInterest.{self._symbol}"}}'
        ).encode()

    def liquidation(self, stream: str, side: OrderSide, price: int, lots: int, *, engine_us: int, emitted_us: int) -> bytes:
        """A forced order and where it ended. `stream` is one of its two names (docs/protocol.md 4.9)."""
        return (
            f'{{"data":{{"E":{emitted_us},"S":"{side}","T":{engine_us},"e":"liquidation","p":{self._stripped(price)},'
            f'"q":"{stripped(lots, self._quantity_decimals)}","s":"{self._symbol}"}},"stream":"{stream}"}}'
        ).encode()

    def stock(
        self,
        stream: str,
        ticker: str,
        bid: tuple[int, int] | None,
        ask: tuple[int, int] | None,
        *,
        engine_us: int,
        session: str | None,
    ) -> bytes:
        """Prices of a stock: of a provider, or those at which a request would be quoted (docs/protocol.md 4.14).

        The quoter's limit prices are a thousandth worse than the market that it would hedge at.
        """
        bid_ticks, ask_ticks = (None if level is None else level[0] for level in (bid, ask))
        texts = {"bid": bid_ticks, "ask": ask_ticks}
        event = stream.partition(".")[0]
        if event == "stockPrice":
            texts["mid"] = None if bid_ticks is None or ask_ticks is None else (bid_ticks + ask_ticks) // 2
        else:
            texts |= {"estimatedBid": bid_ticks, "estimatedAsk": ask_ticks}
            texts["bid"] = None if bid_ticks is None else bid_ticks - max(1, bid_ticks // 1000)
            texts["ask"] = None if ask_ticks is None else ask_ticks + max(1, ask_ticks // 1000)
        members = "".join(f'"{name}":{self._stripped(ticks)},' for name, ticks in texts.items())
        said = "null" if session is None else f'"{session}"'
        return (
            f'{{"data":{{{members}"e":"{event}","session":{said},"symbol":"{ticker}","timestamp":{engine_us // 1000}}},'
            f'"stream":"{stream}"}}'
        ).encode()

    def preview(self, bid: tuple[int, int] | None, ask: tuple[int, int] | None, *, emitted_us: int) -> bytes:
        """Best prices as JSON numbers, on a stream of a kind that no client knows."""
        bid_price, ask_price = (self._stripped(None if level is None else level[0]).strip('"') for level in (bid, ask))
        return (
            f'{{"data":{{"E":{emitted_us},"ask":{ask_price},"bid":{bid_price},"e":"preview","s":"{self._symbol}"}},'
            f'"stream":"preview.{self._symbol}"}}'
        ).encode()

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            # Prices of a market that runs for weeks wander. The cache must not grow with them.
            if len(self._prices) >= _MOST_CACHED_PRICES:
                self._prices.clear()
            text = self._prices[ticks] = padded(ticks, self._price_decimals)
        return text

    def _levels(self, levels: Iterable[tuple[int, int]]) -> str:
        decimals = self._quantity_decimals
        return ",".join([f'["{self._price(price)}","{padded(lots, decimals)}"]' for price, lots in levels])

    def _best(self, level: tuple[int, int] | None) -> tuple[str, str]:
        if level is None:
            return "null", "null"
        return f'"{self._price(level[0])}"', f'"{padded(level[1], self._quantity_decimals)}"'

    def _stripped(self, ticks: int | None) -> str:
        return "null" if ticks is None else f'"{stripped(ticks, self._price_decimals)}"'
