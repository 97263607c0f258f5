"""The wheel as users get it: built here, installed where nothing else of this project is.

The quick tests do not download anything. Their environment has the wheel, put there by pip, and a copy of the files of the cryptofeed
that runs these tests, with its metadata. All other libraries, or those that an extra asks for, are links to the installed ones. The
gate installs each extra from the package index instead, as users do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backpack_proto import __version__
from backpack_proto.exchange import THROWAWAY_API_KEY, THROWAWAY_SECRET
from proxy_programs import PROGRAMS, missing, run_proxy
from wheel_environments import BUILT_KERNELS, LACKING, ROOT, Environment, copy_tree, run

if LACKING:
    pytest.skip(f"{LACKING} is not installed", allow_module_level=True)

SHIM = "backpack_runtime/cryptofeed/_shim.py"
IMPORT_LINE = "from cryptofeed.exchanges.backpack import BackpackConfig, BackpackFeed"
FIRST_LINE = f"""{IMPORT_LINE}
import backpack_runtime.cryptofeed as package, cryptofeed.exchanges.backpack as shim
from cryptofeed.exchanges import EXCHANGE_MAP
assert (BackpackConfig, BackpackFeed) == (package.BackpackConfig, package.BackpackFeed)
assert all(getattr(shim, name) is getattr(package, name) for name in package.__all__) and shim.__all__ == package.__all__
assert EXCHANGE_MAP["BACKPACK"] is package.CcxtBackpackFeed
config = BackpackConfig(
    enable_private_channels=True,
    auth={{"api_key": "{THROWAWAY_API_KEY}", "public_key": "{THROWAWAY_API_KEY}", "private_key": "{THROWAWAY_SECRET}"}},
    proxies={{"url": "socks5://proxy.example:1080"}},
    window_ms=5000,
    use_sandbox=False,
)
print(package.__file__, shim.__file__, sep="\\n")
"""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# As it is printed where this feed was asked for.
SPECIFIED = """
from cryptofeed.exchanges.backpack import BackpackConfig, BackpackFeed

config = BackpackConfig(
    enable_private_channels=True,
    auth={
        "api_key": "your-api-key",
        "public_key": "<32-byte hex or base64>",
        "private_key": "<32-byte hex or base64>",
    },
    proxies={"url": "socks5://proxy.example:1080"},
    window_ms=5000,
    use_sandbox=False,
)

feed = BackpackFeed(
    config=config,
    symbols=["BTC-USDT"],
    channels=["trades", "l2_book"],
)
"""
AND_RUN = """
import signal
from cryptofeed import FeedHandler

async def on_trade(trade, receipt_timestamp):
    if not told:
        told.append(trade)
        signal.raise_signal(signal.SIGINT)

told = []
feed.callbacks["trades"] = [on_trade]
handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
handler.add_feed(feed)
handler.run()
print(told[0].symbol, feed.health().metrics["proxy_failures"])
"""

needs_cryptofeed = pytest.mark.skipif(importlib.util.find_spec("cryptofeed") is None, reason="cryptofeed is not installed")


def required(*extras: str) -> set[str]:
    """Names of all distributions that the project asks for with these extras, except cryptofeed, which is copied."""
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    wanted += [Requirement(line) for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    found: set[str] = set()
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        found.add(canonicalize_name(requirement.name))
        for line in importlib.metadata.requires(requirement.name) or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in requirement.extras | {""}):
                wanted.append(further)
    return found - {"cryptofeed"}


def test_the_wheel_has_two_packages_a_finder_and_the_tools(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {
        "_backpack_feed_finder.py",
        "backpack_feed.pth",
        "backpack_proto",
        "backpack_runtime",
        f"backpack_feed-{__version__}.dist-info",
        "tools",
    }
    assert [name for name in names if name.startswith("tools/")] == [
        "tools/backpack_auth_check.py",
        "tools/make_sync_client.py",
        "tools/plain_language.py",
    ]
    assert {name for name in names if name.startswith("backpack_runtime/serving/page/")} == {
        f"backpack_runtime/serving/page/{name}"
        for name in ("dashboard.css", "dashboard.js", "drawing.js", "icon.svg", "index.html")
    }
    lines = metadata.splitlines()
    assert f"Version: {__version__}" in lines
    assert {line for line in lines if line.startswith("Provides-Extra: ")} == {
        f"Provides-Extra: {extra}" for extra in PROJECT["optional-dependencies"]
    }
    assert "Requires-Dist: cryptofeed>=2.4.1; extra == 'cryptofeed'" in lines
    assert not [line for line in lines if line.startswith("Requires-Dist: backpack")]
    assert not [
        line for line in lines if line.startswith(("Requires-Dist: trustme", "Requires-Dist: trio")) and "extra" not in line
    ]


@needs_cryptofeed
def test_the_documented_line_is_the_first_of_a_program(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=True)
    untouched = environment.files()
    environment.install(str(wheel))
    ended = environment.run(FIRST_LINE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [
        str(environment.site / "backpack_runtime" / "cryptofeed" / "__init__.py"),
        str(environment.site / SHIM),
    ]
    assert environment.run(IMPORT_LINE, "-I").returncode == 0

    # Another cryptofeed in the place of this one, as an upgrade makes it.
    environment.remove_cryptofeed()
    environment.copy_cryptofeed()
    assert environment.run(IMPORT_LINE).returncode == 0

    assert environment.pip("uninstall", "-y", "backpack-feed").returncode == 0
    assert environment.files() == untouched
    ended = environment.run("from cryptofeed.exchanges import EXCHANGE_MAP; print('BACKPACK' in EXCHANGE_MAP)")
    assert (ended.stdout.split(), ended.stderr) == (["False"], "")
    assert f"No module named '{IMPORT_LINE.split()[1]}'" in environment.run(IMPORT_LINE).stderr


@needs_cryptofeed
def test_cryptofeed_may_come_later_and_lie_elsewhere(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=False)
    environment.install(str(wheel))
    elsewhere = environment.copy_cryptofeed(environment.folder / "elsewhere")
    ended = environment.run(FIRST_LINE, PYTHONPATH=str(elsewhere))
    assert ended.returncode == 0, ended.stderr
    environment.copy_cryptofeed()
    assert environment.run(IMPORT_LINE).returncode == 0


@needs_cryptofeed
def test_a_module_that_cryptofeed_brings_itself_comes_first(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=True)
    environment.install(str(wheel))
    (environment.site / "cryptofeed" / "exchanges" / "backpack.py").write_text("BackpackConfig = BackpackFeed = 'theirs'\n")
    ended = environment.run(f"{IMPORT_LINE}\nprint(BackpackFeed)")
    assert (ended.stdout, ended.stderr) == ("theirs\n", "")


@needs_cryptofeed
@pytest.mark.required
@pytest.mark.skipif(bool(missing("microsocks")), reason="microsocks is not installed")
def test_the_specified_program_runs(wheel: Path, make_environment: Callable[..., Environment], tmp_path: Path) -> None:
    """With the sandbox, its keys, one of its markets (the exchange has none in USDT) and a proxy that is there."""
    environment = make_environment(cryptofeed=True)
    environment.install(str(wheel))
    with run_proxy(PROGRAMS["microsocks"]) as proxy:
        ended = environment.run(specified(proxy.url("socks5")) + AND_RUN, XDG_CACHE_HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["SOL-USDC", "0"]


def specified(proxy: str | None) -> str:
    """The specified program with what is true here, or None for no proxy."""
    program = SPECIFIED
    for printed, meant in (
        ("your-api-key", THROWAWAY_API_KEY),
        ('"public_key": "<32-byte hex or base64>"', f'"public_key": "{THROWAWAY_API_KEY}"'),
        ('"private_key": "<32-byte hex or base64>"', f'"private_key": "{THROWAWAY_SECRET}"'),
        ('{"url": "socks5://proxy.example:1080"}', "None" if proxy is None else f'{{"url": "{proxy}"}}'),
        ("use_sandbox=False", "use_sandbox=True"),
        ("BTC-USDT", "SOL-USDC"),
    ):
        assert program.count(printed) == 1
        program = program.replace(printed, meant)
    return program


@needs_cryptofeed
def test_it_is_there_in_an_editable_install_as_well(make_environment: Callable[..., Environment], tmp_path: Path) -> None:
    environment = make_environment(cryptofeed=True)
    untouched = environment.files()
    tree = copy_tree(tmp_path / "tree")
    environment.install("--no-build-isolation", "--editable", str(tree))
    ended = environment.run(FIRST_LINE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(tree / "backpack_runtime" / "cryptofeed" / "__init__.py"), str(tree / SHIM)]
    assert environment.command("--version").stdout == f"backpack-feed {__version__} ({BUILT_KERNELS})\n"
    assert environment.pip("uninstall", "-y", "backpack-feed").returncode == 0
    assert environment.files() == untouched


def test_without_cryptofeed_there_is_no_cryptofeed(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=False)
    untouched = environment.files()
    environment.install(str(wheel))
    for program in (IMPORT_LINE, "import cryptofeed.exchanges.backpack", "import cryptofeed"):
        ended = environment.run(program)
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'cryptofeed'"
    last = environment.run("import backpack_runtime.cryptofeed").stderr.splitlines()[-1]
    assert 'the feed for cryptofeed needs the extra "cryptofeed" (No module named' in last
    assert 'pip install ".[cryptofeed]"' in last
    assert environment.pip("uninstall", "-y", "backpack-feed").returncode == 0
    assert environment.files() == untouched


def test_the_finder_loads_nothing_but_itself(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=False)
    modules = "import sys; print(*sys.modules)"
    before = set(environment.run(modules).stdout.split())
    environment.install(str(wheel))
    ended = environment.run(modules)
    assert (set(ended.stdout.split()) - before, ended.stderr) == ({"_backpack_feed_finder"}, "")
    twice = "import sys, _backpack_feed_finder as ours; ours.install(); print(sys.meta_path.count(ours.BackpackFinder))"
    assert environment.run(twice).stdout == "1\n"


def test_the_tool_leaves_room_for_tools_of_the_user(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=False)
    environment.install(str(wheel))
    keys = ("--api-key", THROWAWAY_API_KEY, "--public-key", THROWAWAY_API_KEY, "--private-key", THROWAWAY_SECRET)

    def check() -> subprocess.CompletedProcess[str]:
        return run(str(environment.python), "-m", "tools.backpack_auth_check", *keys, cwd=environment.folder)

    assert "OK: " in check().stdout
    own = environment.folder / "tools"
    own.mkdir()
    (own / "of_the_user.py").write_text("print('own')\n")
    assert "OK: " in check().stdout
    assert environment.run("import tools.of_the_user, tools.backpack_auth_check").stdout == "own\n"
    # A package with an __init__.py hides all others of its name, ours as well and never the other way round.
    (own / "__init__.py").touch()
    assert environment.run("import tools.of_the_user").stdout == "own\n"
    assert "No module named tools.backpack_auth_check" in check().stderr


ALONE = {
    "aiohttp": ("watch", "--sandbox", "--runtime", "aiohttp", "--seconds", "0.5", "--json"),
    "trio": ("watch", "--sandbox", "--backend", "trio", "--seconds", "0.5", "--json"),
    "ccxt": ("parity", "--sandbox", "--seconds", "2", "--json"),
}
WITH_HYPOTHESIS = """
from hypothesis import find
from backpack_proto.testing.strategies import book_histories

print(find(book_histories(), lambda history: True).symbol)
"""
WITH_PARQUET = """
from tempfile import TemporaryDirectory
from backpack_proto.testing import Simulation
from backpack_runtime import export_events
import pyarrow.parquet

simulation = Simulation.of_streams("depth.SOL_USDC", "trade.SOL_USDC")
simulation.run(3_000_000)
with TemporaryDirectory() as folder:
    for file in export_events(simulation.events, folder, to="parquet", only=["trades"]).files:
        print(pyarrow.parquet.read_table(file.path).column("price").type)
"""
WITH_TLS = """
import anyio
from backpack_runtime import BackpackClient, serve_sandbox

async def main():
    async with serve_sandbox(tls=True) as sandbox:
        async with BackpackClient(["SOL_USDC"], settings=sandbox.settings) as client:
            print("https" in sandbox.rest_url, type(await anext(client)).__name__)

anyio.run(main)
"""
WITH_BROWSER = """
import anyio, urllib.request
from backpack_runtime import BackpackClient, serve_dashboard

def read(url):
    return urllib.request.urlopen(url).read().decode()

async def main():
    async with BackpackClient(["SOL_USDC"], sandbox=True) as client, serve_dashboard(client, port=0) as url:
        for path in ("", "dashboard.js", "drawing.js", "dashboard.css", "icon.svg", "metrics"):
            print(len(await anyio.to_thread.run_sync(read, url + path)) > 200)

anyio.run(main)
"""

WITH_METRICS = """
from prometheus_client import CollectorRegistry, generate_latest
from backpack_runtime import BackpackClient
from backpack_runtime.prometheus import BackpackCollector

registry = CollectorRegistry()
registry.register(BackpackCollector(BackpackClient(["SOL_USDC"])))
print("backpack_running 0.0" in generate_latest(registry).decode().splitlines())
"""


def check_extra(environment: Environment, extra: str) -> None:
    """Use what an extra is for."""
    if extra == "tls-sandbox":
        ended = environment.run(WITH_TLS)
        assert ended.stdout.split() == ["True", "ConnectionUp"], ended.stderr
    elif extra == "metrics":
        ended = environment.run(WITH_METRICS)
        assert ended.stdout.split() == ["True"], ended.stderr
    elif extra == "nats":
        ended = environment.command("publish", "--sandbox", "--nats", "nats://127.0.0.1:1")
        assert "NATS at nats://127.0.0.1:1 cannot be reached" in ended.stderr
    elif extra == "testing":
        ended = environment.run(WITH_HYPOTHESIS)
        assert ended.stdout.split() == ["SOL_USDC"], ended.stderr
    elif extra == "parquet":
        ended = environment.run(WITH_PARQUET)
        assert ended.stdout.split("\n") == ["decimal128(30, 10)", ""], ended.stderr
    elif extra == "serve":
        ended = environment.run(WITH_BROWSER)
        assert ended.stdout.split() == ["True"] * 6, ended.stderr
        ended = environment.command("serve", "--sandbox", "--port", "0", "--seconds", "0.5")
        assert (ended.returncode, ended.stdout[:17]) == (0, "http://127.0.0.1:"), ended.stderr
    elif extra == "cryptofeed":
        ended = environment.run(specified(None) + AND_RUN, XDG_CACHE_HOME=str(environment.folder))
        assert ended.stdout.split() == ["SOL-USDC", "0"], ended.stderr
    else:
        ended = environment.command(*ALONE[extra])
        # Feeds that have run for so short a time need not agree.
        assert ended.returncode in ({0, 1} if extra == "ccxt" else {0}), ended.stderr
        assert json.loads(ended.stdout.splitlines()[0])


EXTRAS = [
    "aiohttp",
    pytest.param("ccxt", marks=[needs_cryptofeed, pytest.mark.gate]),
    pytest.param("cryptofeed", marks=needs_cryptofeed),
    "metrics",
    "nats",
    "parquet",
    "serve",
    "testing",
    "tls-sandbox",
    "trio",
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_alone_is_enough(extra: str, wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=extra in {"ccxt", "cryptofeed"}, only=required(extra))
    environment.install(str(wheel))
    check_extra(environment, extra)


def test_without_extras_each_command_works_or_says_what_it_needs(
    wheel: Path, make_environment: Callable[..., Environment]
) -> None:
    environment = make_environment(cryptofeed=False, only=required())
    environment.install(str(wheel))
    assert environment.command("--version").stdout == f"backpack-feed {__version__} ({BUILT_KERNELS})\n"
    assert environment.command("watch", "--sandbox", "--seconds", "0.5").returncode == 0
    for extra, *arguments in (
        ("aiohttp", "watch", "--sandbox", "--runtime", "aiohttp"),
        ("aiohttp", "account", "--sandbox", "--runtime", "aiohttp"),
        ("trio", "watch", "--sandbox", "--backend", "trio"),
        ("nats", "publish", "--sandbox", "--nats", "nats://127.0.0.1:1"),
        ("serve", "serve", "--sandbox"),
        ("tls-sandbox", "sandbox", "--tls"),
        ("cryptofeed", "parity", "--sandbox"),
    ):
        ended = environment.command(*arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        [line] = ended.stderr.splitlines()
        assert f'needs the extra "{extra}" (No module named ' in line


@pytest.mark.gate
@pytest.mark.parametrize(
    "extra", ["aiohttp", "ccxt", "cryptofeed", "metrics", "nats", "parquet", "serve", "testing", "tls-sandbox", "trio"]
)
def test_a_plain_install_from_the_index_with_one_extra(extra: str, wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    installed = environment.pip("install", f"{wheel}[{extra}]")
    if "No matching distribution found" in installed.stderr or "ConnectionError" in installed.stderr:
        pytest.skip("there is no package index to install from")
    assert installed.returncode == 0, installed.stderr
    check_extra(environment, extra)
    if extra == "cryptofeed":
        ended = environment.run(FIRST_LINE)
        assert ended.returncode == 0, ended.stderr
        assert all(path.startswith(str(environment.site)) for path in ended.stdout.split())
