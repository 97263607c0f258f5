"""REST calls of a client that wait for their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio

from backpack_proto.errors import BackpackError
from backpack_proto.inputs import Arguments, Call, Withdraw
from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.rest.codec import outcome_unknown
from backpack_proto.rest.endpoints.table import find_endpoint

from .orders.desk import OrderDesk

__all__ = ["OpenCalls"]

Give: TypeAlias = Callable[[Call | Withdraw], None]


class _Answer:
    """Where the answer to a call is put."""

    def __init__(self) -> None:
        self.event: CallAnswered | CallFailed | None = None
        self.arrived = anyio.Event()


class OpenCalls:
    """Brings callers and answers together."""

    def __init__(self, deliver: Callable[[CallAnswered | CallFailed], None]) -> None:
        """`deliver` takes the answer of a given-up call that changes something."""
        self._deliver = deliver
        self._answers: dict[int, _Answer] = {}
        self._last_call_id = 0

    async def call(
        self,
        give: Give,
        endpoint: str,
        parameters: Arguments,
        *,
        max_wait_us: int | None,
        desk: OrderDesk | None = None,
        client_ids: tuple[int, ...] = (),
    ) -> object:
        """Make a call and wait for its result. `give` hands a command to the session.

        A call that places orders is known to the `desk` that has given them their `client_ids`.

        Raises:
            BackpackError: it failed.
        """
        self._last_call_id += 1
        call_id = self._last_call_id
        answer = _Answer()
        command = Call(call_id=call_id, endpoint=endpoint, parameters=parameters, max_wait_us=max_wait_us)
        self._answers[call_id] = answer
        if desk is not None:
            desk.begin(call_id, client_ids)
        try:
            give(command)
            await answer.arrived.wait()
        except BaseException:
            del self._answers[call_id]
            self._withdraw(give, call_id, answer)
            if desk is not None:
                desk.give_up(call_id)
            raise
        del self._answers[call_id]
        if isinstance(answer.event, CallAnswered):
            return answer.event.result
        if isinstance(answer.event, CallFailed):
            raise answer.event.error
        raise _interrupted(endpoint, parameters)

    def take(self, event: CallAnswered | CallFailed) -> bool:
        """Give an answer to its caller. Return False when the call was given up and changes something."""
        answer = self._answers.get(event.call_id)
        if answer is None:
            return False
        answer.event = event
        answer.arrived.set()
        return True

    def end(self) -> None:
        """The session has ended: answers will not come any more."""
        for answer in self._answers.values():
            answer.arrived.set()

    def _withdraw(self, give: Give, call_id: int, answer: _Answer) -> None:
        """Give a call up: do not send it, and let its outcome be among the events."""
        if answer.event is None:
            give(Withdraw(call_id))
        elif not find_endpoint(answer.event.endpoint).idempotent:
            # It came in the same moment in which the caller gave up.
            self._deliver(answer.event)


def _interrupted(endpoint: str, parameters: Arguments) -> BackpackError:
    """Return the error of a call that the session left behind. Whether it had been sent is not known any more."""
    row, reason = find_endpoint(endpoint), "the session ended before the answer came"
    if row.idempotent:
        return BackpackError(f"{row.name}: {reason}")
    return outcome_unknown(row, row.check(parameters), reason)
