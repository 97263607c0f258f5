"""The loop that drives a session over a transport; it names no event loop and knows no protocol."""

from __future__ import annotations

from collections.abc import Callable

from backpack_proto.inputs import Given, Open
from backpack_proto.outputs import Closed
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event

from .transport import Transport

__all__ = ["Pump"]


class Pump:
    """Gives facts to the session, actions to the transport, and events, one batch for each batch of facts, to `deliver`."""

    def __init__(self, session: Session, transport: Transport, deliver: Callable[[list[Event]], None]) -> None:
        self._session = session
        self._transport = transport
        self._deliver = deliver
        self._closed = False

    async def run(self) -> None:
        """Open the connection and keep the session going until it has been closed."""
        self.give(Open())
        while not self._closed:
            self._handle(await self._transport.next(self._session.deadline))

    def give(self, given: Given) -> None:
        """Give the session one input at once, from any task of the loop, even from one that is being cancelled.

        Raises:
            LocalProtocolError: the session refuses it; nothing has changed.
        """
        self._handle([given])
        # The session's deadline may be an earlier one now.
        self._transport.wake()

    def _handle(self, batch: list[Given]) -> None:
        events: list[Event] = []
        now = self._transport.now()
        handle = self._session.handle
        try:
            for given in batch:
                for output in handle(given, now):
                    if isinstance(output, Event):
                        events.append(output)
                        self._closed = self._closed or isinstance(output, Closed)
                    else:
                        self._transport.perform(output)
        finally:
            if events:
                self._deliver(events)
