"""Backpack Exchange for cryptofeed: `BackpackFeed` and all that belongs to it.

Importing this package registers it, so that `FeedHandler.add_feed("BACKPACK", ...)` works: with `CRYPTOFEED_BACKPACK_NATIVE=true` in
the environment it is `BackpackFeed` that is registered, otherwise `CcxtBackpackFeed`. The same names are in
`cryptofeed.exchanges.backpack`.
"""

from backpack_runtime.extras import MissingExtra

try:
    import aiohttp_socks as _aiohttp_socks  # noqa: F401 - a part of the extra
    import pydantic as _pydantic  # noqa: F401 - as above

    # Not `import cryptofeed`, which any empty folder of that name satisfies.
    from cryptofeed.exchanges import EXCHANGE_MAP as _EXCHANGE_MAP  # noqa: F401
except ImportError as missing:
    raise MissingExtra("the feed for cryptofeed", "cryptofeed", missing) from missing

from .auth import BackpackAuthHelper
from .ccxt.feed import CcxtBackpackFeed
from .config.model import BackpackAuthSettings, BackpackConfig
from .errors import BackpackAuthError, BackpackRestError, BackpackWebsocketError
from .health import BackpackHealthReport
from .native.feed import BackpackFeed
from .native.records import BalanceInfo, FillInfo, OrderInfo, PositionInfo
from .registration import is_backpack_native_enabled, register

__all__ = [
    "BackpackAuthError",
    "BackpackAuthHelper",
    "BackpackAuthSettings",
    "BackpackConfig",
    "BackpackFeed",
    "BackpackHealthReport",
    "BackpackRestError",
    "BackpackWebsocketError",
    "BalanceInfo",
    "CcxtBackpackFeed",
    "FillInfo",
    "OrderInfo",
    "PositionInfo",
    "is_backpack_native_enabled",
    "register",
]

register()
