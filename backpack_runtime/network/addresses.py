"""Where the exchange is: the addresses of REST and websocket, the proxies on the way, and the TLS that all of them use."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from backpack_proto.errors import LocalProtocolError

from .proxy_settings import Proxies

__all__ = ["REST_URL", "TLS_VERSIONS", "WS_URL", "Address", "Addresses", "tls_version"]

REST_URL = "https://api.backpack.exchange"
WS_URL = "wss://ws.backpack.exchange"
"""docs/protocol.md 1.1."""

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
"""What a user can demand; anything older is never spoken."""
DEFAULT_TLS = "1.2"

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ENCRYPTED = {"https", "wss"}


class Address(NamedTuple):
    """One address, taken apart."""

    host: str
    port: int
    encrypted: bool
    target: str
    """Path and query of a websocket; the path that stands before every REST path."""

    @property
    def authority(self) -> str:
        """What the Host header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.encrypted else 80) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str, schemes: tuple[str, str]) -> Address:
        """Read a URL.

        Raises:
            LocalProtocolError: not a URL of one of these schemes, or with a user or password in it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise LocalProtocolError(f"a URL of the exchange is malformed: {error}") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise LocalProtocolError(f"a URL of the exchange must begin with {' or '.join(f'{name}://' for name in schemes)}")
        if parts.username is not None or parts.password is not None:
            raise LocalProtocolError("a URL of the exchange holds no user and no password")
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme in _ENCRYPTED, target)


class Addresses:
    """The exchange's two addresses, and how they are reached."""

    def __init__(
        self,
        rest_url: str = REST_URL,
        ws_url: str = WS_URL,
        *,
        ca_file: str | Path | None = None,
        minimum_tls: str | ssl.TLSVersion | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        """Take the addresses apart.

        `ca_file` is trusted instead of the system's authorities; `minimum_tls` refuses what is older, and is 1.2 by itself.

        Raises:
            LocalProtocolError: an address is malformed, or there is no such version of TLS.
            OSError, ssl.SSLError: the CA file cannot be read.
        """
        self.rest = Address.parse(rest_url.rstrip("/"), ("https", "http"))
        ws = Address.parse(ws_url, ("wss", "ws"))
        self.ws = ws._replace(target=ws.target or "/")
        self.ssl_context: ssl.SSLContext | None = None
        """The same for REST, websocket and `https` proxies, so that all trust the same; None when nothing is encrypted."""
        self.proxies = Proxies() if proxies is None else proxies
        to_proxy = {proxy.scheme for proxy in (self.proxies.rest, self.proxies.websocket) if proxy is not None}
        minimum = tls_version(minimum_tls)
        if self.rest.encrypted or self.ws.encrypted or "https" in to_proxy:
            self.ssl_context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
            self.ssl_context.minimum_version = minimum


def tls_version(minimum: str | ssl.TLSVersion | None) -> ssl.TLSVersion:
    """The oldest version of TLS to be spoken: 1.2, unless it is to be 1.3.

    Raises:
        LocalProtocolError: it is none of the two.
    """
    for name, version in TLS_VERSIONS.items():
        if minimum in (name, version) or (minimum is None and name == DEFAULT_TLS):
            return version
    raise LocalProtocolError(f"minimum_tls is one of {', '.join(TLS_VERSIONS)}")
