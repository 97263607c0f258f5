"""Refuses to run a feed twice: its session serves one run, and a second one would not deliver."""

from __future__ import annotations

import asyncio
from typing import Any

from backpack_proto.errors import LocalProtocolError
from backpack_runtime.cryptofeed.markets.loading import MarketLoading

from .driver import SessionDriver

__all__ = ["OneRun"]


class OneRun(MarketLoading):
    """A feed that is good for one run in one FeedHandler."""

    _driver: SessionDriver
    _runs = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, as cryptofeed 2 asks.

        Raises:
            LocalProtocolError: this feed runs, or has run.
        """
        self._begin_run()
        super().start(loop)

    async def run(self, *arguments: Any, **options: Any) -> None:
        """Run until it is stopped, as cryptofeed 3 asks.

        Raises:
            LocalProtocolError: this feed runs, or has run.
        """
        self._begin_run()
        try:
            await super().run(*arguments, **options)
        finally:
            # A run whose markets could not be had has not begun, and may be tried again.
            self._runs = self._driver.begun or self._driver.closed

    def _begin_run(self) -> None:
        if self._runs:
            how = "has been stopped" if self._driver.closed else "runs already, in this FeedHandler or in another one"
            raise LocalProtocolError(f"this feed {how}: a {type(self).__name__} is good for one run, make another one")
        self._runs = True
