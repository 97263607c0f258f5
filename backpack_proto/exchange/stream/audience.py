"""Who listens to which stream of the simulated exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from backpack_proto.exchange.market.listings import Listing
from backpack_proto.streams.names import DEPTH_WINDOWS_MS, KLINE_INTERVALS

__all__ = ["Audience", "existing_streams"]

_ACCOUNT_STREAMS = ("account.orderUpdate", "account.positionUpdate", "account.rfqUpdate")


def existing_streams(listings: Iterable[Listing]) -> frozenset[str]:
    """The name of every stream that can ever carry data: those of markets whose book is open, and the account's."""
    names = ["liquidation", "account.balanceUpdate", *_ACCOUNT_STREAMS]
    for listing in listings:
        if not listing.open:
            continue
        forms = ["bookTicker", "depth", "trade", "ticker", "externalTicker", *_ACCOUNT_STREAMS]
        forms += [f"depth.{window}ms" for window in DEPTH_WINDOWS_MS]
        forms += [f"kline.{interval}" for interval in KLINE_INTERVALS]
        if listing.perpetual:
            forms += ["markPrice", "openInterest", "liquidation"]
        names += [f"{form}.{listing.symbol}" for form in forms]
    return frozenset(names)


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
