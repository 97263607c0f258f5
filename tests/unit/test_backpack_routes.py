"""A batch of facts is what its facts are one by one, however the frames of a read are mixed and cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.book.levels import Book
from backpack_proto.inputs import (
    Connected,
    Disconnected,
    Fact,
    Open,
    PingReceived,
    RequestFailed,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Verify,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import BookChanged, ConnectionDown, DropSocket, OpenSocket, Output, SendRequest
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Trade
from hypothesis_profiles import examples

SYMBOL = "SOL_USDC"
START = Now(1_000_000_000, 1_790_000_000_000_000)
LAST = 100


class Market:
    """Writes frames of a market, right ones and others."""

    def __init__(self) -> None:
        self.last = LAST
        self.frames = 0
        self.mono_us = START.mono_us

    @property
    def exchange_us(self) -> int:
        return self.mono_us - START.mono_us + START.unix_us - 20_000

    def frame(self, stream: str, **data: Any) -> TextReceived:
        self.frames += 1
        data.setdefault("E", self.exchange_us - self.frames % 7 * 1_000)
        data.setdefault("T", self.exchange_us - 3)
        # Two in a row were read at once. Of some nobody has noted when.
        read_us = (None, self.exchange_us + 15_000, self.exchange_us + 18_000)[self.frames // 2 % 3]
        return TextReceived(json.dumps({"data": data, "stream": stream}).encode(), read_us)

    def depth(self, first: int, last: int, bids: Any = (), asks: Any = (), symbol: str = SYMBOL, **data: Any) -> TextReceived:
        return self.frame(f"depth.{SYMBOL}", e="depth", s=symbol, U=first, u=last, b=bids, a=asks, **data)

    def fact(self, kind: str, number: int) -> Fact:
        """Return what such a thing looks like now. `number` varies it."""
        price = str(100 - number % 5)
        match kind:
            case "joins":
                first, self.last = self.last + 1, self.last + 1 + number % 3
                return self.depth(first, self.last, [[price, f"{number % 4}.0"]], [[f"10{1 + number % 5}.50", str(number % 3)]])
            case "says nothing":
                first, self.last = self.last + 1, self.last + 1
                return self.depth(first, self.last)
            case "gap":
                self.last += 2
                return self.depth(self.last, self.last, [[price, "1"]])
            case "again":
                return self.depth(self.last, self.last, [[price, "7"]])
            case "crosses":
                first, self.last = self.last + 1, self.last + 1
                return self.depth(first, self.last, [["500", "1"]])
            case "early":
                first, self.last = self.last + 1, self.last + 1
                return self.depth(first, self.last, E=self.exchange_us + 1_000_000 * number)
            case "late":
                first, self.last = self.last + 1, self.last + 1
                return self.depth(first, self.last, E=self.exchange_us - 1_000_000 * number)
            case "without a time":
                first, self.last = self.last + 1, self.last + 1
                return self.depth(first, self.last, E=None)
            case "trade":
                return self.trade(T=self.exchange_us - 500_000)
            case "trade ahead":
                return self.trade(T=self.exchange_us + 500_000)
            case "ticker":
                return self.ticker(self.last + number % 3 - 1, price)
            case "mark price":
                return self.frame("markPrice.SOL_USDC_PERP", e="markPrice", s="SOL_USDC_PERP", p="1", f="0", i="1", n=1)
            case "refusal":
                return TextReceived(b'{"id":null,"error":{"code":4006,"message":"Invalid stream"}}')
            case "ping":
                return PingReceived(b"1")
        return self.wrong(kind, number)

    def wrong(self, kind: str, number: int) -> Fact:
        """Return what no exchange sends."""
        price = str(100 - number % 5)
        match kind:
            case "leaps":
                return self.depth(self.last + 1, self.last + 10**9)
            case "with a level that is none":
                return self.depth(self.last + 1, self.last + 1, [[price, "1"], ["NaN", "1"]], [["101.50", "0"]])
            case "with ids that go back":
                return self.depth(self.last + 1, self.last - number, [[price, "1"]])
            case "of another kind":
                frame = self.trade() if number % 2 else self.depth(self.last + 1, self.last + 1)
                stream = (BOOK, TRADE, TICKER)[number % 3]
                return TextReceived(json.dumps({**json.loads(frame.data), "stream": stream}).encode())
            case "of another market":
                return self.depth(self.last + 1, self.last + 1, symbol="BTC_USDC")
            case "garbage":
                return TextReceived(b'{"data":{"e":"depth"},"stream":"depth.%d"}' % number)
        raise AssertionError(kind)

    def trade(self, **data: Any) -> TextReceived:
        return self.frame(f"trade.{SYMBOL}", e="trade", s=SYMBOL, p="100", q="1", b="1", a="2", t=1, m=True, **data)

    def ticker(self, at: int, bid: str = "100", **data: Any) -> TextReceived:
        return self.frame(f"bookTicker.{SYMBOL}", e="bookTicker", s=SYMBOL, b=bid, B="1", a="101", A="1", u=str(at), **data)


KINDS = {
    "joins": 8,
    "says nothing": 1,
    "leaps": 1,
    "gap": 1,
    "again": 1,
    "crosses": 1,
    "with a level that is none": 1,
    "with ids that go back": 1,
    "of another kind": 2,
    "of another market": 1,
    "early": 1,
    "late": 1,
    "without a time": 1,
    "trade": 2,
    "trade ahead": 1,
    "ticker": 4,
    "mark price": 1,
    "refusal": 1,
    "garbage": 1,
    "ping": 1,
}
A_KIND = st.sampled_from([kind for kind, weight in KINDS.items() for _ in range(weight)])
A_READ = st.lists(st.tuples(A_KIND, st.integers(0, 12)), min_size=1, max_size=10)
A_PAUSE = st.sampled_from([0, 1_000, 300_000, 1_500_000, 2_500_000, 6_000_000, 61_000_000])
A_STEP = st.one_of(
    A_READ, A_READ, A_READ, A_PAUSE, st.sampled_from(["verify", "verify", "refuse", "nap", "suspend", "reconnect"])
)


def is_earlier(deadline_us: int | None, other_us: int | None) -> bool:
    return deadline_us is not None and (other_us is None or deadline_us < other_us)


class Twins:
    """Two sessions: one takes batches, the other one fact after the other."""

    def __init__(self, *, canary: bool, books: tuple[str, ...], streams: tuple[str, ...]) -> None:
        self.together, self.alone = (Session(Random(1), book_levels=2, canary=canary) for _ in range(2))
        self.market = Market()
        self.requests: list[tuple[int, bytes]] = []
        self.open = self.dialing = False
        self.give([Open()])
        self.give([Subscribe(books=books, streams=streams)])
        self.give([Connected()])

    @property
    def now(self) -> Now:
        return Now(self.market.mono_us, self.market.mono_us - START.mono_us + START.unix_us)

    def give(self, batch: Sequence[Any]) -> Sequence[Output]:
        deadline_us = self.together.deadline
        ends: list[int] = []
        together = self.together.handle_all(batch, self.now, ends)
        if self.together.plain:
            assert not is_earlier(self.together.deadline, deadline_us)
        alone: list[Output] = []
        for fact, end in zip(batch, ends, strict=True):
            alone += self.alone.handle(fact, self.now)
            assert end == len(alone)
        assert list(map(repr, together)) == list(map(repr, alone))
        assert self.together.deadline == self.alone.deadline
        assert self.together.metrics(self.now) == self.alone.metrics(self.now)
        assert self.together.health(self.now) == self.alone.health(self.now)
        one, other = self.books(self.together), self.books(self.alone)
        assert one == other
        for fact in batch:
            if isinstance(fact, Connected):
                self.open, self.dialing = True, False
        for output in together:
            if isinstance(output, ConnectionDown | DropSocket):
                self.open = self.dialing = False
            elif isinstance(output, OpenSocket):
                self.dialing = True
        for output in together:
            if isinstance(output, SendRequest) and "/depth?" in output.request.target:
                self.requests.append((output.request_id, self.snapshot()))
            elif isinstance(output, SendRequest):
                self.give([RequestFailed(request_id=output.request_id, reason="none of this")])
        return together

    def books(self, session: Session) -> list[object]:
        def shown(book: Book) -> object:
            mono_us = self.market.mono_us
            return book.last, book.engine_us, book.confirmed_us, book.bids(), book.asks(), book.age_us(mono_us)

        return [shown(sequencer.book) for sequencer in session._books.all]

    def snapshot(self) -> bytes:
        """Return what the exchange shows now: what a book that follows has, for its stream lies in other ways."""
        bids, asks = [["99", "1"], ["100", "1"]], [["101", "1"], ["102", "2"]]
        last = self.market.last
        books = [sequencer.book for sequencer in self.alone._books.all if sequencer.book.confirmed_us is not None]
        if books:
            last = books[0].last
            bids, asks = (
                [[level.price_text, level.quantity_text] for level in side] for side in (books[0].bids(), books[0].asks())
            )
        return json.dumps(
            {"asks": asks, "bids": bids, "lastUpdateId": str(last), "timestamp": self.market.exchange_us}
        ).encode()

    def answer(self, status: int = 200) -> None:
        requests, self.requests = self.requests, []
        for request_id, body in requests:
            self.give([ResponseReceived(request_id=request_id, status=status, body=body if status == 200 else b"")])

    def settle(self) -> None:
        """Have each stream speak, so that none is awaited."""
        market = self.market
        self.give([market.fact("says nothing", 1), market.trade(), market.ticker(market.last)])
        self.answer()
        market.mono_us += 10_000
        self.give([market.fact("joins", 1)])

    def pass_time(self, us: int) -> None:
        end_us = self.market.mono_us + us
        while (deadline := self.together.deadline) is not None and deadline <= end_us:
            self.market.mono_us = max(deadline, self.market.mono_us)
            self.give([TimerFired()])
            self.answer()
        self.market.mono_us = end_us

    def reconnect(self) -> None:
        """Lose the connection if there is one, and have the next one."""
        if self.open:
            self.give([Disconnected(1006, "")])
        while not self.dialing:
            deadline = self.together.deadline
            assert deadline is not None
            self.pass_time(max(deadline - self.market.mono_us, 0))
        self.give([Connected()])
        self.settle()


BOOK, TICKER, TRADE = f"depth.{SYMBOL}", f"bookTicker.{SYMBOL}", f"trade.{SYMBOL}"
WANTED = [
    ((BOOK,), ()),
    ((BOOK,), (TRADE, TICKER)),
    ((), (BOOK, TRADE, TICKER)),
    ((BOOK, f"depth.200ms.{SYMBOL}"), (TRADE,)),
    ((), (TRADE, TICKER)),
]


@pytest.mark.parametrize(("books", "streams"), WANTED)
@pytest.mark.parametrize("canary", [True, False])
@examples(50)
@given(steps=st.lists(A_STEP, max_size=14))
def test_a_batch_is_what_its_facts_are_one_by_one(
    *, books: tuple[str, ...], streams: tuple[str, ...], canary: bool, steps: list[list[tuple[str, int]] | int | str]
) -> None:
    twins = Twins(canary=canary, books=books, streams=streams)
    twins.settle()
    for step in steps:
        match step:
            case "verify":
                if BOOK in (*books, *streams):
                    twins.give([Verify(BOOK)])
            case "refuse":
                if BOOK in (*books, *streams):
                    twins.give([Verify(BOOK)])
                    twins.answer(status=404)
            case "nap":
                # No timer fires meanwhile: for less than a heartbeat, and longer than a path is proved for.
                twins.market.mono_us += 7_000_000
            case "suspend":
                twins.market.mono_us += 3_600_000_000
            case "reconnect":
                twins.reconnect()
            case int():
                twins.pass_time(step)
            case list():
                # A transport gives facts of an open websocket only.
                facts = [twins.market.fact(kind, number) for kind, number in step]
                twins.give(facts if twins.open else [fact for fact in facts if isinstance(fact, TextReceived)])
                twins.market.mono_us += 500
                twins.answer()


def test_plain_frames_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(canary=False, books=(BOOK,), streams=(TRADE,))
    twins.settle()
    market = twins.market
    session = twins.together
    monkeypatch.setattr(session, "handle", pytest.fail)
    outputs = session.handle_all([market.fact(kind, 1) for kind in ("joins", "trade", "joins")], twins.now)
    assert [type(output) for output in outputs] == [BookChanged, Trade, BookChanged]
    assert session.plain
