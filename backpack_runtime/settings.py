"""The way to the exchange: one frozen value that client, command line, sandbox and feed share."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import force_setattr

from backpack_proto.connection.connection import CONNECT_TIMEOUT_US
from backpack_proto.connection.heartbeat import PING_TIMEOUT_US, SILENCE_US
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.rest.pacing import PAUSE_CEILING_US

from .checks import checked_count, checked_flag
from .network.addresses import DEFAULT_TLS, REST_URL, WS_URL, Address, Addresses, tls_name
from .network.proxy_settings import Proxies, ProxiesLike
from .transports import BUILT_IN, check_runtime

__all__ = ["DEFAULT_RUNTIME", "Settings"]

DEFAULT_RUNTIME = next(iter(BUILT_IN))
SHORTEST_US = 1_000
"""No timeout is shorter, so that one in seconds or milliseconds is not taken for one in microseconds."""


class Settings(Struct, frozen=True, kw_only=True):
    """Addresses, TLS, proxies, runtime and timeouts of a connection, checked when it is made.

    `msgspec.structs.replace(settings, ...)` makes another one, checked as well. Neither its repr nor `to_dict` shows a secret.

    Raises:
        ConfigurationError: a value cannot be used. The text names it.
    """

    rest_url: str = REST_URL
    """Address of the REST API. A path in it, as in `https://gateway.example/backpack`, stands before the path of every request."""
    ws_url: str = WS_URL
    """Address of the websocket."""
    ca_file: Path | None = None
    """Authorities (PEM) that are trusted instead of the system's."""
    minimum_tls: str = DEFAULT_TLS
    """`1.3` refuses the older `1.2`, which is the oldest that is ever spoken."""
    proxies: Proxies = Proxies()
    """The proxies of REST and websocket. Those of the process apply to the rest, but not to a sandbox."""
    runtime: str = DEFAULT_RUNTIME
    """The library that carries the bytes: `anyio` on asyncio or trio, `aiohttp` on asyncio, or one that another package adds."""
    compression: bool = False
    """Offer permessage-deflate: a fifth of the bytes for several times the work."""
    connect_timeout_us: int = CONNECT_TIMEOUT_US
    """Time that a connection may take to open, microseconds. The time of a proxy comes on top."""
    canary: bool = True
    """Subscribe to a stream that comes every second, so that a mute or late exchange is noticed. Without it only its books are watched."""
    silence_us: int = SILENCE_US
    """A connection that is silent for so long is probed by a ping, microseconds."""
    ping_timeout_us: int = PING_TIMEOUT_US
    """It is given up when it stays silent for so long after that, microseconds."""
    pause_ceiling_us: int = PAUSE_CEILING_US
    """Longest stop of all REST calls by a 429 of the exchange, even if it asks for more, microseconds."""

    if TYPE_CHECKING:  # more may be given than a field holds

        def __init__(
            self,
            *,
            rest_url: str = REST_URL,
            ws_url: str = WS_URL,
            ca_file: str | Path | None = None,
            minimum_tls: str | ssl.TLSVersion = DEFAULT_TLS,
            proxies: ProxiesLike = None,
            runtime: str = DEFAULT_RUNTIME,
            compression: bool = False,
            canary: bool = True,
            connect_timeout_us: int = CONNECT_TIMEOUT_US,
            silence_us: int = SILENCE_US,
            ping_timeout_us: int = PING_TIMEOUT_US,
            pause_ceiling_us: int = PAUSE_CEILING_US,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Check every value, and bring those that have several forms into one."""
        given: ProxiesLike = self.proxies
        # Out of sight first: tools that print the locals of a traceback ask for the repr of objects that could not be made as well.
        force_setattr(self, "proxies", Proxies())
        try:
            force_setattr(self, "proxies", Proxies.of(given))
        finally:
            del given
        Address.of_rest(self.rest_url)
        Address.of_websocket(self.ws_url)
        force_setattr(self, "ca_file", _checked_file(self.ca_file))
        force_setattr(self, "minimum_tls", tls_name(self.minimum_tls))
        check_runtime(self.runtime)
        checked_flag("compression", self.compression)
        checked_flag("canary", self.canary)
        for name in ("connect_timeout_us", "silence_us", "ping_timeout_us", "pause_ceiling_us"):
            checked_count(name, getattr(self, name), minimum=SHORTEST_US, unit="microseconds")

    def addresses(self, proxies: Proxies) -> Addresses:
        """Return the addresses, reached through these proxies, with the trust store loaded.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        return Addresses(self.rest_url, self.ws_url, ca_file=self.ca_file, minimum_tls=self.minimum_tls, proxies=proxies)

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values. Proxies without user and password, the websocket's address without its query."""
        plain: dict[str, object] = {name: getattr(self, name) for name in self.__struct_fields__}
        plain["rest_url"], plain["ws_url"] = _without_secrets(self.rest_url), _without_secrets(self.ws_url)
        plain["ca_file"] = None if self.ca_file is None else str(self.ca_file)
        plain["proxies"] = {
            kind: None if proxy is None else proxy.endpoint
            for kind, proxy in (("rest", self.proxies.rest), ("websocket", self.proxies.websocket))
        }
        return plain

    def __repr__(self) -> str:
        """Show the members of `to_dict`."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show the same to rich."""
        return list(self.to_dict().items())


def _without_secrets(url: object) -> str:
    """Return a URL without its query. One with a user in it, which is about to be refused, is not shown at all."""
    if not isinstance(url, str) or "@" in url:
        return "<not shown>"
    address, has_query, _ = url.partition("?")
    return f"{address}?<not shown>" if has_query else address


def _checked_file(given: object) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str | Path):
        raise ConfigurationError(f"ca_file: the path of a PEM file, got {shown(given)}")
    path = Path(given)
    if not path.is_file():
        raise ConfigurationError(f"ca_file: there is no file {str(path)!r}")
    return path
