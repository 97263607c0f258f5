"""Native kernels: the modules that are compiled from C where there is a compiler, each beside its twin in Python (docs/kernels.md)."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

__all__ = ["KERNELS", "kernels_in_use"]

KERNELS = ("backpack_proto.book._side", "backpack_runtime.framing._cutting")


def kernels_in_use() -> str:
    """Return "native kernels" or "pure Python", or which kernel is native if not all are.

    Raises ImportError for a kernel that is installed and cannot be loaded: its twin is for where it is absent.
    """
    native = [kernel for kernel in KERNELS if _is_native(kernel)]
    if len(native) in {0, len(KERNELS)}:
        return "native kernels" if native else "pure Python"
    return f"native: {', '.join(native)}; pure Python: {', '.join(kernel for kernel in KERNELS if kernel not in native)}"


def _is_native(kernel: str) -> bool:
    if find_spec(kernel) is None:
        return False
    import_module(kernel)
    return True
