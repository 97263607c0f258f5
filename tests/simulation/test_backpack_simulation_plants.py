"""Rules of the core, each broken by a session that lies about one thing: the simulation turns red, and is green without the lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from backpack_proto import claims
from backpack_proto.account.values import Filled
from backpack_proto.inputs import Given, ResponseReceived, TextReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Output, SendRequest, WithdrawRequest
from backpack_proto.session import Session
from tests.simulation.run import KINDS, run_plan
from tests.simulation.schedule import Episode, Plan, draw_plan
from tests.simulation.world import START, Violation

_FIRST = re.compile(rb'"U":(\d+)')
_LAST = re.compile(rb'"u":(\d+)')
_SENT = re.compile(rb'"E":(\d+)')


class NoGapRule(Session):
    """Believes of every frame that it begins where the last one ended."""

    _reached: dict[bytes, int]

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        if isinstance(given, TextReceived) and b'"e":"depth"' in given.data and (found := _LAST.search(given.data)):
            reached = self.__dict__.setdefault("_reached", {})
            stream = given.data[given.data.rindex(b'"stream"') :]
            last = reached.get(stream)
            reached[stream] = int(found[1])
            if last is not None and last < int(found[1]):
                given = TextReceived(_FIRST.sub(b'"U":%d' % (last + 1), given.data))
        return super().handle_all([given], now, ends)


class NoStraddle(Session):
    """Believes that a snapshot is three updates newer than it is."""

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        if isinstance(given, ResponseReceived) and b'"lastUpdateId"' in given.body and given.status == 200:
            body = re.sub(rb'"lastUpdateId":"(\d{10})"', lambda found: b'"lastUpdateId":"%d"' % (int(found[1]) + 3), given.body)
            given = replace(given, body=body)
        return super().handle_all([given], now, ends)


class WrongFills(Session):
    """Reports fills of twice their quantity."""

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        return [
            replace(output, fill=replace(output.fill, quantity=2 * output.fill.quantity))
            if isinstance(output, Filled)
            else output
            for output in super().handle_all([given], now, ends)
        ]


class OwnClock(Session):
    """Takes no fill from the history that is older than ten minutes by its own clock."""

    _fills: set[int]

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        asked: set[int] = self.__dict__.setdefault("_fills", set())
        if isinstance(given, ResponseReceived) and given.request_id in asked and given.status == 200:
            oldest = _iso(now.unix_us - 600_000_000)
            rows = [row for row in msgspec.json.decode(given.body) if row["timestamp"] >= oldest]
            given = replace(given, body=msgspec.json.encode(rows))
        outputs = super().handle_all([given], now, ends)
        asked |= {
            output.request_id
            for output in outputs
            if isinstance(output, SendRequest) and output.request.target.startswith("/wapi/v1/history/fills")
        }
        return outputs


def _iso(unix_us: int) -> str:
    return datetime.fromtimestamp(unix_us // 1_000_000, UTC).replace(tzinfo=None).isoformat()


class NeverWithdraws(Session):
    """Forgets to withdraw what its caller gave up."""

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        return [output for output in super().handle_all([given], now, ends) if not isinstance(output, WithdrawRequest)]


class EverFresh(Session):
    """Believes of every frame that the exchange has sent it just now."""

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        if isinstance(given, TextReceived):
            emitted_us = now.mono_us + START.unix_us - START.mono_us
            given = TextReceived(_SENT.sub(b'"E":%d' % emitted_us, given.data))
        return super().handle_all([given], now, ends)


class FailedChecksPass(Session):
    """Takes a snapshot that is refused for one that shows what the book is already."""

    _symbols: dict[int, str]

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        symbols = self.__dict__.setdefault("_symbols", {})
        if (
            isinstance(given, ResponseReceived)
            and given.status != 200
            and (symbol := symbols.get(given.request_id)) is not None
        ):
            book = self.book(symbol)
            body = {
                "asks": [[level.price_text, level.quantity_text] for level in book.asks()],
                "bids": [[level.price_text, level.quantity_text] for level in reversed(book.bids())],
                "lastUpdateId": str(book.last),
                "timestamp": book.engine_us,
            }
            given = replace(given, status=200, body=msgspec.json.encode(body))
        outputs = super().handle_all([given], now, ends)
        for output in outputs:
            if isinstance(output, SendRequest) and output.request.target.startswith("/api/v1/depth"):
                symbols[output.request_id] = output.request.target.partition("symbol=")[2].partition("&")[0]
        return outputs


class LongPath(Session):
    """Holds a path for proved for a minute."""


class LongChain(Session):
    """Holds a chain for proved for hours, and audits as seldom."""


class Plant(NamedTuple):
    kind: type[Session]
    faults: tuple[str, ...]
    checks: tuple[str, ...]


PLANTS = {
    "gap rule": Plant(NoGapRule, ("frames_dropped",), ("best levels", "whole book", "no false alarm", "known id")),
    "straddle": Plant(NoStraddle, ("reset",), ("resync", "known id", "best levels", "whole book")),
    "fill arithmetic": Plant(WrongFills, ("second_client",), ("fills are real",)),
    "clock cursor": Plant(OwnClock, ("clock_step", "outage_orders"), ("ledger", "sum of fills", "no false alarm")),
    "path bound": Plant(LongPath, ("mute",), ("path",)),
    "chain bound": Plant(LongChain, ("mute_market",), ("chain",)),
    "lateness": Plant(EverFresh, ("late_constant",), ("path", "age", "lateness is said")),
    "failed check": Plant(FailedChecksPass, ("market_closed",), ("chain",)),
    "withdrawn calls": Plant(NeverWithdraws, ("abandoned_calls",), ("not after giving up",)),
}


LASTING = (LongPath, LongChain, EverFresh, FailedChecksPass)
"""Lies that one long episode brings to light."""


def plan_of(plant: Plant) -> Plan:
    plan = draw_plan(11, 0.4, KINDS, books=2, only=plant.faults)
    episodes = plan.episodes
    if plant.kind in LASTING:
        episodes = (Episode(kind=plant.faults[0], start_ms=60_000, duration_ms=190_000, seed=1),)
    return replace(plan, books={"S1_USDC": 0.06, "S2_USDC": 0.06}, channel="book", account=True, episodes=episodes)


@pytest.mark.gate
@pytest.mark.parametrize("rule", PLANTS)
def test_a_broken_rule_turns_the_simulation_red(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = PLANTS[rule]
    if plant.kind is LongPath:
        monkeypatch.setattr(claims, "PATH_BOUND_US", 60_000_000)
    elif plant.kind is LongChain:
        monkeypatch.setattr(claims, "AUDIT_US", 10**10)
    with pytest.raises(Violation) as caught:
        run_plan(plan_of(plant), plant.kind)
    assert caught.value.check in plant.checks, str(caught.value)


@pytest.mark.gate
@pytest.mark.parametrize("rule", PLANTS)
def test_the_kept_rule_leaves_it_green(rule: str) -> None:
    run_plan(plan_of(PLANTS[rule]))
