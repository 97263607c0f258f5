"""Drives `backpack_proto` over real sockets: a client on asyncio and trio, and a served simulated exchange.

What is named here is imported when it is first used, so that a program pays only for what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backpack_proto import __version__
    from backpack_proto.exchange import Exchange
    from backpack_proto.exchange.account.accounts import Fees
    from backpack_proto.exchange.market.listings import Listing

    from .accounts import AccountView
    from .books import BookView
    from .client import BackpackClient
    from .delivery import DeliverySnapshot, EventStream, SlowConsumer
    from .extras import MissingExtra
    from .network.addresses import Address, Addresses
    from .network.proxy import (
        InvalidProxy,
        Proxy,
        ProxyAuthFailed,
        ProxyError,
        ProxyRefused,
        ProxyTimeout,
        ProxyUnreachableTarget,
    )
    from .network.proxy_settings import Proxies, ProxyInjector, ProxySettings, get_proxy_injector, init_proxy_system
    from .orders.journal import Durability, JournalFailed
    from .orders.leaving import CancelOnExit, Leftovers
    from .orders.safety import JournalView
    from .pump import Pump
    from .rest_methods import Pages
    from .sandbox import Sandbox, serve_sandbox
    from .settings import Settings
    from .transport import Transport
    from .transports.mock import MockTransport
    from .transports.stream import StreamTransport

__all__ = [
    "AccountView",
    "Address",
    "Addresses",
    "BackpackClient",
    "BookView",
    "CancelOnExit",
    "DeliverySnapshot",
    "Durability",
    "EventStream",
    "Exchange",
    "Fees",
    "InvalidProxy",
    "JournalFailed",
    "JournalView",
    "Leftovers",
    "Listing",
    "MissingExtra",
    "MockTransport",
    "Pages",
    "Proxies",
    "Proxy",
    "ProxyAuthFailed",
    "ProxyError",
    "ProxyInjector",
    "ProxyRefused",
    "ProxySettings",
    "ProxyTimeout",
    "ProxyUnreachableTarget",
    "Pump",
    "Sandbox",
    "Settings",
    "SlowConsumer",
    "StreamTransport",
    "Transport",
    "__version__",
    "get_proxy_injector",
    "init_proxy_system",
    "serve_sandbox",
]

_HOMES = {
    "AccountView": ".accounts",
    "Address": ".network.addresses",
    "Addresses": ".network.addresses",
    "BackpackClient": ".client",
    "BookView": ".books",
    "CancelOnExit": ".orders.leaving",
    "DeliverySnapshot": ".delivery",
    "Durability": ".orders.journal",
    "EventStream": ".delivery",
    "Exchange": "backpack_proto.exchange",
    "Fees": "backpack_proto.exchange.account.accounts",
    "InvalidProxy": ".network.proxy",
    "JournalFailed": ".orders.journal",
    "JournalView": ".orders.safety",
    "Leftovers": ".orders.leaving",
    "Listing": "backpack_proto.exchange.market.listings",
    "MissingExtra": ".extras",
    "MockTransport": ".transports.mock",
    "Pages": ".rest_methods",
    "Proxies": ".network.proxy_settings",
    "Proxy": ".network.proxy",
    "ProxyAuthFailed": ".network.proxy",
    "ProxyError": ".network.proxy",
    "ProxyInjector": ".network.proxy_settings",
    "ProxyRefused": ".network.proxy",
    "ProxySettings": ".network.proxy_settings",
    "ProxyTimeout": ".network.proxy",
    "ProxyUnreachableTarget": ".network.proxy",
    "Pump": ".pump",
    "Sandbox": ".sandbox",
    "Settings": ".settings",
    "SlowConsumer": ".delivery",
    "StreamTransport": ".transports.stream",
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
