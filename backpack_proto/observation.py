"""All that can be counted and measured of a session, as one value: metrics of any system are made of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final

from .book.sequencer import BookSequencer
from .book.sync import SyncState
from .buckets import Durations
from .machine import Now
from .metrics import Health, MetricsSnapshot, StreamMetrics
from .rest.pacing import PacerState
from .streams.channels import Channel
from .streams.names import channel_of
from .values import Value

__all__ = ["UNKNOWN_CHANNEL", "BookSeen", "ChannelSeen", "SessionObservation", "books_seen", "channels_seen"]

UNKNOWN_CHANNEL: Final = "unknown"
"""The frames without a stream, and those of streams that have no type."""


class ChannelSeen(Value, frozen=True, gc=False, kw_only=True):
    """The streams of one kind together."""

    frames: int
    """Those since the session began, also of streams that are wanted no more."""
    wanted: int
    """Streams that are subscribed."""
    newest_age_us: int | None
    """Age of the last frame, of the wanted stream that was heard last. It is None before the first frame of one of them."""
    oldest_age_us: int | None
    """Age of the last frame, of the wanted stream that has been quiet for the longest."""


class BookSeen(Value, frozen=True, gc=False, kw_only=True):
    """One book."""

    symbol: str
    live: bool
    closed: bool
    """Its market is closed, so that it is not live and need not be."""
    age_us: int | None
    """Age of the newest proof that it is the book of the exchange, or None."""


class SessionObservation(Value, frozen=True, gc=False, kw_only=True):
    """A session at one moment."""

    metrics: MetricsSnapshot
    health: Health
    connected: bool | None
    """True while the connection for streams is open, None for a session of calls only."""
    channels: Mapping[str, ChannelSeen]
    """Every channel of the table, and UNKNOWN_CHANNEL."""
    books: tuple[BookSeen, ...]
    """The finest aggregations first, and in the order of subscription."""
    resyncs: Mapping[str, int]
    """Number of times that books of each market were desynced, those of unsubscribed books included. Zeros are left out."""
    budget: PacerState
    paused_us: int
    """Time until requests may leave again."""
    unresolved: int
    """Calls that were given up after they may have been sent, and whose outcome is not known."""
    account_live: bool | None
    """True while the ledger follows the exchange, None without a ledger."""
    account_doubts: int
    """Parts that the ledger is not live for."""
    engine_to_receipt: Durations
    """Time of frames from the matching engine to the socket, by the local clock."""


def channels_seen(metrics: MetricsSnapshot, wanted: Collection[str]) -> dict[str, ChannelSeen]:
    """Return the channels by name. Frames that belong to no stream count as UNKNOWN_CHANNEL."""
    names = [*Channel, UNKNOWN_CHANNEL]
    frames: dict[str, int] = dict.fromkeys(names, 0)
    counts: dict[str, int] = dict.fromkeys(names, 0)
    ages_us: dict[str, list[int]] = {name: [] for name in names}
    for stream, of_stream in metrics.streams.items():
        name = _name_of(stream)
        frames[name] += of_stream.messages
        if stream in wanted:
            ages_us[name].append(of_stream.age_us)
    for stream in wanted:
        counts[_name_of(stream)] += 1
    frames[UNKNOWN_CHANNEL] += metrics.ws_messages - _sum(metrics.streams.values())
    return {
        str(name): ChannelSeen(
            frames=frames[name],
            wanted=counts[name],
            newest_age_us=min(ages_us[name], default=None),
            oldest_age_us=max(ages_us[name], default=None),
        )
        for name in names
    }


def books_seen(sequencers: Iterable[BookSequencer], now: Now) -> tuple[BookSeen, ...]:
    """Return the states of books at this moment."""
    return tuple(
        BookSeen(
            symbol=sequencer.symbol,
            live=sequencer.book.is_live(now.mono_us),
            closed=sequencer.state is SyncState.SUSPENDED,
            age_us=sequencer.book.age_us(now.mono_us),
        )
        for sequencer in sorted(sequencers, key=lambda sequencer: len(sequencer.stream))
    )


@lru_cache(maxsize=4096)
def _name_of(stream: str) -> str:
    return channel_of(stream) or UNKNOWN_CHANNEL


def _sum(streams: Iterable[StreamMetrics]) -> int:
    return sum(of_stream.messages for of_stream in streams)
