"""The session's own opinion: how one is made, and what it says of its books at a moment. All that the checks ask for passes here."""

from __future__ import annotations

from inspect import signature
from random import Random
from typing import Any

from backpack_proto import outputs
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.book.levels import Book
from backpack_proto.exchange import THROWAWAY_SECRET
from backpack_proto.machine import Now
from backpack_proto.metrics import Health
from backpack_proto.outputs import BookDesynced, BookSynced, BookUnavailable
from backpack_proto.session import Session

__all__ = ["CANARIES", "CONFIRMING", "DOUBTING", "HAS_CANARY", "age_us", "health", "is_live", "is_well", "make_session"]

HAS_CANARY = "canary" in signature(Session.__init__).parameters
"""Whether the session watches the path itself."""
CANARIES = () if HAS_CANARY else ("markPrice.BTC_USDC_PERP", "ticker.SOL_USDC_PERP")
"""Streams to subscribe in its place: something has to say every second that data still come."""

CONFIRMING: tuple[type, ...] = tuple(kind for kind in (BookSynced, getattr(outputs, "BookConfirmed", None)) if kind is not None)
"""Events that say of a book that it is live."""
DOUBTING: tuple[type, ...] = tuple(
    kind for kind in (BookDesynced, BookUnavailable, getattr(outputs, "BookStale", None)) if kind is not None
)
"""Events that say of a book that it is not."""


def make_session(seed: int, kind: type[Session] = Session) -> Session:
    """Make a session that signs, measures the exchange's clock, and watches the path where it can."""
    options: dict[str, Any] = {"signer": Signer(Credentials(THROWAWAY_SECRET)), "measure_clock": True}
    if HAS_CANARY:
        options["canary"] = True
    return kind(Random(f"{seed}:session"), **options)


def is_live(book: Book, now: Now) -> bool:
    """Return whether a book claims to be live at this moment."""
    ask = getattr(book, "is_live", None)
    return bool(book.live if ask is None else ask(now.mono_us))


def age_us(book: Book, now: Now) -> int | None:
    """Return how old a book says its state is at this moment; None where it does not say."""
    ask = getattr(book, "age_us", None)
    age: int | None = None if ask is None else ask(now.mono_us)
    return age


def is_well(said: Health) -> bool:
    """Return whether nothing is wrong now.

    That a stream is silent is a notice, for quiet markets are normal. That something had diverged, and was repaired, is remembered for a
    minute: an audit may find only at the beginning of a calm what the storm before had swallowed.
    """
    return said.healthy or all(reason.endswith(("is silent", "had diverged")) for reason in said.reasons)


def health(session: Session, now: Now) -> Health:
    """Return what the session says of itself at this moment."""
    return session.health(now)
