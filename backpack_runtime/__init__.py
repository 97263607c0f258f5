"""Drives `backpack_proto` over real sockets: a client on asyncio and trio, and a served simulated exchange.

What is named here is imported when it is first used, so that a program pays only for what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backpack_proto import __version__

    from .client import BackpackClient
    from .delivery import DeliverySnapshot, SlowConsumer
    from .extras import MissingExtra
    from .network.proxy import InvalidProxy, Proxy, ProxyError
    from .network.proxy_settings import Proxies, ProxySettings, get_proxy_injector, init_proxy_system
    from .pump import Pump
    from .sandbox import Sandbox, serve_sandbox
    from .settings import Settings
    from .transport import Transport
    from .transports.mock import MockTransport

__all__ = [
    "BackpackClient",
    "DeliverySnapshot",
    "InvalidProxy",
    "MissingExtra",
    "MockTransport",
    "Proxies",
    "Proxy",
    "ProxyError",
    "ProxySettings",
    "Pump",
    "Sandbox",
    "Settings",
    "SlowConsumer",
    "Transport",
    "__version__",
    "get_proxy_injector",
    "init_proxy_system",
    "serve_sandbox",
]

_HOMES = {
    "BackpackClient": ".client",
    "DeliverySnapshot": ".delivery",
    "InvalidProxy": ".network.proxy",
    "MissingExtra": ".extras",
    "MockTransport": ".transports.mock",
    "Proxies": ".network.proxy_settings",
    "Proxy": ".network.proxy",
    "ProxyError": ".network.proxy",
    "ProxySettings": ".network.proxy_settings",
    "Pump": ".pump",
    "Sandbox": ".sandbox",
    "Settings": ".settings",
    "SlowConsumer": ".delivery",
    "Transport": ".transport",
    "__version__": "backpack_proto",
    "get_proxy_injector": ".network.proxy_settings",
    "init_proxy_system": ".network.proxy_settings",
    "serve_sandbox": ".sandbox",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
