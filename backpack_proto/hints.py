"""Words for errors: the value that was given, unless it may be a secret, and the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

__all__ = ["NOT_EXACT", "did_you_mean", "one_of", "shown"]

SHOWN_CHARACTERS: Final = 31
"""Longer text may be a key: those have 43 characters and more."""
NOT_EXACT: Final = "; a float is not exact: give text, as in '0.1'"
"""The end of an error text about a float where an amount is taken."""
LONGEST_BITS: Final = 1_000
CLOSE: Final = 0.7
_NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})


def shown(value: object) -> str:
    """Return a value for an error text: text in quotes, anything else with its type. A value that may be a secret is described only."""
    match value:
        case None:
            return "None"
        case str() if "@" in value:
            return "text that is not shown, for it may hold a password"
        case str() if len(value) > SHOWN_CHARACTERS:
            return f"text of {len(value)} characters"
        case str():
            return repr(str.__str__(value))
        case int() if value.bit_length() > LONGEST_BITS:  # Python itself refuses to write it out
            return f"a long number ({type(value).__name__})"
        case bool() | int() | float() | Decimal():
            text = str(value)
            return f"{text if len(text) <= SHOWN_CHARACTERS else 'a long number'} ({type(value).__name__})"
        case type():
            return f"the class {value.__name__}"
        case _:
            name = type(value).__name__
            return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def did_you_mean(
    given: object, known: Iterable[str], aliases: Mapping[str, str] = _NO_ALIASES, *, cutoff: float = CLOSE
) -> str:
    """Return `; did you mean ...?` with the known names that are close to the given one, or an empty text.

    `aliases` has other words for known names, in lower case. They need not be close. `cutoff` is the required similarity of the others, 1 for equal.
    """
    if not isinstance(given, str) or len(given) > SHOWN_CHARACTERS:
        return ""
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    wanted = given.strip().casefold()
    if wanted in folded or wanted in aliases:
        close = [folded.get(wanted) or aliases[wanted]]
    else:
        matches = get_close_matches(wanted, {**folded, **aliases}, cutoff=cutoff)
        close = list(dict.fromkeys(folded.get(match) or aliases[match] for match in matches))
    return f"; did you mean {' or '.join(close)}?" if close else ""


def one_of(name: str, given: object, known: Iterable[str], aliases: Mapping[str, str] = _NO_ALIASES) -> str:
    """Return the text of an error about a value that is not one of a list: `runtime: one of anyio, aiohttp, got 'anyoi'; ...`."""
    known = tuple(known)
    return f"{name}: one of {', '.join(known)}, got {shown(given)}{did_you_mean(given, known, aliases)}"
