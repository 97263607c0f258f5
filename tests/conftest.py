"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

ONCE = {
    "test_backpack_cli_account",
    "test_backpack_dropped_socket",
    "test_backpack_exchange_streams",
    "test_backpack_private",
    "test_backpack_proxied",
    "test_backpack_proxy_killed",
    "test_backpack_proxy_namespace",
    "test_backpack_proxy_programs",
    "test_backpack_sandbox_account",
}
"""Besides the simulations, tests that take long and that no interpreter changes the outcome of."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is enough to be run on one interpreter."""
    for item in items:
        if item.path.stem in ONCE or item.path.parent.name == "simulation":
            item.add_marker("once")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every asynchronous test runs on both."""
    return str(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where REQUIRED_TESTS is set, as in continuous integration, a required test that skips itself has failed."""
    report = yield
    if report.skipped and item.get_closest_marker("required") and os.environ.get("REQUIRED_TESTS"):
        report.outcome = "failed"
    return report
