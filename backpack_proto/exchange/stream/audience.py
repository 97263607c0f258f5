"""Who listens to which stream of the simulated exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from backpack_proto.exchange.market.listings import Listing
from backpack_proto.streams.channels import Channel, SymbolRule
from backpack_proto.streams.names import Stream

__all__ = ["Audience", "existing_streams"]


def existing_streams(listings: Iterable[Listing], rfq_symbols: Iterable[str] = ()) -> frozenset[str]:
    """The name of every stream that can ever carry data: those of markets whose book is open, and the account's.

    `rfq_symbols` are asked for by requests for quote; they have no other streams.
    """
    open_listings = [listing for listing in listings if listing.open]
    names: set[str] = set()
    for channel in Channel:
        rule = channel.traits.symbol
        symbols: list[str | None] = []
        if rule is not SymbolRule.REQUIRED:
            symbols.append(None)
        if rule is not SymbolRule.NEVER:
            symbols += [listing.symbol for listing in open_listings if listing.perpetual or not channel.traits.perpetual_only]
        if channel is Channel.RFQ_UPDATE:
            symbols += rfq_symbols
        names.update(form.name for symbol in symbols for form in _forms(channel, symbol))
    return frozenset(names)


def _forms(channel: Channel, symbol: str | None) -> Iterable[Stream]:
    """A channel of one symbol in all its windows or intervals."""
    traits = channel.traits
    if traits.intervals:
        return [Stream(channel=channel, symbol=symbol, interval=interval) for interval in traits.intervals]
    return [Stream(channel=channel, symbol=symbol, window_ms=window_ms) for window_ms in (None, *traits.windows_ms)]


class Audience:
    """Connections by the streams that they have subscribed to, both in the order of subscription."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[int, None]] = {}
        self._streams: dict[int, dict[str, None]] = {}

    def of(self, stream: str) -> Collection[int]:
        """The connections that listen to a stream."""
        return self._listeners.get(stream, ())

    def listens(self, connection: int) -> bool:
        """Whether a connection listens to anything."""
        return connection in self._streams

    def subscribe(self, connection: int, stream: str) -> None:
        """Let a connection listen; a second time changes nothing."""
        self._listeners.setdefault(stream, {})[connection] = None
        self._streams.setdefault(connection, {})[stream] = None

    def unsubscribe(self, connection: int, stream: str) -> None:
        """Let a connection listen no more; nothing happens if it did not."""
        listeners = self._listeners.get(stream, {})
        if connection not in listeners:
            return
        del listeners[connection]
        if not listeners:
            del self._listeners[stream]
        streams = self._streams[connection]
        del streams[stream]
        if not streams:
            del self._streams[connection]

    def forget(self, connection: int) -> None:
        """Take a connection off every stream."""
        for stream in tuple(self._streams.get(connection, ())):
            self.unsubscribe(connection, stream)
