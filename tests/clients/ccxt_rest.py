"""All that ccxt has for Backpack over REST, for lockstep.py. Only the URL is another one."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import lockstep  # first, for it sets the clock

# isort: split

import ccxt

exchange = ccxt.backpack({"apiKey": lockstep.API_KEY, "secret": lockstep.SECRET, "enableRateLimit": False})
exchange.urls["api"] = {"public": lockstep.REST_URL, "private": lockstep.REST_URL}
NO_METHODS = {"publicAPI", "privateAPI", "spot", "margin", "swap", "CORS"}
"""What `has` says that is no call."""


def unified_call(name: str, *positional: object, **named: object) -> object:
    """Call a method by its name. Not every name that `has` affirms is one."""
    return getattr(exchange, name)(*positional, **named)


def implicit() -> dict:
    """Return the call of every route that is described."""
    found = {}
    for access, methods in exchange.describe()["api"].items():
        for method, routes in methods.items():
            for route in routes:
                words = [word for part in route.split("/") for word in re.split("[-_]", part)]
                name = access + method.capitalize() + "".join(word[0].upper() + word[1:] for word in words)
                found[f"{method.upper()} /{route}"] = getattr(exchange, name)
    return found


def unified() -> dict:
    """Return every method that `has` affirms, those that it emulates as well."""
    return {
        name: partial(unified_call, name)
        for name, there in exchange.has.items()
        if there and name not in NO_METHODS and "atch" not in name
    }


asyncio.run(lockstep.serve({**unified(), **implicit()}))
