"""The error of an export that could not be finished."""

from __future__ import annotations

from backpack_proto.errors import BackpackError

__all__ = ["ExportFailed"]


class ExportFailed(BackpackError):
    """A value does not fit into the file that was asked for. No file of this export was written."""
