"""A client in a network of its own, from which a proxy is the only way out, and everything else that it sends is counted.

Run as root by `unshare --net --mount --pid --fork --mount-proc`, this program is the world: the exchange, the proxies, and a DNS
sentinel that answers each question and remembers it. It puts a client into a second namespace, joined to it by a pair of virtual
devices. What the client sends for the proxies arrives. Everything else follows the default route to a neighbour who is not there,
and is seen on the way by a packet socket. Prints a line of JSON for each run, as `Run` has it.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import anyio
from anyio.from_thread import start_blocking_portal

from backpack_proto.errors import BackpackError
from backpack_proto.outputs import BookChanged, ConnectionDown
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.proxy_settings import Proxies, Proxy
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.settings import Settings
from proxy_matrix import RUNTIMES
from proxy_programs import PROGRAMS, RunningProxy, run_proxy

__all__ = [
    "CLOSED_PORT",
    "DEAD",
    "DIRECT",
    "EXCHANGE",
    "LIVE",
    "LOCAL_DNS",
    "PROGRAM",
    "PROXY_ADDRESS",
    "ROUTES",
    "Run",
    "Way",
    "all_ways",
]

PROGRAM = Path(__file__)

EXCHANGE = "exchange.test"
EXCHANGE_ADDRESS = "10.98.0.1"
PROXY_ADDRESS = "10.99.0.1"
SENTINEL_ADDRESS = "10.99.0.53"
CLIENT_ADDRESS = "10.99.0.9"
NOBODY = "10.99.0.2"
PREFIX = 24

WORLD_DEVICE, CLIENT_DEVICE = "world0", "client0"
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS = 263, 6
ETHERNET_BYTES = 14
ETHERTYPES = {0x0800: 4, 0x86DD: 6}
TCP, UDP = 6, 17
DNS_PORT = 53
CLOSED_PORT = 9
A_RECORD = 1

LIVE = "live"
RUN_SECONDS = 15.0
DIRECT_SECONDS = 1.0
"""Time that a client without a proxy may try in vain."""

ROUTES = [
    ("microsocks", "socks5"),
    ("microsocks", "socks5h"),
    ("dante", "socks5h"),
    ("tinyproxy", "http"),
    ("squid", "http"),
    ("squid", "https"),
]
LOCAL_DNS = ("microsocks", "socks5 with local DNS")
DEAD = [("closed port", "socks5"), ("closed port", "http")]
"""A proxy that is not there."""
DIRECT = ("no proxy", "direct")


class Way(NamedTuple):
    """How a client is to reach the exchange."""

    program: str
    scheme: str
    runtime: str


class Run(NamedTuple):
    """What became of it, and what was seen on the wire meanwhile."""

    way: Way
    outcome: str
    """`LIVE`, or what the client said."""
    proxied: int
    """Packets to proxies."""
    direct: int
    """Packets to anywhere else, questions to the sentinel aside."""
    lookups: list[str]
    """Names that the sentinel was asked for."""
    lost: int
    """Packets that were sent and not counted."""


def all_ways() -> list[Way]:
    """Every run, in order."""
    return [Way(*route, runtime) for route in (*ROUTES, LOCAL_DNS, *DEAD, DIRECT) for runtime in RUNTIMES]


class Sentinel:
    """Answers every question for an address with that of the exchange, and remembers the name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((SENTINEL_ADDRESS, DNS_PORT))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            question, peer = self._socket.recvfrom(4096)
            labels, at = [], 12
            while length := question[at]:
                labels.append(question[at + 1 : at + 1 + length].decode())
                at += 1 + length
            self.asked.append(".".join(labels))
            (kind,) = struct.unpack_from("!H", question, at + 1)
            answer = b"\xc0\x0c" + struct.pack("!HHIH", A_RECORD, 1, 0, 4) + socket.inet_aton(EXCHANGE_ADDRESS)
            answers = 1 if kind == A_RECORD else 0
            header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, 0, 0)
            self._socket.sendto(header + question[12 : at + 5] + answer * answers, peer)


class Counter:
    """Sees each packet that the client sends."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
        self._socket.bind((WORLD_DEVICE, 0))

    def take(self, proxy_ports: set[int]) -> tuple[int, int, int]:
        """Count what has come since the last time: to proxies, to anywhere else, and how many were lost."""
        counts = {"proxied": 0, "direct": 0, "sentinel": 0, "other": 0}
        while select.select([self._socket], [], [], 0.02)[0]:
            frame, address = self._socket.recvfrom(65536)
            if address[2] != PACKET_OUTGOING:
                counts[_destination(frame, proxy_ports)] += 1
        _, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return counts["proxied"], counts["direct"], lost


def _destination(frame: bytes, proxy_ports: set[int]) -> str:
    version = ETHERTYPES.get(int.from_bytes(frame[12:14]))
    packet = frame[ETHERNET_BYTES:]
    if version is None:
        return "other"
    if version == 6:
        return "direct" if packet[6] in (TCP, UDP) else "other"
    if packet[9] not in (TCP, UDP):
        return "other"
    host = socket.inet_ntoa(packet[16:20])
    segment = packet[(packet[0] & 15) * 4 :]
    port = int.from_bytes(segment[2:4])
    if packet[9] == TCP and host == PROXY_ADDRESS and port in proxy_ports:
        return "proxied"
    return "sentinel" if (packet[9], host, port) == (UDP, SENTINEL_ADDRESS, DNS_PORT) else "direct"


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def _replace(folder: Path, contents: dict[str, str]) -> None:
    """Put files of our own over those of the system, in this mount namespace only."""
    for target, text in contents.items():
        own = folder / Path(target).name
        own.write_text(text)
        subprocess.run(["mount", "--bind", str(own), target], check=True)


class Client:
    """The process in the other namespace."""

    def __init__(self) -> None:
        command = ["unshare", "--net", "--mount", sys.executable, str(PROGRAM), "client"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == "ready"
        _ip(f"link set {CLIENT_DEVICE} netns {self._process.pid}")
        assert self.ask({}) == "connected"

    def ask(self, order: dict[str, Any]) -> str:
        """Give it an order, and wait until it is done."""
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return str(json.loads(self._process.stdout.readline()))


@contextmanager
def _link() -> Iterator[Client]:
    _ip("link set lo up")
    _ip(f"address add {EXCHANGE_ADDRESS}/32 dev lo")
    _ip(f"link add {WORLD_DEVICE} type veth peer name {CLIENT_DEVICE}")
    for address in (PROXY_ADDRESS, SENTINEL_ADDRESS):
        _ip(f"address add {address}/{PREFIX} dev {WORLD_DEVICE}")
    _ip(f"link set {WORLD_DEVICE} up")
    client = Client()
    try:
        yield client
    finally:
        client.close()


def be_the_world() -> None:
    """Run every way, and print what became of it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _replace(folder, {"/etc/hosts": f"127.0.0.1 localhost\n{EXCHANGE_ADDRESS} {EXCHANGE}\n"})
        client = stack.enter_context(_link())
        sentinel, counter = Sentinel(), Counter()
        portal = stack.enter_context(start_blocking_portal())
        serving = portal.wrap_async_context_manager(serve_sandbox(host=EXCHANGE, tls=True, speed=20.0))
        sandbox = stack.enter_context(serving)
        proxies = {
            program: stack.enter_context(run_proxy(PROGRAMS[program], listen=PROXY_ADDRESS, outgoing=PROXY_ADDRESS))
            for program in dict(ROUTES)
        }
        assert sandbox.ca_file is not None
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(sandbox.ca_file.read_bytes() + proxies["squid"].ca_file.read_bytes())
        ports = {port for proxy in proxies.values() for port in (proxy.setup.port, proxy.setup.tls_port)} | {CLOSED_PORT}
        for way in all_ways():
            counter.take(ports)
            sentinel.asked.clear()
            order = {
                "runtime": way.runtime,
                "rest_url": sandbox.rest_url,
                "ws_url": sandbox.ws_url,
                "ca_file": str(ca_file),
                "proxy": _proxy_url(way, proxies),
                "remote_dns": False if way[:2] == LOCAL_DNS else None,
            }
            outcome = client.ask(order)
            proxied, direct, lost = counter.take(ports)
            print(json.dumps(Run(way, outcome, proxied, direct, list(sentinel.asked), lost)), flush=True)


def _proxy_url(way: Way, proxies: dict[str, RunningProxy]) -> str | None:
    scheme = way.scheme.split()[0]
    if way[:2] in DEAD:
        return f"{scheme}://{PROXY_ADDRESS}:{CLOSED_PORT}"
    return proxies[way.program].url(scheme) if way.program in proxies else None


def be_the_client() -> None:
    """Say that we are here, wait for the link, and carry out orders until there are no more."""
    _answer("ready")
    orders: IO[str] = sys.stdin
    orders.readline()
    with tempfile.TemporaryDirectory() as name:
        resolver = {
            "/etc/hosts": "127.0.0.1 localhost\n",
            "/etc/resolv.conf": f"nameserver {SENTINEL_ADDRESS}\n",
            "/etc/nsswitch.conf": "hosts: files dns\n",
        }
        _replace(Path(name), resolver)
        _ip("link set lo up")
        _ip(f"address add {CLIENT_ADDRESS}/{PREFIX} dev {CLIENT_DEVICE}")
        _ip(f"link set {CLIENT_DEVICE} up")
        _ip(f"neighbour add {NOBODY} lladdr 02:00:00:00:00:99 dev {CLIENT_DEVICE} nud permanent")
        _ip(f"route add default via {NOBODY}")
        _answer("connected")
        for order in orders:
            _answer(_run_client(json.loads(order)))


def _answer(text: str) -> None:
    print(json.dumps(text), flush=True)


def _run_client(order: dict[str, Any]) -> str:
    runtime, backend = RUNTIMES[order["runtime"]]
    proxies = Proxies()
    if order["proxy"] is not None:
        proxy = Proxy.parse(order["proxy"], remote_dns=order["remote_dns"])
        proxies = Proxies(rest=proxy, websocket=proxy)
    client = BackpackClient(
        ["SOL_USDC"],
        channels=["book"],
        settings=Settings(
            rest_url=order["rest_url"], ws_url=order["ws_url"], ca_file=order["ca_file"], runtime=runtime, proxies=proxies
        ),
    )
    seconds = RUN_SECONDS if order["proxy"] else DIRECT_SECONDS
    return anyio.run(_reach, client, seconds, backend=backend)


async def _reach(client: BackpackClient, seconds: float) -> str:
    with anyio.move_on_after(seconds):
        try:
            async with client:
                async for event in client:
                    if isinstance(event, BookChanged):
                        return LIVE
                    if isinstance(event, ConnectionDown):
                        return event.reason
        except BackpackError as error:
            return str(error)
    return "nothing came"


if __name__ == "__main__":
    if sys.argv[1:] == ["client"]:
        be_the_client()
    else:
        be_the_world()
