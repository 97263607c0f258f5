"""The figures that have labels, and those that are worked out."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Final, NamedTuple, TypeAlias

from backpack_proto import __version__
from backpack_proto.buckets import Durations
from backpack_proto.metrics import Status
from backpack_proto.observation import BookSeen
from backpack_runtime.kernels import kernels_in_use
from backpack_runtime.observation import Observation

__all__ = ["US", "Sample", "Scrape"]

US: Final = 1_000_000

Sample: TypeAlias = tuple[tuple[str, ...], float | Durations]
"""The values of the labels, and the figure."""


class Scrape(NamedTuple):
    """All that the figures of one scrape are made of."""

    last: Observation | None
    """The last answer of the event loop, or None."""
    answered: bool
    """True when that answer is to this scrape."""
    wait_us: int
    """Time that it was waited for."""
    symbols: bool | frozenset[str]
    """The markets that have metrics of their own."""

    @property
    def seen(self) -> Observation:
        """The last answer of the event loop, of which there has been one."""
        if self.last is None:
            raise AssertionError("rows that need an answer are not read without one")
        return self.last


def build(_: Scrape) -> Iterable[Sample]:
    """Return the version and the kernels."""
    return [((__version__, kernels_in_use()), 1)]


def running(scrape: Scrape) -> Iterable[Sample]:
    """Return 1 between the start and the end."""
    return [((), scrape.answered and scrape.seen.running)]


def health(scrape: Scrape) -> Iterable[Sample]:
    """Return each status, and whether it is the one."""
    well = scrape.answered and scrape.seen.running
    found = scrape.seen.session.health.status if well else Status.DOWN
    return [((status.value,), found is status) for status in Status]


def frames(scrape: Scrape) -> Iterable[Sample]:
    """Return the frames of each channel."""
    return [((name,), channel.frames) for name, channel in scrape.seen.session.channels.items()]


def streams(scrape: Scrape) -> Iterable[Sample]:
    """Return the subscribed streams of each channel."""
    return [((name,), channel.wanted) for name, channel in scrape.seen.session.channels.items()]


def stream_ages(scrape: Scrape) -> Iterable[Sample]:
    """Return the ages of the last frames of each channel."""
    for name, channel in scrape.seen.session.channels.items():
        for which, age_us in (("newest", channel.newest_age_us), ("oldest", channel.oldest_age_us)):
            if age_us is not None:
                yield (name, which), age_us / US


def book_ages(scrape: Scrape) -> Iterable[Sample]:
    """Return the ages of the books of open markets."""
    ages_us = [book.age_us for book in scrape.seen.session.books if book.age_us is not None and not book.closed]
    if not ages_us:
        return []
    return [(("newest",), min(ages_us) / US), (("median",), median(ages_us) / US), (("oldest",), max(ages_us) / US)]


def requests_available(scrape: Scrape) -> Iterable[Sample]:
    """Return the requests that each budget has left."""
    budget = scrape.seen.session.budget
    return [
        (("standard",), budget.standard_available),
        (("reserve",), budget.reserve_available),
        (("historical",), budget.historical_available),
    ]


def dropped_events(scrape: Scrape) -> Iterable[Sample]:
    """Return the losses of slow consumers."""
    delivery = scrape.seen.delivery
    return [(("market",), delivery.dropped), (("private",), delivery.dropped_private)]


def symbol_live(scrape: Scrape) -> Iterable[Sample]:
    """Return the live books of single markets. One that is not subscribed is not live."""
    return [((symbol,), book is not None and book.live) for symbol, book in _books(scrape).items()]


def symbol_closed(scrape: Scrape) -> Iterable[Sample]:
    """Return which single markets are closed."""
    return [((symbol,), book.closed) for symbol, book in _books(scrape).items() if book is not None]


def symbol_ages(scrape: Scrape) -> Iterable[Sample]:
    """Return the ages of the books of single markets."""
    for symbol, book in _books(scrape).items():
        if book is not None and book.age_us is not None:
            yield (symbol,), book.age_us / US


def symbol_resyncs(scrape: Scrape) -> Iterable[Sample]:
    """Return the resyncs of single markets."""
    if not scrape.symbols:
        return []
    resyncs = scrape.seen.session.resyncs
    # Those that are wanted no more keep theirs: a counter that goes away looks like one that begins again.
    kept = resyncs.keys() if scrape.symbols is True else resyncs.keys() & scrape.symbols
    return [((symbol,), resyncs.get(symbol, 0)) for symbol in sorted(_books(scrape).keys() | kept)]


def _books(scrape: Scrape) -> dict[str, BookSeen | None]:
    """Return the books that have metrics of their own, and None for a market that is not subscribed."""
    found: dict[str, BookSeen | None] = {}
    if scrape.symbols is False:
        return found
    for book in scrape.seen.session.books:
        # The finest aggregation of a market comes first, which is the one that `client.book` has.
        if scrape.symbols is True or book.symbol in scrape.symbols:
            found.setdefault(book.symbol, book)
    return found if scrape.symbols is True else found | dict.fromkeys(sorted(scrape.symbols - found.keys()))
