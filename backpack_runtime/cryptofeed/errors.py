"""Errors of a feed, beyond those of the core."""

from __future__ import annotations

from cryptofeed.exceptions import UnsupportedDataFeed, UnsupportedSymbol

from backpack_proto.errors import BackpackError, ConfigurationError, UnknownSymbol

__all__ = [
    "BackpackAuthError",
    "BackpackRestError",
    "BackpackWebsocketError",
    "UnknownFeedChannel",
    "UnknownFeedSymbol",
    "described",
]

MOST_CHARACTERS = 200


class UnknownFeedSymbol(UnknownSymbol, UnsupportedSymbol):
    """A symbol that the exchange does not have, for cryptofeed and for this project alike. The text offers close ones."""


class UnknownFeedChannel(ConfigurationError, UnsupportedDataFeed):
    """A channel that the feed does not have, for cryptofeed and for this project alike. The text offers close ones."""


class BackpackAuthError(BackpackError):
    """There are no credentials, or the request cannot be signed."""


class BackpackRestError(BackpackError):
    """The market list or a snapshot could not be had."""


class BackpackWebsocketError(BackpackError, ConnectionResetError):
    """A connection is given up because it is silent. Cryptofeed takes it for a network error, and connects again."""


def described(error: BaseException) -> str:
    """Return the type of an error and the beginning of its text, which may hold anything, on one line."""
    text = "".join(character if character.isprintable() else " " for character in str(error)[:MOST_CHARACTERS])
    return ": ".join(filter(None, (type(error).__name__, " ".join(text.split()))))
