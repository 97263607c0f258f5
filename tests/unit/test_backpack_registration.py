from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import defines, feedhandler
from cryptofeed.exchanges import EXCHANGE_MAP

from backpack_runtime.cryptofeed import (
    BackpackFeed,
    CcxtBackpackFeed,
    is_backpack_native_enabled,
    register,
)
from backpack_runtime.cryptofeed.registration import NATIVE_VARIABLE


class ForeignFeed:
    """What somebody else has registered."""


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The table of the process is as it was, whatever a test does."""
    before = dict(EXCHANGE_MAP)
    yield
    EXCHANGE_MAP.clear()
    EXCHANGE_MAP.update(before)


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "TRUE", "Yes", " on "])
def test_the_environment_chooses_the_native_feed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, text)
    assert is_backpack_native_enabled()
    assert register() is BackpackFeed
    assert EXCHANGE_MAP["BACKPACK"] is BackpackFeed


@pytest.mark.parametrize("text", [None, "", "0", "false", "No", "OFF"])
def test_otherwise_it_is_the_one_over_ccxt(
    text: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(NATIVE_VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(NATIVE_VARIABLE, text)
    assert not is_backpack_native_enabled()
    assert register() is CcxtBackpackFeed
    assert EXCHANGE_MAP["BACKPACK"] is CcxtBackpackFeed
    assert caplog.messages == []


def test_a_word_that_says_neither_counts_as_no_aloud(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "ture")
    assert register() is CcxtBackpackFeed
    assert caplog.messages == ["BACKPACK: CRYPTOFEED_BACKPACK_NATIVE says neither true nor false: it counts as false"]


def test_the_program_can_choose_and_change_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "true")
    assert register(native=False) is CcxtBackpackFeed
    assert register(native=True) is register(native=True) is EXCHANGE_MAP["BACKPACK"] is BackpackFeed


def test_the_table_that_cryptofeed_looks_into_is_the_one_that_is_changed() -> None:
    register(native=True)
    assert feedhandler.EXCHANGE_MAP["BACKPACK"] is BackpackFeed  # type: ignore[attr-defined,unused-ignore]
    assert defines.BACKPACK == "BACKPACK"
    assert BackpackFeed.id == CcxtBackpackFeed.id == "BACKPACK"


def test_nothing_else_in_the_table_changes() -> None:
    before = {name: feed for name, feed in EXCHANGE_MAP.items() if name != "BACKPACK"}
    register(native=True)
    assert {name: feed for name, feed in EXCHANGE_MAP.items() if name != "BACKPACK"} == before


@pytest.mark.parametrize("foreign", [ForeignFeed, type("Own", (BackpackFeed,), {"__module__": __name__})])
def test_what_others_have_registered_stays_unless_forced(foreign: type[Any], caplog: pytest.LogCaptureFixture) -> None:
    EXCHANGE_MAP["BACKPACK"] = foreign
    assert register(native=True) is foreign
    assert EXCHANGE_MAP["BACKPACK"] is foreign
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{foreign.__module__}.{foreign.__qualname__} is registered already and stays" in record.getMessage()
    assert register(native=True, force=True) is EXCHANGE_MAP["BACKPACK"] is BackpackFeed


IMPORTING = """
import sys
{before}
import backpack_runtime.cryptofeed
from cryptofeed.exchanges import EXCHANGE_MAP
print(EXCHANGE_MAP["BACKPACK"].__name__, "ccxt" in sys.modules)
"""


@pytest.mark.parametrize(
    ("before", "native", "printed"),
    [
        ("", "", "CcxtBackpackFeed False"),
        ("", "true", "BackpackFeed False"),
        ("sys.modules['ccxt'] = None", "", "CcxtBackpackFeed True"),
    ],
    ids=["by default", "native", "without ccxt"],
)
def test_importing_registers_and_does_not_load_ccxt(
    before: str, native: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, native)
    output = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(before=before)], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert output.split() == printed.split()


@pytest.mark.parametrize("missing", ["aiohttp_socks", "cryptofeed", "pydantic"])
def test_what_is_missing_is_named_and_how_to_get_it(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import backpack_runtime.cryptofeed"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert 'pip install ".[cryptofeed]"' in ended.stderr.splitlines()[-1]
    assert missing in ended.stderr.splitlines()[-1]
