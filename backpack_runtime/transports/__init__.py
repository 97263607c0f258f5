"""One module for each runtime; all of them keep the contract of `backpack_runtime.transport.Transport`."""

from __future__ import annotations

from typing import Any

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import one_of

from .base import SocketTransport

__all__ = ["RUNTIMES", "transport_of"]

RUNTIMES = ("anyio", "aiohttp")
"""The first runs on asyncio and on trio, the second on asyncio."""


def transport_of(runtime: str) -> type[SocketTransport[Any]]:
    """The transport of a runtime, which is loaded when it is first asked for.

    Raises:
        ConfigurationError: there is no such runtime.
        MissingExtra: what it needs is not installed.
    """
    if runtime == "anyio":
        from .anyio import AnyioTransport  # noqa: PLC0415 - a program pays only for what it uses

        return AnyioTransport
    if runtime == "aiohttp":
        from .aiohttp.transport import AiohttpTransport  # noqa: PLC0415 - an extra, which need not be installed

        return AiohttpTransport
    raise ConfigurationError(one_of("runtime", runtime, RUNTIMES))
