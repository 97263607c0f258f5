"""All that ccxt.pro can watch on Backpack, for lockstep.py. Only the URL is another one."""

from __future__ import annotations

import asyncio

import lockstep  # first, for it sets the clock

# isort: split

import ccxt.pro


async def main() -> None:
    """Serve the calls in the event loop that its sockets live in."""
    exchange = ccxt.pro.backpack({"apiKey": lockstep.API_KEY, "secret": lockstep.SECRET, "enableRateLimit": False})
    exchange.urls["api"] = {
        "public": lockstep.REST_URL,
        "private": lockstep.REST_URL,
        "ws": {"public": lockstep.WS_URL, "private": lockstep.WS_URL},
    }
    names = [name.replace("unwatch", "unWatch") for name, there in exchange.has.items() if there and "atch" in name]
    await lockstep.serve({name: getattr(exchange, name) for name in names}, exchange.close)


asyncio.run(main())
