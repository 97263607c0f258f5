"""The synchronous client is the asynchronous one: the same names, signatures and words, without `await`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable
from typing import Any, get_args, get_origin

import pytest

from backpack_proto.candles import CandleGap
from backpack_proto.streams.payloads import Event, Kline
from backpack_runtime import sync_client
from backpack_runtime.background import SyncIterator
from backpack_runtime.candles import Candles
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import EventStream
from backpack_runtime.rest.pages import Pages
from backpack_runtime.sync_client import BackpackSync
from tools import make_sync_client

OTHER_NAMES = {"aclose": "close"}
ASYNC_ONLY = {"run"}
"""`await nursery.start(client.run)` says nothing where there is no nursery."""
PUBLIC = sorted(name for name in dir(BackpackClient) if not name.startswith("_") and name not in ASYNC_ONLY)


def as_sync(hint: Any) -> Any:
    """What a method that returns this returns without `await`."""
    kind = get_origin(hint) or hint
    if kind is EventStream:
        return SyncIterator[Event]
    if kind is Candles:
        return SyncIterator[Kline | CandleGap]
    if kind in (Pages, AsyncIterator):
        return SyncIterator[get_args(hint)[0]]  # type: ignore[misc]  # worked out here
    if kind is Awaitable:
        return get_args(hint)[0]
    return hint


def function_of(kind: type, name: str) -> Any:
    member = inspect.getattr_static(kind, name)
    return member.fget if isinstance(member, property) else member


@pytest.mark.parametrize("name", [*PUBLIC, "__init__"])
def test_every_public_name_has_a_twin_with_its_signature(name: str) -> None:
    own, twin = function_of(BackpackClient, name), function_of(BackpackSync, OTHER_NAMES.get(name, name))
    mine, its = inspect.signature(own), inspect.signature(twin)
    if name != "start":
        assert list(its.parameters.values()) == list(mine.parameters.values())
    hints, twins = typing.get_type_hints(own), typing.get_type_hints(twin)
    if name != "start":
        assert twins.pop("return") == as_sync(hints.pop("return"))
        assert twins == hints
    assert not inspect.iscoroutinefunction(twin)
    assert twin.__doc__
    assert "await " not in twin.__doc__
    assert "async " not in twin.__doc__
    if name not in {"start", "aclose"}:
        assert twin.__doc__.splitlines()[0] == make_sync_client.without_async(own.__doc__).splitlines()[0]
    is_property = isinstance(inspect.getattr_static(BackpackClient, name), property)
    assert isinstance(inspect.getattr_static(BackpackSync, OTHER_NAMES.get(name, name)), property) == is_property


def test_it_has_nothing_else() -> None:
    public = {name for name in dir(BackpackSync) if not name.startswith("_")}
    assert public == {OTHER_NAMES.get(name, name) for name in PUBLIC}


def test_the_module_is_what_the_tool_makes() -> None:
    assert make_sync_client.main(["--check"]) == 0


def test_a_module_that_is_out_of_date_is_found_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def get_more(self: BackpackClient, symbol: str) -> int:
        """Return more."""
        raise NotImplementedError

    text = inspect.getsource(sync_client)
    assert make_sync_client.is_same(text, text.replace("\n\n\n", "\n\n\n\n"))
    assert not make_sync_client.is_same(
        text, text.replace("Return one order", "Return an order").replace("One open", "An open")
    )
    monkeypatch.setattr(BackpackClient, "get_more", get_more, raising=False)
    assert make_sync_client.main(["--check"]) == 1
    assert "out of date: run python -m tools.make_sync_client" in capsys.readouterr().out
