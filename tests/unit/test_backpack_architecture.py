"""The arrows of the design: which module may know which, and what the core never touches."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import backpack_proto
import backpack_runtime

CORE = Path(backpack_proto.__file__).parent
RUNTIME = Path(backpack_runtime.__file__).parent

# One row a layer: what stands in a row may import from the rows above it. A folder stands for all of its modules, unless one of
# them has a place of its own. Machines never import each other.
CORE_LAYERS = (
    {"errors", "hints", "importance", "text", "values"},
    {"buckets", "extras", "http"},
    {"machine", "decoding", "backoff", "claims", "histogram"},
    {"streams", "auth", "mute", "orders.intents"},
    {"inputs", "outputs", "account.values"},
    {"connection", "book", "rest", "candles", "ordering", "published"},
    {"account", "metrics", "orders"},
    {"askers"},
    {"routes", "encoding", "observation"},
    {"session"},
    {"__init__"},
    {"exchange"},
    {"testing"},
)
RUNTIME_LAYERS = (
    {"checks", "event_loop", "extras", "platforms"},
    {"rest", "loop_thread"},
    {
        "network",
        "framing",
        "delivery",
        "exports",
        "logs",
        "recording.source",
        "transport",
        "key_sources",
        "rest_methods",
        "accounts",
        "books",
        "order_checks",
        "market_selection",
    },
    {"orders", "recovery", "observation"},
    {"calls"},
    {"pump", "transports", "kernels", "credentials", "owner", "candles", "background"},
    {"recording"},
    {"settings", "prometheus"},
    {"sandbox_control"},
    {"sandbox", "client_arguments"},
    {"driver", "market_methods"},
    {"client_life"},
    {"client"},
    {"checkup"},
    {"publishing"},
    {"sync_base"},
    {"sync_client"},
    {"testing"},
    {"serving"},
    {"cryptofeed"},
    {"cli", "__init__"},
)
MACHINES = {
    "account.audit",
    "account.sync",
    "book.audit",
    "book.openings",
    "book.progress",
    "book.sync",
    "candles",
    "connection.canary",
    "connection.connection",
    "connection.heartbeat",
    "connection.path",
    "connection.subscriptions",
    "metrics",
    "ordering",
    "rest.exchange_clock",
    "rest.market_rules",
    "rest.pacing",
}
IMPURE = {
    "time",
    "socket",
    "ssl",
    "asyncio",
    "anyio",
    "trio",
    "threading",
    "os",
    "logging",
    "subprocess",
    "aiohttp",
    "aiohttp_socks",
    "h11",
    "python_socks",
    "wsproto",
}


def sources(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def module_of(package: Path, path: Path) -> str:
    """The dotted name of a module inside its package."""
    return ".".join(path.relative_to(package).with_suffix("").parts)


def imports(path: Path, package: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, wherever in the file."""
    depth = [package.name, *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = depth[: -node.level] if node.level else []
            if node.module:
                yield ".".join([*base, node.module])
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def layer_of(layers: tuple[set[str], ...], module: str) -> int:
    """The row of a module: its own place, or else that of the folder that it lies in."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(layers):
            if ".".join(parts[:length]) in names:
                return number
    raise AssertionError(f"{module} has no layer: say in this test where it belongs")


@pytest.mark.parametrize(("package", "layers"), [(CORE, CORE_LAYERS), (RUNTIME, RUNTIME_LAYERS)])
def test_no_arrow_points_upward_or_sideways(package: Path, layers: tuple[set[str], ...]) -> None:
    wrong = []
    for path in sources(package):
        importer = module_of(package, path)
        for name in imports(path, package):
            head, _, imported = name.partition(".")
            if head != package.name or imported.split(".")[0] == importer.split(".")[0]:
                continue
            if layer_of(layers, imported or "__init__") >= layer_of(layers, importer):
                wrong.append(f"{importer} imports {name}")
    assert wrong == []


def test_machines_do_not_know_each_other() -> None:
    wrong = []
    for machine in sorted(MACHINES):
        path = CORE.joinpath(*machine.split(".")).with_suffix(".py")
        known = {name.partition(".")[2] for name in imports(path, CORE)}
        wrong += [f"{machine} imports {other}" for other in sorted(known & MACHINES - {machine})]
    assert wrong == []


def test_every_folder_has_a_place_of_its_own() -> None:
    """A row without a module behind it, or a folder without a row, would make the table lie."""
    for package, layers in ((CORE, CORE_LAYERS), (RUNTIME, RUNTIME_LAYERS)):
        there = {module_of(package, path).split(".")[0] for path in sources(package)}
        assert there == {name.split(".")[0] for names in layers for name in names}


def test_the_core_does_not_know_the_runtime() -> None:
    assert [path.name for path in sources(CORE) for name in imports(path, CORE) if name.startswith("backpack_runtime")] == []


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_is_pure(path: Path) -> None:
    assert IMPURE.isdisjoint(name.split(".")[0] for name in imports(path, CORE))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
            # Only a generator that was handed in may be drawn from. `random.Random` is its type.
            is_module = node.value.id == "random" and "random" in imports(path, CORE)
            assert not is_module or node.attr == "Random"


def test_hypothesis_is_asked_for_by_the_tools_for_tests_alone() -> None:
    users = {
        module_of(CORE.parent, path)
        for package in (CORE, RUNTIME)
        for path in sources(package)
        if any(name.split(".")[0] == "hypothesis" for name in imports(path, package))
    }
    assert users
    assert all(user.startswith(("backpack_proto.testing.strategies.", "backpack_proto.testing.laws")) for user in users), users


SIMULATED_SESSION = """
import sys
import msgspec, nacl.signing, nacl.bindings, heapq, random, datetime, decimal, difflib, json, urllib.parse
before = set(sys.modules)
from random import Random
from backpack_proto.exchange import Exchange
from backpack_proto.inputs import Open, Subscribe
from backpack_proto.machine import Now
from backpack_proto.session import Session
from backpack_proto.testing.simulation import Simulation
session = Session(Random(1), measure_clock=True)
simulation = Simulation(session, Exchange(seed=1, unix_us=1_700_000_000_000_000), Now(1_000, 1_700_000_000_000_000))
simulation.give(Open(), Subscribe(("depth.SOL_USDC", "bookTicker.SOL_USDC")))
simulation.run(20_000_000)
assert session.book("SOL_USDC").is_live(simulation.now.mono_us), "the session did not run"
print(*sorted(set(sys.modules) - before))
print(*sorted(sys.modules))
"""


def test_a_whole_simulated_session_loads_nothing_impure() -> None:
    """The interpreter and the libraries have some of these loaded themselves. The core must not add one."""
    output = subprocess.run(
        [sys.executable, "-c", SIMULATED_SESSION], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    added, loaded = (set(line.split()) for line in output)
    assert "backpack_proto.session" in added
    assert IMPURE.isdisjoint(added)
    assert {"socket", "ssl", "asyncio", "anyio", "trio", "h11", "wsproto"}.isdisjoint(loaded)
