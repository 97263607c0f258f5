"""The safety of a client's orders: opens the journal when it is needed, and takes orders off the book on the way out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container
from pathlib import Path
from random import Random
from typing import NamedTuple

import anyio
from anyio.to_thread import run_sync

from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError
from backpack_proto.orders.intents import COUNTERS, OrderIntent
from backpack_proto.values import Value

from .desk import OrderDesk
from .instances import Lease, lease_folder
from .journal import Durability, Journal
from .leaving import CancelOnExit

__all__ = ["JournalView", "OrderSafety", "OrderSettings"]

_log = logging.getLogger(__name__)


class OrderSettings(NamedTuple):
    """Arguments of a client about its orders."""

    journal: Path | None = None
    durability: Durability = Durability.PROCESS
    instance: int | None = None
    cancel_on_exit: CancelOnExit | None = None


class JournalView(Value, frozen=True, gc=False, kw_only=True):
    """The journal of a client at one moment."""

    path: str | None
    """None where it is in memory, and ends with the process."""
    durability: Durability
    instance: int
    """The number in the upper 10 bits of the client ids that are made."""
    unresolved: tuple[OrderIntent, ...]
    """The orders whose outcome is not known, and whose answer is not awaited."""


class OrderSafety:
    """The order desk of a client, opened by the first order, or at the start where there is a journal to look into."""

    def __init__(
        self,
        settings: OrderSettings,
        signer: Signer | None,
        *,
        in_doubt: Callable[[], Container[int]],
        taken: Container[int],
    ) -> None:
        self.settings = settings
        self.opened: OrderDesk | None = None
        """The desk, once an order has needed it."""
        self._signer = signer
        self._in_doubt = in_doubt
        self._taken = taken
        self._opening = anyio.Lock()

    async def start(self) -> None:
        """Open the journal that an earlier program may have left, if there is one.

        Raises:
            ConfigurationError: the journal cannot be used, or the instance is in use.
        """
        if self._signer is not None and (self.settings.journal is not None or self.settings.instance is not None):
            await self.desk()

    async def desk(self) -> OrderDesk:
        """Return the desk, and open it if this is the first order.

        Raises:
            ConfigurationError: the journal cannot be used, or the instance is in use. Or the client has no signer.
        """
        async with self._opening:
            if self.opened is None:
                if self._signer is None:
                    raise ConfigurationError("orders need a signer: give signer=Signer(Credentials(private_key))")
                lease, journal = await run_sync(self._open, self._signer.api_key)
                self.opened = OrderDesk(journal, lease, in_doubt=self._in_doubt, taken=self._taken)
                if journal.path is None:
                    _log.info(
                        "orders are written down in memory only: what becomes of an order without an answer cannot be found out "
                        "once this process has ended; give the client journal=PATH"
                    )
                elif journal.intents.open:
                    _log.warning(
                        "%d orders of an earlier run have no outcome: `await client.resolve(wait=True)` finds them out",
                        len(journal.intents.open),
                    )
        return self.opened

    def journal(self) -> Journal:
        """Return the journal, of a desk that is open."""
        if self.opened is None:
            raise RuntimeError("an order has been sent past the desk")
        return self.opened.journal

    @property
    def view(self) -> JournalView | None:
        """The journal now, or None before the first order."""
        if self.opened is None:
            return None
        journal = self.opened.journal
        return JournalView(
            path=None if journal.path is None else str(journal.path),
            durability=journal.durability,
            instance=journal.intents.instance,
            unresolved=tuple(self.opened.unresolved.values()),
        )

    @property
    def troubles(self) -> list[str]:
        """The reasons against health that lie in the orders."""
        if self.opened is None:
            return []
        unresolved = len(self.opened.unresolved)
        found = [f"{unresolved} orders have no outcome: `await client.resolve()` finds it out"] if unresolved else []
        trouble = self.opened.journal.trouble
        return found if trouble is None else [*found, trouble]

    def release(self) -> None:
        """Release the journal and the instance for other programs."""
        if self.opened is not None:
            self.opened.release()

    def _open(self, api_key: str) -> tuple[Lease, Journal]:
        """Take a lease and open the journal. In a worker thread, for both wait for the disk."""
        settings = self.settings
        lease = Lease.take(lease_folder(os.environ), settings.instance)
        random_id = lease.instance * COUNTERS + Random().randrange(COUNTERS)  # noqa: S311 - an id is no secret
        try:
            journal = Journal.open(
                settings.journal,
                instance=lease.instance,
                last_id=lease.last_id,
                random_id=random_id,
                account=api_key,
                durability=settings.durability,
            )
        except BaseException:
            lease.release()
            raise
        return lease, journal
