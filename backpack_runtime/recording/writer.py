"""The open file of a recording: each line by one write past all buffers, and the turn to a new part."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from backpack_proto.errors import ConfigurationError
from backpack_runtime.platforms import APPEND

from .errors import RecordingFailed
from .parts import compress_part, leftovers, part_path

__all__ = ["Writer"]

_log = logging.getLogger("backpack_runtime.recording")

_FLAGS: Final = APPEND | os.O_CREAT | os.O_EXCL


class Writer:
    """Appends whole lines, and compresses finished parts in a thread."""

    def __init__(self, path: Path, *, level: int) -> None:
        """Make the file.

        Raises:
            ConfigurationError: it is there already, or cannot be made.
        """
        # A program may go to another folder while it records.
        self.path = path.absolute()
        self._level = level
        try:
            there = leftovers(self.path)
            if there:
                raise ConfigurationError(
                    f"path: {there[0]} exists already, and a recording is never added to: give another name"
                )
            self._descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise ConfigurationError(f"path: {path} cannot be made: {error.strerror}") from None
        self.part = 1
        self.size = 0
        """Of the part that is written, bytes."""
        self.total = 0
        """Of all parts, before they are compressed, bytes."""
        self._threads: ThreadPoolExecutor | None = None
        self._is_open = True

    def write(self, line: bytes) -> None:
        """Append one line.

        Raises:
            RecordingFailed: the system does not take it. No part of it is in the file.
        """
        try:
            taken = os.write(self._descriptor, line)
            if taken != len(line):
                # A full disk takes a part.
                os.ftruncate(self._descriptor, self.size)
                raise RecordingFailed(f"{self.path}: took {taken} of the {len(line)} bytes of a line: is the disk full?")
        except OSError as error:
            raise RecordingFailed(f"{self.path}: cannot be written: {error.strerror}") from None
        self.size += taken
        self.total += taken

    def turn(self) -> None:
        """Finish this part, and begin the next one.

        Raises:
            RecordingFailed: the system refuses.
        """
        finished = part_path(self.path, self.part)
        try:
            self._close_file()
            self.path.replace(finished)
            self._descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise RecordingFailed(f"{self.path}: part {self.part + 1} cannot be begun: {error.strerror}") from None
        self._is_open = True
        self.part += 1
        self.size = 0
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="backpack-recording")
        self._threads.submit(compress_part, finished, self._level).add_done_callback(self._compressed)

    def _compressed(self, done: Future[None]) -> None:
        error = done.exception()
        if error is not None:
            _log.warning("%s: a finished part stays uncompressed: %s", self.path, error)

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            self._close_file()

    def _close_file(self) -> None:
        self._is_open = False
        os.close(self._descriptor)

    def wait(self) -> None:
        """Wait until all finished parts are compressed."""
        if self._threads is not None:
            self._threads.shutdown()
