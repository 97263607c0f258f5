"""Rows of the table of foreign clients: a call, what it is given, and what makes its answer right or the fault of the client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from client_driver import Client, Outcome, equal

__all__ = ["OTHER", "PERPETUAL", "RESTING", "SPOT", "Row", "check_row", "gone", "listed", "same", "submitted"]

SPOT, PERPETUAL = "SOL_USDC", "SOL_USDC_PERP"
RESTING = {"symbol": SPOT, "side": "Bid", "orderType": "Limit", "price": "80", "quantity": "1", "postOnly": True}
OTHER = 1
"""The second account: it asks for quotes, and trades where something has to happen."""

Given = Mapping[str, Any] | Callable[[Client], Mapping[str, Any]]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """One call, and what has to come of it."""

    call: str
    given: Given = NOTHING
    """Arguments by name, or what makes them."""
    positional: Sequence[Any] | Callable[[Client], Sequence[Any]] = ()
    look: Callable[[Client], Any] | None = None
    """Reads the state at each request and each frame."""
    holds: Callable[[Client, Any, list[Any]], bool] | None = None
    """True when what was returned is right, beside what was read."""
    fault: str = ""
    """Why the client is to blame for a difference."""
    refused: str = ""
    """What it raises or returns then, as a pattern."""
    note: str = ""
    """What is compared, where it is not the whole answer."""
    keep: str = ""
    """The name under which later calls find what was returned."""
    stir: Callable[[Client], None] | None = None
    """What happens in the market until the call has ended."""
    before: Callable[[Client], None] | None = None
    variant: str = ""
    """Tells several rows of one call apart."""

    @property
    def title(self) -> str:
        """The call as the document has it."""
        return f"`{self.call}`" + (f" {self.variant}" if self.variant else "")


def _resolved(given: Any, client: Client) -> Any:
    return given(client) if callable(given) else given


def check_row(client: Client, row: Row, *, frames_only: bool = False) -> tuple[str, str]:
    """Make the call of a row, and return what it asked for, or only in frames, and what came of it.

    Raises:
        AssertionError: it is not as the row says.
    """
    if row.before is not None:
        row.before(client)
    look, stir = row.look, row.stir
    outcome = client.call(
        row.call,
        _resolved(row.positional, client),
        dict(_resolved(row.given, client)),
        look=None if look is None else lambda: look(client),
        stir=None if stir is None else lambda: stir(client),
    )
    _judge(client, row, outcome)
    if row.keep:
        client.notes[row.keep] = outcome.returned
    asked = [request for request in dict.fromkeys(outcome.requests) if not frames_only or "/" not in request]
    came = f"client: {row.fault}" if row.fault else f"equal{row.note and ': ' + row.note}"
    return ", ".join(f"`{request}`" for request in asked) or "nothing", came


def _judge(client: Client, row: Row, outcome: Outcome) -> None:
    text = outcome.raised or json.dumps(outcome.returned)
    where = f"{row.call} {row.variant}: {text[:600]} {outcome.requests} beside {str(outcome.truths[-1:])[:600]}"
    assert not any(request.endswith(" 501") for request in outcome.requests), where
    if row.refused:
        assert row.fault, where
        assert re.search(row.refused, text), where
    else:
        assert outcome.raised is None, where
    if row.holds is not None:
        assert row.holds(client, outcome.returned, outcome.truths), where
    assert row.holds is not None or row.refused, f"{row.call} is not compared with anything"


def same(
    call: str,
    name: str,
    given: Given = NOTHING,
    asked: Given = NOTHING,
    *,
    positional: Sequence[Any] | Callable[[Client], Sequence[Any]] = (),
    **further: Any,
) -> Row:
    """Make a row of a call whose answer is that of an endpoint, to the last member, and where it is known that of the state itself."""
    return Row(
        call,
        given,
        positional,
        look=lambda client: (
            client.served.peek(name, _resolved(asked, client)),
            _inner(client, name, _resolved(asked, client)),
        ),
        holds=lambda _client, returned, truths: _is_true(name, returned, truths),
        **further,
    )


def _is_true(name: str, returned: Any, truths: list[Any]) -> bool:
    answer, inner = truths[-1]
    return equal(returned, answer) and (inner is None or equal(_OUTER[name](returned), inner))


_OUTER: dict[str, Callable[[Any], Any]] = {
    "depth": lambda found: [found["bids"], found["asks"], found["lastUpdateId"]],
    "balances": lambda found: {asset: [row["available"], row["locked"]] for asset, row in found.items()},
    "open_orders": lambda found: sorted(
        ([row["id"], row.get("price"), row["executedQuantity"]] for row in found), key=lambda row: int(row[0])
    ),
    "positions": lambda found: [[row["symbol"], row["netQuantity"], row["entryPrice"], row["markPrice"]] for row in found],
    "fill_history": lambda found: [[row["tradeId"], row["price"], row["quantity"], row["fee"]] for row in found],
    "order_history": lambda found: [row["id"] for row in found],
    "markets": lambda found: [row["symbol"] for row in found],
    "tickers": lambda found: [row["symbol"] for row in found],
}
"""What of an answer is compared with the state itself."""


def _inner(client: Client, name: str, asked: Mapping[str, Any]) -> Any:
    """The state of the exchange, not by way of its REST side."""
    if name not in _OUTER or asked.keys() - {"symbol"}:
        return None
    exchange, symbol = client.served.exchange, asked.get("symbol")
    account = exchange.account
    match name:
        case "depth":
            bids, asks, update_id = exchange.levels(str(symbol))
            return [[[level.price, level.quantity] for level in side] for side in (bids[::-1], asks)] + [update_id]
        case "balances":
            return {asset: [held.available, held.locked] for asset, held in account.balances.items()}
        case "open_orders":
            orders = [order for order in account.open_orders.values() if symbol in {None, order.symbol}]
            shown = ([order.order_id, order.price, order.executed_quantity] for order in orders)
            return sorted(shown, key=lambda row: int(row[0]))
        case "positions":
            return [
                [held.symbol, held.net_quantity, held.entry_price, held.mark_price]
                for held in account.positions.values()
                if symbol in {None, held.symbol}
            ]
        case "fill_history":
            fills = [fill for fill in reversed(account.fills) if symbol in {None, fill.symbol}]
            return [[fill.trade_id, fill.price, fill.quantity, fill.fee] for fill in fills]
        case "order_history":
            return [order.order_id for order in reversed(account.history) if symbol in {None, order.symbol}]
        case "markets":
            return list(exchange.listed)
        case _:
            return list(exchange.symbols)


def listed(name: str, identity: str, **asked: Any) -> Callable[[Client, Any, list[Any]], bool]:
    """Hold where the exchange lists what was returned, member by member."""

    def holds(client: Client, returned: Any, _truths: list[Any]) -> bool:
        rows = client.served.ask(name, asked)
        [row] = [row for row in rows if str(row[identity]) == str(returned[identity])]
        return equal(row, returned)

    return holds


def submitted(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where an order that was returned is an open order of the account, number by number."""
    order = client.served.exchange.account.open_orders[int(returned["id"])]
    return equal(
        [returned["symbol"], returned["side"], returned["price"], returned["quantity"], returned["executedQuantity"]],
        [order.symbol, order.side.value, order.price, order.quantity, order.executed_quantity],
    )


def gone(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where every order that was returned is cancelled, and no order is open that was."""
    account = client.served.exchange.account
    rows = returned if isinstance(returned, list) else [returned]
    ended = {str(order.order_id): order.state.value for order in account.history}
    return bool(rows) and all(
        ended[str(row["id"])] == row["status"] == "Cancelled" and int(row["id"]) not in account.open_orders for row in rows
    )
