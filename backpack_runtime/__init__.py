"""Drives `backpack_proto` over real sockets: a client on asyncio and trio, and a served simulated exchange.

Names are imported when they are first used, so that a program pays only for its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backpack_proto import __version__
    from backpack_proto.exchange import Exchange
    from backpack_proto.exchange.account.accounts import Fees
    from backpack_proto.exchange.fault_plan import PlannedFault
    from backpack_proto.exchange.market.listings import BookState, Listing

    from .accounts import AccountView
    from .background import SyncIterator
    from .books import BookView
    from .candles import Candles
    from .client import BackpackClient
    from .credentials import Credentials
    from .delivery import DeliverySnapshot, EventStream, SlowConsumer
    from .exports import Exported, ExportedFile, ExportFailed, export_events
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
    from .publishing.consumer import FeedConsumer, FromPublisher, PublishedBook, open_consumer
    from .publishing.errors import EngineFailed
    from .pump import Pump
    from .recording.errors import RecordingFailed, RecordingUnreadable, ReplayDiffers
    from .recording.reader import Recording, Step, open_recording
    from .recording.recorder import Recorder
    from .recording.source import Recordable, SessionInputs
    from .recovery import NotRecovered, Recovered, RecoveryOutcome
    from .rest.pages import Pages
    from .sandbox import Sandbox, SandboxAccount, serve_sandbox
    from .serving import make_app, serve_dashboard
    from .settings import Settings
    from .sync_client import BackpackSync
    from .transport import Transport
    from .transports.mock import MockTransport
    from .transports.stream import StreamTransport

__all__ = [
    "AccountView",
    "Address",
    "Addresses",
    "BackpackClient",
    "BackpackSync",
    "BookState",
    "BookView",
    "CancelOnExit",
    "Candles",
    "Credentials",
    "DeliverySnapshot",
    "Durability",
    "EngineFailed",
    "EventStream",
    "Exchange",
    "ExportFailed",
    "Exported",
    "ExportedFile",
    "FeedConsumer",
    "Fees",
    "FromPublisher",
    "InvalidProxy",
    "JournalFailed",
    "JournalView",
    "Leftovers",
    "Listing",
    "MissingExtra",
    "MockTransport",
    "NotRecovered",
    "Pages",
    "PlannedFault",
    "Proxies",
    "Proxy",
    "ProxyAuthFailed",
    "ProxyError",
    "ProxyInjector",
    "ProxyRefused",
    "ProxySettings",
    "ProxyTimeout",
    "ProxyUnreachableTarget",
    "PublishedBook",
    "Pump",
    "Recordable",
    "Recorder",
    "Recording",
    "RecordingFailed",
    "RecordingUnreadable",
    "Recovered",
    "RecoveryOutcome",
    "ReplayDiffers",
    "Sandbox",
    "SandboxAccount",
    "SessionInputs",
    "Settings",
    "SlowConsumer",
    "Step",
    "StreamTransport",
    "SyncIterator",
    "Transport",
    "__version__",
    "export_events",
    "get_proxy_injector",
    "init_proxy_system",
    "make_app",
    "open_consumer",
    "open_recording",
    "serve_dashboard",
    "serve_sandbox",
]

_HOMES = {
    "AccountView": ".accounts",
    "Address": ".network.addresses",
    "Addresses": ".network.addresses",
    "BackpackClient": ".client",
    "BackpackSync": ".sync_client",
    "BookState": "backpack_proto.exchange.market.listings",
    "BookView": ".books",
    "CancelOnExit": ".orders.leaving",
    "Candles": ".candles",
    "Credentials": ".credentials",
    "DeliverySnapshot": ".delivery",
    "Durability": ".orders.journal",
    "EngineFailed": ".publishing.errors",
    "EventStream": ".delivery",
    "Exchange": "backpack_proto.exchange",
    "ExportFailed": ".exports",
    "Exported": ".exports",
    "ExportedFile": ".exports",
    "FeedConsumer": ".publishing.consumer",
    "Fees": "backpack_proto.exchange.account.accounts",
    "FromPublisher": ".publishing.consumer",
    "InvalidProxy": ".network.proxy",
    "JournalFailed": ".orders.journal",
    "JournalView": ".orders.safety",
    "Leftovers": ".orders.leaving",
    "Listing": "backpack_proto.exchange.market.listings",
    "MissingExtra": ".extras",
    "MockTransport": ".transports.mock",
    "NotRecovered": ".recovery",
    "Pages": ".rest.pages",
    "PlannedFault": "backpack_proto.exchange.fault_plan",
    "Proxies": ".network.proxy_settings",
    "Proxy": ".network.proxy",
    "ProxyAuthFailed": ".network.proxy",
    "ProxyError": ".network.proxy",
    "ProxyInjector": ".network.proxy_settings",
    "ProxyRefused": ".network.proxy",
    "ProxySettings": ".network.proxy_settings",
    "ProxyTimeout": ".network.proxy",
    "ProxyUnreachableTarget": ".network.proxy",
    "PublishedBook": ".publishing.consumer",
    "Pump": ".pump",
    "Recordable": ".recording.source",
    "Recorder": ".recording.recorder",
    "Recording": ".recording.reader",
    "RecordingFailed": ".recording.errors",
    "RecordingUnreadable": ".recording.errors",
    "Recovered": ".recovery",
    "RecoveryOutcome": ".recovery",
    "ReplayDiffers": ".recording.errors",
    "Sandbox": ".sandbox",
    "SandboxAccount": ".sandbox",
    "SessionInputs": ".recording.source",
    "Settings": ".settings",
    "SlowConsumer": ".delivery",
    "Step": ".recording.reader",
    "StreamTransport": ".transports.stream",
    "SyncIterator": ".background",
    "Transport": ".transport",
    "__version__": "backpack_proto",
    "export_events": ".exports",
    "get_proxy_injector": ".network.proxy_settings",
    "init_proxy_system": ".network.proxy_settings",
    "open_recording": ".recording.reader",
    "open_consumer": ".publishing.consumer",
    "make_app": ".serving",
    "serve_dashboard": ".serving",
    "serve_sandbox": ".sandbox",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
