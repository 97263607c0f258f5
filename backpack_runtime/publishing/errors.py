"""The error of an engine that cannot be used, and errors that leave a block as they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from backpack_proto.errors import BackpackError

__all__ = ["EngineFailed", "tasks_inside"]


class EngineFailed(BackpackError):
    """NATS cannot be used: it cannot be reached, refuses, has no JetStream, or holds messages that this project did not publish."""


@asynccontextmanager
async def tasks_inside() -> AsyncGenerator[TaskGroup]:
    """Run tasks for as long as the block lasts. An error of one of them, or of the block, leaves it by itself, and not in a group."""
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = group.exceptions[0] if len(group.exceptions) == 1 else group
    if failure is not None:
        raise failure
