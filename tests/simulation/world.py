"""One run: a session, the exchange, the network between them, the truth, and everybody who acts or looks on.

Theory of operation. A plan says what goes wrong when. Every event is hashed and checked as it comes. On a grid in virtual time (250 ms while
something is wrong, 1 s otherwise) all books, health and the rest are looked at, for a claim may become wrong without any event. A calm
begins `CALM_US` after the last fault has ended, and after the last pause that the exchange asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from backpack_proto.account.funding import FundingKey
from backpack_proto.exchange import LISTINGS, Exchange, Listing, PaceMarket, Respond
from backpack_proto.inputs import Fact, FollowAccount, Open, ResponseReceived, Subscribe
from backpack_proto.machine import Now
from backpack_proto.metrics import Health
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, ConnectionUp
from backpack_proto.session import Session
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.names import streams_for
from backpack_proto.streams.payloads import Event

from . import opinion
from .checks import (
    ASK_CHECKS,
    BOOK_CHECKS,
    END_CHECKS,
    EVENT_CHECKS,
    LEAVE_CHECKS,
    SAMPLE_CHECKS,
    Verdict,
    chain_bound_us,
)
from .faults import FAULTS
from .network import Network, Pending
from .schedule import Episode, Plan
from .trader import USUAL_PAUSE_US, Trader
from .truth import Truth

__all__ = ["CALM_US", "START", "Violation", "World"]

SECOND = 1_000_000
START = Now(mono_us=77_000_000_000, unix_us=1_790_000_000_000_000)
CALM_US = 90 * SECOND
PAUSE_CEILING_US = 60 * SECOND
GRID_US = SECOND
FINE_GRID_US = SECOND // 4
OLD_US = (2 * SECOND, 30 * SECOND)
"""How old a snapshot is that a lagging server still hands out."""
MARGIN_PATHS = ("/api/v1/capital/collateral", "/api/v1/position")
FUNDING_KNOWN_US = 180 * SECOND
"""By then a payment is in the ledger of a calm: no stream tells of it, so a check has to come."""
CANARY_MARKETS = ("BTC_USDC_PERP", "SOL_USDC_PERP", "kPEPE_USDC_PERP")


class Violation(AssertionError):
    """A check that failed."""

    def __init__(self, check: str, text: str, at_ms: int, seed: int) -> None:
        super().__init__(f"{check}: {text} (seed {seed}, {at_ms} ms)")
        self.check = check
        self.text = text
        self.at_ms = at_ms
        self.seed = seed


def _plain(value: object) -> str:
    """Return text for what is no value. Never a representation, which may hold an address in memory."""
    return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else type(value).__name__


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan, *, kind: type[Session] = Session, fine: bool = False) -> None:
        self.plan = plan
        self.symbols = tuple(plan.books)
        self.listings = _listings(self.symbols)
        self.exchange = Exchange(seed=plan.seed, unix_us=START.unix_us, speed=0.0, listings=self.listings.values())
        self.session = opinion.make_session(plan.seed, kind)
        self.network = Network(self.session, self.exchange, START, Random(f"{plan.seed}:network"))
        self.truth = Truth(self.exchange, self.listings, lambda: self.network.now_us)
        self.trader = Trader(self)
        self.check_rng = Random(f"{plan.seed}:checks")
        self.chain_bound_us = chain_bound_us(len(self.symbols))
        self.full = False
        """True when every comparison of books is a whole one."""
        self.faults: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.kept: list[Event] | None = None
        """Every event, for whoever sets it to a list."""
        self.diverged = 0
        self.rate_limited = 0
        self.told_last: dict[str, int] = {}
        self.told_fills: dict[tuple[str, int | None, str], int] = {}
        self.said_live: dict[str, bool] = {}
        self.stale_since_us: dict[str, int] = {}
        self.live: dict[str, bool] = dict.fromkeys(self.symbols, False)
        self.health: Health = opinion.health(self.session, self.network.now)
        self.pause_until_us: int | None = None
        self.left: deque[tuple[int, str]] = deque()
        self.listening_us = 0
        self.calm_since_us: int | None = None
        self.samples = self.calm_us = self.calm_well_us = self.open_us = self.live_us = 0
        self._sampled_us = START.mono_us
        self.calm_faults: list[str] = []
        self._fine = fine
        self._streams: dict[str, str] = {}
        self._books: dict[str, Any] = {}
        self._snapshots: dict[str, deque[tuple[int, bytes]]] = {}
        self._served: dict[str, deque[tuple[int, bytes]]] = {path: deque(maxlen=16) for path in MARGIN_PATHS}
        self.told_funding: Counter[FundingKey] = Counter()
        self._active = 0
        self._trouble_us = START.mono_us
        self._hash = hashlib.sha256()
        self._encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
        self._wire()
        self._begin()

    # Who looks on.

    def _wire(self) -> None:
        network = self.network
        network.on_event = self._event
        network.on_request = self._asked
        network.on_leave = self._leaves
        network.on_answer = self._answered
        network.on_response = self._responded
        for symbol, speed in self.plan.books.items():
            network.give_exchange(PaceMarket(symbol, speed))

    def _begin(self) -> None:
        streams = streams_for((self.plan.channel,), self.symbols)
        self._streams = {stream.symbol or "": stream.name for stream in streams}
        if self.plan.trades:
            streams = (*streams, *streams_for(("trades",), self.symbols))
        self.network.handle(Open())
        self.network.handle(Subscribe.of(streams))
        self._books = {stream: self.session.book(stream) for stream in self._streams.values()}
        if self.plan.account:
            self.network.handle(FollowAccount())
            rng = Random(f"{self.plan.seed}:trader")
            self.repeat(rng, USUAL_PAUSE_US, lambda: self.trader.act(rng))
        for episode in self.plan.episodes:
            self.network.at(START.mono_us + episode.start_ms * 1_000, self._strike, episode)
        self.network.after(FINE_GRID_US, self._sample)

    def stream_of(self, symbol: str) -> str:
        """Return the depth stream of a market."""
        return self._streams[symbol]

    @property
    def digest(self) -> str:
        """The SHA-256 over all events so far."""
        return self._hash.hexdigest()

    @property
    def at_ms(self) -> int:
        """How much virtual time has passed."""
        return (self.network.now_us - START.mono_us) // 1_000

    @property
    def calm(self) -> bool:
        """True when the last fault, and the last pause that was asked for, are long past."""
        now_us = self.network.now_us
        return not self._active and now_us >= max(self._trouble_us, self.pause_until_us or 0) + CALM_US

    def run(self, until_ms: int | None = None) -> None:
        """Let the plan happen, to its end or to a moment.

        Raises:
            Violation: a check failed, or the session raised.
        """
        end_ms = self.plan.duration_ms if until_ms is None else until_ms
        try:
            self.network.run(START.mono_us + end_ms * 1_000)
        except Violation:
            raise
        except Exception as error:
            # Whatever the exchange and the network do, nothing raises out of the session.
            raise Violation("no exception", f"{type(error).__name__}: {error}", self.at_ms, self.plan.seed) from error

    def finish(self) -> None:
        """Make the checks of the end.

        Raises:
            Violation: one of them failed.
        """
        for name, check in END_CHECKS.items():
            self.judge(name, check(self))

    def judge(self, name: str, verdict: Verdict) -> None:
        """Count a check, unless it did not apply.

        Raises:
            Violation: it failed.
        """
        if verdict is None:
            return
        self.checked[name] += 1
        if verdict is not True:
            raise Violation(name, str(verdict), self.at_ms, self.plan.seed)

    # What goes wrong.

    def fired(self, kind: str, times: int = 1) -> None:
        """Count harm that a fault has done."""
        self.faults[kind] += times

    def lasts_us(self, duration_us: int) -> None:
        """Say that a fault ends by itself, so much later."""
        self._trouble_us = max(self._trouble_us, self.network.now_us + duration_us)

    def repeat(self, rng: Random, pauses_us: tuple[int, int], what: Callable[[], None]) -> Callable[[], None]:
        """Do something again and again, with pauses. Returns how it is ended."""
        running = [True]

        def again() -> None:
            if running:
                what()
                self.network.after(rng.randrange(*pauses_us), again)

        self.network.after(rng.randrange(*pauses_us), again)
        return running.clear

    def _strike(self, episode: Episode) -> None:
        self._active += 1
        undo = FAULTS[episode.kind].begin(self, Random(episode.seed))
        self.network.after(episode.duration_ms * 1_000, self._end, undo)

    def _end(self, undo: Callable[[], None] | None) -> None:
        if undo is not None:
            undo()
        self._active -= 1
        self._trouble_us = max(self._trouble_us, self.network.now_us)

    def old_snapshots(self, symbol: str) -> list[bytes]:
        """Return what `/depth` answered a little while ago."""
        oldest_us, newest_us = (self.network.now_us - age_us for age_us in reversed(OLD_US))
        return [body for at_us, body in self._snapshots.get(symbol, ()) if oldest_us <= at_us <= newest_us]

    # What is seen.

    def _event(self, event: Event) -> None:
        kind = type(event)
        self._hash.update(b"%d %s " % (self.network.now_us, kind.__name__.encode()))
        try:
            self._hash.update(self._encode(event))
        except OverflowError:
            # No number that is so large should get this far. The check that says so comes next.
            self._hash.update(repr(event).encode())
        self.events[kind.__name__] += 1
        if self.kept is not None:
            self.kept.append(event)
        if isinstance(event, BookDesynced):
            self.diverged += event.diverged
            self.told_last.pop(event.stream, None)
        for name, check in _CHECKS_OF.get(kind, ()):
            self.judge(name, check(self, event))
        if isinstance(event, BookChanged | BookSynced):
            self._check_book(event.stream)
        if kind in _SAYING:
            self.said_live[getattr(event, "stream", "")] = _SAYING[kind]

    def _check_book(self, stream: str) -> bool:
        """Check a book, if it claims to be live. Says whether it does."""
        book = self._books.get(stream)
        if book is None or not opinion.is_live(book, self.network.now):
            return False
        judge = self.judge
        for name, check in BOOK_CHECKS.items():
            judge(name, check(self, book))
        return True

    def _sample(self) -> None:
        network = self.network
        self.live = {symbol: self._check_book(stream) for symbol, stream in self._streams.items()}
        self.health = opinion.health(self.session, network.now)
        calm = self.calm
        if not calm:
            self.calm_since_us = None
        elif self.calm_since_us is None:
            self.calm_since_us = network.now_us
        self._count_liveness(calm=calm)
        for name, check in SAMPLE_CHECKS.items():
            self.judge(name, check(self))
        wrong = self._active or not self.health.healthy or not all(self.live.values())
        network.after(FINE_GRID_US if wrong or self._fine else GRID_US, self._sample)

    def _count_liveness(self, *, calm: bool) -> None:
        since_us, self._sampled_us = self.network.now_us - self._sampled_us, self.network.now_us
        for symbol, live in self.live.items():
            if self.truth.markets[symbol].closed_us is None:
                self.open_us += since_us
                self.live_us += since_us * live
        if calm:
            well = opinion.is_well(self.health) and all(self.live.values())
            self.calm_us += since_us
            self.calm_well_us += since_us * well
            if not well and len(self.calm_faults) < 50:
                stale = [symbol for symbol, live in self.live.items() if not live]
                self.calm_faults.append(f"at {self.at_ms} ms stale {stale}, {'; '.join(self.health.reasons)[:200]}")

    def _asked(self, pending: Pending) -> None:
        for name, check in ASK_CHECKS.items():
            self.judge(name, check(self, pending))

    def _leaves(self, pending: Pending) -> None:
        self.left.append((self.network.now_us, pending.path))
        for name, check in LEAVE_CHECKS.items():
            self.judge(name, check(self, pending))

    def _answered(self, _: Pending, fact: Fact) -> None:
        if isinstance(fact, ResponseReceived) and fact.status == 429:
            self.rate_limited += 1
            if fact.retry_after_us is None:
                self.lasts_us(PAUSE_CEILING_US // 2)
            else:
                until_us = self.network.now_us + min(fact.retry_after_us, PAUSE_CEILING_US)
                self.pause_until_us = max(self.pause_until_us or 0, until_us)

    def _responded(self, pending: Pending, given: Respond) -> None:
        if pending.path == "/api/v1/depth" and given.status == 200:
            self._snapshots.setdefault(pending.symbol, deque(maxlen=8)).append((self.network.now_us, given.body))
        if pending.path in self._served and given.status == 200:
            self._served[pending.path].append((self.network.now_us, given.body))

    # What the checks ask for.

    def forget_requests(self) -> None:
        """Forget those that left more than a minute ago."""
        while self.left and self.left[0][0] <= self.network.now_us - 60 * SECOND:
            self.left.popleft()

    @staticmethod
    def client_id_of(body: bytes) -> int | None:
        """Return the client id of an order in a body."""
        members = msgspec.json.decode(body)
        found = members.get("clientId") if isinstance(members, dict) else None
        return found if isinstance(found, int) else None

    def metrics_differ(self) -> str | None:
        """Compare the session's counters with what was seen of it."""
        metrics, seen = self.session.metrics(self.network.now), self.events
        pairs = {
            "ws_reconnects": (metrics.ws_reconnects, max(seen[ConnectionUp.__name__] - 1, 0)),
            "orderbook_resyncs": (metrics.orderbook_resyncs, seen[BookDesynced.__name__]),
            "book_divergences": (metrics.book_divergences, self.diverged),
            "account_divergences": (metrics.account_divergences, seen["AccountDiverged"]),
            "dropped_messages": (metrics.dropped_messages, seen[FrameDropped.__name__]),
            "rate_limited": (metrics.rate_limited, self.rate_limited),
        }
        wrong = [f"{name} {counted}, seen {found}" for name, (counted, found) in pairs.items() if counted != found]
        return ", ".join(wrong) or None

    def account_moved_us(self) -> int:
        """Return how long ago something last happened to the account, by anybody's doing."""
        account, unix_us = self.exchange.account, self.network.true_now.unix_us
        moments = [fill.engine_us for fill in account.fills[-1:]]
        moments += [payment.interval_end_s * SECOND for payment in account.funding[-1:]]
        return unix_us - max(moments, default=0)

    def margin_differs(self) -> str | None:
        """Compare the margin of the ledger, and its liquidation prices, with what REST has told since they were asked for."""
        account = self.session.account
        margin, sent = account.margin, account.margin_sent
        if margin is None or sent is None:
            return None
        # Of one round the positions are read first. The pages of others are not told apart.
        collateral = self._served_since(MARGIN_PATHS[0], sent.mono_us - SECOND)
        positions = self._served_since(MARGIN_PATHS[1], sent.mono_us - 120 * SECOND)
        kept = _figures(msgspec.json.decode(msgspec.json.encode(margin.collateral)))
        if kept not in [_figures(one) for one in collateral]:
            return f"margin {kept}, REST told {[_figures(one) for one in collateral]}"
        told = {(row["symbol"], Decimal(row["estLiquidationPrice"])) for rows in positions for row in rows}
        for symbol in account.positions:
            found = account.liquidation_price(symbol)
            if found is not None and not found.moved and positions and (symbol, found.price or Decimal(0)) not in told:
                return f"{found}, REST told {sorted(map(str, told))}"
        return None

    def _served_since(self, path: str, mono_us: int) -> list[Any]:
        return [msgspec.json.decode(body) for moment_us, body in self._served[path] if moment_us >= mono_us]

    def funding_differs(self) -> str | None:
        """Compare the funding payments of the ledger with those that the exchange has made, but for what was paid since the last check."""
        payments, unix_us = self.session.account.funding, self.network.true_now.unix_us
        if payments is None:
            return None
        kept = {(payment.interval_end_us, payment.symbol, payment.quantity) for payment in payments}
        true = {(one.interval_end_s * SECOND, one.symbol, one.amount) for one in self.exchange.account.funding}
        missing = {one for one in true - kept if unix_us - one[0] > FUNDING_KNOWN_US}
        if missing or kept - true:
            return f"funding lost {sorted(map(str, missing))}, invented {sorted(map(str, kept - true))}"
        return None

    def ledger_differs(self) -> str | None:
        """Compare the ledger, and the fills that were reported, with the account."""
        account, ledger = self.exchange.account, self.session.account
        orders = {str(order_id): order.executed_quantity for order_id, order in account.open_orders.items()}
        kept = {order_id: order.executed_quantity for order_id, order in ledger.open_orders.items()}
        if orders != kept:
            return f"open orders {kept}, the exchange has {orders}"
        held = {asset: (one.available, one.locked) for asset, one in account.balances.items() if one.available or one.locked}
        known = {asset: (one.available, one.locked) for asset, one in ledger.balances.items() if one.available or one.locked}
        if held != known:
            return f"balances {known}, the exchange has {held}"
        nets = {symbol: one.net_quantity for symbol, one in account.positions.items() if one.net_quantity}
        if nets != {symbol: one.net_quantity for symbol, one in ledger.positions.items()}:
            return f"positions {dict(ledger.positions)}, the exchange has {nets}"
        wrong = self.margin_differs() or self.funding_differs()
        if wrong is not None:
            return wrong
        filled = {(fill.symbol, fill.trade_id, str(fill.order_id)) for fill in account.fills}
        if filled != self.told_fills.keys():
            return f"fills lost {sorted(map(str, filled - self.told_fills.keys()))}"
        return None


def _figures(listed: Any) -> tuple[object, ...]:
    """Return the figures of a margin, by whichever name they have: that of REST, or that of the core."""
    names = (
        ("netEquity", "net_equity"),
        ("netEquityAvailable", "net_equity_available"),
        ("netEquityLocked", "net_equity_locked"),
        ("pnlUnrealized", "unrealized_pnl"),
        ("assetsValue", "assets_value"),
        ("liabilitiesValue", "liabilities_value"),
        ("netExposureFutures", "net_exposure_futures"),
        ("imf", "initial_margin_fraction"),
        ("mmf", "maintenance_margin_fraction"),
        ("marginFraction", "margin_fraction"),
    )
    values = [next((listed[name] for name in pair if name in listed), None) for pair in names]
    return tuple(None if value is None else Decimal(value) for value in values)


def _listings(symbols: tuple[str, ...]) -> dict[str, Listing]:
    """Return the markets that are there: those of the plan, and some that can prove the path."""
    real = {listing.symbol: listing for listing in LISTINGS}
    small = {
        symbol: Listing(
            symbol=symbol, base=symbol.partition("_")[0], price_decimals=2, quantity_decimals=2, opening_ticks=5_000
        )
        for symbol in symbols
        if symbol not in real
    }
    return {symbol: small.get(symbol) or real[symbol] for symbol in dict.fromkeys((*symbols, *CANARY_MARKETS))}


def _checks_by_type() -> dict[type, list[tuple[str, Callable[[World, Any], Verdict]]]]:
    found: dict[type, list[tuple[str, Callable[[World, Any], Verdict]]]] = {}
    for name, (kinds, check) in EVENT_CHECKS.items():
        for kind in kinds:
            found.setdefault(kind, []).append((name, check))
    return found


_CHECKS_OF = _checks_by_type()
_SAYING: dict[type, bool] = {**dict.fromkeys(opinion.CONFIRMING, True), **dict.fromkeys(opinion.DOUBTING, False)}
"""Events that say whether a book is live, and what."""
