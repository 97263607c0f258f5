"""The simulated exchange: Backpack's public wire as a pure state machine, the server twin of the client's Session.

Theory of operation. What clients send comes in as values, what is to be sent goes out as values; whoever serves the exchange owns
sockets and clock. Everything is drawn from one seed and the times handed in. The markets stand still until the first input, whose
moment ties the exchange to both clocks; from then on they move by themselves, and every input first lets happen what is due by
then. When the process was away for long, only the last second of what was missed happens, and what recurs happens once.

Each market has random generators of its own, so what one market does depends on nothing but the seed and the time.

Fills and resting orders carry owners. The crowd and the account meet in the same books; every change of a book passes `_tell`, which
publishes it and settles what it did to the account, and triggers are looked at once that is done. Requests pass the gateway, which may
be told to let them go wrong.

A market may be made busier or quieter, closed and opened again, given another tick and step, and the whole exchange restarted: those are the commands of an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from heapq import heappop, heappush
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_API_KEY
from backpack_proto.errors import LocalProtocolError, UnknownSymbol
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, due, earliest
from backpack_proto.streams.levels import Level

from .account.accounts import DEFAULT_DEPOSITS, Fees, SimulatedAccount
from .account.command_stream import SPEED_BUMP_US, CommandStream
from .account.order_entry import OrderEntry
from .account.rfq_desk import RfqDesk
from .account.rfq_market import RfqMarkets
from .faults import Faults, RateLimits
from .market.listings import LISTINGS, Listing, to_decimal
from .market.market import FUNDING_INTERVAL_US, SimulatedMarket
from .market.orders import OrderSide, Outcome
from .market.stocks import SECURITIES
from .messages import (
    ChangeMarket,
    CloseMarket,
    ExchangeInput,
    ExchangeOutput,
    OpenMarket,
    OperatorCommand,
    PaceMarket,
    RequestReceived,
    Restart,
    RestrictMarket,
    SendFrame,
)
from .rest.authentication import Authentication
from .rest.gateway import Gateway
from .rest.private_routes import PrivateRoutes
from .rest.public_routes import Routes
from .stream.audience import Audience, existing_streams
from .stream.private_streams import PrivateStreams
from .stream.publication import TURN_MS, Publication
from .stream.sockets import Sockets

__all__ = ["Exchange"]

Levels: TypeAlias = tuple[Level, ...]

MAX_SPEED = 1_000.0
CATCH_UP_US = 1_000_000
"""How far back events that were missed still happen."""
ACCOUNT_OWNER = 2
"""Owner of the account's orders; the smaller numbers are the crowd's."""
MOST_EVENTS = 2_000
"""Book events per input; markets that are due for more lose them."""
MARKET_CLOSED = "OrderBookClosed"
"""Why the orders of a market that closes expire: the exchange's word for what the system does then (docs/protocol.md)."""


class _Task(Enum):
    """What a market does by itself."""

    EVENT = 0
    """Something happens to the book."""
    TURN = TURN_MS * 1_000
    """Windows of aggregated depth may end; it does not recur, but is due while a window gathers."""
    SECOND = 1_000_000
    """Tickers, mark price and candles are due."""
    MINUTE = 60_000_000
    """Open interest is due."""

    @property
    def period_us(self) -> int:
        """How often it recurs; 0 when that is up to chance."""
        return self.value


class Exchange:
    """The whole exchange: markets, websockets and REST; a `Machine`.

    `unix_us` is where the made-up history ends, microseconds since the epoch, not later than the first input. `speed` multiplies how
    much happens to the books (0: nothing). `api_key` is the base64 public key of the one account that may subscribe to private
    streams, and sign requests. It begins with `deposits` by asset, and pays `fees`. `listings` are the markets that there are.
    `speed_bump_us` is how long an order without `postOnly` waits before it reaches the book; 0 switches that off.

    Raises:
        InvalidKey: `api_key` is not the base64 of 32 bytes.
        LocalProtocolError: `speed` is not from 0 to `MAX_SPEED`, a deposit is no usable amount, a fee is too fine, or `speed_bump_us` is
            not from 0 to a minute.
    """

    def __init__(
        self,
        *,
        seed: int,
        unix_us: int,
        speed: float = 1.0,
        api_key: str = THROWAWAY_API_KEY,
        listings: Iterable[Listing] = LISTINGS,
        deposits: Mapping[str, Decimal] = DEFAULT_DEPOSITS,
        fees: Fees = Fees(),  # noqa: B008 - cannot change
        speed_bump_us: int = SPEED_BUMP_US,
    ) -> None:
        _check_speed(speed)
        listings = tuple(listings)
        authentication = Authentication(api_key)
        self.api_key = api_key
        """The API key of the throwaway account."""
        self._engine_us = unix_us
        self._markets = {
            listing.symbol: SimulatedMarket(listing, seed=seed, start_us=unix_us) for listing in listings if listing.open
        }
        self._speeds = dict.fromkeys(self._markets, speed)
        self._closed: dict[str, SimulatedMarket] = {}
        """Markets that were open, and are not now."""
        self._listings = {listing.symbol: listing for listing in listings}
        self.on_book: Callable[[str, Outcome], None] | None = None
        """Called with the symbol at each change of a book, before it is published: a witness of what is true."""
        audience = Audience()
        self._publications = {
            symbol: Publication(market, audience, Random(f"{market.seed}:publication"))
            for symbol, market in self._markets.items()
        }
        self.account = SimulatedAccount(ACCOUNT_OWNER, deposits, fees)
        """The account as it is: balances, positions, orders and fills."""
        self.faults = Faults(Random(f"{seed}:faults"))
        """What goes wrong with requests; nothing, unless told."""
        self.limits = RateLimits()
        """The request budget."""
        self._streams = PrivateStreams(self.account, audience, Random(f"{seed}:streams"))
        self._entry = OrderEntry(self.account, self._markets, self._streams, self._tell, Random(f"{seed}:positions"))
        self._commands = CommandStream(speed_bump_us)
        rfq_markets = RfqMarkets(listings, self._markets, SECURITIES.values())
        self.rfqs = RfqDesk(rfq_markets, Random(f"{seed}:rfqs"))
        """The desk of requests for quote."""
        self.rfqs.join(self.account, self._streams)
        private = PrivateRoutes(
            self.account, self._entry, self.rfqs, authentication, self._commands, self._listings, self._markets, unix_us
        )
        self._sockets = Sockets(audience, authentication, self._existing_streams(), Random(f"{seed}:sockets"), self._greet)
        self._gateway = Gateway(Routes(self._listings, self._markets), private, self.limits, self.faults)
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
        self._mono_us = 0
        """When the thing happens that is being dealt with, on the monotonic clock."""
        self._funded_us: dict[str, int] = {}
        """The end of the last funding interval that was looked at, by market."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The markets whose book is open."""
        return tuple(self._markets)

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
        """Best bid and best ask of an open book, each as (ticks, lots); None for an empty side."""
        return self._markets[symbol].best()

    @property
    def deadline(self) -> int | None:
        """When the next thing happens by itself; None before the first input."""
        return earliest(self._due_us, self._sockets.deadline, self._gateway.deadline)

    @property
    def _due_us(self) -> int | None:
        """When the books next change by themselves, or by a command that waits."""
        return earliest(self._tasks[0][0] if self._tasks else None, self._commands.deadline, self.rfqs.deadline)

    def handle(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        """Take one input and return what is to be sent, in order; nothing that a client sends raises.

        Raises:
            LocalProtocolError: a connection was opened twice, or an operator's command makes no sense; nothing has changed.
        """
        if isinstance(given, OperatorCommand):
            return self._operate(given, now)
        if isinstance(given, TimerFired):
            return self._advance(now) if due(self.deadline, now) else []
        if isinstance(given, RequestReceived):
            outputs = self._advance(now)
            return outputs + self._gateway.handle(given, self._engine_us, now)
        self._sockets.check(given)
        outputs = self._advance(now)
        outputs += self._sockets.handle(given, now)
        return outputs

    def _operate(self, given: OperatorCommand, now: Now) -> list[ExchangeOutput]:
        """Do what the operator wants.

        Raises:
            LocalProtocolError: there is no such market, it is closed or open already, or the speed or a size is out of range.
        """
        match given:
            case PaceMarket(symbol, speed):
                _check_speed(speed)
                self._known(symbol, {**self._markets, **self._closed})
                outputs = self._advance(now)
                self._speeds[symbol] = speed
                if symbol in self._markets:
                    self._schedule_event(symbol, now.mono_us)
                return outputs
            case CloseMarket(symbol):
                market = self._known(symbol, self._markets)
                outputs = self._advance(now)
                outputs += self._entry.expire(market, MARKET_CLOSED, self._engine_us)
                self._closed[symbol] = self._markets.pop(symbol)
                self._publications[symbol].forget()
                self._turning.discard(symbol)
                self._next_events.pop(symbol, None)
                self._list(symbol, is_open=False)
                return outputs
            case OpenMarket(symbol):
                self._known(symbol, self._closed)
                outputs = self._advance(now)
                self._markets[symbol] = self._closed.pop(symbol)
                self._list(symbol, is_open=True)
                self._schedule_event(symbol, now.mono_us)
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
                outputs += self._gateway.abandon()
                outputs += self._sockets.close_all()
                for symbol, market in {**self._markets, **self._closed}.items():
                    self._publications[symbol].forget()
                    if not keep_ids:
                        market.engine.update_id = self._restarts.randrange(4_300_000_000, 7_600_000_000)
                return outputs

    @staticmethod
    def _known(symbol: str, markets: Mapping[str, SimulatedMarket]) -> SimulatedMarket:
        market = markets.get(symbol)
        if market is None:
            raise LocalProtocolError(f"symbol: a market in the right state, one of {', '.join(markets)}; got {symbol!r}")
        return market

    def _list(self, symbol: str, *, is_open: bool) -> None:
        self._listings[symbol] = replace(self._listings[symbol], open=is_open)
        self._sockets.streams = self._existing_streams()

    def _existing_streams(self) -> frozenset[str]:
        return existing_streams(self._listings.values(), self.rfqs.markets.symbols)

    def _advance(self, now: Now) -> list[ExchangeOutput]:
        """Let everything happen that is due."""
        if not self._tasks:
            self._begin(now)
        outputs: list[ExchangeOutput] = []
        oldest_us = now.mono_us - CATCH_UP_US
        events = 0
        while (due_us := self._due_us) is not None and due_us <= now.mono_us:
            at_us = self._mono_us = max(due_us, oldest_us)
            # A wall clock may jump; the engine's time does not go back.
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
        self._engine_us = max(self._engine_us, now.unix_us)
        for symbol in self._markets:
            for task in _Task:
                if not task.period_us:
                    continue
                first_us = now.mono_us + 1 + self._phases.randrange(task.period_us)
                if task is _Task.TURN:
                    self._turns[symbol] = first_us - task.period_us
                else:
                    self._schedule(first_us, task, symbol)
            self._schedule_event(symbol, now.mono_us)

    def _schedule_event(self, symbol: str, from_us: int) -> None:
        """Schedule the next event of a book; one that was scheduled before does not hold any more."""
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
                return self._tell(market, market.activity.act()) + self._entry.fire(self._engine_us)
            case _Task.TURN:
                self._turning.discard(symbol)
                frames = publication.turn((due_us - self._turns[symbol]) // task.period_us, self._engine_us)
                if publication.gathers:
                    self._schedule_turn(symbol)
                return frames
            case _Task.SECOND:
                market.move_reference()
                frames = publication.second(self._engine_us)
                frames += self._entry.second(market, self._engine_us, self._funding_due(market))
                for order in self._entry.resting(market) if self._speeds[symbol] else ():
                    if order.order_id in market.engine.orders and (visited := market.activity.visit(order)) is not None:
                        frames += self._tell(market, visited)
                return frames + self._entry.fire(self._engine_us)
            case _Task.MINUTE:
                return publication.minute(self._engine_us)

    def _funding_due(self, market: SimulatedMarket) -> int | None:
        """When the funding interval of a market ended, if that has not been looked at yet."""
        end_us = self._engine_us // FUNDING_INTERVAL_US * FUNDING_INTERVAL_US
        seen_us = self._funded_us.setdefault(market.symbol, end_us)
        self._funded_us[market.symbol] = end_us
        return end_us if seen_us < end_us else None

    def _tell(self, market: SimulatedMarket, outcome: Outcome) -> list[SendFrame]:
        """Record, publish and settle what happened to a book: everything that changes one passes here."""
        if self.on_book is not None:
            self.on_book(market.symbol, outcome)
        market.record(outcome, self._engine_us)
        publication = self._publications[market.symbol]
        frames = publication.book_event(outcome, self._engine_us)
        if publication.gathers:
            self._schedule_turn(market.symbol)
        return frames + self._entry.settle(market, outcome, self._engine_us)

    def _greet(self, connection: int, stream: str) -> list[SendFrame]:
        return self._streams.greeting(connection, stream, self._engine_us)


def _multiple(name: str, size: Decimal, decimals: int) -> int:
    """Return how many units of 10^-decimals a size is."""
    units = size.scaleb(decimals)
    if units < 1 or units % 1:
        raise LocalProtocolError(f"{name}: a multiple of {to_decimal(1, decimals):f}, got {size}")
    return int(units)


def _check_speed(speed: float) -> None:
    if not 0.0 <= speed <= MAX_SPEED:
        raise LocalProtocolError(f"markets cannot move at speed {speed}")
