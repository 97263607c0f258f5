"""Checks of the arguments of a client, beyond those that any argument has (`checks`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.hints import shown
from backpack_proto.orders.intents import INSTANCES
from backpack_proto.streams.names import streams_for
from backpack_proto.streams.payloads import Event

from .checks import checked_count, checked_member, checked_names
from .market_selection import MarketRule
from .network.addresses import REST_URL, WS_URL
from .network.proxy_settings import Proxies
from .orders.journal import Durability
from .orders.leaving import CancelOnExit
from .orders.safety import OrderSettings
from .settings import Settings

__all__ = [
    "check_callback",
    "check_calls_only",
    "check_kinds",
    "check_signer",
    "check_symbols",
    "checked_channels",
    "checked_faults",
    "checked_orders",
    "checked_settings",
    "connect_timeout_us",
]

DEFAULT_CHANNELS = ("book", "trades")


def checked_settings(settings: object, *, sandbox: bool, transport: object) -> Settings:
    """Return the settings, which have to fit a sandbox or a transport of the user's own."""
    if settings is None:
        settings = Settings()
    if not isinstance(settings, Settings):
        raise ConfigurationError(f"settings: a Settings, got {_kind(settings)}")
    if transport is not None and sandbox:
        raise ConfigurationError(
            "transport: a sandbox is reached by a runtime of its own; leave out one of sandbox and transport"
        )
    elsewhere = [name for name, url in (("rest_url", REST_URL), ("ws_url", WS_URL)) if getattr(settings, name) != url]
    if sandbox and elsewhere:
        raise ConfigurationError(
            f"sandbox=True starts an exchange of its own: leave {' and '.join(elsewhere)} out of the settings"
        )
    return settings


def checked_faults(faults: object, *, sandbox: bool) -> str:
    """Return the plan of a sandbox's faults, which can be read and has a sandbox."""
    if not isinstance(faults, str):
        raise ConfigurationError(f"sandbox_faults: text such as gap@5,mute@10-20, got {_kind(faults)}")
    if faults and not sandbox:
        raise ConfigurationError("sandbox_faults: only a sandbox can be made to fail; give sandbox=True as well")
    if faults:
        from backpack_proto.exchange import parse_faults  # noqa: PLC0415 - only a sandbox needs the simulated exchange

        try:
            parse_faults(faults)
        except LocalProtocolError as unreadable:
            raise ConfigurationError(f"sandbox_{unreadable}") from None
    return faults


def checked_channels(channels: object, symbols: tuple[str, ...] | MarketRule) -> tuple[str, ...]:
    """Return the channels, each of which exists and has the symbols that it needs."""
    if channels is None:
        return DEFAULT_CHANNELS if symbols else ()
    names = checked_names("channels", channels)
    check_symbols(names, symbols if isinstance(symbols, tuple) else ("SOME_MARKET",))
    return names


def check_symbols(channels: tuple[str, ...], symbols: tuple[str, ...]) -> None:
    """Refuse channels without a subscription."""
    silent = [channel for channel in channels if not streams_for([channel], symbols)]
    if silent:
        raise ConfigurationError(
            f'channels: {", ".join(silent)} without symbols subscribes nothing; give symbols, as in ["SOL_USDC"]'
        )


def check_calls_only(*, symbols: object, channels: tuple[str, ...], follow_account: bool) -> None:
    """Refuse arguments that need the connection that `streams=False` leaves out."""
    given = {"symbols": bool(symbols), "channels": bool(channels), "follow_account": follow_account}
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise ConfigurationError(f"streams: False means calls only; leave out {' and '.join(wrong)}")


def check_kinds(kinds: Iterable[object]) -> None:
    """Refuse other classes than those of events."""
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise ConfigurationError(f"kinds: classes of events, such as Trade, got {shown(kind)}")


def check_callback(on_event: object) -> None:
    """Refuse other callbacks than plain functions: a coroutine would not be awaited."""
    if on_event is None:
        return
    if not callable(on_event):
        raise ConfigurationError(f"on_event: a function of one event, got {shown(on_event)}")
    if inspect.iscoroutinefunction(on_event) or inspect.iscoroutinefunction(type(on_event).__call__):
        raise ConfigurationError("on_event: a plain function, got an `async def`, which is for `async for event in client`")


def _kind(value: object) -> str:
    """Return a value for an error text, but never a text, for it may be a key."""
    return "a str" if isinstance(value, str) else shown(value)


def check_signer(signer: object) -> None:
    """Refuse other objects than signers, without showing them."""
    if signer is not None and not isinstance(signer, Signer):
        raise ConfigurationError(f"signer: a Signer, got {_kind(signer)}{_signer_hint(signer)}")


def _signer_hint(signer: object) -> str:
    return (
        "; wrap it: Signer(credentials)" if isinstance(signer, Credentials) else "; make one: Signer(Credentials(private_key))"
    )


def connect_timeout_us(settings: Settings, proxies: Proxies) -> int:
    """Return how long a connection may take: the proxy's own time comes first, so that it is named when it is used up."""
    proxy = proxies.websocket
    return settings.connect_timeout_us + (0 if proxy is None else int(proxies.timeout_of(proxy) * 1e6))


def checked_orders(
    journal: object, durability: object, instance: object, cancel_on_exit: object, *, signer: Signer | None
) -> OrderSettings:
    """Return the settings for the safety of orders."""
    if journal is not None and not isinstance(journal, str | Path):
        raise ConfigurationError(f"journal: the path of a file, got {shown(journal)}")
    kept = checked_member("durability", durability, Durability)
    if kept is Durability.MACHINE and journal is None:
        raise ConfigurationError("durability: 'machine' needs a file; give journal=PATH")
    number = None if instance is None else checked_count("instance", instance, minimum=0, maximum=INSTANCES - 1)
    which = None if cancel_on_exit is None else checked_member("cancel_on_exit", cancel_on_exit, CancelOnExit)
    given = {"journal": journal, "instance": instance, "cancel_on_exit": cancel_on_exit}
    named = [name for name, value in given.items() if value is not None]
    if named and signer is None:
        raise ConfigurationError(
            f"{named[0]} is about orders, which need a signer: give signer=Signer(Credentials(private_key))"
        )
    return OrderSettings(None if journal is None else Path(journal), kept, number, which)
