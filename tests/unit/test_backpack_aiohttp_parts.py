"""The parts of aiohttp and aiohttp-socks that are not documented, as this project uses them: a release that changes one is noticed here."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp_socks")

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection, TCPConnector
from aiohttp_socks import ProxyConnector

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
BOUNDED = {"aiohttp": r"aiohttp>=[\d.]+,<(\d+)\.(\d+)", "aiohttp-socks": r"aiohttp-socks>=[\d.]+,<(\d+)\.(\d+)"}
ADVICE = "look at backpack_runtime/transports/aiohttp/ before the upper bound in pyproject.toml is raised"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (BaseConnector.connect, "self, req, traces, timeout"),
        (Connection.close, "self"),
        (TCPConnector._wrap_create_connection, "self, *args, addr_infos, req, timeout, client_error, **kwargs"),
        (ProxyConnector._connect_via_proxy, "self, host, port, ssl, timeout"),
        (ResponseHandler.__init__, "self, loop"),
        (ResponseHandler.connection_made, "self, transport"),
        (ResponseHandler.connection_lost, "self, exc"),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_a_function_takes_what_it_is_given(function: Callable[..., Any], parameters: str) -> None:
    found = inspect.signature(function).parameters.values()
    names = ", ".join({2: "*", 4: "**"}.get(parameter.kind, "") + parameter.name for parameter in found)
    assert names == parameters, f"{function.__qualname__} has changed: {ADVICE}"


def test_a_request_is_made_from_a_method_a_url_and_a_loop() -> None:
    parameters = inspect.signature(aiohttp.ClientRequest).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    assert needed == ["method", "url"], f"aiohttp.ClientRequest has changed: {ADVICE}"
    assert "loop" in parameters, f"aiohttp.ClientRequest has changed: {ADVICE}"


@pytest.mark.parametrize(
    ("owner", "name"), [(Connection, "transport"), (Connection, "protocol"), (ResponseHandler, "should_close")]
)
def test_a_property_is_there(owner: type, name: str) -> None:
    assert isinstance(getattr(owner, name, None), property), f"{owner.__name__}.{name} has changed: {ADVICE}"


@pytest.mark.parametrize("library", BOUNDED)
def test_every_extra_that_names_the_library_bounds_it_and_what_is_installed_is_within(library: str) -> None:
    named = [
        requirement
        for extra in PROJECT["optional-dependencies"].values()
        for requirement in extra
        if re.match(rf"{library}\b(?!-)", requirement)
    ]
    assert len(set(named)) == 1
    bound = re.fullmatch(BOUNDED[library], named[0])
    assert bound is not None
    major, minor, *_ = importlib.metadata.version(library).split(".")
    assert (int(major), int(minor)) < (int(bound[1]), int(bound[2])), ADVICE
