"""Metrics of a client or a feed for Prometheus (extra `metrics`): docs/observability.md has all of them.

from prometheus_client import REGISTRY, start_http_server
from backpack_runtime.prometheus import BackpackCollector

REGISTRY.register(BackpackCollector(client))
start_http_server(9464)
"""

from __future__ import annotations

from .collector import BackpackCollector, CollectorGroup

__all__ = ["BackpackCollector", "CollectorGroup"]
