"""The session's own opinion: how one is made, and what it says of its books at a moment. All that the checks ask for passes here."""

from __future__ import annotations

from random import Random

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.book.levels import Book
from backpack_proto.exchange import THROWAWAY_SECRET
from backpack_proto.machine import Now
from backpack_proto.metrics import Health
from backpack_proto.outputs import BookConfirmed, BookDesynced, BookStale, BookSynced, BookUnavailable
from backpack_proto.session import Session

__all__ = ["CONFIRMING", "DOUBTING", "age_us", "health", "is_live", "is_well", "make_session"]

CONFIRMING: tuple[type, ...] = (BookSynced, BookConfirmed)
"""Events that say of a book that it is live."""
DOUBTING: tuple[type, ...] = (BookDesynced, BookUnavailable, BookStale)
"""Events that say of a book that it is not."""


def make_session(seed: int, kind: type[Session] = Session) -> Session:
    """Make a session that signs, measures the exchange's clock, and watches the path."""
    return kind(Random(f"{seed}:session"), signer=Signer(Credentials(THROWAWAY_SECRET)), measure_clock=True, canary=True)


def is_live(book: Book, now: Now) -> bool:
    """Return whether a book claims to be live at this moment."""
    return book.is_live(now.mono_us)


def age_us(book: Book, now: Now) -> int | None:
    """Return how old a book says its state is at this moment, or None where it does not say."""
    return book.age_us(now.mono_us)


def is_well(said: Health) -> bool:
    """Return whether nothing is wrong now.

    That a stream is silent is a notice, for quiet markets are normal. That something had diverged, and was repaired, is remembered for a
    minute: an audit may find only at the beginning of a calm what the storm before had swallowed.
    """
    return said.healthy or all(reason.endswith(("is silent", "had diverged")) for reason in said.reasons)


def health(session: Session, now: Now) -> Health:
    """Return what the session says of itself at this moment."""
    return session.health(now)
