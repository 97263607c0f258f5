"""Sources of keys: arguments, a file, the environment, in this order, and a prompt for the private one.

A text is read in the same way in every place (`backpack_proto.auth.key_text`). Texts that may be a private key travel as `HiddenText`,
and no error or warning of this module repeats a text: a key that stands in the wrong place is still a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import fstat
from pathlib import Path
from typing import NamedTuple

from backpack_proto.auth.key_text import HiddenText, KeyTexts, hide, parse_keys, pick_keys
from backpack_proto.errors import ConfigurationError, InvalidKey

from .platforms import others_may_read

__all__ = ["ENVIRONMENT", "EXPOSED", "HiddenText", "Keys", "find_keys", "read_environment", "read_key_file"]

ENVIRONMENT = {"api_key": "BACKPACK_API_KEY", "public_key": "BACKPACK_PUBLIC_KEY", "private_key": "BACKPACK_PRIVATE_KEY"}
"""The variables that keys are taken from, by their main names."""
EXPOSED = "the key file can be read by other users"
MAX_FILE_BYTES = 64 * 1024


class Keys(NamedTuple):
    """The keys of an account as they were given, and where each came from."""

    api_key: HiddenText | None = None
    public_key: HiddenText | None = None
    private_key: HiddenText | None = None
    sources: Mapping[str, str] = {}
    """By name of the key."""
    warnings: tuple[str, ...] = ()
    """Warnings about the way they were given."""


def find_keys(
    arguments: Mapping[str, HiddenText | None],
    *,
    key_file: Path | None,
    environment: Mapping[str, str],
    prompt: Callable[[], str] | None,
) -> Keys:
    """Take each key from the first place that has it. `prompt` asks for the private key, or is None without a terminal.

    Raises:
        ConfigurationError: the key file or the environment cannot be used.
    """
    found, sources = {}, {}
    warnings: tuple[str, ...] = ()
    if arguments.get("private_key") is not None:
        warnings += ("the private key is an argument: everybody on this machine can read it in the list of processes",)
    in_file = KeyTexts()
    if key_file is not None:
        in_file, exposed = read_key_file(HiddenText(str(key_file)))
        warnings += (EXPOSED,) if exposed else ()
    in_environment = read_environment(environment)
    if isinstance(in_environment, str):
        raise ConfigurationError(in_environment)
    places = (
        ("argument", arguments),
        ("key file", in_file._asdict()),
        ("environment", in_environment._asdict()),
    )
    for name in ENVIRONMENT:
        for source, keys in places:
            key = keys.get(name)
            if key is not None and name not in found:
                found[name], sources[name] = key, source
    if "private_key" not in found and prompt is not None:
        found["private_key"], sources["private_key"] = HiddenText(prompt()), "prompt"
    return Keys(**found, sources=sources, warnings=warnings)


def read_environment(environment: Mapping[str, str]) -> KeyTexts | str:
    """Find the keys in variables whose names begin with `BACKPACK_`, those of `ENVIRONMENT` and other usual ones, or return their fault."""
    try:
        return pick_keys(environment, prefixed=True)
    except InvalidKey as error:
        return f"the environment cannot be used: {error}"


def read_key_file(path: HiddenText) -> tuple[KeyTexts, bool]:
    """Read keys from a file in any of the usual forms, and whether other users could do so too.

    Raises:
        ConfigurationError: the file cannot be read, or there is no key in it.
    """
    # Without the name of the file, for a key may have been given in its place. The errors themselves have it as well.
    try:
        with Path(path.reveal()).open("rb") as file:
            exposed = others_may_read(fstat(file.fileno()))
            content = hide(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is not the name of a file"
        raise ConfigurationError(f"the key file cannot be read: {reason}") from None
    try:
        return parse_keys(content), exposed
    except InvalidKey as error:
        problem = str(error)
    raise ConfigurationError(f"the key file cannot be used: {problem}")
