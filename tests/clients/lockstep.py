"""One client library at the other end of a pipe: says which calls it has, and makes those that it is told, one at a time.

Runs in the environment of the library, where nothing of this project is installed. Each line in is a call as JSON, each line out its
outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

REST_URL = os.environ["SANDBOX_REST_URL"]
WS_URL = os.environ["SANDBOX_WS_URL"]
API_KEY = os.environ["SANDBOX_API_KEY"]
SECRET = os.environ["SANDBOX_SECRET"]

_OFFSET_S = float(os.environ["SANDBOX_CLOCK_OFFSET_S"])
_real_time, _real_time_ns = time.time, time.time_ns
# The exchange lives on a trading day, whenever this runs. The library signs with the time that it finds.
time.time = lambda: _real_time() + _OFFSET_S
time.time_ns = lambda: _real_time_ns() + int(_OFFSET_S * 1e9)


def own_methods(prefix: str, target: object) -> dict[str, Callable]:
    """Return what a class defines itself and shows to its users, bound to an object of it."""
    names = [name for kind in type(target).__mro__[:-1] for name in vars(kind)]
    found = {}
    for name in dict.fromkeys(names):
        method = getattr(target, name)
        if not name.startswith("_") and inspect.ismethod(method):
            found[f"{prefix}{name}"] = method
    return found


async def serve(calls: Mapping[str, Callable], close: Callable | None = None) -> None:
    """Make the calls that come in, until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Some libraries print.
    os.dup2(2, 1)
    _answer(answers, {"calls": list(calls)})
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            returned = calls[asked["call"]](*asked["positional"], **asked["named"])
            if inspect.isawaitable(returned):
                returned = await asyncio.wait_for(returned, asked["patience_s"])
            _answer(answers, {"returned": returned})
        except Exception as error:  # noqa: BLE001 - whatever a library raises is its answer
            _answer(answers, {"raised": f"{type(error).__name__}: {error}"})
    if close is not None:
        with contextlib.suppress(Exception):
            await close()


def _answer(answers: TextIO, outcome: Mapping) -> None:
    # Caches of ccxt are lists and dictionaries with more to them.
    answers.write(json.dumps(outcome, default=str) + "\n")
    answers.flush()
