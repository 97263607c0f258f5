"""The error of a feature whose extra is not installed, which the core's testing tools raise as well."""

from __future__ import annotations

from backpack_proto.extras import MissingExtra

__all__ = ["MissingExtra"]
