"""The runtimes, which carry the bytes, one module for each. All of them keep the contract of `backpack_runtime.transport.Transport`.

This is the list that the client, the command line and the tests read. A package adds a runtime of its own by an entry point of the
group `backpack_feed.runtimes` in its metadata, whose name users give for `runtime`, and whose object makes a transport:

    [project.entry-points."backpack_feed.runtimes"]
    curio = "my_package:CurioTransport"

It is called as `CurioTransport(addresses, compression=False)`, and returns an async context manager of a `Transport`. It is loaded
when it is asked for.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import one_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from backpack_runtime.network.addresses import Addresses
    from backpack_runtime.transport import Transport

__all__ = ["BUILT_IN", "GROUP", "MakeTransport", "Runtime", "check_runtime", "runtime_names", "transport_of"]

GROUP: Final = "backpack_feed.runtimes"


class MakeTransport(Protocol):
    """A runtime as the client sees it: mostly a class."""

    def __call__(self, addresses: Addresses, *, compression: bool = False) -> AbstractAsyncContextManager[Transport]:
        """Make a transport that is not connected yet. `compression` offers permessage-deflate."""
        ...


class Runtime(NamedTuple):
    """One that comes with this package."""

    module: str
    transport: str
    backends: tuple[str, ...]
    """The event loops that it runs on."""


BUILT_IN: Final = {
    "anyio": Runtime("backpack_runtime.transports.anyio", "AnyioTransport", ("asyncio", "trio")),
    "aiohttp": Runtime("backpack_runtime.transports.aiohttp.transport", "AiohttpTransport", ("asyncio",)),
}


def runtime_names() -> tuple[str, ...]:
    """The names of all runtimes: those of this package, then those of others."""
    return (*BUILT_IN, *sorted(_added()))


def transport_of(runtime: str) -> MakeTransport:
    """The transport of a runtime, which is loaded when it is first asked for.

    Raises:
        ConfigurationError: there is no such runtime, or a package that adds it is broken.
        MissingExtra: it is one of ours, and its library is not installed.
    """
    built_in = BUILT_IN.get(runtime)
    if built_in is not None:
        return cast("MakeTransport", getattr(import_module(built_in.module), built_in.transport))
    added = _added().get(runtime)
    if added is None:
        raise ConfigurationError(one_of("runtime", runtime, runtime_names()))
    package = f"{added.dist.name} {added.dist.version}" if added.dist is not None else added.module
    try:
        found = added.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"runtime {runtime!r} of {package} cannot be loaded from {added.value}: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"runtime {runtime!r} of {package} makes no transport: {added.value} cannot be called")
    return cast("MakeTransport", found)


def check_runtime(name: object) -> None:
    """Hold the name of a runtime to the list. Nothing is loaded.

    Raises:
        ConfigurationError: there is no such runtime. The text offers a close one.
    """
    if name not in BUILT_IN and name not in _added():
        raise ConfigurationError(one_of("runtime", name, runtime_names()))


def _added() -> dict[str, EntryPoint]:
    """The runtimes of other packages. The names of ours are taken."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load, and most programs use a runtime of ours

    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}
