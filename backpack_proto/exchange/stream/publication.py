"""Events of a market, as frames for its listeners.

A book event leaves as a depth frame of its own at once, and in the aggregated depth streams with all other events until
their window ends. A window's frame covers every update id since the one before it. A window without listeners is not
gathered. `bookTicker` leaves before or after the depth frame of the same id, as chance has it, for no order holds between
streams (docs/protocol.md 4.2). Frames leave some 100 to 300 us after the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random

from msgspec import Struct

from backpack_proto.exchange.market.activity import LIQUIDATIONS
from backpack_proto.exchange.market.market import FUNDING_INTERVAL_US, SimulatedMarket
from backpack_proto.exchange.market.orders import Change, Match, OrderSide, Outcome
from backpack_proto.exchange.market.tape import TapedCandle
from backpack_proto.exchange.messages import SendFrame
from backpack_proto.streams.channels import DEPTH_WINDOWS_MS, KLINE_INTERVALS

from .audience import PREVIEW, Audience, ticker_of
from .frames import FrameWriter

__all__ = ["TURN_MS", "Publication", "next_funding_ms"]

TURN_MS = 200
"""Every window of the aggregated depth streams is a whole number of these long."""


def next_funding_ms(engine_us: int) -> int:
    """When the funding interval that is under way ends, in milliseconds since the epoch."""
    return (engine_us // FUNDING_INTERVAL_US + 1) * FUNDING_INTERVAL_US // 1000


class _Gathered(Struct, gc=False):
    """Contents of a window of an aggregated depth stream so far."""

    first_id: int
    last_id: int
    engine_us: int
    bids: dict[int, int]
    asks: dict[int, int]


class Publication:
    """Turns the events of one market into frames for its listeners."""

    def __init__(
        self,
        market: SimulatedMarket,
        audience: Audience,
        rng: Random,
        *,
        stock_session: Callable[[int], str | None] = lambda _engine_us: None,
    ) -> None:
        """`stock_session` names the session of stocks that is open at a time, or None."""
        self._market = market
        self._stock_session = stock_session
        self._audience = audience
        self._rng = rng
        self._write = FrameWriter(market.listing)
        symbol = market.symbol
        self._depth = f"depth.{symbol}"
        self._book_ticker = f"bookTicker.{symbol}"
        self._trade = f"trade.{symbol}"
        self._mark_price = f"markPrice.{symbol}"
        self._open_interest = f"openInterest.{symbol}"
        self._tickers = {event: f"{event}.{symbol}" for event in ("ticker", "externalTicker")}
        self._preview = f"{PREVIEW}.{symbol}"
        ticker = ticker_of(market.listing)
        self._ticker = ticker or ""
        stocks = [] if ticker is None else [f"stockPrice.{ticker}", f"stockIndicativeQuote.{ticker}"]
        self._stocks = [stream for stream in stocks if audience.speaks(stream, symbol)]
        # The provider's figures go by the stock's own symbol, not by its market here.
        external = self._external = f"externalTicker.{market.listing.base}_USDC"
        if ticker is None or external == self._tickers["externalTicker"] or not audience.speaks(external, symbol):
            self._external = ""
        self._klines = {interval: f"kline.{interval}.{symbol}" for interval in KLINE_INTERVALS}
        self._liquidations = ("liquidation", f"liquidation.{symbol}")
        self._windows = {window_ms: f"depth.{window_ms}ms.{symbol}" for window_ms in DEPTH_WINDOWS_MS}
        self._gathered: dict[int, _Gathered] = {}
        self._top = market.best()

    def book_event(self, outcome: Outcome, engine_us: int) -> list[SendFrame]:
        """Publish the effects of one event on the book."""
        update_id = outcome.update_id
        if update_id is None:
            return []
        emitted_us = self._emitted(engine_us)
        of = self._audience.of
        frames: list[SendFrame] = []
        if listeners := of(self._depth):
            bids, asks = _by_side(outcome.changes)
            data = self._write.depth(
                self._depth, bids, asks, first_id=update_id, last_id=update_id, engine_us=engine_us, emitted_us=emitted_us
            )
            frames += _to(listeners, data)
        top = self._market.best()
        changed, self._top = top != self._top, top
        if changed and (listeners := of(self._book_ticker)):
            data = self._write.book_ticker(*top, update_id, engine_us=engine_us, emitted_us=emitted_us)
            told = _to(listeners, data)
            frames = told + frames if self._rng.random() < 0.5 else frames + told
        for window_ms, stream in self._windows.items():
            if of(stream):
                self._gather(window_ms, outcome.changes, update_id, engine_us)
            elif window_ms in self._gathered:
                del self._gathered[window_ms]
        if outcome.fills:
            frames += self._fills(outcome.fills, engine_us, emitted_us)
        return frames

    @property
    def gathers(self) -> bool:
        """True when a window is open, so that the next turn is needed."""
        return bool(self._gathered)

    def turn(self, number: int, engine_us: int) -> list[SendFrame]:
        """End the windows whose time is over with turn `number`. Turns are `TURN_MS` apart."""
        frames: list[SendFrame] = []
        for window_ms, stream in self._windows.items():
            gathered = self._gathered.get(window_ms)
            if gathered is None or number * TURN_MS % window_ms:
                continue
            del self._gathered[window_ms]
            data = self._write.depth(
                stream,
                sorted(gathered.bids.items()),
                sorted(gathered.asks.items()),
                first_id=gathered.first_id,
                last_id=gathered.last_id,
                engine_us=gathered.engine_us,
                emitted_us=self._emitted(engine_us),
            )
            frames += _to(self._audience.of(stream), data)
        return frames

    def second(self, engine_us: int) -> list[SendFrame]:
        """Send the frames of every second, changed or not: tickers, mark price, candles."""
        frames: list[SendFrame] = []
        of = self._audience.of
        emitted_us = self._emitted(engine_us)
        market, write = self._market, self._write
        now_s = engine_us // 1_000_000
        market.tape.roll(now_s)
        frames += self._candles(market.tape.take_closed(), market.tape.running, emitted_us)
        for event, stream in self._tickers.items():
            if (listeners := of(stream)) and (day := market.tape.rolling(now_s)).trades:
                frames += _to(listeners, write.ticker(day, emitted_us=emitted_us, event=event))
        if (listeners := of(self._external)) and (day := market.tape.rolling(now_s)).trades:
            stock = f"{market.listing.base}_USDC"
            frames += _to(listeners, write.ticker(day, emitted_us=emitted_us, event="externalTicker", symbol=stock))
        if listeners := of(self._preview):
            frames += _to(listeners, write.preview(*market.best(), emitted_us=emitted_us))
        for stream in self._stocks:
            if listeners := of(stream):
                session = self._stock_session(engine_us)
                data = write.stock(stream, self._ticker, *market.best(), engine_us=engine_us, session=session)
                frames += _to(listeners, data)
        if market.reference is not None and (listeners := of(self._mark_price)):
            funding_ms = next_funding_ms(engine_us)
            frames += _to(listeners, write.mark_price(market.reference, funding_ms, engine_us=engine_us, emitted_us=emitted_us))
        return frames

    def minute(self, engine_us: int) -> list[SendFrame]:
        """Send the frames of every minute: open interest."""
        listeners = self._audience.of(self._open_interest)
        if self._market.reference is None or not listeners:
            return []
        return _to(listeners, self._write.open_interest(self._market.reference, emitted_us=self._emitted(engine_us)))

    def forget(self) -> None:
        """Drop the gathered window: it has no listeners any more."""
        self._gathered.clear()

    def _emitted(self, engine_us: int) -> int:
        return engine_us + 100 + int(self._rng.random() * 201)

    def _gather(self, window_ms: int, changes: Iterable[Change], update_id: int, engine_us: int) -> None:
        gathered = self._gathered.get(window_ms)
        if gathered is None:
            gathered = self._gathered[window_ms] = _Gathered(update_id, update_id, engine_us, {}, {})
        gathered.last_id = update_id
        gathered.engine_us = engine_us
        for change in changes:
            (gathered.bids if change.side is OrderSide.BID else gathered.asks)[change.price] = change.lots

    def _fills(self, fills: tuple[Match, ...], engine_us: int, emitted_us: int) -> list[SendFrame]:
        frames: list[SendFrame] = []
        of = self._audience.of
        if listeners := of(self._trade):
            for fill in fills:
                frames += _to(listeners, self._write.trade(fill, engine_us=engine_us, emitted_us=emitted_us))
        last = fills[-1]
        if last.taker_owner == LIQUIDATIONS:
            lots = sum(fill.lots for fill in fills)
            for stream in self._liquidations:
                data = self._write.liquidation(
                    stream, last.taker_side, last.price, lots, engine_us=engine_us, emitted_us=emitted_us
                )
                frames += _to(of(stream), data)
        return frames

    def _candles(
        self, closed: dict[str, list[TapedCandle]], running: dict[str, TapedCandle], emitted_us: int
    ) -> list[SendFrame]:
        frames: list[SendFrame] = []
        for interval, stream in self._klines.items():
            listeners = self._audience.of(stream)
            if not listeners:
                continue
            for candle in closed.get(interval, ()):
                frames += _to(listeners, self._write.kline(interval, candle, closed=True, emitted_us=emitted_us))
            if running[interval].trades:
                data = self._write.kline(interval, running[interval], closed=False, emitted_us=emitted_us)
                frames += _to(listeners, data)
        return frames


def _to(listeners: Collection[int], data: bytes) -> list[SendFrame]:
    return [SendFrame(connection, data) for connection in listeners]


def _by_side(changes: Iterable[Change]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    bids: list[tuple[int, int]] = []
    asks: list[tuple[int, int]] = []
    for change in changes:
        (bids if change.side is OrderSide.BID else asks).append((change.price, change.lots))
    return bids, asks
