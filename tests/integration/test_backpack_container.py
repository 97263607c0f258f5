"""The container's parts that run without one: its health check, and the commands that build and install the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from wheel_environments import NO_COMPILER, ROOT, copy_tree

PATIENCE_SECONDS = 60
TOKEN = "0123456789abcdef0123456789abcdef"
HEALTH = ROOT / "deploy/container/health.py"


class Asked(BaseHTTPRequestHandler):
    """A server whose `/health` answers what its path says, to those with the token."""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.send_response(int(self.path[1:]) if allowed else 401)
        self.end_headers()
        self.wfile.write(b'{"reasons": ["the connection is down"]}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Asked) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def asked(url: str, *, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run the health check as the image does, but for its address. A proxy of the exchange is none of its business."""
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
    environment.pop("BACKPACK_FEED_TOKEN", None)
    if token is not None:
        environment["BACKPACK_FEED_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-W", "error", str(HEALTH), url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_a_feed_that_is_well_is_healthy_and_one_that_is_not_says_why(server: str) -> None:
    assert asked(f"{server}/200").returncode == 0
    unwell = asked(f"{server}/503")
    assert (unwell.returncode, unwell.stderr) == (1, "")
    assert "the connection is down" in unwell.stdout


def test_without_the_token_the_check_fails_and_says_what_to_set(server: str) -> None:
    refused = asked(f"{server}/200", token=None)
    assert (refused.returncode, refused.stderr) == (1, "")
    assert "BACKPACK_FEED_TOKEN" in refused.stdout


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    gone = asked("http://127.0.0.1:9/health")
    assert (gone.returncode, gone.stderr) == (1, "")
    assert len(gone.stdout.splitlines()) == 1


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The command `serve` as the image runs it, on a free port. Gives its address."""
    command = [sys.executable, "-m", "backpack_runtime.cli.parser", "serve", "--host", "0.0.0.0", "--port", "0", *arguments]
    environment = {**os.environ, "BACKPACK_FEED_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 143


@pytest.mark.skipif(find_spec("backpack_runtime.cli.serve") is None, reason="there is no command serve")
def test_a_feed_that_serves_a_sandbox_becomes_healthy() -> None:
    with serving("--sandbox", "SOL_USDC") as url:
        answers = []
        for _ in range(60):
            answers.append(asked(f"{url}/health"))
            if answers[-1].returncode == 0:
                break
        assert answers[-1].returncode == 0, answers[-1].stdout
        assert asked(f"{url}/health", token="another-token-of-32-characters-x").returncode == 1


@pytest.mark.gate
@pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))
def test_the_commands_of_the_image_build_a_wheel_and_install_it(tmp_path: Path) -> None:
    """The same commands in folders of this test, with this interpreter. The libraries come from the package index."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    commands = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN") and "pip" in line]
    assert len(commands) == 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    tree = copy_tree(tmp_path / "src")
    for command in commands:
        placed = command.replace("/dist", f"{tmp_path}/dist").replace("/opt/", f"{tmp_path}/opt/")
        placed = placed.replace("pip wheel", "python -m pip wheel")
        done = subprocess.run(
            ["/bin/sh", "-c", placed], cwd=tree, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr
    installed = tmp_path / "opt/backpack-feed/bin"
    for (program, *arguments), said in (
        (["backpack-feed", "--version"], "native kernels"),
        (["python", "-c", "import aiohttp, prometheus_client; print(aiohttp.__version__)"], "3.14"),
    ):
        done = subprocess.run(
            [installed / program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert said in done.stdout
