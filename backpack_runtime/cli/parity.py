"""`backpack-feed parity`: the native feed and the one by ccxt on the same exchange, in one table."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from .options import add_sandbox, positive, refuse_with_sandbox
from .output import Printer
from .running import run_until_signalled

if TYPE_CHECKING:
    from backpack_runtime.cryptofeed.parity import Parity

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DIFFERENT = 1


DESCRIPTION = (
    "Run cryptofeed's two Backpack feeds side by side on the same exchange, and compare trades, tops of books and latency."
    " The success criteria of the migration's runbook come with their figures."
    " Needs the extras cryptofeed and ccxt. The exit code is 1 when the feeds differ."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", default=["SOL-USDC"], help="normalised, such as SOL-USDC (the default)"
    )
    parser.add_argument("--seconds", type=positive, default=30.0, metavar="N", help="for how long (default: 30)")
    parser.add_argument("--json", action="store_true", help="one JSON object in the place of the table")
    where = add_sandbox(parser, help="a simulated exchange that is started along")
    where.add_argument(
        "--sandbox-url", metavar="URL", help="one that is running: the REST address that `backpack-feed sandbox` prints"
    )
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these authorities (PEM) instead of the system's")


def run(parsed: argparse.Namespace) -> int:
    """Run both feeds and print how they compare. Returns 0 when they agree, 1 when they differ or one of them was silent.

    Raises:
        MissingExtra: cryptofeed or ccxt is not installed.
        ConfigurationError: the options contradict each other.
        BackpackError: the exchange cannot be reached.
    """
    refuse_with_sandbox(parsed, "sandbox-url", "ca-file")
    from backpack_runtime.cryptofeed.parity import watch_both  # noqa: PLC0415 - an extra, which need not be installed

    config: dict[str, Any] = {"use_sandbox": parsed.sandbox or parsed.sandbox_url is not None}
    config |= {"sandbox_url": parsed.sandbox_url} if parsed.sandbox_url else {}
    config |= {"ca_file": parsed.ca_file} if parsed.ca_file else {}
    found: list[Parity] = []

    async def body() -> None:
        found.append(await watch_both(config, parsed.symbols, parsed.seconds))

    code = run_until_signalled(body, backend="asyncio")
    if not found:
        return code
    (parity,) = found
    if parsed.json:
        Printer().write(msgspec.json.encode(_document(parity)) + b"\n")
    else:
        console = Console(file=sys.stdout)
        console.print(_table(parity))
        console.print(_criteria(parity))
    return 0 if parity.agree else DIFFERENT


def _document(parity: Parity) -> dict[str, Any]:
    found = asdict(parity) | {"agree": parity.agree, "criteria": [asdict(criterion) for criterion in parity.criteria]}
    del found["of_native"]
    latencies = {
        name: None if both is None else dict(zip(("p50", "p99"), both, strict=True))
        for name, both in parity.latencies_ms.items()
    }
    return found | {"latencies_ms": latencies}


def _criteria(parity: Parity) -> Table:
    table = Table(title="criteria of the runbook")
    for name in ("", "figure", "wanted", ""):
        table.add_column(name)
    for criterion in parity.criteria:
        table.add_row(criterion.name, criterion.figure, criterion.limit, "met" if criterion.met else "NOT MET")
    return table


def _table(parity: Parity) -> Table:
    table = Table(title="native and ccxt " + ("agree" if parity.agree else "DIFFER"))
    for name in ("", "native", "ccxt", "the same", "different"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row(
        "trades",
        f"{parity.trades_only_native} alone",
        f"{parity.trades_only_ccxt} alone",
        str(parity.trades_matched),
        str(parity.trades_different),
    )
    table.add_row(
        "tops of books",
        f"{parity.native_books} seen",
        f"{parity.ccxt_books} seen",
        str(parity.tops_compared - parity.tops_different),
        str(parity.tops_different),
    )
    table.add_row("divergences", str(parity.book_divergences), "-", "", "")
    for kind in ("trades", "books"):
        table.add_row(
            f"latency of {kind}, p50 / p99",
            _latency(parity.latencies_ms[f"native {kind}"]),
            _latency(parity.latencies_ms[f"ccxt {kind}"]),
            "",
            "",
        )
    return table


def _latency(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"{found[0]:.1f} / {found[1]:.1f} ms"
