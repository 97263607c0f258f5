"""The live view on a terminal: draws pictures, and obeys keys and signals of the terminal."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import anyio
from rich.console import Console, Group
from rich.live import Live

from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.transport import system_now

from .drawing import draw
from .keyboard import Keyboard, in_foreground
from .views.board import Board
from .views.navigation import ShownPage, View
from .views.terminal import Counters, Moment, screen

__all__ = ["show_live"]

SCREEN_SECONDS: Final = 0.25
REDRAW_SECONDS: Final = 0.03
"""Two pictures are so far apart, however fast keys and new sizes come."""
BACKGROUND_SECONDS: Final = 0.2
# Windows has neither.
_RESIZED: Final = getattr(signal, "SIGWINCH", None)
_SUSPENDED: Final = getattr(signal, "SIGTSTP", None)


async def show_live(
    client: BackpackClient, board: Board, console: Console, counters: Callable[[], Counters], *, depth: int, raw: bool
) -> None:
    """Show the board until `q` is pressed or the client ends. The terminal is then as it was.

    Raises:
        OSError: the terminal cannot be written to.
    """
    with ExitStack() as stack:
        if os.isatty(2):
            stack.enter_context(_log_to(board))
        keyboard = stack.enter_context(Keyboard())
        live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        view = _LiveView(client, board, live, keyboard, counters, depth=depth, raw=raw)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.read_keys)
            await tasks.start(view.obey_terminal)
            await view.run()
            tasks.cancel_scope.cancel()


class _LiveView:
    def __init__(
        self,
        client: BackpackClient,
        board: Board,
        live: Live,
        keyboard: Keyboard,
        counters: Callable[[], Counters],
        *,
        depth: int,
        raw: bool,
    ) -> None:
        self._client = client
        self._board = board
        self._live = live
        self._keyboard = keyboard
        self._counters = counters
        self._depth = depth
        self._raw = raw
        self._view = View(keys=keyboard.available)
        self._page = ShownPage()
        self._paused: Moment | None = None
        self._suspended = False
        self._drawn_s = 0.0
        self._waiting: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Draw, and take events until it is time to draw again."""
        while not self._view.done:
            self._draw()
            self._drawn_s = anyio.current_time()
            with anyio.CancelScope(deadline=self._drawn_s + SCREEN_SECONDS) as self._waiting:
                await self._take_events()
                return

    async def read_keys(self) -> None:
        """Let keys change the view."""
        while (keys := await self._keyboard.read()) is not None:
            for key in keys:
                self._view = self._view.handle(key, self._page)
            if keys:
                self._soon()

    async def obey_terminal(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Draw again for another size, and leave the terminal to the shell when it suspends this program."""
        numbers = [number for number in (_RESIZED, _SUSPENDED) if number is not None]
        if not numbers:
            task_status.started()
            return
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                if number == _SUSPENDED:
                    await self._suspend(number)
                self._soon()

    async def _take_events(self) -> None:
        take: Callable[[Event, int], None] = self._board.take
        async for event in self._client:
            take(event, system_now().mono_us)

    def _draw(self) -> None:
        if self._suspended:
            return
        now = Moment(self._board, self._counters(), system_now().mono_us)
        if not self._view.paused:
            self._paused = None
        elif self._paused is None:
            self._paused = now._replace(board=self._board.still(self._depth))
        width, height = self._live.console.size
        picture = screen(now, self._view, width=width, height=height, depth=self._depth, paused=self._paused, raw=self._raw)
        self._page = picture.page
        draw(self._live, Group(*picture.lines))

    def _soon(self) -> None:
        if self._waiting is not None:
            self._waiting.deadline = min(self._waiting.deadline, self._drawn_s + REDRAW_SECONDS)

    async def _suspend(self, number: signal.Signals) -> None:
        self._live.stop()
        self._keyboard.give_back()
        # By the system's own action, which leaves a program alone that no shell could wake.
        before = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, before)
        self._suspended = True
        while not in_foreground(1):  # noqa: ASYNC110 - no signal says that the shell has given the terminal back
            # A program that writes or sets the terminal from the background spoils it for others.
            await anyio.sleep(BACKGROUND_SECONDS)
        self._suspended = False
        self._keyboard.take()
        self._live.start()


class _Notices(logging.Handler):
    """Shows the log where it does not tear up the picture."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.notice = self.format(record)


@contextmanager
def _log_to(board: Board) -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_Notices(board)]
    try:
        yield
    finally:
        root.handlers[:] = before
