"""The proxy of each target: that of the caller, of the settings of an exchange, of those of all, or none.

REST and websocket are asked for separately, and a setting of one never serves the other. The process has one set of settings, its
own (`init_proxy_system`) or that of the environment:

    CRYPTOFEED_PROXY_ENABLED=true
    CRYPTOFEED_PROXY_DEFAULT__HTTP__URL=http://proxy.example:3128
    CRYPTOFEED_PROXY_DEFAULT__WEBSOCKET__URL=socks5h://user:password@proxy.example:1080
    CRYPTOFEED_PROXY_EXCHANGES__BACKPACK__HTTP__URL=...
    CRYPTOFEED_PROXY_EXCHANGES__BACKPACK__HTTP__TIMEOUT_SECONDS=10

A setting that is not understood is refused: connections that were meant to be proxied must not go out directly.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias, cast, final

import msgspec
from msgspec import Struct

from .proxy import (
    InvalidProxy,
    Proxy,
    ProxyAuthFailed,
    ProxyError,
    ProxyRefused,
    ProxyTimeout,
    ProxyUnreachableTarget,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "InvalidProxy",
    "Proxies",
    "ProxiesLike",
    "Proxy",
    "ProxyAuthFailed",
    "ProxyError",
    "ProxyInjector",
    "ProxyRefused",
    "ProxySettings",
    "ProxyTimeout",
    "ProxyUnreachableTarget",
    "disabled_proxies",
    "get_proxy_injector",
    "init_proxy_system",
    "log_proxy_use",
    "resolve_proxies",
]

ENVIRONMENT_PREFIX = "CRYPTOFEED_PROXY_"
EXCHANGE = "backpack"
TIMEOUT_SECONDS = 30.0
MAX_TIMEOUT_SECONDS = 300.0

_REST = ("http", "rest")
_WEBSOCKET = ("websocket", "ws")
_ONE = {"url", "remote_dns", "timeout_seconds"}
_TRUE = {"1", "true", "yes", "on", "t", "y"}
_FALSE = {"0", "false", "no", "off", "f", "n"}

_log = logging.getLogger(__name__)


class Proxies(Struct, frozen=True):
    """The proxies of both kinds of connections. None goes directly."""

    rest: Proxy | None = None
    websocket: Proxy | None = None
    timeout_seconds: float = TIMEOUT_SECONDS
    """Time that a connection through a proxy may take that has no time of its own."""

    @classmethod
    def of(cls, value: ProxiesLike) -> Proxies:
        """Read a URL or `{"url": ...}`, which serve both, or `{"http": ..., "websocket": ...}` (or `rest` and `ws`) of such.

        Next to `url` there may be `remote_dns` and `timeout_seconds`, next to the two names `timeout_seconds`.

        Raises:
            InvalidProxy: it has another form. The error names the fault and shows no part of a URL.
        """
        try:
            read = _read(value)
            if isinstance(read, str):
                raise InvalidProxy(read)
            return read
        finally:
            # For tools that print the locals of every frame of a traceback.
            del value

    def timeout_of(self, proxy: Proxy) -> float:
        """Time that a connection through one of them may take, seconds."""
        return self.timeout_seconds if proxy.timeout_seconds is None else proxy.timeout_seconds


ProxiesLike: TypeAlias = Proxies | Proxy | str | Mapping[str, Any] | None
"""Any form that `Proxies.of` reads."""


@final
class ProxySettings:
    """Proxies of the whole process: `default` for every exchange, `exchanges` by name. Unused unless `enabled`.

    Each has a form that `Proxies.of` reads. Names of exchanges are equal in capitals and small letters.

    Raises:
        InvalidProxy: a setting is impossible. The error names it and the reason, and shows no part of a URL.
    """

    def __init__(
        self, *, enabled: bool = False, default: ProxiesLike = None, exchanges: Mapping[str, ProxiesLike] | None = None
    ) -> None:
        # Tools that print the locals of a traceback ask for the repr of objects that could not be made as well.
        self.enabled, self.default, self.exchanges = enabled, Proxies(), dict[str, Proxies]()
        try:
            self.default = _located("default", default)
            for name in exchanges or {}:
                self.exchanges[name.casefold()] = _located(f"exchanges.{name}", (exchanges or {})[name])
        finally:
            # For tools that print the locals of every frame of a traceback.
            del default, exchanges

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ProxySettings:
        """Read the variables that begin with `CRYPTOFEED_PROXY_`, in capital or small letters. Those of the process by default.

        Raises:
            InvalidProxy: a variable is unknown or its value impossible.
        """
        try:
            read = _read_environment(os.environ if environment is None else environment)
            if isinstance(read, str):
                raise InvalidProxy(f"{ENVIRONMENT_PREFIX}*: {read}")
            return read
        finally:
            # For tools that print the locals of every frame of a traceback.
            del environment

    def __repr__(self) -> str:
        return f"ProxySettings(enabled={self.enabled}, default={self.default}, exchanges={self.exchanges})"


@final
class ProxyInjector:
    """Answers which proxies serve an exchange, by the settings that it was made with."""

    NONE: ClassVar[Proxies] = Proxies()

    def __init__(self, settings: ProxySettings) -> None:
        self.settings = settings

    def proxies(self, exchange: str = EXCHANGE, explicit: ProxiesLike = None) -> Proxies:
        """Return for REST and websocket each: the explicit proxy, else that of the exchange, else that of all, else none.

        Raises:
            InvalidProxy: `explicit` is impossible.
        """
        try:
            asked = Proxies.of(explicit)
        finally:
            # For tools that print the locals of every frame of a traceback.
            del explicit
        sources = [asked]
        if self.settings.enabled:
            sources += [self.settings.exchanges.get(exchange.casefold(), self.NONE), self.settings.default]
        return Proxies(
            rest=next((_timed(source, source.rest) for source in sources if source.rest is not None), None),
            websocket=next((_timed(source, source.websocket) for source in sources if source.websocket is not None), None),
            timeout_seconds=asked.timeout_seconds,
        )


class _Installed:
    """The program's own injector. The environment counts without one."""

    injector: ProxyInjector | None = None


def init_proxy_system(settings: ProxySettings | None = None) -> ProxyInjector:
    """Set the proxies of the whole process from here on. Without settings, those of the environment at this moment.

    `init_proxy_system(ProxySettings())` switches the environment off.

    Raises:
        InvalidProxy: the environment is impossible.
    """
    _Installed.injector = ProxyInjector(ProxySettings.from_environment() if settings is None else settings)
    return _Installed.injector


def get_proxy_injector() -> ProxyInjector | None:
    """Return the settings of the whole process: those of the program, else of the environment, or None when that is switched off.

    Raises:
        InvalidProxy: the environment is impossible.
    """
    injector = _Installed.injector or ProxyInjector(ProxySettings.from_environment())
    return injector if injector.settings.enabled else None


def resolve_proxies(explicit: ProxiesLike = None, exchange: str = EXCHANGE) -> Proxies:
    """Return the proxies of a new client: its own, else those of the process.

    Raises:
        InvalidProxy: one of the two is impossible.
    """
    try:
        return (get_proxy_injector() or ProxyInjector(ProxySettings())).proxies(exchange, explicit)
    finally:
        del explicit


def disabled_proxies(exchange: str = EXCHANGE) -> Proxies:
    """Return the proxies that the process has for an exchange and does not use, because they are not enabled.

    Raises:
        InvalidProxy: the environment is impossible.
    """
    injector = _Installed.injector or ProxyInjector(ProxySettings.from_environment())
    settings = injector.settings
    if settings.enabled:
        return Proxies()
    return ProxyInjector(ProxySettings(enabled=True, default=settings.default, exchanges=settings.exchanges)).proxies(exchange)


def log_proxy_use(transport: str, proxy: Proxy, exchange: str = EXCHANGE) -> None:
    """Tell the log, once per connection, that a proxy is used. `transport` is `http` or `websocket`."""
    _log.info("proxy: transport=%s exchange=%s scheme=%s endpoint=%s", transport, exchange, proxy.scheme, proxy.authority)


def _timed(source: Proxies, proxy: Proxy) -> Proxy:
    """A proxy that knows its own patience, for it leaves the settings that it stood in."""
    return proxy.with_timeout(source.timeout_of(proxy))


def _located(where: str, value: ProxiesLike) -> Proxies:
    """Read proxies. Errors name the place where they stood."""
    try:
        read = _read(value)
        if isinstance(read, str):
            raise InvalidProxy(f"{where}: {read}")
        return read
    finally:
        del value


def _read(value: object) -> Proxies | str:
    """Return the proxies that a value describes, or its fault."""
    if isinstance(value, Proxies):
        return value
    if not isinstance(value, Mapping) or not _split(value):
        both = _read_one(value)
        return both if isinstance(both, str) else Proxies(both, both)
    unknown = value.keys() - {*_REST, *_WEBSOCKET, "timeout_seconds"}
    if unknown:
        return "proxies are a url, with remote_dns and timeout_seconds, or http and websocket of such, with timeout_seconds"
    found: list[Proxy | None] = []
    for names in (_REST, _WEBSOCKET):
        given = [value[name] for name in names if value.get(name) is not None]
        if len(given) > 1:
            return f"{' and '.join(names)} are two names of the same setting"
        one = _read_one(given[0] if given else None)
        if isinstance(one, str):
            return f"{names[0]}: {one}"
        found.append(one)
    timeout = _as_timeout(value.get("timeout_seconds"))
    if isinstance(timeout, str):
        return timeout
    return Proxies(found[0], found[1], TIMEOUT_SECONDS if timeout is None else timeout)


def _split(value: Mapping[object, object]) -> bool:
    """Return whether a mapping has settings of REST and websocket apart."""
    return "url" not in value


def _read_one(value: object) -> Proxy | str | None:
    """Return the proxy that a value describes, or its fault."""
    if value is None or isinstance(value, Proxy):
        return value
    settings = cast("Mapping[str, object]", value if isinstance(value, Mapping) else {"url": value})
    if settings.keys() - _ONE or "url" not in settings:
        return "a proxy is its url, with remote_dns and timeout_seconds where they are wanted"
    if settings["url"] is None:
        return None
    timeout = _as_timeout(settings.get("timeout_seconds"))
    if isinstance(timeout, str):
        return timeout
    given_dns = settings.get("remote_dns")
    remote_dns = None if given_dns is None else _as_bool(given_dns)
    if given_dns is not None and remote_dns is None:
        return "remote_dns is neither true nor false"
    try:
        return Proxy.parse(cast("str", settings["url"]), remote_dns=remote_dns, timeout_seconds=timeout)
    except InvalidProxy as invalid:
        return str(invalid)


def _as_timeout(value: object) -> float | str | None:
    """Return a number of seconds, None for None, or the fault of the value."""
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        seconds = 0.0
    return seconds if 0 < seconds <= MAX_TIMEOUT_SECONDS else f"timeout_seconds is above 0 and at most {MAX_TIMEOUT_SECONDS:g}"


def _as_bool(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    return True if text in _TRUE else False if text in _FALSE else None


def _read_environment(environment: Mapping[str, str]) -> ProxySettings | str:
    """Return the settings that variables describe, or their fault."""
    settings = _nested(environment)
    if isinstance(settings, str):
        return settings
    exchanges = settings.get("exchanges", {})
    if settings.keys() - {"enabled", "default", "exchanges"} or not isinstance(exchanges, Mapping):
        return "there are ENABLED, DEFAULT__... and EXCHANGES__<NAME>__..., and no others"
    enabled = _as_bool(settings.get("enabled", False))
    if enabled is None:
        return "ENABLED is neither true nor false"
    try:
        return ProxySettings(enabled=enabled, default=settings.get("default"), exchanges=exchanges)
    except InvalidProxy as invalid:
        return str(invalid)


def _nested(environment: Mapping[str, str]) -> dict[str, Any] | str:
    """Return the variables of the prefix as nested mappings, names in small letters, or their fault.

    Where a mapping is due, a variable may hold all of it as a JSON object. An empty one counts as missing.
    """
    settings: dict[str, Any] = {}
    for variable, text in sorted(environment.items(), key=lambda pair: pair[0].count("__")):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        *path, last = variable[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        inside = settings
        for name in path:
            inside = inside.setdefault(name, {})
            if not isinstance(inside, dict):
                return f"{variable} is a part of what another variable has set as a whole"
        try:
            inside[last] = msgspec.json.decode(text) if text.lstrip().startswith("{") else text
        except msgspec.DecodeError:
            return f"{variable} begins like a JSON object and is none"
    return settings
