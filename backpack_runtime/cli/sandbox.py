"""`backpack-feed sandbox`: the simulated exchange for programs of any language."""

from __future__ import annotations

import argparse

import anyio
import msgspec

from backpack_runtime.sandbox import serve_sandbox

from .options import add_faults, count, none_or_more, port, positive
from .output import Printer
from .running import run_until_signalled

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = "Serve the simulated exchange until Ctrl-C. The first line of output says where it is, as JSON."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=0, metavar="N", help="port (default: a free one)")
    parser.add_argument("--tls", action="store_true", help="https and wss, by a throwaway authority")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides the course of the markets (default: 0)")
    parser.add_argument("--speed", type=positive, default=1.0, metavar="X", help="so many times as lively (default: 1)")
    parser.add_argument(
        "--accounts", type=count, default=1, metavar="N", help="so many accounts; their keys are in the first line (default: 1)"
    )
    parser.add_argument(
        "--markets", type=none_or_more, default=0, metavar="N", help="so many made-up markets more, at most 1000 (default: 0)"
    )
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Serve until a signal comes. The first line of standard output says where, as JSON. Returns the exit code.

    Raises:
        LocalProtocolError: there are to be too many markets.
        ConfigurationError: there are to be too many accounts.
        OSError: the address cannot be had.
        MissingExtra: TLS needs trustme, which is not installed.
    """

    async def body() -> None:
        async with serve_sandbox(
            host=parsed.host,
            port=parsed.port,
            tls=parsed.tls,
            seed=parsed.seed,
            speed=parsed.speed,
            accounts=parsed.accounts,
            markets=parsed.markets,
            faults=parsed.faults,
        ) as sandbox:
            found: dict[str, object] = {"rest": sandbox.rest_url, "ws": sandbox.ws_url}
            if sandbox.ca_file is not None:
                found["ca_file"] = str(sandbox.ca_file)
            found |= {
                "api_key": sandbox.api_key,
                "secret": sandbox.secret,
                "symbols": list(sandbox.exchange.listed),
                "accounts": sandbox.accounts,
            }
            await Printer().send(msgspec.json.encode(found) + b"\n")
            await anyio.sleep_forever()

    return run_until_signalled(body, backend="asyncio")
