"""The wheel as users get it: built here, installed where nothing else of this project is.

The quick tests do not download anything. Their environment has the wheel, put there by pip, and a copy of the files of the cryptofeed
that runs these tests, with its metadata; all other libraries are links to the installed ones. One test of the gate installs everything
from the package index instead, as users do.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from backpack_proto.exchange import THROWAWAY_API_KEY, THROWAWAY_SECRET
from proxy_programs import PROGRAMS, missing, run_proxy

ROOT = Path(__file__).parents[2]
SHIM = "cryptofeed/exchanges/backpack.py"
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

for _module in ("hatchling", "editables", "pip"):
    if importlib.util.find_spec(_module) is None:
        pytest.skip(f"{_module} is not installed", allow_module_level=True)

needs_cryptofeed = pytest.mark.skipif(
    importlib.util.find_spec("cryptofeed") is None or importlib.util.find_spec("cryptofeed.feed") is None,
    reason="cryptofeed is not installed",
)


class Environment:
    """A virtual environment without pip, driven by that of the interpreter that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip", str(folder))
        self.site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def link_libraries(self) -> None:
        """Make everything importable that is installed, but for cryptofeed and this project."""
        libraries = self.folder / "libraries"
        libraries.mkdir()
        for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(installed).iterdir():
                if not entry.name.startswith(("cryptofeed", "backpack", "_editable", "__pycache__")) and entry.suffix != ".pth":
                    (libraries / entry.name).symlink_to(entry)
        (self.site / "libraries.pth").write_text(f"{libraries}\n")

    def copy_cryptofeed(self) -> None:
        """Install cryptofeed, without asking pip."""
        for file in importlib.metadata.distribution("cryptofeed").files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = self.site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "pip", "--python", str(self.python), *arguments, timeout=900)

    def install(self, *what: str) -> None:
        ended = self.pip("install", "--no-deps", "--no-index", *what)
        assert ended.returncode == 0, ended.stderr

    def run(self, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run(str(self.python), "-c", program, cwd=self.folder, variables=variables)

    def cryptofeed_files(self) -> dict[str, str]:
        """What is in cryptofeed's directory, but for what Python makes of it."""
        return {
            str(path.relative_to(self.site)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.site.glob("cryptofeed*/**/*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def run(
    *command: str, cwd: Path | None = None, timeout: float = 120, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CRYPTOFEED_", "COV_"))}
    outside |= variables or {}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=outside)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[..., Environment]:
    def make(*, cryptofeed: bool) -> Environment:
        environment = Environment(tmp_path / "environment")
        environment.link_libraries()
        if cryptofeed:
            environment.copy_cryptofeed()
        return environment

    return make


def test_the_wheel_puts_one_module_into_cryptofeed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        shim = archive.read(SHIM)
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert [name for name in names if name.startswith("cryptofeed")] == [SHIM]
    assert {name.split("/")[0].removesuffix(".dist-info").rpartition("-")[0] or name.split("/")[0] for name in names} == {
        "backpack_proto",
        "backpack_runtime",
        "cryptofeed",
        "backpack_feed",
    }
    assert shim == (ROOT / "backpack_runtime" / "cryptofeed" / "_shim.py").read_bytes()
    assert "Requires-Dist: cryptofeed>=2.4.1; extra == 'cryptofeed'" in metadata


@needs_cryptofeed
def test_the_documented_line_is_the_first_of_a_program(wheel: Path, make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=True)
    untouched = environment.cryptofeed_files()
    assert untouched
    environment.install(str(wheel))
    ended = environment.run(FIRST_LINE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [
        str(environment.site / "backpack_runtime" / "cryptofeed" / "__init__.py"),
        str(environment.site / SHIM),
    ]

    assert environment.pip("uninstall", "-y", "backpack-feed").returncode == 0
    assert environment.cryptofeed_files() == untouched
    ended = environment.run("from cryptofeed.exchanges import EXCHANGE_MAP; print('BACKPACK' in EXCHANGE_MAP)")
    assert ended.stdout.split() == ["False"], ended.stderr
    assert f"No module named '{IMPORT_LINE.split()[1]}'" in environment.run(IMPORT_LINE).stderr


@needs_cryptofeed
@pytest.mark.required
@pytest.mark.skipif(bool(missing("microsocks")), reason="microsocks is not installed")
def test_the_specified_program_runs(wheel: Path, make_environment: Callable[..., Environment], tmp_path: Path) -> None:
    """With the sandbox, its keys, one of its markets (the exchange has none in USDT) and a proxy that is there."""
    environment = make_environment(cryptofeed=True)
    environment.install(str(wheel))
    with run_proxy(PROGRAMS["microsocks"]) as proxy:
        program = SPECIFIED
        for printed, meant in (
            ("your-api-key", THROWAWAY_API_KEY),
            ('"public_key": "<32-byte hex or base64>"', f'"public_key": "{THROWAWAY_API_KEY}"'),
            ('"private_key": "<32-byte hex or base64>"', f'"private_key": "{THROWAWAY_SECRET}"'),
            ("socks5://proxy.example:1080", proxy.url("socks5")),
            ("use_sandbox=False", "use_sandbox=True"),
            ("BTC-USDT", "SOL-USDC"),
        ):
            assert program.count(printed) == 1
            program = program.replace(printed, meant)
        ended = environment.run(program + AND_RUN, XDG_CACHE_HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["SOL-USDC", "0"]


@needs_cryptofeed
def test_it_is_there_in_an_editable_install_as_well(make_environment: Callable[..., Environment]) -> None:
    environment = make_environment(cryptofeed=True)
    environment.install("--no-build-isolation", "--editable", str(ROOT))
    ended = environment.run(FIRST_LINE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [
        str(ROOT / "backpack_runtime" / "cryptofeed" / "__init__.py"),
        str(environment.site / SHIM),
    ]


def test_without_cryptofeed_every_way_in_says_what_to_install(
    wheel: Path, make_environment: Callable[..., Environment]
) -> None:
    environment = make_environment(cryptofeed=False)
    environment.install(str(wheel))
    for program in (IMPORT_LINE, "import cryptofeed.exchanges.backpack", "import backpack_runtime.cryptofeed"):
        ended = environment.run(program)
        assert ended.returncode == 1
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("ImportError: ")
        assert last.endswith('pip install "backpack-feed[cryptofeed]"')
    assert environment.run("from backpack_runtime import BackpackClient").returncode == 0
    assert environment.pip("uninstall", "-y", "backpack-feed").returncode == 0
    assert environment.cryptofeed_files() == {}


@pytest.mark.gate
def test_a_plain_install_from_the_index_with_the_extra(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    installed = environment.pip("install", f"{wheel}[cryptofeed]")
    if "No matching distribution found" in installed.stderr or "ConnectionError" in installed.stderr:
        pytest.skip("there is no package index to install from")
    assert installed.returncode == 0, installed.stderr
    ended = environment.run(FIRST_LINE)
    assert ended.returncode == 0, ended.stderr
    assert all(path.startswith(str(environment.site)) for path in ended.stdout.split())
