"""Runs in which a trading program is killed with -9 at a point that a seed chooses, and what has to hold after its restart.

The simulated exchange is served by this process, on real sockets. The trading program and its restart are processes of their own. Killed
is it after a time, when the exchange receives its n-th order, when that has been executed and not answered, or by itself between the
write to the journal and the first byte of the order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.to_thread import run_sync

from backpack_proto.exchange import RequestReceived
from backpack_proto.exchange.messages import ExchangeInput, ExchangeOutput
from backpack_proto.machine import Now
from backpack_proto.orders.intents import OrderIntent, read_rows
from backpack_runtime.sandbox import Sandbox, serve_sandbox

from .trader import Account, Trader, held, plain, restart, trade

__all__ = ["POINTS", "Failed", "run_seeds"]

POINTS = ("time", "received", "executed", "written")
PATIENCE_SECONDS = 90.0
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.kills.trader"])


_one_at_a_time = threading.Lock()
"""Starting a process looks after all others: two threads that do so close a descriptor twice, perhaps that of a listening socket by then."""


class Failed(AssertionError):
    """Something does not hold after a restart."""


class Killer:
    """Kills a process when its n-th order comes to the exchange, before or after it was executed."""

    def __init__(self, sandbox: Sandbox, *, point: str, orders: int) -> None:
        self.pid: int | None = None
        self._point = point
        self._left = orders
        self._handle: Callable[[ExchangeInput, Now], list[ExchangeOutput]] = sandbox.exchange.handle
        sandbox.exchange.handle = self  # type: ignore[method-assign]  # a tap

    def __call__(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        counts = self.pid is not None and isinstance(given, RequestReceived) and given.method == "POST"
        self._left -= counts
        due = counts and self._left == 0
        if due and self._point == "received":
            self._kill()
        outputs = self._handle(given, now)
        if due and self._point == "executed":
            self._kill()
        return outputs

    def _kill(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)


async def run_seeds(seeds: Sequence[int], *, at_once: int = 4) -> Counter[str]:
    """Run seeds, some at once. Return how often what was seen.

    Raises:
        Failed: what has to hold does not, with the seed.
    """
    seen: Counter[str] = Counter()
    left = list(reversed(seeds))

    async def work() -> None:
        while left:
            seen.update(await _run(left.pop()))

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)
    return seen


async def _run(seed: int) -> Counter[str]:
    random = Random(seed)
    point = POINTS[seed % len(POINTS)]
    with TemporaryDirectory(prefix="backpack-kills-") as folder, anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox(seed=seed, speed=0) as sandbox:
            orders = random.randrange(1, 40)
            trader = Trader(
                settings=sandbox.settings,
                secret=sandbox.secret,
                journal=Path(folder) / "orders.journal",
                state=Path(folder),
                seed=seed,
                writes_left=orders if point == "written" else None,
            )
            killer = Killer(sandbox, point=point, orders=orders)
            await _trade_until_killed(trader, killer, after_s=random.uniform(0, 0.5) if point == "time" else PATIENCE_SECONDS)
            written = {row.client_id: row for row in read_rows(trader.journal.read_bytes()) if isinstance(row, OrderIntent)}
            _check_orders(sandbox, written, seed)
            account = await _restarted(trader, sandbox, written)
            if sandbox.exchange.account.open_orders:
                raise Failed(f"seed {seed}: orders are open after cancel_on_exit")
    seen = Counter({point: 1, "orders": len(written), "in doubt": len(account.outcomes)})
    seen.update(account.outcomes.values())
    return seen


async def _trade_until_killed(trader: Trader, killer: Killer, *, after_s: float) -> None:
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=trade, args=(trader, theirs), daemon=True)
    await run_sync(_start, process)
    theirs.close()
    try:
        await run_sync(_receive, ours)
        killer.pid = process.pid
        with anyio.move_on_after(after_s):
            await _joined(process)
    finally:
        process.kill()
        killer.pid = None
        with anyio.CancelScope(shield=True):
            await _joined(process)


async def _restarted(trader: Trader, sandbox: Sandbox, written: Mapping[int, OrderIntent]) -> Account:
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=restart, args=(trader._replace(writes_left=None), theirs), daemon=True)
    await run_sync(_start, process)
    theirs.close()
    try:
        account = await run_sync(_receive, ours)
        if isinstance(account, Account):
            _check_account(sandbox, account, trader.seed)
            ours.send("go on")
            fresh = await run_sync(_receive, ours)
            if fresh in written:
                raise Failed(f"seed {trader.seed}: the restarted program gave client id {fresh} again")
        await _joined(process)
    finally:
        process.kill()
    if process.exitcode != 0 or not isinstance(account, Account):
        raise Failed(f"seed {trader.seed}: the restarted program ended with {process.exitcode}")
    return account


def _start(process: BaseProcess) -> None:
    with _one_at_a_time:
        process.start()


async def _joined(process: BaseProcess) -> None:
    """Wait until a process has ended."""
    while True:
        if _one_at_a_time.acquire(blocking=False):
            try:
                if process.exitcode is not None:
                    return
            finally:
                _one_at_a_time.release()
        await anyio.sleep(0.005)


def _receive(channel: Connection) -> Any:
    try:
        return channel.recv()
    except EOFError:
        return None


def _check_orders(sandbox: Sandbox, written: Mapping[int, OrderIntent], seed: int) -> None:
    """No order was sent twice, and each was written down before it was sent."""
    placed = Counter(order.shown.client_id for order in sandbox.exchange.account.history)
    twice = [client_id for client_id, count in placed.items() if count > 1]
    if twice:
        raise Failed(f"seed {seed}: sent twice: {twice}")
    unwritten = set(placed) - set(written)
    if unwritten:
        raise Failed(f"seed {seed}: sent without having been written down: {unwritten}")


def _check_account(sandbox: Sandbox, account: Account, seed: int) -> None:
    """Every order has an outcome, it is the right one, and the ledger is that of the exchange."""
    if account.unknown:
        raise Failed(f"seed {seed}: unresolved: {account.unknown}")
    theirs = sandbox.exchange.account
    placed = {order.shown.client_id for order in theirs.history}
    wrong = {one: outcome for one, outcome in account.outcomes.items() if (one in placed) != (outcome == "OrderFound")}
    if wrong:
        raise Failed(f"seed {seed}: wrong outcomes: {wrong}")
    orders = {
        str(order_id): (str(order.state), plain(order.executed_quantity)) for order_id, order in theirs.open_orders.items()
    }
    if account.orders != orders:
        raise Failed(f"seed {seed}: open orders {account.orders}, at the exchange {orders}")
    if account.balances != held(theirs.balances):
        raise Failed(f"seed {seed}: balances {account.balances}, at the exchange {held(theirs.balances)}")
