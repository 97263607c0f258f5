"""Reads one subject of a stream of JetStream from a place on, in order and without a hole, across restarts of connection and server.

Theory. The server pushes to an inbox, numbers its messages, and says once a second that it is there. A number that is left out, a silence of
SILENT_SECONDS, or a server that has forgotten the consumer end the reading, and a new one begins behind the last message that came. The
server waits for an answer from time to time (flow control), which is given when all before it has been taken: so a slow reader is not flooded.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import anyio
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from .engine import APIError, Engine, EngineFailed, NatsError, described

__all__ = ["Place", "Reading", "at_time", "first_message", "from_now_on"]

_log = logging.getLogger("backpack_runtime.publishing")

HEARTBEAT_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 3.0
FORGET_SECONDS: Final = 30.0
"""When the server forgets a consumer without a reader."""
RETRY_SECONDS: Final = 0.5
REFUSED: Final = 400
"""Answer of JetStream to a request that will never do."""

Place = dict[str, Any]
"""Where a reading begins."""


def from_now_on() -> Place:
    """Begin with the next message."""
    return {"deliver_policy": DeliverPolicy.NEW}


def first_message() -> Place:
    """Begin with the first message that is kept."""
    return {"deliver_policy": DeliverPolicy.ALL}


def at_time(moment: datetime) -> Place:
    """Begin with the first message since a moment of the server."""
    return {"deliver_policy": DeliverPolicy.BY_START_TIME, "moment": moment}


@dataclass
class _Config(ConsumerConfig):
    """Settings of a consumer. Versions of nats-py differ in how they take a time."""

    moment: datetime | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the members that are sent."""
        members = super().as_dict()
        members.pop("moment", None)
        if self.moment is not None:
            members["opt_start_time"] = self.moment.isoformat()
        return members


class _Broken(Exception):
    """The reading has a hole, or has fallen silent."""


class Reading:
    """One reading."""

    def __init__(
        self, engine: Engine, stream: str, subject: str, place: Place, take: Callable[[Reading, Any], Awaitable[None]]
    ) -> None:
        """`take` is given each message, and may take its time."""
        self._engine = engine
        self._stream = stream
        self._subject = subject
        self._place = place
        self._take = take
        self._sequence: int | None = None
        self._told = False
        self.caught_up = False
        """True once all that the stream had has been read."""

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            EngineFailed: there will be no connection any more.
        """
        while True:
            await self._engine.wait_up()
            try:
                await self._follow()
            except (_Broken, NatsError, TimeoutError) as failed:
                if isinstance(failed, APIError) and failed.code == REFUSED:
                    raise EngineFailed(
                        f"NATS at {self._engine.url} refuses to have {self._subject} read: {described(failed)}"
                    ) from None
                # Once until it works again: it is tried for as long as it takes.
                _log.log(
                    logging.DEBUG if self._told else logging.WARNING,
                    "reading of %s begins anew: %s",
                    self._subject,
                    described(failed),
                )
                self._told = True
                await anyio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        connection = self._engine.connection
        inbox = connection.new_inbox()
        subscription = await connection.subscribe(inbox)
        consumer = None
        try:
            consumer = (await self._engine.stream.add_consumer(self._stream, self._config(inbox))).name
            await self._read(subscription)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(RETRY_SECONDS):
                await self._leave(subscription, consumer)

    def _config(self, inbox: str) -> ConsumerConfig:
        place = self._place
        if self._sequence is not None:
            place = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": self._sequence + 1}
        return _Config(
            deliver_subject=inbox,
            filter_subject=self._subject,
            ack_policy=AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_SECONDS,
            inactive_threshold=FORGET_SECONDS,
            mem_storage=True,
            num_replicas=1,
            max_deliver=1,
            **place,
        )

    async def _read(self, subscription: Any) -> None:
        came = 0
        while True:
            message = await subscription.next_msg(timeout=SILENT_SECONDS)
            headers = message.headers or {}
            if "Status" in headers:
                await self._answer(message, headers, came)
                continue
            about = message.metadata
            came += 1
            if about.sequence.consumer != came:
                raise _Broken(f"message {came} came as {about.sequence.consumer}")
            self._sequence = about.sequence.stream
            self._told = False
            await self._take(self, message)
            self.caught_up = self.caught_up or about.num_pending == 0

    async def _answer(self, message: Any, headers: dict[str, str], came: int) -> None:
        """Answer flow control, or take a sign of life, which also says how much was sent."""
        stalled = message.reply or headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._engine.connection.publish(stalled, b"")
        elif headers["Status"] != "100":
            raise _Broken(f"status {headers['Status']}")
        elif headers.get("Nats-Last-Consumer", str(came)) != str(came):
            raise _Broken(f"the server has sent {headers['Nats-Last-Consumer']} messages, {came} have come")
        else:
            self.caught_up = True

    async def _leave(self, subscription: Any, consumer: str | None) -> None:
        if not self._engine.is_up:
            return
        try:
            await subscription.unsubscribe()
            if consumer is not None:
                await self._engine.stream.delete_consumer(self._stream, consumer)
        except (NatsError, TimeoutError) as failed:
            # The server forgets it by itself.
            _log.debug("a consumer of %s could not be removed: %s", self._subject, described(failed))
