"""`backpack-feed check`: a minute of facts, in one table."""

from __future__ import annotations

import argparse
import os
from contextlib import AsyncExitStack

import msgspec
from rich.console import Console
from rich.text import Text

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError
from backpack_runtime.checkup.findings import Result, Row
from backpack_runtime.checkup.run import check_all
from backpack_runtime.network.proxy_settings import resolve_proxies
from backpack_runtime.sandbox import serve_sandbox

from .complaints import FAILED
from .options import (
    KEYS_IN_FILE_OR_ENVIRONMENT,
    add_connection,
    add_faults,
    add_key_file,
    credentials_of,
    keys_of,
    refuse_with_sandbox,
    settings_of,
)
from .output import Printer
from .running import run_until_signalled

__all__ = ["DESCRIPTION", "add_arguments", "line_of", "run"]

DESCRIPTION = (
    "Check this machine, the way to the exchange, its clock, its data, and what a key may read: a row for each check, as it is known."
    f" Nothing is traded or changed. {KEYS_IN_FILE_OR_ENVIRONMENT} The exit code is 1 when a check has failed; warnings are allowed."
)
COLOURS = {Result.OK: "green", Result.WARNING: "yellow", Result.FAILED: "bold red", Result.SKIPPED: "dim"}
CHECK_WIDTH = 17
RESULT_WIDTH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL_USDC"], help="SOL_USDC or SOL-USDC (default: SOL_USDC)"
    )
    add_key_file(parser)
    add_connection(parser, sandbox="a simulated exchange that is started along, and its account", seconds=60.0)
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Make all checks, and print a row for each. Return 0, or 1 if one has failed.

    Raises:
        LocalProtocolError: a symbol does not exist, or a key is malformed.
        ConfigurationError: the options contradict each other.
        OSError: the output cannot be written.
    """
    refuse_with_sandbox(parsed, "key-file")
    if parsed.faults and not parsed.sandbox:
        raise ConfigurationError("--faults is about a simulated exchange: give --sandbox as well")
    settings = settings_of(parsed)
    signer = _signer(parsed)
    rows: list[Row] = []

    async def body() -> None:
        nonlocal settings
        output = Printer()
        console = _console()

        async def report(row: Row) -> None:
            await output.send(msgspec.json.encode(row) + b"\n" if parsed.json else line_of(row, console).encode())

        async with AsyncExitStack() as stack:
            proxies = settings.proxies if parsed.sandbox else resolve_proxies(settings.proxies)
            if parsed.sandbox:
                sandbox = await stack.enter_async_context(serve_sandbox(faults=parsed.faults))
                settings = msgspec.structs.replace(settings, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url)
            rows.extend(
                await check_all(
                    settings,
                    settings.addresses(proxies),
                    report,
                    symbols=parsed.symbols,
                    signer=signer,
                    backend=parsed.backend,
                    seconds=parsed.seconds,
                )
            )

    code = run_until_signalled(body, backend=parsed.backend)
    return code or (FAILED if any(row.result is Result.FAILED for row in rows) else 0)


def _signer(parsed: argparse.Namespace) -> Signer | None:
    if parsed.sandbox:
        return Signer(Credentials(THROWAWAY_SECRET))
    keys = keys_of(parsed, ask=False)
    return None if keys.private_key is None else Signer(credentials_of(keys))


def _console() -> Console | None:
    """Return the console that draws rows on a terminal, or None where the output is not a terminal."""
    console = Console(highlight=False)
    return console if os.isatty(1) and console.is_terminal and not console.is_dumb_terminal else None


def line_of(row: Row, console: Console | None) -> str:
    """Return a row: name, result and figures, in columns. On a terminal it has colours and keeps to the width."""
    name, result = f"{row.check:<{CHECK_WIDTH}}", f"{row.result:<{RESULT_WIDTH}}"
    if console is None:
        return f"{name}{result}{row.text}\n"
    indent = CHECK_WIDTH + RESULT_WIDTH
    wrapped = Text(row.text).wrap(console, max(console.width - indent, 20))
    lines = [line.plain.rstrip() for line in wrapped] or [""]
    with console.capture() as drawn:
        console.print(Text(name), Text(result, COLOURS[row.result]), Text(lines[0]), sep="", soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(" " * indent + line), soft_wrap=True)
    return drawn.get()
