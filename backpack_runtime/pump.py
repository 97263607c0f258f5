"""The loop that drives a session over a transport. It names no event loop and knows no protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from backpack_proto.inputs import Given, Open, TextReceived
from backpack_proto.outputs import Action, Closed, DropSocket, OpenSocket
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event

from .delivery import PLAIN
from .event_loop import Interrupted
from .recording.source import SessionInputs
from .transport import OF_A_WEBSOCKET, Transport

__all__ = ["Deliver", "Pump"]

Deliver: TypeAlias = Callable[[Sequence[Event], int], None]
"""Takes events, and the size of the frames that they were made from."""

_data = attrgetter("data")


class Pump:
    """Gives facts to the session, actions to the transport, and events, one batch for each batch of facts, to `deliver`."""

    def __init__(self, session: Session, transport: Transport, deliver: Deliver, inputs: SessionInputs | None = None) -> None:
        """`inputs` is the way into the session, where somebody else gives it inputs as well, or records them."""
        self._session = session
        self._inputs = SessionInputs(session) if inputs is None else inputs
        self._transport = transport
        self._deliver = deliver
        self._begin: Callable[[Action], None] = transport.perform
        self._closed = False
        self._until_us: int | None = 0
        """The deadline that the transport waits for, or 0 while it does not wait, and will be told."""
        self._handling = False
        self._taking = False
        """Facts are being handled, perhaps outside of any task."""
        self._interrupted: str | None = None
        """The error that has interrupted the session in the middle of an input: it may be used no more."""
        self._further: list[Given] = []
        """Facts that came while others were being handled: an event loop may begin a task at once."""
        self._actions: list[Action] = []
        """Those that have not been begun."""

    def perform_by(self, begin: Callable[[Action], None]) -> None:
        """Have actions begun by something that stands before the transport."""
        self._begin = begin

    async def run(self) -> None:
        """Open the connection and keep the session going until it has been closed."""
        self._transport.listen(self._take)
        self.give(Open())
        while not self._closed:
            self._until_us = self._session.deadline
            facts = await self._transport.next(self._until_us)
            self._until_us = 0
            if self._interrupted is not None:
                raise Interrupted(f"the session was interrupted by {self._interrupted}")
            self._perform()
            if facts:
                self._take(facts)
                self._perform()

    def give(self, given: Given) -> None:
        """Give the session one input at once, from any task of the loop, even from one that is being cancelled, and from functions that `deliver` calls.

        Raises:
            LocalProtocolError: the session refuses it. The state is unchanged.
        """
        # Not behind others: its refusal is for the caller.
        try:
            self._handle([given])
        finally:
            if not self._taking:
                self._perform()
        self._take([])

    def _perform(self) -> None:
        """Begin waiting actions, in the order in which they were decided."""
        while self._actions:
            actions, self._actions = self._actions, []
            for action in actions:
                self._begin(action)

    def _take(self, facts: Sequence[Given]) -> None:
        """Handle facts. Actions are left to a task, for this may be called outside of any, where actions cannot begin."""
        if self._handling:
            self._further += facts
            return
        within, self._taking = self._taking, True
        try:
            if self._actions and any(isinstance(action, DropSocket | OpenSocket) for action in self._actions):
                # The websocket that they are of is as good as dropped.
                facts = [fact for fact in facts if not isinstance(fact, OF_A_WEBSOCKET)]
            self._handle(facts)
            plain = self._session.plain
            while self._further:
                facts, self._further = self._further, []
                self._handle(facts)
                plain = plain and self._session.plain
        finally:
            self._taking = within
        # A timer that has moved to a later moment fires too early, which has no effect, and plain frames do not move one to an earlier moment.
        if self._closed or self._actions or (not plain and self._nearer()):
            self._transport.wake()

    def _nearer(self) -> bool:
        """Return whether the deadline is before the moment that the transport waits for."""
        deadline = self._session.deadline
        return deadline is not None and (self._until_us is None or deadline < self._until_us)

    def _handle(self, batch: Sequence[Given]) -> None:
        self._handling = True
        now = self._transport.now()
        try:
            outputs = self._inputs.handle_all(batch, now)
        except Exception:
            raise
        except BaseException as error:
            # A Ctrl-C where a cell of a notebook makes a call, for example: half an input would be worse than the end.
            self._interrupted = type(error).__name__
            self._transport.wake()
            raise
        finally:
            self._handling = False
        if PLAIN.issuperset(map(type, outputs)):
            # Nearly every batch: it has no work for the pump.
            events: Sequence[Any] = outputs
        else:
            events = [output for output in outputs if isinstance(output, Event)]
            self._actions += (output for output in outputs if not isinstance(output, Event))
            self._closed = self._closed or any(isinstance(event, Closed) for event in events)
        if events:
            self._deliver(events, _wire_bytes(batch))


def _wire_bytes(batch: Sequence[Given]) -> int:
    """Return the size of the messages among some facts."""
    try:
        # Nearly every batch: only messages.
        return sum(map(len, map(_data, batch)))
    except AttributeError:
        return sum(len(given.data) for given in batch if isinstance(given, TextReceived))
