"""The collector that a registry of prometheus_client asks for the metrics of one client or feed."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from backpack_proto.buckets import BOUNDS_US, Durations
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_runtime.checks import checked_names, checked_seconds
from backpack_runtime.extras import MissingExtra
from backpack_runtime.loop_thread import NoTurn
from backpack_runtime.observation import Observable, Observation

from .families import METRICS, Metric
from .figures import US, Sample, Scrape

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.metrics_core import Metric as Family
except ImportError as missing:
    raise MissingExtra("metrics for Prometheus", "metrics", missing) from missing

__all__ = ["BackpackCollector", "CollectorGroup"]

_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_LABELS: Final = {"le", *(label for metric in METRICS for label in metric.labels)}
_BOUNDS: Final = tuple(repr(bound_us / US) for bound_us in BOUNDS_US)


class BackpackCollector:
    """Metrics of one client or feed, read at the moment of scraping.

        REGISTRY.register(BackpackCollector(client))

    Register it before the client is entered, or later. After the end of the client `backpack_running` is 0, and counters stay. The registry
    keeps the client alive until you `unregister` the collector.
    """

    def __init__(
        self,
        source: Observable,
        *,
        symbols: bool | Collection[str] = False,
        const_labels: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        """Take a source, before or after its start.

        Args:
            source: a `BackpackClient`, a `BackpackSync`, or the `BackpackFeed` for cryptofeed.
            symbols: have metrics for single markets: of all that are subscribed (True), or of these, by their ids (`SOL_USDC`). Each is four
                series more.
            const_labels: labels that all metrics have, such as `{"account": "main"}`.
            timeout_s: time that a scrape in another thread waits for the event loop. Prometheus itself waits 10 s by default.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        if not (hasattr(source, "_observe") and hasattr(source, "_loop_thread")):
            raise ConfigurationError(f"source: a BackpackClient, BackpackSync or BackpackFeed, got {type(source).__name__}")
        self._source = source
        self._symbols = symbols if isinstance(symbols, bool) else _ids(symbols)
        self.const_labels: Mapping[str, str] = _checked_labels({} if const_labels is None else const_labels)
        checked_seconds("timeout_s", timeout_s)
        self._timeout_s = timeout_s
        self._last: Observation | None = None
        if source._loop_thread() is None:  # noqa: SLF001 - made for this collector
            # Not in a scrape: its thread might read while the source is being started.
            self._observe()

    def describe(self) -> Iterator[Family]:
        """Yield all metrics without figures: a registry wants to know their names before there are any."""
        return (self._family(metric, ()) for metric in METRICS)

    def collect(self) -> Iterator[Family]:
        """Yield all metrics with their figures now. It may be called from any thread, that of the event loop included."""
        scrape = self._scrape()
        return (self._family(metric, metric.samples(scrape)) for metric in METRICS)

    def _scrape(self) -> Scrape:
        """Observe in the thread of the source, so that it does not change meanwhile."""
        thread = self._source._loop_thread()  # noqa: SLF001 - made for this collector
        began_ns = time.monotonic_ns()
        answered = True
        try:
            if thread is not None:
                thread.read(self._observe, self._timeout_s)
        except NoTurn:
            answered = False
        return Scrape(self._last, answered, (time.monotonic_ns() - began_ns) // 1000, self._symbols)

    def _observe(self) -> None:
        # Kept in the thread of the source, in order: of two scrapes at a time the later figures have to stay.
        self._last = self._source._observe()  # noqa: SLF001 - made for this collector

    def _family(self, metric: Metric, samples: Iterable[Sample]) -> Family:
        names = (*self.const_labels, *metric.labels)
        constant = tuple(self.const_labels.values())
        match metric.kind.type:
            case "counter":
                counter = CounterMetricFamily(metric.name, metric.help, labels=names)
                for labels, value in samples:
                    counter.add_metric((*constant, *labels), _number(value))
                return counter
            case "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.help, labels=names)
                for labels, value in samples:
                    histogram.add_metric((*constant, *labels), *_buckets(value))
                return histogram
            case _:
                gauge = GaugeMetricFamily(metric.name, metric.help, labels=names)
                for labels, value in samples:
                    gauge.add_metric((*constant, *labels), _number(value))
                return gauge


class CollectorGroup:
    """Several collectors as one, for a process with several clients: a registry takes each name once.

    Each collector has labels of its own:

        REGISTRY.register(CollectorGroup(
            BackpackCollector(quotes, const_labels={"client": "quotes"}),
            BackpackCollector(trader, const_labels={"client": "trader"}),
        ))
    """

    def __init__(self, *collectors: BackpackCollector) -> None:
        """Take collectors that `const_labels` tell apart.

        Raises:
            ConfigurationError: the list is empty, or constant labels are alike or have different names.
        """
        labels = [collector.const_labels for collector in collectors]
        if not collectors or len({tuple(sorted(of_one)) for of_one in labels}) > 1:
            raise ConfigurationError("collectors: one or more, with the same names in const_labels")
        if len({tuple(sorted(of_one.items())) for of_one in labels}) < len(labels):
            raise ConfigurationError("collectors: two of them have the same const_labels, which are to tell them apart")
        self._collectors = collectors

    def describe(self) -> Iterator[Family]:
        """Yield all metrics without figures."""
        return self._collectors[0].describe()

    def collect(self) -> Iterator[Family]:
        """Yield all metrics, each with the figures of all collectors."""
        for families in zip(*(collector.collect() for collector in self._collectors), strict=True):
            for other in families[1:]:
                families[0].samples += other.samples
            yield families[0]


def _number(value: float | Durations) -> float:
    if isinstance(value, Durations):
        raise AssertionError("only histograms have durations")  # noqa: TRY004 - no argument of anybody's
    return float(value)


def _buckets(value: float | Durations) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets and the sum as prometheus_client has them."""
    if not isinstance(value, Durations):
        raise AssertionError("histograms have durations")  # noqa: TRY004 - no argument of anybody's
    buckets = [(bound, float(count)) for bound, count in zip(_BOUNDS, value.at_most, strict=True)]
    return [*buckets, ("+Inf", float(value.count))], value.sum_us / US


def _checked_labels(labels: object) -> dict[str, str]:
    """Return labels that can stand beside those of the metrics.

    Raises:
        ConfigurationError: one cannot.
    """
    if not isinstance(labels, Mapping):
        raise ConfigurationError(f"const_labels: a mapping of names to texts, got {shown(labels)}")
    found: dict[str, str] = {}
    for name, value in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            raise ConfigurationError(f"const_labels: {shown(name)} cannot be the name of a label, use letters, digits and _")
        if name in _OWN_LABELS:
            raise ConfigurationError(f"const_labels: {shown(name)} is a label of the metrics themselves, choose another name")
        if not isinstance(value, str):
            raise ConfigurationError(f"const_labels[{name!r}]: text, got {shown(value)}")
        found[name] = value
    return found


def _ids(symbols: object) -> frozenset[str]:
    """Return the markets that are to have metrics of their own.

    Raises:
        ConfigurationError: one of them is no id of a market, as metrics name it.
    """
    ids = checked_names("symbols", symbols)
    for one in ids:
        if "-" in one:
            raise ConfigurationError(f"symbols: metrics name markets by their ids, such as SOL_USDC, got {shown(one)}")
    return frozenset(ids)
