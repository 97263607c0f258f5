"""How the records of two feeds compare."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("ccxt", reason="ccxt is not installed")

from cryptofeed.types import OrderBook

from backpack_runtime.cryptofeed.parity import FeedRecord, compare

START = 1_795_000_000.0


def record(*ids: int, symbol: str = "SOL-USDC", price: str = "99.1", shift: float = 0.0) -> FeedRecord:
    """Trades a tenth of a second apart, the time of each by its id. The same top at each of these update ids."""
    found = FeedRecord()
    for number in ids:
        trade = SimpleNamespace(
            symbol=symbol,
            id=str(number),
            timestamp=START + number / 10,
            price=Decimal(price),
            amount=Decimal("1.5"),
            side="buy",
        )
        asyncio.run(found.on_trade(trade, trade.timestamp + 0.010 + shift))
        book = OrderBook("BACKPACK", symbol, bids={Decimal(price): Decimal(1)}, asks={Decimal("99.9"): Decimal(2)})
        book.sequence_number, book.timestamp = number, trade.timestamp
        asyncio.run(found.on_book(book, trade.timestamp + 0.020 + shift))
    return found


def test_feeds_that_tell_the_same_agree() -> None:
    parity = compare(record(*range(50)), record(*range(50), shift=0.005))
    assert parity.agree
    # The first and the last one may have been seen by one feed alone.
    assert (parity.trades_matched, parity.tops_compared) == (48, 50)
    latencies = {name: round(found[0]) for name, found in parity.latencies_ms.items() if found is not None}
    assert latencies == {"native trades": 10, "ccxt trades": 15, "native books": 20, "ccxt books": 25}


def test_a_trade_that_one_feed_missed_is_told() -> None:
    parity = compare(record(*range(50)), record(*(number for number in range(50) if number != 20)))
    assert (parity.trades_only_native, parity.trades_only_ccxt, parity.agree) == (1, 0, False)
    parity = compare(record(*(number for number in range(50) if number != 20)), record(*range(50)))
    assert (parity.trades_only_native, parity.trades_only_ccxt, parity.agree) == (0, 1, False)


def test_what_came_before_or_after_the_other_feed_ran_is_no_difference() -> None:
    parity = compare(record(*range(50)), record(*range(10, 40)))
    assert parity.agree
    assert parity.trades_matched == 28


def test_each_symbol_has_its_own_common_time() -> None:
    native, ccxt = record(*range(50)), record(*range(50))
    native.trades |= record(*range(20, 50), symbol="BTC-USDC-PERP").trades
    ccxt.trades |= record(*range(5, 50), symbol="BTC-USDC-PERP").trades
    assert compare(native, ccxt).agree


def test_a_symbol_of_which_one_feed_saw_no_trade_is_compared_while_both_had_its_book() -> None:
    native, ccxt = record(*range(50)), record(*range(50))
    native.trades |= record(40, symbol="BTC-USDC-PERP").trades
    for one, first in ((native, 0), (ccxt, 35)):
        one.book_times["BTC-USDC-PERP"] = (START + first / 10, START + 5)
    assert compare(native, ccxt).agree
    ccxt.book_times["BTC-USDC-PERP"] = (START + 1, START + 6)
    native.book_times["BTC-USDC-PERP"] = (START, START + 6)
    assert compare(native, ccxt).trades_only_native == 1


def test_another_price_or_another_top_is_a_difference() -> None:
    parity = compare(record(*range(50)), record(*range(50), price="99.2"))
    assert (parity.trades_different, parity.tops_different, parity.agree) == (48, 50, False)


def test_a_feed_that_said_nothing_does_not_agree() -> None:
    assert not compare(record(*range(50)), FeedRecord()).agree
    assert not compare(FeedRecord(), FeedRecord()).agree
