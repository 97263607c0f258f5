"""Keys of a terminal: from bytes to keys, from keys to views, and a terminal that is given back as it was."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_runtime.cli.keyboard import Keyboard
from backpack_runtime.cli.views.keys import Key, KeyPress, KeyReader
from backpack_runtime.cli.views.navigation import LONGEST_FILTER, ShownPage, View, matching

SEQUENCES: list[tuple[bytes, list[KeyPress]]] = [
    (b"q", ["q"]),
    (b"\x1b[A\x1b[B\x1b[C\x1b[D", [Key.UP, Key.DOWN, Key.RIGHT, Key.LEFT]),
    (b"\x1bOA\x1bOB", [Key.UP, Key.DOWN]),
    (b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~", [Key.HOME, Key.END] * 3),
    (b"\x1b[5~\x1b[6~", [Key.PAGE_UP, Key.PAGE_DOWN]),
    (b"\x1b[1;5A", [Key.UP]),
    (b"\x1b[15~\x1b[3~\x1b[200~\x1b[<0;1;1M", []),
    (b"\r\n\x7f\x08\x15", [Key.ENTER, Key.ENTER, Key.BACKSPACE, Key.BACKSPACE, Key.CLEAR]),
    ("é日👩".encode(), ["é", "日", "👩"]),
    (b"\x00\x01\x07\xff", ["\ufffd"]),
    (b"\x1b\x1b[A", [Key.ESCAPE, Key.UP]),
    (b"\x1bx", [Key.ESCAPE, "x"]),
]


@pytest.mark.parametrize(("data", "keys"), SEQUENCES)
def test_sequences_are_keys_however_they_are_cut(data: bytes, keys: list[KeyPress]) -> None:
    assert KeyReader().feed(data) == keys
    reader = KeyReader()
    assert [key for byte in data for key in reader.feed(bytes([byte]))] == keys
    assert not reader.unsure


def test_escape_alone_is_known_when_nothing_follows() -> None:
    reader = KeyReader()
    assert (reader.feed(b"\x1b"), reader.unsure) == ([], True)
    assert (reader.settle(), reader.unsure) == ([Key.ESCAPE], False)
    assert reader.feed(b"\x1b[") == []
    assert reader.settle() == [], "half an arrow is no Escape"
    assert reader.feed(b"A") == ["A"]


@given(st.binary(max_size=200))
def test_no_bytes_confuse_the_reader_for_good(data: bytes) -> None:
    reader = KeyReader()
    reader.feed(data)
    reader.feed(b"\x1b[A" * 40)
    reader.settle()
    assert reader.feed(b"q") == ["q"]


def after(*keys: KeyPress, page: ShownPage = ShownPage(markets=20, rows=5), view: View = View()) -> View:  # noqa: B008 - values
    for key in keys:
        view = view.handle(key, page)
    return view


@pytest.mark.parametrize(
    ("keys", "view"),
    [
        (["q"], View(done=True)),
        (["?"], View(help=True)),
        (["?", "?"], View()),
        (["?", Key.ESCAPE], View()),
        (["?", "q"], View(help=True, done=True)),
        (["?", "x"], View()),
        (["p"], View(paused=True)),
        (["p", " "], View()),
        (["p", Key.DOWN, "/", "s"], View(paused=True, typing=True, filter="s")),
        ([Key.DOWN, "j", "j", "k", Key.UP], View(selected=1)),
        ([Key.UP], View()),
        ([Key.RIGHT, Key.PAGE_DOWN], View(selected=10)),
        ([Key.END], View(selected=19)),
        ([Key.END, Key.DOWN, Key.RIGHT], View(selected=19)),
        ([Key.END, Key.LEFT, Key.PAGE_UP], View(selected=9)),
        ([Key.END, Key.HOME], View()),
        ([Key.DOWN, "/", "q", "p", "?", "j"], View(typing=True, filter="qp?j")),
        (["/", "s", "o", Key.BACKSPACE, Key.ENTER], View(filter="s")),
        (["/", "s", "o", Key.CLEAR], View(typing=True)),
        (["/", "s", Key.DOWN, Key.ENTER, Key.DOWN], View(filter="s", selected=2)),
        (["/", "s", Key.ESCAPE], View()),
        (["/", "s", Key.ENTER, Key.ESCAPE], View()),
        (["/", "s", Key.ENTER, "/", "o"], View(filter="so", typing=True)),
        (["/", *("x" * 100)], View(filter="x" * LONGEST_FILTER, typing=True)),
    ],
)
def test_keys_change_the_view(keys: list[KeyPress], view: View) -> None:
    assert after(*keys) == view


@given(st.lists(st.sampled_from([*Key, *"qp?/jk sx日"])), st.integers(0, 50), st.integers(1, 50))
def test_what_is_chosen_is_always_one_of_the_markets(keys: list[KeyPress], markets: int, rows: int) -> None:
    view = after(*keys, page=ShownPage(markets=markets, rows=rows), view=View(selected=40))
    moved = view.handle(Key.DOWN, ShownPage(markets=markets, rows=rows))
    assert 0 <= moved.selected < max(markets, 1)


def test_a_filter_is_a_part_of_the_name() -> None:
    symbols = ["SOL_USDC", "kBONK_USDC_PERP", "日本_USDC"]
    assert matching(symbols, "") == symbols
    assert matching(symbols, " sol ") == ["SOL_USDC"]
    assert matching(symbols, "usdc-perp") == ["kBONK_USDC_PERP"]
    assert matching(symbols, "日") == ["日本_USDC"]


# ---- a terminal


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The side of a user, and that of a program."""
    user, program = pty.openpty()
    yield user, program
    for descriptor in (user, program):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


def modes(descriptor: int) -> tuple[bool, bool, bool]:
    flags = termios.tcgetattr(descriptor)[3]
    return bool(flags & termios.ECHO), bool(flags & termios.ICANON), bool(flags & termios.ISIG)


@pytest.mark.anyio
async def test_keys_come_at_once_and_the_terminal_is_given_back(terminal: tuple[int, int]) -> None:
    user, program = terminal
    before = termios.tcgetattr(program)
    with Keyboard(program) as keyboard:
        assert keyboard.available
        assert modes(program) == (False, False, True), "no echo, no waiting for a line; Ctrl-C is a signal still"
        with anyio.fail_after(30):
            os.write(user, b"q\x1b[")
            assert await keyboard.read() == ["q"]
            os.write(user, b"A")
            found = await keyboard.read()
            assert found == [Key.UP]
            os.write(user, b"\x1b")
            assert await keyboard.read() == []
            assert await keyboard.read() == [Key.ESCAPE]
    assert termios.tcgetattr(program) == before


def test_an_error_gives_the_terminal_back(terminal: tuple[int, int]) -> None:
    _, program = terminal
    before = termios.tcgetattr(program)
    with pytest.raises(ZeroDivisionError), Keyboard(program):
        raise ZeroDivisionError
    assert termios.tcgetattr(program) == before


@pytest.mark.anyio
async def test_a_terminal_that_goes_ends_the_keys(terminal: tuple[int, int]) -> None:
    user, program = terminal
    with Keyboard(program) as keyboard, anyio.fail_after(30):
        os.close(user)
        assert await keyboard.read() is None


@pytest.mark.anyio
async def test_what_is_no_terminal_has_no_keys() -> None:
    reading, writing = os.pipe()
    with Keyboard(reading) as keyboard:
        assert not keyboard.available
        assert await keyboard.read() is None
    os.close(reading)
    os.close(writing)
