"""A ledger that follows is stale while the path of its connection is in doubt, and says so: events are enough to know `live`."""

from __future__ import annotations

from accounts import T_MS, Desk, accepted, cancelled
from backpack_proto.account.account import AccountInput
from backpack_proto.account.readings import AccountEnded, AccountPathChanged, ReadFailed
from backpack_proto.account.values import AccountConfirmed, AccountStale, AccountSynced, AccountUnconfirmed
from backpack_proto.claims import PathClaim
from backpack_proto.encoding import decode_event, encode_event
from backpack_proto.inputs import TimerFired
from backpack_proto.streams.payloads import Event

MUTE = "no data have come for 5 s"
UNPROVED = "no data have proved the path of the connection yet"
EXPIRED, PROVED = AccountPathChanged(MUTE), AccountPathChanged(None)
HOLDS, FAILS = PathClaim(bounded=False), PathClaim()
"""Paths that are always proved, and never."""
STALE, CONFIRMED = AccountStale(reason=MUTE), AccountConfirmed()


class Watched:
    """A ledger that is synced, and somebody who looks at its events only."""

    def __init__(self, path: PathClaim = HOLDS) -> None:
        self.desk = Desk()
        self.desk.ledger.path = path
        self.seen = 0
        self.told_live = False
        self.desk.sync()
        self.first = self.told()

    def give(self, *inputs: AccountInput) -> list[Event]:
        for given in inputs:
            if isinstance(given, AccountPathChanged):
                self.desk.ledger.path = HOLDS if given.doubt is None else FAILS
            self.desk.give(given)
        return self.told()

    def check(self) -> list[Event]:
        self.desk.check()
        return self.told()

    def fail(self) -> list[Event]:
        """A check that cannot be made."""
        self.desk.timer()
        return self.give(ReadFailed(self.desk.asked.pop().attempt, "503"))

    def told(self) -> list[Event]:
        """Return what was said of the ledger since the last time. It tells whether the ledger is live."""
        said = [
            event
            for event in self.desk.said[self.seen :]
            if isinstance(event, AccountConfirmed | AccountStale | AccountSynced | AccountUnconfirmed)
        ]
        self.seen = len(self.desk.said)
        for event in said:
            if not isinstance(event, AccountUnconfirmed):
                self.told_live = not isinstance(event, AccountStale)
        assert self.told_live == self.desk.ledger.is_live(self.desk.now.mono_us)
        return list(said)


def test_a_path_that_expires_makes_a_ledger_stale_and_one_proof_makes_it_live_again() -> None:
    watched = Watched()
    assert watched.give(EXPIRED) == [STALE]
    assert watched.give(EXPIRED, TimerFired()) == [], "once"
    assert watched.give(PROVED) == [CONFIRMED]
    assert watched.give(PROVED) == []
    assert watched.desk.asked == [], "nothing is read for it"


def test_a_stale_ledger_goes_on_following_the_streams() -> None:
    watched = Watched()
    watched.give(EXPIRED)
    watched.give(accepted(T_MS))
    assert set(watched.desk.ledger.open_orders) == {"77"}
    watched.give(PROVED)
    watched.give(cancelled(T_MS))
    assert watched.desk.ledger.open_orders == {}


def test_a_ledger_that_is_read_before_the_path_is_proved_says_that_it_is_not_live() -> None:
    watched = Watched(FAILS)
    assert watched.first[-2:] == [AccountSynced(orders=0, fills=0), AccountStale(reason=UNPROVED)]
    assert watched.give(PROVED) == [CONFIRMED]


def test_a_check_that_agrees_makes_nothing_live_that_the_streams_do_not_reach() -> None:
    watched = Watched()
    assert watched.fail() == [AccountUnconfirmed(reason="503")]
    assert watched.give(EXPIRED) == [STALE]
    assert watched.check() == []
    assert watched.give(PROVED) == [CONFIRMED]


def test_a_check_that_still_fails_is_said_again_behind_the_proof_of_the_path() -> None:
    watched = Watched()
    watched.fail()
    watched.give(EXPIRED)
    assert watched.give(PROVED) == [CONFIRMED, AccountUnconfirmed(reason="503")]
    assert watched.check() == [CONFIRMED]


def test_a_connection_that_is_lost_while_its_path_is_in_doubt_costs_a_reading() -> None:
    watched = Watched()
    watched.give(EXPIRED)
    assert watched.give(AccountEnded("down")) == [AccountStale(reason="down")]
    assert watched.give(PROVED) == [], "a ledger that follows nothing is not confirmed"
    watched.desk.sync()
    assert watched.told()[-1] == AccountSynced(orders=0, fills=0)


def test_a_proof_that_nobody_announced_is_found_at_the_next_occasion() -> None:
    watched = Watched()
    watched.give(EXPIRED)
    watched.desk.ledger.path = HOLDS
    watched.desk.give(TimerFired())
    assert watched.told() == [CONFIRMED]


def test_both_events_survive_json() -> None:
    for event in (STALE, CONFIRMED):
        assert decode_event(encode_event(event)) == event
