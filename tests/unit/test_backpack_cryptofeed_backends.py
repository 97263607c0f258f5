"""A backend that cannot be written to is named, for as long as it cannot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed.backends.backend import BackendBookCallback, BackendCallback

from backpack_runtime.cryptofeed.backends import BackendWatch, takes_stale_books
from backpack_runtime.cryptofeed.shutdown import end_tasks, flush_backends

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


class TradesToNowhere(BackendCallback):  # type: ignore[misc]  # they have no types
    """A backend as cryptofeed 2 runs it: a queue, and a task that writes."""

    multiprocess = False

    def __init__(self, work: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.worker: Any = asyncio.get_running_loop().create_task(work)

    async def end(self) -> None:
        self.worker.cancel()
        await asyncio.wait([self.worker])


async def fails() -> None:
    raise ConnectionError("nobody\nlistens")


async def waits() -> None:
    await asyncio.Event().wait()


class Watched:
    """One backend, looked at on a clock of its own."""

    def __init__(self, backend: Any) -> None:
        self.now = 0.0
        self.watch = BackendWatch({"l2_book": [], "trades": [print, backend], "fills": [backend]}, clock=lambda: self.now)

    def after(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.watch.reasons()


async def test_a_writer_that_has_ended_is_named_with_its_error_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backend = TradesToNowhere(fails())
    watched = Watched(backend)
    watched.watch.report_ends()
    assert watched.after(0) == []
    await asyncio.wait([backend.worker])
    backend.queue.put_nowait({})
    said = "backend TradesToNowhere of trades has stopped and writes nothing any more (ConnectionError: nobody listens)"
    assert watched.after(0) == [f"{said}; rows that wait: 1"]
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == [f"BACKPACK: {said}"]
    async with asyncio.timeout(5):
        await flush_backends([[backend]])
    assert "TradesToNowhere has stopped; objects that it did not write: 1" in caplog.text


async def test_rows_that_wait_too_long_or_are_too_many_are_told_until_they_go() -> None:
    backend = TradesToNowhere(waits())
    watched = Watched(backend)
    backend.queue.put_nowait({})
    assert watched.after(0) == watched.after(29) == []
    backend.queue.put_nowait({})
    assert watched.after(1) == ["backend TradesToNowhere of trades does not keep up; rows that wait: 2"]
    backend.queue.get_nowait()
    assert watched.after(5) == [], "one of them has gone"
    for _ in range(1_000):
        backend.queue.put_nowait({})
    assert watched.after(0) == ["backend TradesToNowhere of trades does not keep up; rows that wait: 1001"]
    await backend.end()


async def test_what_cryptofeed_3_counts_is_told() -> None:
    backend: Any = TradesToNowhere(waits())
    backend.stats = SimpleNamespace(dropped_failed=0, dropped_overflow=0, last_error="OSError: no")
    watched = Watched(backend)
    backend._failing = True
    assert watched.after(0) == ["backend TradesToNowhere of trades cannot be written to (OSError: no); rows that wait: 0"]
    backend._failing, backend.stats.dropped_failed = False, 7
    assert watched.after(1) == ["backend TradesToNowhere of trades has dropped rows, 7 in all"]
    assert watched.after(60) == []
    await backend.end()


async def test_a_writer_that_was_ended_is_no_failure_nor_is_one_that_never_began() -> None:
    backend = TradesToNowhere(waits())
    await backend.end()
    assert Watched(backend).after(0) == []
    assert Watched(TradesToNowhere).after(0) == []


async def test_a_process_that_has_ended_is_named() -> None:
    backend = SimpleNamespace(worker=SimpleNamespace(exitcode=1), queue=(None, None))
    assert Watched(backend).after(0) == [
        "backend SimpleNamespace of trades has stopped and writes nothing any more (its process ended with 1); rows that wait: 0"
    ]


async def test_a_backend_behind_another_callback_is_found() -> None:
    backend = TradesToNowhere(fails())
    await asyncio.wait([backend.worker])
    (reason,) = Watched(SimpleNamespace(handler=backend)).after(0)
    assert reason.startswith("backend TradesToNowhere of trades has stopped")


def test_only_backends_that_write_books_as_cryptofeed_does_are_told_of_stale_ones() -> None:
    class Books(BackendBookCallback):  # type: ignore[misc]  # they have no types
        pass

    class OwnBooks(BackendBookCallback):  # type: ignore[misc]  # they have no types
        async def __call__(self, book: Any, receipt_timestamp: float) -> None:
            pass

    assert takes_stale_books(Books())
    assert not any(map(takes_stale_books, (OwnBooks(), TradesToNowhere, print, SimpleNamespace())))


async def test_what_was_started_is_ended_and_waited_for() -> None:
    class ConnectionHandler:
        async def _watcher(self) -> None:
            await asyncio.Event().wait()

    handler, other = ConnectionHandler(), ConnectionHandler()
    loop = asyncio.get_running_loop()
    # cryptofeed's own has this name.
    ConnectionHandler._watcher.__qualname__ = "ConnectionHandler._watcher"
    own, foreign = loop.create_task(handler._watcher()), loop.create_task(other._watcher())
    started = loop.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    await end_tasks([started], [handler])
    assert started.done()
    assert own.cancelled()
    assert not foreign.done(), "it watches a connection of another feed"
    foreign.cancel()
    await asyncio.wait([foreign])


async def test_what_does_not_end_by_itself_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_runtime.cryptofeed.shutdown.END_SECONDS", 0.01)
    task = asyncio.get_running_loop().create_task(waits())
    await end_tasks([task], [])
    assert task.cancelled()
