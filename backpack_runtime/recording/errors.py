"""Errors of recordings, as types."""

from __future__ import annotations

from backpack_proto.errors import BackpackError

__all__ = ["RecordingFailed", "RecordingUnreadable", "ReplayDiffers"]


class RecordingFailed(BackpackError):
    """A recording has ended before its client. Everything before can be read."""


class RecordingUnreadable(BackpackError):
    """A file is not a recording, or cannot be read to its end. The text names the place."""


class ReplayDiffers(BackpackError):
    """A replay gave other events than the recorded session."""
