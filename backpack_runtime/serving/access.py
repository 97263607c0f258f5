"""Access to the server: reading only, from pages and programs that are meant.

Theory. On loopback every program of this machine may read. A web page of somebody else may not: its requests come from a browser of this
machine too. It is told by the Host header, where its name was made to lead here (DNS rebinding), and by `Sec-Fetch-Site`, where it asks
across sites. Elsewhere a token is needed, as a bearer or in the cookie that the page is given for `?token=`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from aiohttp import web
from yarl import URL

from backpack_proto.errors import BackpackError, ConfigurationError
from backpack_proto.text import printable

__all__ = ["LOOPBACK_NAMES", "Access", "checked_token", "error_response", "new_token", "prepare_headers"]

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
METHODS: Final = ("GET", "HEAD")
TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{16,256}")
PAGE: Final = "/"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Server": "backpack-feed",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(32)


def checked_token(token: object) -> str:
    """Return a token that can be sent in a header, a cookie and a URL.

    Raises:
        ConfigurationError: it cannot be sent. The text does not show it.
    """
    if not isinstance(token, str) or TOKEN.fullmatch(token) is None:
        raise ConfigurationError("token: 16 to 256 letters, digits and - . _ ~, got something else, which is not shown")
    return token


class Access:
    """Rule that says which requests are answered."""

    def __init__(self, *, token: str | None, hosts: Iterable[str] | None) -> None:
        """Without `token` every reader that reaches the server may read. `hosts` are the names that a Host header may say, None for any."""
        self._token = None if token is None else token.encode()
        self._hosts = None if hosts is None else frozenset(hosts)
        # Cookies are for all ports of a host, and each server has a token of its own.
        self._cookie = "" if token is None else f"backpack_feed_{sha256(token.encode()).hexdigest()[:8]}"

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests that are not allowed, and answer every error as JSON."""
        try:
            self._check(request)
            response = await handler(request)
        except web.HTTPException as error:
            return error_response(error.status, error.text or error.reason, error.headers.get("Allow"))
        except BackpackError as error:
            return error_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        if self._token is not None and request.path == PAGE and "token" in request.query:
            # The page drops the token from its address, and goes on by the cookie.
            token = self._token.decode()
            response.set_cookie(self._cookie, token, httponly=True, samesite="Strict", secure=request.secure, path="/")
        return response

    def _check(self, request: web.Request) -> None:
        if request.method not in METHODS:
            raise web.HTTPMethodNotAllowed(request.method, METHODS, text="the server is for reading only: GET or HEAD")
        if self._hosts is not None and _host_name(request.host) not in self._hosts:
            raise web.HTTPForbidden(
                text=f"the Host header is {printable(request.host, 80)!r}, and this server listens on loopback: use 127.0.0.1 or localhost"
            )
        if not _from_here(request):
            raise web.HTTPForbidden(text="another site asks for this: only the server's own page may")
        if self._token is not None and not self._has_token(request, self._token):
            raise web.HTTPUnauthorized(
                text="a token is needed: send it as `Authorization: Bearer TOKEN`, or open the page as /?token=TOKEN"
            )

    def _has_token(self, request: web.Request, token: bytes) -> bool:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = [request.cookies.get(self._cookie, "")]
        if scheme.lower() == "bearer":
            given.append(bearer.strip())
        if request.path == PAGE:
            given += request.query.getall("token", [])
        # All are compared, also after one that fits: the time must not tell which.
        return any([hmac.compare_digest(one.encode(errors="replace"), token) for one in given])  # noqa: C419 - as above


async def prepare_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add headers that keep a browser from doing more with a response than is meant."""
    response.headers.update(HEADERS)
    if response.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="backpack-feed"'


def error_response(status: int, text: str, allow: str | None = None) -> web.Response:
    """Return an error as JSON."""
    headers = {} if allow is None else {"Allow": allow}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    return web.json_response({"error": text}, status=status, headers=headers)


def _host_name(authority: str) -> str | None:
    """Return the name in a Host header without its port, None where it is malformed."""
    try:
        return URL.build(scheme="http", authority=authority).host
    except ValueError:
        return None


def _from_here(request: web.Request) -> bool:
    """Return whether a request is a program's, the page's own, or for the page itself, which any site may lead to."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    leads = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
    return site in {"none", "same-origin"} or (leads and request.path == PAGE)
