"""Orders on their way out: unique client ids, and the rows of the journal that remembers them.

Theory of operation. The exchange knows an order by a client id of 32 bits, and answers no question about an order whose placing was never
answered but by that id. So every order has one, and it is written down, with the moment that its signature is of, before the first byte
of its request leaves: an `OrderIntent`. An `IntentEnded` is written once its outcome is known. An intent with a first row and no second one is
`open`: its outcome is not known yet. The rows of a journal, folded in their order, are an `Intents`.

Ids are made of 10 bits of instance, one for each program that trades at the same time, and of 22 bits that count. The count goes
round after four million orders: it passes over ids whose outcome is not known, and over those that the user has given.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.http import Parameter
from backpack_proto.values import Value

__all__ = [
    "COUNTERS",
    "INSTANCES",
    "IdReserved",
    "IntentEnded",
    "IntentOutcome",
    "Intents",
    "JournalBegan",
    "JournalRow",
    "OrderIntent",
    "encode_rows",
    "intents_of",
    "read_rows",
]

INSTANCES: Final = 2**10
"""Number of programs of one account that can trade at the same time."""
COUNTERS: Final = 2**22
"""Number of ids of an instance before it begins again."""
FORMAT: Final = 1
"""Version of the rows of a journal."""
_CLIENT_ID: Final = "clientId"


class IntentOutcome(StrEnum):
    """Outcome of an order that was to be placed."""

    PLACED = "placed"
    """The exchange said so."""
    REFUSED = "refused"
    NOT_SENT = "not sent"
    FOUND = "found"
    """The request had no answer, and the order was found among open orders, history or fills."""
    NEVER_HAPPENED = "never happened"
    """The request had no answer, and the order was not in any of the three after its signature had run out."""
    DISMISSED = "dismissed"
    """The user said that it does not matter any more."""


class OrderIntent(Value, frozen=True, gc=False, kw_only=True, tag_field="row", tag="intended"):
    """An order as it was signed, before the first byte of its request left."""

    client_id: int
    symbol: str
    signed_ms: int
    """The exchange's time in its signature, in milliseconds since the epoch."""
    window_ms: int
    """Time after that in which the exchange accepts it (docs/protocol.md 2.1)."""
    clock_error_ms: int | None = 0
    """Largest error of that time against the exchange's own, or None where the exchange's clock had not been measured."""
    order: Mapping[str, Parameter]
    """Its parameters, as they stand on the wire."""


class IntentEnded(Value, frozen=True, gc=False, kw_only=True, tag_field="row", tag="ended"):
    """The outcome of an order."""

    client_id: int
    outcome: IntentOutcome
    order_id: str | None = None
    """Of an order that was placed or found."""


class IdReserved(Value, frozen=True, gc=False, kw_only=True, tag_field="row", tag="reserved"):
    """A client id that the user has given, and that the count could come to."""

    client_id: int


class JournalBegan(Value, frozen=True, gc=False, kw_only=True, tag_field="row", tag="began"):
    """The first row of a journal, written again by each program that opens it."""

    version: int = FORMAT
    instance: int
    account: str
    """Which key signs: a digest of the public one."""
    last_id: int | None = None
    """The last client id that was made, so that the next one is another."""
    reserved: tuple[int, ...] = ()
    """Client ids of the user that the count passes over."""


JournalRow: TypeAlias = JournalBegan | OrderIntent | IntentEnded | IdReserved

_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(JournalRow).decode


class Intents:
    """The client ids that are free, and the orders whose outcome is not known: a fold over the rows of a journal."""

    def __init__(self, instance: int, *, last_id: int | None = None) -> None:
        """The count goes on behind `last_id`, if that is one of this instance.

        Raises:
            ConfigurationError: there is no such instance.
        """
        if not 0 <= instance < INSTANCES:
            raise ConfigurationError(f"instance: a whole number from 0 to {INSTANCES - 1}, got {instance!r}")
        self.instance = instance
        self._last = self._counter_of(last_id) or 0
        self._reserved: dict[int, None] = {}
        self._open: dict[int, OrderIntent] = {}

    @property
    def open(self) -> Mapping[int, OrderIntent]:
        """The orders without an outcome, by client id: on their way, or unresolved."""
        return MappingProxyType(self._open)

    @property
    def last_id(self) -> int:
        """The last client id that was made."""
        return self._id(self._last)

    def next_id(self, taken: Container[int] = ()) -> int:
        """Make a client id: no open order has it, the user has not given it, and it is not among those that are `taken`.

        Raises:
            LocalProtocolError: no id is left.
        """
        for _ in range(COUNTERS):
            self._last = (self._last + 1) % COUNTERS
            client_id = self._id(self._last)
            # Programs take an id of zero for a missing one.
            if client_id and client_id not in self._open and client_id not in self._reserved and client_id not in taken:
                return client_id
        raise LocalProtocolError(f"instance {self.instance} has no client id left: {len(self._open)} orders have no outcome")

    def made_since(self, first: int, client_id: int) -> bool:
        """Return whether an id was made after another one of this instance, `first`, which was the last one then."""
        counter, before = self._counter_of(client_id), self._counter_of(first)
        if counter is None or before is None:
            return False
        return 0 < (counter - before) % COUNTERS <= (self._last - before) % COUNTERS

    def is_own(self, client_id: int) -> bool:
        """Return whether the count could come to an id."""
        return self._counter_of(client_id) is not None

    def is_reserved(self, client_id: int) -> bool:
        """Return whether the count passes over an id, because the user has given it."""
        return client_id in self._reserved

    def take(self, row: JournalRow) -> None:
        """Take in a row that was written."""
        match row:
            case OrderIntent(client_id=client_id):
                self._open[client_id] = row
            case IntentEnded(client_id=client_id):
                self._open.pop(client_id, None)
            case IdReserved(client_id=client_id):
                if self.is_own(client_id):
                    self._reserved[client_id] = None
            case JournalBegan(reserved=reserved):
                self._reserved |= dict.fromkeys(filter(self.is_own, reserved))

    def rows(self, account: str) -> list[JournalRow]:
        """Return the fewest rows that say the same: how a journal begins."""
        began = JournalBegan(instance=self.instance, account=account, last_id=self.last_id, reserved=tuple(self._reserved))
        return [began, *self._open.values()]

    def _id(self, counter: int) -> int:
        return self.instance * COUNTERS + counter

    def _counter_of(self, client_id: int | None) -> int | None:
        if client_id is None or client_id // COUNTERS != self.instance:
            return None
        return client_id % COUNTERS


def intents_of(
    orders: Iterable[Mapping[str, Parameter]], *, unix_us: int, window_ms: int, error_us: int | None = 0
) -> tuple[OrderIntent, ...]:
    """Return the intents of orders that are being signed. An order without a client id has no intent, for it could not be looked up.

    `unix_us` is the exchange's time in the signature, in microseconds since the epoch, and `error_us` how far it may be wrong, or None if
    that is not known.
    """
    return tuple(
        OrderIntent(
            client_id=client_id,
            symbol=str(order.get("symbol", "")),
            signed_ms=unix_us // 1000,
            window_ms=window_ms,
            clock_error_ms=None if error_us is None else -(-error_us // 1000),
            order=dict(order),
        )
        for order in orders
        if isinstance(client_id := order.get(_CLIENT_ID), int) and not isinstance(client_id, bool)
    )


def encode_rows(rows: Sequence[JournalRow]) -> bytes:
    """Return rows as they are written, a line of JSON each."""
    return b"".join(_encode(row) + b"\n" for row in rows)


def read_rows(data: bytes) -> list[JournalRow]:
    r"""Read the rows of a journal. A last line without its `\n` was being written when the machine stopped, and is left out.

    Raises:
        ConfigurationError: a line cannot be read, or is of a later version of the format.
    """
    rows: list[JournalRow] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = _decode_row(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as invalid:
            raise ConfigurationError(f"journal: line {number} cannot be read: {invalid}") from None
        if isinstance(row, JournalBegan) and row.version > FORMAT:
            raise ConfigurationError(f"journal: written by a later version, format {row.version}; this one reads {FORMAT}")
        rows.append(row)
    return rows
