"""Who listens to which stream of the simulated exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from backpack_proto.exchange.market.listings import Listing
from backpack_proto.streams.channels import Channel, SymbolKind, SymbolRule
from backpack_proto.streams.names import Stream, bare_ticker

__all__ = ["PREVIEW", "Audience", "existing_streams", "streams_of", "ticker_of"]

PREVIEW = "preview"
"""A kind of stream that the real exchange does not have: it stands for the next one that no client knows."""


def ticker_of(listing: Listing) -> str | None:
    """Return the bare ticker of the stock that a market is about, or None for all other markets."""
    return bare_ticker(listing.base) if listing.asset_class == "STOCK" else None


def existing_streams(listings: Iterable[Listing], rfq_symbols: Iterable[str] = ()) -> frozenset[str]:
    """The name of every stream that can ever carry data: those of markets whose book is open, and the account's.

    `rfq_symbols` are asked for by requests for quote. They have no other streams.
    """
    names = {
        form.name for channel in Channel if channel.traits.symbol is not SymbolRule.REQUIRED for form in _forms(channel, None)
    }
    for listing in listings:
        if listing.open:
            names.update(streams_of(listing))
    for symbol in rfq_symbols:
        names.update(form.name for form in _forms(Channel.RFQ_UPDATE, symbol))
    return frozenset(names)


@lru_cache(maxsize=2_048)
def streams_of(listing: Listing) -> tuple[str, ...]:
    """The names of every stream that a market has while its book is open, private ones and those of its stock included."""
    ticker = ticker_of(listing)
    names = [f"{PREVIEW}.{listing.symbol}"]
    for channel in Channel:
        traits = channel.traits
        symbols: list[str] = []
        if traits.symbol_kind is SymbolKind.TICKER:
            symbols += [] if ticker is None else [ticker]
        elif traits.symbol is not SymbolRule.NEVER and (listing.perpetual or not traits.perpetual_only):
            symbols.append(listing.symbol)
        if traits.symbol_kind is SymbolKind.ANY and ticker is not None:
            symbols.append(f"{listing.base}_USDC")
        names += [form.name for symbol in symbols for form in _forms(channel, symbol)]
    return tuple(names)


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
        self._speakers: dict[str, str] = {}

    def of(self, stream: str) -> Collection[int]:
        """The connections that listen to a stream."""
        return self._listeners.get(stream, ())

    def speaks(self, stream: str, symbol: str) -> bool:
        """Return whether a market sends a stream that several markets could: the first that asks does."""
        return self._speakers.setdefault(stream, symbol) == symbol

    def listens(self, connection: int) -> bool:
        """Return whether a connection listens to anything."""
        return connection in self._streams

    def subscribe(self, connection: int, stream: str) -> None:
        """Let a connection listen. A second time has no effect."""
        self._listeners.setdefault(stream, {})[connection] = None
        self._streams.setdefault(connection, {})[stream] = None

    def unsubscribe(self, connection: int, stream: str) -> None:
        """Let a connection listen no more. Nothing happens if it did not."""
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
