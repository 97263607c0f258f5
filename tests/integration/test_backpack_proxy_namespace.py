"""Behind a proxy nothing goes around it: no packet to the exchange, no question to a name server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping

import pytest

from proxy_matrix import RUNTIMES
from proxy_namespace import (
    CLOSED_PORT,
    DEAD,
    DIRECT,
    EXCHANGE,
    LIVE,
    LOCAL_DNS,
    PROGRAM,
    PROXY_ADDRESS,
    ROUTES,
    Run,
    Way,
    all_ways,
)
from proxy_programs import missing

pytestmark = pytest.mark.required

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
TIMEOUT_SECONDS = 120

Runs = Mapping[Way, Run]


@pytest.fixture(scope="module")
def runs() -> Runs:
    absent = [name for name in ("unshare", "mount", "ip") if shutil.which(name) is None] + missing(*dict(ROUTES))
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    allowed = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"namespaces are not allowed here: {allowed.stderr.strip()}")
    done = subprocess.run(
        [*NAMESPACES, sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    assert done.returncode == 0, done.stderr
    found = [Run(Way(*way), *rest) for way, *rest in map(json.loads, done.stdout.splitlines())]
    assert [run.way for run in found] == all_ways()
    return {run.way: run for run in found}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("route", ROUTES, ids=", ".join)
def test_all_that_leaves_the_machine_goes_to_the_proxy(route: tuple[str, str], runtime: str, runs: Runs) -> None:
    """REST and websocket both go through it, and it alone knows the name of the exchange."""
    run = runs[Way(*route, runtime)]
    assert run.outcome == LIVE
    assert run.proxied > 0
    assert run.lost == 0
    assert run.direct == 0
    assert run.lookups == []


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("route", DEAD, ids=", ".join)
def test_a_proxy_that_is_not_there_is_no_reason_to_go_around_it(route: tuple[str, str], runtime: str, runs: Runs) -> None:
    run = runs[Way(*route, runtime)]
    assert f"proxy {route[1]}://{PROXY_ADDRESS}:{CLOSED_PORT} refused the connection" in run.outcome
    assert run.proxied > 0
    assert run.direct == 0
    assert run.lookups == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_local_look_up_is_seen_when_one_is_asked_for(runtime: str, runs: Runs) -> None:
    run = runs[Way(*LOCAL_DNS, runtime)]
    assert run.outcome == LIVE
    assert set(run.lookups) == {EXCHANGE}
    assert run.proxied > 0
    assert run.direct == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_direct_packet_is_seen_when_there_is_no_proxy(runtime: str, runs: Runs) -> None:
    run = runs[Way(*DIRECT, runtime)]
    assert run.outcome != LIVE
    assert run.lookups
    assert run.direct > 0
    assert run.proxied == 0
