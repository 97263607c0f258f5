"""The simulated exchange: Backpack's public wire as a pure state machine, the server twin of the client's Session.

Theory of operation. Messages of clients come in as values, and messages to them go out as values. The server of the exchange owns
sockets and clock. Everything is drawn from one seed and the times handed in. The markets stand still until the first input, whose
moment ties the exchange to both clocks. From then on they move by themselves, and every input first lets events happen that are due by
then. When the process was away for long, only the last second of missed events happens, and recurring ones happen once.

Each market has random generators of its own, so the events of one market depend only on the seed and the time.

Fills and resting orders carry owners. The crowd and the accounts meet in the same books. Every change of a book passes `_tell`, which
publishes it and settles its effects on each account, and triggers are looked at once that is done. Requests pass the gateway, which may
be told to let them go wrong.

A market that is listed as one that sleeps stands still while it is unused: no connection listens to it, no request has named it for a while,
and no account has an order or a position in it. Its events then depend on when it was looked at, too.

A market may be made busier or quieter, closed and opened again, given another tick and step, the whole exchange restarted, and faults
planned: those are the commands of an operator. Everything that is sent passes the planned faults last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_API_KEY
from backpack_proto.errors import LocalProtocolError, UnknownSymbol
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, due, earliest
from backpack_proto.streams.levels import Level

from .account.accounts import DEFAULT_DEPOSITS, Fees
from .account.command_stream import SPEED_BUMP_US, CommandStream
from .account.rfq_desk import RfqDesk
from .account.rfq_market import RfqMarkets
from .bells import Bells
from .disturbances import Disturbances
from .faults import Faults
from .market.listings import LISTINGS, Listing, to_decimal
from .market.market import FUNDING_INTERVAL_US, SimulatedMarket
from .market.orders import OrderSide, Outcome
from .market.stocks import SECURITIES, session_at
from .members import Member
from .messages import (
    ChangeMarket,
    CloseMarket,
    ExchangeInput,
    ExchangeOutput,
    OpenMarket,
    OperatorCommand,
    PaceMarket,
    PlanFaults,
    RequestReceived,
    Restart,
    RestrictMarket,
    SendFrame,
)
from .rest.authentication import Authentication
from .rest.gateway import Desk, Gateway
from .rest.private_routes import PrivateRoutes
from .rest.public_routes import Routes
from .rest.query import symbols_of
from .stream.audience import Audience, existing_streams, streams_of
from .stream.publication import TURN_MS, Publication
from .stream.sockets import GOING_AWAY, Sockets

__all__ = ["Exchange"]

Levels: TypeAlias = tuple[Level, ...]

MAX_SPEED = 1_000.0
CATCH_UP_US = 1_000_000
"""Time back to which missed events still happen."""
MOST_ACCOUNTS = 1_000
AWAKE_US = 60_000_000
"""Time that a market that sleeps stays awake after a request that named it."""
MOST_EVENTS = 2_000
"""Book events per input. Markets that are due for more lose them."""
MARKET_CLOSED = "OrderBookClosed"
"""Why the orders of a market that closes expire: the exchange's word for this act of the system (docs/protocol.md)."""


class _Task(Enum):
    """Recurring events of a market."""

    EVENT = 0
    """Something happens to the book."""
    TURN = TURN_MS * 1_000
    """Windows of aggregated depth may end. It does not recur, but is due while a window gathers."""
    SECOND = 1_000_000
    """Tickers, mark price and candles are due."""
    MINUTE = 60_000_000
    """Open interest is due."""

    @property
    def period_us(self) -> int:
        """Interval at which it recurs, or 0 when that is up to chance."""
        return self.value


class Exchange:
    """The whole exchange: markets, websockets and REST. A `Machine`.

    `unix_us` is where the made-up history ends, microseconds since the epoch, not later than the first input. `speed` multiplies the
    rate of events of the books (0 stops them). `api_keys` are the base64 public keys of the accounts: they may subscribe to
    private streams, and sign requests. Each begins with `deposits` by asset, and pays `fees`. `listings` are the markets. `speed_bump_us` is the time
    that an order without `postOnly` waits before it reaches the book. 0 switches that off.

    Raises:
        InvalidKey: a key is not the base64 of 32 bytes.
        LocalProtocolError: `speed` is not from 0 to `MAX_SPEED`, there is no account, two have one key or there are too many, a deposit is
            no usable amount, a fee is too fine, or `speed_bump_us` is not from 0 to a minute.
    """

    def __init__(
        self,
        *,
        seed: int,
        unix_us: int,
        speed: float = 1.0,
        api_keys: Sequence[str] = (THROWAWAY_API_KEY,),
        listings: Iterable[Listing] = LISTINGS,
        deposits: Mapping[str, Decimal] = DEFAULT_DEPOSITS,
        fees: Fees = Fees(),  # noqa: B008 - cannot change
        speed_bump_us: int = SPEED_BUMP_US,
    ) -> None:
        _check_speed(speed)
        listings = tuple(listings)
        if not 1 <= len(api_keys) <= MOST_ACCOUNTS or len(set(api_keys)) < len(api_keys):
            raise LocalProtocolError(f"api_keys: 1 to {MOST_ACCOUNTS} keys, all different, got {len(api_keys)}")
        authentication = Authentication(*api_keys)
        self.api_key = api_keys[0]
        """The API key of the first account."""
        self._engine_us = unix_us
        self._markets = {
            listing.symbol: SimulatedMarket(listing, seed=seed, start_us=unix_us) for listing in listings if listing.open
        }
        self._speeds = dict.fromkeys(self._markets, speed)
        self._bells = Bells(listings)
        in_session = self._bells.closed(unix_us)
        self._closed = {symbol: self._markets[symbol] for symbol in in_session}
        """Markets that were open, or will be, and are not now."""
        self._listings = {item.symbol: replace(item, open=item.open and item.symbol not in in_session) for item in listings}
        self.on_book: Callable[[str, Outcome], None] | None = None
        """Called with the symbol at each change of a book, before it is published: a witness of the truth."""
        self._audience = audience = Audience()
        self._publications = {
            symbol: Publication(
                market,
                audience,
                Random(f"{market.seed}:publication"),
                stock_session=partial(_stock_session, market.listing.base),
            )
            for symbol, market in self._markets.items()
        }
        self._members = {
            key: Member(number, key, seed=seed, deposits=deposits, fees=fees, markets=self._markets, tell=self._tell)
            for number, key in enumerate(api_keys)
        }
        self._show_accounts(self._members[api_keys[0]])
        self.faults = Faults(Random(f"{seed}:faults"))
        """Faults of requests. Empty, unless set."""
        self._commands = CommandStream(speed_bump_us)
        self.rfqs = RfqDesk(RfqMarkets(listings, self._markets, SECURITIES.values()), Random(f"{seed}:rfqs"))
        """The desk of requests for quote."""
        for symbol in in_session:
            del self._markets[symbol]
        self._sockets = Sockets(
            audience,
            authentication,
            self._existing_streams(),
            Random(f"{seed}:sockets"),
            self._greet,
            {key: member.audience for key, member in self._members.items()},
        )
        self._gateway = Gateway(
            Routes(self._listings, self._markets),
            {key: self._desk(member, authentication, unix_us) for key, member in self._members.items()},
            self.faults,
        )
        self.disturbances = Disturbances(f"{seed}:plan", self.faults, self._close_all)
        """The planned faults."""
        self._restarts = Random(f"{seed}:restarts")
        self._phases = Random(f"{seed}:phases")
        self._tasks: list[tuple[int, int, _Task, str]] = []
        self._scheduled = 0
        self._next_events: dict[str, int] = {}
        """The number of the one scheduled book event of a market that holds."""
        self._turns: dict[str, int] = {}
        """When turn 0 of a market was, on the monotonic clock."""
        self._turning: set[str] = set()
        """Markets whose next turn is scheduled."""
        self._begun = False
        self._asleep: set[str] = set()
        """Markets that sleep now."""
        self._looked_us: dict[str, int] = {}
        """When a request last named a market that may sleep."""
        self._mono_us = 0
        """When the thing happens that is being dealt with, on the monotonic clock."""
        self._funded_us: dict[str, int] = {}
        """The end of the last funding interval that was looked at, by market."""

    def _desk(self, member: Member, authentication: Authentication, start_us: int) -> Desk:
        """Where the requests of an account are answered."""
        self.rfqs.join(member.account, member.streams)
        routes = PrivateRoutes(member, self.rfqs, authentication, self._commands, self._listings, self._markets, start_us)
        return Desk(routes, member.limits)

    def _show_accounts(self, first: Member) -> None:
        self.accounts = {key: member.account for key, member in self._members.items()}
        """The accounts as they are, by API key: balances, positions, orders and fills."""
        self.account = first.account
        """The first account."""
        self.limits = first.limits
        """The request budget of the first account."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The markets whose book is open."""
        return tuple(self._markets)

    @property
    def listed(self) -> tuple[str, ...]:
        """Every market, those whose book is closed as well."""
        return tuple(self._listings)

    def levels(self, symbol: str) -> tuple[Levels, Levels, int]:
        """Bids and asks of a book, best first, and the id of its last update.

        Raises:
            UnknownSymbol: no such market, or it is Closed.
        """
        market = self._markets.get(symbol)
        if market is None:
            raise UnknownSymbol(f"{symbol!r} has no book")
        return market.levels(OrderSide.BID), market.levels(OrderSide.ASK), market.engine.update_id

    def best(self, symbol: str) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Best bid and best ask of an open book, each as (ticks, lots), or None for an empty side."""
        return self._markets[symbol].best()

    @property
    def deadline(self) -> int | None:
        """When the next thing happens by itself, or None before the first input."""
        return earliest(
            self._due_us,
            self._sockets.deadline,
            self._gateway.deadline,
            self.disturbances.deadline,
            self._bells.deadline,
        )

    @property
    def _due_us(self) -> int | None:
        """When the books next change by themselves, or by a command that waits."""
        return earliest(self._tasks[0][0] if self._tasks else None, self._commands.deadline, self.rfqs.deadline)

    def handle(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        """Take one input and return outputs to send, in order. Messages of clients never raise.

        Raises:
            LocalProtocolError: a connection was opened twice, or an operator's command makes no sense. The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        return self.disturbances.disturb(self._handle(given, now), now.mono_us)

    def _handle(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        """Return the outputs without planned faults."""
        if isinstance(given, OperatorCommand):
            return self._operate(given, now)
        if isinstance(given, TimerFired):
            return self._advance(now)
        if isinstance(given, RequestReceived):
            outputs = self._advance(now)
            if self._looked_us or self._asleep:  # most exchanges have no market that sleeps
                for symbol in symbols_of(given):
                    self._look(symbol)
            return outputs + self._gateway.handle(given, self._engine_us, now)
        self._sockets.check(given)
        outputs = self._advance(now)
        outputs += self._sockets.handle(given, now)
        return outputs

    def _operate(self, given: OperatorCommand, now: Now) -> list[ExchangeOutput]:
        """Carry out a command of the operator.

        Raises:
            LocalProtocolError: there is no such market, it is closed or open already, or the speed or a size is out of range.
        """
        match given:
            case PaceMarket(symbol, speed):
                _check_speed(speed)
                self._known(symbol, {**self._markets, **self._closed})
                outputs = self._advance(now)
                self._speeds[symbol] = speed
                if symbol in self._markets and symbol not in self._asleep:
                    self._schedule_event(symbol, now.mono_us)
                return outputs
            case CloseMarket(symbol):
                market = self._known(symbol, self._markets)
                outputs = self._advance(now)
                if symbol in self._markets:  # a bell may have closed it meanwhile
                    outputs += self._close(market)
                return outputs
            case OpenMarket(symbol):
                self._known(symbol, self._closed)
                outputs = self._advance(now)
                if symbol in self._closed:  # a bell may have opened it meanwhile
                    self._open(symbol)
                return outputs
            case ChangeMarket(symbol, tick_size, step_size):
                market = self._known(symbol, {**self._markets, **self._closed})
                rules = {
                    "ticks_per_price": _multiple("tick_size", tick_size, market.listing.price_decimals),
                    "lots_per_quantity": _multiple("step_size", step_size, market.listing.quantity_decimals),
                }
                outputs = self._advance(now)
                self._listings[symbol] = replace(self._listings[symbol], **rules)
                cancelled = market.change(replace(market.listing, **rules))
                if symbol in self._markets and cancelled.removed:
                    outputs += self._tell(market, cancelled)
                return outputs
            case RestrictMarket(symbol, state):
                market = self._known(symbol, self._markets)
                outputs = self._advance(now)
                market.listing = replace(market.listing, restriction=state)
                self._listings[symbol] = replace(self._listings[symbol], restriction=state)
                return outputs
            case Restart(keep_ids):
                outputs = self._advance(now)
                outputs += self._close_all(GOING_AWAY)
                for market in () if keep_ids else (*self._markets.values(), *self._closed.values()):
                    market.engine.update_id = self._restarts.randrange(4_300_000_000, 7_600_000_000)
                return outputs
            case PlanFaults(faults):
                outputs = self._advance(now)
                return outputs + self.disturbances.plan(faults, now.mono_us)

    def _close_all(self, code: int | None) -> list[ExchangeOutput]:
        """End every connection, and give up every delayed answer."""
        outputs: list[ExchangeOutput] = [*self._gateway.abandon(), *self._sockets.close_all(code)]
        for publication in self._publications.values():
            publication.forget()
        return outputs

    @staticmethod
    def _known(symbol: str, markets: Mapping[str, SimulatedMarket]) -> SimulatedMarket:
        market = markets.get(symbol)
        if market is None:
            raise LocalProtocolError(f"symbol: a market in the right state, one of {', '.join(markets)}; got {symbol!r}")
        return market

    def _close(self, market: SimulatedMarket) -> list[ExchangeOutput]:
        """Close the book of a market: every order in it expires."""
        symbol = market.symbol
        outputs: list[ExchangeOutput] = []
        for member in self._members.values():
            outputs += member.entry.expire(market, MARKET_CLOSED, self._engine_us)
        self._closed[symbol] = self._markets.pop(symbol)
        self._publications[symbol].forget()
        self._turning.discard(symbol)
        self._next_events.pop(symbol, None)
        self._list(symbol, is_open=False)
        return outputs

    def _open(self, symbol: str) -> None:
        """Open the book of a market again."""
        self._markets[symbol] = self._closed.pop(symbol)
        self._list(symbol, is_open=True)
        if symbol not in self._asleep:
            self._schedule_event(symbol, self._mono_us)

    def _ring(self, now: Now) -> list[ExchangeOutput]:
        """Open and close the books of stocks by their sessions."""
        outputs: list[ExchangeOutput] = []
        for symbol, is_open in self._bells.ring(now).items():
            if is_open and symbol in self._closed:
                self._open(symbol)
            elif not is_open and symbol in self._markets:
                outputs += self._close(self._markets[symbol])
        return outputs

    def _list(self, symbol: str, *, is_open: bool) -> None:
        self._listings[symbol] = replace(self._listings[symbol], open=is_open)
        self._sockets.streams = self._existing_streams()

    def _existing_streams(self) -> frozenset[str]:
        return existing_streams(self._listings.values(), self.rfqs.markets.symbols)

    def _advance(self, now: Now) -> list[ExchangeOutput]:
        """Let everything happen that is due."""
        if not self._begun:
            self._begin(now)
        outputs = self.disturbances.advance(now.mono_us) + self._ring(now)
        oldest_us = now.mono_us - CATCH_UP_US
        events = 0
        while (due_us := self._due_us) is not None and due_us <= now.mono_us:
            at_us = self._mono_us = max(due_us, oldest_us)
            # A wall clock may jump. The engine's time does not go back.
            self._engine_us = max(self._engine_us, now.unix_us - (now.mono_us - at_us))
            if due_us == self._commands.deadline:
                outputs += self._gateway.finish(self._commands.take(), self._engine_us, at_us)
                continue
            if due_us == self.rfqs.deadline:
                outputs += self.rfqs.happen(self._engine_us)
                continue
            _, number, task, symbol = heappop(self._tasks)
            if task is _Task.EVENT and self._next_events.get(symbol) != number:
                continue
            if symbol in self._markets:
                outputs += self._perform(task, symbol, due_us)
            if symbol in self._asleep and task is not _Task.MINUTE:
                continue
            if task is _Task.EVENT:
                events += 1
                self._schedule_event(symbol, at_us if events < MOST_EVENTS else now.mono_us)
            elif task is not _Task.TURN:
                periods = (now.mono_us - due_us) // task.period_us + 1
                self._schedule(due_us + periods * task.period_us, task, symbol)
        self._engine_us = max(self._engine_us, now.unix_us)
        self._mono_us = now.mono_us
        outputs += self._gateway.due(now.mono_us)
        ping_us = self._sockets.deadline
        if ping_us is not None and ping_us <= now.mono_us:
            outputs += self._sockets.handle(TimerFired(), now)
        return outputs

    def _begin(self, now: Now) -> None:
        """Tie the markets to the clocks."""
        self._begun = True
        self._engine_us = max(self._engine_us, now.unix_us)
        self._asleep = {symbol for symbol, market in self._markets.items() if market.listing.sleeps}
        for symbol in (*self._markets, *self._closed):
            for task in _Task:
                if not task.period_us:
                    continue
                first_us = now.mono_us + 1 + self._phases.randrange(task.period_us)
                if task is _Task.TURN:
                    self._turns[symbol] = first_us - task.period_us
                elif symbol not in self._asleep or task is _Task.MINUTE:
                    self._schedule(first_us, task, symbol)
            if symbol in self._markets and symbol not in self._asleep:
                self._schedule_event(symbol, now.mono_us)

    def _look(self, symbol: str) -> None:
        """Wake a market that may sleep, and keep it awake for a while."""
        market = self._markets.get(symbol)
        if market is None or not market.listing.sleeps:
            return
        self._looked_us[symbol] = self._mono_us
        if symbol in self._asleep:
            self._asleep.discard(symbol)
            since_us = self._mono_us - self._turns[symbol]
            self._schedule(self._mono_us + _Task.SECOND.period_us - since_us % _Task.SECOND.period_us, _Task.SECOND, symbol)
            self._schedule_event(symbol, self._mono_us)

    def _may_sleep(self, market: SimulatedMarket) -> bool:
        """Return whether a market that sleeps when unused is unused."""
        if not market.listing.sleeps or self._mono_us - self._looked_us.get(market.symbol, -AWAKE_US) < AWAKE_US:
            return False
        if any(self._audience.of(name) for name in streams_of(market.listing)):
            return False
        return not any(member.uses(market.symbol) for member in self._members.values())

    def _schedule_event(self, symbol: str, from_us: int) -> None:
        """Schedule the next event of a book. One that was scheduled before does not hold any more."""
        self._next_events.pop(symbol, None)
        if speed := self._speeds[symbol]:
            self._schedule(from_us + self._markets[symbol].activity.pause_us(speed), _Task.EVENT, symbol)
            self._next_events[symbol] = self._scheduled

    def _schedule_turn(self, symbol: str) -> None:
        """Schedule the next turn of a market, unless that is done."""
        if symbol not in self._turning:
            self._turning.add(symbol)
            since_us = self._mono_us - self._turns[symbol]
            self._schedule(self._mono_us + _Task.TURN.period_us - since_us % _Task.TURN.period_us, _Task.TURN, symbol)

    def _schedule(self, at_us: int, task: _Task, symbol: str) -> None:
        self._scheduled += 1  # breaks ties in the order of scheduling
        heappush(self._tasks, (at_us, self._scheduled, task, symbol))

    def _perform(self, task: _Task, symbol: str, due_us: int) -> list[SendFrame]:
        market, publication = self._markets[symbol], self._publications[symbol]
        match task:
            case _Task.EVENT:
                return self._tell(market, market.activity.act()) + self._fire()
            case _Task.TURN:
                self._turning.discard(symbol)
                frames = publication.turn((due_us - self._turns[symbol]) // task.period_us, self._engine_us)
                if publication.gathers:
                    self._schedule_turn(symbol)
                return frames
            case _Task.SECOND:
                market.move_reference()
                frames = publication.second(self._engine_us)
                funding_us = self._funding_due(market)
                for member in self._members.values():
                    frames += member.entry.second(market, self._engine_us, funding_us)
                    for order in member.entry.resting(market) if self._speeds[symbol] else ():
                        if order.order_id in market.engine.orders and (visited := market.activity.visit(order)) is not None:
                            frames += self._tell(market, visited)
                if self._may_sleep(market):
                    self._asleep.add(symbol)
                    self._next_events.pop(symbol, None)
                return frames + self._fire()
            case _Task.MINUTE:
                return publication.minute(self._engine_us)

    def _funding_due(self, market: SimulatedMarket) -> int | None:
        """When the funding interval of a market ended, if that has not been looked at yet."""
        end_us = self._engine_us // FUNDING_INTERVAL_US * FUNDING_INTERVAL_US
        seen_us = self._funded_us.setdefault(market.symbol, end_us)
        self._funded_us[market.symbol] = end_us
        return end_us if seen_us < end_us else None

    def _tell(self, market: SimulatedMarket, outcome: Outcome) -> list[SendFrame]:
        """Record, publish and settle an event of a book: every change of one passes here."""
        if self.on_book is not None:
            self.on_book(market.symbol, outcome)
        market.record(outcome, self._engine_us)
        publication = self._publications[market.symbol]
        frames = publication.book_event(outcome, self._engine_us)
        if publication.gathers:
            self._schedule_turn(market.symbol)
        for member in self._members.values():
            frames += member.entry.settle(market, outcome, self._engine_us)
        return frames

    def _fire(self) -> list[SendFrame]:
        """Let the triggers of every account fire. Effects of one on the books are seen by the others at the next event."""
        frames: list[SendFrame] = []
        for member in self._members.values():
            frames += member.entry.fire(self._engine_us)
        return frames

    def _greet(self, connection: int, stream: str, api_key: str) -> list[SendFrame]:
        named = [symbol for symbol in self._asleep if stream.endswith(f".{symbol}")]
        for symbol in named:
            self._look(symbol)
        member = self._members.get(api_key)
        return [] if member is None else member.streams.greeting(connection, stream, self._engine_us)


def _stock_session(asset: str, unix_us: int) -> str | None:
    """The session of a stock that is open at a time, or None for others than stocks."""
    security = SECURITIES.get(asset)
    return None if security is None else session_at(security, unix_us)


def _multiple(name: str, size: Decimal, decimals: int) -> int:
    """Return how many units of 10^-decimals a size is."""
    units = size.scaleb(decimals)
    if units < 1 or units % 1:
        raise LocalProtocolError(f"{name}: a multiple of {to_decimal(1, decimals):f}, got {size}")
    return int(units)


def _check_speed(speed: float) -> None:
    if not 0.0 <= speed <= MAX_SPEED:
        raise LocalProtocolError(f"markets cannot move at speed {speed}")
