"""The files of a recording: `FILE` is written, `FILE.000001.zst` and so on are the parts that were finished by rotation.

When the writer is killed at any moment, each part is there once, as its plain file or compressed. It is renamed when it is finished,
compressed under a temporary name, brought to the disk, renamed, and only then the plain one is removed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import zstandard

from backpack_runtime.platforms import BINARY, sync_folder

__all__ = ["LEVEL", "compress_part", "finished_parts", "leftovers", "part_path"]

LEVEL: Final = 3
_COMPRESSED: Final = ".zst"
_TEMPORARY: Final = ".tmp"
_CHUNK: Final = 1 << 20
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY


def part_path(tail: Path, number: int) -> Path:
    """Return where a finished part is before it is compressed."""
    return tail.with_name(f"{tail.name}.{number:06}")


def _compressed(part: Path) -> Path:
    return part.with_name(part.name + _COMPRESSED)


def compress_part(part: Path, level: int) -> None:
    """Put a compressed file in place of a finished part.

    Raises:
        OSError: that is impossible. The plain file is still there.
    """
    done = _compressed(part)
    fresh = done.with_name(done.name + _TEMPORARY)
    try:
        with part.open("rb") as plain, os.fdopen(os.open(fresh, _FLAGS, 0o600), "wb") as file:
            zstandard.ZstdCompressor(level=level, write_checksum=True).copy_stream(
                plain, file, read_size=_CHUNK, size=part.stat().st_size
            )
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(done)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(part.parent)
    part.unlink()


def finished_parts(tail: Path) -> dict[int, Path]:
    """Return the finished parts of a recording by their numbers. Of a part that is there twice it is the compressed one."""
    pattern = re.compile(re.escape(tail.name) + r"\.(\d{6,})(" + re.escape(_COMPRESSED) + ")?")
    found: dict[int, Path] = {}
    for path in sorted(tail.parent.glob(f"{_escaped(tail.name)}.*")):
        name = pattern.fullmatch(path.name)
        # In the order of names the compressed one comes last.
        if name is not None:
            found[int(name[1])] = path
    return dict(sorted(found.items()))


def leftovers(tail: Path) -> list[Path]:
    """Return all files that a recording has here already."""
    return [*([tail] if tail.exists() else []), *finished_parts(tail).values()]


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
