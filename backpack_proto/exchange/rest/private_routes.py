"""The signed REST routes of the simulated exchange (docs/protocol.md 2.4, 6.3 and 6.4).

A body is read before the signature is looked at, for the signature covers its contents. The order itself is judged afterwards, and
again when it has waited for the speed bump. Kinds that this exchange does not have are answered with an empty list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from urllib.parse import parse_qsl

from backpack_proto.auth.signing import Parameters
from backpack_proto.errors import ApiError
from backpack_proto.exchange.account.command_stream import CommandStream
from backpack_proto.exchange.account.order_request import (
    Members,
    Number,
    choose_order,
    market_listing,
    read_body,
    read_order,
    refusal,
    unreadable,
)
from backpack_proto.exchange.account.orders import AccountOrder, OrderRequest, OrderState
from backpack_proto.exchange.account.rfq_desk import RfqDesk
from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.members import Member
from backpack_proto.exchange.messages import RequestReceived, Respond, SendFrame

from .answers import TEXT, Answer, refuse, respond
from .authentication import Authentication
from .calls import Handler, RowsPage, SignedCall, Waits, paged
from .holdings import HoldingRoute, Holdings
from .private_views import (
    account_summary,
    balance_rows,
    collateral_summary,
    deposit_rows,
    fill_row,
    funding_row,
    order_history_row,
    order_row,
    page,
    position_row,
)
from .query import Query
from .rfq_routes import RfqRoutes

__all__ = ["MOST_ORDERS", "PrivateRoutes"]

MOST_ORDERS = 20
"""Orders of one batch. Nobody knows the exchange's own limit (docs/protocol.md 1.3)."""

_CANCEL_KINDS = ("RestingLimitOrder", "ConditionalOrder")
_ASSET_CLASSES = ("CRYPTO", "STOCK")
_KINDS = ("SPOT", "PERP", "IPERP", "DATED", "PREDICTION", "RFQ")

_EMPTY = {
    "/wapi/v1/history/borrowLend/positions": "borrowPositionHistoryQueryAll",
    "/wapi/v1/history/interest": "interestHistoryQueryAll",
    "/wapi/v1/history/position": "positionHistoryQueryAll",
    "/wapi/v1/history/settlement": "settlementHistoryQueryAll",
}


class PrivateRoutes:
    """Answers signed requests of one account."""

    def __init__(
        self,
        member: Member,
        desk: RfqDesk,
        authentication: Authentication,
        commands: CommandStream,
        listings: Mapping[str, Listing],
        markets: Mapping[str, SimulatedMarket],
        start_us: int,
    ) -> None:
        self._account = account = member.account
        self._entry = member.entry
        self._authentication = authentication
        self._commands = commands
        self._listings = listings
        self._markets = markets
        self._holdings = holdings = Holdings(account, member.streams, listings, markets)
        self._frames: list[SendFrame] = []
        self._rfqs = RfqRoutes(account, desk)
        self._routes: dict[tuple[str, str], tuple[str, Handler]] = {
            ("GET", "/api/v1/account"): ("accountQuery", lambda _: account_summary(account) | holdings.settings),
            ("GET", "/api/v1/capital"): ("balanceQuery", lambda _: balance_rows(account)),
            ("GET", "/api/v1/capital/collateral"): ("collateralQuery", lambda _: collateral_summary(account, markets)),
            ("GET", "/api/v1/position"): ("positionQuery", self._positions),
            ("GET", "/api/v1/order"): ("orderQuery", self._query_order),
            ("POST", "/api/v1/order"): ("orderExecute", self._place),
            ("DELETE", "/api/v1/order"): ("orderCancel", self._cancel),
            ("GET", "/api/v1/orders"): ("orderQueryAll", self._query_orders),
            ("POST", "/api/v1/orders"): ("orderExecute", self._place_batch),
            ("DELETE", "/api/v1/orders"): ("orderCancelAll", self._cancel_all),
            ("GET", "/wapi/v1/history/orders"): ("orderHistoryQueryAll", self._order_history),
            ("GET", "/wapi/v1/history/fills"): ("fillHistoryQueryAll", self._fill_history),
            ("GET", "/wapi/v1/history/funding"): ("fundingHistoryQueryAll", self._funding_history),
            ("GET", "/wapi/v1/capital/deposits"): (
                "depositQueryAll",
                lambda call: paged(call, deposit_rows(account, start_us) if call.query.covers(start_us) else []),
            ),
            **{("GET", path): (name, lambda call: paged(call, [])) for path, name in _EMPTY.items()},
            **self._rfqs.routes,
            **{key: (route.instruction, partial(self._held, route)) for key, route in holdings.routes.items()},
        }
        self._paths = frozenset(path for _, path in self._routes)

    def serves(self, path: str) -> bool:
        """Return whether a path is one of these."""
        return path in self._paths

    def respond(self, given: RequestReceived, engine_us: int, mono_us: int) -> tuple[list[SendFrame], Respond | None]:
        """Execute one request. Frames for listeners come with the answer, and never instead of it.

        There is no answer yet, None, for a command that waits for the speed bump: it goes into the stream of commands.
        """
        path, _, text = given.target.partition("?")
        method = given.method.upper()
        number = given.request_id
        route = self._routes.get((method, path))
        if route is None:
            return [], Respond(number, 405, TEXT, b"method not allowed")
        instruction, handler = route

        def answer() -> Answer:
            body: list[Members] | Members = {} if method == "GET" else read_body(given.body)
            self._authentication.verify_request(given, instruction, _signed(text, body), engine_us)
            self._frames += self._holdings.settle(engine_us)
            return handler(SignedCall(Query(path, text), body, engine_us, mono_us))

        return self._perform(number, answer, engine_us, mono_us)

    def _perform(
        self, number: int, answer: Callable[[], Answer], engine_us: int, mono_us: int
    ) -> tuple[list[SendFrame], Respond | None]:
        self._frames = []
        try:
            found = answer()
            self._frames += self._rfqs.take_frames()
            self._frames += self._entry.fire(engine_us)
        except ApiError as error:
            return self._frames, refuse(number, error)
        if isinstance(found, Waits):
            execute = found.execute
            self._commands.hold(lambda later_us: self._finish(number, execute, later_us), mono_us)
            return self._frames, None
        if isinstance(found, Respond):
            return self._frames, Respond(number, found.status, found.content_type, found.body)
        if isinstance(found, RowsPage):
            return self._frames, respond(number, found.rows, found.headers)
        return self._frames, respond(number, found)

    def _held(self, route: HoldingRoute, call: SignedCall) -> Answer:
        answer = route.handler(call.query, call.members, call.engine_us)
        self._frames += self._holdings.told(call.engine_us)
        return paged(call, answer) if route.paged and isinstance(answer, list) else answer

    def _finish(self, number: int, execute: Callable[[int], Answer], engine_us: int) -> tuple[list[SendFrame], Respond]:
        """Execute a command that has waited."""
        self._frames = []
        try:
            found = execute(engine_us)
            self._frames += self._entry.fire(engine_us)
        except ApiError as error:
            return self._frames, refuse(number, error)
        return self._frames, respond(number, found)

    def _place(self, call: SignedCall) -> Answer:
        members = call.members
        if self._waits(self._read(members)):
            return Waits(lambda engine_us: self._execute(members, engine_us))
        return self._execute(members, call.engine_us)

    def _place_batch(self, call: SignedCall) -> Answer:
        orders = call.body
        if not isinstance(orders, list) or not orders:
            raise unreadable("expected a list of orders")
        if len(orders) > MOST_ORDERS:
            raise refusal("INVALID_CLIENT_REQUEST", f"A batch has at most {MOST_ORDERS} orders")
        # One that cannot be read at all is an error of the whole batch, before any is executed.
        requests = [read_order(members, self._listings) for members in orders]
        answers: dict[int, Answer] = {}
        late: list[int] = []
        for place, request in enumerate(requests):
            if isinstance(request, OrderRequest) and self._waits(request):
                late.append(place)
            else:
                answers[place] = self._item(orders[place], call.engine_us)

        def execute(engine_us: int) -> Answer:
            answers.update({place: self._item(orders[place], engine_us) for place in late})
            return [answers[place] for place in range(len(orders))]

        return Waits(execute) if late else execute(call.engine_us)

    def _waits(self, request: OrderRequest) -> bool:
        return bool(self._commands.speed_bump_us) and not request.post_only

    def _item(self, members: Members, engine_us: int) -> dict[str, object]:
        """Execute one order of a batch."""
        try:
            return {"operation": "Ok", **self._execute(members, engine_us)}
        except ApiError as error:
            return {"operation": "Err", "code": error.code, "message": error.message}

    def _read(self, members: Members) -> OrderRequest:
        request = read_order(members, self._listings)
        if isinstance(request, ApiError):
            raise request
        return request

    def _execute(self, members: Members, engine_us: int) -> dict[str, object]:
        """Read an order by the rules of this moment, and place it."""
        order, frames = self._entry.place(self._read(members), engine_us)
        self._frames += frames
        return order_row(order)

    def _cancel(self, call: SignedCall) -> Answer:
        order = self._find(call.members)
        if order is None:
            # The page lists no 404 for a cancel, and clients take a 404 for an exchange that is out of reach.
            raise refusal("INVALID_ORDER", "Order not found")
        self._frames += self._entry.cancel([order], call.engine_us)
        return order_row(order)

    def _cancel_all(self, call: SignedCall) -> Answer:
        members = call.members
        symbol, kind = members.get("symbol"), members.get("orderType")
        if not isinstance(symbol, str) or kind not in {None, *_CANCEL_KINDS}:
            raise unreadable('failed to parse "OrderCancelAllPayload"')
        market_listing(symbol, self._listings)
        orders = [
            order
            for order in self._account.orders.values()
            if order.symbol == symbol
            and (kind is None or (order.state is OrderState.TRIGGER_PENDING) is (kind == "ConditionalOrder"))
        ]
        self._frames += self._entry.cancel(orders, call.engine_us)
        return [order_row(order) for order in orders]

    def _query_order(self, call: SignedCall) -> Answer:
        query = call.query
        client_id = query.optional("clientId")
        members: dict[str, str | bool | None] = {"symbol": query.required("symbol"), "orderId": query.optional("orderId")}
        members["clientId"] = None if client_id is None else Number(client_id)
        order = self._find(members)
        if order is None:
            raise refusal("RESOURCE_NOT_FOUND", "Not Found", 404)
        return order_row(order)

    def _query_orders(self, call: SignedCall) -> Answer:
        symbols = self._symbols(call.query)
        return [order_row(order) for order in self._account.orders.values() if order.symbol in symbols]

    def _find(self, members: Members) -> AccountOrder | None:
        symbol, order_id, client_id = choose_order(members)
        market_listing(symbol, self._listings)
        return self._entry.find(symbol, order_id, client_id)

    def _positions(self, call: SignedCall) -> Answer:
        symbols = self._symbols(call.query)
        markets = [market for market, _ in self._account.open_positions.values() if market.symbol in symbols]
        if call.query.optional("symbol") is not None and not markets:
            raise refusal("RESOURCE_NOT_FOUND", "Not Found", 404)
        return [position_row(self._account, market, self._markets) for market in markets]

    def _order_history(self, call: SignedCall) -> Answer:
        order_id, symbols = call.query.optional("orderId"), self._symbols(call.query)
        known = self._account.history if order_id is None else self._account.by_id.get(order_id, [])
        rows, headers = page(call.query, [order for order in known if order.symbol in symbols])
        return RowsPage([order_history_row(order) for order in rows], headers)

    def _fill_history(self, call: SignedCall) -> Answer:
        query, fills = call.query, self._account.fills
        order_id, symbols = query.optional("orderId"), self._symbols(query)
        asset_class = query.optional("assetClass")
        if asset_class is not None:
            stocks = query.one_of("assetClass", "AssetClass", _ASSET_CLASSES, asset_class) == "STOCK"
            symbols = frozenset(name for name in symbols if (self._listings[name].asset_class == "STOCK") is stocks)
        from_us = query.integer("from", 0, minimum=0, maximum=10**15) * 1000
        until_us = query.integer("to", 10**15, minimum=0, maximum=10**15) * 1000
        first = bisect_left(fills, from_us, key=attrgetter("engine_us"))
        wanted = [
            fill
            for fill in fills[first : bisect_left(fills, until_us, key=attrgetter("engine_us"))]
            if fill.symbol in symbols and order_id in {None, str(fill.order_id)}
        ]
        rows, headers = page(query, wanted)
        return RowsPage([fill_row(fill) for fill in rows], headers)

    def _funding_history(self, call: SignedCall) -> Answer:
        symbols = self._symbols(call.query)
        rows, headers = page(call.query, [payment for payment in self._account.funding if payment.symbol in symbols])
        return RowsPage([funding_row(payment) for payment in rows], headers)

    def _symbols(self, query: Query) -> frozenset[str]:
        """The markets that a query asks for."""
        kinds = [query.one_of("marketType", "MarketType", _KINDS, kind) for kind in query.all("marketType")]
        symbol = query.optional("symbol")
        return frozenset(
            listing.symbol
            for listing in self._listings.values()
            if symbol in {None, listing.symbol} and (not kinds or ("PERP" if listing.perpetual else "SPOT") in kinds)
        )


def _signed(query: str, body: list[Members] | Members) -> Parameters | Sequence[Parameters]:
    """The parameters that a signature covers. Of a repeated one in the query, the first.

    Beside an `orderId` a `clientId` does not count, so the signature of a request with both fails (docs/protocol.md 6.3).
    """
    if isinstance(body, list):
        return [_texts(members) for members in body]
    parameters = {**dict(reversed(parse_qsl(query, keep_blank_values=True))), **_texts(body)}
    if "orderId" in parameters and "clientId" in parameters:
        del parameters["clientId"]
    return parameters


def _texts(members: Members) -> Parameters:
    # A null is signed as the word, by those who send it (docs/protocol.md 2.2).
    return {name: "null" if value is None else value for name, value in members.items()}
