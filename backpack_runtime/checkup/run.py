"""Runs the checks one after the other. One that cannot be made gives the reason, and so do those that need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.text import printable
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.settings import Settings

from .findings import Finding, Result, Row, failed, skipped
from .local import watch_event_loop
from .subject import Subject
from .table import CHECKS, Check

__all__ = ["check_all"]


async def check_all(
    settings: Settings,
    addresses: Addresses,
    report: Callable[[Row], Awaitable[None]],
    *,
    symbols: Sequence[str],
    signer: Signer | None,
    backend: str,
    seconds: float,
    checks: Sequence[Check] = CHECKS,
) -> list[Row]:
    """Make all checks within a time, and return their rows. `report` gets each as soon as it is known.

    Raises:
        LocalProtocolError: a symbol does not exist.
    """
    rows: list[Row] = []
    async with anyio.create_task_group() as tasks:
        subject = Subject(
            settings,
            addresses,
            symbols=tuple(symbols),
            signer=signer,
            backend=backend,
            seconds=seconds,
            tasks=tasks,
        )
        tasks.start_soon(watch_event_loop, subject)
        # By name, the check that has failed and that it hangs on.
        causes: dict[str, str] = {}
        for check in checks:
            cause = next((causes[name] for name in check.needs if name in causes), None)
            finding = await _made(check, subject) if cause is None else skipped(f"{cause} failed")
            if cause is not None:
                causes[check.name] = cause
            elif finding.result is Result.FAILED:
                causes[check.name] = check.name
            # Some of it may be the words of a peer, which must not move the cursor.
            row = Row(
                check=check.name,
                result=finding.result,
                text=printable(finding.text, None),
                figures=dict(finding.figures),
            )
            rows.append(row)
            await report(row)
        tasks.cancel_scope.cancel()
    return rows


async def _made(check: Check, subject: Subject) -> Finding:
    left = subject.left_seconds
    if not left:
        return skipped("no time was left")
    bound = min(check.seconds, left)
    finding = failed(f"not done within {bound:.3g} s")
    with anyio.move_on_after(bound):
        try:
            finding = await check.make(subject)
        except LocalProtocolError:
            raise
        except (BackpackError, OSError) as error:
            finding = failed(str(error) or type(error).__name__)
    return finding
