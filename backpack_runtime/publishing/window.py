"""Messages on their way to the engine: a bounded number without an acknowledgement, in order, and each again until it has one.

Theory. Messages leave in the order in which they come, over one connection, and their acknowledgements come back later. A message that
has waited too long for one, and every message without one after a reconnect, leaves again, the oldest first and under the same id: the engine
drops repetitions. A full window takes no message, so its user stops reading.

The engine remembers ids for `DUPLICATE_SECONDS` only. A message that is older than half of that is compared with the last one of its
subject first: where the engine has that id or a later one, another publisher was there, and it is left out.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import anyio
import msgspec

from backpack_runtime.transport import system_now

from .engine import DUPLICATE_SECONDS, FEED, Engine, NatsError, NotFoundError, described
from .messages import LAST, Message

__all__ = ["Window"]

_log = logging.getLogger("backpack_runtime.publishing")

WINDOW: Final = 512
"""Messages without an acknowledgement."""
WINDOW_BYTES: Final = 8 * 1024**2
ACK_SECONDS: Final = 3.0
"""A message without an acknowledgement for so long leaves again."""
LOOK_SECONDS: Final = 0.25
LATE_US: Final = int(DUPLICATE_SECONDS * 1_000_000 / 2)
"""An older message may have been forgotten by the engine."""


class _Sent:
    """A message without an acknowledgement."""

    __slots__ = ("at", "message")

    def __init__(self, message: Message, at: float) -> None:
        self.message = message
        self.at = at


class Window:
    """The way of messages that count each, into the stream that has them all."""

    def __init__(self, engine: Engine, *, messages: int = WINDOW) -> None:
        self._engine = engine
        self._limit = messages
        self._sent: dict[int, _Sent] = {}
        """In the order in which they came."""
        self._bytes = 0
        self._number = 0
        self._reply = ""
        self._order = anyio.Lock()
        """The task that has it writes."""
        self._space = anyio.Event()
        self._again = anyio.Event()
        self._covered: dict[str, int] = {}
        """The last id that the engine has of a subject, as far as it was looked up since the connection was made."""
        self.acknowledged = 0
        self.duplicates = 0
        """Of these, the messages that the engine had."""
        self.left_out = 0
        """Messages that were too late."""
        self.refused: str | None = None
        """Why the engine does not take the oldest message, None while it does."""
        self.oversized = 0
        """Messages that are larger than the engine takes, and are lost."""

    @property
    def waiting(self) -> int:
        """Number of messages without an acknowledgement."""
        return len(self._sent)

    @property
    def oldest_seconds(self) -> float:
        """Time that the oldest of them has waited since it was made."""
        first = next(iter(self._sent.values()), None)
        return 0.0 if first is None else max(system_now().unix_us - first.message.made_us, 0) / 1e6

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take acknowledgements, and send messages again that lack one."""
        inbox = self._engine.connection.new_inbox()
        await self._engine.connection.subscribe(f"{inbox}.*", cb=self._acknowledge)
        self._reply = inbox
        self._engine.reconnected.append(self._reconnected)
        task_status.started()
        while True:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._again.wait()
            await self._look_after()

    async def publish(self, message: Message) -> None:
        """Have a message published, behind all others. Waits while the window is full or there is no connection.

        Raises:
            EngineFailed: there will be no connection any more.
        """
        if len(message.payload) > self._engine.connection.max_payload:
            self.oversized += 1
            _log.error(
                "%s has %d bytes, more than NATS takes (max_payload): it is not published",
                message.message_id,
                len(message.payload),
            )
            return
        while len(self._sent) >= self._limit or self._bytes >= WINDOW_BYTES:
            await self._space.wait()
        await self._engine.wait_up()
        async with self._order:
            if await self._is_covered(message):
                self.left_out += 1
                return
            self._number += 1
            number = self._number
            self._bytes += len(message.payload)
            self._sent[number] = _Sent(message, anyio.current_time())
            await self._write(number, message)

    async def drain(self) -> None:
        """Wait until all messages are acknowledged, and send them again meanwhile."""
        while self._sent:
            with anyio.move_on_after(LOOK_SECONDS):
                await self._space.wait()
            await self._look_after()

    async def _look_after(self) -> None:
        """Send messages again that lack an acknowledgement, after a while or over a new connection."""
        first = next(iter(self._sent.values()), None)
        overdue = first is not None and anyio.current_time() - first.at > ACK_SECONDS
        if self._engine.is_up and (self._again.is_set() or overdue):
            self._again = anyio.Event()
            await self._send_all_again()

    def _reconnected(self) -> None:
        self._covered.clear()
        self._again.set()

    async def _send_all_again(self) -> None:
        async with self._order:
            for number, sent in list(self._sent.items()):
                if number not in self._sent:
                    continue  # acknowledged meanwhile
                if await self._is_covered(sent.message):
                    self.left_out += 1
                    self._settle(number)
                    continue
                sent.at = anyio.current_time()
                await self._write(number, sent.message)

    async def _write(self, number: int, message: Message) -> None:
        try:
            await self._engine.connection.publish(
                message.subject, message.payload, reply=f"{self._reply}.{number}", headers=message.headers
            )
        except NatsError as failed:
            # It is sent again when there is a connection.
            _log.debug("%s could not be written: %s", message.message_id, described(failed))

    async def _is_covered(self, message: Message) -> bool:
        """Return whether a late message, whose id the engine may have forgotten, was published by somebody."""
        if message.last is None or system_now().unix_us - message.made_us < LATE_US:
            return False
        last = self._covered.get(message.subject)
        if last is None:
            try:
                found = await self._engine.stream.get_last_msg(FEED, message.subject, direct=True)
            except NotFoundError:
                last = -1
            except (NatsError, TimeoutError) as failed:
                _log.debug("the last message of %s could not be read: %s", message.subject, described(failed))
                return False
            else:
                last = int((found.headers or {}).get(LAST, "-1"))
            self._covered[message.subject] = last
        return message.last <= last

    async def _acknowledge(self, reply: Any) -> None:
        number = int(reply.subject.rpartition(".")[2])
        if number not in self._sent:
            return
        error = _error_in(reply)
        if error is not None:
            if self.refused is None:
                _log.error("NATS does not take %s: %s", self._sent[number].message.message_id, error)
            # It is sent again as one that has no acknowledgement.
            self.refused = error
            return
        if self.refused is not None:
            _log.warning("NATS takes messages again")
            self.refused = None
        self.acknowledged += 1
        self.duplicates += b'"duplicate"' in reply.data
        self._settle(number)

    def _settle(self, number: int) -> None:
        self._bytes -= len(self._sent.pop(number).message.payload)
        # A new one for the next task that waits. Those that wait now have the old one.
        self._space.set()
        self._space = anyio.Event()


def _error_in(reply: Any) -> str | None:
    """Return why a message was not taken, None where it was."""
    if reply.headers and "Status" in reply.headers:
        return f"no stream takes it (status {reply.headers['Status']})"
    try:
        answer = msgspec.json.decode(reply.data)
    except msgspec.DecodeError:
        return "its answer cannot be read"
    error = answer.get("error") if isinstance(answer, dict) else {"description": "its answer cannot be read"}
    return None if error is None else str(error.get("description", error))
