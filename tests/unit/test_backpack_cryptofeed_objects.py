"""`raw` is made of the frame's own bytes when somebody reads it, once, and goes along with copies."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

import cryptofeed.types

from backpack_runtime.cryptofeed.native import objects
from backpack_runtime.cryptofeed.native.objects import TradeObject, raw_of

FRAME = b'{"stream":"trade.SOL_USDC","data":{"e":"trade","p":"2.50","t":7}}'


def trade(**options: Any) -> Any:
    return TradeObject("BACKPACK", "SOL-USDC", "buy", Decimal(1), Decimal("2.50"), 1.5, id="7", **options)


def test_raw_is_made_once_and_only_for_its_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes | None] = []

    def make(frame: bytes | None) -> Any:
        made.append(frame)
        return raw_of(frame)

    monkeypatch.setattr(objects, "raw_of", make)
    found = trade(raw={})
    found.frame = FRAME
    assert found == trade()
    assert found.to_dict() == trade().to_dict()
    assert repr(found) == repr(trade())
    assert not made
    assert found.raw == {"e": "trade", "p": "2.50", "t": 7}
    found.raw["mine"] = True
    assert found.raw["mine"]
    assert made == [FRAME]


def test_what_came_with_no_frame_has_the_raw_that_it_was_given() -> None:
    assert trade(raw={"i": "1"}).raw == {"i": "1"}
    assert trade().raw is None


@pytest.mark.parametrize("frame", [None, b"[1]", b'{"data":[1]}', b"{}"])
def test_a_frame_without_a_payload_has_no_raw(frame: bytes | None) -> None:
    assert raw_of(frame) == {}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda found: pickle.loads(pickle.dumps(found))])  # noqa: S301
def test_copies_have_it_too(again: Any) -> None:
    found = trade(raw={})
    found.frame = FRAME
    other = again(found)
    assert other == found
    assert other.raw == {"e": "trade", "p": "2.50", "t": 7}


def test_each_is_cryptofeed_s_own_type() -> None:
    names = set(objects.__all__) - {"Raw", "RawOnDemand", "raw_of"}
    for name in names:
        assert issubclass(getattr(objects, name), getattr(cryptofeed.types, name.removesuffix("Object")))
