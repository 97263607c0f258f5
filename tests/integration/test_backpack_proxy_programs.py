"""The client behind real proxies: dante, microsocks, squid and tinyproxy, with and without passwords, over TLS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

import proxy_matrix
from proxy_matrix import CELLS, DOCUMENT, PROXIES, Cell, Remote
from proxy_programs import PROGRAMS, RunningProxy, missing, run_proxies

pytestmark = pytest.mark.required


@pytest.fixture(scope="module")
def proxies() -> Iterator[Mapping[tuple[str, bool], RunningProxy]]:
    absent = missing(*PROGRAMS)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    with run_proxies(PROXIES) as running:
        yield running


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with proxy_matrix.serve_elsewhere() as remote:
        yield remote


@pytest.mark.parametrize("cell", CELLS, ids=", ".join)
def test_traffic_goes_through_the_proxy_or_the_error_names_it(
    cell: Cell, remote: Remote, proxies: Mapping[tuple[str, bool], RunningProxy]
) -> None:
    proxy_matrix.check(cell, remote, proxies[cell.program, cell.asks_password])


def test_the_documented_matrix_is_the_one_that_is_tested() -> None:
    assert len(CELLS) >= 60
    assert len(set(CELLS)) == len(CELLS)
    assert DOCUMENT.read_text() == proxy_matrix.document({cell: cell.expected for cell in CELLS})
