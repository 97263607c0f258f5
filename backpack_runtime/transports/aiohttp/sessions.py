"""Sessions of aiohttp that do what they are told, once: the HTTP side of the aiohttp transport.

aiohttp tries lost requests again and follows redirects, even those of a websocket handshake. A middleware around each attempt lets
no error and no redirect reach the code that would act on them.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import anyio
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import client_extensions_handshake
from wsproto.utilities import RemoteProtocolError

from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.http import Headers, HttpRequest
from backpack_proto.inputs import ConnectFailed
from backpack_runtime.extras import MissingExtra
from backpack_runtime.framing.client import EXCERPT_BYTES, MAX_BODY_BYTES, HttpResponse, refusal, request_headers
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.transports.base import (
    CANCEL_CONNECTIONS,
    FLUSH_SECONDS,
    FRESH_SECONDS,
    HTTP_CONNECTIONS,
    REFUSAL_SECONDS,
    Progress,
)

from .proxies import PROGRESS, Connector, DirectConnector, ProxiedConnector

try:
    import aiohttp
    from aiohttp.hdrs import SEC_WEBSOCKET_EXTENSIONS
    from yarl import URL
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = [
    "Failed",
    "Refused",
    "close",
    "describe_handshake",
    "exact_url",
    "exchange",
    "follow_progress",
    "make_connector",
    "rest_session",
    "websocket_session",
]

AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Failed(BackpackError):
    """An attempt failed, in words for people; none of aiohttp's own errors, which it would act on."""


class Refused(BackpackError):
    """The answer to an upgrade request is no upgrade."""

    def __init__(self, fact: ConnectFailed) -> None:
        super().__init__(fact)
        self.fact = fact


def rest_session(addresses: Addresses) -> aiohttp.ClientSession:
    """A session for REST requests, which share a few connections."""
    connector = make_connector(
        addresses,
        addresses.proxies.rest,
        "http",
        limit=HTTP_CONNECTIONS + CANCEL_CONNECTIONS,
        keepalive_timeout=FRESH_SECONDS,
    )
    return _session(connector, _once)


def websocket_session(addresses: Addresses) -> aiohttp.ClientSession:
    """A session for one websocket."""
    return _session(make_connector(addresses, addresses.proxies.websocket, "websocket", force_close=True), _shake_hands)


async def close(session: aiohttp.ClientSession) -> None:
    """Close a session with all its connections; what they cannot send in a while is lost."""
    connector = session.connector
    with anyio.move_on_after(FLUSH_SECONDS, shield=True):
        await session.close()
    if isinstance(connector, Connector):
        await connector.opened.abort()


async def exchange(session: aiohttp.ClientSession, address: Address, request: HttpRequest, progress: Progress) -> HttpResponse:
    """Send one request, once, if it may still leave, and read its answer.

    Raises:
        Failed: no answer came.
        Withheld: it may not leave any more.
        ProxyError: the way to the exchange failed at the proxy.
        LocalProtocolError: the request is impossible.
    """
    url = exact_url("http", address, request.target)
    options: dict[str, Any] = {"headers": request_headers(request), "data": request.body or None}
    body = bytearray()
    progress.reused = False
    PROGRESS.set(progress)
    try:
        async with session.request(request.method, url, allow_redirects=False, **options) as response:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Failed(f"body of the response is longer than {MAX_BODY_BYTES} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise Failed(_describe(error)) from error
    except ValueError:
        raise LocalProtocolError(f"{request!r} is impossible in HTTP/1.1") from None
    return HttpResponse(status=response.status, headers=_headers(response), body=bytes(body))


def _headers(response: aiohttp.ClientResponse) -> Headers:
    return tuple((name.decode("ascii").lower(), value.decode("latin-1")) for name, value in response.raw_headers)


def make_connector(addresses: Addresses, proxy: Proxy | None, kind: str, **options: Any) -> Connector:
    """What makes connections, directly or through a proxy; `kind` is `http` or `websocket`, for the log."""
    context = addresses.ssl_context
    # Without a context nothing is encrypted, but aiohttp asks for something.
    options["ssl"] = True if context is None else context
    if proxy is None:
        return DirectConnector(**options)
    patience = addresses.proxies.timeout_of(proxy)
    return ProxiedConnector(proxy, kind, timeout_seconds=patience, ssl_context=context, **options)


def _session(connector: aiohttp.BaseConnector, middleware: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """A session that adds nothing of its own to requests, keeps no cookies, knows no time limits, and leaves bodies as they come."""
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(middleware,),
        skip_auto_headers=AUTOMATIC_HEADERS,
        timeout=aiohttp.ClientTimeout(),
        trace_configs=[follow_progress()],
    )


def follow_progress() -> aiohttp.TraceConfig:
    """Have the requests of a session ask `PROGRESS` whether they may leave: aiohttp calls this before it writes the first byte."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reused)
    trace.on_request_headers_sent.append(_leave)
    return trace


async def _note_reused(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    progress = PROGRESS.get()
    if progress is not None:
        progress.reused = True


async def _leave(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    progress = PROGRESS.get()
    if progress is not None:
        progress.leave()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """One attempt at a request: what aiohttp would try again becomes an error that it does not know."""
    try:
        return await handler(request)
    except (aiohttp.ClientError, OSError) as error:
        raise Failed(_describe(error)) from error


async def _shake_hands(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """One attempt at an upgrade request: an answer that is no upgrade is refused, wherever it may point to."""
    response = await _once(request, handler)
    headers = _headers(response)
    if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
        _check_extensions(request, headers)
        return response
    excerpt = bytearray()
    with suppress(aiohttp.ClientError), anyio.move_on_after(REFUSAL_SECONDS):
        while len(excerpt) < EXCERPT_BYTES and (chunk := await response.content.readany()):
            excerpt += chunk
    response.close()
    raise Refused(refusal(response.status, excerpt, headers))


def _check_extensions(request: aiohttp.ClientRequest, headers: Headers) -> None:
    """Refuse extensions that were not offered, and parameters that mean nothing, which aiohttp passes over (RFC 6455 section 9.1)."""
    offered: list[Extension] = [PerMessageDeflate()] if SEC_WEBSOCKET_EXTENSIONS in request.headers else []
    agreed = [part for name, value in headers if name == "sec-websocket-extensions" for part in value.split(",")]
    try:
        client_extensions_handshake([part.strip() for part in agreed], offered)
    except RemoteProtocolError as error:
        raise Failed(f"websocket handshake failed: {error}") from None
    except (ValueError, IndexError):
        raise Failed("websocket handshake failed: malformed headers") from None


def exact_url(scheme: str, address: Address, target: str) -> URL:
    """The URL with exactly this target, for what was signed must not be written differently."""
    url = URL(f"{scheme}{'s' if address.encrypted else ''}://{address.authority}{target}", encoded=True)
    if url.raw_path_qs != target:
        raise LocalProtocolError("the target of a request begins with a slash and has no fragment")
    return url


def _describe(error: BaseException) -> str:
    """Say in one line what broke, in the words of the system rather than of aiohttp."""
    if isinstance(error, Failed):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _describe(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _describe(error.os_error)
    if isinstance(error, aiohttp.ClientOSError) and error.__cause__ is not None:
        return _describe(error.__cause__)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed by the other side"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "connection closed before the response was complete"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"malformed response: {error.message}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def describe_handshake(error: BaseException) -> str:
    """What became of an upgrade request, in the words of the other runtimes."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return "connection closed during the websocket handshake"
    if isinstance(cause, aiohttp.ClientResponseError):
        error = cause
    if isinstance(error, aiohttp.ClientResponseError):
        return f"websocket handshake failed: {' '.join(error.message.split())}"[:EXCERPT_BYTES]
    return _describe(error)
