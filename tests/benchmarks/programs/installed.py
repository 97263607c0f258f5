"""Versions of the libraries that cases need, as this interpreter has them."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress

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
    report(python=platform.python_version(), versions=versions)


if __name__ == "__main__":
    main()
