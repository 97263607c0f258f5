"""The command `backpack-feed`: a table of commands, each of which is a module that declares its arguments and runs.

A command is a row of `COMMANDS` and a module of its name in this folder, with `DESCRIPTION`, `add_arguments(parser)` and
`run(parsed)`, which returns the exit code. Only the argument parser is loaded until the command is known and signals are held
back: an interrupt that comes while the libraries load ends the program as quietly as a later one.

No complaint repeats text that could be a key: it may have been given in the wrong place.

Exit codes: 0 done, 1 it failed (or a replay dropped frames), 2 it was asked for something impossible
(or that needs an extra that is not installed), 130 Ctrl-C, 143 SIGTERM,
141 the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, NoReturn

from backpack_runtime.platforms import BROKEN_PIPE, hold_signals

from .complaints import FAILED, SIGNALLED, STOPS, USAGE, complain

__all__ = ["COMMANDS", "PROGRAM", "Subcommand", "main", "whole_parser"]

PROGRAM = "backpack-feed"
LIKE_A_KEY = re.compile(r"[\w+/=%-]{32,}|(?<=://)\S+(?=@)")
"""Text that could be a key, or most of it. And user and password of a URL."""
UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (--[a-z-]+)")


class Subcommand(NamedTuple):
    """One command, as the list of all commands shows it."""

    name: str
    help: str

    @property
    def module(self) -> str:
        """Where it is declared and run."""
        return f"{__package__}.{self.name.replace('-', '_')}"


COMMANDS = (
    Subcommand("watch", "show market data as they come"),
    Subcommand("account", "show an account as it changes"),
    Subcommand("check", "check the machine, the way to the exchange, its data and a key"),
    Subcommand("auth-check", "check API keys, offline"),
    Subcommand("sandbox", "serve the simulated exchange"),
    Subcommand("serve", "serve a dashboard, metrics, health, events and books"),
    Subcommand("record", "write all that a session receives to a file"),
    Subcommand("replay", "drive a session by a recording, offline"),
    Subcommand("recording", "look into a recording"),
    Subcommand("publish", "publish market data to NATS JetStream"),
    Subcommand("shards", "share all markets out among several publishers"),
    Subcommand("parity", "compare the native feed with the one by ccxt"),
    Subcommand("completion", "print a script that completes commands in a shell"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process). Returns the exit code."""
    let_go = hold_signals(STOPS)
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        return _run(_chosen(given), given[1:])
    except KeyboardInterrupt:
        return SIGNALLED + signal.SIGINT
    finally:
        let_go()


def _chosen(given: Sequence[str]) -> Subcommand:
    """Return the command, which comes first."""
    command = next((command for command in COMMANDS if given and given[0] == command.name), None)
    return command or _refuse(given)


def _refuse(given: Sequence[str]) -> NoReturn:
    """End the program with help, the version, or the fault of a command line that begins with no command."""
    parser, _ = _outer_parser()
    if given and not given[0].startswith("-"):
        known = [command.name for command in COMMANDS]
        parser.error(f"there is no command {given[0]!r}{_hint(given[0], known) or '; there are ' + ', '.join(known)}")
    parser.parse_args(given)
    parser.error("COMMAND comes first, before all options but --help and --version")


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. That loads the modules of all commands."""
    parser, inner = _outer_parser()
    for command in COMMANDS:
        _declare(import_module(command.module), inner[command.name])
    return parser


def _outer_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return a parser that knows the commands by their names alone, and those of the commands."""
    parser = _Parser(prog=PROGRAM, description="Backpack Exchange: verified order books, and accounts.")
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version, whether native kernels are in use, and exit"
    )
    names = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    return parser, {command.name: names.add_parser(command.name, help=command.help) for command in COMMANDS}


def _declare(module: ModuleType, parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more to standard error; twice: everything")
    module.add_arguments(parser)


def _run(command: Subcommand, arguments: Sequence[str]) -> int:
    from backpack_proto.errors import BackpackError, LocalProtocolError  # noqa: PLC0415 - see the module's docstring
    from backpack_runtime.extras import MissingExtra  # noqa: PLC0415 - see the module's docstring

    try:
        module = import_module(command.module)
        parser = _Parser(prog=f"{PROGRAM} {command.name}", description=module.DESCRIPTION)
        _declare(module, parser)
        parsed = parser.parse_args(arguments)
        if sys.stdout is None:
            # Its descriptor will be that of the next thing that is opened, a socket perhaps.
            return complain("there is no standard output", FAILED)
        _set_up_logging(parsed.verbose)
        return int(module.run(parsed))
    except BrokenPipeError:
        return SIGNALLED + BROKEN_PIPE
    except (LocalProtocolError, MissingExtra) as error:
        return complain(error, USAGE)
    except (BackpackError, OSError) as error:
        return complain(error, FAILED)


def _set_up_logging(verbose: int) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("backpack_runtime").setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    # The commands show the events of a connection in their own way. Its log is for users who ask for it.
    logging.getLogger("backpack_runtime.client").setLevel(logging.NOTSET if verbose else logging.CRITICAL)


def _hint(given: str, known: Iterable[str]) -> str:
    from backpack_proto.hints import did_you_mean  # noqa: PLC0415 - see the module's docstring

    return did_you_mean(given, known)


class _Parser(argparse.ArgumentParser):
    """Complains in one line, with the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        unknown = UNKNOWN_OPTION.match(message)
        hint = _hint(unknown[1], self._option_string_actions) if unknown else ""
        self.exit(USAGE, f"{self.prog}: {LIKE_A_KEY.sub('<not shown>', message)}{hint} (--help explains)\n")


class _Version(argparse.Action):
    """Prints the version and which kernels are in use, which are loaded only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from backpack_proto import __version__  # noqa: PLC0415 - see the module's docstring
        from backpack_runtime.kernels import kernels_in_use  # noqa: PLC0415 - see the module's docstring

        print(parser.prog, __version__, f"({kernels_in_use()})")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
