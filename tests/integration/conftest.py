"""What integration tests share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import cryptofeed_programs


@pytest.fixture
def running() -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Runs a FeedHandler for as long as a block lasts."""
    return cryptofeed_programs.running
