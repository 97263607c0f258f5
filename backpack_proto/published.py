"""Events of a feed that was published through an engine, beside those of the exchange: who publishes, and which messages are missing."""

from __future__ import annotations

from .streams.payloads import Event

__all__ = ["FeedGap", "PublisherEnded", "PublisherReport", "PublisherStarted"]


class FeedGap(Event, frozen=True, gc=False, kw_only=True):
    """Messages of one market that no publisher brought in time. A book goes on from the next `BookSynced`, trades with the next one."""

    symbol: str
    channel: str
    """`depth` or `trade`."""
    first: int
    """The first update id, or trade id, that is missing."""
    last: int
    reason: str


class PublisherStarted(Event, frozen=True, gc=False, kw_only=True):
    """A publisher has begun."""

    publisher: str
    """Its name, unlike that of all others."""
    version: str
    """Of the product."""
    channels: tuple[str, ...]
    selection: str
    """Which markets it was asked for."""


class PublisherEnded(Event, frozen=True, gc=False, kw_only=True):
    """A publisher has ended as it was told to, and brought all that it had. One that was killed cannot say so."""

    publisher: str


class PublisherReport(Event, frozen=True, gc=False, kw_only=True):
    """State of a publisher, told every few seconds: the proof that books which follow from it are live."""

    publisher: str
    sent_us: int
    """When it was made, by the publisher's monotonic clock."""
    live: tuple[str, ...]
    """The markets whose books are live there."""
    waiting: int
    """Messages that are not acknowledged yet."""
    troubles: tuple[str, ...]
    """All that is not well, in words."""
