"""Real NATS servers with JetStream, each on a port and in a folder of its own, that can be stopped, killed and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NATS_SERVER", "NatsServer", "run_nats"]

NATS_SERVER = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
START_SECONDS = 20.0


class NatsServer:
    """One server. After a restart it is where it was, and has what it had."""

    def __init__(self, folder: Path, *options: str, jetstream: bool = True) -> None:
        self._folder = folder
        self._options = (*(("-js", "-sd", str(folder / "store")) if jetstream else ()), *options)
        self._port = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert NATS_SERVER is not None
        for old in self._folder.glob("*.ports"):
            old.unlink()
        command = (NATS_SERVER, "-a", "127.0.0.1", "-p", str(self._port))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                (*command, "--ports_file_dir", str(self._folder), *self._options), stdout=log, stderr=log
            )
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            found = [path.read_text() for path in self._folder.glob("*.ports")]
            if found and found[0]:
                self._port = int(json.loads(found[0])["nats"][0].rpartition(":")[2])
                return
            time.sleep(0.02)
        raise AssertionError(f"nats-server did not start: {(self._folder / 'log').read_text()}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it as an operator does, with all that it has on the disk."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self._process.wait(START_SECONDS)
            self._process = None


@contextmanager
def run_nats(*options: str, jetstream: bool = True) -> Iterator[NatsServer]:
    """Run a server for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="backpack-nats-") as folder:
        server = NatsServer(Path(folder), *options, jetstream=jetstream)
        try:
            yield server
        finally:
            server.stop()
