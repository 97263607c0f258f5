"""The way of all inputs into the session of a client, on which a recorder may stand, and all that makes an equal session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, Protocol, TypeAlias

from msgspec import Struct

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import DEFAULT_WINDOW_MS, Scheme, Signer
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Given
from backpack_proto.machine import Now
from backpack_proto.outputs import Output
from backpack_proto.session import Session

__all__ = ["HandleAll", "Recordable", "SessionInputs", "SessionOptions", "SignerShape", "Source"]

HandleAll: TypeAlias = Callable[[Sequence[Given], Now], Sequence[Output]]
"""Takes the inputs of one moment, as `Session.handle_all` does."""


class SessionOptions(Struct, frozen=True, kw_only=True):
    """Options of a client's session, beside its signer and its generator of random numbers."""

    book_levels: int
    canary: bool
    measure_clock: bool
    streams: bool
    connect_timeout_us: int
    silence_us: int
    ping_timeout_us: int
    pause_ceiling_us: int

    def session(self, random: Random, signer: Signer | None) -> Session:
        """Make the session."""
        return Session(
            random,
            signer=signer,
            book_levels=self.book_levels,
            canary=self.canary,
            measure_clock=self.measure_clock,
            streams=self.streams,
            connect_timeout_us=self.connect_timeout_us,
            silence_us=self.silence_us,
            ping_timeout_us=self.ping_timeout_us,
            pause_ceiling_us=self.pause_ceiling_us,
        )


class SignerShape(Struct, frozen=True, kw_only=True):
    """Scheme and window of a signer, which a replay needs. Its keys are not needed."""

    scheme: str = Scheme.INSTRUCTION
    window_ms: int = DEFAULT_WINDOW_MS

    @classmethod
    def of(cls, signer: Signer | None) -> SignerShape | None:
        """Return the shape of a signer, or None without one."""
        return None if signer is None else cls(scheme=signer.scheme.value, window_ms=signer.window_ms)

    def signer(self) -> Signer:
        """Make a signer of this shape, with throwaway keys: no signature of it is ever sent."""
        return Signer(Credentials(THROWAWAY_SECRET), scheme=self.scheme, window_ms=self.window_ms)


class SessionInputs:
    """The one way of inputs into a session. Without a recorder a call of `handle_all` is one of the session's own method."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tapped = False
        self._begun = False
        self.handle_all: HandleAll = self._first

    def _first(self, batch: Sequence[Given], now: Now) -> Sequence[Output]:
        self._begun = True
        self.handle_all = self._session.handle_all
        return self._session.handle_all(batch, now)

    def tap(self, tap: HandleAll) -> HandleAll:
        """Have all inputs go to `tap`, and return the session's own method, to which it has to hand them.

        Raises:
            LocalProtocolError: inputs have gone in before, which a replay would lack, or another recorder has them.
        """
        if self._tapped:
            raise LocalProtocolError("client: another recorder is attached to it: one client has one recorder")
        if self._begun:
            raise LocalProtocolError(
                "client: it has been entered already, so a replay would lack how it began: attach the recorder before,"
                " as in `async with Recorder(client, path), client:`"
            )
        self._tapped = self._begun = True
        self.handle_all = tap
        return self._session.handle_all

    def untap(self) -> None:
        """Have inputs go to the session alone."""
        self._tapped = False
        self.handle_all = self._session.handle_all


class Source(NamedTuple):
    """Parts of a client that a recorder needs."""

    inputs: SessionInputs
    random: Random
    options: SessionOptions
    signer: Signer | None
    symbols: tuple[str, ...]
    """For the reader's information: `all` or `(a rule)` where they are chosen by one."""
    channels: tuple[str, ...]


class Recordable(Protocol):
    """A client, as a recorder sees it."""

    def __recording_source__(self) -> Source:
        """Return the parts that are recorded."""
        ...
