"""The names of Python that only some systems have: used in one module, each with a fallback."""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import backpack_proto
import backpack_runtime
from backpack_runtime import platforms
from other_system import MISSING_MODULES, MISSING_NAMES

OWNERS = {
    "backpack_runtime/platforms.py",
    # The keys and the size of a terminal, each with its way on Windows.
    "backpack_runtime/cli/keyboard.py",
    "backpack_runtime/cli/live_view.py",
}
ROOT = Path(backpack_runtime.__file__).parents[1]
PACKAGES = (
    Path(backpack_proto.__file__).parent,
    Path(backpack_runtime.__file__).parent,
    ROOT / "tools",
    ROOT / "site-packages",
)
SOURCES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
EVERYWHERE = frozenset().union(*MISSING_NAMES.values()) - {"minor", "major", "nice", "pause", "sync", "wait", "alarm"}
"""Names that mean one thing only, wherever they stand. The others count as attributes of their module."""
TEXT_FILES = {"read_text", "write_text", "open"}


def named(source: str) -> Iterator[str]:
    """What a module uses of the names that only some systems have."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases if alias.name.split(".")[0] in MISSING_MODULES | {"select"})
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                if module.split(".")[0] in MISSING_MODULES | {"select"}:
                    yield module
                yield from (f"{module}.{alias.name}" for alias in aliases if alias.name in MISSING_NAMES.get(module, ()))
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in MISSING_NAMES.get(module, ()):
                yield f"{module}.{name}"
            case ast.Attribute(attr=name) if name in EVERYWHERE | {"open_signal_receiver"}:
                yield name
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
                if name in EVERYWHERE:
                    yield name
            case ast.Constant(value=str(text)) if text.startswith(("/dev/", "/proc/", "/etc/", "/var/")):
                yield text


def test_names_that_only_some_systems_have_are_used_where_there_is_another_way() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if path.relative_to(ROOT).as_posix() not in OWNERS
        for name in named(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_such_names_are_found_wherever_they_hide() -> None:
    planted = 'import fcntl\nfrom signal import SIGPIPE\nos.fork()\nloop.add_signal_handler\ngetattr(time, "CLOCK_BOOTTIME")\nopen("/dev/null")\n'
    assert sorted(named(planted)) == ["/dev/null", "CLOCK_BOOTTIME", "add_signal_handler", "fcntl", "os.fork", "signal.SIGPIPE"]


def test_every_text_file_says_its_encoding() -> None:
    """The default is another one on Windows."""
    silent = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            is_method = isinstance(node.func, ast.Attribute) and name == "open"
            binary = any(isinstance(one, str) and "b" in one for one in given)
            # Other things are opened as well: journals, streams, framings.
            text = name in TEXT_FILES and not is_method
            if text and not binary and not any(keyword.arg == "encoding" for keyword in node.keywords):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []


# ---- fallbacks


def test_signals_are_held_back_where_no_mask_can_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        let_go = platforms.hold_signals([signal.SIGTERM])
        signal.raise_signal(signal.SIGTERM)
        assert came == []
        let_go()
        platforms.deliver_signals([signal.SIGTERM])
        assert came == [signal.SIGTERM]
        platforms.deliver_signals([signal.SIGTERM])
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio has handlers of its own
async def test_signals_are_received_where_the_loop_has_no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refuse)
    before = signal.getsignal(signal.SIGTERM)
    with anyio.fail_after(10), platforms.received_signals(signal.SIGTERM) as received:
        signal.raise_signal(signal.SIGTERM)
        assert await anext(aiter(received)) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("lacks", [(), ("poll",)])
def test_a_socket_is_readable_once_there_is_something_or_it_was_closed(
    lacks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in lacks:
        monkeypatch.delattr(select, name)
    ours, theirs = socket.socketpair()
    with ours:
        assert not platforms.is_readable_now(ours.fileno())
        theirs.close()
        assert platforms.is_readable_now(ours.fileno())


def test_a_pipe_that_the_system_cannot_wait_for_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(10038, "not a socket")

    reading, writing = os.pipe()
    try:
        assert platforms.is_waited_for(writing, 0) is True
        monkeypatch.setattr(select, "select", refuse)
        monkeypatch.setattr(errno, "ENOTSOCK", 10038)
        assert platforms.is_waited_for(writing, 0) is None
    finally:
        os.close(reading)
        os.close(writing)


def test_data_are_synced_without_fdatasync(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", synced.append)
    platforms.sync_data(7)
    assert synced == [7]
