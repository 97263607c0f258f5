"""What the pump hands on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from backpack_proto.inputs import Fact, Given, PongReceived, TextReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Action
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event
from backpack_runtime.pump import Pump


class Transport:
    """One read comes, and then the application is gone."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self.take: Callable[[Sequence[Given]], None] = lambda _: None

    def now(self) -> Now:
        return Now(1, 1)

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        self.take = sink

    async def next(self, until: int | None) -> list[Given]:  # noqa: ARG002 - the contract's
        self.take(self.facts)
        raise EOFError

    def perform(self, action: Action) -> None:
        """Nothing."""

    def wake(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""

    def pause_reading(self) -> None:
        """Nothing."""

    def resume_reading(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    "facts",
    [
        [TextReceived(b"[" * 70)],
        [TextReceived(b"[" * 30), TextReceived(b"{" * 40)],
        [PongReceived(b"123"), TextReceived(b"[" * 30), PongReceived(b""), TextReceived(b"{" * 40)],
    ],
)
@pytest.mark.anyio
async def test_the_events_of_a_read_come_with_the_size_of_its_messages(facts: list[Fact]) -> None:
    """Their memory is estimated by it. What is no message weighs nothing."""
    delivered: list[tuple[int, int]] = []

    def deliver(events: Sequence[Event], size: int) -> None:
        delivered.append((len(events), size))

    with pytest.raises(EOFError):
        await Pump(Session(Random(1)), Transport(facts), deliver).run()
    assert delivered == [(sum(isinstance(fact, TextReceived) for fact in facts), 70)]
