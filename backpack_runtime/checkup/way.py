"""Checks of the way to the exchange: names, proxies, TCP and TLS, for REST and websocket each."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from socket import SOCK_STREAM, gaierror

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute

from backpack_runtime.network.dialing import ANYIO_STREAMS, describe, dial
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.network.proxy_settings import disabled_proxies
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.network.tls import TlsStream
from backpack_runtime.transport import system_now

from .findings import Figure, Finding, failed, milliseconds, ok, skipped, warning
from .subject import Connection, Subject

__all__ = ["check_name", "check_proxy", "check_tcp", "check_tls"]

CONNECT_SECONDS = 8.0
MOST_ADDRESSES = 8
FEW_DAYS = 14
"""A certificate that ends so soon should have been renewed."""


async def check_proxy(subject: Subject, connection: Connection) -> Finding:
    """Say which proxy a connection takes, and whether it can be reached."""
    proxy = connection.proxy
    if proxy is None:
        idle = disabled_proxies()
        unused = idle.rest if connection is subject.rest else idle.websocket
        if unused is not None:
            return warning(
                f"directly; the environment names {unused.endpoint}, and does not enable it (CRYPTOFEED_PROXY_ENABLED)",
                endpoint=unused.endpoint,
            )
        return ok("directly, without a proxy", endpoint=None)
    before_us = system_now().mono_us
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            stream = await ANYIO_STREAMS.connect(proxy.host, proxy.port)
    except TimeoutError:
        return failed(f"{proxy.endpoint} does not answer within {CONNECT_SECONDS:g} s", endpoint=proxy.endpoint)
    except OSError as error:
        return failed(f"{proxy.endpoint} {_words(error)}", endpoint=proxy.endpoint)
    took_us = system_now().mono_us - before_us
    await anyio.aclose_forcefully(stream)
    who = "looks up names itself" if proxy.remote_dns else "gets addresses that are looked up here"
    return ok(f"{proxy.endpoint} reached in {milliseconds(took_us)}; it {who}", endpoint=proxy.endpoint, took_us=took_us)


async def check_name(_: Subject, connection: Connection) -> Finding:
    """Look up the name of the exchange, where this machine does so at all."""
    host = connection.address.host
    if connection.proxy is not None and connection.proxy.remote_dns:
        return ok(f"{host} is looked up by the proxy {connection.proxy.endpoint}, not here", host=host, addresses=[])
    before_us = system_now().mono_us
    addresses = await _addresses(connection)
    took_us = system_now().mono_us - before_us
    if addresses is None:
        return failed(f"{host} cannot be looked up: no such name, or no name server answers", host=host, addresses=[])
    if _is_address(host):
        return ok(f"{host} is an address, nothing to look up", host=host, addresses=addresses)
    return ok(f"{host} is {', '.join(addresses)}; {milliseconds(took_us)}", host=host, addresses=addresses, took_us=took_us)


async def check_tcp(subject: Subject, connection: Connection) -> Finding:
    """Connect to each address of the exchange, or through the proxy."""
    if connection.proxy is not None:
        before_us = system_now().mono_us
        try:
            stream = await _dialed(subject, connection)
        except ProxyError as error:
            return failed(str(error), through=connection.proxy.endpoint)
        took_us = system_now().mono_us - before_us
        await anyio.aclose_forcefully(stream)
        return ok(
            f"connected through {connection.proxy.endpoint} in {milliseconds(took_us)}",
            through=connection.proxy.endpoint,
            took_us=took_us,
        )
    port = connection.address.port
    words, reached, fastest_us = [], 0, 0
    for address in (await _addresses(connection) or [])[:MOST_ADDRESSES]:
        before_us = system_now().mono_us
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                stream = await ANYIO_STREAMS.connect(address, port)
        except TimeoutError:
            words.append(f"{address} does not answer")
        except OSError as error:
            words.append(f"{address} {_words(error)}")
        else:
            took_us = system_now().mono_us - before_us
            await anyio.aclose_forcefully(stream)
            words.append(f"{address} {milliseconds(took_us)}")
            fastest_us = took_us if not reached else min(fastest_us, took_us)
            reached += 1
    text = f"port {port}: {', '.join(words)}"
    figures: dict[str, Figure] = {"port": port, "reached": reached, "addresses": len(words)}
    if not reached:
        return failed(text, **figures)
    return (ok if reached == len(words) else warning)(text, **figures, fastest_us=fastest_us)


async def check_tls(subject: Subject, connection: Connection) -> Finding:
    """Do a TLS handshake as the client does, and read the certificate."""
    context = subject.addresses.ssl_context
    if not connection.address.encrypted or context is None:
        return skipped("the address is not encrypted")
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            stream = await _dialed(subject, connection)
            before_us = system_now().mono_us
            try:
                encrypted = await TlsStream.connect(stream, context, connection.address.host)
            finally:
                took_us = system_now().mono_us - before_us
                await anyio.aclose_forcefully(stream)
    except TimeoutError:
        return failed(f"no handshake within {CONNECT_SECONDS:g} s")
    except (ProxyError, *BROKEN) as error:
        return failed(f"refused: {_tls_words(error)}")
    certificate = encrypted.extra(TLSAttribute.peer_certificate) or {}
    protocol, cipher = encrypted.extra(TLSAttribute.tls_version), encrypted.extra(TLSAttribute.cipher)[0]
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days = (ends - datetime.fromtimestamp(system_now().unix_us / 1e6, UTC)).days
    subjects = _names_of(certificate)
    text = f"{protocol}, {cipher}, {milliseconds(took_us)}; certificate of {subjects}, {days} days left"
    figures: dict[str, Figure] = {
        "version": protocol,
        "cipher": cipher,
        "subject": subjects,
        "days_left": days,
        "took_us": took_us,
    }
    return warning(text, **figures) if days < FEW_DAYS else ok(text, **figures)


async def _dialed(subject: Subject, connection: Connection) -> ByteStream:
    address, proxy = connection.address, connection.proxy
    if proxy is None:
        return await ANYIO_STREAMS.connect(address.host, address.port)
    patience = min(subject.addresses.proxies.timeout_of(proxy), CONNECT_SECONDS)
    return await dial(
        address.host, address.port, proxy, patience, streams=ANYIO_STREAMS, proxy_tls=subject.addresses.ssl_context
    )


async def _addresses(connection: Connection) -> list[str] | None:
    """Return the addresses of a name, each once, or None where it has no address."""
    try:
        found = await anyio.getaddrinfo(connection.address.host, connection.address.port, type=SOCK_STREAM)
    except (gaierror, UnicodeError):
        return None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _words(error: OSError) -> str:
    cause = error.__cause__ or error
    return "refuses the connection" if isinstance(cause, ConnectionRefusedError) else f"cannot be reached: {describe(cause)}"


def _tls_words(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, anyio.BrokenResourceError) and error.__cause__ is not None else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {cause.verify_message}"
    return describe(cause)


def _names_of(certificate: Mapping[str, object]) -> str:
    """Return the subject of a certificate, or else the names that it is for."""
    subject, others = certificate.get("subject", ()), certificate.get("subjectAltName", ())
    parts = [part for group in subject for part in group] if isinstance(subject, tuple) else []
    named = [value for name, value in parts if name == "commonName"]
    if not named and isinstance(others, tuple):
        named = [value for _, value in others]
    return ", ".join(named[:3]) or "nobody"
