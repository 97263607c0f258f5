"""The desk that every order of a client passes: it gets a client id, is written down before it leaves, and is crossed off when its outcome is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

import anyio
from anyio.abc import TaskGroup

from backpack_proto.account.values import Order
from backpack_proto.errors import ApiError, BackpackError, ClientClosed, LocalProtocolError, OutcomeUnknown
from backpack_proto.http import Argument
from backpack_proto.inputs import Arguments, RequestFailed
from backpack_proto.orders.intents import IdReserved, IntentEnded, IntentOutcome, OrderIntent
from backpack_proto.outputs import Action, CallAnswered, CallFailed, SendRequest, WithdrawRequest
from backpack_proto.rest.endpoints.rules import BATCH, Endpoint

from .instances import Lease
from .journal import Durability, Journal, JournalFailed

__all__ = ["OrderDesk", "OrderGate"]

_log = logging.getLogger(__name__)

_WIRE: Final = "clientId"
_NAMES: Final = (_WIRE, "client_id")


class OrderDesk:
    """The client ids and the journal of one client."""

    def __init__(
        self, journal: Journal, lease: Lease, *, in_doubt: Callable[[], Container[int]], taken: Container[int]
    ) -> None:
        """`in_doubt` has the call ids of calls that were given up and may have been sent, `taken` client ids that are in use."""
        self.journal = journal
        self._first = journal.intents.last_id
        """The last client id before those that are made here."""
        self._others: set[int] = set(journal.intents.open)
        """The client ids of this client that it has not made: the user's, and those that were taken over without an outcome."""
        self._impossible: set[int] = set()
        """Those of orders that, as the exchange's lists say, never happened."""
        self._lease = lease
        self._in_doubt = in_doubt
        self._taken = taken
        self._calls: dict[int, tuple[int, ...]] = {}
        """The client ids of each call that has not ended."""
        self._given_up: set[int] = set()
        """Those among the calls that are not awaited."""
        self._closing = False
        self._ended = anyio.Event()

    @property
    def unresolved(self) -> Mapping[int, OrderIntent]:
        """The orders whose outcome is not known, and whose answer is not awaited, by client id."""
        self._look_after_given_up()
        waited = self._waited
        return {client_id: intent for client_id, intent in self.journal.intents.open.items() if client_id not in waited}

    @property
    def has_orders(self) -> bool:
        """True when any order was placed here, or taken over."""
        return bool(self._others) or self.journal.intents.last_id != self._first

    def is_mine(self, client_id: int | None) -> bool:
        """Return whether an order is of this client, or one that it took over without an outcome."""
        return client_id is not None and (client_id in self._others or self.journal.intents.made_since(self._first, client_id))

    def with_ids(self, endpoint: Endpoint, parameters: Arguments) -> tuple[Arguments, tuple[int, ...]]:
        """Return the parameters of a call that places orders with a client id in each, and these ids.

        Raises:
            ClientClosed: the client is being left, and takes no orders any more.
            LocalProtocolError: an id is that of an order whose outcome is not known.
            JournalFailed: an id of the user cannot be written down.
        """
        if self._closing:
            raise ClientClosed(f"{endpoint.name}: the client is being left, and takes no new orders")
        if not endpoint.batch:
            order, client_id = self._with_id(parameters)
            return order, (client_id,)
        orders = parameters.get(BATCH)
        if not isinstance(orders, Sequence) or isinstance(orders, str) or not all(isinstance(one, Mapping) for one in orders):
            return parameters, ()  # to be refused in its own words
        pairs = [self._with_id(order) for order in orders]
        client_ids = tuple(client_id for _, client_id in pairs)
        if len(set(client_ids)) < len(client_ids):
            twice = next(client_id for client_id in client_ids if client_ids.count(client_id) > 1)
            raise LocalProtocolError(f"{endpoint.name}: client_id {twice} is given to two of the {BATCH}")
        return {BATCH: [cast("Mapping[str, Argument]", order) for order, _ in pairs]}, client_ids

    def begin(self, call_id: int, client_ids: tuple[int, ...]) -> None:
        """Know a call that is about to be made."""
        self._calls[call_id] = client_ids
        self._others.update(one for one in client_ids if not self.is_mine(one))

    def give_up(self, call_id: int) -> None:
        """Note that the answer to a call is not awaited, or that it was refused. If it had been sent, its answer may still come."""
        if call_id in self._calls:
            self._given_up.add(call_id)
            self._look_after_given_up()

    def settle(self, event: CallAnswered | CallFailed) -> None:
        """Write down how a call ended, if it was to place orders."""
        self._given_up.discard(event.call_id)
        client_ids = self._calls.pop(event.call_id, ())
        if not client_ids:
            return
        open_ = self.journal.intents.open
        rows = list(_rows(client_ids, event))
        known = [row for row in rows if row.client_id in open_]
        if known:
            self.journal.note(known)
        for row in rows:
            if row.client_id in self._impossible and row.outcome is IntentOutcome.PLACED:
                _log.error(
                    "order %s with client_id %s was placed, though the exchange's lists did not have it: cancel it if it is not wanted",
                    row.order_id,
                    row.client_id,
                )
        self._tell()

    def end(self, rows: Iterable[IntentEnded]) -> None:
        """Write down outcomes that were found out otherwise."""
        written = list(rows)
        if written:
            self.journal.note(written)
        # Their answers may still come, as long as their calls are known.
        late = self._waited
        self._impossible &= late
        self._impossible |= {row.client_id for row in written if row.outcome is IntentOutcome.NEVER_HAPPENED} & late

    async def idle(self) -> None:
        """Wait until no order is on its way."""
        while self._on_its_way():
            await self._ended.wait()

    def close(self) -> None:
        """Take no new orders."""
        self._closing = True

    def release(self) -> None:
        """Let other programs have the journal and the number of this instance."""
        self._look_after_given_up()
        self.journal.close()
        self._lease.release()

    def _with_id(self, order: Arguments) -> tuple[Arguments, int]:
        given = next((order[name] for name in _NAMES if order.get(name) is not None), None)
        intents = self.journal.intents
        if given is None:
            client_id = intents.next_id(self._taken)
            self._lease.cover(client_id)
            return {**order, _WIRE: client_id}, client_id
        if not isinstance(given, int) or isinstance(given, bool):
            return order, 0  # to be refused in its own words
        if given in intents.open or given in self._waited:
            raise LocalProtocolError(
                f"client_id: {given} is that of an order whose outcome is not known; `await client.resolve()` finds it out"
            )
        if intents.is_own(given) and not intents.is_reserved(given):
            self.journal.write([IdReserved(client_id=given)])
        return order, given

    @property
    def _waited(self) -> set[int]:
        """The client ids of all calls that have not ended."""
        return {client_id for client_ids in self._calls.values() for client_id in client_ids}

    def _on_its_way(self) -> bool:
        self._look_after_given_up()
        return bool(self._calls)

    def _look_after_given_up(self) -> None:
        """Cross off calls that were given up in time: they are those that are not in doubt any more."""
        if not self._given_up:
            return
        in_doubt = self._in_doubt()
        for call_id in [call_id for call_id in self._given_up if call_id not in in_doubt]:
            self._given_up.discard(call_id)
            client_ids = self._calls.pop(call_id, ())
            open_ = self.journal.intents.open
            ended = [IntentEnded(client_id=one, outcome=IntentOutcome.NOT_SENT) for one in client_ids if one in open_]
            if ended:
                self.journal.note(ended)
            self._tell()

    def _tell(self) -> None:
        self._ended.set()
        self._ended = anyio.Event()


def _rows(client_ids: Sequence[int], event: CallAnswered | CallFailed) -> Iterator[IntentEnded]:
    """Return the outcome of each order of a call, where the event tells it."""
    if isinstance(event, CallFailed):
        if isinstance(event.error, OutcomeUnknown):
            return
        # All that is neither a refusal nor in doubt never left (`OpenCall.failure`).
        refused = isinstance(event.error, ApiError)
        outcome = IntentOutcome.REFUSED if refused else IntentOutcome.NOT_SENT
        yield from (IntentEnded(client_id=client_id, outcome=outcome) for client_id in client_ids)
        return
    results = event.result if isinstance(event.result, tuple) else (event.result,)
    for client_id, result in zip(client_ids, results, strict=True):
        if isinstance(result, Order):
            yield IntentEnded(client_id=client_id, outcome=IntentOutcome.PLACED, order_id=result.order_id)
        else:
            yield IntentEnded(client_id=client_id, outcome=IntentOutcome.REFUSED)


class OrderGate:
    """Stands between session and transport: an order passes once it has been written down."""

    def __init__(
        self,
        journal: Callable[[], Journal],
        perform: Callable[[Action], None],
        give: Callable[[RequestFailed], None],
        tasks: TaskGroup,
    ) -> None:
        """`perform` begins an action, `give` passes its result to the session."""
        self._journal = journal
        self._perform = perform
        self._give = give
        self._tasks = tasks
        self._held: dict[int, SendRequest] = {}
        """Those that wait for the disk."""

    def perform(self, action: Action) -> None:
        """Begin an action. An order that cannot be written down fails as not sent."""
        match action:
            case SendRequest(intents=intents) if intents:
                journal = self._journal()
                try:
                    journal.write(intents)
                except JournalFailed as failed:
                    self._tasks.start_soon(self._refuse, action.request_id, failed)
                    return
                if journal.durability is Durability.PROCESS or journal.path is None:
                    self._perform(action)
                    return
                self._held[action.request_id] = action
                self._tasks.start_soon(self._send_when_settled, journal, action)
            case WithdrawRequest(request_id) if request_id in self._held:
                del self._held[request_id]
                self._tasks.start_soon(self._refuse, request_id, LocalProtocolError("it was withdrawn"))
            case _:
                self._perform(action)

    async def _send_when_settled(self, journal: Journal, action: SendRequest) -> None:
        try:
            await journal.settle()
        except JournalFailed as failed:
            if self._held.pop(action.request_id, None) is not None:
                self._give(_failed(action.request_id, failed))
            return
        # Withdrawn meanwhile, or not. And a transport does not send requests that are too late.
        if self._held.pop(action.request_id, None) is not None:
            self._perform(action)

    async def _refuse(self, request_id: int, error: BackpackError) -> None:
        self._give(_failed(request_id, error))


def _failed(request_id: int, error: BackpackError) -> RequestFailed:
    return RequestFailed(request_id=request_id, reason=str(error), sent=False)
