"""`backpack-feed publish`: market data to NATS JetStream, for many consumers and with publishers that stand in for each other."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import anyio

from backpack_proto.encoding import encode_event
from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.published import PublisherReport
from backpack_proto.text import printable
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import SlowConsumer
from backpack_runtime.market_selection import Symbols
from backpack_runtime.publishing.shards import MOST_SHARDS
from backpack_runtime.transport import system_now

from .complaints import FAILED
from .events import time_of_day
from .options import add_connection, add_faults, add_nats, exchange_of, names, nats_url_of, settings_of
from .output import Printer
from .running import enter, run_until_signalled

if TYPE_CHECKING:
    from backpack_runtime.publishing.publisher import Publisher

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = (
    "Publish market data to NATS JetStream until Ctrl-C. Two publishers of one market make one stream: the engine drops what it has."
    " A line every two seconds says how it goes."
)


class Shard(NamedTuple):
    """One part of all markets, from 1 to the number of parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    which = parser.add_argument_group(
        "which markets", "Every open market, new listings included, unless one of these is given."
    )
    which.add_argument("symbols", nargs="*", metavar="SYMBOL", help="SOL_USDC or SOL-USDC")
    which.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="part I of N (1/4 to 4/4) of all open markets, by the plan that is kept in NATS (see `backpack-feed shards`)",
    )
    add_nats(parser)
    parser.add_argument(
        "--name", help="of this publisher, unlike that of all others (default: machine and process)", metavar="NAME"
    )
    parser.add_argument(
        "--channels", type=names, default=("book", "trades"), metavar="NAME,...", help="as of `watch` (default: book,trades)"
    )
    add_connection(parser, sandbox="a simulated exchange that is started along")
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Publish until the time is over or a signal comes, and then all that was received. Returns the exit code, 1 if a message could not be published.

    Raises:
        LocalProtocolError: the options name something that does not exist.
        ConfigurationError: the options contradict each other, or the streams in NATS have other settings.
        BackpackError: the exchange or NATS cannot be used.
        OSError: the output cannot be written.
        MissingExtra: the extra `nats` is not installed.
    """
    from backpack_runtime.publishing.publisher import (  # noqa: PLC0415 - an extra, which need not be installed
        checked_channels,
        open_publisher,
    )

    url = nats_url_of(parsed)
    if parsed.symbols and parsed.shard is not None:
        raise ConfigurationError("--shard has markets of its own: leave out the symbols")
    if parsed.faults and not parsed.sandbox:
        raise ConfigurationError("--faults is about a simulated exchange: give --sandbox as well")
    channels = checked_channels(parsed.channels)
    client = BackpackClient(
        channels=(),
        settings=settings_of(parsed),
        sandbox=parsed.sandbox,
        sandbox_faults=",".join(planned.text for planned in parsed.faults),
        book_levels=1,
        slow_consumer=SlowConsumer.BLOCK,
    )
    left: list[int] = []

    async def body() -> None:
        async with AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(open_publisher(url, name=parsed.name))
            await enter(client, stack, exchange_of(parsed))
            try:
                with anyio.move_on_after(parsed.seconds):
                    await _publish(client, publisher, parsed, channels)
            finally:
                left.append(await publisher.drain(client))

    ended = run_until_signalled(body, backend=parsed.backend)
    return FAILED if any(left) else ended


async def _publish(client: BackpackClient, publisher: Publisher, parsed: argparse.Namespace, channels: tuple[str, ...]) -> None:
    from backpack_runtime.publishing.plan import follow_plan  # noqa: PLC0415 - as above

    output = Printer()

    async def tell(report: PublisherReport) -> None:
        await output.send(encode_event(report) + b"\n" if parsed.json else f"{_line(report, publisher)}\n".encode())

    async with anyio.create_task_group() as tasks:
        symbols: Symbols = parsed.symbols or "all"
        if parsed.shard is not None:
            plan = await tasks.start(follow_plan, publisher.engine, client, parsed.shard.of)
            symbols = plan.part(parsed.shard.number - 1)
        await client.subscribe(channels, symbols)
        selection = ",".join(parsed.symbols) or (f"shard {parsed.shard}" if parsed.shard else "all")
        await publisher.run(client, channels=channels, selection=selection, on_report=tell)
        tasks.cancel_scope.cancel()


def _line(report: PublisherReport, publisher: Publisher) -> str:
    window, latest = publisher.window, publisher.latest
    parts = [
        time_of_day(system_now().unix_us),
        publisher.name,
        f"published={window.acknowledged - window.duplicates}",
        f"known={window.duplicates}",
        f"latest={latest.written}",
        f"waiting={report.waiting}",
        f"live={len(report.live)}",
    ]
    return printable("  ".join([*parts, *report.troubles]), None)


def _shard(text: str) -> Shard:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of) <= MOST_SHARDS):
        raise argparse.ArgumentTypeError(f"I/N, such as 1/4 to 4/4, at most {MOST_SHARDS} parts, got {shown(text)}")
    return Shard(int(number), int(of))
