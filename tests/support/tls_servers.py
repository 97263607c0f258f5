"""Servers whose TLS is wrong in one way each, and one whose TLS is right."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["FAULTS", "GOOD", "HOST", "FaultyServer", "serve_faults", "serve_old_tls"]

HOST = "127.0.0.1"
GOOD = "good"
HANDSHAKE_SECONDS = 5.0

HALF_SERVER_HELLO = bytes.fromhex("160303007a" + "02000076" + "0303") + bytes(range(32))
"""A record that announces 122 bytes, of which 38 follow."""


class FaultyServer:
    """Listens, does what it can of the handshake, and keeps what was said to it after that."""

    def __init__(self, handshake: Callable[[socket.socket], ssl.SSLSocket | None]) -> None:
        self._handshake = handshake
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.peers: list[str] = []
        """Where each connection came from."""
        self.heard: list[bytes] = []
        """What arrived encrypted: nothing, if the client refused."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and wait until the last client is done with."""
        # Wakes the thread out of accept, which closing alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, (peer, _) = self._listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            connection.settimeout(HANDSHAKE_SECONDS)
            # It is for the client to tell what went wrong.
            with connection, suppress(OSError):
                encrypted = self._handshake(connection)
                if encrypted is not None:
                    with encrypted:
                        heard = encrypted.recv(65536)
                        if heard:
                            self.heard.append(heard)


def _speaking(context: ssl.SSLContext) -> Callable[[socket.socket], ssl.SSLSocket | None]:
    return lambda connection: context.wrap_socket(connection, server_side=True)


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _tls_1_1(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = _context(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "self-signed.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def _truncate(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HALF_SERVER_HELLO)


FAULTS: Mapping[str, str] = {
    "expired": "certificate has expired",
    "wrong host": "IP address mismatch|Hostname mismatch",
    "unknown CA": "unable to get local issuer certificate|self[- ]signed certificate in certificate chain",
    "self-signed": "self[- ]signed certificate",
    "TLS 1.1 only": "(?i)protocol.version|unsupported.protocol",
    "truncated handshake": "(?i)eof|closed|reset|disconnected",
}
"""Each fault, and a pattern of how a client may put it."""


@contextmanager
def serve_faults(folder: Path) -> Iterator[tuple[Path, Mapping[str, FaultyServer]]]:
    """Run a server for each fault and a good one. Yields the file of the authority that clients trust, and the servers."""
    authority, stranger = trustme.CA(), trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    past = datetime.now(UTC) - timedelta(days=30)
    right = authority.issue_cert(HOST)
    handshakes: dict[str, Callable[[socket.socket], ssl.SSLSocket | None]] = {
        GOOD: _speaking(_context(right)),
        "expired": _speaking(_context(authority.issue_cert(HOST, not_before=past, not_after=past + timedelta(days=1)))),
        "wrong host": _speaking(_context(authority.issue_cert("elsewhere.test"))),
        "unknown CA": _speaking(_context(stranger.issue_cert(HOST))),
        "self-signed": _speaking(_self_signed(folder)),
        "TLS 1.1 only": _speaking(_tls_1_1(right)),
        "truncated handshake": _truncate,
    }
    servers = {name: FaultyServer(handshake) for name, handshake in handshakes.items()}
    try:
        yield ca_file, servers
    finally:
        for server in servers.values():
            server.close()


@contextmanager
def serve_old_tls() -> Iterator[tuple[int, Path, list[bytes]]]:
    """Serve TLS up to 1.2 and no further: the port, the authority to trust, and what is heard encrypted."""
    authority = trustme.CA()
    context = _context(authority.issue_cert(HOST))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = FaultyServer(_speaking(context))
    with authority.cert_pem.tempfile() as ca_file:
        try:
            yield server.port, Path(ca_file), server.heard
        finally:
            server.close()
