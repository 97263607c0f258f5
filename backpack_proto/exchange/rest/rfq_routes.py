"""The REST routes of requests for quote, for one account: both sides of them, and their histories (docs/protocol.md 2.4 and 4.13).

Open requests and quotes count time in milliseconds, histories write it as text without a zone.
"""

from __future__ import annotations

from backpack_proto.exchange.account.accounts import SETTLEMENT_ASSET, SimulatedAccount, to_amount
from backpack_proto.exchange.account.order_request import (
    MAX_CLIENT_ID,
    Members,
    Reader,
    read_price,
    read_quantity,
    read_units,
    refusal,
    unreadable,
)
from backpack_proto.exchange.account.orders import OrderState
from backpack_proto.exchange.account.rfq_desk import RfqDesk
from backpack_proto.exchange.account.rfqs import RfqRequest, SimulatedQuote, SimulatedRfq, taker_price
from backpack_proto.exchange.market.listings import stripped
from backpack_proto.exchange.market.orders import OrderSide
from backpack_proto.exchange.messages import SendFrame
from backpack_proto.exchange.stream.frames import iso_time_ms

from .answers import Answer
from .calls import Handler, RowsPage, SignedCall, paged
from .query import Query

__all__ = ["RfqRoutes"]

_MODES = ("AwaitAccept", "Immediate")
_SIDES = ("Bid", "Ask")
_STATES = tuple(state.value for state in OrderState)
_BOOLEANS = ("true", "false")
_FILL_TYPES = ("User", "CollateralConversion")
_FLAGS = ("autoLend", "autoLendRedeem", "autoBorrow", "autoBorrowRepay")


class RfqRoutes:
    """Answers the requests of one account to the desk."""

    def __init__(self, account: SimulatedAccount, desk: RfqDesk) -> None:
        self._account = account
        self._owner = account.owner
        self._desk = desk
        self._frames: list[SendFrame] = []
        self.routes: dict[tuple[str, str], tuple[str, Handler]] = {
            ("POST", "/api/v1/rfq"): ("rfqSubmit", self._submit),
            ("POST", "/api/v1/rfq/quote"): ("quoteSubmit", self._quote),
            ("POST", "/api/v1/rfq/accept"): ("quoteAccept", self._accept),
            ("POST", "/api/v1/rfq/refresh"): ("rfqRefresh", self._refresh),
            ("POST", "/api/v1/rfq/cancel"): ("rfqCancel", self._cancel),
            ("GET", "/api/v1/rfqs"): ("rfqQuery", self._open),
            ("GET", "/wapi/v1/history/rfq"): ("rfqHistoryQueryAll", self._history),
            ("GET", "/wapi/v1/history/quote"): ("quoteHistoryQueryAll", self._quote_history),
            ("GET", "/wapi/v1/history/rfq/fill"): ("rfqFillHistoryQueryAll", self._fills),
            ("GET", "/wapi/v1/history/quote/fill"): ("quoteFillHistoryQueryAll", self._quote_fills),
        }

    def take_frames(self) -> list[SendFrame]:
        """Return the frames of the last command."""
        frames, self._frames = self._frames, []
        return frames

    def _submit(self, call: SignedCall) -> Answer:
        read = Reader(call.members)
        symbol, side = read.text("symbol"), read.word("side", OrderSide)
        if symbol is None or side is None:
            raise unreadable('failed to parse "RequestForQuotePayload": fields `symbol` and `side` are required')
        texts = {name: read.decimal(name) for name in ("quantity", "quoteQuantity", "price")}
        mode = read.choice("executionMode", _MODES)
        client_id = read.whole("clientId", MAX_CLIENT_ID)
        for flag in _FLAGS:
            read.flag(flag)
        market, limits = self._desk.markets.find(symbol, call.engine_us)
        listing = market.listing
        lots, price = read_quantity(texts["quantity"], listing), read_price(texts["price"], listing)
        tick_lots = read_units(texts["quoteQuantity"], listing.price_decimals + listing.quantity_decimals, "Quantity")
        if (lots is None) == (tick_lots is None) or (price is not None) != (mode == "Immediate"):
            raise refusal("INVALID_ORDER", "Invalid order")
        if price is not None and price < 1:
            raise refusal("INVALID_PRICE", "Invalid price")
        if any(size is not None and size < 1 for size in (lots, tick_lots)):
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        out_of_limits = (
            limits is not None and lots is not None and (not limits.minimum <= lots <= limits.maximum or lots % limits.step)
        )
        if out_of_limits:
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        request = RfqRequest(market=market, side=side, lots=lots, tick_lots=tick_lots, price=price, client_id=client_id)
        rfq, self._frames = self._desk.submit(self._owner, request, call.engine_us, call.mono_us)
        return _rfq_row(rfq)

    def _quote(self, call: SignedCall) -> Answer:
        read = Reader(call.members)
        rfq_id, bid, ask = read.text("rfqId"), read.decimal("bidPrice"), read.decimal("askPrice")
        if rfq_id is None or bid is None or ask is None:
            raise unreadable('failed to parse "QuotePayload": fields `rfqId`, `bidPrice` and `askPrice` are required')
        client_id = read.whole("clientId", MAX_CLIENT_ID)
        number = _number(rfq_id)
        rfq = self._desk.rfqs.get(number)
        if rfq is None:
            raise refusal("INVALID_ORDER", "RFQ not found")
        listing = rfq.request.market.listing
        bid_ticks, ask_ticks = read_price(bid, listing) or 0, read_price(ask, listing) or 0
        if min(bid_ticks, ask_ticks) < 1:
            raise refusal("INVALID_PRICE", "Invalid price")
        quote, self._frames = self._desk.quote(
            self._owner, number, client_id, bid_ticks, ask_ticks, call.engine_us, call.mono_us
        )
        return _quote_row(quote, rfq)

    def _accept(self, call: SignedCall) -> Answer:
        quote_id = Reader(call.members).text("quoteId")
        if quote_id is None:
            raise unreadable('failed to parse "QuoteAcceptPayload": field `quoteId` is required')
        rfq = self._find(call.members)
        self._frames = self._desk.accept(rfq, _number(quote_id), call.engine_us, call.mono_us)
        return _rfq_row(rfq)

    def _refresh(self, call: SignedCall) -> Answer:
        rfq_id = Reader(call.members).text("rfqId")
        if rfq_id is None:
            raise unreadable('failed to parse "RequestForQuoteRefreshPayload": field `rfqId` is required')
        rfq = self._desk.find(self._owner, _number(rfq_id), None)
        self._frames = self._desk.refresh(rfq, call.engine_us, call.mono_us)
        return _rfq_row(rfq)

    def _cancel(self, call: SignedCall) -> Answer:
        rfq = self._find(call.members)
        self._frames = self._desk.cancel(rfq, call.engine_us)
        return _rfq_row(rfq)

    def _find(self, members: Members) -> SimulatedRfq:
        read = Reader(members)
        rfq_id, client_id = read.text("rfqId"), read.whole("clientId", MAX_CLIENT_ID)
        if (rfq_id is None) == (client_id is None):
            raise refusal("INVALID_CLIENT_REQUEST", "Must specify exactly one of `rfqId` or `clientId`")
        return self._desk.find(self._owner, None if rfq_id is None else _number(rfq_id), client_id)

    def _open(self, call: SignedCall) -> Answer:
        query = call.query
        rfq_id, symbol, deferred = query.optional("rfqId"), query.optional("symbol"), _deferred(query)
        return [
            {"quotes": [_quote_row(quote, rfq) for quote in rfq.quotes], "rfq": _rfq_row(rfq)}
            for rfq in self._mine()
            if rfq.open
            and rfq_id in {None, str(rfq.rfq_id)}
            and symbol in {None, rfq.request.market.symbol}
            and deferred in {None, rfq.request.market.security is not None}
        ]

    def _history(self, call: SignedCall) -> Answer:
        query = call.query
        rfq_id, deferred, state = query.optional("rfqId"), _deferred(query), _state(query)
        rows = [
            _past_rfq(rfq)
            for rfq in self._wanted(query)
            if rfq_id in {None, str(rfq.rfq_id)}
            and state in {None, rfq.state.value}
            and deferred in {None, rfq.accepted is not None and rfq.accepted.deferred}
        ]
        return paged(call, rows)

    def _fills(self, call: SignedCall) -> Answer:
        query = call.query
        quote_id, deferred, fill_type = query.optional("quoteId"), _deferred(query), query.optional("fillType")
        if fill_type is not None:
            query.one_of("fillType", "RfqFillType", _FILL_TYPES, fill_type)
        rows = [
            self._fill_row(rfq, rfq.accepted)
            for rfq in self._wanted(query)
            if rfq.accepted is not None
            and rfq.state is OrderState.FILLED
            and fill_type in {None, "User"}
            and quote_id in {None, str(rfq.accepted.quote_id)}
            and deferred in {None, rfq.accepted.deferred}
        ]
        return paged(call, rows)

    def _quote_history(self, call: SignedCall) -> Answer:
        query = call.query
        deferred, state = _deferred(query), _state(query)
        rows = [
            _past_quote(quote, self._desk.rfqs[quote.rfq_id])
            for quote in self._wanted_quotes(query)
            if state in {None, quote.state.value} and deferred in {None, quote.deferred}
        ]
        return paged(call, rows)

    def _quote_fills(self, call: SignedCall) -> RowsPage:
        query = call.query
        side = _side(query)
        rows: list[dict[str, object]] = []
        for quote in self._wanted_quotes(query):
            rfq = self._desk.rfqs[quote.rfq_id]
            # A maker is on the other side.
            if quote.state is OrderState.FILLED and side in {None, rfq.request.side.other.value}:
                rows.append(_quote_fill_row(quote, rfq))
        return paged(call, rows)

    def _mine(self) -> list[SimulatedRfq]:
        return [rfq for rfq in self._desk.rfqs.values() if rfq.owner == self._owner]

    def _wanted(self, query: Query) -> list[SimulatedRfq]:
        symbol, side = query.optional("symbol"), _side(query)
        return [
            rfq
            for rfq in self._mine()
            if symbol in {None, rfq.request.market.symbol} and side in {None, rfq.request.side.value}
        ]

    def _wanted_quotes(self, query: Query) -> list[SimulatedQuote]:
        symbol, quote_id = query.optional("symbol"), query.optional("quoteId")
        return [
            quote
            for quote in self._desk.quotes.values()
            if quote.maker == self._owner and symbol in {None, quote.symbol} and quote_id in {None, str(quote.quote_id)}
        ]

    def _fill_row(self, rfq: SimulatedRfq, quote: SimulatedQuote) -> dict[str, object]:
        return {
            "clientId": rfq.request.client_id,
            "createdAt": iso_time_ms(rfq.created_us // 1000),
            "filledAt": iso_time_ms(rfq.filled_us // 1000),
            "fillPrice": taker_price(rfq, rfq.fill_ticks, self._account.fees),
            **_sizes(rfq),
            "quoteId": str(quote.quote_id),
            "rfqId": str(rfq.rfq_id),
            "side": rfq.request.side,
            "symbol": rfq.request.market.symbol,
            "systemOrderType": None,
        }


def _number(text: str) -> int:
    """Return an id. Text that is not a number is an unused id."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1


def _deferred(query: Query) -> bool | None:
    value = query.optional("deferredSettlement")
    return None if value is None else query.one_of("deferredSettlement", "boolean", _BOOLEANS, value) == "true"


def _state(query: Query) -> str | None:
    value = query.optional("status")
    return None if value is None else query.one_of("status", "OrderStatus", _STATES, value)


def _side(query: Query) -> str | None:
    value = query.optional("side")
    return None if value is None else query.one_of("side", "Side", _SIDES, value)


def _sizes(rfq: SimulatedRfq) -> dict[str, object]:
    request, listing = rfq.request, rfq.request.market.listing
    both = listing.price_decimals + listing.quantity_decimals
    return {
        "quantity": None if request.lots is None else stripped(request.lots, listing.quantity_decimals),
        "quoteQuantity": None if request.tick_lots is None else stripped(request.tick_lots, both),
    }


def _rfq(rfq: SimulatedRfq) -> dict[str, object]:
    request, listing = rfq.request, rfq.request.market.listing
    return {
        "clientId": request.client_id,
        "executionMode": "Immediate" if request.immediate else "AwaitAccept",
        "price": None if request.price is None else stripped(request.price, listing.price_decimals),
        **_sizes(rfq),
        "rfqId": str(rfq.rfq_id),
        "side": request.side,
        "status": rfq.state,
        "symbol": listing.symbol,
    }


def _rfq_row(rfq: SimulatedRfq) -> dict[str, object]:
    """A request as the routes of open ones show it."""
    times = {"createdAt": rfq.created_us, "expiryTime": rfq.expires_us, "submissionTime": rfq.submit_by_us}
    row = _rfq(rfq) | {name: unix_us // 1000 for name, unix_us in times.items()} | {"systemOrderType": None}
    return dict(sorted(row.items()))


def _past_rfq(rfq: SimulatedRfq) -> dict[str, object]:
    """A request as the history shows it."""
    times = {"createdAt": rfq.created_us, "expiryTime": rfq.expires_us, "submissionTime": rfq.submit_by_us}
    row = _rfq(rfq) | {name: iso_time_ms(unix_us // 1000) for name, unix_us in times.items()}
    bound = rfq.accepted is not None and rfq.accepted.deferred
    row["deferredSettlementQuoteId"] = str(rfq.accepted.quote_id) if bound and rfq.accepted is not None else None
    return dict(sorted(row.items()))


def _quote(quote: SimulatedQuote, rfq: SimulatedRfq) -> dict[str, object]:
    decimals = rfq.request.market.listing.price_decimals
    return {
        "askPrice": stripped(quote.ask, decimals),
        "bidPrice": stripped(quote.bid, decimals),
        "clientId": quote.client_id,
        "quoteId": str(quote.quote_id),
        "rfqId": str(rfq.rfq_id),
        "status": quote.state,
    }


def _quote_row(quote: SimulatedQuote, rfq: SimulatedRfq) -> dict[str, object]:
    return dict(sorted((_quote(quote, rfq) | {"createdAt": quote.created_us // 1000}).items()))


def _past_quote(quote: SimulatedQuote, rfq: SimulatedRfq) -> dict[str, object]:
    row = _quote(quote, rfq) | {"createdAt": iso_time_ms(quote.created_us // 1000), "deferredSettlement": quote.deferred}
    return dict(sorted(row.items()))


def _quote_fill_row(quote: SimulatedQuote, rfq: SimulatedRfq) -> dict[str, object]:
    listing = rfq.request.market.listing
    return {
        "clientId": quote.client_id,
        "createdAt": iso_time_ms(quote.created_us // 1000),
        "fee": f"{to_amount(rfq.maker_fee):f}",
        "feeSymbol": SETTLEMENT_ASSET,
        "fillPrice": stripped(rfq.fill_ticks, listing.price_decimals),
        "filledAt": iso_time_ms(rfq.filled_us // 1000),
        "quantity": stripped(rfq.lots, listing.quantity_decimals),
        "quoteId": str(quote.quote_id),
        "rfqId": str(rfq.rfq_id),
        "side": rfq.request.side.other,
        "symbol": listing.symbol,
    }
