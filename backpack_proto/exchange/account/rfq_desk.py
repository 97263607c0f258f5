"""The desk of requests for quote: it takes them, has them quoted, and settles accepted quotes (docs/protocol.md 4.13).

Theory of operation. A request is open for quotes until its submission time, and can be accepted until it expires. Refreshing cancels
its quotes and sets both times again. A quote of an account takes the place of its last one. Only the best quote can be accepted, by the
requester, or by itself where the request has a price and the quote is at or better than it.

Stocks are quoted by the exchange's broker while a session of them is open, and settle later: accepting binds the request and locks its
cost, and soon it is filled at the quoted price or a better one. A request for stock by `quoteQuantity` gets no quotes. Everything
else is quoted by the crowd, and settles at once, as every quote of an account does. The broker's quotes improve: its first one is
wide, the others are closer to the market.

The requester pays the taker's fee in USDC, on top of the price of a purchase or out of the proceeds of a sale. A maker with an account the maker's.
Other accounts hear of every request, and may quote. `settles` set to False has the system cancel requests that the broker should have settled.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import Final

from backpack_proto.exchange.market.orders import OrderSide
from backpack_proto.exchange.messages import SendFrame
from backpack_proto.exchange.stream.private_streams import PrivateStreams

from .accounts import SETTLEMENT_ASSET, SimulatedAccount, base_units
from .order_request import refusal
from .orders import OrderState
from .rfq_market import RfqMarkets
from .rfqs import MAKER, RfqRequest, SimulatedQuote, SimulatedRfq, cost_units, spent_asset, taker_units

__all__ = ["EXPIRY_US", "SETTLEMENT_WINDOW_US", "SUBMISSION_US", "RfqDesk"]

SUBMISSION_US: Final = 60_000_000
EXPIRY_US: Final = 120_000_000
"""Time that a request is open for quotes, and how long it can be accepted."""
SETTLEMENT_WINDOW_US: Final = 30_000_000
"""Time that the broker may take to settle."""
_FIRST_QUOTES_US: Final = ((150_000, 400_000), (700_000, 1_200_000))
"""When the first quotes come, from and to, behind the beginning of a turn."""
_REQUOTE_US: Final = 5_000_000
_SETTLEMENT_US: Final = (300_000, 900_000)
_STOCK_BPS: Final = (45, 30)
_CROWD_BPS: Final = (15, 5)
"""Distance from the market of the first quote of a request, and of the others."""
_HEDGED_BPS: Final = 5
"""Distance from the market at which the broker settles when it has done better than it quoted."""
_MOST_OPEN: Final = 20


class RfqDesk:
    """All requests of all accounts. Accounts join it once, with their private streams."""

    def __init__(self, markets: RfqMarkets, rng: Random) -> None:
        self.markets = markets
        self.settles = True
        """True when the broker settles the requests that it is bound to."""
        self.rfqs: dict[int, SimulatedRfq] = {}
        """Every request that was ever taken, oldest first."""
        self.quotes: dict[int, SimulatedQuote] = {}
        """Every quote that was ever taken, oldest first."""
        self._rng = rng
        self._parties: dict[int, tuple[SimulatedAccount, PrivateStreams]] = {}
        self._tasks: list[tuple[int, int, str, SimulatedRfq, int]] = []
        """Scheduled events: time, order, kind, request, and its turn."""
        self._scheduled = 0
        # Ids of this size do not fit into a float, as on the exchange.
        self._next_id = 113_392_053_149_171_712 + rng.randrange(10**12)

    def join(self, account: SimulatedAccount, streams: PrivateStreams) -> None:
        """Let an account trade here, and hear of the requests of others."""
        self._parties[account.owner] = (account, streams)

    @property
    def deadline(self) -> int | None:
        """When the next thing happens by itself, on the monotonic clock."""
        return self._tasks[0][0] if self._tasks else None

    def happen(self, engine_us: int) -> list[SendFrame]:
        """Do the next thing that happens by itself."""
        at_us, _, what, rfq, turn = heappop(self._tasks)
        if turn != rfq.turn or not rfq.open:
            return []
        match what:
            case "quote":
                return self._make_quote(rfq, engine_us, at_us)
            case "expire" if rfq.accepted is None:
                return self._end(rfq, OrderState.EXPIRED, engine_us)
            case "settle" | "give up" if rfq.accepted is not None:
                return self._settle(rfq, rfq.accepted, engine_us) if what == "settle" else self._fail(rfq, engine_us)
        return []

    def submit(self, owner: int, request: RfqRequest, engine_us: int, mono_us: int) -> tuple[SimulatedRfq, list[SendFrame]]:
        """Take a request.

        Raises:
            ApiError: the account has too many of them open, or one with the same client id.
        """
        mine = [rfq for rfq in self.rfqs.values() if rfq.owner == owner and rfq.open]
        if len(mine) >= _MOST_OPEN:
            raise refusal("ORDER_LIMIT", "Too many open RFQs")
        if request.client_id is not None and any(rfq.request.client_id == request.client_id for rfq in mine):
            raise refusal("INVALID_ORDER", "Duplicate client RFQ ID")
        rfq = SimulatedRfq(
            rfq_id=self._take_id(),
            owner=owner,
            request=request,
            created_us=engine_us,
            submit_by_us=engine_us + SUBMISSION_US,
            expires_us=engine_us + EXPIRY_US,
            quotes=[],
        )
        self.rfqs[rfq.rfq_id] = rfq
        self._begin_turn(rfq, mono_us)
        return rfq, self._tell(rfq, "rfqAccepted", engine_us) + self._broadcast(rfq, engine_us)

    def find(self, owner: int, rfq_id: int | None, client_id: int | None) -> SimulatedRfq:
        """Return an open request of an account by one of its ids.

        Raises:
            ApiError: it has no such request.
        """
        for rfq in self.rfqs.values():
            known = rfq.rfq_id == rfq_id if rfq_id is not None else rfq.request.client_id == client_id
            if known and rfq.owner == owner and rfq.open:
                return rfq
        raise refusal("INVALID_ORDER", "RFQ not found")

    def accept(self, rfq: SimulatedRfq, quote_id: int, engine_us: int, mono_us: int) -> list[SendFrame]:
        """Accept a quote.

        Raises:
            ApiError: it is not the best quote, the request is bound already, or there are no funds.
        """
        self._check_unbound(rfq)
        best = rfq.best
        if best is None or best.quote_id != quote_id:
            raise refusal("INVALID_ORDER", "Only the best quote can be accepted")
        return self._accept(rfq, best, engine_us, mono_us)

    def refresh(self, rfq: SimulatedRfq, engine_us: int, mono_us: int) -> list[SendFrame]:
        """Cancel the quotes of a request, and set its times again.

        Raises:
            ApiError: it is bound by an accepted quote.
        """
        self._check_unbound(rfq)
        frames = self._cancel_quotes(rfq, engine_us)
        rfq.submit_by_us, rfq.expires_us = engine_us + SUBMISSION_US, engine_us + EXPIRY_US
        self._begin_turn(rfq, mono_us)
        return frames + self._tell(rfq, "rfqRefreshed", engine_us) + self._broadcast(rfq, engine_us)

    def cancel(self, rfq: SimulatedRfq, engine_us: int) -> list[SendFrame]:
        """Cancel a request.

        Raises:
            ApiError: it is bound by an accepted quote.
        """
        self._check_unbound(rfq)
        return self._end(rfq, OrderState.CANCELLED, engine_us)

    def quote(
        self, owner: int, rfq_id: int, client_id: int | None, bid: int, ask: int, engine_us: int, mono_us: int
    ) -> tuple[SimulatedQuote, list[SendFrame]]:
        """Take a quote of an account.

        Raises:
            ApiError: there is no such request, it is the account's own or takes no more quotes, or the account could not deliver.
        """
        rfq = self.rfqs.get(rfq_id)
        if rfq is None or not rfq.open or rfq.accepted is not None or engine_us >= rfq.submit_by_us:
            raise refusal("INVALID_ORDER", "RFQ not found")
        if rfq.owner == owner:
            raise refusal("INVALID_ORDER", "A quote for an own RFQ")
        if bid > ask:
            raise refusal("INVALID_PRICE", "Invalid price")
        ticks = ask if rfq.request.side is OrderSide.BID else bid
        if not self._can_deliver(owner, rfq, ticks):
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        return self._add(rfq, owner, client_id, (bid, ask), engine_us, mono_us)

    # Events of a request.

    def _begin_turn(self, rfq: SimulatedRfq, mono_us: int) -> None:
        rfq.turn += 1
        self._schedule(mono_us + EXPIRY_US, "expire", rfq)
        stock = rfq.request.market.security is not None
        if not (stock and rfq.request.lots is None):
            for first_us, last_us in _FIRST_QUOTES_US:
                self._schedule(mono_us + self._rng.randrange(first_us, last_us), "quote", rfq)

    def _schedule(self, at_us: int, what: str, rfq: SimulatedRfq) -> None:
        self._scheduled += 1  # breaks ties in the order of scheduling
        heappush(self._tasks, (at_us, self._scheduled, what, rfq, rfq.turn))

    def _make_quote(self, rfq: SimulatedRfq, engine_us: int, mono_us: int) -> list[SendFrame]:
        """Let the broker, or the crowd, quote at the market's price of this moment."""
        if rfq.accepted is not None or engine_us >= rfq.submit_by_us:
            return []
        quoted = sum(quote.maker == MAKER for quote in rfq.quotes)
        market = rfq.request.market
        away_bps = (_CROWD_BPS if market.security is None else _STOCK_BPS)[bool(quoted)]
        prices = self.markets.quote(market, away_bps, engine_us)
        if quoted:
            self._schedule(mono_us + _REQUOTE_US, "quote", rfq)
        return self._add(rfq, MAKER, None, prices, engine_us, mono_us)[1]

    def _add(
        self, rfq: SimulatedRfq, maker: int, client_id: int | None, prices: tuple[int, int], engine_us: int, mono_us: int
    ) -> tuple[SimulatedQuote, list[SendFrame]]:
        """Take a quote in place of the maker's last one. It may be accepted by itself."""
        before = rfq.best
        frames = self._cancel_quotes(rfq, engine_us, maker)
        quote = SimulatedQuote(
            quote_id=self._take_id(),
            rfq_id=rfq.rfq_id,
            symbol=rfq.request.market.symbol,
            maker=maker,
            client_id=client_id,
            bid=prices[0],
            ask=prices[1],
            created_us=engine_us,
            deferred=maker == MAKER and rfq.request.market.security is not None,
        )
        rfq.quotes.append(quote)
        self.quotes[quote.quote_id] = quote
        frames += self._tell_maker(rfq, quote, "quoteAccepted", engine_us)
        best, request = rfq.best, rfq.request
        if best is None or best is before:
            return quote, frames
        frames += self._tell(rfq, "rfqCandidate", engine_us, best, best.price(request.side))
        if request.price is not None and self._is_within(request, best) and self._can_pay(rfq, best):
            frames += self._accept(rfq, best, engine_us, mono_us)
        return quote, frames

    @staticmethod
    def _is_within(request: RfqRequest, quote: SimulatedQuote) -> bool:
        price = quote.price(request.side)
        if request.price is None:
            return False
        return price <= request.price if request.side is OrderSide.BID else price >= request.price

    def _accept(self, rfq: SimulatedRfq, quote: SimulatedQuote, engine_us: int, mono_us: int) -> list[SendFrame]:
        if not self._can_pay(rfq, quote):
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        if not quote.deferred:
            if not self._can_deliver(quote.maker, rfq, quote.price(rfq.request.side)):
                raise refusal("INVALID_ORDER", "The quote cannot be settled any more")
            rfq.accepted = quote
            return self._settle(rfq, quote, engine_us)
        account, streams = self._parties[rfq.owner]
        rfq.accepted = quote
        rfq.locked = cost_units(rfq, quote, account.fees)
        account.lock(spent_asset(rfq), rfq.locked)
        frames = self._tell(rfq, "rfqAcceptedBinding", engine_us, quote, quote.price(rfq.request.side))
        frames += self._cancel_quotes(rfq, engine_us, spared=quote)
        soon_us = self._rng.randrange(*_SETTLEMENT_US)
        if self.settles:
            self._schedule(mono_us + soon_us, "settle", rfq)
        else:
            self._schedule(mono_us + SETTLEMENT_WINDOW_US, "give up", rfq)
        return frames + streams.balances(engine_us)

    def _settle(self, rfq: SimulatedRfq, quote: SimulatedQuote, engine_us: int) -> list[SendFrame]:
        """Move the traded amounts, at the quoted price or, where the broker has done better, at a better one."""
        account, streams = self._parties[rfq.owner]
        request, listing = rfq.request, rfq.request.market.listing
        bought = request.side is OrderSide.BID
        ticks = quote.price(request.side)
        lots = rfq.size_at(ticks)
        if quote.deferred and self._rng.random() < 0.5:
            hedged = self.markets.quote(request.market, _HEDGED_BPS, engine_us)
            ticks = min(ticks, hedged[1]) if bought else max(ticks, hedged[0])
        account.lock(spent_asset(rfq), -rfq.locked)
        rfq.locked = 0
        units, fee = taker_units(rfq, lots, ticks, account.fees)
        base = base_units(listing, lots)
        account.credit(listing.base, base if bought else -base)
        account.credit(SETTLEMENT_ASSET, -units if bought else units)
        rfq.lots, rfq.fill_ticks, rfq.fee, rfq.filled_us = lots, ticks, fee, engine_us
        rfq.state = quote.state = OrderState.FILLED
        frames = self._cancel_quotes(rfq, engine_us, spared=quote)
        frames += self._tell(rfq, "rfqFilled", engine_us, quote, ticks) + streams.balances(engine_us)
        if quote.maker in self._parties:
            maker, maker_streams = self._parties[quote.maker]
            paid = units - fee if bought else units + fee
            rfq.maker_fee = maker.fees.of(paid, maker=True)
            maker.credit(listing.base, -base if bought else base)
            maker.credit(SETTLEMENT_ASSET, (paid if bought else -paid) - rfq.maker_fee)
            frames += self._tell_maker(rfq, quote, "rfqFilled", engine_us) + maker_streams.balances(engine_us)
        return frames

    def _fail(self, rfq: SimulatedRfq, engine_us: int) -> list[SendFrame]:
        """Cancel a bound request that was not settled in time."""
        account, streams = self._parties[rfq.owner]
        account.lock(spent_asset(rfq), -rfq.locked)
        rfq.locked = 0
        return self._end(rfq, OrderState.CANCELLED, engine_us) + streams.balances(engine_us)

    def _end(self, rfq: SimulatedRfq, state: OrderState, engine_us: int) -> list[SendFrame]:
        rfq.state = state
        return self._tell(rfq, "rfqCancelled", engine_us) + self._cancel_quotes(rfq, engine_us)

    def _cancel_quotes(
        self, rfq: SimulatedRfq, engine_us: int, maker: int | None = None, *, spared: SimulatedQuote | None = None
    ) -> list[SendFrame]:
        """Cancel the quotes that stand: of one maker, or of all."""
        frames: list[SendFrame] = []
        for quote in rfq.quotes:
            if quote.state is OrderState.NEW and quote is not spared and maker in {None, quote.maker}:
                quote.state = OrderState.CANCELLED
                frames += self._tell_maker(rfq, quote, "quoteCancelled", engine_us)
        return frames

    @staticmethod
    def _check_unbound(rfq: SimulatedRfq) -> None:
        if rfq.accepted is not None:
            raise refusal("INVALID_ORDER", "A quote of this RFQ was accepted, which is binding")

    # Money.

    def _can_pay(self, rfq: SimulatedRfq, quote: SimulatedQuote) -> bool:
        account = self._parties[rfq.owner][0]
        return 0 < cost_units(rfq, quote, account.fees) <= account.available(spent_asset(rfq))

    def _can_deliver(self, maker: int, rfq: SimulatedRfq, ticks: int) -> bool:
        if maker not in self._parties:
            return True
        account = self._parties[maker][0]
        lots = rfq.size_at(ticks)
        if rfq.request.side is OrderSide.BID:
            return base_units(rfq.request.market.listing, lots) <= account.available(rfq.request.market.listing.base)
        paid = taker_units(rfq, lots, ticks, account.fees)
        return paid[0] + 2 * paid[1] <= account.available(SETTLEMENT_ASSET)

    # Who is told.

    def _tell(
        self, rfq: SimulatedRfq, event: str, engine_us: int, quote: SimulatedQuote | None = None, ticks: int | None = None
    ) -> list[SendFrame]:
        return self._parties[rfq.owner][1].rfq(event, rfq, engine_us, quote=quote, ticks=ticks)

    def _tell_maker(self, rfq: SimulatedRfq, quote: SimulatedQuote, event: str, engine_us: int) -> list[SendFrame]:
        party = self._parties.get(quote.maker)
        return [] if party is None else party[1].quote(event, rfq, quote, engine_us)

    def _broadcast(self, rfq: SimulatedRfq, engine_us: int) -> list[SendFrame]:
        """Let the other accounts know that a request is open."""
        frames: list[SendFrame] = []
        for owner, (_, streams) in self._parties.items():
            if owner != rfq.owner:
                frames += streams.rfq("rfqActive", rfq, engine_us, broadcast=True)
        return frames

    def _take_id(self) -> int:
        self._next_id += self._rng.randrange(1, 10**9)
        return self._next_id
