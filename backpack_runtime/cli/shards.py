"""`backpack-feed shards`: which of several publishers has which market."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

import msgspec

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_runtime.client import BackpackClient
from backpack_runtime.publishing.shards import MOST_SHARDS, loads_of, open_weights, share_out

from .options import NATS_URL, add_connection, add_nats, exchange_of, settings_of
from .output import Printer
from .running import enter, run_until_signalled

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = (
    "Share all open markets out among N publishers, weighed by their trades of 24 hours. With --nats: from the plan that is kept there,"
    " in which nothing moves but what has to."
)


class _Part(msgspec.Struct, frozen=True):
    """One publisher's part, as a line says it."""

    shard: str
    weight: int
    share: float
    markets: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("parts", type=_parts, metavar="N", help=f"how many publishers, at most {MOST_SHARDS}")
    add_nats(parser)
    parser.add_argument("--write", action="store_true", help="with --nats: put the plan into force, also one of another N")
    add_connection(parser, sandbox="the markets of the simulated exchange")


def run(parsed: argparse.Namespace) -> int:
    """Print the plan, and return the exit code.

    Raises:
        ConfigurationError: the options contradict each other.
        BackpackError: the exchange or NATS cannot be used.
        MissingExtra: `--nats` needs the extra `nats`, which is not installed.
    """
    url = parsed.nats or os.environ.get(NATS_URL, "")
    if parsed.write and not url:
        raise ConfigurationError("--write puts a plan into NATS: give --nats as well")
    client = BackpackClient(settings=settings_of(parsed), sandbox=parsed.sandbox, streams=False)

    async def body() -> None:
        async with AsyncExitStack() as stack:
            await enter(client, stack, exchange_of(parsed))
            await Printer().send(await _planned(client, parsed, url))

    return run_until_signalled(body, backend=parsed.backend)


async def _planned(client: BackpackClient, parsed: argparse.Namespace, url: str) -> bytes:
    weights = await open_weights(client)
    plan = await _plan_in_nats(url, weights, parsed.parts, write=parsed.write) if url else share_out(weights, parsed.parts)
    loads = loads_of(plan, weights, parsed.parts)
    total = sum(loads)
    parts = [
        _Part(
            shard=f"{part + 1}/{parsed.parts}",
            weight=loads[part],
            share=round(loads[part] / total, 4) if total else 0.0,
            markets=[symbol for symbol, of in plan.items() if of == part],
        )
        for part in range(parsed.parts)
    ]
    if parsed.json:
        return msgspec.json.Encoder().encode_lines(parts)
    lines = [f"{part.shard:>9}  {part.share:>6.1%}  {len(part.markets):>4} markets  {' '.join(part.markets)}" for part in parts]
    return ("\n".join(lines) + "\n").encode()


async def _plan_in_nats(url: str, weights: Mapping[str, int], parts: int, *, write: bool) -> dict[str, int]:
    """Return the plan as it is, or would be, in NATS."""
    # Loaded here, for the command does without NATS as well.
    from backpack_runtime.publishing.engine import open_engine  # noqa: PLC0415
    from backpack_runtime.publishing.plan import read_plan, write_plan  # noqa: PLC0415

    async with open_engine(url, name="backpack-feed shards") as engine:
        await engine.check_streams(create=write)
        if write:
            return (await write_plan(engine, weights, parts, repartition=True)).markets
        before = await read_plan(engine)
        return share_out(weights, parts) if before is None else share_out(weights, parts, before.markets, before.parts)


def _parts(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SHARDS:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MOST_SHARDS}, got {shown(text)}")
    return int(text)
