"""Proof that a program runs with native kernels, or without them, as its case says."""

from __future__ import annotations

from backpack_runtime.kernels import kernels_in_use

from .metering import Options

__all__ = ["NATIVE", "PURE", "check_kernels"]

NATIVE = "native kernels"
PURE = "pure Python"


def check_kernels(options: Options) -> None:
    """Check that the kernels in use are those that are to be measured.

    Raises:
        RuntimeError: they are not.
    """
    if options.native is None:
        return
    wanted, found = NATIVE if options.native else PURE, kernels_in_use()
    if found != wanted:
        raise RuntimeError(f"{wanted} is to be measured, and {found} is in use")
