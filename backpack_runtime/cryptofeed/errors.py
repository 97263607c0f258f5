"""What goes wrong in a feed, beyond what the core has words for."""

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
    """There are no credentials, or what they shall sign cannot be signed."""


class BackpackRestError(BackpackError):
    """The market list or a snapshot could not be had."""


class BackpackWebsocketError(BackpackError, ConnectionResetError):
    """A connection is given up because nothing answers on it. Cryptofeed takes it for what it is, and connects again."""


def described(error: BaseException) -> str:
    """Return the type of an error and the beginning of its text, which may hold anything, on one line."""
    text = "".join(character if character.isprintable() else " " for character in str(error)[:MOST_CHARACTERS])
    return ": ".join(filter(None, (type(error).__name__, " ".join(text.split()))))
