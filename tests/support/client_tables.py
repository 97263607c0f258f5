"""The libraries that others wrote for Backpack, each against the simulated exchange: how to get one, and the table of its calls.

`python tests/support/client_tables.py` makes every call again and prints docs/sandbox-clients.md. `--write` keeps it there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import client_rows_bpx
import client_rows_ccxt
import client_rows_ccxt_pro
import client_rows_sdk
from client_driver import serve_on_a_trading_day, start
from client_rows import Row, check_row
from client_scenes import prepare
from wheel_environments import Environment

__all__ = ["DOCUMENT", "LIBRARIES", "Library", "NoIndex", "install", "run", "table_of", "with_table"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox-clients.md"
BEGIN, END = "<!-- {}: python tests/support/client_tables.py --write -->", "<!-- end of {} -->"


class Library(NamedTuple):
    """One of them."""

    requirement: str
    """What pip installs, into an environment of its own, or empty where the environment of the tests has it."""
    program: str
    rows: Callable[[], Iterator[Row]]
    frames_only: bool = False
    """True when its table has frames alone: what it reads over REST beside them depends on when they come."""


LIBRARIES = {
    "ccxt": Library("", "ccxt_rest.py", client_rows_ccxt.rows),
    "ccxt.pro": Library("", "ccxt_pro.py", client_rows_ccxt_pro.rows, frames_only=True),
    "bpx-py": Library("bpx-py==2.0.11", "bpx_py.py", client_rows_bpx.rows),
    "backpack-exchange-sdk": Library("backpack-exchange-sdk==1.1.4", "backpack_exchange_sdk_calls.py", client_rows_sdk.rows),
}


class NoIndex(Exception):
    """There is no package index to install from."""


def install(library: Library, folder: Path) -> str:
    """Return an interpreter that has the library. It may have to be installed into a new environment.

    Raises:
        NoIndex: it cannot be had.
    """
    if not library.requirement:
        return sys.executable
    environment = Environment(folder / "environment")
    installed = environment.pip("install", library.requirement)
    if "No matching distribution found" in installed.stderr or "ConnectionError" in installed.stderr:
        raise NoIndex(installed.stderr)
    assert installed.returncode == 0, installed.stderr
    return str(environment.python)


def run(library: Library, python: str) -> list[tuple[str, str, str]]:
    """Make every call of a library, and return the call, what it asked for, and what came of it.

    Raises:
        AssertionError: a call has no row or a row no call, or one is not as its row says.
    """
    rows = list(library.rows())
    with serve_on_a_trading_day() as served, start(python, library.program, served) as client:
        assert set(client.calls) == {row.call for row in rows}
        prepare(client)
        return [(row.title, *check_row(client, row, frames_only=library.frames_only)) for row in rows]


def table_of(outcomes: Sequence[tuple[str, str, str]]) -> str:
    """Return the table of a library as the document has it."""
    lines = ["| call | what it asks for | outcome |", "|---|---|---|"]
    lines += [f"| {title} | {asked} | {came} |" for title, asked, came in outcomes]
    right = sum(came.startswith("equal") for _, _, came in outcomes)
    return "\n".join([*lines, "", f"{len(outcomes)} calls: {right} equal, {len(outcomes) - right} the fault of the client."])


def with_table(text: str, name: str, table: str) -> str:
    """Return the document with the table of one library as it should be.

    Raises:
        ValueError: the document has lost the lines between which the table stands.
    """
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{DOCUMENT.name} has no table between {begin} and {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main(arguments: Sequence[str]) -> int:
    """Make every call, print the document, and with `--write` keep it."""
    text = DOCUMENT.read_text()
    for name, library in LIBRARIES.items():
        with tempfile.TemporaryDirectory() as folder:
            text = with_table(text, name, table_of(run(library, install(library, Path(folder)))))
    print(text)
    if "--write" in arguments:
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
