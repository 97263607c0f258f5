"""The frames of the `account.*` streams, member for member (docs/protocol.md 4.10 to 4.13).

Members are in the order of the wire, alphabetical with capitals first. Quantities and limits are padded to the market's precision,
zero is a plain `"0"`, all others are stripped. Balances are sent when they differ from the last ones sent.
"""

from __future__ import annotations

from random import Random

from backpack_proto.exchange.account.accounts import (
    PLACES,
    HeldPosition,
    SimulatedAccount,
    SimulatedBalance,
    mark_ticks,
    quote_units,
    show_position,
)
from backpack_proto.exchange.account.margin import exposure_lots, initial_fraction, maintenance_fraction
from backpack_proto.exchange.account.orders import AccountOrder
from backpack_proto.exchange.account.rfqs import SimulatedQuote, SimulatedRfq, taker_price
from backpack_proto.exchange.market.listings import padded, stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.orders import Match
from backpack_proto.exchange.messages import SendFrame

from .audience import Audience
from .frames import data_frame

__all__ = ["PrivateStreams"]


class PrivateStreams:
    """Sends the events of an account to its listeners."""

    def __init__(self, account: SimulatedAccount, audience: Audience, rng: Random) -> None:
        self._account = account
        self._audience = audience
        self._rng = rng
        self._told: dict[str, SimulatedBalance] = account.balances

    def order(
        self, event: str, order: AccountOrder, engine_us: int, *, fill: Match | None = None, fee: int = 0, fee_asset: str = ""
    ) -> list[SendFrame]:
        """Publish an event of an order. `fill`, with the fee in units, when it traded."""
        request = order.request
        listing = request.listing
        quantity_decimals = listing.quantity_decimals
        both = listing.price_decimals + quantity_decimals
        waiting = order.lots == 0
        limit = request.price
        asked = request.tick_lots if limit is None else order.lots * limit
        data: dict[str, object] = {
            "O": "USER",
            "Q": None if asked is None and not waiting else _padded(asked or 0, both),
            "S": request.side,
            "T": engine_us,
            "V": request.self_trade,
            "X": order.state,
            "Z": _padded(order.paid, both),
            "c": request.client_id,
            "e": event,
            "f": request.time_in_force,
            "i": str(order.order_id),
            "o": "MARKET" if limit is None else "LIMIT",
            "p": None if limit is None else padded(limit, listing.price_decimals),
            "q": None if request.tick_lots is not None else _padded(order.lots, quantity_decimals),
            "r": bool(request.reduce_only),
            "s": listing.symbol,
            "y": bool(request.post_only),
            "z": _padded(order.executed, quantity_decimals),
        }
        if request.trigger_price is not None:
            data |= {
                "B": request.trigger_by,
                "P": padded(request.trigger_price, listing.price_decimals),
                "Y": request.trigger_quantity,
            }
        for attached, (trigger, by, limit_of) in ((request.take_profit, "adj"), (request.stop_loss, "bgk")):
            if attached is not None:
                data |= {
                    trigger: padded(attached.trigger_price, listing.price_decimals),
                    by: attached.trigger_by,
                    limit_of: None if attached.limit_price is None else padded(attached.limit_price, listing.price_decimals),
                }
        if order.related_order_id is not None:
            data["I"] = str(order.related_order_id)
        if event == "orderExpired":
            data["R"] = order.expiry_reason
        if fill is not None:
            data |= {
                "L": padded(fill.price, listing.price_decimals),
                "N": fee_asset,
                "l": padded(fill.lots, quantity_decimals),
                "m": fill.maker_id == order.order_id,
                "n": stripped(fee, PLACES),
                "t": fill.trade_id,
            }
        data = {name: value for name, value in data.items() if value is not None}
        # The one member that is there and null.
        data.setdefault("t", None)
        return self._send("account.orderUpdate", data, engine_us, listing.symbol)

    def position(self, event: str, market: SimulatedMarket, position: HeldPosition, engine_us: int) -> list[SendFrame]:
        """Publish an event of a position."""
        data = {**self._position(market, position, engine_us), "e": event}
        return self._send("account.positionUpdate", data, engine_us, market.symbol)

    def rfq(
        self,
        event: str,
        rfq: SimulatedRfq,
        engine_us: int,
        *,
        quote: SimulatedQuote | None = None,
        ticks: int | None = None,
        broadcast: bool = False,
    ) -> list[SendFrame]:
        """Publish an event of a request for quote. With the quote, and the price with the fee, where there is one.

        Broadcasts to others have neither the client id nor the side.
        """
        request = rfq.request
        listing = request.market.listing
        data: dict[str, object] = {
            "R": rfq.rfq_id,
            "T": engine_us,
            "X": rfq.state,
            "e": event,
            "q": None if request.lots is None else stripped(request.lots, listing.quantity_decimals),
            "Q": None
            if request.tick_lots is None
            else stripped(request.tick_lots, listing.price_decimals + listing.quantity_decimals),
            "s": listing.symbol,
        }
        if quote is None:
            data |= {"W": rfq.expires_us // 1000, "w": rfq.submit_by_us // 1000}
        else:
            data |= {"p": taker_price(rfq, ticks or 0, self._account.fees), "u": quote.quote_id}
        if not broadcast:
            data |= {"C": None if request.client_id is None else str(request.client_id), "S": request.side}
        return self._send_present("account.rfqUpdate", data, engine_us, listing.symbol)

    def quote(self, event: str, rfq: SimulatedRfq, quote: SimulatedQuote, engine_us: int) -> list[SendFrame]:
        """Publish an event of a quote of this account."""
        listing = rfq.request.market.listing
        data: dict[str, object] = {
            "C": None if quote.client_id is None else str(quote.client_id),
            "R": rfq.rfq_id,
            "T": engine_us,
            "X": quote.state,
            "e": event,
            "p": stripped(rfq.fill_ticks, listing.price_decimals) if event == "rfqFilled" else None,
            "s": listing.symbol,
            "u": quote.quote_id,
        }
        return self._send_present("account.rfqUpdate", data, engine_us, listing.symbol)

    def greeting(self, connection: int, stream: str, engine_us: int) -> list[SendFrame]:
        """Return the first frames of a new listener: the open positions, in messages without `e`."""
        kind, _, rest = stream.partition(".positionUpdate")
        if kind != "account" or not stream.startswith("account.positionUpdate"):
            return []
        return [
            SendFrame(connection, data_frame(stream, {**self._position(market, position, engine_us), "E": engine_us}))
            for symbol, (market, position) in self._account.open_positions.items()
            if rest in {"", f".{symbol}"}
        ]

    def balances(self, engine_us: int) -> list[SendFrame]:
        """Return the balances that changed since the last call. Idle USDC is lent before, if the account does so."""
        self._account.lend_idle()
        balances = self._account.balances
        frames: list[SendFrame] = []
        for asset, held in balances.items():
            told = self._told.get(asset)
            if told is not None and (held.available, held.locked) == (told.available, told.locked):
                continue
            data: dict[str, object] = {
                "A": f"{held.available:f}",
                "L": f"{held.locked:f}",
                "S": f"{held.staked:f}",
                "T": engine_us,
                "a": asset,
                "e": "balanceUpdate",
            }
            frames += self._send("account.balanceUpdate", data, engine_us)
        self._told = balances
        return frames

    def _position(self, market: SimulatedMarket, position: HeldPosition, engine_us: int) -> dict[str, object]:
        listing = market.listing
        shown = show_position(market, position)
        lots = exposure_lots(self._account, market)
        notional = quote_units(listing, lots * mark_ticks(market))
        return {
            "B": f"{shown.entry_price:f}",
            "M": stripped(mark_ticks(market), listing.price_decimals),
            "P": f"{shown.unrealized_pnl:f}",
            "Q": _padded(lots, listing.quantity_decimals),
            "T": engine_us,
            "b": f"{shown.break_even_price:f}",
            "f": stripped(initial_fraction(notional), PLACES),
            "i": position.position_id,
            "l": "0",
            "m": stripped(maintenance_fraction(notional), PLACES),
            "n": stripped(notional, PLACES),
            "p": f"{shown.realized_pnl:f}",
            "q": _padded(position.lots, listing.quantity_decimals),
            "s": listing.symbol,
        }

    def _send_present(self, stream: str, data: dict[str, object], engine_us: int, symbol: str) -> list[SendFrame]:
        return self._send(stream, {name: value for name, value in data.items() if value is not None}, engine_us, symbol)

    def _send(self, stream: str, data: dict[str, object], engine_us: int, symbol: str | None = None) -> list[SendFrame]:
        data["E"] = engine_us + 100 + int(self._rng.random() * 201)
        frames: list[SendFrame] = []
        for name in (stream, f"{stream}.{symbol}") if symbol else (stream,):
            if listeners := self._audience.of(name):
                text = data_frame(name, data)
                frames += [SendFrame(connection, text) for connection in listeners]
        return frames


def _padded(units: int, decimals: int) -> str:
    return padded(units, decimals) if units else "0"
