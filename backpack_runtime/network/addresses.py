"""Where the exchange is: the addresses of REST and websocket, the proxies on the way, and the TLS that all of them use."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import one_of, shown

from .proxy_settings import Proxies

__all__ = ["DEFAULT_TLS", "REST_URL", "TLS_VERSIONS", "WS_URL", "Address", "Addresses", "tls_name"]

REST_URL = "https://api.backpack.exchange"
WS_URL = "wss://ws.backpack.exchange"
"""docs/protocol.md 1.1."""

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
"""Versions that a user can require. Older ones are never spoken."""
DEFAULT_TLS = "1.2"

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ENCRYPTED = {"https", "wss"}
_PATH = re.compile(r"[!$%&'()*+,./0-9:;=@A-Z_a-z~-]*")
"""RFC 3986 section 3.3. Anything else is percent-encoded."""


class Address(NamedTuple):
    """One address, taken apart."""

    host: str
    port: int
    encrypted: bool
    target: str
    """Path and query of a websocket. The path that stands before every REST path."""

    @property
    def authority(self) -> str:
        """Value of the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.encrypted else 80) else f"{host}:{self.port}"

    @classmethod
    def of_rest(cls, url: str, name: str = "rest_url") -> Address:
        """Read the URL of a REST API, whose path stands before every path. `name` is the argument's, for errors.

        Raises:
            ConfigurationError: not an http or https URL, or one with a user, a password, a query or a fragment.
        """
        address = cls._parse(url, ("https", "http"), name)
        if "?" in url:
            raise ConfigurationError(f"{name}: a URL without a query, got one; requests have queries of their own")
        return address._replace(target=address.target.rstrip("/"))

    @classmethod
    def of_websocket(cls, url: str, name: str = "ws_url") -> Address:
        """Read the URL of a websocket, which may have a path and a query. `name` is the argument's, for errors.

        Raises:
            ConfigurationError: not a ws or wss URL, or one with a user, a password or a fragment.
        """
        address = cls._parse(url, ("wss", "ws"), name)
        return address._replace(target=address.target or "/")

    @classmethod
    def _parse(cls, url: object, schemes: tuple[str, str], name: str) -> Address:
        begin = " or ".join(f"{scheme}://" for scheme in schemes)
        if not isinstance(url, str):
            raise ConfigurationError(f"{name}: a URL that begins with {begin}, got {shown(url)}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # Python's own words would repeat a part of it, which may be a part of a password.
            raise ConfigurationError(
                f"{name}: a URL that begins with {begin}, got one whose host or port is malformed"
            ) from None
        if parts.scheme not in schemes or not parts.hostname:
            raise ConfigurationError(f"{name}: a URL that begins with {begin} and a host, got {shown(url)}")
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError(
                f"{name}: a URL without user and password, got one with them; keys sign, and proxies log in"
            )
        if "#" in url:
            raise ConfigurationError(f"{name}: a URL without a fragment, got one; leave out all from # on")
        if not _PATH.fullmatch(parts.path) or not parts.query.isascii() or not parts.query.isprintable() or " " in parts.query:
            raise ConfigurationError(f"{name}: a URL whose special characters are percent-encoded, got one with others")
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
        minimum_tls: str | ssl.TLSVersion = DEFAULT_TLS,
        proxies: Proxies | None = None,
    ) -> None:
        """Take the addresses apart.

        `ca_file` is trusted instead of the system's authorities. `minimum_tls` refuses older versions.

        Raises:
            ConfigurationError: an address is malformed, there is no such version of TLS, or the CA file cannot be used.
        """
        self.rest = Address.of_rest(rest_url)
        self.ws = Address.of_websocket(ws_url)
        self.ssl_context: ssl.SSLContext | None = None
        """The same for REST, websocket and `https` proxies, so that all trust the same, or None without encryption."""
        self.proxies = Proxies() if proxies is None else proxies
        to_proxy = {proxy.scheme for proxy in (self.proxies.rest, self.proxies.websocket) if proxy is not None}
        minimum = TLS_VERSIONS[tls_name(minimum_tls)]
        if self.rest.encrypted or self.ws.encrypted or "https" in to_proxy:
            self.ssl_context = _trust(ca_file)
            self.ssl_context.minimum_version = minimum


def tls_name(minimum: object) -> str:
    """Return the oldest version of TLS to be spoken, `1.2` or `1.3`. It may be given as Python's `ssl.TLSVersion`.

    Raises:
        ConfigurationError: it is neither of the two.
    """
    for name, version in TLS_VERSIONS.items():
        if minimum in (name, version):
            return name
    raise ConfigurationError(one_of("minimum_tls", minimum, TLS_VERSIONS))


def _trust(ca_file: str | Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        if ca_file is None:
            raise
        raise ConfigurationError(
            f"ca_file: {str(ca_file)!r} cannot be used: {error}; it must hold certificates in PEM"
        ) from None
