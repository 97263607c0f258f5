"""All that backpack-exchange-sdk has for lockstep.py. Only the URL is another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import lockstep  # first, for it sets the clock

# isort: split

from backpack_exchange_sdk import AuthenticationClient, PublicClient, WebSocketClient


class Pointed(WebSocketClient):
    """Its websocket, which has no argument for the URL."""

    base_url = property(lambda _self: lockstep.WS_URL, lambda _self, _given: None)


PATIENCE_S = 20
HEARD: list = []
ARRIVED = threading.Event()


def hear(data: dict) -> None:
    HEARD.append(data)
    ARRIVED.set()


async def first_of(subscribe: Callable, streams: list, **options: object) -> dict:
    """Subscribe, and return what the callback is given first."""
    HEARD.clear()
    ARRIVED.clear()
    subscribe(streams, hear, **options)
    if not await asyncio.to_thread(ARRIVED.wait, PATIENCE_S):
        raise TimeoutError("the callback was not called")
    return HEARD[0]


def calls() -> dict:
    """Return every call by its name."""
    socket = Pointed(lockstep.API_KEY, lockstep.SECRET)
    found = {
        **lockstep.own_methods("PublicClient.", PublicClient(base_url=lockstep.REST_URL + "/")),
        **lockstep.own_methods(
            "AuthenticationClient.",
            AuthenticationClient(lockstep.API_KEY, lockstep.SECRET, base_url=lockstep.REST_URL + "/"),
        ),
        **lockstep.own_methods("WebSocketClient.", socket),
    }
    found["WebSocketClient.subscribe"] = lambda streams, **options: first_of(socket.subscribe, streams, **options)
    return found


asyncio.run(lockstep.serve(calls()))
