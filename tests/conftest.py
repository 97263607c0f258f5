"""What all tests share."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import hypothesis_profiles

hypothesis_profiles.register(Path(__file__).parents[1])

SLOW = {
    "test_backpack_check",
    "test_backpack_cryptofeed_ccxt",
    "test_backpack_cryptofeed_faults",
    "test_backpack_cryptofeed_parity",
    "test_backpack_cryptofeed_proxied",
    "test_backpack_cryptofeed_recording",
    "test_backpack_cryptofeed_redis",
    "test_backpack_export_command",
    "test_backpack_nats",
    "test_backpack_platforms",
    "test_backpack_wheel",
    "test_backpack_wheel_kernels",
}
"""Integration tests that start programs or wait for seconds: not in the default run, but on every interpreter."""
GATE = {
    "test_backpack_account_clock",
    "test_backpack_cli",
    "test_backpack_cli_account",
    "test_backpack_dashboard",
    "test_backpack_documents",
    "test_backpack_dropped_socket",
    "test_backpack_exchange_streams",
    "test_backpack_foreign_clients",
    "test_backpack_private",
    "test_backpack_proxied",
    "test_backpack_proxy_killed",
    "test_backpack_proxy_namespace",
    "test_backpack_proxy_programs",
    "test_backpack_serve_command",
}
"""Tests that take long and that no interpreter changes the outcome of: once for each change. Single tests are marked where they are."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is not in the default run. Pyproject.toml says what the markers mean."""
    for item in items:
        if item.path.stem in GATE:
            item.add_marker("gate")
        elif item.path.stem in SLOW and item.path.parent.name == "integration" and not item.get_closest_marker("gate"):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Leases of instances lie in a folder of the test run, also for the programs that it starts."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKPACK_STATE_DIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A command that a test runs in this process sets the levels of the log, and the next test hears what it should all the same."""
    before = [(logger, logger.level) for logger in map(logging.getLogger, ("backpack_runtime", "backpack_runtime.client"))]
    yield
    for logger, level in before:
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Ctrl-C is one, also where the tests were started in the background of a shell, which has it ignored."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
