"""`backpack-feed parity`: the native feed and the one by ccxt on the same exchange, in one table."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from .output import Printer
from .running import run_until_signalled

if TYPE_CHECKING:
    from backpack_runtime.cryptofeed.parity import Parity

__all__ = ["ParityOptions", "compare_feeds"]

DIFFERENT = 1


@dataclass(frozen=True, kw_only=True)
class ParityOptions:
    """What to compare, where and for how long."""

    symbols: tuple[str, ...]
    sandbox: bool
    sandbox_url: str | None
    ca_file: Path | None
    seconds: float
    as_json: bool


def compare_feeds(options: ParityOptions) -> int:
    """Run both feeds and print how they compare; returns 0 when they agree, 1 when they differ or one of them said nothing.

    Raises:
        MissingExtra: cryptofeed or ccxt is not installed.
        BackpackError: the exchange cannot be reached.
    """
    from backpack_runtime.cryptofeed.parity import watch_both  # noqa: PLC0415 - an extra, which need not be installed

    config: dict[str, Any] = {"use_sandbox": options.sandbox or options.sandbox_url is not None}
    config |= {"sandbox_url": options.sandbox_url} if options.sandbox_url else {}
    config |= {"ca_file": options.ca_file} if options.ca_file else {}
    found: list[Parity] = []

    async def body() -> None:
        found.append(await watch_both(config, options.symbols, options.seconds))

    code = run_until_signalled(body, backend="asyncio")
    if not found:
        return code
    (parity,) = found
    if options.as_json:
        Printer().write(msgspec.json.encode(asdict(parity) | {"agree": parity.agree}) + b"\n")
    else:
        Console(file=sys.stdout).print(_table(parity))
    return 0 if parity.agree else DIFFERENT


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
