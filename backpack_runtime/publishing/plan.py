"""The plan that says which publisher has which market: kept in NATS, so that all processes agree without knowing each other.

The first publisher with `--shard` makes it, the first one that sees a new listing adds it, and every other market stays. Each change
names the plan that it was made from. The engine refuses it if somebody else was faster, and then it is read again. Another number of
parts is a plan of its own, made from the one before by `backpack-feed shards N --nats URL --write`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskStatus

from backpack_proto.errors import BackpackError, ConfigurationError
from backpack_proto.rest.markets import Market
from backpack_runtime.client import BackpackClient

from .engine import LAST, APIError, Engine, EngineFailed, NatsError, NotFoundError, described
from .latest import EXPECTED, WRONG_SEQUENCE
from .shards import open_weights, share_out
from .subjects import PLAN, subject_of

__all__ = ["FollowedPlan", "Plan", "follow_plan", "read_plan", "write_plan"]

_log = logging.getLogger("backpack_runtime.publishing")

LOOK_SECONDS: Final = 15.0
"""The plan is read so often. New listings are taken up within a minute."""
ATTEMPTS: Final = 20
_SUBJECT: Final = subject_of(PLAN, "markets")


class Plan(msgspec.Struct, frozen=True):
    """Which part, from 0, has which market."""

    parts: int
    markets: dict[str, int]
    sequence: int = 0
    """Of the message that it was read from, 0 before the first one."""


async def read_plan(engine: Engine) -> Plan | None:
    """Return the plan in force, None before the first one.

    Raises:
        EngineFailed: NATS cannot be read, or its plan is invalid.
    """
    try:
        found = await engine.stream.get_last_msg(LAST, _SUBJECT)
        plan = msgspec.json.decode(found.data, type=Plan)
    except NotFoundError:
        return None
    except (NatsError, TimeoutError) as failed:
        raise EngineFailed(f"the plan of shards cannot be read from NATS at {engine.url}: {described(failed)}") from None
    except msgspec.DecodeError as unreadable:
        raise EngineFailed(f"the plan of shards in NATS at {engine.url} cannot be read: {unreadable}") from None
    if not all(0 <= part < plan.parts for part in plan.markets.values()):
        raise EngineFailed(f"the plan of shards in NATS at {engine.url} has parts beyond {plan.parts}")
    return msgspec.structs.replace(plan, sequence=found.seq)


async def write_plan(engine: Engine, weights: Mapping[str, int], parts: int, *, repartition: bool = False) -> Plan:
    """Have a place for each market in the plan in force, which is made if need be. Return it.

    Raises:
        ConfigurationError: it is for another number of parts, and `repartition` is not asked for.
        EngineFailed: NATS cannot be used.
    """
    for _ in range(ATTEMPTS):
        before = await read_plan(engine)
        if before is not None and before.parts != parts and not repartition:
            raise ConfigurationError(
                f"shard: the plan in NATS is for {before.parts} parts, not {parts}:"
                f" change it by `backpack-feed shards {parts} --nats URL --write` (docs/runbooks/scale_out.md)"
            )
        if before is None:
            markets = share_out(weights, parts)
        else:
            markets = share_out(weights, parts, before.markets, before.parts)
            if markets == before.markets and parts == before.parts:
                return before
        plan = Plan(parts=parts, markets=markets, sequence=0 if before is None else before.sequence)
        try:
            taken = await engine.stream.publish(
                _SUBJECT, msgspec.json.encode(plan), stream=LAST, headers={EXPECTED: str(plan.sequence)}
            )
        except APIError as refused:
            if refused.err_code != WRONG_SEQUENCE:
                raise EngineFailed(f"the plan of shards was refused by NATS at {engine.url}: {described(refused)}") from None
            continue  # somebody else was faster
        except (NatsError, TimeoutError) as failed:
            raise EngineFailed(f"the plan of shards cannot be written to NATS at {engine.url}: {described(failed)}") from None
        return msgspec.structs.replace(plan, sequence=taken.seq)
    raise EngineFailed(f"the plan of shards in NATS at {engine.url} changes faster than it can be written")


class FollowedPlan:
    """The plan as it was last read, and the markets that it lacks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lacking: set[str] = set()

    def part(self, number: int) -> Callable[[Market], bool]:
        """Return the rule that picks the markets of one part, from 0."""

        def picks(market: Market) -> bool:
            part = self.plan.markets.get(market.symbol)
            if part is None:
                self.lacking.add(market.symbol)
            return part == number

        return picks


async def follow_plan(
    engine: Engine,
    client: BackpackClient,
    parts: int,
    *,
    task_status: TaskStatus[FollowedPlan] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Make or read the plan, and have new listings in it from then on.

    Raises:
        ConfigurationError: the plan is for another number of parts.
        EngineFailed: NATS cannot be used at the start.
    """
    followed = FollowedPlan(await write_plan(engine, await open_weights(client), parts))
    task_status.started(followed)
    while True:
        await anyio.sleep(LOOK_SECONDS)
        try:
            if followed.lacking:
                found = await write_plan(engine, await open_weights(client), parts)
                followed.lacking -= found.markets.keys()
            else:
                found = await read_plan(engine) or followed.plan
        except ConfigurationError:
            _log.warning(
                "the plan of shards is for another number of parts now: this publisher goes on with what it has until it is replaced"
            )
            return
        except BackpackError as failed:
            _log.warning("the plan of shards could not be looked at: %s", failed)
            continue
        if found.parts == parts:
            followed.plan = found
