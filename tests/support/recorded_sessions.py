"""A session that can be recorded in virtual time, and recordings of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import LISTINGS, Exchange
from backpack_proto.inputs import Call, FollowAccount, Given, Open, Subscribe, Withdraw
from backpack_proto.machine import Now
from backpack_proto.outputs import Output
from backpack_proto.session import Session
from backpack_proto.testing.faults import Episode
from backpack_proto.testing.simulation import Simulation
from backpack_runtime.recording.recorder import Recorder
from backpack_runtime.recording.source import SessionInputs, SessionOptions, Source

__all__ = ["OPTIONS", "START", "WITHDRAWAL", "RecordedClient", "RecordedSession", "record_account", "simulated"]

START = Now(mono_us=9_000_000, unix_us=1_790_000_000_000_000)
SECOND = 1_000_000
OPTIONS = SessionOptions(
    book_levels=3,
    canary=True,
    measure_clock=True,
    streams=True,
    connect_timeout_us=10_000_000,
    silence_us=20_000_000,
    ping_timeout_us=10_000_000,
    pause_ceiling_us=60_000_000,
)
WITHDRAWAL = {
    "address": "canary-address-0fd1",
    "blockchain": "Solana",
    "quantity": "1",
    "symbol": "SOL",
    "twoFactorToken": "canary-token-77",
}


class RecordedSession(Session):
    """A session whose single inputs go the way that a client's batches go."""

    inputs: SessionInputs
    inside = False

    def handle(self, given: Given, now: Now) -> Sequence[Output]:
        if self.inside:
            return super().handle(given, now)
        self.inside = True
        try:
            return self.inputs.handle_all([given], now)
        finally:
            self.inside = False


class RecordedClient:
    """What a recorder sees of a client."""

    def __init__(self, seed: int = 1, *, signed: bool = True) -> None:
        signer = Signer(Credentials(THROWAWAY_SECRET)) if signed else None
        random = Random(seed)
        random.random()
        self.session = RecordedSession(random, signer=signer, book_levels=OPTIONS.book_levels, measure_clock=True)
        self.session.inputs = SessionInputs(self.session)
        self.source = Source(self.session.inputs, random, OPTIONS, signer, ("SOL_USDC",), ("book", "trades"))

    def __recording_source__(self) -> Source:
        return self.source


def simulated(client: RecordedClient, faults: Iterable[Episode] = ()) -> Simulation:
    """Join the session of a client with an exchange of two markets."""
    listings = [listing for listing in LISTINGS if listing.symbol in {"SOL_USDC", "SOL_USDC_PERP"}]
    exchange = Exchange(seed=1, unix_us=START.unix_us, listings=listings)
    return Simulation(client.session, exchange, START, faults=faults)


async def record_account(path: Path, *, rotate_bytes: int = 1 << 30, seconds: int = 20) -> tuple[Recorder, Simulation]:
    """Record a session with an account, calls, one that is given up, and three reconnects, in virtual time."""
    client = RecordedClient()
    simulation = simulated(client)
    async with Recorder(client, path, rotate_bytes=rotate_bytes) as recorder:
        simulation.give(Open(), FollowAccount(), Subscribe(("trade.SOL_USDC",), ("depth.SOL_USDC",)))
        for number in range(3):
            simulation.run(seconds * SECOND // 4)
            order = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "1.00", "quantity": "2"}
            simulation.give(Call(call_id=3 * number, endpoint="place_order", parameters=order))
            simulation.give(Call(call_id=3 * number + 1, endpoint="balances"))
            simulation.give(Call(call_id=3 * number + 2, endpoint="withdraw", parameters=WITHDRAWAL))
            simulation.give(Withdraw(3 * number + 1))
            simulation.cut()
        simulation.give(Call(call_id=90, endpoint="deposit_address", parameters={"blockchain": "Solana"}))
        simulation.run(seconds * SECOND // 4)
    return recorder, simulation
