"""A session and the simulated exchange, joined without a socket, in virtual time.

Everything that a runtime does is done here as values: actions travel to the exchange, its frames and answers travel back, each takes
`latency_us`, and time jumps from one moment at which something happens to the next. An hour of trading takes seconds, the same seeds
give the same events, and the connection can be cut, muted and tampered with: by hand, or by a schedule of faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import Random
from typing import Final, Self

from msgspec import Struct

from backpack_proto.exchange import (
    AbandonRequest,
    CloseConnection,
    Exchange,
    ExchangeInput,
    ExchangeOutput,
    FrameReceived,
    PingSocket,
    RefuseConnections,
    RequestReceived,
    Respond,
    Restart,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    Command,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    Open,
    PingReceived,
    PongReceived,
    RequestFailed,
    RequestLeft,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
)
from backpack_proto.machine import Now, earliest
from backpack_proto.outputs import (
    Action,
    CloseSocket,
    DropSocket,
    Event,
    OpenSocket,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    WithdrawRequest,
)
from backpack_proto.session import Session

from .faults import LATE_US, Episode, FaultName, Weather

__all__ = ["Simulation"]

ABNORMAL_CLOSURE = 1006
START: Final = Now(1_000_000, 1_700_000_000_000_000)
"""When a simulation begins that is not told when: at no round number of the other clock."""
_TIMER_FIRED = TimerFired()


class _ToSession(Struct, frozen=True, gc=False):
    """A fact on its way. `connection` is 0 for facts outside a websocket."""

    fact: Fact
    connection: int


class _ToExchange(Struct, frozen=True, gc=False):
    given: ExchangeInput


class Simulation:
    """Drives both ends. The events of the session are in `events`."""

    def __init__(
        self,
        session: Session,
        exchange: Exchange,
        start: Now,
        *,
        latency_us: int = 1_000,
        faults: Iterable[Episode] = (),
    ) -> None:
        """Nothing has been said yet. `faults` go wrong by themselves, each at its time after `start`."""
        self.session = session
        self.exchange = exchange
        self.now = start
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] | None = None
        """Called at each event, while session and exchange stand at that moment."""
        self.tamper: Callable[[bytes], Iterable[bytes]] | None = None
        """Turns each frame of the exchange into those that arrive: zero, another one, several."""
        self.answer: Callable[[SendRequest, ResponseReceived], Fact | None] | None = None
        """Replaces an answer to a REST request. None loses it."""
        self.refusing = False
        """Refuse each attempt to connect."""
        self.mute = False
        """Nothing more comes from the exchange, though the connection stays."""
        self.clock_error_us = 0
        """Lead of the session's wall clock over the exchange's, negative if it is behind."""
        self.latency_us = latency_us
        self.connections = 0
        """Number of websockets that were opened."""
        self.requests: list[SendRequest] = []
        """Every REST request that was sent."""
        self._weather = Weather(faults, start.mono_us)
        self._arrived_us = 0
        """Arrival of the last fact of the websocket that is on its way: later ones arrive no sooner."""
        self._elsewhere = 0
        self._connection = 0
        self._established = False
        self._pending: dict[int, SendRequest] = {}
        self._travelling: list[tuple[int, int, _ToSession | _ToExchange]] = []
        self._sent = 0

    @classmethod
    def of_streams(cls, *streams: str, seed: int = 0, speed: float = 1.0, faults: Iterable[Episode] = ()) -> Self:
        """Join a new session, which opens its connection and subscribes `streams`, with a new exchange. `seed` draws everything.

        Raises:
            LocalProtocolError: there is no such stream, or `speed` is out of range.
        """
        session = Session(Random(f"{seed}:session"), measure_clock=True)  # noqa: S311 - the length of a pause, nothing cryptographic
        exchange = Exchange(seed=seed, unix_us=START.unix_us, speed=speed)
        simulation = cls(session, exchange, START, faults=faults)
        simulation.give(Open(), Subscribe(streams))
        return simulation

    @property
    def elapsed_us(self) -> int:
        """Virtual time since the start."""
        return self.now.mono_us - self._weather.start_us

    def give(self, *commands: Command) -> None:
        """Give the session commands, now."""
        for command in commands:
            self._handle(command)

    def request_elsewhere(self, request: HttpRequest) -> None:
        """Have another program of the same account send a request, now. Its answer is ignored."""
        self._elsewhere -= 1
        self._exchange(RequestReceived(self._elsewhere, request.method, request.target, request.headers, request.body))

    def cut(self, reason: str = "connection reset by peer") -> None:
        """Break the websocket, now. Frames on their way are lost."""
        if self._connection:
            ending: Fact = Disconnected(ABNORMAL_CLOSURE, reason) if self._established else ConnectFailed(reason)
            self._end_connection()
            self._handle(ending)

    def run(self, duration_us: int, *, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass, at most `duration_us`. Stops early, with True, once `until` holds."""
        end_us = self.now.mono_us + duration_us
        while True:
            if until is not None and until():
                return True
            next_us = earliest(
                self._travelling[0][0] if self._travelling else None,
                self.session.deadline,
                self.exchange.deadline,
                self._weather.deadline,
            )
            if next_us is None or next_us > end_us:
                self._advance(end_us)
                return False
            self._advance(next_us)
            for fault in self._weather.begin(self.now.mono_us):
                self._begin(fault)
            if self._travelling and self._travelling[0][0] <= self.now.mono_us:
                self._arrive(heappop(self._travelling)[2])
            elif self.exchange.deadline is not None and self.exchange.deadline <= self.now.mono_us:
                self._exchange(_TIMER_FIRED)
            elif self.session.deadline is not None and self.session.deadline <= self.now.mono_us:
                self._handle(_TIMER_FIRED)

    def _begin(self, fault: FaultName) -> None:
        """Begin an episode."""
        if fault in ("drop", "refuse"):
            self.cut()
        elif fault == "restart":
            self._exchange(Restart())

    def _holds(self, fault: FaultName) -> bool:
        return self._weather.holds(fault, self.now.mono_us)

    @property
    def _is_mute(self) -> bool:
        return self.mute or self._holds("mute")

    def _advance(self, mono_us: int) -> None:
        passed_us = max(mono_us - self.now.mono_us, 0)
        self.now = Now(self.now.mono_us + passed_us, self.now.unix_us + passed_us)

    def _handle(self, given: Command | Fact) -> None:
        now = Now(self.now.mono_us, self.now.unix_us + self.clock_error_us)
        for output in self.session.handle(given, now):
            if isinstance(output, Event):
                self.events.append(output)
                if self.on_event is not None:
                    self.on_event(output)
            else:
                self._perform(output)

    def _perform(self, action: Action) -> None:
        match action:
            case OpenSocket():
                self._end_connection()
                self.connections += 1
                self._connection = self.connections
                self._established = False
                self._arrived_us = 0
                if self.refusing or self._holds("refuse"):
                    self._to_session(ConnectFailed("connection refused"))
                else:
                    self._to_exchange(SocketOpened(self._connection))
                    self._to_session(Connected())
            case DropSocket():
                self._end_connection()
            case CloseSocket(code=code):
                self._to_exchange(SocketClosed(self._connection))
                self._to_session(Disconnected(code, ""))
            case SendText(text=text):
                self._to_exchange(FrameReceived(self._connection, text.encode()))
            case SendPing(payload=payload):
                if not self._is_mute:
                    self._to_session(PongReceived(payload))
            case SendPong(payload=payload):
                self._to_exchange(SocketPonged(self._connection, payload))
            case SendRequest(request_id=request_id, request=request):
                self.requests.append(action)
                self._pending[request_id] = action
                self._to_exchange(RequestReceived(request_id, request.method, request.target, request.headers, request.body))
            case WithdrawRequest(request_id):
                # Requests leave at once here, so it is always too late, unless the answer is on its way.
                if request_id in self._pending:
                    self._to_session(RequestLeft(request_id), connection=0)

    def _end_connection(self) -> None:
        if self._connection:
            self._to_exchange(SocketClosed(self._connection))
        self._connection = 0

    def _to_exchange(self, given: ExchangeInput) -> None:
        self._travel(_ToExchange(given))

    def _to_session(self, fact: Fact, *, connection: int | None = None) -> None:
        if connection is not None:
            self._travel(_ToSession(fact, connection))
            return
        late_us = LATE_US if self._holds("late") else 0
        self._arrived_us = max(self._arrived_us, self.now.mono_us + self.latency_us + late_us)
        self._travel(_ToSession(fact, self._connection), self._arrived_us)

    def _travel(self, what: _ToSession | _ToExchange, arrival_us: int | None = None) -> None:
        self._sent += 1
        heappush(self._travelling, (arrival_us or self.now.mono_us + self.latency_us, self._sent, what))

    def _arrive(self, what: _ToSession | _ToExchange) -> None:
        if isinstance(what, _ToExchange):
            self._exchange(what.given)
        elif what.connection in (0, self._connection):
            if isinstance(what.fact, Connected):
                self._established = True
            elif isinstance(what.fact, Disconnected | ConnectFailed):
                self._connection = 0
            self._handle(what.fact)

    def _exchange(self, given: ExchangeInput) -> None:
        for output in self.exchange.handle(given, self.now):
            self._deliver(output)

    def _deliver(self, output: ExchangeOutput) -> None:
        match output:
            case Respond(request_id=request_id) | AbandonRequest(request_id=request_id) if request_id < 0:
                pass
            case Respond():
                request = self._pending.pop(output.request_id)
                answer: Fact | None = ResponseReceived(request_id=output.request_id, status=output.status, body=output.body)
                if self.answer is not None and isinstance(answer, ResponseReceived):
                    answer = self.answer(request, answer)
                if answer is None or self._holds("lost"):
                    answer = RequestFailed(request_id=output.request_id, reason="no answer")
                self._to_session(answer, connection=0)
            case AbandonRequest(request_id=request_id):
                del self._pending[request_id]
                self._to_session(RequestFailed(request_id=request_id, reason="no answer"), connection=0)
            case RefuseConnections(refuse=refuse):
                self.refusing = refuse
            case _ if self._is_mute or output.connection != self._connection:
                pass
            case SendFrame(data=data):
                for frame in [data] if self.tamper is None else self.tamper(data):
                    for arriving in self._weather.carry(frame, self.now.mono_us):
                        self._to_session(TextReceived(arriving))
            case PingSocket(payload=payload):
                self._to_session(PingReceived(payload))
            case CloseConnection(code=code):
                self._to_session(Disconnected(code or ABNORMAL_CLOSURE, ""))
