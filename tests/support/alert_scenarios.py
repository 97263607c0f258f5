"""The scenarios by which `promtool` tests the alerts: `deploy/prometheus/alerts_test.yml` is made of them.

`python tests/support/alert_scenarios.py` prints the file. `--write` keeps it. A test fails when the file says something else.

Each scenario is a client that is well, but for some series, and says which alerts fire at a moment: those, and no other ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["ALERTS_TEST", "DEPLOY", "SCENARIOS", "Scenario", "alerts_test"]

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS_TEST = DEPLOY / "prometheus" / "alerts_test.yml"

LATENCY = "exchange_to_socket_seconds_bucket"
GONE = None
"""A series that is not there."""


def health(well: str, otherwise: str = "0x30") -> dict[str, str | None]:
    """Healthy by these values, degraded by those."""
    return {'health_status{status="healthy"}': well, 'health_status{status="degraded"}': otherwise}


def latency(*values: str | None) -> dict[str, str | None]:
    """The buckets up to 0.1, 1 and 5 s, and all."""
    return {f'{LATENCY}{{le="{bound}"}}': value for bound, value in zip(("0.1", "1.0", "5.0", "+Inf"), values, strict=True)}


WELL: dict[str, str | None] = {
    "up": "1x30",
    "running": "1x30",
    "responding": "1x30",
    "connection_up": "1x30",
    **health("1x30"),
    "books_wanted": "10x30",
    "books_live": "9x30",
    "books_closed": "1x30",
    'frames_total{channel="depth"}': "0+600x30",
    'frames_total{channel="unknown"}': "0x30",
    "canary_frames_total": "0+60x30",
    "reconnects_total": "0x30",
    "book_resyncs_total": "0x30",
    "book_divergences_total": "0x30",
    "parser_errors_total": "0x30",
    **latency("0+590x30", "0+600x30", "0+600x30", "0+600x30"),
    "delivery_behind_seconds": "0.01x30",
    'delivery_dropped_events_total{kind="market"}': "0x30",
    'delivery_dropped_events_total{kind="private"}': "0x30",
    "feed_callback_errors_total": "0x30",
    "auth_failures_total": "0x30",
    "rate_limited_total": "0x30",
    "proxy_failures_total": "0x30",
    "account_live": "1x30",
    "account_divergences_total": "0x30",
    "orders_in_doubt": "0x30",
    "calls_unresolved": "0x30",
}
"""A client that is well, once a minute for half an hour. One of its ten markets is closed."""


class Scenario(NamedTuple):
    """What becomes of a client, and which alerts fire at which minute."""

    name: str
    series: dict[str, str | None]
    fires: dict[int, tuple[str, ...]]
    texts: Mapping[tuple[int, str], tuple[str, str, str]] = MappingProxyType({})
    """Severity, summary and description of an alert at a minute."""


SCENARIOS = (
    Scenario(
        "all is well and one reconnect resyncs every book",
        {"reconnects_total": "0x10 1x20", "book_resyncs_total": "0x10 9x20"},
        {25: ()},
    ),
    Scenario(
        "the program has ended",
        dict.fromkeys(WELL, GONE) | {"up": "1x5 0x25"},
        {6: (), 8: ("TargetDown",)},
        {
            (8, "TargetDown"): (
                "critical",
                "feed:8080 cannot be scraped",
                "The program has ended, or its port cannot be reached.",
            )
        },
    ),
    Scenario(
        "the client has ended and the program goes on",
        {
            "running": "1x5 0x25",
            "connection_up": "1x5 0x25",
            **health("1x5 0x25"),
            "books_wanted": "10x5 0x25",
            "books_live": "9x5 0x25",
            "books_closed": "1x5 0x25",
            "account_live": "1x5 0x25",
        },
        {6: (), 20: ("NotRunning",)},
    ),
    Scenario(
        "the event loop is blocked, so that gauges are missing and promises are 0",
        {
            "responding": "1x5 0x25",
            "running": "1x5 0x25",
            "connection_up": "1x5 0x25",
            **health("1x5 0x25"),
            "books_wanted": "10x5 stale",
            "books_live": "9x5 0x25",
            "books_closed": "1x5 stale",
            "delivery_behind_seconds": "0.01x5 stale",
            "account_live": "1x5 0x25",
            "orders_in_doubt": "0x5 stale",
            "calls_unresolved": "0x5 stale",
        },
        {6: (), 20: ("LoopBlocked",)},
    ),
    Scenario(
        "the connection is lost for good",
        {"connection_up": "1x5 0x25", **health("1x5 0x25"), "books_live": "9x5 0x25"},
        {6: (), 8: ("Disconnected",), 20: ("BooksNotLive", "Disconnected", "Unhealthy")},
    ),
    Scenario(
        "one book stays stale",
        {"books_live": "9x5 8x25", **health("1x5 0x25", "0x5 1x25")},
        {7: (), 12: ("BooksNotLive",), 20: ("BooksNotLive", "Unhealthy")},
    ),
    Scenario(
        "books are stale for a minute",
        {"books_live": "9x5 0x1 9x24", **health("1x5 0x1 1x24", "0x5 1x1 0x24")},
        {7: (), 20: ()},
    ),
    Scenario(
        "nothing is received, not even by the canary",
        {
            'frames_total{channel="depth"}': "0+600x5 3000x25",
            "canary_frames_total": "0+60x5 300x25",
            **latency("0+590x5 2950x25", "0+600x5 3000x25", "0+600x5 3000x25", "0+600x5 3000x25"),
        },
        {9: (), 16: ("NoFrames",)},
    ),
    Scenario(
        "an account is quiet and nothing but the canary speaks",
        {'frames_total{channel="depth"}': "7x30", **latency("7x30", "7x30", "7x30", "7x30")},
        {20: ()},
    ),
    Scenario(
        "it reconnects every two minutes",
        {
            "reconnects_total": " ".join(str(minute // 2) for minute in range(30)),
            "book_resyncs_total": " ".join(str(9 * (minute // 2)) for minute in range(30)),
        },
        {5: (), 16: ("Reconnecting", "Resyncing")},
    ),
    Scenario(
        "a book was wrong",
        {"book_divergences_total": "0x5 1x25", "book_resyncs_total": "0x5 1x25"},
        {6: ("BookDiverged",), 25: ()},
    ),
    Scenario("the exchange has changed its format", {"parser_errors_total": "0x5 0+60x25"}, {8: ("FramesUnreadable",)}),
    Scenario(
        "data are late",
        latency("0x30", "0+60x30", "0+600x30", "0+600x30"),
        {4: (), 12: ("Late",)},
        {
            (12, "Late"): (
                "warning",
                "Data reach feed:8080 late",
                "p99 from the matching engine to the socket is 4.956s, if the local clock is right.",
            )
        },
    ),
    Scenario(
        "a consumer does not keep up and loses market data",
        {"delivery_behind_seconds": "0.01x5 7x25", 'delivery_dropped_events_total{kind="market"}': "0x5 0+100x25"},
        {5: (), 9: ("ConsumerSlow", "MarketDataLost")},
    ),
    Scenario(
        "private events are lost", {'delivery_dropped_events_total{kind="private"}': "0x5 3x25"}, {6: ("PrivateEventsLost",)}
    ),
    Scenario("a callback of the feed fails", {"feed_callback_errors_total": "0x5 1x25"}, {6: ("CallbacksFail",)}),
    Scenario(
        "keys were withdrawn",
        {"auth_failures_total": "0x5 1x25", "account_live": "1x5 0x25"},
        {6: ("KeysRefused",), 9: ("AccountStale", "KeysRefused")},
    ),
    Scenario("requests are refused as too many", {"rate_limited_total": "0x5 1x25"}, {6: ("RateLimited",), 25: ()}),
    Scenario("the proxy is gone", {"proxy_failures_total": "0x5 0+2x25"}, {6: (), 15: ("ProxyFailing",)}),
    Scenario("the ledger was wrong", {"account_divergences_total": "0x5 1x25"}, {6: ("AccountDiverged",)}),
    Scenario(
        "orders and calls have no outcome",
        {"orders_in_doubt": "0x5 2x25", "calls_unresolved": "0x5 1x25"},
        {5: (), 8: ("OrdersInDoubt",), 12: ("CallsUnresolved", "OrdersInDoubt")},
    ),
    Scenario(
        "a client of calls only has no connection and no books",
        {
            "connection_up": GONE,
            "books_wanted": "0x30",
            "books_live": "0x30",
            "books_closed": "0x30",
            'frames_total{channel="depth"}': "0x30",
            "canary_frames_total": "0x30",
            **latency("0x30", "0x30", "0x30", "0x30"),
            "account_live": GONE,
        },
        {20: ()},
    ),
)


def _series(name: str) -> str:
    """Return a series as Prometheus writes it: of the project, with the labels of its target."""
    name, _, labels = name.rstrip("}").partition("{")
    name = name if name == "up" else f"backpack_{name}"
    of_target = 'instance="feed:8080", job="backpack"'
    return f"{name}{{{of_target}, {labels}}}" if labels else f"{name}{{{of_target}}}"


def _lines(scenario: Scenario) -> list[str]:
    series = {name: values for name, values in (WELL | scenario.series).items() if values is not None}
    lines = [f"  - name: {scenario.name}", "    interval: 1m", "    input_series:"]
    lines += [f"      - {{series: '{_series(name)}', values: '{values}'}}" for name, values in series.items()]
    lines.append("    promql_expr_test:")
    for minute, alerts in scenario.fires.items():
        lines += ['      - expr: count by (alertname) (ALERTS{alertstate="firing"})', f"        eval_time: {minute}m"]
        lines.append("        exp_samples:" if alerts else "        exp_samples: []")
        lines += [f"          - {{labels: '{{alertname=\"Backpack{alert}\"}}', value: 1}}" for alert in alerts]
    if scenario.texts:
        lines.append("    alert_rule_test:")
    for (minute, alert), (severity, summary, description) in scenario.texts.items():
        lines += [f"      - eval_time: {minute}m", f"        alertname: Backpack{alert}", "        exp_alerts:"]
        lines.append(f'          - exp_labels: {{severity: {severity}, instance: "feed:8080", job: backpack}}')
        lines += ["            exp_annotations:", f'              summary: "{summary}"']
        lines.append(f'              description: "{description}"')
    return lines


def alerts_test() -> str:
    """Return the whole file."""
    head = [
        "# Each scenario has the series of a client, and says exactly which alerts fire at a moment. Made by tests/support/alert_scenarios.py.",
        "# `promtool test rules alerts_test.yml`",
        "rule_files:",
        "  - alerts.yml",
        "",
        "evaluation_interval: 1m",
        "",
        "tests:",
    ]
    return "\n".join([*head, *(line for scenario in SCENARIOS for line in _lines(scenario))]) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        ALERTS_TEST.write_text(alerts_test(), encoding="utf-8")
    else:
        print(alerts_test(), end="")
