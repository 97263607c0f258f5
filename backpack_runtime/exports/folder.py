"""Files that appear under their names only when all of them are complete."""

from __future__ import annotations

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from backpack_proto.errors import ConfigurationError

__all__ = ["LONGEST_PART", "Staging", "file_part"]

LONGEST_PART: Final = 80
"""Characters of a symbol in a file name. File systems take 255 for the whole name."""


def file_part(text: str) -> str:
    """Return text as a part of a file name: letters, digits, `.`, `-` and `_` stay, all others are percent-encoded.

    Longer text than any symbol of the exchange is cut and ends in a digest of the whole.
    """
    part = quote(text, safe="", errors="surrogatepass").replace("~", "%7E")
    if len(part) <= LONGEST_PART:
        return part
    return f"{part[:LONGEST_PART]}~{sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"


class Staging:
    """A folder inside the target folder where files grow. They move to their places together, or vanish."""

    def __init__(self, folder: Path, *, force: bool) -> None:
        """With `force` files that are there are replaced.

        Raises:
            OSError: the folder cannot be made.
        """
        self._folder = folder
        self._force = force
        self._names: list[str] = []
        self._made = not folder.exists()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=self._folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
        if self._made and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def claim(self, name: str) -> None:
        """Announce a file.

        Raises:
            ConfigurationError: there is a file of that name, and it is not to be replaced.
        """
        self._check(name)
        self._names.append(name)

    def path(self, name: str) -> Path:
        """Return where a file that was announced grows."""
        return self._temporary / name

    def spare(self, name: str) -> Path:
        """Return the hidden path at which a file grows."""
        return self._temporary / f"{name}.tmp"

    def publish(self) -> list[Path]:
        """Move all files to their places and return these, in the order of their names.

        Raises:
            ConfigurationError: a file of that name has come meanwhile, and is not to be replaced. None was moved.
        """
        names = sorted(self._names)
        for name in names:
            self._check(name)
        for name in names:
            self.path(name).replace(self._folder / name)
        return [self._folder / name for name in names]

    def _check(self, name: str) -> None:
        place = self._folder / name
        if not self._force and place.exists():
            raise ConfigurationError(
                f"folder: {place} is there already; give another folder, or replace it with force=True (--force)"
            )
