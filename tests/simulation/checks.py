"""Every invariant, one function each, in one table: what must hold at events, at samples of a grid in time, and at the end.

A check says None when it does not apply, True when it holds, and otherwise in words what is wrong. Each counts how often it applied, for
a check that is never made proves nothing. `path` and `chain` go by the simulation's own time, whatever the session believes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backpack_proto.account.funding import key_of
from backpack_proto.account.margin import FundingPaid, MarginChanged
from backpack_proto.account.values import AccountDiverged, AccountStale, AccountSynced, Filled
from backpack_proto.book.levels import Book
from backpack_proto.outputs import BookChanged, BookSynced, ConnectionDown, PeerSilent

from . import opinion

if TYPE_CHECKING:
    from .network import Pending
    from .world import World

__all__ = [
    "ASK_CHECKS",
    "BOOK_CHECKS",
    "CHECKS",
    "END_CHECKS",
    "EVENT_CHECKS",
    "LEAVE_CHECKS",
    "PATH_BOUND_US",
    "SAMPLE_CHECKS",
    "Verdict",
    "chain_bound_us",
]

Verdict = bool | str | None

SECOND = 1_000_000
PATH_BOUND_US = 5 * SECOND
"""How old the newest news of a connection may be while a book of it is live."""
SLACK_US = 250_000
"""Latencies are not known better than the shortest round trip."""
LATE_US = 3 * SECOND
"""Data that are so late make health unwell, with some room above the 2 s of the rule."""
MUTE_UNWELL_US = 6 * SECOND
MUTE_RECONNECT_US = 30 * SECOND
REQUESTS_A_MINUTE = 2_000
CALM_SHARE = 0.995
LIVE_SHARE = 0.5
QUIET_ACCOUNT_US = 12 * SECOND
LEDGER_US = 45 * SECOND
"""From when on in a calm the ledger must be right: a frame that a storm swallowed is found by the next audit, within 120 s and a reading."""
FULL_SHARE = 0.01


def chain_bound_us(books: int) -> int:
    """Return how long a change may be missing from a live book: twice the period of its audits, of which 500 a minute leave."""
    return 2 * max(60 * SECOND, books * 60 * SECOND // 500)


BOOK_CHECKS: dict[str, Callable[[World, Book], Verdict]] = {}
"""Of each live book, at its events and at each sample."""
EVENT_CHECKS: dict[str, tuple[tuple[type, ...], Callable[[World, Any], Verdict]]] = {}
"""Of events of some types."""
SAMPLE_CHECKS: dict[str, Callable[[World], Verdict]] = {}
ASK_CHECKS: dict[str, Callable[[World, Pending], Verdict]] = {}
"""Of each request that the session asks for."""
LEAVE_CHECKS: dict[str, Callable[[World, Pending], Verdict]] = {}
"""Of each request that leaves."""
END_CHECKS: dict[str, Callable[[World], Verdict]] = {}


# A live book.


def known_id(world: World, book: Book) -> Verdict:
    if world.truth.markets[book.symbol].knows(book.last):
        return True
    return f"{book.symbol} is live at {book.last}, which the exchange never had"


def top(world: World, book: Book) -> Verdict:
    wrong = world.truth.markets[book.symbol].top_differs(book)
    return True if wrong is None else f"{book.symbol}: {wrong}"


def whole_book(world: World, book: Book) -> Verdict:
    if world.check_rng.random() >= FULL_SHARE and not world.full:
        return None
    wrong = world.truth.markets[book.symbol].book_differs(book)
    return True if wrong is None else f"{book.symbol}: {wrong}"


def not_crossed(_: World, book: Book) -> Verdict:
    return f"{book!r} is crossed and live" if book.crossed else True


def path(world: World, book: Book) -> Verdict:
    connection = world.network.connection
    if connection is None or not connection.path_us:
        return f"{book.symbol} is live without a frame on this connection"
    age_us = world.network.now_us - connection.path_us
    if age_us <= PATH_BOUND_US + SLACK_US:
        return True
    return f"{book.symbol} is live, and the newest data of its path are {age_us / SECOND:.2f} s old"


def chain(world: World, book: Book) -> Verdict:
    truth = world.truth.markets[book.symbol]
    missing_us = truth.missing_since_us(book.last)
    moments = [moment for moment in (missing_us, truth.closed_us) if moment is not None]
    age_us = world.network.now_us - min(moments, default=world.network.now_us)
    if age_us <= world.chain_bound_us + SLACK_US:
        return True
    what = "a change" if missing_us is not None else "the end of the market"
    return f"{book.symbol} is live at {book.last}, and lacks {what} for {age_us / SECOND:.2f} s"


def age(world: World, book: Book) -> Verdict:
    said_us = opinion.age_us(book, world.network.now)
    connection = world.network.connection
    if said_us is None or connection is None or not connection.path_us:
        return None
    true_us = world.network.now_us - connection.path_us
    return True if said_us >= true_us - SLACK_US else f"{book.symbol} says that it is {said_us} us old, and is {true_us} us old"


BOOK_CHECKS |= {
    "known id": known_id,
    "best levels": top,
    "whole book": whole_book,
    "not crossed": not_crossed,
    "path": path,
    "chain": chain,
    "age": age,
}


# Events.


def no_gap(world: World, event: BookChanged) -> Verdict:
    last = world.told_last.get(event.stream)
    world.told_last[event.stream] = event.last
    if last is None:
        return f"{event.stream} changed before it was synced"
    return True if event.first == last + 1 else f"{event.stream} went from {last} to {event.first}..{event.last}"


def resync(world: World, event: BookSynced) -> Verdict:
    truth = world.truth.markets[event.symbol]
    world.told_last[event.stream] = event.last
    if not truth.knows(event.last):
        return f"{event.stream} was synced at {event.last}, which the exchange never had"
    wrong = truth.levels_differ(event.last, event.bids, event.asks)
    return True if wrong is None else f"{event.stream} was synced with wrong levels: {wrong}"


def no_false_alarm(world: World, event: object) -> Verdict:
    if not world.calm:
        return True
    # A loss of the storm that a quiet market shows late is found late. Finding it is right.
    stream = getattr(event, "stream", None)
    book = world.session.book(stream) if stream is not None else None
    missing_us = world.truth.markets[book.symbol].missing_since_us(book.last) if book is not None else None
    if missing_us is not None and world.network.now_us - missing_us > SECOND:
        return True
    # The same goes for the account of a client whose private streams were refused by a frame that was lost.
    connection = world.network.connection
    refused = connection is not None and connection.is_refused_unheard(world.network.now_us, SECOND)
    if refused and isinstance(event, AccountDiverged | AccountStale):
        return True
    return f"in a calm: {str(event)[:300]}"


def fills_are_real(world: World, event: Filled) -> Verdict:
    fill = event.fill
    key = (fill.symbol, fill.trade_id, fill.order_id)
    world.told_fills[key] = world.told_fills.get(key, 0) + 1
    if world.told_fills[key] > 1:
        return f"fill {key} was told twice"
    found = world.exchange.account.fills
    true = next((one for one in reversed(found) if (one.symbol, one.trade_id, str(one.order_id)) == key), None)
    if true is None or (true.price, true.quantity) != (fill.price, fill.quantity):
        return f"fill {key} was told as {fill.quantity} at {fill.price}, the exchange has {true}"
    return True


def margin_is_that_of_rest(world: World, _: MarginChanged | AccountSynced) -> Verdict:
    return None if world.session.account.margin is None else world.margin_differs() or True


def funding_is_real(world: World, event: FundingPaid) -> Verdict:
    payment = event.payment
    key = key_of(payment)
    world.told_funding[key] += 1
    if world.told_funding[key] > 1:
        return f"funding {key} was told twice"
    true = [one for one in world.exchange.account.funding if (one.interval_end_s * SECOND, one.symbol) == key[:2]]
    return True if payment.quantity in [one.amount for one in true] else f"funding {payment} was told, the exchange has {true}"


_ALARMS = (*(kind for kind in opinion.DOUBTING), ConnectionDown, PeerSilent, AccountStale, AccountDiverged)
EVENT_CHECKS |= {
    "no gap": ((BookChanged,), no_gap),
    "resync": ((BookSynced,), resync),
    "no false alarm": (_ALARMS, no_false_alarm),
    "fills are real": ((Filled,), fills_are_real),
    "margin is that of REST": ((MarginChanged, AccountSynced), margin_is_that_of_rest),
    "funding is real": ((FundingPaid,), funding_is_real),
}


# The grid.


def mute_is_noticed(world: World) -> Verdict:
    connection = world.network.connection
    heard_us = max(connection.data_us, connection.established_us or 0) if connection is not None else world.network.now_us
    if world.network.now_us - heard_us <= MUTE_UNWELL_US + SLACK_US:
        return None
    return "no data for more than 6 s, and health is well" if world.health.healthy else True


def mute_is_given_up(world: World) -> Verdict:
    connection, network = world.network.connection, world.network
    if connection is None or connection.established_us is None or network.paused or network.frozen_until_us is not None:
        world.listening_us = network.now_us
        return None
    heard_us = max(connection.data_us, connection.established_us, world.listening_us)
    age_us = network.now_us - heard_us
    if age_us <= 10 * SECOND:
        return None
    return True if age_us <= MUTE_RECONNECT_US else f"no data for {age_us / SECOND:.1f} s, and the connection stays"


def lateness_is_said(world: World) -> Verdict:
    connection, now_us = world.network.connection, world.network.now_us
    if connection is None or not connection.path_us or world.network.frozen_until_us is not None:
        return None
    late_us = connection.data_us - connection.path_us
    if late_us < LATE_US + SLACK_US or now_us - connection.data_us > SECOND:
        return None
    return f"data are {late_us / SECOND:.2f} s late, and health is well" if world.health.healthy else True


def staleness_is_said(world: World) -> Verdict:
    if world.network.frozen_until_us is not None:
        return None
    verdict: Verdict = None
    for symbol, live in world.live.items():
        stream = world.stream_of(symbol)
        if live or stream not in world.said_live:
            world.stale_since_us.pop(stream, None)
            continue
        verdict = True
        since_us = world.stale_since_us.setdefault(stream, world.network.now_us)
        if world.said_live[stream] and world.network.now_us - since_us > 1_500_000:
            return f"{stream} is stale since {since_us}, and no event has said so"
    return verdict


def ledger(world: World) -> Verdict:
    now_us = world.network.now_us
    if not world.plan.account or not world.calm or now_us - world.trader.acted_us < QUIET_ACCOUNT_US:
        return None
    if world.calm_since_us is None or now_us - world.calm_since_us < LEDGER_US:
        return None
    if world.account_moved_us() < QUIET_ACCOUNT_US:
        return None
    if not world.session.account.live:
        return None
    return world.ledger_differs() or True


def budgets(world: World) -> Verdict:
    world.forget_requests()
    if len(world.left) > REQUESTS_A_MINUTE:
        return f"{len(world.left)} requests left within a minute"
    most = 2 * len(world.symbols) + 10
    if world.calm and world.calm_since_us is not None and world.network.now_us - world.calm_since_us > 60 * SECOND:
        depths = sum(1 for _, path_of in world.left if path_of == "/api/v1/depth")
        if depths > most:
            return f"{depths} snapshots of {len(world.symbols)} books within a minute of calm"
    return True


def metrics(world: World) -> Verdict:
    world.samples += 1
    return world.metrics_differ() or True if world.samples % 60 == 0 else None


SAMPLE_CHECKS |= {
    "mute is noticed": mute_is_noticed,
    "mute is given up": mute_is_given_up,
    "lateness is said": lateness_is_said,
    "staleness is said": staleness_is_said,
    "ledger": ledger,
    "budgets": budgets,
    "metrics": metrics,
}


# Requests.


def pauses_hold(world: World, pending: Pending) -> Verdict:
    if world.pause_until_us is None:
        return None
    if pending.asked_us < world.pause_until_us:
        return f"{pending.path} was asked for {world.pause_until_us - pending.asked_us} us before the end of a pause"
    return True


def not_after_giving_up(world: World, pending: Pending) -> Verdict:
    request = pending.action.request
    if request.method != "POST" or not request.body or not world.trader.withdrawn:
        return None
    client_id = world.client_id_of(request.body)
    gave_up_us = world.trader.withdrawn.get(client_id) if client_id is not None else None
    if gave_up_us is not None and world.network.now_us > gave_up_us:
        return f"order {client_id} left {world.network.now_us - gave_up_us} us after its caller gave up"
    return True


ASK_CHECKS |= {"pauses hold": pauses_hold}
LEAVE_CHECKS |= {"not after giving up": not_after_giving_up}


# The end.


def calm_is_well(world: World) -> Verdict:
    if not world.calm_us:
        return None
    share = world.calm_well_us / world.calm_us
    if share >= CALM_SHARE:
        return True
    shown = "; ".join(world.calm_faults[:4])
    return f"only {share:.2%} of {world.calm_us / SECOND:.0f} s of calms are well: {shown}"


def live_half_the_time(world: World) -> Verdict:
    if not world.open_us:
        return None
    share = world.live_us / world.open_us
    return True if share >= LIVE_SHARE else f"open books were live only {share:.1%} of the time"


def ends_well(world: World) -> Verdict:
    world.full = True
    for symbol in world.symbols:
        book = world.session.book(world.stream_of(symbol))
        if opinion.is_live(book, world.network.now):
            wrong = world.truth.markets[symbol].book_differs(book)
            if wrong is not None:
                return f"{symbol} at the end: {wrong}"
    return world.metrics_differ() or True


def fills_add_up(world: World) -> Verdict:
    return ledger(world)


END_CHECKS |= {
    "calm is well": calm_is_well,
    "live half the time": live_half_the_time,
    "the end": ends_well,
    "sum of fills": fills_add_up,
}

CHECKS: tuple[str, ...] = (
    *BOOK_CHECKS,
    *EVENT_CHECKS,
    *SAMPLE_CHECKS,
    *ASK_CHECKS,
    *LEAVE_CHECKS,
    *END_CHECKS,
)
"""Every check by name. Each must have applied in a sweep."""
