"""Addresses of the exchange, taken apart once, with errors that never repeat a secret."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from backpack_proto.errors import ConfigurationError
from backpack_runtime.network.addresses import Address, Addresses


def test_the_real_exchange_is_the_default() -> None:
    addresses = Addresses()
    assert addresses.rest == Address("api.backpack.exchange", 443, encrypted=True, target="")
    assert addresses.ws == Address("ws.backpack.exchange", 443, encrypted=True, target="/")
    assert addresses.ssl_context is not None
    assert addresses.ssl_context.check_hostname


def test_a_plain_sandbox_needs_no_tls() -> None:
    addresses = Addresses("http://127.0.0.1:8080/base/", "ws://[::1]:9090/stream?x=1")
    assert addresses.rest == Address("127.0.0.1", 8080, encrypted=False, target="/base")
    assert addresses.ws == Address("::1", 9090, encrypted=False, target="/stream?x=1")
    assert addresses.ssl_context is None


@pytest.mark.parametrize(
    ("address", "authority"),
    [
        (Address("h", 443, encrypted=True, target=""), "h"),
        (Address("h", 80, encrypted=True, target=""), "h:80"),
        (Address("h", 80, encrypted=False, target=""), "h"),
        (Address("::1", 8080, encrypted=False, target=""), "[::1]:8080"),
    ],
)
def test_the_host_header_names_the_port_where_it_is_not_the_scheme_s(address: Address, authority: str) -> None:
    assert address.authority == authority


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "api.backpack.exchange", "https://", "wss://host", "https://host:port", "https://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^rest_url: a URL"):
        Addresses(url)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Addresses("https://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_a_missing_authority_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^ca_file: '.*missing\.pem' cannot be used: "):
        Addresses(ca_file=tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"^ca_file: '.*empty\.pem' cannot be used: .* certificates in PEM$"):
        Addresses(ca_file=tmp_path / "empty.pem")


@pytest.mark.parametrize(
    ("minimum", "version"),
    [
        ("1.2", ssl.TLSVersion.TLSv1_2),
        ("1.3", ssl.TLSVersion.TLSv1_3),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
    ],
)
def test_the_oldest_tls_that_is_spoken(minimum: str | ssl.TLSVersion, version: ssl.TLSVersion) -> None:
    context = Addresses(minimum_tls=minimum).ssl_context
    assert context is not None
    assert context.minimum_version is version
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("minimum", ["1.1", "", "TLSv1.3", ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.MINIMUM_SUPPORTED])
def test_older_tls_cannot_be_asked_for(minimum: str | ssl.TLSVersion) -> None:
    with pytest.raises(ConfigurationError, match=r"^minimum_tls: one of 1\.2, 1\.3, got "):
        Addresses("http://127.0.0.1:1", "ws://127.0.0.1:1", minimum_tls=minimum)
