"""The error of an engine that cannot be used."""

from __future__ import annotations

from backpack_proto.errors import BackpackError

__all__ = ["EngineFailed"]


class EngineFailed(BackpackError):
    """NATS cannot be used: it cannot be reached, refuses, has no JetStream, or holds messages that this project did not publish."""
