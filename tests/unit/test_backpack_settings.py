"""How the exchange is reached, as one value: checked when it is made, and without a secret in anything that it shows."""

from __future__ import annotations

import copy
import ssl
import traceback
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

import backpack_runtime
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.proxy import InvalidProxy
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.settings import Settings

PASSWORD = "c4nary-of-a-proxy"
PROXY = f"socks5h://user:{PASSWORD}@proxy.example:1080"


def test_the_real_exchange_is_the_default() -> None:
    settings = Settings()
    assert (settings.rest_url, settings.ws_url) == ("https://api.backpack.exchange", "wss://ws.backpack.exchange")
    assert settings.to_dict() == {
        "rest_url": "https://api.backpack.exchange",
        "ws_url": "wss://ws.backpack.exchange",
        "ca_file": None,
        "minimum_tls": "1.2",
        "proxies": {"rest": None, "websocket": None},
        "runtime": "anyio",
        "compression": False,
        "canary": True,
        "connect_timeout_us": 15_000_000,
        "silence_us": 15_000_000,
        "ping_timeout_us": 10_000_000,
        "pause_ceiling_us": 60_000_000,
    }
    assert backpack_runtime.Settings is Settings


def test_settings_are_values_of_one_form(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    settings = Settings(ca_file=str(ca_file), minimum_tls=ssl.TLSVersion.TLSv1_3, proxies={"ws": PROXY})
    assert (settings.ca_file, settings.minimum_tls) == (ca_file, "1.3")
    assert settings.proxies == Proxies.of({"websocket": PROXY})
    assert settings == Settings(ca_file=ca_file, minimum_tls="1.3", proxies=Proxies.of({"websocket": PROXY}))
    assert replace(settings, proxies=Proxies()) != settings
    with pytest.raises(AttributeError):
        settings.runtime = "aiohttp"  # type: ignore[misc]  # the point
    with pytest.raises(ConfigurationError, match=r"^silence_us: "):
        replace(settings, silence_us=0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rest_url": "ftp://host"}, "rest_url: a URL that begins with https:// or http:// and a host, got 'ftp://host'"),
        (
            {"rest_url": "api.backpack.exchange"},
            "rest_url: a URL that begins with https:// or http:// and a host, got 'api.backpack.exchange'",
        ),
        ({"rest_url": 443}, "rest_url: a URL that begins with https:// or http://, got 443 (int)"),
        (
            {"rest_url": "https://host/base?key=1"},
            "rest_url: a URL without a query, got one; requests have queries of their own",
        ),
        ({"rest_url": "https://host/base?"}, "rest_url: a URL without a query, got one; requests have queries of their own"),
        ({"rest_url": "https://host/base#top"}, "rest_url: a URL without a fragment, got one; leave out all from # on"),
        (
            {"rest_url": "https://host/b\u00e4se"},
            "rest_url: a URL whose special characters are percent-encoded, got one with others",
        ),
        ({"rest_url": "https://host/a b"}, "rest_url: a URL whose special characters are percent-encoded, got one with others"),
        ({"ws_url": "https://host"}, "ws_url: a URL that begins with wss:// or ws:// and a host, got 'https://host'"),
        ({"ws_url": "wss://host/#top"}, "ws_url: a URL without a fragment, got one; leave out all from # on"),
        ({"ca_file": "/there/is/none"}, "ca_file: there is no file '/there/is/none'"),
        ({"ca_file": b"ca.pem"}, "ca_file: the path of a PEM file, got a bytes"),
        ({"minimum_tls": "1.1"}, "minimum_tls: one of 1.2, 1.3, got '1.1'"),
        ({"minimum_tls": 1.3}, "minimum_tls: one of 1.2, 1.3, got 1.3 (float)"),
        ({"runtime": "aiohtp"}, "runtime: one of anyio, aiohttp, got 'aiohtp'; did you mean aiohttp?"),
        ({"compression": 1}, "compression: True or False, got 1 (int)"),
        ({"connect_timeout_us": 15}, "connect_timeout_us: a whole number of microseconds, at least 1000, got 15 (int)"),
        ({"silence_us": 0.5}, "silence_us: a whole number of microseconds, at least 1000, got 0.5 (float)"),
        ({"ping_timeout_us": True}, "ping_timeout_us: a whole number of microseconds, at least 1000, got True (bool)"),
        ({"pause_ceiling_us": "1"}, "pause_ceiling_us: a whole number of microseconds, at least 1000, got '1'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**given)
    assert str(caught.value) == said
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, LocalProtocolError)


SECRETS: list[dict[str, Any]] = [
    {"proxies": PROXY.removesuffix(":1080")},
    {"proxies": PROXY, "minimum_tls": "1.1"},
    {"proxies": {"http": {"url": PROXY}}, "runtime": "curio"},
    {"rest_url": f"https://user:{PASSWORD}@host"},
    {"rest_url": f"https://user:{PASSWORD}@host:port"},
    {"ws_url": f"ftp://user:{PASSWORD}@host"},
]


@pytest.mark.parametrize("given", SECRETS)
def test_no_refusal_shows_a_password(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**given)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in repr(caught.value.args)


@pytest.mark.parametrize("given", SECRETS[:3])
def test_no_refusal_shows_the_password_of_a_proxy_in_the_locals_of_its_frames(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**given)
    assert caught.value.__traceback__ is not None
    # Without the frame of this test, which has what it hands over.
    ours = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    told = traceback.TracebackException.from_exception(ours, capture_locals=True)
    assert PASSWORD not in "".join(told.format())


def test_nothing_that_settings_show_has_a_password_or_the_query_of_an_address() -> None:
    settings = Settings(proxies=PROXY, ws_url=f"wss://host/stream?token={PASSWORD}")
    console = Console(file=StringIO(), width=200)
    console.print(settings)
    assert isinstance(console.file, StringIO)
    shown = [repr(settings), str(settings), f"{settings}", repr(copy.copy(settings)), console.file.getvalue()]
    shown += [repr(settings.to_dict()), msgspec.json.encode(settings.to_dict()).decode()]
    assert not [text for text in shown if PASSWORD in text]
    assert "socks5://proxy.example:1080" in repr(settings)
    assert settings.to_dict()["ws_url"] == "wss://host/stream?<not shown>"


def test_a_proxy_is_refused_as_a_configuration() -> None:
    with pytest.raises(InvalidProxy, match=r"did you mean socks5"):
        Settings(proxies="sock5://proxy.example:1080")


def test_a_client_is_made_of_settings() -> None:
    settings = Settings(rest_url="http://127.0.0.1:1/base", ws_url="ws://127.0.0.1:1", silence_us=2_000_000)
    assert BackpackClient(settings=settings).settings is settings
    assert BackpackClient().settings == Settings()
