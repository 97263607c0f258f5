"""`backpack-feed completion`: a script that completes commands, options and their arguments in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import shtab

from backpack_proto.streams.channels import Channel
from backpack_runtime.transports import BUILT_IN

from .parser import PROGRAM, whole_parser

__all__ = ["DESCRIPTION", "SHELLS", "add_arguments", "run", "script"]

SHELLS: Final = ("bash", "zsh", "tcsh")
DESCRIPTION = (
    "Print a script that completes the command line in a shell, to be loaded where the shell starts:"
    ' eval "$(backpack-feed completion bash)" in ~/.bashrc; in zsh, into a file _backpack-feed of a folder of $fpath;'
    " backpack-feed completion tcsh into a file that ~/.tcshrc sources."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("shell", choices=SHELLS, metavar=f"{{{','.join(SHELLS)}}}", help="the shell that the script is for")


def run(parsed: argparse.Namespace) -> int:
    """Print the script, and return the exit code."""
    print(script(parsed.shell), flush=True)
    return 0


def script(shell: str) -> str:
    """Return the script for a shell, with every command, option and word that an option takes."""
    from backpack_proto.exchange import FAULT_KINDS, LISTINGS  # noqa: PLC0415 - the help needs no simulated exchange

    words = {
        "channels": [*_channels()],
        "faults": sorted(FAULT_KINDS),
        "runtime": [*BUILT_IN],
        # Most of them are markets of the real exchange as well, which is not asked while somebody types.
        "symbols": [listing.symbol for listing in LISTINGS],
    }
    parser = whole_parser()
    for action in _actions(parser):
        _say_what_completes(action, words)
    return str(shtab.complete(parser, shell=shell, root_prefix=f"_{PROGRAM.replace('-', '_')}"))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - as shtab finds them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for inner in action.choices.values():
                yield from _actions(inner)


def _say_what_completes(action: argparse.Action, words: Mapping[str, Sequence[str]]) -> None:
    """Have an argument completed by files, or by words that it takes. An address or a number is left to its user."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.type is Path or metavar in ("FILE", "PATH"):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.dest in words:
        action.choices = words[action.dest]
    elif metavar.startswith("{"):
        action.choices = metavar.strip("{}").split(",")


def _channels() -> Iterator[str]:
    """Yield the names of the public channels, as people give them."""
    for channel in Channel:
        if not channel.private:
            name = (*channel.traits.common, channel.value)[0]
            yield f"{name}.1m" if channel is Channel.KLINE else name
