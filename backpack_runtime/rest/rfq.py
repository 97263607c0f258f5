"""REST methods of requests for quotes: ask, accept, refresh, cancel, quote, and their past (docs/protocol.md 6.6).

Quotes come as events of `account.rfqUpdate`: `RfqCandidate` is a new best quote, and only the best one can be accepted.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, cast

from backpack_proto.errors import UnknownSymbol
from backpack_proto.hints import shown
from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount, Side
from backpack_proto.rest.results.orders import Quote, QuoteFill, Rfq, RfqFill, RfqWithQuotes

from .pages import PAGE, Pages
from .stocks import StockMethods

__all__ = ["RfqMethods"]


class RfqMethods(StockMethods):
    """Calls about requests for quotes."""

    _rfq_ids: dict[str, str] | None = None
    """Both spellings of the markets for requests for quotes that securities have, or None before those were read."""

    async def submit_rfq(
        self,
        symbol: str,
        side: Side,
        *,
        quantity: Amount | None = None,
        quote_quantity: Amount | None = None,
        price: Amount | None = None,
        execution_mode: Literal["AwaitAccept", "Immediate"] | None = None,
        client_id: int | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Rfq:
        """Ask for quotes on a market such as `SOL_USDC_RFQ` or `AAPL.US_USDC_RFQ`.

        Quotes are taken until `submitted_us` of the answer, and the request expires at `expires_us`. With `execution_mode="Immediate"`
        and a `price`, the first quote at that price or better is accepted at once. A request for a stock takes a `quantity`: one by
        `quote_quantity` gets no quotes, and expires.

        Raises:
            ApiError: the exchange refused it.
            UnknownSymbol: it is no market, and no security has it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may be open. `get_open_rfqs` and `rfq_history` find out.
        """
        parameters: Arguments = {
            "symbol": await self._rfq_id(symbol),
            "side": side,
            "quantity": quantity,
            "quote_quantity": quote_quantity,
            "price": price,
            "execution_mode": execution_mode,
            "client_id": client_id,
            "auto_lend": auto_lend,
            "auto_lend_redeem": auto_lend_redeem,
            "auto_borrow": auto_borrow,
            "auto_borrow_repay": auto_borrow_repay,
        }
        return cast("Rfq", await self.call("submit_rfq", parameters, max_wait_us=max_wait_us))

    async def accept_quote(
        self,
        quote_id: str | int,
        *,
        rfq_id: str | int | None = None,
        client_id: int | None = None,
        max_wait_us: int | None = None,
    ) -> Rfq:
        """Accept the best quote of a request, which is named by exactly one of `rfq_id` and its `client_id`.

        A quote of the exchange's broker on a stock binds at once and is settled later: `RfqAcceptedBinding`, then `RfqFilled` at the
        quoted price or a better one, or `RfqCancelled` where the broker did not settle it in time.

        Raises:
            ApiError: the exchange refused, as for a quote that is not the best one any more.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been accepted.
        """
        parameters: Arguments = {"quote_id": _text(quote_id), "rfq_id": _text(rfq_id), "client_id": client_id}
        return cast("Rfq", await self.call("accept_quote", parameters, max_wait_us=max_wait_us))

    async def refresh_rfq(self, rfq_id: str | int, *, max_wait_us: int | None = None) -> Rfq:
        """Cancel the quotes of a request, and restart the times for quoting and for accepting.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been refreshed.
        """
        return cast("Rfq", await self.call("refresh_rfq", {"rfq_id": _text(rfq_id)}, max_wait_us=max_wait_us))

    async def cancel_rfq(
        self, *, rfq_id: str | int | None = None, client_id: int | None = None, max_wait_us: int | None = None
    ) -> Rfq:
        """Cancel a request, by exactly one of its ids. One whose accepted quote binds cannot be cancelled.

        Raises:
            ApiError: the exchange refused.
            NotSent: the cancel did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        return cast(
            "Rfq", await self.call("cancel_rfq", {"rfq_id": _text(rfq_id), "client_id": client_id}, max_wait_us=max_wait_us)
        )

    async def submit_quote(
        self,
        rfq_id: str | int,
        *,
        bid_price: Amount,
        ask_price: Amount,
        client_id: int | None = None,
        auto_lend: bool | None = None,
        auto_lend_redeem: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Quote:
        """Quote a request of somebody else, before its `submitted_us`. A quote of yours is settled as soon as it is accepted.

        Raises:
            ApiError: the exchange refused, as after the time for quoting.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been taken in.
        """
        parameters: Arguments = {
            "rfq_id": _text(rfq_id),
            "bid_price": bid_price,
            "ask_price": ask_price,
            "client_id": client_id,
            "auto_lend": auto_lend,
            "auto_lend_redeem": auto_lend_redeem,
            "auto_borrow": auto_borrow,
            "auto_borrow_repay": auto_borrow_repay,
        }
        return cast("Quote", await self.call("submit_quote", parameters, max_wait_us=max_wait_us))

    async def get_open_rfqs(
        self,
        symbol: str | None = None,
        *,
        rfq_id: int | None = None,
        deferred_settlement: bool | None = None,
        subaccount_id: int | None = None,
    ) -> tuple[RfqWithQuotes, ...]:
        """Return the open requests of the account, each with the quotes that it has had."""
        parameters: Arguments = {
            "symbol": None if symbol is None else await self._rfq_id(symbol),
            "rfq_id": rfq_id,
            "deferred_settlement": deferred_settlement,
            "subaccount_id": subaccount_id,
        }
        return cast("tuple[RfqWithQuotes, ...]", await self.call("open_rfqs", parameters))

    def rfq_history(
        self,
        symbol: str | None = None,
        *,
        rfq_id: str | int | None = None,
        status: str | None = None,
        side: Side | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Rfq]:
        """Return every request of the past, as an async iterator. `status` is a word such as `Filled` or `Expired`."""
        parameters: Arguments = {
            "rfq_id": rfq_id,
            "status": status,
            "side": side,
            "deferred_settlement": deferred_settlement,
        }
        return self._pages(
            "rfq_history", symbol, parameters, _rfq_key, oldest_first=oldest_first, page_size=page_size, resolve=self._rfq_id
        )

    def quote_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        status: str | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Quote]:
        """Return every quote that the account has given, as an async iterator."""
        parameters: Arguments = {"quote_id": quote_id, "status": status, "deferred_settlement": deferred_settlement}
        return self._pages(
            "quote_history",
            symbol,
            parameters,
            _quote_key,
            oldest_first=oldest_first,
            page_size=page_size,
            resolve=self._rfq_id,
        )

    def rfq_fill_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        side: Side | None = None,
        fill_type: str | None = None,
        deferred_settlement: bool | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[RfqFill]:
        """Return every request of the account that was filled, as an async iterator."""
        parameters: Arguments = {
            "quote_id": quote_id,
            "side": side,
            "fill_type": fill_type,
            "deferred_settlement": deferred_settlement,
        }
        return self._pages(
            "rfq_fill_history",
            symbol,
            parameters,
            _fill_key,
            oldest_first=oldest_first,
            page_size=page_size,
            resolve=self._rfq_id,
        )

    def quote_fill_history(
        self,
        symbol: str | None = None,
        *,
        quote_id: str | int | None = None,
        side: Side | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[QuoteFill]:
        """Return every quote of the account that was filled, as an async iterator."""
        parameters: Arguments = {"quote_id": quote_id, "side": side}
        return self._pages(
            "quote_fill_history",
            symbol,
            parameters,
            _fill_key,
            oldest_first=oldest_first,
            page_size=page_size,
            resolve=self._rfq_id,
        )

    async def _rfq_id(self, symbol: str) -> str:
        """Return the exchange's spelling of a market for requests for quotes. Those of stocks are in no list of markets."""
        if self._rfq_ids is not None and symbol in self._rfq_ids:
            return self._rfq_ids[symbol]
        try:
            return await self._id(symbol)
        except UnknownSymbol as unknown:
            ids = [f"{security.asset}_USDC_RFQ" for security in await self.get_securities()]
            self._rfq_ids = {spelling: one for one in ids for spelling in (one, one.replace("_", "-"))}
            if symbol not in self._rfq_ids:
                raise UnknownSymbol(f"{unknown}; and {shown(symbol)} is not <asset>_USDC_RFQ of a security either") from None
            return self._rfq_ids[symbol]


def _text(number: str | int | None) -> str | int | None:
    """Return an id as the exchange takes it in a body: events have numbers, the exchange's schema has texts."""
    return str(number) if type(number) is int else number


def _rfq_key(rfq: Rfq) -> Hashable:
    return rfq.rfq_id


def _quote_key(quote: Quote) -> Hashable:
    return quote.quote_id


def _fill_key(fill: RfqFill | QuoteFill) -> Hashable:
    return fill.rfq_id, fill.quote_id
