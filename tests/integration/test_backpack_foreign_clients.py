"""Libraries that nobody here wrote call all they have for Backpack against the sandbox, unchanged but for the URL.

Each runs in a process of its own, bpx-py and backpack-exchange-sdk in environments of their own, which pip makes from the package index. A
call that a library gains fails the test until it has a row, and so does a fault that it mends.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from client_tables import DOCUMENT, LIBRARIES, NoIndex, install, run, table_of, with_table
from wheel_environments import LACKING

pytestmark = pytest.mark.required
if LACKING:
    pytest.skip(f"{LACKING} is not installed", allow_module_level=True)


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_call_of_a_library_equals_the_state_of_the_sandbox_or_is_the_fault_of_the_client(
    name: str, tmp_path: Path
) -> None:
    library = LIBRARIES[name]
    if not library.requirement:
        pytest.importorskip("ccxt.pro", reason="ccxt is not installed with its websocket half")
    try:
        python = install(library, tmp_path)
    except NoIndex:
        pytest.skip("there is no package index to install from")
    table = table_of(run(library, python))
    assert with_table(DOCUMENT.read_text(), name, table) == DOCUMENT.read_text(), (
        "python tests/support/client_tables.py --write"
    )
