"""Where the command line takes keys from: arguments, a file, the environment, in this order, and a prompt for the private one.

Texts that may be a private key travel as `HiddenText`, and no error or warning of this module repeats what it has read: a key that stands
in the wrong place is still a key.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from os import fstat
from pathlib import Path
from typing import NamedTuple, NoReturn, final

import msgspec

from backpack_proto.errors import ConfigurationError

__all__ = ["ENVIRONMENT", "HiddenText", "Keys", "find_keys", "read_key_file"]

ENVIRONMENT = {"api_key": "BACKPACK_API_KEY", "public_key": "BACKPACK_PUBLIC_KEY", "private_key": "BACKPACK_PRIVATE_KEY"}
"""The variables that keys are taken from."""
_NAMES = {name: name for name in ENVIRONMENT} | {variable.lower(): name for name, variable in ENVIRONMENT.items()}
_NAMES["secret"] = "private_key"  # noqa: S105 - a name
"""As `backpack-feed sandbox` calls it."""
MAX_FILE_BYTES = 64 * 1024


@final
class HiddenText:
    """Text that shows itself to nobody but to who asks for it by name."""

    __slots__ = ("reveal",)

    def __init__(self, text: str) -> None:
        self.reveal: Callable[[], str] = lambda: text
        """Gives the text."""

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("secrets cannot be pickled")


class Keys(NamedTuple):
    """The keys of an account as they were given, and where each came from."""

    api_key: HiddenText | None = None
    public_key: HiddenText | None = None
    private_key: HiddenText | None = None
    sources: Mapping[str, str] = {}
    """By name of the key."""
    warnings: tuple[str, ...] = ()
    """What was careless about the way they were given."""


def find_keys(
    arguments: Mapping[str, HiddenText | None],
    *,
    key_file: Path | None,
    environment: Mapping[str, str],
    prompt: Callable[[], str] | None,
) -> Keys:
    """Take each key from the first place that has it; `prompt` asks for the private key, None where nobody could be asked.

    Raises:
        ConfigurationError: the key file cannot be used.
    """
    found, sources = {}, {}
    warnings: tuple[str, ...] = ()
    if arguments.get("private_key") is not None:
        warnings += ("the private key is an argument: everybody on this machine can read it in the list of processes",)
    in_file: Mapping[str, HiddenText] = {}
    if key_file is not None:
        in_file, exposed = read_key_file(key_file)
        warnings += ("the key file can be read by other users",) if exposed else ()
    in_environment = {
        name: HiddenText(environment[variable]) for name, variable in ENVIRONMENT.items() if environment.get(variable)
    }
    for name in ENVIRONMENT:
        for source, keys in (("argument", arguments), ("key file", in_file), ("environment", in_environment)):
            key = keys.get(name)
            if key is not None and name not in found:
                found[name], sources[name] = key, source
    if "private_key" not in found and prompt is not None:
        found["private_key"], sources["private_key"] = HiddenText(prompt()), "prompt"
    return Keys(**found, sources=sources, warnings=warnings)


def read_key_file(path: Path) -> tuple[dict[str, HiddenText], bool]:
    """Read keys from a JSON object or from lines of `NAME=VALUE`, and whether other users could do so too.

    Names are `api_key`, `public_key` and `private_key`, or those of the environment; others are passed over.

    Raises:
        ConfigurationError: the file cannot be read, or is neither of the two.
    """
    try:
        with path.open("rb") as file:
            exposed = bool(fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH))
            content = HiddenText(file.read(MAX_FILE_BYTES).decode(errors="replace"))
    except OSError as error:
        # Without the name of the file, for a key may have been given in its place; the error itself has it as well.
        raise ConfigurationError(f"the key file cannot be read: {error.strerror}") from None
    keys = _parse(content.reveal())
    if not keys:
        raise ConfigurationError("the key file is neither a JSON object nor lines of NAME=VALUE with a key in it")
    return keys, exposed


def _parse(text: str) -> dict[str, HiddenText]:
    """The keys in a text; none when it cannot be read."""
    if text.lstrip().startswith("{"):
        try:
            pairs = msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError):
            return {}
    else:
        lines = [line.strip().removeprefix("export ").partition("=") for line in text.splitlines()]
        pairs = {name.strip(): value.strip().strip("'\"") for name, _, value in lines if not name.startswith("#")}
    return {
        _NAMES[name.lower()]: HiddenText(value)
        for name, value in pairs.items()
        if name.lower() in _NAMES and isinstance(value, str) and value
    }
