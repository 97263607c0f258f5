"""Clients that nobody here wrote work against the simulated exchange, unchanged but for the address.

ccxt's Backpack classes talk REST and websocket to it the way they talk to the real exchange, over TLS, from a process of their own kind:
the sandbox runs as the command that a user would start.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

ccxt = pytest.importorskip("ccxt", reason="ccxt is not installed")
pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed with its websocket half")

PATIENCE_SECONDS = 60
SPOT = "SOL/USDC"
PERPETUAL = "BTC/USDC:USDC"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, Any]]:
    """A sandbox in a process of its own. Plain, for ccxt has no way to trust another authority for websockets alone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backpack_runtime.cli.parser", "sandbox", "--seed", "5", "--speed", "3"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def pointed_at(exchange: Any, sandbox: dict[str, Any]) -> Any:
    exchange.urls["api"] = {
        "public": sandbox["rest"],
        "private": sandbox["rest"],
        "ws": {"public": sandbox["ws"], "private": sandbox["ws"]},
    }
    return exchange


@pytest.fixture
def rest(sandbox: dict[str, Any]) -> Any:
    return pointed_at(ccxt.backpack({"enableRateLimit": False}), sandbox)


def test_markets_are_understood(rest: Any) -> None:
    markets = rest.load_markets()
    assert {SPOT, PERPETUAL} <= set(markets)
    assert markets[SPOT]["spot"]
    assert markets[PERPETUAL]["swap"]
    assert markets[SPOT]["precision"]["price"] == 0.01


def test_public_rest_is_understood(rest: Any) -> None:
    book = rest.fetch_order_book(SPOT, limit=20)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) == len(book["asks"]) == 20
    ticker = rest.fetch_ticker(SPOT)
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert set(rest.fetch_tickers()) >= {SPOT, PERPETUAL}
    trades = rest.fetch_trades(SPOT, limit=10)
    assert len(trades) == 10
    assert trades == sorted(trades, key=lambda trade: trade["timestamp"])
    candles = rest.fetch_ohlcv(SPOT, "1m", limit=5)
    traded = [candle for candle in candles if candle[1] is not None]
    assert traded, "a minute that has just begun may have no trade, not all of them"
    assert all(low <= opened <= high for _, opened, high, low, *_ in traded)
    rate = rest.fetch_funding_rate(PERPETUAL)
    assert rate["markPrice"] > 0
    assert rest.fetch_open_interest(PERPETUAL)["openInterestValue"] > 0
    assert rest.fetch_funding_rate_history(PERPETUAL, limit=3)
    assert int(rest.publicGetApiV1Time()) > 1_600_000_000_000
    assert rest.fetch_status()["status"] == "ok"


def test_an_unknown_market_is_refused_as_the_real_one_does(rest: Any) -> None:
    rest.load_markets()
    with pytest.raises(ccxt.ExchangeError, match="Invalid market symbol"):
        rest.publicGetApiV1Depth({"symbol": "NOPE_USDC"})


async def watch(sandbox: dict[str, Any]) -> dict[str, Any]:
    exchange = pointed_at(pro.backpack({"enableRateLimit": False}), sandbox)
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await exchange.load_markets()
            seen["trades"] = list(await exchange.watch_trades(SPOT))
            seen["ticker"] = dict(await exchange.watch_ticker(SPOT))
            for _ in range(20):
                await exchange.watch_order_book(SPOT)
            book = await exchange.watch_order_book(SPOT)
            seen["book"] = {"bids": list(book["bids"]), "asks": list(book["asks"]), "nonce": book["nonce"]}
            seen["candles"] = list(await exchange.watch_ohlcv(SPOT, "1m"))
    finally:
        await exchange.close()
    return seen


def test_its_websocket_half_follows_trades_ticker_book_and_candles(sandbox: dict[str, Any]) -> None:
    seen = asyncio.run(watch(sandbox))
    assert seen["trades"][0]["price"] > 0
    assert seen["ticker"]["last"] > 0
    assert seen["book"]["bids"][0][0] < seen["book"]["asks"][0][0]
    assert len(seen["book"]["bids"]) > 50
    assert seen["book"]["nonce"] > 2**32
    assert seen["candles"][0][0] > 1_600_000_000_000
