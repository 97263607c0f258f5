"""Orders, one after the other, each from the call to its acknowledgement. The variant is a runtime of ours, or another client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from backpack_proto import Credentials, NewOrder, Signer
from backpack_runtime import BackpackClient, Settings

from .metering import LATENCIES, SYMBOL, Options, load_options, report

FAR = "50.00"
"""Too low to trade. Orders are post-only, for the exchange answers all others 100 ms later: that would be all that is measured."""
QUANTITY = "1.00"
APART_SECONDS = 0.05
"""Between orders, so that no request waits for the budget of a client."""
WARM = 5


class Stopwatch:
    """Time and CPU of orders."""

    def __init__(self) -> None:
        self._spent: list[int] = []
        self._cpu = 0
        self._began = (0, 0)

    def start(self) -> None:
        """Start to measure an order."""
        self._began = time.perf_counter_ns(), time.process_time_ns()

    def stop(self) -> None:
        """Measure it, unless it is one of the first few."""
        wall, cpu = time.perf_counter_ns() - self._began[0], time.process_time_ns() - self._began[1]
        self._spent.append(wall)
        self._cpu += cpu if len(self._spent) > WARM else 0

    def report(self) -> None:
        """Report all figures."""
        spent = sorted(self._spent[WARM:])
        found = {f"p{name}_us": spent[int(len(spent) * share)] / 1000 for name, share in LATENCIES.items()}
        report(done=True, events=len(spent), us_an_order=self._cpu / 1000 / len(spent), **found)


async def repeat(place: Callable[[], Awaitable[object]], sleep: Callable[[float], Awaitable[None]], count: int) -> None:
    """Place orders by a client that does not block."""
    stopwatch = Stopwatch()
    for _ in range(count + WARM):
        stopwatch.start()
        await place()
        stopwatch.stop()
        await sleep(APART_SECONDS)
    stopwatch.report()


async def ours(options: Options) -> None:
    found = options.sandbox
    settings = Settings(
        rest_url=found["rest"], ws_url=found["ws"], runtime="aiohttp" if options.variant == "aiohttp" else "anyio"
    )
    order = NewOrder.limit(SYMBOL, "Bid", price=FAR, quantity=QUANTITY, post_only=True)
    async with BackpackClient(settings=settings, signer=Signer(Credentials(found["secret"]))) as client:
        await repeat(lambda: client.place(order), anyio.sleep, options.frames)


async def ccxt_pro(options: Options) -> None:
    import ccxt.pro  # noqa: PLC0415 - other variants do without

    found = options.sandbox
    exchange = ccxt.pro.backpack({"enableRateLimit": False, "apiKey": found["api_key"], "secret": found["secret"]})
    exchange.urls["api"] = {
        "public": found["rest"],
        "private": found["rest"],
        "ws": {"public": found["ws"], "private": found["ws"]},
    }
    try:
        await exchange.load_markets()
        arguments: tuple[Any, ...] = ("SOL/USDC", "limit", "buy", float(QUANTITY), float(FAR), {"postOnly": True})
        await repeat(lambda: exchange.create_order(*arguments), asyncio.sleep, options.frames)
    finally:
        await exchange.close()


def bpx(options: Options) -> None:
    from bpx.account import Account  # noqa: PLC0415 - other variants do without

    found = options.sandbox
    account = Account(found["api_key"], found["secret"])
    account.BPX_API_URL = f"{found['rest']}/"
    stopwatch = Stopwatch()
    for _ in range(options.frames + WARM):
        stopwatch.start()
        answer = account.execute_order(SYMBOL, "Bid", "Limit", post_only=True, quantity=QUANTITY, price=FAR)
        stopwatch.stop()
        if not isinstance(answer, dict) or "id" not in answer:
            raise RuntimeError(f"no order: {answer}")
        time.sleep(APART_SECONDS)
    stopwatch.report()


def main() -> None:
    options = load_options()
    if options.variant == "bpx-py":
        bpx(options)
    elif options.variant == "ccxt.pro":
        asyncio.run(ccxt_pro(options))
    else:
        anyio.run(ours, options, backend="trio" if options.variant == "trio" else "asyncio")


if __name__ == "__main__":
    main()
