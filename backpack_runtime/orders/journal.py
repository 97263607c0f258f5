"""The journal of intents, which are written before an order leaves, in a file or in memory.

A row is written by one `write`, so that it is whole, and is the system's before the first byte of the order leaves: the end of the process
does not lose it, the end of the machine may. With `durability="machine"` it is on the disk by then, by an fdatasync in a worker
thread that serves all rows written before it began.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from backpack_proto.errors import BackpackError, ConfigurationError
from backpack_proto.orders.intents import (
    IdReserved,
    IntentEnded,
    Intents,
    JournalBegan,
    JournalRow,
    OrderIntent,
    encode_rows,
    read_rows,
)
from backpack_runtime.platforms import APPEND, sync_data, sync_folder

from .locks import locked

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Durability", "Journal", "JournalFailed"]


class Durability(StrEnum):
    """Event that a row of the journal survives."""

    PROCESS = "process"
    """The end of the process, by kill -9 too."""
    MACHINE = "machine"
    """The end of the machine as well."""


class JournalFailed(BackpackError):
    """A row could not be written, so the order that it is about was not sent."""


class Journal:
    """The rows that are written, and the intents that they make. Without a path they are in memory only."""

    def __init__(self, intents: Intents, *, file: _File | None = None, durability: Durability = Durability.PROCESS) -> None:
        self.intents = intents
        self.durability = durability
        self.trouble: str | None = None
        """Why the last outcome could not be written."""
        self._file = file

    @classmethod
    def open(
        cls, path: Path | None, *, instance: int, last_id: int | None, random_id: int, account: str, durability: Durability
    ) -> Journal:
        """Open a journal, and take over what an earlier program has left in it. `account` is the public key of who signs.

        The ids go on behind `last_id`, the last one of this instance that the machine knows of, else behind the last one in the file,
        else behind `random_id`, for another machine may have had this instance.

        Raises:
            ConfigurationError: the file cannot be read or written, another program has it open, or it holds orders of another account
                whose outcome is not known.
        """
        digest = sha256(account.encode()).hexdigest()[:16]
        if path is None:
            return cls(Intents(instance, last_id=random_id if last_id is None else last_id))
        # A program may go to another folder while it runs.
        path = path.absolute()
        try:
            lock = locked(path.with_name(f"{path.name}.lock"))
        except OSError as error:
            raise ConfigurationError(f"journal: {path} cannot be locked: {error.strerror}") from None
        if lock is None:
            raise ConfigurationError(f"journal: {path} is in use by another client or program; each needs a file of its own")
        try:
            rows = read_rows(path.read_bytes() if path.exists() else b"")
            intents = _fold(rows, path, Intents(instance, last_id=random_id), last_id, digest)
            return cls(intents, file=_File(path, lock, intents.rows(digest)), durability=durability)
        except OSError as error:
            lock.release()
            raise ConfigurationError(f"journal: {path} cannot be used: {error.strerror}") from None
        except BaseException:
            lock.release()
            raise

    @property
    def path(self) -> Path | None:
        """Where the rows are, or None when they are in memory."""
        return None if self._file is None else self._file.path

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write all rows down, or raise before the first.

        Raises:
            JournalFailed: they cannot be written.
        """
        if self._file is not None:
            self._file.append(encode_rows(rows))
        for row in rows:
            self.intents.take(row)

    def note(self, rows: Sequence[IntentEnded]) -> None:
        """Write outcomes down. One that cannot be written is known all the same, and only to be found out again after a restart."""
        try:
            self.write(rows)
        except JournalFailed as failed:
            self.trouble = str(failed)
            for row in rows:
                self.intents.take(row)
        else:
            self.trouble = None

    async def settle(self) -> None:
        """Wait until written rows survive the event of `durability`.

        Raises:
            JournalFailed: the disk refuses.
        """
        if self._file is not None and self.durability is Durability.MACHINE:
            await self._file.sync()

    def close(self) -> None:
        """Let another program have the file."""
        if self._file is not None:
            self._file.close()


def _fold(rows: Sequence[JournalRow], path: Path, fresh: Intents, last_id: int | None, digest: str) -> Intents:
    """Return the intents that the rows of a file make, with the ids of `fresh` where they hold none."""
    began = [row for row in rows if isinstance(row, JournalBegan)]
    reserved = {row.client_id for row in rows if isinstance(row, IdReserved)}
    made = [row.last_id if isinstance(row, JournalBegan) else row.client_id for row in rows if _made(row, reserved)]
    own = [client_id for client_id in made if client_id is not None and fresh.is_own(client_id)]
    known = last_id if last_id is not None else own[-1] if own else fresh.last_id
    intents = Intents(fresh.instance, last_id=known)
    for row in rows:
        intents.take(row)
    if intents.open and began and began[-1].account != digest:
        raise ConfigurationError(
            f"journal: {path} holds {len(intents.open)} orders of another key whose outcome is not known: "
            "resolve them with that key, or give another file"
        )
    return intents


def _made(row: JournalRow, reserved: Container[int]) -> bool:
    """Return whether a row shows how far the count of the ids has come."""
    return isinstance(row, JournalBegan) or (isinstance(row, OrderIntent) and row.client_id not in reserved)


class _File:
    """The open file of a journal."""

    def __init__(self, path: Path, lock: BaseFileLock, rows: Sequence[JournalRow]) -> None:
        """Begin the file again with `rows`. At each moment either the old one is there or the new one."""
        self.path = path
        self._lock = lock
        fresh = path.with_name(f"{path.name}.new")
        self._descriptor = os.open(fresh, APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._size = 0
            self._placed = False
            self.append(encode_rows(rows))
            os.fsync(self._descriptor)
        finally:
            # Not every system renames a file that is open.
            os.close(self._descriptor)
        fresh.replace(path)
        sync_folder(path.parent)
        self._descriptor = os.open(path, APPEND)
        self._placed = True
        self._synced = 0
        self._round: anyio.Event | None = None

    def append(self, data: bytes) -> None:
        """Add whole lines by one `write`.

        Raises:
            JournalFailed: the system has not taken them.
        """
        try:
            self._check_place()
            taken = os.write(self._descriptor, data)
            if taken != len(data):
                # A full disk takes a part. The next row has to begin a line.
                os.ftruncate(self._descriptor, self._size)
                raise JournalFailed(f"journal: {self.path} took {taken} of {len(data)} bytes; is the disk full?")
        except OSError as error:
            raise JournalFailed(f"journal: {self.path} cannot be written: {error.strerror}") from None
        self._size += taken

    def _check_place(self) -> None:
        """Refuse to write where the next program will not look: the file has been removed, or another one put in its place."""
        if self._placed:
            there, here = self.path.stat(), os.fstat(self._descriptor)
            if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
                raise JournalFailed(f"journal: {self.path} is another file by now; it was replaced while it was in use")

    async def sync(self) -> None:
        """Wait until all rows so far are on the disk. One call of the system serves all that wait."""
        wanted = self._size
        while self._synced < wanted:
            if self._round is not None:
                await self._round.wait()
                continue
            self._round = anyio.Event()
            reached = self._size
            try:
                await run_sync(sync_data, self._descriptor)
                self._synced = max(self._synced, reached)
            except OSError as error:
                raise JournalFailed(f"journal: {self.path} cannot be brought to the disk: {error.strerror}") from None
            finally:
                self._round.set()
                self._round = None

    def close(self) -> None:
        """Close the file and let others lock it."""
        os.close(self._descriptor)
        self._lock.release()
