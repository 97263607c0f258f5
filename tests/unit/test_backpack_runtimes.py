"""The list of runtimes, and one that another package adds to it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backpack_proto.errors import LocalProtocolError
from backpack_runtime import BackpackClient, transports
from backpack_runtime.cli.parser import main
from backpack_runtime.settings import Settings
from backpack_runtime.transports import BUILT_IN, GROUP, runtime_names, transport_of
from backpack_runtime.transports.base import SocketTransport

SOURCE = """
from backpack_runtime.transports.mock import MockTransport, respond
from backpack_proto.outputs import SendRequest

MADE = []


def script(action):
    if isinstance(action, SendRequest):
        yield respond(action, b"[]")


def make(addresses, *, compression=False):
    MADE.append((addresses.rest.host, compression))
    return MockTransport(script)


NUMBER = 5
"""


@pytest.fixture
def curio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package that adds runtimes, some of them broken, in the way that an installer does it."""
    (tmp_path / "curio_runtime.py").write_text(SOURCE)
    metadata = tmp_path / "curio_runtime-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: curio-runtime\nVersion: 1.2\n")
    lines = (
        "curio = curio_runtime:make",
        "number = curio_runtime:NUMBER",
        "gone = curio_runtime:gone",
        "none = curio_gone:make",
    )
    # Nobody takes the place of a runtime of ours.
    (metadata / "entry_points.txt").write_text("\n".join((f"[{GROUP}]", *lines, "anyio = curio_runtime:make", "")))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("curio_runtime", None)


def test_ours_need_no_installation() -> None:
    assert runtime_names() == tuple(BUILT_IN) == ("anyio", "aiohttp")


@pytest.mark.parametrize("name", BUILT_IN)
def test_ours_are_where_the_list_says(name: str) -> None:
    transport = transport_of(name)
    assert isinstance(transport, type)
    assert issubclass(transport, SocketTransport)
    assert transport.__module__ == BUILT_IN[name].module


def test_every_transport_with_sockets_is_in_the_list() -> None:
    folder = Path(transports.__file__).parent
    found = {
        (".".join(("backpack_runtime", "transports", *path.relative_to(folder).with_suffix("").parts)), name)
        for path in folder.rglob("*.py")
        for name in re.findall(r"^class (\w+)\(SocketTransport\b", path.read_text(), re.MULTILINE)
    }
    # The base of runtimes of others is none by itself.
    base = ("backpack_runtime.transports.stream", "StreamTransport")
    assert found - {base} == {(runtime.module, runtime.transport) for runtime in BUILT_IN.values()}


@pytest.mark.anyio
@pytest.mark.usefixtures("curio")
async def test_a_runtime_of_another_package_carries_a_client() -> None:
    assert runtime_names() == ("anyio", "aiohttp", "curio", "gone", "none", "number")
    client = BackpackClient(channels=(), settings=Settings(runtime="curio", rest_url="https://curio.invalid", compression=True))
    async with client:
        assert list(client.markets) == []
    made = sys.modules["curio_runtime"].MADE
    assert made == [("curio.invalid", True)]


@pytest.mark.usefixtures("curio")
def test_nobody_takes_the_place_of_a_runtime_of_ours() -> None:
    transport = transport_of("anyio")
    assert isinstance(transport, type)
    assert issubclass(transport, SocketTransport)


@pytest.mark.usefixtures("curio")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("gone", r"^runtime 'gone' of curio-runtime 1\.2 cannot be loaded from curio_runtime:gone: .*no attribute 'gone'"),
        ("none", r"^runtime 'none' of curio-runtime 1\.2 cannot be loaded from curio_gone:make: No module named 'curio_gone'"),
        ("number", r"^runtime 'number' of curio-runtime 1\.2 makes no transport: curio_runtime:NUMBER cannot be called"),
        ("nope", r"^runtime: one of anyio, aiohttp, curio, gone, none, number, got 'nope'; did you mean none\?$"),
    ],
)
def test_a_runtime_that_cannot_be_used_says_whose_it_is(name: str, complaint: str) -> None:
    with pytest.raises(LocalProtocolError, match=complaint):
        BackpackClient(settings=Settings(runtime=name))


@pytest.mark.usefixtures("curio")
def test_the_command_line_takes_every_runtime_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", "--runtime", "nope", "SOL_USDC"])
    assert ended.value.code == 2
    assert (
        "argument --runtime: one of anyio, aiohttp, curio, gone, none, number, got 'nope'; did you mean none?"
        in capsys.readouterr().err
    )
    assert main(["watch", "--runtime", "number", "SOL_USDC"]) == 2
    assert "runtime 'number' of curio-runtime 1.2 makes no transport" in capsys.readouterr().err


def test_the_list_loads_no_runtime() -> None:
    program = "import sys; from backpack_runtime.transports import runtime_names; runtime_names(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    loaded = set(ended.stdout.split())
    assert "backpack_runtime.transports" in loaded
    assert loaded.isdisjoint({"anyio", "aiohttp", "backpack_runtime.transports.base"})
