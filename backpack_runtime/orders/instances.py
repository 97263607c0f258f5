"""Numbers of instances: each program that trades on this machine has one of its own, leased by the lock on a file.

Beside the lock stands the last block of client ids of that number that was given out, so that the next program with it begins behind them. The
lock ends with the process, also by a signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backpack_proto.errors import ConfigurationError
from backpack_proto.orders.intents import COUNTERS, INSTANCES

from .locks import locked

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Lease", "lease_folder"]

BLOCK = 4096
"""Client ids that are given out at once: so many orders for one more write."""


def lease_folder(environment: Mapping[str, str]) -> Path:
    """Return where the leases of this user are: `BACKPACK_STATE_DIR`, or the folder that the system has for state."""
    own = environment.get("BACKPACK_STATE_DIR")
    if own:
        return Path(own) / "instances"
    state = environment.get("XDG_STATE_HOME") or environment.get("LOCALAPPDATA")
    return (Path(state) if state else Path.home() / ".local" / "state") / "backpack-feed" / "instances"


class Lease:
    """The number of one instance, for as long as this object is not released."""

    def __init__(self, instance: int, lock: BaseFileLock, path: Path, last_id: int | None) -> None:
        self.instance = instance
        self.last_id = last_id
        """The last client id that any program before has had, or None where this machine does not know of one."""
        self._lock = lock
        self._path = path
        self._covered_from: int | None = None

    @classmethod
    def take(cls, folder: Path, instance: int | None) -> Lease:
        """Lease a number: `instance`, or without one the lowest that is free.

        Raises:
            ConfigurationError: it is in use on this machine, all are, or the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(INSTANCES) if instance is None else (instance,):
                lock = locked(folder / f"{number}.lock")
                if lock is None:
                    continue
                path = folder / f"{number}.last"
                last = path.read_text(encoding="utf-8").strip() if path.exists() else ""
                last_id = number * COUNTERS + int(last) % COUNTERS if last.isdecimal() else None
                return cls(number, lock, path, last_id)
        except OSError as error:
            raise ConfigurationError(
                f"instance: {folder} cannot be used for leases: {error.strerror}; set BACKPACK_STATE_DIR to a folder that can"
            ) from None
        if instance is None:
            raise ConfigurationError(f"instance: all {INSTANCES} are in use on this machine")
        raise ConfigurationError(f"instance: {instance} is in use by another client or program on this machine")

    def cover(self, client_id: int) -> None:
        """Have ids up to this one, and some more, known to be given out.

        Raises:
            ConfigurationError: that cannot be written.
        """
        if self._covered_from is not None and (client_id - self._covered_from) % COUNTERS < BLOCK:
            return
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(str((client_id + BLOCK) % COUNTERS), encoding="utf-8")
            fresh.replace(self._path)
        except OSError as error:
            raise ConfigurationError(f"instance: {self._path} cannot be written: {error.strerror}") from None
        self._covered_from = client_id

    def release(self) -> None:
        """Let another program have the number."""
        self._lock.release()
