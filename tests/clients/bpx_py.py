"""All that bpx-py has, synchronous and asynchronous, for lockstep.py. Only the URL is another one."""

from __future__ import annotations

import asyncio

import lockstep  # first, for it sets the clock

# isort: split

from bpx.account import Account
from bpx.async_.account import Account as AsyncAccount
from bpx.async_.public import Public as AsyncPublic
from bpx.base.base_account import BaseAccount
from bpx.base.base_public import BasePublic
from bpx.public import Public

BaseAccount.BPX_API_URL = BasePublic.BASE_URL = lockstep.REST_URL + "/"


def calls() -> dict:
    """Return every call by its name, without the builders of URLs that the classes inherit."""
    found = {}
    for prefix, target in (
        ("Public.", Public()),
        ("Account.", Account(lockstep.API_KEY, lockstep.SECRET)),
        ("async Public.", AsyncPublic()),
        ("async Account.", AsyncAccount(lockstep.API_KEY, lockstep.SECRET)),
    ):
        own = {f"{prefix}{name}" for name in vars(type(target))}
        found |= {name: method for name, method in lockstep.own_methods(prefix, target).items() if name in own}
    return found


asyncio.run(lockstep.serve(calls()))
