"""`backpack-feed sandbox`: the simulated exchange for programs of any language."""

from __future__ import annotations

import anyio
import msgspec

from backpack_proto.exchange import LISTINGS
from backpack_runtime.sandbox import serve_sandbox

from .output import Printer
from .running import run_until_signalled

__all__ = ["serve"]


def serve(*, host: str, port: int, tls: bool, seed: int, speed: float) -> int:
    """Serve until a signal comes; the first line of standard output says where, as JSON. Returns the exit code.

    Raises:
        OSError: the address cannot be had.
    """

    async def body() -> None:
        async with serve_sandbox(host=host, port=port, tls=tls, seed=seed, speed=speed) as sandbox:
            found: dict[str, object] = {"rest": sandbox.rest_url, "ws": sandbox.ws_url}
            if sandbox.ca_file is not None:
                found["ca_file"] = str(sandbox.ca_file)
            found |= {
                "api_key": sandbox.api_key,
                "secret": sandbox.secret,
                "symbols": [listing.symbol for listing in LISTINGS],
            }
            await Printer().send(msgspec.json.encode(found) + b"\n")
            await anyio.sleep_forever()

    return run_until_signalled(body, backend="asyncio")
