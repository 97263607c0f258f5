"""What integration tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import cryptofeed_programs
from wheel_environments import Environment, build


@pytest.fixture
def running() -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Runs a FeedHandler for as long as a block lasts."""
    return cryptofeed_programs.running


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is built here: a native one where there is a compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    built = build(folder)
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[..., Environment]:
    """Makes a virtual environment with libraries, and without this project."""

    def make(*, cryptofeed: bool, only: Iterable[str] | None = None) -> Environment:
        environment = Environment(tmp_path / "environment")
        environment.link_libraries(only)
        if cryptofeed:
            environment.copy_cryptofeed()
        return environment

    return make
