"""Messages: where an event is published, and by which id an engine recognises a repetition.

Two publishers of one market receive the same frames, so an id is made of the exchange's own numbers: the update ids of a change of a
book, the id of a trade. Values that a client derives from frames (the best levels, whether they were verified) may differ between two
publishers and are not published: of a `BookChanged` the change as it came, `Depth`, is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from backpack_proto import __version__
from backpack_proto.encoding import SCHEMA, encode_event
from backpack_proto.outputs import BookChanged, BookSynced, CallAnswered, CallFailed, CallUnresolved
from backpack_proto.streams.channels import CHANNEL_OF
from backpack_proto.streams.payloads import BookTicker, Depth, Event, Kline, StreamPayload, Trade
from backpack_proto.streams.unknown import UnknownPayload

from .subjects import BOOK, DEPTH, STATE, TRADE, subject_of

__all__ = ["FIRST", "LAST", "MESSAGE_ID", "ORDER", "PUBLISHER", "RECEIVED", "Message", "Messages"]

MESSAGE_ID: Final = "Nats-Msg-Id"
"""The engine's own header, by which it drops repetitions."""
SCHEMA_HEADER: Final = "Backpack-Schema"
VERSION: Final = "Backpack-Version"
PUBLISHER: Final = "Backpack-Publisher"
ORDER: Final = "Backpack-Engine-Us"
"""When the exchange made it: of two messages of one subject the later one is the newer one."""
EMITTED: Final = "Backpack-Emitted-Us"
RECEIVED: Final = "Backpack-Received-Us"
FIRST: Final = "Backpack-First"
LAST: Final = "Backpack-Last"
"""The ids that a message covers."""

_OF_ONE_CALLER: Final = (CallAnswered, CallFailed, CallUnresolved, UnknownPayload)
"""Events about one client alone, or without a subject."""


class Message(Struct, frozen=True, gc=False, kw_only=True):
    """One message, ready to leave."""

    subject: str
    message_id: str
    payload: bytes
    headers: dict[str, str]
    latest: bool
    """Only the newest of its subject counts."""
    order_us: int
    last: int | None = None
    """The last id that it covers, where it has any."""
    made_us: int
    """When this machine had it, by its wall clock."""


class Messages:
    """Makes the messages of one publisher."""

    def __init__(self, publisher: str, *, run: int) -> None:
        """`run` tells this run of the publisher from all others of its name."""
        self._publisher = publisher
        self._run = run
        self._told = 0

    def of(self, event: Event, unix_us: int) -> Message | None:
        """Return the message of an event, None for one that concerns its client alone."""
        match event:
            case BookChanged(delta=delta):
                return self._depth(delta, unix_us)
            case Depth():
                return self._depth(event, unix_us)
            case BookSynced(symbol=symbol, last=last):
                return self._make(event, BOOK, symbol, f"{last}", unix_us, order_us=event.engine_us, ids=(last, last))
            case Trade(symbol=symbol, trade_id=int(trade_id)):
                ids = (trade_id, trade_id)
                return self._make(event, TRADE, symbol, f"{trade_id}", unix_us, order_us=event.engine_us, ids=ids)
            case StreamPayload():
                return self._latest(event, unix_us)
            case _ if isinstance(event, _OF_ONE_CALLER):
                return None
            case _:
                self._told += 1
                return self._make(event, STATE, self._publisher, f"{self._run}-{self._told}", unix_us, order_us=unix_us)

    def _depth(self, delta: Depth, unix_us: int) -> Message:
        ids = (delta.first_update_id, delta.last_update_id)
        return self._make(delta, DEPTH, delta.symbol, f"{ids[0]}-{ids[1]}", unix_us, order_us=delta.engine_us, ids=ids)

    def _latest(self, event: StreamPayload, unix_us: int) -> Message | None:
        channel = CHANNEL_OF[type(event)]
        if channel.private:
            return None
        name: str = getattr(event, "symbol", "")
        order_us = getattr(event, "engine_us", None) or event.emitted_us or unix_us
        number = event.update_id if isinstance(event, BookTicker) else order_us
        words = f"{channel.value}-{event.interval}" if isinstance(event, Kline) else channel.value
        return self._make(event, words, name, f"{number}", unix_us, order_us=order_us, latest=True)

    def _make(
        self,
        event: Event,
        channel: str,
        name: str,
        number: str,
        unix_us: int,
        *,
        order_us: int,
        ids: tuple[int, int] | None = None,
        latest: bool = False,
    ) -> Message:
        message_id = f"{channel}.{name}:{number}"
        found: Mapping[str, Any] = {
            MESSAGE_ID: message_id,
            SCHEMA_HEADER: SCHEMA,
            VERSION: __version__,
            PUBLISHER: self._publisher,
            ORDER: order_us,
            EMITTED: getattr(event, "emitted_us", None),
            RECEIVED: getattr(event, "received_us", None),
            FIRST: None if ids is None else ids[0],
            LAST: None if ids is None else ids[1],
        }
        return Message(
            subject=subject_of(channel, name),
            message_id=message_id,
            payload=encode_event(event),
            headers={header: str(value) for header, value in found.items() if value is not None},
            latest=latest,
            order_us=order_us,
            last=None if ids is None else ids[1],
            made_us=getattr(event, "received_us", None) or unix_us,
        )
