"""Checks of arguments: an impossible one is refused at once, with its Python name, its value and valid ones."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import one_of, shown

__all__ = ["checked_count", "checked_flag", "checked_member", "checked_names", "checked_seconds", "refuse_text"]

Member = TypeVar("Member", bound=StrEnum)


def checked_count(name: str, value: object, *, minimum: int = 1, maximum: int | None = None, unit: str = "") -> int:
    """Return a whole number within its bounds. `unit` is said in the error, such as `microseconds`.

    Raises:
        ConfigurationError: it is something else, True and False included.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum or (maximum is not None and value > maximum):
        of_what = f" of {unit}" if unit else ""
        bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ConfigurationError(f"{name}: a whole number{of_what}, {bounds}, got {shown(value)}")
    return value


def checked_seconds(name: str, value: object) -> float:
    """Return seconds, more than 0.

    Raises:
        ConfigurationError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{name}: seconds, more than 0, got {shown(value)}")
    return value


def checked_flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: True or False, got {shown(value)}")
    return value


def checked_member(name: str, value: object, kind: type[Member]) -> Member:
    """Return the member of an enumeration that a value is or names.

    Raises:
        ConfigurationError: it is not one of them. The error offers a close one.
    """
    if not isinstance(value, str) or value not in list(kind):
        raise ConfigurationError(one_of(name, value, list(kind)))
    return kind(value)


def refuse_text(name: str, value: object) -> None:
    """Refuse a single text where a list of them is meant: it would be read letter by letter.

    Raises:
        ConfigurationError: it is one.
    """
    if isinstance(value, str):
        raise ConfigurationError(f"{name}: a list of texts, got the text {shown(value)}; write [{shown(value)}]")


def checked_names(name: str, value: object) -> tuple[str, ...]:
    """Return texts as a tuple.

    Raises:
        ConfigurationError: it is no iterable of texts.
    """
    refuse_text(name, value)
    if not isinstance(value, Iterable):
        raise ConfigurationError(f"{name}: a list of texts, got {shown(value)}")
    names = tuple(value)
    for number, one in enumerate(names):
        if not isinstance(one, str) or not one:
            raise ConfigurationError(f"{name}[{number}]: text, got {shown(one)}")
    return names
