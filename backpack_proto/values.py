"""The base of every value that crosses the border of the core, and two kinds of content that never leave it.

A `Value` survives msgspec's JSON and MessagePack, pickle and copy. `to_dict` names its members as Python does, where msgspec's own
encoding of a stream payload has the letters of the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn, Self, TypeVar

from msgspec import Struct

__all__ = ["REDACTED", "Sealed", "SecretText", "Value", "plain"]

T = TypeVar("T")

REDACTED = "<secret>"


class Value(Struct, frozen=True, gc=False):
    """Something immutable that is equal to another one by its members."""

    def to_dict(self) -> dict[str, Any]:
        """Return the members by their Python names, those of nested values too.

        Decimals stay decimals, a price level is a tuple of price and quantity, a word from a closed list is its text, an error is a
        dictionary of its own. Secrets are redacted.
        """
        return {name: plain(getattr(self, name)) for name in self.__struct_fields__}


class SecretText(str):
    """Text that may only be sent: msgspec and pickle refuse it, its repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return REDACTED

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Sealed(Mapping[str, T]):
    """A mapping that cannot be changed, and whose content may be secret: msgspec and pickle refuse it, its repr shows the keys."""

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, T]) -> None:
        self._content = dict(content)

    def __getitem__(self, key: str) -> T:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"<{', '.join(self._content) or 'nothing'}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("what may be secret cannot be pickled")


def plain(value: object) -> Any:
    """Return a value as dictionaries and tuples of plain values, with Python's names."""
    match value:
        case SecretText():
            return REDACTED
        case Enum():
            return value.value
        case None | str() | bytes():
            return value
        case Sealed():
            return dict.fromkeys(value, REDACTED)
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case Sequence():
            return tuple(map(plain, value))
        case _:
            to_dict = getattr(value, "to_dict", None)
            return value if to_dict is None else to_dict()
