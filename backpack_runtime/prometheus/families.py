"""The table of all metrics: name, type, labels, meaning, and where the figures come from.

A row is all there is to a metric, and `docs/observability.md` has the same rows.

A loop that does not answer may have been fine before, and its metrics must not say that it still is. Then counters and histograms stay as
they were, promises are 0, other gauges are left out, and health is `down`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from backpack_proto.buckets import Durations
from backpack_runtime.observation import Observation

from . import figures
from .figures import US, Sample, Scrape

__all__ = ["METRICS", "Kind", "Metric"]

Read: TypeAlias = Callable[[Scrape], Iterable[Sample]]


class Kind(Enum):
    """Kind of a metric. It decides about the figures while the event loop does not answer."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    PROMISE = "gauge, the larger the better"
    ALWAYS = "gauge that is known without an answer"

    @property
    def type(self) -> str:
        """The type by its name in Prometheus."""
        return self.value if self in {Kind.COUNTER, Kind.HISTOGRAM} else "gauge"


class Metric(NamedTuple):
    """A row of the table."""

    name: str
    kind: Kind
    help: str
    read: Read
    labels: tuple[str, ...] = ()

    def samples(self, scrape: Scrape) -> Iterable[Sample]:
        """Return the figures of a scrape."""
        if self.kind is Kind.ALWAYS:
            return self.read(scrape)
        if scrape.last is None or (self.kind is Kind.GAUGE and not scrape.answered):
            return ()
        found = self.read(scrape)
        return [(labels, 0) for labels, _ in found] if self.kind is Kind.PROMISE and not scrape.answered else found


def _one(figure: Callable[[Observation], float | Durations | None]) -> Read:
    """Read one figure without labels, which may be absent."""

    def read(scrape: Scrape) -> Iterable[Sample]:
        found = figure(scrape.seen)
        return [] if found is None else [((), found)]

    return read


def _of_feed(name: str) -> Read:
    return _one(lambda seen: None if seen.feed is None else seen.feed[name])


METRICS: Final = (
    # About the scrape itself.
    Metric(
        "backpack_responding",
        Kind.ALWAYS,
        "1 when the event loop answered this scrape in time. Otherwise counters and histograms are as of its last answer.",
        lambda scrape: [((), scrape.answered)],
    ),
    Metric(
        "backpack_scrape_wait_seconds",
        Kind.ALWAYS,
        "Time that this scrape has waited for the event loop.",
        lambda scrape: [((), scrape.wait_us / US)],
    ),
    # State.
    Metric("backpack_build_info", Kind.ALWAYS, "Version and kernels in use, always 1.", figures.build, ("version", "kernels")),
    Metric("backpack_running", Kind.ALWAYS, "1 between the start of the client or feed and its end.", figures.running),
    Metric(
        "backpack_health_status",
        Kind.ALWAYS,
        "1 for the status that health has, 0 for the others.",
        figures.health,
        ("status",),
    ),
    Metric(
        "backpack_health_reasons",
        Kind.GAUGE,
        "Reasons against health, which the log and client.health name.",
        _one(lambda seen: len(seen.session.health.reasons)),
    ),
    Metric(
        "backpack_connection_up",
        Kind.PROMISE,
        "1 while the connection for streams is open. Absent for a client with streams=False.",
        _one(lambda seen: seen.session.connected),
    ),
    # Data.
    Metric(
        "backpack_frames_total",
        Kind.COUNTER,
        "Text frames received, by channel: unknown is for those of no stream, or of one without a type.",
        figures.frames,
        ("channel",),
    ),
    Metric(
        "backpack_canary_frames_total",
        Kind.COUNTER,
        "Frames of canary streams that were not subscribed, not included in backpack_frames_total.",
        _one(lambda seen: seen.session.metrics.canary_messages),
    ),
    Metric("backpack_streams", Kind.GAUGE, "Subscribed streams, by channel.", figures.streams, ("channel",)),
    Metric(
        "backpack_stream_age_seconds",
        Kind.GAUGE,
        "Age of the last frame, of the stream of a channel that was heard last (newest) or has been quiet longest (oldest).",
        figures.stream_ages,
        ("channel", "which"),
    ),
    # Faults.
    Metric(
        "backpack_reconnects_total",
        Kind.COUNTER,
        "Connections for streams after the first one.",
        _one(lambda seen: seen.session.metrics.ws_reconnects),
    ),
    Metric(
        "backpack_websocket_errors_total",
        Kind.COUNTER,
        "Lost and failed connections, silent peers and error frames.",
        _one(lambda seen: seen.session.metrics.ws_errors),
    ),
    Metric(
        "backpack_auth_failures_total",
        Kind.COUNTER,
        "Subscriptions that the exchange refused because of their signature.",
        _one(lambda seen: seen.session.metrics.auth_failures),
    ),
    Metric(
        "backpack_dropped_frames_total",
        Kind.COUNTER,
        "Frames that could not be used, backpack_parser_errors_total among them.",
        _one(lambda seen: seen.session.metrics.dropped_messages),
    ),
    Metric(
        "backpack_parser_errors_total",
        Kind.COUNTER,
        "Frames that could not be read.",
        _one(lambda seen: seen.session.metrics.parser_errors),
    ),
    Metric(
        "backpack_proxy_failures_total",
        Kind.COUNTER,
        "Connections of either kind that failed at their proxy.",
        _one(lambda seen: seen.session.metrics.proxy_failures),
    ),
    # Books.
    Metric(
        "backpack_books_wanted",
        Kind.GAUGE,
        "Books that are subscribed.",
        _one(lambda seen: seen.session.metrics.books.wanted),
    ),
    Metric(
        "backpack_books_live",
        Kind.PROMISE,
        "Books that follow the exchange without a hole, by fresh proof.",
        _one(lambda seen: seen.session.metrics.books.live),
    ),
    Metric(
        "backpack_books_fetching",
        Kind.GAUGE,
        "Books whose snapshot has been asked for.",
        _one(lambda seen: seen.session.metrics.books.fetching),
    ),
    Metric(
        "backpack_books_closed",
        Kind.GAUGE,
        "Books of closed markets, which are not live and need not be.",
        _one(lambda seen: seen.session.metrics.books.closed),
    ),
    Metric(
        "backpack_books_queued",
        Kind.GAUGE,
        "Books whose snapshot waits for the request budget.",
        _one(lambda seen: seen.session.metrics.books.queued),
    ),
    Metric(
        "backpack_book_age_seconds",
        Kind.GAUGE,
        "Age of the newest proof of a book, over all books of open markets that have one: newest, median, oldest.",
        figures.book_ages,
        ("which",),
    ),
    Metric(
        "backpack_book_resyncs_total",
        Kind.COUNTER,
        "Live books that ended: by a gap, a divergence, a lost connection or an unsubscription. Those still wanted are fetched again.",
        _one(lambda seen: seen.session.metrics.orderbook_resyncs),
    ),
    Metric(
        "backpack_book_verifications_total",
        Kind.COUNTER,
        "Comparisons of a book with a top of book or a snapshot that agreed.",
        _one(lambda seen: seen.session.metrics.book_verifications),
    ),
    Metric(
        "backpack_book_divergences_total",
        Kind.COUNTER,
        "Comparisons that found a book wrong though no update was missed.",
        _one(lambda seen: seen.session.metrics.book_divergences),
    ),
    Metric(
        "backpack_symbol_book_live",
        Kind.PROMISE,
        "1 while the book of a market is live, only with symbols=.",
        figures.symbol_live,
        ("symbol",),
    ),
    Metric(
        "backpack_symbol_book_closed",
        Kind.GAUGE,
        "1 while a market is closed, only with symbols=.",
        figures.symbol_closed,
        ("symbol",),
    ),
    Metric(
        "backpack_symbol_book_age_seconds",
        Kind.GAUGE,
        "Age of the newest proof of the book of a market, only with symbols=.",
        figures.symbol_ages,
        ("symbol",),
    ),
    Metric(
        "backpack_symbol_book_resyncs_total",
        Kind.COUNTER,
        "Ends of live books of one market, only with symbols=.",
        figures.symbol_resyncs,
        ("symbol",),
    ),
    # Latency.
    Metric(
        "backpack_exchange_to_socket_seconds",
        Kind.HISTOGRAM,
        "From the time of the matching engine to the read of the socket, by the local clock, for each frame with that time.",
        _one(lambda seen: seen.session.engine_to_receipt),
    ),
    Metric(
        "backpack_socket_to_event_seconds",
        Kind.HISTOGRAM,
        "From the read of the socket until all events of that read are there, for each event.",
        _one(lambda seen: seen.receipt_to_event),
    ),
    Metric(
        "backpack_event_to_consumer_seconds",
        Kind.HISTOGRAM,
        "From there until a consumer fetches the event or its callback is called (in a feed: until its callbacks have ended).",
        _one(lambda seen: seen.event_to_consumer),
    ),
    # Consumers.
    Metric(
        "backpack_delivery_waiting_events",
        Kind.GAUGE,
        "Events that consumers have not fetched.",
        _one(lambda seen: seen.delivery.waiting),
    ),
    Metric(
        "backpack_delivery_waiting_bytes",
        Kind.GAUGE,
        "Memory that those events take, estimated.",
        _one(lambda seen: seen.delivery.waiting_bytes),
    ),
    Metric(
        "backpack_delivery_behind_seconds",
        Kind.GAUGE,
        "Time that the oldest of those events has waited.",
        _one(lambda seen: seen.delivery.behind_us / US),
    ),
    Metric(
        "backpack_delivery_dropped_events_total",
        Kind.COUNTER,
        "Events that a slow consumer has lost, by kind: market, or private and state events (private).",
        figures.dropped_events,
        ("kind",),
    ),
    Metric(
        "backpack_delivery_merged_changes_total",
        Kind.COUNTER,
        "Changes of books that were merged into another one for a slow consumer.",
        _one(lambda seen: seen.delivery.conflated),
    ),
    Metric(
        "backpack_delivery_pauses_total",
        Kind.COUNTER,
        "Pauses of reading by a slow consumer.",
        _one(lambda seen: seen.delivery.pauses),
    ),
    # Requests.
    Metric(
        "backpack_requests_available",
        Kind.GAUGE,
        "Requests that could leave at once: standard, reserve (cancels besides), historical.",
        figures.requests_available,
        ("budget",),
    ),
    Metric(
        "backpack_requests_queued",
        Kind.GAUGE,
        "Requests that wait for their budget.",
        _one(lambda seen: seen.session.budget.queued),
    ),
    Metric(
        "backpack_requests_paused_seconds",
        Kind.GAUGE,
        "Time until requests may leave again after the exchange refused one as too many, or 0.",
        _one(lambda seen: seen.session.paused_us / US),
    ),
    Metric(
        "backpack_rate_limited_total",
        Kind.COUNTER,
        "Answers of REST with status 429.",
        _one(lambda seen: seen.session.metrics.rate_limited),
    ),
    Metric(
        "backpack_calls_unresolved",
        Kind.GAUGE,
        "Calls that may have been sent and have no known outcome.",
        _one(lambda seen: seen.session.unresolved),
    ),
    # The account.
    Metric(
        "backpack_account_live",
        Kind.PROMISE,
        "1 while the ledger of the account follows the exchange, only where it is followed.",
        _one(lambda seen: seen.session.account_live),
    ),
    Metric(
        "backpack_account_doubts",
        Kind.GAUGE,
        "Parts of the account that a live ledger is not live for, only where it is followed.",
        _one(lambda seen: None if seen.session.account_live is None else seen.session.account_doubts),
    ),
    Metric(
        "backpack_account_divergences_total",
        Kind.COUNTER,
        "Readings that found the ledger wrong.",
        _one(lambda seen: seen.session.metrics.account_divergences),
    ),
    Metric(
        "backpack_orders_in_doubt",
        Kind.GAUGE,
        "Orders that were placed and have no known outcome.",
        _one(lambda seen: seen.orders_in_doubt),
    ),
    # The feed for cryptofeed.
    Metric(
        "backpack_feed_callback_errors_total",
        Kind.COUNTER,
        "Errors raised by callbacks, only of the feed for cryptofeed.",
        _of_feed("callback_errors"),
    ),
    Metric(
        "backpack_feed_candles_filled_total",
        Kind.COUNTER,
        "Candles that were missed in an outage and read by REST, only of the feed for cryptofeed.",
        _of_feed("candles_filled"),
    ),
    Metric(
        "backpack_feed_candle_gaps_total",
        Kind.COUNTER,
        "Failures to read missed candles, only of the feed for cryptofeed.",
        _of_feed("candle_gaps"),
    ),
)
"""All metrics, in the order in which they are shown."""
