"""Real proxies of Debian, each on a port of its own: dante, microsocks, squid and tinyproxy.

Each program goes out from an address of its own in 127.0.0.0/8, so that a server on loopback can tell by the address of its
client which of them, if any, carried a connection.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import trustme

__all__ = ["PASSWORD", "PROGRAMS", "USER", "Program", "RunningProxy", "missing", "run_proxies", "run_proxy"]

USER = "feed"
PASSWORD = "s3cret-word"

# The hashes of PASSWORD, for files that want no plain text.
SHA512_CRYPT = "$6$feedfeed$xY4n/BkTO2cnbHOsNwsJuPAe5YLAtdt1H.e57RHZlL1JVc5.Moa3E6EALgoPBPq7FxaZ0LRp0bdgnBERTWir3/"
APACHE_MD5 = "$apr1$feedfeed$r9.MQ5BWe0eyp9pzLKyvf0"

START_SECONDS = 15.0
STOP_SECONDS = 0.5
PORT_ATTEMPTS = 5


class Setup(NamedTuple):
    """What a program is to do."""

    folder: Path
    """Its own, where it may read and write."""
    listen: str
    port: int
    tls_port: int
    """Where it speaks TLS, if it can."""
    outgoing: str
    """The address it connects from."""
    password: bool
    """True when it asks for USER and PASSWORD."""


class Program(NamedTuple):
    """One program of Debian."""

    name: str
    executables: tuple[str, ...]
    schemes: tuple[str, ...]
    """What it speaks without a password."""
    password_schemes: tuple[str, ...]
    """What it speaks when it asks for one."""
    outgoing: str
    prepare: Callable[[Setup], Sequence[str]]
    """Writes the files it needs, and returns the command that runs it in the foreground."""


def _dante(setup: Setup) -> Sequence[str]:
    config = setup.folder / "danted.conf"
    config.write_text(
        f"""logoutput: stderr
internal: {setup.listen} port = {setup.port}
external: {setup.outgoing}
clientmethod: none
socksmethod: {"username" if setup.password else "none"}
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""
    )
    command = [_found("danted"), "-f", str(config), "-p", str(setup.folder / "danted.pid")]
    if not setup.password:
        return command
    # Its users are those of the system. It gets a system of its own instead, in a namespace that nobody else sees.
    passwd, shadow = setup.folder / "passwd", setup.folder / "shadow"
    passwd.write_text(f"{Path('/etc/passwd').read_text().rstrip()}\n{USER}:x:64999:65534::/:/usr/sbin/nologin\n")
    shadow.write_text(f"{USER}:{SHA512_CRYPT}:20000:0:99999:7:::\n")
    script = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/shadow && shift 2 && exec "$@"'
    return [_found("unshare"), "--mount", "sh", "-c", script, "sh", str(passwd), str(shadow), *command]


def _microsocks(setup: Setup) -> Sequence[str]:
    login = ["-u", USER, "-P", PASSWORD] if setup.password else []
    return [_found("microsocks"), "-i", setup.listen, "-p", str(setup.port), "-b", setup.outgoing, *login]


def _squid(setup: Setup) -> Sequence[str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(setup.folder / "ca.pem"))
    issued = authority.issue_cert(setup.listen, "localhost")
    certificate, key, users = (setup.folder / name for name in ("cert.pem", "key.pem", "users"))
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    users.write_text(f"{USER}:{APACHE_MD5}\n")
    login = f"""auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}
auth_param basic realm proxy
auth_param basic children 2 startup=1 idle=1
acl known proxy_auth REQUIRED
http_access allow known
"""
    config = setup.folder / "squid.conf"
    config.write_text(
        f"""http_port {setup.listen}:{setup.port}
https_port {setup.listen}:{setup.tls_port} tls-cert={certificate} tls-key={key}
tcp_outgoing_address {setup.outgoing}
{login if setup.password else "http_access allow all"}
http_access deny all
visible_hostname proxy
cache deny all
cache_mem 0 MB
pinger_enable off
pid_filename none
access_log none
cache_log /dev/null
cache_store_log none
shutdown_lifetime 0 seconds
"""
    )
    return [_found("squid"), "-N", "-d", "1", "-f", str(config)]


def _tinyproxy(setup: Setup) -> Sequence[str]:
    config = setup.folder / "tinyproxy.conf"
    config.write_text(
        f"""Listen {setup.listen}
Port {setup.port}
Bind {setup.outgoing}
Timeout 600
MaxClients 200
LogLevel Info
{f"BasicAuth {USER} {PASSWORD}" if setup.password else ""}
"""
    )
    return [_found("tinyproxy"), "-d", "-c", str(config)]


PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program("dante", ("danted", "unshare"), ("socks4", "socks5", "socks5h"), ("socks5", "socks5h"), "127.0.0.2", _dante),
        Program("microsocks", ("microsocks",), ("socks5", "socks5h"), ("socks5", "socks5h"), "127.0.0.3", _microsocks),
        Program("squid", ("squid",), ("http", "https"), ("http", "https"), "127.0.0.4", _squid),
        Program("tinyproxy", ("tinyproxy",), ("http",), ("http",), "127.0.0.5", _tinyproxy),
    )
}


class RunningProxy:
    """A program at work."""

    def __init__(self, program: Program, setup: Setup) -> None:
        self.program = program
        self.setup = setup
        self._command = program.prepare(setup)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca_file(self) -> Path:
        """The authority behind its own certificate."""
        return self.setup.folder / "ca.pem"

    def url(self, scheme: str, password: str | None = None) -> str:
        """Its address as a user writes it."""
        login = "" if password is None else f"{USER}:{password}@"
        return f"{scheme}://{login}{self.endpoint(scheme)}"

    def endpoint(self, scheme: str) -> str:
        """Host and port."""
        return f"{self.setup.listen}:{self.setup.tls_port if scheme == 'https' else self.setup.port}"

    def start(self) -> None:
        """Run it, and wait until it accepts connections.

        Raises:
            OSError: it ended, or did not accept in time. The text has what it said.
        """
        log = self.setup.folder / "log"
        ports = [self.setup.port, *([self.setup.tls_port] if "https" in self.program.schemes else [])]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        give_up = time.monotonic() + START_SECONDS
        while not all(_accepts(self.setup.listen, port) for port in ports):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise OSError(f"{self.program.name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
        if self._process.poll() is not None:
            raise OSError(f"another program has the port of {self.program.name}")

    def kill(self) -> None:
        """End it as `kill -9` does, with all its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order, so that it waits for its own processes, and for certain."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()


@contextmanager
def run_proxy(
    program: Program, *, password: bool = False, listen: str = "127.0.0.1", outgoing: str | None = None
) -> Iterator[RunningProxy]:
    """Run a program for as long as the block runs.

    Raises:
        OSError: it did not start, on any of several ports.
    """
    with tempfile.TemporaryDirectory(prefix=f"{program.name}-") as name:
        folder = Path(name)
        # Some of the programs give up their rights before they read their files.
        folder.chmod(0o755)
        proxy = _start(program, folder, listen, outgoing or program.outgoing, password=password)
        try:
            yield proxy
        finally:
            proxy.stop()


def _start(program: Program, folder: Path, listen: str, outgoing: str, *, password: bool) -> RunningProxy:
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        port, tls_port = _free_ports(listen)
        proxy = RunningProxy(program, Setup(folder, listen, port, tls_port, outgoing, password))
        try:
            proxy.start()
        except OSError:
            # Programs cannot be handed an open port, so someone may have been faster.
            if not attempts_left:
                raise
        else:
            return proxy
    raise AssertionError("unreachable")


@contextmanager
def run_proxies(programs: Sequence[tuple[str, bool]]) -> Iterator[Mapping[tuple[str, bool], RunningProxy]]:
    """Run several programs, by name and by whether they ask for a password."""
    with ExitStack() as stack:
        yield {
            (name, password): stack.enter_context(run_proxy(PROGRAMS[name], password=password)) for name, password in programs
        }


def missing(*names: str) -> list[str]:
    """The executables of these programs that are not installed."""
    return [executable for name in names for executable in PROGRAMS[name].executables if _find(executable) is None]


def _find(executable: str) -> str | None:
    return shutil.which(executable, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _found(executable: str) -> str:
    path = _find(executable)
    if path is None:
        raise OSError(f"{executable} is not installed")
    return path


def _free_ports(listen: str) -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((listen, 0))
        other.bind((listen, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _accepts(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
