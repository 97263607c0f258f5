"""The real programs of Prometheus on the files of `deploy`, and on a client of the sandbox."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from prometheus_client import generate_latest, start_http_server

from alert_scenarios import DEPLOY
from backpack_runtime.client import BackpackClient
from backpack_runtime.prometheus import BackpackCollector
from scrapes import registry_of

FILES = DEPLOY / "prometheus"
SYMBOL = "SOL_USDC"
PATIENCE_SECONDS = 60

pytestmark = [
    pytest.mark.required,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed"),
]


def promtool(*arguments: str, text: str | None = None, folder: Path = FILES) -> str:
    """Run it, and return what it says. It has to be content."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, input=text, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_configuration_and_the_alerts_are_valid_and_the_alerts_do_what_they_should() -> None:
    assert "SUCCESS: prometheus.yml is valid" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    """As a recorded rule, after the variables that Grafana knows."""
    dashboard = json.loads((DEPLOY / "grafana" / "backpack.json").read_text(encoding="utf-8"))
    rules: list[dict[str, str]] = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")
            rules.append({"record": f"panel:{len(rules)}", "expr": expression})
    # JSON is YAML.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert len(rules) > 50


@pytest.mark.anyio
async def test_names_and_texts_of_the_metrics_are_as_prometheus_wants_them() -> None:
    async with BackpackClient([SYMBOL], channels=["book"], sandbox=True, follow_account=True) as client:
        collector = BackpackCollector(client, symbols=True)
        text = generate_latest(registry_of(collector)).decode()
    assert await anyio.to_thread.run_sync(lambda: promtool("check", "metrics", text=text)) == ""


@pytest.fixture
def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port


@pytest.fixture
def prometheus(tmp_path: Path, free_port: int) -> Iterator[Callable[[int], str]]:
    """Starts Prometheus with the files of `deploy`, for one target. The address of it is returned."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target_port: int) -> str:
        text = (FILES / "prometheus.yml").read_text(encoding="utf-8")
        assert text.count("127.0.0.1:8080") == 1
        (tmp_path / "prometheus.yml").write_text(
            text.replace("127.0.0.1:8080", f"127.0.0.1:{target_port}").replace("interval: 10s", "interval: 1s")
        )
        shutil.copy(FILES / "alerts.yml", tmp_path)
        address = f"127.0.0.1:{free_port}"
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
        return f"http://{address}"

    yield start
    for program in started:
        program.terminate()
        program.wait(PATIENCE_SECONDS)


def ask(url: str, query: str) -> Any:
    """What a query gives now: values by the labels that are no labels of the target, or None while Prometheus does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=5) as answer:  # noqa: S310 - http
            found = json.load(answer)["data"]["result"]
    except OSError:
        return None
    ours = {"__name__", "instance", "job"}
    return {
        tuple(value for name, value in sorted(one["metric"].items()) if name not in ours): float(one["value"][1])
        for one in found
    }


async def until(url: str, query: str, wanted: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as it should be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    found = None
    while time.monotonic() < deadline:
        found = await anyio.to_thread.run_sync(ask, url, query)
        if found and wanted(found):
            return found
        await anyio.sleep(0.2)
    raise AssertionError(f"{query}: {found}")


@pytest.mark.gate
@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
async def test_prometheus_scrapes_a_client_and_answers_what_the_dashboard_asks(prometheus: Callable[[int], str]) -> None:
    client = BackpackClient([SYMBOL], channels=["book", "trades"], sandbox=True)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry_of(BackpackCollector(client, symbols=True)))
    try:
        url = prometheus(server.server_port)
        async with client, anyio.create_task_group() as tasks:

            async def consume() -> None:
                async for _ in client:
                    pass

            tasks.start_soon(consume)
            assert await until(url, "up", lambda found: found == {(): 1.0})
            await until(url, "backpack_symbol_book_live", lambda found: found == {(SYMBOL,): 1.0})
            await until(url, 'backpack_health_status{status="healthy"}', lambda found: found == {("healthy",): 1.0})
            await until(url, "sum(rate(backpack_frames_total[10s]))", lambda found: found[()] > 1)
            quantile = "histogram_quantile(0.99, sum by (le) (rate(backpack_event_to_consumer_seconds_bucket[10s])))"
            p99 = await until(url, quantile, lambda found: found[()] > 0)
            assert p99[()] < PATIENCE_SECONDS
            tasks.cancel_scope.cancel()
        await until(url, "backpack_running", lambda found: found == {(): 0.0})
        await until(url, 'ALERTS{alertname="BackpackNotRunning"}', bool)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
