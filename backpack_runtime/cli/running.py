"""Runs a command on an event loop until it ends or is told to stop, and says how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import anyio

from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_runtime.client import BackpackClient
from backpack_runtime.platforms import deliver_signals, received_signals

from .complaints import SIGNALLED, STOPS

__all__ = ["enter", "run_until_signalled"]


async def enter(client: BackpackClient, stack: AsyncExitStack, exchange: str) -> None:
    """Enter a client for as long as the stack lives. `exchange` names its exchange.

    Raises:
        LocalProtocolError: it names a market or channel that does not exist.
        BackpackError: the exchange cannot be used, and the text names it.
    """
    try:
        await stack.enter_async_context(client)
    except LocalProtocolError:
        raise
    except BackpackError as error:
        raise BackpackError(f"{exchange} cannot be used: {error}") from None


def run_until_signalled(body: Callable[[], Awaitable[None]], *, backend: str) -> int:
    """Run `body`. Returns 0, or 128 and the number of the signal (SIGINT, SIGTERM) that ended it.

    The caller blocks both signals, and they wait until this one is ready: an event loop that is interrupted while it starts, or
    in the middle of its own work, ends in a heap of errors.

    Raises:
        BackpackError, OSError: `body` did. Never as a part of an exception group.
    """
    return anyio.run(_supervise, body, backend=backend)


async def _supervise(body: Callable[[], Awaitable[None]]) -> int:
    received: list[int] = []
    failures: list[Exception] = []
    with received_signals(*STOPS) as signals:
        deliver_signals(STOPS)
        try:
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    async for number in signals:
                        received.append(number)
                        tasks.cancel_scope.cancel()

                tasks.start_soon(stop)
                await body()
                tasks.cancel_scope.cancel()
        except* (BackpackError, OSError) as group:
            failures += _leaves(group)
    if received:
        return SIGNALLED + received[0]
    if failures:
        raise failures[0]
    return 0


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """The errors of a group and of the groups in it."""
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
