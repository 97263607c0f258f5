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

# Each module may import from the layers before its own. The machines share one layer: they never import each other.
CORE_LAYERS = (
    {"errors"},
    {"machine", "decoding", "streams"},
    {"payloads", "symbols", "inputs"},
    {"outputs", "keys", "results", "results_reference", "results_account", "results_orders", "endpoint_rules", "holdings"},
    {"signing", "wire", "endpoint_parameters", "book", "readings"},
    {"endpoints_public", "endpoints_account", "endpoints_orders", "endpoints_history"},
    {"endpoints"},
    {"rest", "verification"},
    {"account", "clock", "connection", "heartbeat", "metrics", "pacing", "sequencer", "subscriptions"},
    {"reconciliation", "requests"},
    {"session"},
    {"exchange"},
    {"simulation", "testing"},
    {"__init__"},
)
RUNTIME_LAYERS = (
    {"delivery", "frames", "outgoing", "proxy", "tls", "transport", "recording", "key_sources", "rest_methods"},
    {"proxies"},
    {"addresses", "dialing", "framing", "framing_server", "pump", "auth_check"},
    {"sandbox", "transports"},
    {"client", "cryptofeed"},
    {"presentation"},
    {"cli", "__init__"},
)
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
    """The module, or the package inside the package, that a file belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


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
    found = [number for number, names in enumerate(layers) if module in names]
    assert found, f"{module} has no layer: say in this test where it belongs"
    return found[0]


@pytest.mark.parametrize(("package", "layers"), [(CORE, CORE_LAYERS), (RUNTIME, RUNTIME_LAYERS)])
def test_no_arrow_points_upward_or_sideways(package: Path, layers: tuple[set[str], ...]) -> None:
    wrong = []
    for path in sources(package):
        importer = module_of(package, path)
        for name in imports(path, package):
            parts = name.split(".")
            if parts[0] != package.name:
                continue
            imported = parts[1] if len(parts) > 1 else "__init__"
            if imported == importer:
                continue
            if layer_of(layers, imported) >= layer_of(layers, importer):
                wrong.append(f"{path.name} imports {name}")
    assert wrong == []


def test_the_core_does_not_know_the_runtime() -> None:
    assert [path.name for path in sources(CORE) for name in imports(path, CORE) if name.startswith("backpack_runtime")] == []


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_is_pure(path: Path) -> None:
    assert IMPURE.isdisjoint(name.split(".")[0] for name in imports(path, CORE))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
            # Only a generator that was handed in may be drawn from; `random.Random` is its type.
            is_module = node.value.id == "random" and "random" in imports(path, CORE)
            assert not is_module or node.attr == "Random"


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
assert session.book("SOL_USDC").live, "the session did not run"
print(*sorted(set(sys.modules) - before))
print(*sorted(sys.modules))
"""


def test_a_whole_simulated_session_loads_nothing_impure() -> None:
    """The interpreter and the libraries have some of these loaded themselves; the core must not add one."""
    output = subprocess.run(
        [sys.executable, "-c", SIMULATED_SESSION], check=True, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    added, loaded = (set(line.split()) for line in output)
    assert "backpack_proto.session" in added
    assert IMPURE.isdisjoint(added)
    assert {"socket", "ssl", "asyncio", "anyio", "trio", "h11", "wsproto"}.isdisjoint(loaded)
