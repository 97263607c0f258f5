"""Which modules are loaded by whom, and what is said where one is missing."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import backpack_proto
import backpack_runtime
from backpack_proto.errors import BackpackError
from backpack_runtime import MissingExtra, serve_sandbox
from backpack_runtime.kernels import kernels_in_use

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
HEAVY = {"aiohttp", "asyncio", "cryptography", "multiprocessing", "nacl", "pydantic", "python_socks", "rich", "trio", "trustme"}


def loaded_by(program: str) -> set[str]:
    """Names of all modules that are loaded after a program has run in an interpreter of its own."""
    program += "\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(ended.stdout.split())


def parts(package: str, loaded: set[str]) -> set[str]:
    """Modules and packages right inside a package."""
    return {name.split(".")[1] for name in loaded if name.startswith(f"{package}.")}


def test_the_client_loads_neither_the_sandbox_nor_other_runtimes() -> None:
    loaded = loaded_by("import backpack_runtime; backpack_runtime.BackpackClient")
    assert "backpack_runtime.client" in loaded
    assert parts("backpack_proto", loaded).isdisjoint({"exchange", "simulation", "testing"})
    assert parts("backpack_runtime", loaded).isdisjoint({"sandbox", "framing_server", "cli", "cryptofeed", "presentation"})
    assert {name for name in loaded if name.startswith("backpack_runtime.transports.aiohttp.transport")} == set()
    assert loaded.isdisjoint(HEAVY)


def test_a_client_of_the_real_exchange_loads_no_sandbox_when_it_is_made() -> None:
    loaded = loaded_by("from backpack_runtime import BackpackClient; BackpackClient(['SOL_USDC'])")
    assert "backpack_runtime.transports.anyio" in loaded
    assert "exchange" not in parts("backpack_proto", loaded)
    assert "sandbox" not in parts("backpack_runtime", loaded)
    assert loaded.isdisjoint(HEAVY - {"asyncio", "python_socks"})


def test_the_core_loads_no_exchange_and_no_cryptography() -> None:
    loaded = loaded_by("import backpack_proto")
    assert "session" in parts("backpack_proto", loaded)
    assert parts("backpack_proto", loaded).isdisjoint({"exchange", "simulation", "testing"})
    assert loaded.isdisjoint(HEAVY | {"anyio", "h11", "wsproto", "ssl", "socket"})


@pytest.mark.parametrize(
    ("option", "loads"), [("--help", {"cli", "platforms"}), ("--version", {"cli", "framing", "kernels", "platforms"})]
)
def test_help_and_version_load_nothing_that_connects(option: str, loads: set[str]) -> None:
    program = f"""
from backpack_runtime.cli.parser import main
try:
    main(["{option}"])
except SystemExit:
    pass"""
    loaded = loaded_by(program)
    assert parts("backpack_runtime", loaded) == loads
    assert loaded.isdisjoint(HEAVY - {"asyncio"} | {"anyio", "h11", "wsproto"})


def test_there_is_one_version(tmp_path: Path) -> None:
    assert "version" in PROJECT["dynamic"]
    assert backpack_runtime.__version__ == backpack_proto.__version__
    ended = subprocess.run(
        [sys.executable, "-m", "backpack_runtime.cli.parser", "--version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,  # in the checkout it would be the checkout that runs, and not what is installed
    )
    assert ended.stdout == f"backpack-feed {backpack_proto.__version__} ({kernels_in_use()})\n"


def test_no_extra_asks_an_index_for_this_project() -> None:
    extras = PROJECT["optional-dependencies"]
    assert not [line for lines in extras.values() for line in lines if "backpack" in line]
    assert sorted(extras["all"]) == sorted({line for name, lines in extras.items() if name != "all" for line in lines})


def test_a_missing_extra_says_how_to_install_it_in_one_line() -> None:
    missing = MissingExtra(
        "a sandbox with TLS", "tls-sandbox", ModuleNotFoundError("No module named 'trustme'", name="trustme")
    )
    assert str(missing) == (
        "a sandbox with TLS needs the extra \"tls-sandbox\" (No module named 'trustme'): in a checkout"
        ' pip install ".[tls-sandbox]", or with the wheel pip install'
        ' "<file of the wheel>[tls-sandbox]"'
    )
    assert isinstance(missing, BackpackError)
    assert isinstance(missing, ImportError)
    assert (missing.feature, missing.extra, missing.name) == ("a sandbox with TLS", "tls-sandbox", "trustme")
    for other in (copy.copy(missing), pickle.loads(pickle.dumps(missing))):  # noqa: S301 - our own
        assert other == missing
        assert str(other) == str(missing)
        assert other.name == "trustme"


@pytest.mark.anyio
async def test_a_sandbox_with_tls_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(MissingExtra) as told:
        async with serve_sandbox(tls=True):
            pass
    assert told.value.extra == "tls-sandbox"
    async with serve_sandbox() as sandbox:
        assert sandbox.ca_file is None


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("aiohttp_socks", ("account", "--sandbox", "--runtime", "aiohttp"), "aiohttp"),
        ("trustme", ("sandbox", "--tls"), "tls-sandbox"),
        ("pydantic", ("parity", "--sandbox", "--seconds", "1"), "cryptofeed"),
        ("ccxt", ("parity", "--sandbox", "--seconds", "1"), "ccxt"),
    ],
)
def test_a_command_without_its_extra_says_so_in_one_line(module: str, arguments: tuple[str, ...], extra: str) -> None:
    if module in {"ccxt", "pydantic"}:
        pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
    program = f"import sys; sys.modules[{module!r}] = None; from backpack_runtime.cli.parser import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert f'needs the extra "{extra}" (' in line
    assert f'pip install ".[{extra}]"' in line


def test_nobody_is_told_to_install_from_an_index_where_the_name_is_not_ours() -> None:
    root = Path(__file__).parents[2]
    texts = [root / "README.md", root / "pyproject.toml", *root.glob("docs/**/*.md"), *root.glob("backpack_*/**/*.py")]
    from_an_index = re.compile(r"""pip install [^\n&|;]*?["' =]backpack[-_]feed(?![-.\w]*\.whl)""")
    assert from_an_index.search('pip install -U "backpack-feed[aiohttp]"')
    wrong = [str(path) for path in texts if from_an_index.search(path.read_text())]
    assert wrong == []
