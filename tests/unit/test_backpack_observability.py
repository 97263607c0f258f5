"""The document, the dashboard and the alerts say what the collector has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from alert_scenarios import ALERTS_TEST, DEPLOY, SCENARIOS, alerts_test
from backpack_proto.streams.channels import Channel
from backpack_runtime.client import BackpackClient
from backpack_runtime.prometheus import BackpackCollector
from backpack_runtime.prometheus.families import METRICS, Kind
from metrics_table import DOCUMENT, alerts, document
from scrapes import registry_of, scrape

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "backpack.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
LABELS = {label for metric in METRICS for label in metric.labels} | {"le", "job", "instance", "alertname", "alertstate"}


def series_names() -> set[str]:
    """Every name that an expression may have."""
    found = {metric.name for metric in METRICS if metric.kind is not Kind.HISTOGRAM}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def expressions_of_the_dashboard() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bbackpack_\w+", expression))


def labels_in(expression: str) -> set[str]:
    """Return the labels that are matched, grouped by or left out."""
    matched = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression))
    grouped = {
        label for group in re.findall(r"\b(?:by|without|ignoring|on) \(([^)]*)\)", expression) for label in group.split(", ")
    }
    return (matched | grouped) - {""}


def test_the_document_has_every_metric_and_every_alert() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `python tests/support/metrics_table.py --write`"


def test_what_the_document_lists_is_what_a_scrape_has() -> None:
    client = BackpackClient(["SOL_USDC"], channels=["book"])
    collected = {family.name: family for family in BackpackCollector(client).collect()}
    assert set(collected) == {metric.name.removesuffix("_total") for metric in METRICS}
    for metric in METRICS:
        family = collected[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    names = {series.partition("{")[0] for series in scrape(registry_of(BackpackCollector(client)))}
    assert names <= series_names()
    assert {name for name in names if name.startswith("backpack_frames")} == {"backpack_frames_total"}


def test_the_number_of_series_does_not_depend_on_the_number_of_markets() -> None:
    few = scrape(registry_of(BackpackCollector(BackpackClient(["SOL_USDC"]))))
    many = scrape(registry_of(BackpackCollector(BackpackClient([f"A{number}_USDC" for number in range(300)]))))
    assert few.keys() == many.keys()
    channels = {series for series in few if series.startswith("backpack_frames_total")}
    assert channels == {f'backpack_frames_total{{channel="{channel}"}}' for channel in [*Channel, "unknown"]}


def test_the_dashboard_uses_metrics_that_exist_and_shows_all_of_them() -> None:
    used = {name for expression in expressions_of_the_dashboard() for name in names_in(expression)}
    assert used - series_names() == set()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert {metric.name for metric in METRICS} - shown == set()
    assert {label for expression in expressions_of_the_dashboard() for label in labels_in(expression)} <= LABELS


def test_the_dashboard_takes_its_data_from_the_source_that_is_chosen() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
    assert {panel["datasource"]["uid"] for panel in PANELS if panel["type"] != "row"} == {"${datasource}"}
    for panel in PANELS:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'job=~"$job", instance=~"$instance"' in target["expr"]


def test_panels_of_the_dashboard_have_a_place_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_alerts_use_metrics_that_exist() -> None:
    assert len(alerts()) > 20
    for alert in alerts():
        assert names_in(alert.expression) - series_names() == set(), alert.name
        assert labels_in(alert.expression) <= LABELS, alert.name
        assert alert.severity in {"critical", "warning"}


def test_every_alert_fires_in_a_scenario_and_no_scenario_expects_another_one() -> None:
    fires = {f"Backpack{alert}" for scenario in SCENARIOS for names in scenario.fires.values() for alert in names}
    assert fires == {alert.name for alert in alerts()}
    assert ALERTS_TEST.read_text(encoding="utf-8") == alerts_test(), "run `python tests/support/alert_scenarios.py --write`"
