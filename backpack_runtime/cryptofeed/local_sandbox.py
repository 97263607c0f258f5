"""A simulated exchange for `use_sandbox`: one for the whole process, on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from functools import lru_cache
from pathlib import Path

from backpack_runtime.extras import MissingExtra
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.settings import Settings

__all__ = ["LocalSandbox", "local_sandbox"]

START_SECONDS = 30.0
STOP_SECONDS = 5.0


class LocalSandbox:
    """Where it is. It ends with the process.

    Raises:
        OSError: no port is to be had.
        MissingExtra: TLS needs trustme, which is not installed.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.sandbox: Sandbox | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tls = tls
        self._thread = threading.Thread(target=self._run, name="backpack-sandbox", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise TimeoutError("the sandbox did not start")
        if self._failure is not None:
            raise self._failure
        atexit.register(self.close)

    @property
    def rest_url(self) -> str:
        """Address of its REST API."""
        return "" if self.sandbox is None else self.sandbox.rest_url

    @property
    def ws_url(self) -> str:
        """Address of its websocket."""
        return "" if self.sandbox is None else self.sandbox.ws_url

    @property
    def ca_file(self) -> Path | None:
        """The certificate of its throwaway authority, or None without TLS."""
        return None if self.sandbox is None else self.sandbox.ca_file

    @property
    def settings(self) -> Settings:
        """Settings of a client that reach it."""
        return Settings(rest_url=self.rest_url, ws_url=self.ws_url, ca_file=self.ca_file)

    def close(self) -> None:
        """Stop it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except (OSError, MissingExtra) as error:
            self._failure = error
            self._started.set()
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with serve_sandbox(tls=self._tls) as sandbox:
            self.sandbox = sandbox
            self._started.set()
            await self._stop.wait()


@lru_cache(maxsize=1)
def local_sandbox() -> LocalSandbox:
    """The process's sandbox, started when it is first asked for."""
    return LocalSandbox()
