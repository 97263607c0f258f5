"""Versions of the libraries that cases need, and native kernels, as this interpreter has them."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress

from backpack_runtime.kernels import kernels_in_use

from .kernels import NATIVE
from .metering import report

NAMES = (
    "aiohttp",
    "anyio",
    "bpx-py",
    "ccxt",
    "cryptofeed",
    "matplotlib",
    "msgspec",
    "order-book",
    "trio",
    "trustme",
    "websockets",
    "wsproto",
)


def main() -> None:
    versions = {}
    for name in NAMES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    report(python=platform.python_version(), versions=versions, native=kernels_in_use() == NATIVE)


if __name__ == "__main__":
    main()
