"""What a scrape of Prometheus says, read by prometheus_client's own parsers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["OPENMETRICS", "Figures", "figures", "registry_of", "scrape"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Figures: TypeAlias = dict[str, float]
"""Values by the series as Prometheus writes it, such as `backpack_frames_total{channel="trade"}`."""


def registry_of(*collectors: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def figures(text: str, *, openmetrics: bool = False) -> Figures:
    """Read an exposition. A series that is there twice, or a type that does not fit, is an error."""
    found: Figures = {}
    for family in (read_openmetrics if openmetrics else read_text)(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            series = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert series not in found, f"{series} is there twice"
            found[series] = sample.value
    return found


class _Scraped(CollectorRegistry):
    """What one scrape has found, as often as it is asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._families = list(registry.collect())

    def collect(self) -> Iterable[Metric]:
        return self._families


def scrape(registry: CollectorRegistry) -> Figures:
    """Scrape, and write and read what was found in both formats, which say the same."""
    scraped = _Scraped(registry)
    encode, _ = choose_encoder(OPENMETRICS)
    found = figures(generate_latest(scraped).decode())
    assert found == figures(encode(scraped).decode(), openmetrics=True)
    return found
