"""Pictures of a client at one moment, as JSON: one for the page, and books for other programs.

All numbers of the exchange are text with the digits that it sent. A picture is made at most once for all who look at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

import msgspec

from backpack_proto import __version__
from backpack_proto.claims import PATH_BOUND_US
from backpack_proto.decoding import sane
from backpack_proto.encoding import plain_digits
from backpack_proto.errors import UnknownSymbol
from backpack_proto.hints import did_you_mean, shown
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import channel_of
from backpack_proto.streams.payloads import Trade
from backpack_runtime.books import BookView
from backpack_runtime.client import BackpackClient
from backpack_runtime.transport import system_now

from .watch import Panel, Trust, Watch

__all__ = ["CHART_LEVELS", "MOST_LADDER_LEVELS", "TICK_US", "Snapshots"]

TICK_US: Final = 250_000
"""Time for which a picture is the same for all who look."""
MOST_LADDER_LEVELS: Final = 40
CHART_LEVELS: Final = 80
"""Levels a side of the depth chart."""
_encode = msgspec.json.Encoder(decimal_format="string").encode


class Snapshots:
    """Maker of pictures, from the books of a client and from the memory of its watch."""

    def __init__(self, client: BackpackClient, watch: Watch, exchange: str) -> None:
        """`exchange` says in words which exchange the client speaks with."""
        self._client = client
        self._watch = watch
        self._exchange = exchange
        self._tick = -1
        self._common = b""
        self._panels: dict[tuple[str, int], bytes] = {}

    def find(self, symbol: str) -> str:
        """Return the id of a market whose book is served, by its id or its normalised name.

        Raises:
            UnknownSymbol: there is no such market, or its book is not among those that are served.
        """
        found = self._client.markets[symbol].symbol
        self._watch.refresh()
        if found not in self._watch.panels:
            close = did_you_mean(found, self._watch.panels)
            raise UnknownSymbol(f"the book of {shown(found)} is not served here{close}")
        return found

    def state(self, symbol: str, levels: int, after: int) -> tuple[bytes, int]:
        """Return a picture for the page, as JSON, with the samples behind `after`, and the number of the last of them."""
        self._turn()
        samples = [sample for sample in self._watch.samples if sample.number > after]
        panel = b"null"
        if symbol in self._watch.panels:  # it may have been unsubscribed since it was asked for
            key = (symbol, levels)
            panel = self._panels.get(key) or self._panels.setdefault(key, _encode(self._panel(symbol, levels)))
        rows = _encode([[sample.messages, sample.p50_us, sample.p99_us] for sample in samples])
        return (
            b'{"common":%b,"samples":%b,"panel":%b}' % (self._common, rows, panel),
            samples[-1].number if samples else after,
        )

    def book(self, symbol: str, levels: int) -> dict[str, Any]:
        """Return a book for another program: its best levels, and how far to trust them."""
        panel, book, now_us = self._watch.panels[symbol], self._client.book(symbol), system_now().mono_us
        state = panel.look(book, now_us)
        coverage = book.coverage
        return {
            "symbol": symbol,
            "state": state.value,
            "reason": None if book.live else self._watch.why_not_live(panel),
            "live": book.live,
            "verified": state is Trust.VERIFIED,
            "closed": state is Trust.CLOSED,
            "age_s": _seconds(book.age_us),
            "last": book.last,
            "engine_us": book.engine_us,
            "coverage": {"lowest_bid": _text(coverage.lowest_bid), "highest_ask": _text(coverage.highest_ask)},
            "bids": _pairs(book.bids(levels)),
            "asks": _pairs(book.asks(levels)),
        }

    def books(self) -> list[dict[str, Any]]:
        """Return the state of every book that is served."""
        self._watch.refresh()
        now_us = system_now().mono_us
        return [self._row(panel, now_us) for panel in self._watch.panels.values()]

    def health(self) -> dict[str, Any]:
        """Return whether all is well, and if not, why."""
        health, failure = self._client.health, self._watch.failure
        reasons = [*([] if failure is None else [failure]), *health.reasons]
        status = health.status.value if failure is None else "down"
        return {"status": status, "reasons": reasons, "notes": list(health.notes)}

    def _turn(self) -> None:
        """Forget pictures of an earlier moment, and make the part that all have in common."""
        now = system_now()
        tick = now.mono_us // TICK_US
        if tick == self._tick:
            return
        self._tick = tick
        self._panels.clear()
        watch, metrics = self._watch, self._client.metrics
        connection, data_age_us = watch.connection, self._data_age_us
        retry_us = None if connection.retry_at_us is None else max(connection.retry_at_us - now.mono_us, 0)
        self._common = _encode(
            {
                "version": __version__,
                "exchange": self._exchange,
                "mono_us": now.mono_us,
                "health": self.health(),
                "connection": {
                    "up": connection.up,
                    "since_s": _seconds(now.mono_us - connection.since_us),
                    "reason": connection.reason or None,
                    "data_age_s": _seconds(data_age_us),
                    "in_doubt": data_age_us is not None and data_age_us >= PATH_BOUND_US,
                    "retry_s": _seconds(retry_us),
                },
                "counters": {
                    "messages": metrics.ws_messages,
                    "reconnects": metrics.ws_reconnects,
                    "resyncs": metrics.orderbook_resyncs,
                    "verifications": metrics.book_verifications,
                    "divergences": metrics.book_divergences,
                    "dropped": metrics.dropped_messages,
                },
                "markets": self.books(),
            }
        )

    @property
    def _data_age_us(self) -> int | None:
        """Age of the newest data of any stream. None before the first."""
        return min((heard.age_us for heard in self._client.metrics.streams.values()), default=None)

    def _row(self, panel: Panel, now_us: int) -> dict[str, Any]:
        book, ticker = self._client.book(panel.symbol), panel.ticker
        state = panel.look(book, now_us)
        return {
            "symbol": panel.symbol,
            "state": state.value,
            "reason": None if book.live else self._watch.why_not_live(panel),
            "since_s": _seconds(now_us - panel.since_us),
            "age_s": _seconds(book.age_us),
            "last": _text(panel.last_price),
            "tick": plain_digits(self._client.markets[panel.symbol].tick_size),
            "change": None if ticker is None else _change(ticker.first_price, ticker.last_price),
            "resyncs": panel.resyncs,
        }

    def _panel(self, symbol: str, levels: int) -> dict[str, Any]:
        panel, book, now_us = self._watch.panels[symbol], self._client.book(symbol), system_now().mono_us
        market = self._client.markets[symbol]
        bids, asks = book.bids(CHART_LEVELS), book.asks(CHART_LEVELS)
        coverage, ticker = book.coverage, panel.ticker
        return {
            **self._row(panel, now_us),
            "step": plain_digits(market.step_size),
            "base": market.base,
            "quote": market.quote,
            "update_id": str(book.last),
            "engine_us": book.engine_us or None,
            "bids": _pairs(bids[:levels]),
            "asks": _pairs(asks[:levels]),
            **_middle(book),
            "depth": {"bids": _cumulated(bids), "asks": _cumulated(asks)},
            "coverage": {"lowest_bid": _text(coverage.lowest_bid), "highest_ask": _text(coverage.highest_ask)},
            "high": None if ticker is None else _text(ticker.high),
            "low": None if ticker is None else _text(ticker.low),
            "volume": None if ticker is None else _text(ticker.quote_volume),
            "trades": [_trade(trade) for trade in panel.trades],
            "streams": self._streams(symbol),
        }

    def _streams(self, symbol: str) -> list[dict[str, Any]]:
        """Return the streams of a market, as far as anything is known of them."""
        watch, seen = self._watch, self._client.metrics.streams
        newest_us = self._data_age_us
        in_doubt = newest_us is not None and newest_us >= PATH_BOUND_US
        names = [name for name in {*seen, *watch.silent, *watch.refused} if _is_of(name, symbol)]
        rows = []
        for name in sorted(names):
            heard = seen.get(name)
            state, reason = "live", None
            if name in watch.refused:
                state, reason = "refused", watch.refused[name]
            elif name in watch.silent:
                state = "silent"
            elif not watch.connection.up:
                state, reason = "down", watch.connection.reason
            elif in_doubt:
                state = "in doubt"
            rows.append(
                {
                    "name": name,
                    "state": state,
                    "reason": reason,
                    "messages": 0 if heard is None else heard.messages,
                    "age_s": None if heard is None else _seconds(heard.age_us),
                }
            )
        return rows


def _is_of(stream: str, symbol: str) -> bool:
    """Return whether a stream is one of this market. Streams of the account are of no market."""
    channel = channel_of(stream)
    return channel is not None and not channel.private and stream.endswith(f".{symbol}")


def _pairs(levels: Iterable[Level]) -> list[tuple[str, str]]:
    return [(level.price_text, level.quantity_text) for level in levels]


def _cumulated(levels: tuple[Level, ...]) -> list[tuple[str, str]]:
    """Return the quantity that there is up to each price."""
    totals = accumulate(level.quantity for level in levels)
    return [(level.price_text, plain_digits(total)) for level, total in zip(levels, totals, strict=True)]


def _middle(book: BookView) -> Mapping[str, str | None]:
    """Return spread and middle of a book that has both sides."""
    bid, ask = book.best_bid, book.best_ask
    if bid is None or ask is None:
        return {"spread": None, "spread_bp": None, "mid": None}
    mid, spread = (bid.price + ask.price) / 2, ask.price - bid.price
    points = f"{spread / mid * 10_000:.2f}" if sane(mid) and sane(spread) else None
    return {"spread": plain_digits(spread), "spread_bp": points, "mid": plain_digits(mid)}


def _trade(trade: Trade) -> tuple[int, str, str, str]:
    side = "sell" if trade.buyer_is_maker else "buy"
    return trade.engine_us, plain_digits(trade.price), plain_digits(trade.quantity), side


def _change(first: Decimal, last: Decimal) -> str | None:
    """Return by how many percent a price has changed."""
    return f"{(last / first - 1) * 100:+.2f}" if first and sane(first) and sane(last) else None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain_digits(value)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1e6, 3)
