"""Puts a feed into cryptofeed's table of exchanges, so that `add_feed("BACKPACK")` finds it."""

from __future__ import annotations

import os
from typing import Any

from cryptofeed import defines
from cryptofeed.exchanges import EXCHANGE_MAP

from .ccxt.feed import CcxtBackpackFeed
from .logs import LOG
from .native.feed import BackpackFeed

__all__ = ["EXCHANGE_ID", "NATIVE_VARIABLE", "is_backpack_native_enabled", "register"]

EXCHANGE_ID = "BACKPACK"
NATIVE_VARIABLE = "CRYPTOFEED_BACKPACK_NATIVE"

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


def is_backpack_native_enabled() -> bool:
    """Return whether the environment chooses the native feed. A value that says neither is taken for no, with a warning."""
    text = os.environ.get(NATIVE_VARIABLE, "").strip().lower()
    if text not in _TRUE | _FALSE:
        LOG.warning("%s: %s says neither true nor false: it counts as false", EXCHANGE_ID, NATIVE_VARIABLE)
    return text in _TRUE


def register(native: bool | None = None, force: bool = False) -> type[Any]:  # noqa: FBT001, FBT002 - the public form of it
    """Put `BackpackFeed` (`native`) or `CcxtBackpackFeed` into `EXCHANGE_MAP["BACKPACK"]` and return the class that stands there afterwards.

    None asks the environment. Classes put there by others stay, and a warning says so, unless `force` is given.
    """
    # The table is one object that several modules of cryptofeed share, so it is changed and never replaced.
    present: type[Any] | None = EXCHANGE_MAP.get(EXCHANGE_ID)
    if not hasattr(defines, EXCHANGE_ID):
        setattr(defines, EXCHANGE_ID, EXCHANGE_ID)
    if present is not None and not force and not _is_ours(present):
        LOG.warning(
            "%s: %s.%s is registered already and stays; register(force=True) replaces it",
            EXCHANGE_ID,
            present.__module__,
            present.__qualname__,
        )
        return present
    native = is_backpack_native_enabled() if native is None else native
    chosen: type[Any] = BackpackFeed if native else CcxtBackpackFeed
    EXCHANGE_MAP[EXCHANGE_ID] = chosen
    return chosen


def _is_ours(feed: type[Any]) -> bool:
    return str(feed.__module__).startswith(f"{__package__}.")
