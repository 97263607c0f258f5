"""A network between a session and the simulated exchange, in virtual time: what travels, how long, and what can go wrong on the way.

Theory of operation. Everything that happens is an entry of one heap, and time jumps from one to the next. Each direction of a websocket
is in order, as TCP is: a delay holds up all that comes behind it. REST requests travel on their own. A request leaves after it was
dialled for. Until then it can be withdrawn. A client that is frozen (its loop is blocked, or its machine is suspended) handles nothing
until it thaws. What arrived by then is handled at once. A client that does not read leaves the frames of its websocket where they are.

Faults set the attributes of `Network` and `Conditions`. The network draws nothing but its delays.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from backpack_proto.exchange import (
    AbandonRequest,
    CloseConnection,
    Exchange,
    ExchangeInput,
    FrameReceived,
    PingSocket,
    RequestReceived,
    Respond,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    BytesReceived,
    Command,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    RequestLeft,
    ResponseReceived,
    TextReceived,
    TimerFired,
)
from backpack_proto.machine import Now
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

__all__ = ["Conditions", "Connection", "Network", "Pending"]

ABNORMAL_CLOSURE = 1006
_TIMER_FIRED = TimerFired()
_NEVER = 2**63
_REFUSED_SIGNATURE = b'{"id":null,"error":{"code":4003'
_DATA = b'{"data":'
MOST_ORIGINALS = 256

Tamper = Callable[[bytes], list[bytes]]


class Conditions:
    """What is wrong with the network at the moment. A fault sets it and takes it back."""

    def __init__(self) -> None:
        self.refusing = 0
        """Attempts to connect are refused, and so are those of REST."""
        self.mute = 0
        """No data frame leaves the exchange's network. Pings are answered."""
        self.mute_births = 0
        """Connections that are made are mute."""
        self.mute_streams: Counter[str] = Counter()
        """Frames of these streams are lost, so long as their count is not zero."""
        self.muted: Counter[str] = Counter()
        """How many frames of each were lost so."""
        self.drips = 0
        """Bytes arrive that complete no frame, and everything waits behind them."""
        self.delays: dict[int, Callable[[int, Connection], int]] = {}
        """More delay towards the client, by the moment and the connection."""
        self.rest_delays: dict[int, Callable[[int], int]] = {}
        """More delay of REST, each way."""
        self.tampers: dict[int, Tamper] = {}
        """Each turns a frame into those that are sent: none, another one, several."""
        self.intercepts: dict[int, Callable[[Pending], Fact | None]] = {}
        """Each may answer a request in the exchange's place."""
        self.answers: dict[int, Callable[[Pending, ResponseReceived], Fact | int | None]] = {}
        """Each may replace an answer, delay it by microseconds, or lose it (None)."""


class Connection:
    """One websocket."""

    def __init__(self, number: int, born_us: int) -> None:
        self.number = number
        self.born_us = born_us
        self.established_us: int | None = None
        self.half_open = False
        """Nothing travels any more, in either direction, and nobody is told."""
        self.mute = False
        self.inbound_us = 0
        """When the last thing on its way to the client arrives."""
        self.outbound_us = 0
        self.stuck: list[tuple[Fact, int]] | None = None
        """What waits behind a frame that does not end, with when it was sent."""
        self.data_us = 0
        """When the client was last given a data frame."""
        self.path_us = 0
        """When the newest data frame was sent that the client was given."""
        self.refusal_lost = False
        """The exchange has refused private streams, and its word was lost: the client takes them for subscribed."""
        self.asked_again_us: int | None = None
        """When it asked for them again, after that."""

    def is_refused_unheard(self, now_us: int, slack_us: int) -> bool:
        """Return whether the client cannot know that its private streams are mute, or has just found out."""
        return self.refusal_lost and (self.asked_again_us is None or now_us - self.asked_again_us <= slack_us)


class Pending:
    """A REST request that has not been answered."""

    def __init__(self, action: SendRequest, asked_us: int) -> None:
        self.action = action
        self.asked_us = asked_us
        self.left_us: int | None = None

    @property
    def path(self) -> str:
        return self.action.request.target.partition("?")[0]

    @property
    def symbol(self) -> str:
        """The market in the query, or empty without one."""
        query = self.action.request.target.partition("?")[2]
        return next((part[7:] for part in query.split("&") if part.startswith("symbol=")), "")

    @property
    def signed(self) -> bool:
        return any(name.lower() == "x-signature" for name, _ in self.action.request.headers)


class Network:
    """Drives a session and an exchange. What the session says is given to `on_event`."""

    def __init__(self, session: Session, exchange: Exchange, start: Now, rng: Random) -> None:
        self.session = session
        self.exchange = exchange
        self.conditions = Conditions()
        self.now_us = start.mono_us
        """True time. The client's monotonic clock is right."""
        self.wall_error_us = 0
        """How far the client's wall clock is ahead of the exchange's. Behind, if negative."""
        self.wall_drift = 0.0
        """How much faster than time it goes."""
        self._drifts_from_us = start.mono_us
        self._epoch_us = start.unix_us - start.mono_us
        self._rng = rng
        self.latency_us = rng.randrange(2_000, 40_000)
        self.jitter_us = rng.randrange(100, 5_000)
        self.rest_latency_us = self.latency_us + rng.randrange(0, 20_000)
        self.dial_us = rng.randrange(1_000, 120_000)
        self.on_text: Callable[[str], None] = lambda _: None
        """Called with each text frame of the client."""
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_request: Callable[[Pending], None] = lambda _: None
        """Called when the session asks for a request."""
        self.on_leave: Callable[[Pending], None] = lambda _: None
        """Called when a request leaves the client."""
        self.on_answer: Callable[[Pending, Fact], None] = lambda _request, _fact: None
        """Called when the client is given an answer."""
        self.on_response: Callable[[Pending, Respond], None] = lambda _request, _answer: None
        """Called when the exchange answers, whatever then becomes of it."""
        self.connections = 0
        self.connection: Connection | None = None
        self.data_frames = 0
        """Data frames that the client was given."""
        self.frames = 0
        """All text frames that it was given."""
        self.frozen_until_us: int | None = None
        self.paused = False
        self._timer_first = False
        self._unread: deque[tuple[Connection, Fact, int]] = deque()
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._originals: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        """Frames as the exchange made them, by identity, and when: some are held back and sent later, others are changed."""
        self._pending: dict[int, Pending] = {}
        self._elsewhere = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._pushed = 0

    # Time.

    @property
    def now(self) -> Now:
        """This moment by the client's clocks."""
        drifted = int((self.now_us - self._drifts_from_us) * self.wall_drift)
        return Now(self.now_us, self.now_us + self._epoch_us + self.wall_error_us + drifted)

    @property
    def true_now(self) -> Now:
        """This moment by the exchange's clocks."""
        return Now(self.now_us, self.now_us + self._epoch_us)

    def set_drift(self, drift: float) -> None:
        """Let the client's wall clock go faster from now on. What it has gained it keeps."""
        self.wall_error_us += int((self.now_us - self._drifts_from_us) * self.wall_drift)
        self._drifts_from_us = self.now_us
        self.wall_drift = drift

    def at(self, at_us: int, what: Callable[..., None], *given: Any) -> None:
        """Have something happen at a moment, not before now."""
        self._pushed += 1
        heappush(self._heap, (max(at_us, self.now_us), self._pushed, what, given))

    def after(self, delay_us: int, what: Callable[..., None], *given: Any) -> None:
        """Have something happen later."""
        self.at(self.now_us + delay_us, what, *given)

    def run(self, end_us: int) -> None:
        """Let time pass until a moment."""
        session, exchange, heap = self.session, self.exchange, self._heap
        while True:
            heap_us = heap[0][0] if heap else _NEVER
            exchange_us = exchange.deadline
            timer_us = session.deadline if self.frozen_until_us is None else None
            next_us = heap_us
            if exchange_us is not None and exchange_us < next_us:
                next_us = exchange_us
            if timer_us is not None and timer_us < next_us:
                next_us = timer_us
            if next_us > end_us:
                self._advance(end_us)
                return
            self._advance(next_us)
            if heap_us <= next_us:
                _, _, what, given = heappop(heap)
                what(*given)
            elif exchange_us is not None and exchange_us <= next_us:
                self.give_exchange(_TIMER_FIRED)
            else:
                self.handle(_TIMER_FIRED)

    def _advance(self, mono_us: int) -> None:
        self.now_us = max(self.now_us, mono_us)

    # The client's side.

    def handle(self, given: Command | Fact) -> None:
        """Give the session something, now, and do what it wants."""
        for output in self.session.handle_all([given], self.now):
            if isinstance(output, Event):
                self.on_event(output)
            else:
                self._perform(output)

    def freeze(self, duration_us: int, *, timer_first: bool) -> None:
        """Let the client handle nothing for a while. On waking, its timer is handled before what has arrived, or behind it."""
        end_us = self.now_us + duration_us
        self._timer_first = timer_first
        if self.frozen_until_us is None or end_us > self.frozen_until_us:
            self.frozen_until_us = end_us
            self.at(end_us, self._thaw)

    def pause_reading(self) -> None:
        """Stop reading the websocket: whoever consumes the events does not keep up."""
        self._later(self._pause, ())

    def resume_reading(self) -> None:
        """Read again."""
        self._later(self._resume, ())

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.handle(ReadingPaused())

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            self.handle(ReadingResumed())
            while self._unread and not self.paused:
                self._receive(*self._unread.popleft())

    def _thaw(self) -> None:
        if self.frozen_until_us is None or self.now_us < self.frozen_until_us:
            return
        self.frozen_until_us = None
        held, self._held = self._held, []
        deadline = self.session.deadline
        if self._timer_first and deadline is not None and deadline <= self.now_us:
            self.handle(_TIMER_FIRED)
        for what, given in held:
            what(*given)

    def _later(self, what: Callable[..., None], given: tuple[Any, ...]) -> None:
        """Do something on the client's loop: now, or when it thaws."""
        if self.frozen_until_us is None:
            what(*given)
        else:
            self._held.append((what, given))

    def give(self, command: Command) -> None:
        """Have the application give a command, as soon as its loop runs."""
        self._later(self.handle, (command,))

    def _perform(self, action: Action) -> None:
        connection = self.connection
        match action:
            case OpenSocket():
                self._open()
            case DropSocket():
                self._end_connection()
            case CloseSocket(code=code) if connection is not None:
                self._to_exchange(connection, SocketClosed(connection.number))
                self._to_client(connection, Disconnected(code, ""))
            case SendText(text=text) if connection is not None:
                self.on_text(text)
                if connection.refusal_lost and connection.asked_again_us is None and '"signature":' in text:
                    connection.asked_again_us = self.now_us
                self._to_exchange(connection, FrameReceived(connection.number, text.encode()))
            case SendPing(payload=payload) if connection is not None:
                self._to_exchange(connection, None, payload)
            case SendPong(payload=payload) if connection is not None:
                self._to_exchange(connection, SocketPonged(connection.number, payload))
            case SendRequest():
                self._send_request(action)
            case WithdrawRequest(request_id):
                self._withdraw(request_id)
            case _:
                pass

    # The websocket.

    def reset(self, code: int = ABNORMAL_CLOSURE, reason: str = "connection reset by peer") -> bool:
        """Break the connection. What is on its way is lost. Says whether there was one."""
        connection = self.connection
        if connection is None:
            return False
        self._forget(connection)
        self._later(self._broken, (connection, code, reason))
        return True

    def close(self, code: int) -> bool:
        """Have the exchange end the connection with a Close frame, behind what is on its way."""
        connection = self.connection
        if connection is None or connection.established_us is None or connection.half_open:
            return False
        self._forget(connection)
        self._to_client(connection, Disconnected(code, "going away"))
        return True

    def _broken(self, connection: Connection, code: int, reason: str) -> None:
        # A client that was blocked meanwhile may have heard of the connection first.
        established = connection.established_us is not None
        self._ended(connection, Disconnected(code, reason) if established else ConnectFailed(reason))

    def _ended(self, connection: Connection, given: Fact) -> None:
        if self.connection is connection:
            self.connection = None
            self._unread.clear()
            self.handle(given)

    def _open(self) -> None:
        self._end_connection()
        self.connections += 1
        connection = self.connection = Connection(self.connections, self.now_us)
        connection.mute = self.conditions.mute_births > 0
        if self.conditions.refusing:
            self.after(2 * self.latency_us, self._later, self._ended, (connection, ConnectFailed("connection refused")))
            return
        if self.conditions.drips:
            connection.stuck = []
        self._to_exchange(connection, SocketOpened(connection.number))
        self.after(3 * self.latency_us, self._later, self._established, (connection,))

    def _established(self, connection: Connection) -> None:
        if self.connection is connection:
            connection.established_us = self.now_us
            self.handle(Connected())

    def _end_connection(self) -> None:
        if self.connection is not None:
            self._forget(self.connection)
        self.connection = None
        self._unread.clear()

    def _forget(self, connection: Connection) -> None:
        """Let the exchange see a connection end, sooner or later. A half-open one it sees when its pings fail, which is simpler now."""
        self.after(self.latency_us, self.give_exchange, SocketClosed(connection.number))

    def _delay_us(self) -> int:
        return self.latency_us + int(self._rng.expovariate(1.0) * self.jitter_us)

    def _to_exchange(self, connection: Connection, given: ExchangeInput | None, payload: bytes = b"") -> None:
        if connection.half_open:
            return
        arrives_us = max(connection.outbound_us, self.now_us + self._delay_us())
        connection.outbound_us = arrives_us
        if given is None:
            # A protocol ping, which whoever serves the exchange answers by itself.
            self.at(arrives_us, self._to_client, connection, PongReceived(payload))
        else:
            self.at(arrives_us, self.give_exchange, given)

    def _to_client(self, connection: Connection, fact: Fact, sent_us: int | None = None) -> None:
        if connection.half_open or connection is not self.connection:
            return
        if connection.stuck is not None and not isinstance(fact, Disconnected):
            connection.stuck.append((fact, self.now_us if sent_us is None else sent_us))
            return
        self._arrive_at(connection, fact, self.now_us if sent_us is None else sent_us)

    def _arrive_at(self, connection: Connection, fact: Fact, sent_us: int) -> None:
        now_us = self.now_us
        arrives_us = now_us + self._delay_us()
        for delay in self.conditions.delays.values():
            arrives_us += delay(now_us, connection)
        arrives_us = max(arrives_us, connection.inbound_us)
        connection.inbound_us = arrives_us
        self._pushed += 1
        heappush(self._heap, (arrives_us, self._pushed, self._arrive, (connection, fact, sent_us)))

    def drip(self, count: int) -> bool:
        """Deliver a few bytes of a frame that does not end yet. Says whether there is a connection for them."""
        connection = self.connection
        if connection is None or connection.established_us is None:
            return False
        if connection.stuck is None:
            connection.stuck = []
        self._arrive_at(connection, BytesReceived(count), self.now_us)
        return True

    def unstick(self) -> None:
        """Let the frame end, and with it everything behind it arrive."""
        connection = self.connection
        if connection is not None and connection.stuck is not None:
            stuck, connection.stuck = connection.stuck, None
            for fact, sent_us in stuck:
                self._arrive_at(connection, fact, sent_us)

    def _arrive(self, connection: Connection, fact: Fact, sent_us: int) -> None:
        if self.frozen_until_us is not None:
            self._held.append((self._arrive, (connection, fact, sent_us)))
        elif self.paused:
            self._unread.append((connection, fact, sent_us))
        else:
            self._receive(connection, fact, sent_us)

    def _receive(self, connection: Connection, fact: Fact, sent_us: int) -> None:
        if connection is not self.connection:
            return
        if isinstance(fact, TextReceived):
            self.frames += 1
            # What was changed on the way says nothing of how late it is.
            if sent_us and fact.data.startswith(_DATA):
                self.data_frames += 1
                connection.data_us = self.now_us
                connection.path_us = max(connection.path_us, sent_us)
        elif isinstance(fact, Disconnected):
            self._ended(connection, fact)
            return
        self.handle(fact)

    # REST.

    def _send_request(self, action: SendRequest) -> None:
        pending = self._pending[action.request_id] = Pending(action, self.now_us)
        self.on_request(pending)
        dial_us = int(self._rng.random() * self.dial_us)
        self.after(dial_us, self._later, self._leave, (action.request_id,))

    def _leave(self, request_id: int) -> None:
        pending = self._pending.get(request_id)
        if pending is None:
            return
        not_after_us = pending.action.not_after_us
        if not_after_us is not None and self.now_us > not_after_us:
            self._answer(request_id, RequestFailed(request_id=request_id, reason="its time has passed", sent=False))
            return
        if self.conditions.refusing:
            self._answer(request_id, RequestFailed(request_id=request_id, reason="connection refused", sent=False))
            return
        pending.left_us = self.now_us
        self.on_leave(pending)
        self.after(pending.action.timeout_us, self._later, self._time_out, (request_id,))
        self.after(self._rest_us(), self._reach, pending)

    def _rest_us(self) -> int:
        late_us = sum(delay(self.now_us) for delay in self.conditions.rest_delays.values())
        return self.rest_latency_us + int(self._rng.expovariate(1.0) * self.jitter_us) + late_us

    def _reach(self, pending: Pending) -> None:
        """A request reaches the exchange, or what stands in front of it."""
        request_id = pending.action.request_id
        for intercept in tuple(self.conditions.intercepts.values()):
            if (fact := intercept(pending)) is not None:
                self.after(self._rest_us(), self._later, self._answer, (request_id, fact))
                return
        request = pending.action.request
        self.give_exchange(RequestReceived(request_id, request.method, request.target, request.headers, request.body))

    def _time_out(self, request_id: int) -> None:
        if request_id in self._pending:
            self._answer(request_id, RequestFailed(request_id=request_id, reason="no answer in time"))

    def _answer(self, request_id: int, fact: Fact) -> None:
        pending = self._pending.pop(request_id, None)
        if pending is not None:
            self.on_answer(pending, fact)
            self.handle(fact)

    def _withdraw(self, request_id: int) -> None:
        pending = self._pending.get(request_id)
        if pending is None:
            return
        if pending.left_us is None:
            del self._pending[request_id]
            fact: Fact = RequestFailed(request_id=request_id, reason="withdrawn", sent=False)
        else:
            fact = RequestLeft(request_id)
        # At once, but not inside of the input that is being handled.
        self.after(0, self._later, self.handle, (fact,))

    def request_elsewhere(self, request: HttpRequest) -> None:
        """Have another program of the same account send a request, now. What it is answered is of no interest here."""
        self._elsewhere -= 1
        self.give_exchange(RequestReceived(self._elsewhere, request.method, request.target, request.headers, request.body))

    # The exchange's side.

    def give_exchange(self, given: ExchangeInput) -> None:
        """Give the exchange something, now, and send what it says."""
        for output in self.exchange.handle(given, self.true_now):
            match output:
                case SendFrame(connection, data):
                    self._send_frame(connection, data)
                case PingSocket(connection, payload):
                    self._send_to(connection, PingReceived(payload))
                case CloseConnection(connection, code):
                    self._send_to(connection, Disconnected(code or ABNORMAL_CLOSURE, ""))
                case Respond(request_id=request_id) if request_id >= 0:
                    self._respond(output)
                case AbandonRequest(request_id) if request_id >= 0:
                    fact = RequestFailed(request_id=request_id, reason="the connection was closed")
                    self.after(self._rest_us(), self._later, self._answer, (request_id, fact))
                case _:
                    pass

    def _respond(self, output: Respond) -> None:
        request_id = output.request_id
        pending = self._pending.get(request_id)
        if pending is None:
            return
        self.on_response(pending, output)
        retry_after_us = next((int(value) * 1_000_000 for name, value in output.headers if name.lower() == "retry-after"), None)
        given: Fact = ResponseReceived(
            request_id=request_id,
            status=output.status,
            body=output.body,
            retry_after_us=retry_after_us,
            headers=output.headers,
        )
        delay_us = self._rest_us()
        for replace in tuple(self.conditions.answers.values()):
            if not isinstance(given, ResponseReceived):
                break
            replaced = replace(pending, given)
            if replaced is None:
                return
            if isinstance(replaced, int):
                delay_us += replaced
            else:
                given = replaced
        self.after(delay_us, self._later, self._answer, (request_id, given))

    def _send_frame(self, number: int, data: bytes) -> None:
        connection = self.connection
        if connection is None or connection.number != number:
            return
        conditions = self.conditions
        if data.startswith(_DATA):
            if conditions.mute or connection.mute:
                return
            if conditions.mute_streams:
                stream = data[data.rindex(b'"stream":"') + 10 : -2].decode()
                if stream in conditions.mute_streams:
                    conditions.muted[stream] += 1
                    return
        if not conditions.tampers:
            self._to_client(connection, TextReceived(data))
            return
        self._originals[id(data)] = (data, self.now_us)
        if len(self._originals) > MOST_ORIGINALS:
            self._originals.popitem(last=False)
        frames = [data]
        for tamper in tuple(conditions.tampers.values()):
            frames = [changed for frame in frames for changed in tamper(frame)]
        if data.startswith(_REFUSED_SIGNATURE) and data not in frames:
            connection.refusal_lost, connection.asked_again_us = True, None
        for frame in frames:
            self._to_client(connection, TextReceived(frame), self._originals.get(id(frame), (frame, 0))[1])

    def _send_to(self, number: int, fact: Fact) -> None:
        if self.connection is not None and self.connection.number == number:
            self._to_client(self.connection, fact)
