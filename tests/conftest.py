"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


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
