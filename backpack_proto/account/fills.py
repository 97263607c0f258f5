"""The fills that were reported, by the exchange's own ids and times: a pure fold, without clocks.

Theory of operation. The bounds are times that the exchange itself listed. The beginning is the answer to the first reading, of the
newest fills: fills that it lists, back to OVERLAP_MS before its newest, are from before the ledger, and so are all older ones. Fills of
the order stream are never from before, for it reports only new ones. Neither are fills that happened after the first one
that it reported. All others are reported once, by the source that knows them first. The cursor, from which fills are read, follows
the newest fill of each complete round, OVERLAP_MS behind it. A fill of the stream does not move it: it does not prove that those
before it came.

A fill is known by its trade id, symbol, order and quantity. Trade ids may be missing (docs/protocol.md 6.4), so rows without one are
matched as a multiset of order, price, quantity and time: of as many equal rows as are listed, as many are new as were not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Final, TypeAlias

from .values import ZERO, Fill, FillKey, FillProfile

__all__ = ["EXACT", "GRAIN_MS", "OVERLAP_MS", "Listed", "ListedKey", "ReportedFills", "numbered"]

OVERLAP_MS = 60_000
"""Time before the newest listed fill from which fills are read again: they may become visible late, and out of order."""
GRAIN_MS = 600_000
"""Fills are read from a whole multiple of this: a little more, so that the same ten minutes give the same request, whose
answer can be found in a recording."""
REMEMBERED_FILLS = 100_000
"""More only of those that can be listed again: fills within the overlap are never forgotten."""

EXACT: Final = Context(prec=200, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
"""Sums are made in this context: that of the thread belongs to the user, and may round or raise."""

ListedKey: TypeAlias = FillKey | tuple[FillProfile, int]
Listed: TypeAlias = Mapping[ListedKey, Fill]
"""The rows of a reading. Those without an id are numbered, so that equal ones stay apart."""


def numbered(page: Iterable[Fill]) -> dict[ListedKey, Fill]:
    """Return the rows of one page by their keys.

    A fill that comes meanwhile moves others to later pages, so a page may repeat some, but does not miss any. The numbers begin again on each
    page, so the union of pages has as many equal rows as the page that lists most of them.
    """
    rows: dict[ListedKey, Fill] = {}
    seen: Counter[FillProfile] = Counter()
    for fill in page:
        if fill.trade_id is not None:
            rows[fill.key] = fill
        else:
            rows[(fill.profile, seen[fill.profile])] = fill
            seen[fill.profile] += 1
    return rows


class ReportedFills:
    """The fills that were reported, those from before the ledger, and the cursor."""

    def __init__(self) -> None:
        self.begun = False
        self.since_ms: int | None = None
        """The cursor, or None while the exchange has listed no fill at all."""
        self.from_ms = 0
        """Fills that REST lists from before this are from before the ledger, or were reported and forgotten."""
        self._known: dict[FillKey, FillProfile] = {}
        """Those with an id that were reported."""
        self._anonymous: Counter[FillProfile] = Counter()
        """Number of fills without an id that were reported."""
        self._heard: Counter[FillProfile] = Counter()
        """Number of fills without an id that the stream brought."""
        self._before: dict[FillKey, FillProfile] = {}
        self._anonymous_before: Counter[FillProfile] = Counter()
        self._quantities: dict[str, Decimal] = {}
        self._quantities_before: dict[str, Decimal] = {}

    def __len__(self) -> int:
        """Number of fills that are remembered."""
        return len(self._known) + self._anonymous.total()

    def quantity(self, order_id: str) -> Decimal:
        """Return the sum of the reported fills of an order."""
        return self._quantities.get(order_id, ZERO)

    def quantity_before(self, order_id: str) -> Decimal:
        """Return the sum of the fills of an order that are from before the ledger and were listed at its beginning."""
        return self._quantities_before.get(order_id, ZERO)

    def begin(self, listed: Listed, newest_ms: int, heard_ms: int | None) -> None:
        """Take the ledger's beginning: the rows listed then, and when the first thing happened that the order stream reported."""
        start_ms = max(newest_ms - OVERLAP_MS, 0)
        for fill in listed.values():
            if fill.listed_ms < start_ms or (heard_ms is not None and fill.listed_ms >= heard_ms):
                continue
            if fill.trade_id is None:
                self._anonymous_before[fill.profile] += 1
            else:
                self._before[fill.key] = fill.profile
            if fill.key not in self._known:
                _add(self._quantities_before, fill)
        if listed:
            self.from_ms = self.since_ms = start_ms if heard_ms is None else min(start_ms, heard_ms)
        self.begun = True

    def read_from_ms(self) -> int | None:
        """Return from when on fills are to be read. None: all that there are."""
        return None if self.since_ms is None else max(self.since_ms // GRAIN_MS * GRAIN_MS, 0)

    def knows(self, fill: Fill) -> bool:
        """Return whether a fill with an id was reported or is from before."""
        return fill.key in self._known or fill.key in self._before

    def hear(self, fill: Fill, *, contained: bool) -> bool:
        """Take a fill of the stream. Return whether it is to be reported.

        `contained` says that the fills reported so far make up all that the order has executed.
        """
        if fill.trade_id is not None and fill.key in self._known:
            return False
        unheard = self._anonymous[fill.profile] - self._heard[fill.profile]
        if fill.trade_id is None or unheard > 0:
            self._heard[fill.profile] += 1
        return unheard <= 0 and not (contained and fill.trade_id is None)

    def unreported(self, listed: Listed) -> list[Fill]:
        """Return the rows that are not known yet."""
        rows = [fill for fill in listed.values() if fill.listed_ms >= self.from_ms]
        nameless = Counter(fill.profile for fill in rows if fill.trade_id is None)
        # One source may know the id of a fill and the other one not: as many as are left over on both sides are the same ones.
        spare = {profile: known - nameless[profile] for profile, known in (self._anonymous + self._anonymous_before).items()}
        new: list[Fill] = []
        for fill in rows:
            if fill.trade_id is None or self.knows(fill):
                continue
            if spare.get(fill.profile, 0) > 0:
                spare[fill.profile] -= 1
                continue
            new.append(fill)
        return new + self._nameless(rows, nameless) if nameless else new

    def _nameless(self, rows: Sequence[Fill], nameless: Counter[FillProfile]) -> list[Fill]:
        """Return the rows without an id that are new."""
        listed = {fill.key for fill in rows if fill.trade_id is not None}
        known = self._anonymous + self._anonymous_before
        for keys in (self._known, self._before):
            known.update(profile for key, profile in keys.items() if profile in nameless and key not in listed)
        new: list[Fill] = []
        for fill in rows:
            if fill.trade_id is not None:
                continue
            if known[fill.profile] > 0:
                known[fill.profile] -= 1
            else:
                new.append(fill)
        return new

    def report(self, fill: Fill) -> None:
        """Remember a fill as reported."""
        if fill.trade_id is None:
            self._anonymous[fill.profile] += 1
        else:
            self._known[fill.key] = fill.profile
        _add(self._quantities, fill)

    def move_cursor(self, listed: Listed) -> None:
        """Take note of a complete round: the fills that it listed are known, and those that it lists late lie within the overlap."""
        unreported = [fill.listed_ms for fill in self.unreported(listed)]
        # A check leaves out fills that the streams have just brought, so it may have had one that is not reported yet.
        newest_ms = min(unreported, default=max((fill.listed_ms for fill in listed.values()), default=0))
        if newest_ms:
            self.since_ms = max(self.since_ms or 0, newest_ms - OVERLAP_MS)
        self._forget()

    def forget_order(self, order_id: str) -> None:
        """Forget the sums of an order that is not followed any more."""
        self._quantities.pop(order_id, None)
        self._quantities_before.pop(order_id, None)

    def _forget(self) -> None:
        if len(self) <= REMEMBERED_FILLS:
            return
        since_ms = self.since_ms or 0
        passed: list[FillKey | FillProfile] = [key for key, profile in self._known.items() if profile[-1] < since_ms]
        passed += [profile for profile in self._anonymous if profile[-1] < since_ms]
        for key in passed[: REMEMBERED_FILLS // 2]:
            if len(key) == 4:
                listed_ms = self._known.pop(key)[-1]
            else:
                listed_ms = key[-1]
                del self._anonymous[key]
                self._heard.pop(key, None)
            self.from_ms = max(self.from_ms, listed_ms + 1)


def _add(quantities: dict[str, Decimal], fill: Fill) -> None:
    quantities[fill.order_id] = EXACT.add(quantities.get(fill.order_id, ZERO), fill.quantity)
