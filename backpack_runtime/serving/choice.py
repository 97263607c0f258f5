"""The events that a reader of `/events` has asked for by `?channel=` and `?symbol=`."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from backpack_proto.errors import InvalidStream
from backpack_proto.hints import did_you_mean, shown
from backpack_proto.outputs import (
    BookChanged,
    BookCheckFailed,
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    ConnectionDown,
    ConnectionUp,
    EventsDropped,
    MarketClosed,
    MarketOpened,
    PeerSilent,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.channels import CHANNEL_OF, Channel
from backpack_proto.streams.names import channel_of, parse_channel, parse_stream
from backpack_proto.streams.payloads import Event

__all__ = ["Choice", "kinds_of"]

BOOKS: Final[tuple[type[Event], ...]] = (
    *(BookChanged, BookCheckFailed, BookConfirmed, BookDesynced, BookStale, BookSynced, BookUnavailable, BookVerified),
    *(MarketClosed, MarketOpened),
)
STATE: Final[tuple[type[Event], ...]] = (
    *(ConnectionDown, ConnectionUp, PeerSilent, StreamLive, StreamSilent, StreamsRefused),
    *(BooksProgress, MarketChanged),
)
"""About no channel: every reader has them. Nothing about an account or about calls is among them."""
PUBLIC: Final = tuple(kind for kind, channel in CHANNEL_OF.items() if not channel.private)


class Choice:
    """The kinds of events, and the symbols, that one reader wants."""

    def __init__(self, kinds: tuple[type[Event], ...], symbols: frozenset[str]) -> None:
        """No `symbols` are all of them."""
        self.kinds = kinds
        self._symbols = symbols

    def has(self, event: Event) -> bool:
        """Return whether an event is wanted. Those about no market always are, those about streams of an account never."""
        match event:
            case EventsDropped():
                return True
            case StreamLive(stream=stream) | StreamSilent(stream=stream):
                return self._has_stream(stream)
            case StreamsRefused(suspects=suspects):
                return any(self._has_stream(stream) for stream in suspects) and not any(map(_is_private, suspects))
            case MarketChanged(market=market):
                symbol: str | None = market.symbol
            case _:
                symbol = getattr(event, "symbol", None)
        return symbol is None or self._has_symbol(symbol)

    def _has_stream(self, stream: str) -> bool:
        symbol = None if _is_private(stream) else parse_stream(stream).symbol
        return not _is_private(stream) and (symbol is None or self._has_symbol(symbol))

    def _has_symbol(self, symbol: str) -> bool:
        return not self._symbols or symbol in self._symbols


def _is_private(stream: str) -> bool:
    """Return whether a stream is one of the account, or of an unknown kind."""
    channel = channel_of(stream)
    return channel is None or channel.private


def kinds_of(names: Iterable[str], subscribed: Container[Channel] | None = None) -> tuple[type[Event], ...]:
    """Return the kinds of events of channels, all public ones unless any are named.

    `state` is the channel of events about no channel, which all readers have in any case.

    Raises:
        InvalidStream: there is no such channel, it is one of the account, or it is not `subscribed`.
    """
    names = list(names)
    if not names:
        return (*BOOKS, *PUBLIC, *STATE)
    kinds: dict[type[Event], None] = {}
    for name in names:
        if name == "state":
            continue
        channel = parse_channel(name).channel
        if channel.private:
            raise InvalidStream(f"channel: {shown(name)} is about an account, and private data are not served")
        if subscribed is not None and channel not in subscribed:
            known = [one.traits.common[0] if one.traits.common else one.value for one in Channel if one in subscribed]
            raise InvalidStream(
                f"channel: {shown(name)} is not subscribed here{did_you_mean(name, known)}: there are {', '.join(known)}"
            )
        kinds.update(dict.fromkeys(BOOKS if channel is Channel.DEPTH else channel.traits.payloads))
    return (*kinds, *STATE)
