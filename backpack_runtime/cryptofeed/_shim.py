"""Backpack Exchange. The package that brings this module is `backpack-feed`. All there is to know is in `backpack_runtime.cryptofeed`."""

from backpack_runtime.cryptofeed import *  # noqa: F403 - the same names
from backpack_runtime.cryptofeed import __all__ as __all__  # noqa: PLC0414 - exported as well
