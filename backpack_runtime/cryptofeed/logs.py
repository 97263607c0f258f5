"""The one logger of the feed, and its way into the log that cryptofeed's own configuration asks for."""

from __future__ import annotations

import logging

__all__ = ["LOG", "join_cryptofeed_log"]

LOG = logging.getLogger("backpack_runtime.cryptofeed")

_CRYPTOFEED = ("feedhandler", "cryptofeed")
"""The loggers that `log:` configures, in cryptofeed 2 and 3."""


def join_cryptofeed_log() -> None:
    """Have cryptofeed's `log:` file get the lines of the feed as well, and its level hold for them unless they have one of their own.

    It may be called again and again: the configuration is read when a FeedHandler is made.
    """
    if not any(isinstance(handler, _ToFiles) for handler in LOG.handlers):
        LOG.addHandler(_ToFiles())
    levels = [logger.level for logger in map(logging.getLogger, _CRYPTOFEED) if logger.level and _files(logger)]
    if levels and LOG.level == logging.NOTSET:
        LOG.setLevel(min(levels))


class _ToFiles(logging.Handler):
    """Hands records to the files of cryptofeed's loggers. Their terminal output is shown by our own loggers already."""

    def emit(self, record: logging.LogRecord) -> None:
        for logger in map(logging.getLogger, _CRYPTOFEED):
            if record.levelno >= logger.level:
                for handler in _files(logger):
                    if record.levelno >= handler.level:
                        handler.handle(record)
        # Python shows warnings on standard error as long as logging is not set up, and this handler does not count.
        last = logging.lastResort
        if last is not None and not logging.getLogger().handlers and record.levelno >= last.level:
            last.handle(record)


def _files(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
