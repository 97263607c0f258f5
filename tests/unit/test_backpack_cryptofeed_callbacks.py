"""Callbacks that raise, are slow, or let out a cancellation: they are named, and the others get their data."""

from __future__ import annotations

import asyncio
import functools
import logging
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed.types import OrderBook

from backpack_runtime.cryptofeed.native.callbacks import (
    BUSY_SHARE,
    MOST_FAILURES,
    RECENT_SECONDS,
    WINDOW_SECONDS,
    Callbacks,
)

pytestmark = pytest.mark.anyio

LOGGER = "backpack_runtime.cryptofeed"


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


class Setting:
    """Callbacks on a clock that stands still until something takes its time."""

    def __init__(self, *raises: type[Exception]) -> None:
        self.now = 1_000.0
        self.group: tuple[Any, ...] = ()
        self.callbacks = Callbacks(lambda _channel: self.group, raises, clock=lambda: self.now)
        self.got: list[Any] = []

    async def take(self, found: Any, _receipt: float) -> None:
        self.got.append(found)

    async def call(self, *callbacks: Any, found: object = "object") -> None:
        self.group = callbacks
        await self.callbacks.call("trades", found, 9.0)


async def fails(_found: Any, _receipt: float) -> None:
    raise ZeroDivisionError("a mistake\x1b[31m of\nthe user's")


async def test_one_that_raises_keeps_nothing_from_the_others_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()
    for _ in range(3):
        await setting.call(fails, setting.take)
    assert len(setting.got) == 3
    assert setting.callbacks.errors == 3
    assert setting.callbacks.reasons() == [
        "callback fails of trades raised ZeroDivisionError: a mistake [31m of the user's (3 times)"
    ]
    (record,) = caplog.records
    assert (record.name, record.levelno) == (LOGGER, logging.WARNING)
    assert record.getMessage().startswith("BACKPACK: callback fails of trades raised ZeroDivisionError: a mistake")
    assert record.exc_info is not None, "with the line where it happened"
    setting.now += RECENT_SECONDS
    assert setting.callbacks.reasons() == []
    await setting.call(fails)
    assert len(caplog.records) == 2, "an outbreak is said again"


async def test_each_kind_of_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()

    async def other(found: type[Exception], _receipt: float) -> None:
        raise found

    for error in (ValueError, KeyError, ValueError):
        await setting.call(fails, other, found=error)
    assert len(caplog.records) == len(setting.callbacks.reasons()) == 3
    assert "callback test_each_kind_of_failure_is_told_once.<locals>.other of trades raised KeyError" in caplog.text


async def test_kinds_of_failures_are_bounded() -> None:
    setting = Setting()

    async def invents(number: Any, _receipt: float) -> None:
        raise type(f"Error{number}", (Exception,), {})

    for number in range(MOST_FAILURES + 5):
        await setting.call(invents, found=number)
    reasons = setting.callbacks.reasons()
    assert len(reasons) == MOST_FAILURES
    assert reasons[-1].endswith(f"Error{MOST_FAILURES + 4}")


async def test_what_the_application_wants_raised_is_raised() -> None:
    setting = Setting(ArithmeticError)
    with pytest.raises(ZeroDivisionError):
        await setting.call(fails, setting.take)
    assert setting.callbacks.errors == 0


async def cancelled_work() -> None:
    work = asyncio.create_task(asyncio.sleep(3600))
    work.cancel()
    await work


async def test_a_cancellation_that_a_callback_lets_out_is_one_of_its_failures() -> None:
    setting = Setting()

    async def awaits(_found: Any, _receipt: float) -> None:
        await cancelled_work()

    await setting.call(awaits, setting.take)
    assert len(setting.got) == 1
    (reason,) = setting.callbacks.reasons()
    assert reason.endswith("awaits of trades raised CancelledError")


async def test_a_feed_that_is_cancelled_ends() -> None:
    setting = Setting()
    waits = asyncio.Event()

    async def hangs(_found: Any, _receipt: float) -> None:
        waits.set()
        await asyncio.sleep(3600)

    feed = asyncio.create_task(setting.call(hangs, setting.take))
    await waits.wait()
    feed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await feed
    assert setting.got == []
    assert setting.callbacks.errors == 0


async def test_a_slow_call_is_named_until_it_is_past() -> None:
    setting = Setting()

    def takes(seconds: float) -> Any:
        async def waits(_found: Any, _receipt: float) -> None:
            setting.now += seconds

        return functools.partial(waits)

    for seconds in (2.0, 8.0, 3.0, 0.9):
        await setting.call(takes(seconds))
    (reason,) = setting.callbacks.reasons()
    assert reason.startswith(
        "callback test_a_slow_call_is_named_until_it_is_past.<locals>.takes.<locals>.waits of trades took 8.0 s"
    )
    setting.now += RECENT_SECONDS - 3.8
    (reason,) = setting.callbacks.reasons()
    assert "took 3.0 s" in reason, "the slowest of those that are not past"
    setting.now += 3.0
    assert setting.callbacks.reasons() == []


async def test_one_that_is_running_is_named_meanwhile() -> None:
    setting = Setting()
    seen: list[list[str]] = []

    async def looks(_found: Any, _receipt: float) -> None:
        seen.append(setting.callbacks.reasons())
        setting.now += 5.0
        seen.append(setting.callbacks.reasons())

    await setting.call(looks)
    assert seen[0] == []
    (running,) = seen[1]
    assert running.endswith("looks of trades has been running for 5.0 s, nothing is read meanwhile")


async def test_callbacks_that_leave_no_time_are_named_however_short_each_is() -> None:
    setting = Setting()

    async def works(_found: Any, _receipt: float) -> None:
        setting.now += 0.045

    async def helps(_found: Any, _receipt: float) -> None:
        setting.now += 0.004

    def beat(rest: float) -> float:
        setting.now += rest
        return setting.now

    until = setting.now + WINDOW_SECONDS + 0.1
    while beat(0.001) < until:
        await setting.call(works, helps)
    (reason,) = setting.callbacks.reasons()
    assert "callbacks take 98% of the time, most of it callback" in reason
    assert "works of trades" in reason
    until = setting.now + WINDOW_SECONDS + 0.1
    while beat(0.049 / BUSY_SHARE) < until:
        await setting.call(works, helps)
    assert setting.callbacks.reasons() == [], "less is enough for reading"


async def test_what_was_too_much_is_past_when_nothing_is_called_any_more() -> None:
    setting = Setting()

    async def works(_found: Any, _receipt: float) -> None:
        setting.now += 0.5

    for _ in range(25):
        await setting.call(works)
    assert len(setting.callbacks.reasons()) == 1
    setting.now += 2 * WINDOW_SECONDS
    assert setting.callbacks.reasons() == []


def a_book(symbol: str = "SOL-USDC", delta: str | None = None) -> Any:
    book: Any = OrderBook("BACKPACK", symbol, bids={Decimal(1): Decimal(1)}, asks={Decimal(2): Decimal(1)})
    book.delta = delta and {delta: []}
    return book


async def test_one_that_missed_a_change_of_a_book_gets_the_whole_book_next() -> None:
    """It may keep a book of its own, which would be wrong for ever."""
    setting = Setting()
    told: list[tuple[str, str, Any]] = []
    broken = True

    async def mends(book: Any, _receipt: float) -> None:
        told.append(("mends", book.symbol, book.delta and next(iter(book.delta))))
        if broken:
            raise ValueError("once")

    async def follows(book: Any, _receipt: float) -> None:
        told.append(("follows", book.symbol, book.delta and next(iter(book.delta))))

    book, other = a_book(delta="first"), a_book("BTC-USDC", delta="other")
    await setting.call(mends, follows, found=book)
    broken = False
    await setting.call(mends, follows, found=other)
    for delta in ("second", "third"):
        book.delta = {delta: []}
        await setting.call(mends, follows, found=book)
    assert told == [
        ("mends", "SOL-USDC", "first"),
        ("follows", "SOL-USDC", "first"),
        ("mends", "BTC-USDC", "other"),
        ("follows", "BTC-USDC", "other"),
        ("mends", "SOL-USDC", None),
        ("follows", "SOL-USDC", "second"),
        ("mends", "SOL-USDC", "third"),
        ("follows", "SOL-USDC", "third"),
    ]
