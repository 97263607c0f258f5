"""One proxy: its URL, checked where it is configured, and the ways in which it fails.

The password sits in a closure and comes out only where it is asked for by name. No error of this module repeats any part of a URL, for
a URL with an unencoded character may have a part of the password where the host should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NoReturn, Self, final
from urllib.parse import unquote, urlsplit

from backpack_proto.errors import BackpackError, ConfigurationError
from backpack_proto.hints import did_you_mean

__all__ = [
    "InvalidProxy",
    "Proxy",
    "ProxyAuthFailed",
    "ProxyError",
    "ProxyRefused",
    "ProxyTimeout",
    "ProxyUnreachableTarget",
]

_SCHEMES = {"http": "http", "https": "https", "socks4": "socks4", "socks4a": "socks4", "socks5": "socks5", "socks5h": "socks5"}
_ALWAYS_REMOTE = {"socks4a", "socks5h"}
_SHAPE = "a proxy URL is scheme://[user:password@]host:port"
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?", re.ASCII
)
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_SOCKS5_FIELD = 255
"""RFC 1929: one byte tells the length."""


class InvalidProxy(ConfigurationError):
    """The settings of a proxy are impossible. The text says why and shows no part of a URL."""


class ProxyError(BackpackError):
    """The way to the exchange failed at the proxy, before the exchange.

    `proxy` is its endpoint, such as `socks5://127.0.0.1:1080`, `reason` its error.
    """

    def __init__(self, proxy: str, reason: str) -> None:
        super().__init__(proxy, reason)
        self.proxy = proxy
        self.reason = reason

    def __str__(self) -> str:
        return f"proxy {self.proxy} {self.reason}"


class ProxyRefused(ProxyError):
    """It cannot be reached, hangs up, is not to be trusted (TLS), or speaks another protocol."""


class ProxyAuthFailed(ProxyError):
    """It wants other credentials than it was given."""


class ProxyUnreachableTarget(ProxyError):
    """It works, and cannot or will not connect to the exchange."""


class ProxyTimeout(ProxyError):
    """It did not bring about the connection in time."""


@final
class Proxy:
    """One proxy, frozen. Equal when everything is, the credentials included.

    `scheme` is `http`, `https`, `socks4` or `socks5`. `remote_dns` says that the proxy looks up the exchange's name, and this machine
    does not. `timeout_seconds` is the time that a connection through it may take, None where the settings of several proxies have it.
    """

    __slots__ = ("_credentials", "host", "port", "remote_dns", "scheme", "timeout_seconds")

    scheme: str
    host: str
    port: int
    remote_dns: bool
    timeout_seconds: float | None
    _credentials: Callable[[], tuple[str | None, str | None]]

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        *,
        credentials: Callable[[], tuple[str | None, str | None]] = lambda: (None, None),
        remote_dns: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        """Take parts that `parse` has checked. `credentials` gives user and password."""
        values = (credentials, host, port, remote_dns, scheme, timeout_seconds)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, url: str, *, remote_dns: bool | None = None, timeout_seconds: float | None = None) -> Self:
        """Read `scheme://[user:password@]host:port`. Special characters of user and password are percent-encoded.

        Schemes are http, https, socks4, socks4a, socks5 and socks5h. The proxy looks up names unless `remote_dns` is False.

        Raises:
            InvalidProxy: the URL cannot be used. The text says why.
        """
        try:
            parsed = _parse(url, remote_dns=remote_dns)
            if isinstance(parsed, str):
                raise InvalidProxy(parsed)
            scheme, host, port, credentials = parsed
            return cls(
                scheme, host, port, credentials=credentials, remote_dns=remote_dns is not False, timeout_seconds=timeout_seconds
            )
        finally:
            # For tools that print the locals of every frame of a traceback.
            del url

    def with_timeout(self, seconds: float) -> Self:
        """Return the same proxy with a patience of its own."""
        return type(self)(
            self.scheme,
            self.host,
            self.port,
            credentials=self._credentials,
            remote_dns=self.remote_dns,
            timeout_seconds=seconds,
        )

    @property
    def username(self) -> str | None:
        """The user, None without one."""
        return self._credentials()[0]

    @property
    def password(self) -> str | None:
        """The password, None without one. The one place that gives it away."""
        return self._credentials()[1]

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """Scheme, host and port: the parts that may be shown."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.endpoint

    def __repr__(self) -> str:
        return f"Proxy({self.endpoint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.scheme, self.host, self.port, self.remote_dns, self.timeout_seconds, self._credentials())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: a proxy is frozen.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"a proxy is frozen: {name} cannot be set")

    def __copy__(self) -> Self:
        """Return itself: it cannot change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: secrets are not multiplied."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("a proxy cannot be pickled, for it may hold a password")


_Parsed = tuple[str, str, int, Callable[[], tuple[str | None, str | None]]]


def _parse(url: object, *, remote_dns: bool | None) -> _Parsed | str:
    """Return the parts of a URL, or its fault."""
    if not isinstance(url, str):
        return "a proxy URL is text"
    if not url.isprintable() or " " in url:
        return "the proxy URL holds a space or a control character: in user and password it is percent-encoded"
    name, separator, _ = url.partition("://")
    if not separator:
        return f"the proxy URL has no scheme: {_SHAPE}"
    if name.lower() not in _SCHEMES:
        return f"the scheme of the proxy URL is one of {', '.join(_SCHEMES)}{did_you_mean(name, _SCHEMES)}"
    if remote_dns is False and name.lower() in _ALWAYS_REMOTE:
        return f"{name.lower()} means that the proxy looks up names: it cannot go with remote_dns=False"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the host of the proxy URL is malformed"
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        return (
            "the proxy URL ends with the port: no path, query or fragment; in user and password /, ? and # are percent-encoded"
        )
    host = parts.hostname
    if not host:
        return f"the proxy URL has no host: {_SHAPE}"
    if not _is_host(host, bracketed="[" in parts.netloc.rpartition("@")[2]):
        return "the host of the proxy URL is malformed"
    try:
        port = parts.port
    except ValueError:
        return "the port of the proxy URL is no number from 1 to 65535"
    if port is None:
        return f"the proxy URL has no port: {_SHAPE}"
    if not port:
        return "the port of the proxy URL is no number from 1 to 65535"
    scheme = _SCHEMES[name.lower()]
    if "@" not in parts.netloc:
        return scheme, host, port, lambda: (None, None)
    if _STRAY_PERCENT.search(parts.netloc):
        return "user or password of the proxy URL hold a %, which is written %25"
    username, password = unquote(parts.username or ""), None if parts.password is None else unquote(parts.password)
    if scheme in ("http", "https"):
        password = password or ""
    problem = _problem_with_credentials(scheme, username, password)
    return problem or (scheme, host, port, lambda: (username, password))


def _is_host(host: str, *, bracketed: bool) -> bool:
    """Return whether it is an address or a name. Only an IPv6 address stands in brackets."""
    try:
        return "%" not in host and (ip_address(host).version == 6) is bracketed
    except ValueError:
        return not bracketed and _HOST_NAME.fullmatch(host) is not None


def _problem_with_credentials(scheme: str, username: str, password: str | None) -> str:
    """Name the settings that this scheme cannot have, or return an empty text."""
    if not username:
        return "the proxy URL has an @, and no user before it"
    if not all(text.isascii() and text.isprintable() for text in (username, password or "")):
        return "user and password of a proxy are printable ASCII"
    if scheme == "socks4" and password is not None:
        return "socks4 knows a user, and no password"
    if scheme == "socks5" and not password:
        return "socks5 needs a password with the user"
    if scheme == "socks5" and max(len(username), len(password or "")) > _MAX_SOCKS5_FIELD:
        return f"user and password of socks5 are at most {_MAX_SOCKS5_FIELD} bytes long"
    if scheme in ("http", "https") and ":" in username:
        return f"the user of an {scheme} proxy holds no colon"
    return ""
