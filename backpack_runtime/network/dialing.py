"""Opens a connection to a target through a proxy. Errors there name the proxy.

SOCKS is spoken by python-socks. `CONNECT` is spoken here, through h11: the answer of a proxy may come in pieces, or over TLS.
For a proxy that looks up names itself, only the proxy's own name is looked up here.

Errors are raised where no other error is under way: those of the libraries hold the credentials in the locals of their frames.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from base64 import b64encode
from http import HTTPStatus
from ipaddress import ip_address
from socket import AF_INET, AF_UNSPEC, SOCK_STREAM, gaierror
from typing import Generic, TypeVar

import anyio
import h11
from anyio.abc import ByteStream
from python_socks import ProxyConnectionError, ProxyTimeoutError, ProxyType
from python_socks import ProxyError as SocksRefusal
from python_socks.async_.anyio.v2 import Proxy as SocksDialer

from backpack_proto.text import printable

from .proxy import Proxy, ProxyAuthFailed, ProxyError, ProxyRefused, ProxyTimeout, ProxyUnreachableTarget
from .send_queue import BROKEN
from .tls import TlsStream

__all__ = ["ANYIO_STREAMS", "Streams", "describe", "dial"]

READ_BYTES = 16 * 1024
_EXCERPT = 100
_WANTS_CREDENTIALS = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAUTHORIZED)
"""Tinyproxy says 401. It is the proxy's own word, for no answer to `CONNECT` is the exchange's."""
_SOCKS4_IDENTD = (0x5C, 0x5D)
"""The replies of SOCKS4 that are about the user."""

StreamT = TypeVar("StreamT", bound=ByteStream)


class Streams(ABC, Generic[StreamT]):
    """Connections of a runtime, of which the way through a proxy consists."""

    @abstractmethod
    async def connect(self, host: str, port: int) -> StreamT:
        """Connect to a proxy.

        Raises:
            OSError: it cannot be reached.
        """

    @abstractmethod
    async def encrypt(self, stream: StreamT, context: ssl.SSLContext, host: str) -> StreamT:
        """Do a TLS handshake on a connection.

        Raises:
            ssl.SSLError, ConnectionError, anyio.EndOfStream: it failed.
        """

    @abstractmethod
    async def connect_by_socks(self, proxy: Proxy, kind: ProxyType, target: tuple[str, int], timeout_seconds: float) -> StreamT:
        """Connect to a target through a proxy that speaks SOCKS, which gets the name as it is.

        Raises:
            python_socks.ProxyException, OSError, EOFError: it failed.
        """


class _AnyioStreams(Streams[ByteStream]):
    async def connect(self, host: str, port: int) -> ByteStream:
        return await anyio.connect_tcp(host, port)

    async def encrypt(self, stream: ByteStream, context: ssl.SSLContext, host: str) -> ByteStream:
        return await TlsStream.connect(stream, context, host)

    async def connect_by_socks(
        self, proxy: Proxy, kind: ProxyType, target: tuple[str, int], timeout_seconds: float
    ) -> ByteStream:
        dialer = SocksDialer(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True)
        connected = await dialer.connect(*target, timeout=timeout_seconds)
        return connected.anyio_stream


ANYIO_STREAMS = _AnyioStreams()


async def dial(
    host: str,
    port: int,
    proxy: Proxy,
    timeout_seconds: float,
    *,
    streams: Streams[StreamT],
    proxy_tls: ssl.SSLContext | None = None,
) -> StreamT:
    """Return a byte stream to a target through a proxy. `proxy_tls` is for the way to an `https` proxy.

    Raises:
        ProxyError: it failed at the proxy, or was not done within `timeout_seconds`.
    """
    opened: StreamT | ProxyError = ProxyTimeout(proxy.endpoint, f"did not answer within {timeout_seconds:g} s")
    with anyio.move_on_after(timeout_seconds):
        if proxy.scheme in ("http", "https"):
            opened = await _dial_http(host, port, proxy, streams, proxy_tls)
        else:
            opened = await _dial_socks(host, port, proxy, streams, timeout_seconds)
    if isinstance(opened, ProxyError):
        raise opened
    return opened


def describe(broken: BaseException) -> str:
    """Name the error in one line. Anyio wraps the error of the system into its own."""
    cause = broken.__cause__
    if isinstance(broken, anyio.EndOfStream):
        return "the connection was closed by the other side"
    if isinstance(broken, ProxyError):
        return str(broken)
    if isinstance(broken, anyio.BrokenResourceError) and cause is not None:
        return describe(cause)
    if type(broken) is OSError and broken.errno is None:
        # "All connection attempts failed", of one address or of several: why stands behind it.
        tried = cause.exceptions[0] if isinstance(cause, ExceptionGroup) else cause
        if isinstance(tried, OSError):
            return describe(tried)
    return f"{type(broken).__name__}: {broken}" if str(broken) else type(broken).__name__


async def _dial_socks(
    host: str, port: int, proxy: Proxy, streams: Streams[StreamT], timeout_seconds: float
) -> StreamT | ProxyError:
    target = f"{host}:{port}"
    if not proxy.remote_dns:
        address = await _look_up(host, port, only_ipv4=proxy.scheme == "socks4")
        if address is None:
            return _unknown_here(proxy, host)
        host = address
    kind = ProxyType.SOCKS4 if proxy.scheme == "socks4" else ProxyType.SOCKS5
    try:
        return await streams.connect_by_socks(proxy, kind, (host, port), timeout_seconds)
    except ProxyConnectionError as error:
        return _unreachable(proxy, error.__cause__ or error)
    except ProxyTimeoutError:
        return ProxyTimeout(proxy.endpoint, f"did not answer within {timeout_seconds:g} s")
    except SocksRefusal as error:
        return _refusal(proxy, target, str(error), error.error_code)
    except BROKEN as error:
        return ProxyRefused(proxy.endpoint, f"broke the connection: {describe(error)}")
    except EOFError:
        # An error that python-socks lets through on asyncio. Elsewhere it is a refusal with these words.
        return _refusal(proxy, target, "Connection closed unexpectedly", None)
    except ValueError:
        # Errors that python-socks lets through: names that are impossible in DNS, and bytes that are not text.
        return ProxyUnreachableTarget(
            proxy.endpoint, f"could not reach {target}: the name, or the proxy's answer, is malformed"
        )


def _refusal(proxy: Proxy, target: str, words: str, code: int | None) -> ProxyError:
    """Return the kind of a refusal by SOCKS: only replies to the request have a code, or else it is about credentials or gibberish."""
    if proxy.scheme == "socks4" and code in _SOCKS4_IDENTD:
        return ProxyAuthFailed(proxy.endpoint, f"refused the user: {words}")
    if code is not None or "reply code" in words:
        return ProxyUnreachableTarget(proxy.endpoint, f"could not reach {target}: {words}")
    if "authentication" in words:
        return ProxyAuthFailed(
            proxy.endpoint, "wants credentials" if proxy.username is None else f"refused the credentials: {words}"
        )
    return ProxyRefused(proxy.endpoint, f"broke off: {words}")


async def _dial_http(
    host: str, port: int, proxy: Proxy, streams: Streams[StreamT], proxy_tls: ssl.SSLContext | None
) -> StreamT | ProxyError:
    target = f"{host}:{port}"
    if not proxy.remote_dns:
        address = await _look_up(host, port)
        if address is None:
            return _unknown_here(proxy, host)
        host = address
    try:
        stream = await streams.connect(proxy.host, proxy.port)
    except OSError as error:
        return _unreachable(proxy, error)
    tunnel: StreamT | ProxyError | None = None
    try:
        if proxy.scheme == "https":
            stream = await _encrypted(stream, proxy, streams, proxy_tls)
        failure = await _connect(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", target, proxy)
        tunnel = stream if failure is None else failure
    except ProxyError as error:
        tunnel = error
    except anyio.EndOfStream:
        tunnel = ProxyRefused(proxy.endpoint, "closed the connection before it had answered")
    except BROKEN as error:
        tunnel = ProxyRefused(proxy.endpoint, f"broke the connection: {describe(error)}")
    finally:
        if tunnel is not stream:
            await anyio.aclose_forcefully(stream)
    return tunnel


async def _encrypted(stream: StreamT, proxy: Proxy, streams: Streams[StreamT], context: ssl.SSLContext | None) -> StreamT:
    if context is None:
        raise RuntimeError("an https proxy without a TLS context")
    try:
        return await streams.encrypt(stream, context, proxy.host)
    except ssl.SSLError as error:
        problem = describe(error)
    except (anyio.EndOfStream, ConnectionError):
        problem = "it closed the connection during the handshake"
    raise ProxyRefused(proxy.endpoint, f"cannot be used, TLS failed: {problem}")


async def _connect(stream: ByteStream, authority: str, target: str, proxy: Proxy) -> ProxyError | None:
    """Have the proxy connect to the target. Return its error."""
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", authority), ("User-Agent", "backpack-feed")]
    if proxy.username is not None:
        credentials = b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        headers.append(("Proxy-Authorization", f"Basic {credentials}"))
    try:
        request = http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
    except h11.LocalProtocolError:
        return ProxyUnreachableTarget(proxy.endpoint, f"could not reach {target}: the name is malformed")
    await stream.send(request + http.send(h11.EndOfMessage()))
    try:
        answer = http.next_event()
        while not isinstance(answer, h11.Response):
            if answer is h11.NEED_DATA:
                http.receive_data(await stream.receive(READ_BYTES))
            answer = http.next_event()
    except h11.RemoteProtocolError:
        return ProxyRefused(proxy.endpoint, "does not speak HTTP")
    words = f"{answer.status_code} {printable(answer.reason.decode(errors='replace'), _EXCERPT)}".strip()
    if answer.status_code in _WANTS_CREDENTIALS:
        return ProxyAuthFailed(
            proxy.endpoint, f"{'wants credentials' if proxy.username is None else 'refused the credentials'}: {words}"
        )
    if answer.status_code // 100 != 2:
        return ProxyUnreachableTarget(proxy.endpoint, f"could not reach {target}: {words}")
    if http.trailing_data[0]:
        # The exchange waits for us to speak first, so these bytes are the proxy's.
        return ProxyRefused(proxy.endpoint, "sent bytes that nobody asked for")
    return None


async def _look_up(host: str, port: int, *, only_ipv4: bool = False) -> str | None:
    """Return the address of a name, as this machine knows it, or None."""
    try:
        ip_address(host)
    except ValueError:
        try:
            found = await anyio.getaddrinfo(host, port, family=AF_INET if only_ipv4 else AF_UNSPEC, type=SOCK_STREAM)
        except (gaierror, UnicodeError):
            return None
        return found[0][4][0]
    return host


def _unknown_here(proxy: Proxy, host: str) -> ProxyError:
    return ProxyUnreachableTarget(
        proxy.endpoint, f"was not asked: {host} cannot be looked up here, as remote_dns=False demands"
    )


def _unreachable(proxy: Proxy, error: BaseException) -> ProxyError:
    cause = error.__cause__ or error
    if isinstance(cause, ConnectionRefusedError):
        return ProxyRefused(proxy.endpoint, "refused the connection")
    return ProxyRefused(proxy.endpoint, f"cannot be reached: {describe(cause)}")
