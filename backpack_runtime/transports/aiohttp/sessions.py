"""A session of aiohttp that sends each request once: the HTTP side of the aiohttp transport.

aiohttp tries lost requests again. A middleware around each attempt lets no error reach the code that would act on it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio

from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.http import Headers, HttpRequest
from backpack_runtime.extras import MissingExtra
from backpack_runtime.framing.client import MAX_BODY_BYTES, HttpResponse, request_headers
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.transports.base import CANCEL_CONNECTIONS, FRESH_SECONDS, HTTP_CONNECTIONS, Progress
from backpack_runtime.transports.websocket import FLUSH_SECONDS

from .proxies import PROGRESS, Connector, DirectConnector, ProxiedConnector

try:
    import aiohttp
    from yarl import URL
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = [
    "Failed",
    "close",
    "exact_url",
    "exchange",
    "follow_progress",
    "make_connector",
    "rest_session",
    "root_cause",
]

AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Failed(BackpackError):
    """An attempt failed, in words for people. None of aiohttp's own errors, which it would act on."""


def rest_session(addresses: Addresses) -> aiohttp.ClientSession:
    """A session for REST requests, which share a few connections."""
    connector = make_connector(
        addresses,
        addresses.proxies.rest,
        "http",
        limit=HTTP_CONNECTIONS + CANCEL_CONNECTIONS,
        keepalive_timeout=FRESH_SECONDS,
    )
    # It does not add to requests, keeps no cookies, knows no time limits, and leaves bodies as they come.
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_once,),
        skip_auto_headers=AUTOMATIC_HEADERS,
        timeout=aiohttp.ClientTimeout(),
        trace_configs=[follow_progress()],
    )


async def close(connections: aiohttp.ClientSession | Connector) -> None:
    """Close the connectors, with all connections. Data that they cannot send in a while are lost."""
    connector = connections.connector if isinstance(connections, aiohttp.ClientSession) else connections
    with anyio.move_on_after(FLUSH_SECONDS, shield=True):
        await connections.close()
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
    """Return a connector, direct or through a proxy. `kind` is `http` or `websocket`, for the log."""
    context = addresses.ssl_context
    # Without a context there is no encryption, but aiohttp asks for a value.
    options["ssl"] = True if context is None else context
    if proxy is None:
        return DirectConnector(**options)
    patience = addresses.proxies.timeout_of(proxy)
    return ProxiedConnector(proxy, kind, timeout_seconds=patience, ssl_context=context, **options)


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
    """Make one attempt at a request: errors that aiohttp would try again become one that it does not know."""
    try:
        return await handler(request)
    except (aiohttp.ClientError, OSError) as error:
        raise Failed(_describe(error)) from error


def exact_url(scheme: str, address: Address, target: str) -> URL:
    """Return the URL with exactly this target, for signed text must not be written differently."""
    url = URL(f"{scheme}{'s' if address.encrypted else ''}://{address.authority}{target}", encoded=True)
    if url.raw_path_qs != target:
        raise LocalProtocolError("the target of a request begins with a slash and has no fragment")
    return url


def root_cause(error: BaseException) -> BaseException:
    """Return the error of the system beneath one of aiohttp's, or the same error without one."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return root_cause(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return root_cause(error.os_error)
    if isinstance(error, aiohttp.ClientOSError) and error.__cause__ is not None:
        return root_cause(error.__cause__)
    return error


def _describe(error: BaseException) -> str:
    """Name the error in one line, in the words of the system rather than of aiohttp."""
    error = root_cause(error)
    if isinstance(error, Failed):
        return str(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed by the other side"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "connection closed before the response was complete"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"malformed response: {error.message}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
