"""The latest message of each subject, which no older one may replace, with any number of publishers.

Theory. Of each subject one message is under way, and one may wait, which a newer one replaces: there is no queue. A message says which message
of its subject it replaces (`Nats-Expected-Last-Subject-Sequence`), and the engine refuses it if that is not the last one any more. Then the
last one is read: if that is older by the exchange's own time, the message goes out against it, otherwise it is dropped. So two publishers may
be as late as they like.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
from anyio.abc import TaskGroup

from .engine import LAST, REQUEST_SECONDS, APIError, Engine, NatsError, NotFoundError, described
from .messages import ORDER, Message

__all__ = ["EXPECTED", "LatestWriter"]

_log = logging.getLogger("backpack_runtime.publishing")

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
WRONG_SEQUENCE: Final = 10071
RETRY_SECONDS: Final = 0.5


class LatestWriter:
    """The way of messages of which the newest counts."""

    def __init__(self, engine: Engine, tasks: TaskGroup) -> None:
        self._engine = engine
        self._tasks = tasks
        self._waiting: dict[str, Message] = {}
        self._busy: set[str] = set()
        self._known: dict[str, tuple[int, int]] = {}
        """Sequence and time of the last message of a subject, as far as this one knows."""
        self.written = 0
        self.older = 0
        """Messages that came too late to be the newest."""
        self.replaced = 0
        """Messages that a newer one of our own overtook while they waited."""

    @property
    def waiting(self) -> int:
        """Number of subjects with a message that is not written yet."""
        return len(self._busy | self._waiting.keys())

    def offer(self, message: Message) -> None:
        """Have a message written, unless a newer one comes before that."""
        subject = message.subject
        self.replaced += subject in self._waiting
        self._waiting[subject] = message
        if subject not in self._busy:
            self._busy.add(subject)
            self._tasks.start_soon(self._write_all, subject)

    async def _write_all(self, subject: str) -> None:
        try:
            while (message := self._waiting.pop(subject, None)) is not None:
                await self._engine.wait_up()
                try:
                    await self._write(message)
                except (NatsError, TimeoutError) as failed:
                    _log.debug("%s was not written: %s", message.message_id, described(failed))
                    self._known.pop(subject, None)
                    self._waiting.setdefault(subject, message)
                    await anyio.sleep(RETRY_SECONDS)
        finally:
            self._busy.discard(subject)

    async def _write(self, message: Message) -> None:
        subject = message.subject
        known = self._known.get(subject)
        sequence, order_us = await self._look(subject) if known is None else known
        if message.order_us < order_us:
            self.older += 1
            return
        headers = message.headers | {EXPECTED: str(sequence)}
        try:
            taken = await self._engine.stream.publish(
                subject, message.payload, timeout=REQUEST_SECONDS, stream=LAST, headers=headers
            )
        except APIError as refused:
            if refused.err_code != WRONG_SEQUENCE:
                raise
            # Somebody else has written meanwhile.
            self._known.pop(subject, None)
            self._waiting.setdefault(subject, message)
            return
        self.written += 1
        # The sequence of one that the engine had already may be an old one: then the next message is refused, and looks again.
        self._known[subject] = (taken.seq, message.order_us)

    async def _look(self, subject: str) -> tuple[int, int]:
        try:
            found = await self._engine.stream.get_last_msg(LAST, subject, direct=True)
        except NotFoundError:
            return 0, 0
        return found.seq, int((found.headers or {}).get(ORDER, "0"))
