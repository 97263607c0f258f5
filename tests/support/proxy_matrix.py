"""What a user of each proxy, scheme, password, runtime and kind of traffic gets: the cells, how each is tried, the table.

`python tests/support/proxy_matrix.py` tries all of them and prints the table of docs/proxy-matrix.md. `--write` keeps it there.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import SocketAttribute
from anyio.from_thread import BlockingPortal, start_blocking_portal

from backpack_proto.errors import BackpackError
from backpack_proto.outputs import BookChanged, ConnectionDown
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.proxy_settings import Proxies, Proxy, ProxyAuthFailed
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.settings import Settings
from proxy_programs import PASSWORD, PROGRAMS, RunningProxy, missing, run_proxies
from transports import SOCKETS

__all__ = ["CELLS", "DOCUMENT", "PROXIES", "RUNTIMES", "Cell", "Remote", "check", "document", "serve_elsewhere"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "proxy-matrix.md"
DIRECT = "127.0.0.1"
INTRODUCTION = """# Proxies: what was tried

Real programs of Debian between the client and the simulated exchange, over TLS from end to end. *Carried*: the named traffic, and no
other, reached the exchange from the address of the proxy, and the order book came alive. *Refused, named*: nothing reached the
exchange, and the error, a `ProxyAuthFailed`, says which proxy refused the credentials.

Dante's SOCKS4 knows no names (SOCKS4a), so it was tried with `remote_dns=False`.

`python tests/support/proxy_matrix.py` tries every cell again and prints this table; `--write` keeps it here. The tests try every
cell as well.
"""
PATIENCE_SECONDS = 60

RUNTIMES = SOCKETS
"""The runtime of the client, and the event loop beneath it."""
TRAFFIC = ("REST", "websocket")
PASSWORDS = {"no auth": None, "password": PASSWORD, "wrong password": "guessed"}
CARRIED = "carried"
REFUSED = "refused, named"
PROXIES = [(name, password) for name in PROGRAMS for password in (False, True)]
"""The programs to be run, by name and by whether they ask for a password."""


class Cell(NamedTuple):
    """One combination."""

    program: str
    scheme: str
    access: str
    traffic: str
    runtime: str

    @property
    def expected(self) -> str:
        """What the user gets."""
        return REFUSED if self.access == "wrong password" else CARRIED

    @property
    def asks_password(self) -> bool:
        """True when the program does."""
        return self.access != "no auth"


CELLS = [
    Cell(program.name, scheme, access, traffic, runtime)
    for program in PROGRAMS.values()
    for access in PASSWORDS
    for scheme in (program.schemes if access == "no auth" else program.password_schemes)
    for traffic in TRAFFIC
    for runtime in RUNTIMES
]


class Remote:
    """A simulated exchange over TLS that lives in a thread of its own, whatever event loop a client of it uses."""

    def __init__(self, portal: BlockingPortal, sandbox: Sandbox, folder: Path) -> None:
        self._portal = portal
        self._sandbox = sandbox
        self._folder = folder
        # Not every proxy tries the second address of a name.
        addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", None)}
        host = "localhost" if addresses == {DIRECT} else DIRECT
        self.rest_url = sandbox.rest_url.replace(DIRECT, host)
        self.ws_url = sandbox.ws_url.replace(DIRECT, host)

    @property
    def ca_file(self) -> Path:
        """The authority behind it."""
        assert self._sandbox.ca_file is not None
        return self._sandbox.ca_file

    def trusting(self, proxy: RunningProxy, scheme: str) -> Path:
        """A file with the authorities behind the exchange and, where it has a certificate, the proxy."""
        if scheme != "https":
            return self.ca_file
        both = self._folder / "both.pem"
        both.write_bytes(self.ca_file.read_bytes() + proxy.ca_file.read_bytes())
        return both

    @property
    def connections(self) -> int:
        """How many there ever were."""
        return self._sandbox.connections

    def peers(self, since: int) -> tuple[set[str], set[str]]:
        """Where the connections after the first `since` come from: those of REST, and those of the websocket."""
        return self._portal.call(self._peers, since)

    @property
    def requests(self) -> int:
        """How many were ever made over REST."""
        return self._sandbox._last_request

    def levels(self, symbol: str) -> tuple[object, object, int]:
        """The book as the exchange has it: bids, asks, update id."""
        return self._portal.call(self._sandbox.exchange.levels, symbol)

    def _peers(self, since: int) -> tuple[set[str], set[str]]:
        found: tuple[set[str], set[str]] = (set(), set())
        for client in self._sandbox._clients.values():
            if client.number > since:
                # One that is being closed has no address any more.
                address = client.stream.extra(SocketAttribute.remote_address, None)
                if address is not None:
                    found[client.upgraded].add(str(address[0]))
        return found


@contextmanager
def serve_elsewhere(speed: float = 20.0) -> Iterator[Remote]:
    """Serve a simulated exchange over TLS for as long as the block runs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve_sandbox(tls=True, speed=speed)) as sandbox,
    ):
        yield Remote(portal, sandbox, Path(folder))


def check(cell: Cell, remote: Remote, proxy: RunningProxy) -> None:
    """Try one combination.

    Raises:
        AssertionError: it is not as it has to be.
    """
    anyio.run(_check, cell, remote, proxy, backend=RUNTIMES[cell.runtime][1])


async def _check(cell: Cell, remote: Remote, proxy: RunningProxy) -> None:
    # Dante's SOCKS4 knows no names.
    parsed = Proxy.parse(proxy.url(cell.scheme, PASSWORDS[cell.access]), remote_dns=False if cell.scheme == "socks4" else None)
    since, requests = remote.connections, remote.requests
    client = BackpackClient(
        ["SOL_USDC"],
        channels=["book"],
        settings=Settings(
            rest_url=remote.rest_url,
            ws_url=remote.ws_url,
            ca_file=remote.trusting(proxy, cell.scheme),
            runtime=RUNTIMES[cell.runtime][0],
            proxies=Proxies(rest=parsed) if cell.traffic == "REST" else Proxies(websocket=parsed),
        ),
    )
    through, direct = {proxy.program.outgoing}, {DIRECT}
    failure: BackpackError | None = None
    with anyio.fail_after(PATIENCE_SECONDS):
        try:
            async with client:
                async for event in client:
                    if isinstance(event, ConnectionDown):
                        failure = event.error or BackpackError(event.reason)
                        break
                    if isinstance(event, BookChanged):
                        break
                peers = remote.peers(since)
        except BackpackError as error:
            failure, peers = error, remote.peers(since)
    rest, websocket = peers
    if cell.expected == CARRIED:
        assert failure is None, failure
        assert (rest, websocket) == ((through, direct) if cell.traffic == "REST" else (direct, through))
        assert client.metrics.proxy_failures == 0
    else:
        assert isinstance(failure, ProxyAuthFailed), failure
        named = f"{cell.scheme.replace('5h', '5')}://{proxy.endpoint(cell.scheme)}"
        assert failure.proxy == named
        assert str(failure).startswith(f"proxy {named} refused the credentials")
        assert str(PASSWORDS[cell.access]) not in str(failure)
        assert remote.requests == requests if cell.traffic == "REST" else not websocket, "it went around the proxy"
        assert client.metrics.proxy_failures > 0


def document(outcomes: Mapping[Cell, str]) -> str:
    """The table, as a document."""
    columns = [(traffic, runtime) for traffic in TRAFFIC for runtime in RUNTIMES]
    rows = [
        [program, scheme, access, *(outcomes[Cell(program, scheme, access, *column)] for column in columns)]
        for (program, scheme, access), _ in groupby(outcomes, lambda cell: cell[:3])
    ]
    header = ["program", "scheme", "access", *(f"{traffic}, {runtime}" for traffic, runtime in columns)]
    return "\n".join([INTRODUCTION, *_table([header, *rows]), "", f"{len(outcomes)} combinations.", ""])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        yield f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"


def main(arguments: Sequence[str]) -> int:
    """Try every cell, print the table, and with `--write` keep it."""
    absent = missing(*PROGRAMS)
    if absent:
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
        return 2
    outcomes: dict[Cell, str] = {}
    failures: list[str] = []
    with serve_elsewhere() as remote, run_proxies(PROXIES) as proxies:
        for cell in CELLS:
            try:
                check(cell, remote, proxies[cell.program, cell.asks_password])
            except (AssertionError, BackpackError, TimeoutError) as error:
                outcomes[cell] = "FAILED"
                failures.append(f"{', '.join(cell)}: {error}")
            else:
                outcomes[cell] = cell.expected
    text = document(outcomes)
    print(text)
    for failure in failures:
        print(failure, file=sys.stderr)
    if "--write" in arguments and not failures:
        DOCUMENT.write_text(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
