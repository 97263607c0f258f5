"""Market data as a busy market sends them, the same in every run: books of about 800 levels, and the frames that change them."""

from __future__ import annotations

import json
from random import Random
from struct import pack
from typing import Any, NamedTuple

__all__ = [
    "END_TRADE",
    "FIRST_TRADE",
    "MARK_TRADE",
    "SYMBOL",
    "Message",
    "Snapshot",
    "Tape",
    "binances_stream",
    "canary",
    "header",
    "in_binances_words",
    "record",
    "symbols_of",
]

SYMBOL = "SOL_USDC"
MARK_TRADE = 1
"""The trade right before the frames that are measured: a client starts its counters there."""
END_TRADE = 2
"""The trade right behind them: a client stops there, and reports."""
FIRST_TRADE = 12_345

SEED = 20240907
START_TICK = 15_000
DEPTH_TICKS = 600
FILLED = 0.66
"""Share of the ticks near the price at which somebody has orders."""
KINDS = (("depth", 0.80), ("trade", 0.95), ("bookTicker", 1.0))
"""Kinds of frames with their cumulated shares."""
LEVELS = [1] * 40 + [2] * 25 + [3] * 15 + [4] * 10 + [5] * 6 + [6] * 4
"""Changed levels of a depth frame, as often as they occur."""
MOVES = 0.25
"""Share of the depth frames that move the price by a tick."""
REMOVED = 0.45
"""Share of the changes of a filled level that empty it."""
EMPTY = "0.000"
TEXT = 0x81
MILLISECOND_US = 1000
TIME = "the time"
"""Place of a time in a template."""

Levels = dict[int, str]


class Message(NamedTuple):
    """One message. Its times are filled in when it is sent."""

    kind: str
    symbol: str
    template: bytes
    """JSON with two places for times."""
    last: int
    """Update id of the book after this message."""
    unit_us: int = 1
    """Unit of the first of the two times. The second one is in microseconds."""

    def at(self, unix_us: int) -> bytes:
        """Return the JSON of a message that is emitted now."""
        return self.template % (unix_us // self.unit_us, unix_us)


class Snapshot(NamedTuple):
    """Book of one market."""

    last: int
    bids: dict[str, str]
    asks: dict[str, str]

    @property
    def top(self) -> tuple[str, str]:
        """Return best bid and ask."""
        return max(self.bids, key=float), min(self.asks, key=float)

    def body(self, unix_us: int) -> bytes:
        """Return the response to a request for it. Both sides ascend, as the exchange has them."""
        bids, asks = (sorted(side.items(), key=lambda level: float(level[0])) for side in (self.bids, self.asks))
        content = {"asks": asks, "bids": bids, "lastUpdateId": str(self.last), "timestamp": unix_us}
        return json.dumps(content, separators=(",", ":")).encode()


class Tape(NamedTuple):
    """Everything that a client is sent in one run."""

    symbols: tuple[str, ...]
    snapshots: dict[str, Snapshot]
    """The books before the first message."""
    warm: dict[str, list[Message]]
    """What brings the book of each market up. It is not measured."""
    proofs: dict[str, Message]
    """Best bid and ask of each market after that, which may be repeated."""
    mark: Message
    measured: list[Message]
    end: Message
    finals: dict[str, Snapshot]
    """The books behind the last message."""


class _Market:
    """One market: its book, and messages that change it."""

    def __init__(self, symbol: str, random: Random) -> None:
        self.symbol = symbol
        self.last = 94_978_270
        self._random = random
        self._trade_id = FIRST_TRADE
        self._bid = START_TICK
        """The price: orders to buy at this tick or below, to sell above."""
        self._bids: Levels = {START_TICK: "1.000"}
        self._asks: Levels = {START_TICK + 1: "1.000"}
        for distance in range(1, DEPTH_TICKS):
            for side, tick in ((self._bids, START_TICK - distance), (self._asks, START_TICK + 1 + distance)):
                if random.random() < FILLED:
                    side[tick] = self._quantity()

    def snapshot(self) -> Snapshot:
        """Return the book as it is."""
        bids, asks = ({_price(tick): quantity for tick, quantity in side.items()} for side in (self._bids, self._asks))
        return Snapshot(self.last, bids, asks)

    def message(self) -> Message:
        """Return the next message, of any kind."""
        drawn = self._random.random()
        kind = next(kind for kind, share in KINDS if drawn < share)
        return {"depth": self.depth, "trade": self.trade, "bookTicker": self.best}[kind]()

    def depth(self) -> Message:
        """Change a few levels."""
        bids: Levels = {}
        asks: Levels = {}
        if self._random.random() < MOVES:
            self._move(bids, asks)
        wanted = self._random.choice(LEVELS)
        while len(bids) + len(asks) < wanted:
            near = self._random.random() < 0.8
            distance = int(self._random.expovariate(1 / 12)) if near else self._random.randrange(DEPTH_TICKS)
            if self._random.random() < 0.5:
                side, changed, tick = self._bids, bids, self._bid - distance
            else:
                side, changed, tick = self._asks, asks, self._bid + 1 + distance
            # Only a move empties the best level, so that a bookTicker always has both sides.
            if tick not in changed and distance < DEPTH_TICKS:
                remove = distance > 0 and tick in side and self._random.random() < REMOVED
                changed[tick] = self._set(side, tick, EMPTY if remove else self._quantity())
        first, self.last = self.last + 1, self.last + len(bids) + len(asks)
        levels = {name: [[_price(tick), size] for tick, size in side.items()] for name, side in (("a", asks), ("b", bids))}
        return self._message("depth", levels | {"U": first, "u": self.last})

    def trade(self, trade_id: int | None = None) -> Message:
        """Trade at the best bid or ask."""
        if trade_id is None:
            trade_id = self._trade_id = self._trade_id + 1
        maker = self._random.random() < 0.5
        price = _price(self._bid if maker else self._bid + 1)
        order = 111_063_114_377_265_150 + trade_id * 2
        members = {"p": price, "q": self._quantity(), "b": str(order), "a": str(order + 1), "t": trade_id, "m": maker}
        return self._message("trade", members)

    def best(self) -> Message:
        """Report best bid and ask."""
        bid, ask = self._bid, self._bid + 1
        members = {"a": _price(ask), "A": self._asks[ask], "b": _price(bid), "B": self._bids[bid], "u": str(self.last)}
        return self._message("bookTicker", members)

    def _move(self, bids: Levels, asks: Levels) -> None:
        """Move the price by one tick: the level that is crossed changes sides, and the next one is never empty."""
        # Prices stay where the books have levels: the further away, the likelier is the way back.
        if self._random.random() < 0.5 + (START_TICK - self._bid) / 1200:
            self._bid += 1
            asks[self._bid] = self._set(self._asks, self._bid, EMPTY)
        else:
            bids[self._bid] = self._set(self._bids, self._bid, EMPTY)
            self._bid -= 1
        for side, changed, tick in ((self._bids, bids, self._bid), (self._asks, asks, self._bid + 1)):
            if tick not in side:
                changed[tick] = self._set(side, tick, self._quantity())

    def _set(self, side: Levels, tick: int, quantity: str) -> str:
        if quantity == EMPTY:
            side.pop(tick, None)
        else:
            side[tick] = quantity
        return quantity

    def _quantity(self) -> str:
        return f"{min(0.001 + self._random.paretovariate(1.1) * 0.3, 9999):.3f}"

    def _message(self, kind: str, members: dict[str, Any]) -> Message:
        # In the order of the alphabet, as the exchange sends them: the times come in the order of `Message.at`.
        data = dict(sorted({"E": TIME, "T": TIME, "e": kind, "s": self.symbol, **members}.items()))
        return Message(kind, self.symbol, _template({"data": data, "stream": f"{kind}.{self.symbol}"}), self.last)


def symbols_of(count: int) -> tuple[str, ...]:
    """Return ids of so many markets."""
    return (SYMBOL, *(f"M{number}_USDC" for number in range(1, count)))


def record(count: int, *, symbols: int = 1, warm: int = 40, seed: int = SEED) -> Tape:
    """Record `count` messages to be measured, spread over the markets, and `warm` that come before."""
    random = Random(seed)
    names = symbols_of(symbols)
    markets = [_Market(name, random) for name in names]
    snapshots = {market.symbol: market.snapshot() for market in markets}
    # A book needs a change to join its snapshot, and a few clients wait for a number of them.
    warmed = {market.symbol: [market.depth() for _ in range(max(2, warm // symbols))] for market in markets}
    proofs = {market.symbol: market.best() for market in markets}
    mark = markets[0].trade(MARK_TRADE)
    measured = [random.choice(markets).message() for _ in range(count)]
    end = markets[0].trade(END_TRADE)
    return Tape(names, snapshots, warmed, proofs, mark, measured, end, {market.symbol: market.snapshot() for market in markets})


def canary(stream: str) -> Message:
    """Return a message of a stream that comes every second: `ticker`, or `markPrice`."""
    kind, _, symbol = stream.partition(".")
    members: dict[str, Any] = {"E": TIME, "e": kind, "s": symbol}
    if kind == "ticker":
        members |= {"T": TIME, "V": "1", "c": "1", "h": "1", "l": "1", "n": 1, "o": "1", "v": "1"}
    else:
        members |= {"T": TIME, "f": "0.0001", "i": "1", "n": 1_790_000_000_000, "p": "1"}
    return Message(kind, symbol, _template({"data": members, "stream": stream}), 0)


def in_binances_words(tape: Tape) -> Tape:
    """Return the same market data as Binance would send them. The member `us` has the time in microseconds."""
    return tape._replace(
        warm={symbol: [_binance(message) for message in messages] for symbol, messages in tape.warm.items()},
        proofs={symbol: _binance(message) for symbol, message in tape.proofs.items()},
        mark=_binance(tape.mark),
        measured=[_binance(message) for message in tape.measured],
        end=_binance(tape.end),
    )


def binances_stream(kind: str, symbol: str) -> str:
    """Return Binance's name of a stream."""
    name = {"depth": "depth@100ms", "trade": "aggTrade", "bookTicker": "bookTicker"}[kind]
    return f"{symbol.replace('_', '').lower()}@{name}"


def _binance(message: Message) -> Message:
    data = json.loads(message.at(0))["data"]
    event, members = {
        "depth": ("depthUpdate", {name: data.get(name) for name in ("U", "u", "b", "a")}),
        "trade": ("aggTrade", {"a": data.get("t"), "p": data.get("p"), "q": data.get("q"), "m": data.get("m")}),
        "bookTicker": ("", {name: data.get(name) for name in ("u", "b", "B", "a", "A")}),
    }[message.kind]
    # A bookTicker has no name there. The time of a trade is its own, which no client of Binance compares with a clock.
    head = {"E": TIME, "us": TIME, "s": message.symbol.replace("_", "")} | ({"e": event} if event else {})
    extra = {"T": 1_694_687_965_941} if message.kind == "trade" else {}
    stream = binances_stream(message.kind, message.symbol)
    template = _template({"stream": stream, "data": {**head, **members, **extra}})
    return message._replace(template=template, unit_us=MILLISECOND_US)


def _template(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).replace(f'"{TIME}"', "%d").encode()


def header(length: int, *, compressed: bool = False) -> bytes:
    """Return the header of a websocket text frame of a server (RFC 6455 section 5.2)."""
    first = TEXT | 0x40 if compressed else TEXT
    if length < 126:
        return pack("!BB", first, length)
    if length <= 0xFFFF:
        return pack("!BBH", first, 126, length)
    return pack("!BBQ", first, 127, length)


def _price(tick: int) -> str:
    return f"{tick // 100}.{tick % 100:02}"
