"""Drawing of pictures on a terminal, for as long as there is one."""

from __future__ import annotations

import errno

from rich.console import RenderableType
from rich.live import Live

__all__ = ["draw"]


def draw(live: Live, picture: RenderableType) -> None:
    """Put a picture in place of the one before.

    Raises:
        OSError: the terminal cannot be written to, or has gone.
    """
    if not live.console.is_terminal:
        # It was one. Where SIGHUP is ignored, as by nohup, only this shows that it has gone: rich writes no picture to anything else.
        raise OSError(errno.EIO, "the terminal has gone")
    live.update(picture, refresh=True)
