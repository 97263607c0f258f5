"""Subject of a checkup: the way to the exchange, the client that is watched, and its events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup

from backpack_proto.auth.signing import Signer
from backpack_proto.outputs import ConnectionDown, ConnectionUp
from backpack_proto.rest.exchange_clock import ExchangeClock
from backpack_proto.streams.payloads import Event, Ticker
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.settings import Settings
from backpack_runtime.transport import system_now
from backpack_runtime.transports import transport_of

__all__ = ["CHANNELS", "Connection", "Delay", "Subject", "Watch"]

EventT = TypeVar("EventT", bound=Event)

CHANNELS = ("book", "ticker", "trades")
KEPT = 50_000
"""So many delays are kept: a minute of a lively market."""


class Connection(NamedTuple):
    """One of the two connections, and how it is made."""

    name: str
    address: Address
    proxy: Proxy | None


class Delay(NamedTuple):
    """Delays of one message, by two clocks: those of the exchange and of this machine."""

    engine_us: int | None
    """From the matching engine to receipt. None where the message has no time of the engine."""
    emitted_us: int
    """From the emission by the exchange to receipt."""


class Watch:
    """Notes of the events of a client, made as each is read."""

    def __init__(self) -> None:
        self.delays: deque[Delay] = deque(maxlen=KEPT)
        self.tickers: deque[Ticker] = deque(maxlen=KEPT)
        self.first_us: int | None = None
        """When the first message came, on the monotonic clock."""
        self.last_us: int | None = None
        """When the last one came."""
        self.longest_gap_us = 0
        """The longest time between two messages."""
        self.up_us: int | None = None
        """When the websocket was first open."""
        self.downs: list[str] = []
        """Why it was not, or did not stay so."""
        self.spoken: dict[type[Event], list[Event]] = {}
        self._news = anyio.Event()

    def take(self, event: Event) -> None:
        """Note an event. The client calls this for each."""
        received_us, emitted_us = getattr(event, "received_us", None), getattr(event, "emitted_us", None)
        if received_us is not None and emitted_us is not None:
            now_us = system_now().mono_us
            engine_us = getattr(event, "engine_us", None)
            self.delays.append(Delay(None if engine_us is None else received_us - engine_us, received_us - emitted_us))
            if self.last_us is not None:
                self.longest_gap_us = max(self.longest_gap_us, now_us - self.last_us)
            self.first_us, self.last_us = self.first_us or now_us, now_us
            if isinstance(event, Ticker):
                self.tickers.append(event)
        elif isinstance(event, ConnectionUp):
            self.up_us = self.up_us or system_now().mono_us
        elif isinstance(event, ConnectionDown):
            self.downs.append(event.reason)
        else:
            self.spoken.setdefault(type(event), []).append(event)
        self._news.set()

    def said(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one class so far, those of data and of the connection apart."""
        return [event for event in self.spoken.get(kind, ()) if isinstance(event, kind)]

    async def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds, and return whether it does. It is looked at after each event."""
        with anyio.move_on_after(seconds):
            while not reached():
                self._news = anyio.Event()
                await self._news.wait()
        return reached()


class Subject:
    """All that the checks of one checkup share."""

    def __init__(
        self,
        settings: Settings,
        addresses: Addresses,
        *,
        symbols: tuple[str, ...],
        signer: Signer | None,
        backend: str,
        seconds: float,
        tasks: TaskGroup,
    ) -> None:
        """No connection is made before a check does so. `tasks` runs the client, and `seconds` bounds the whole checkup."""
        self.settings = settings
        self.addresses = addresses
        self.symbols = symbols
        self.signer = signer
        self.backend = backend
        self.rest = Connection("REST", addresses.rest, addresses.proxies.rest)
        self.websocket = Connection("websocket", addresses.ws, addresses.proxies.websocket)
        self.watch = Watch()
        self.clock = ExchangeClock()
        """The exchange's clock, once `calls.round_trip` has measured it."""
        self.began_us = 0
        """When the client began to connect, on the monotonic clock."""
        self.lags_us: list[int] = []
        """Lateness of the timers of the event loop."""
        self._ends = anyio.current_time() + seconds
        self._tasks = tasks
        self._client: BackpackClient | None = None

    @property
    def client(self) -> BackpackClient:
        """The client, which a check before has started."""
        if self._client is None:
            raise RuntimeError("a check that needs the client comes before the one that starts it")
        return self._client

    @property
    def left_seconds(self) -> float:
        """Time that is left for all checks that follow."""
        return max(self._ends - anyio.current_time(), 0.0)

    async def start_client(self) -> None:
        """Start the client that the checks of calls and streams watch.

        Raises:
            LocalProtocolError: a symbol does not exist.
            BackpackError: the list of markets cannot be read.
        """
        client = BackpackClient(
            self.symbols,
            channels=CHANNELS,
            settings=self.settings,
            signer=self.signer,
            on_event=self.watch.take,
            transport=transport_of(self.settings.runtime)(self.addresses, compression=self.settings.compression),
        )
        self.began_us = system_now().mono_us
        await self._tasks.start(client.run)
        self._client = client
