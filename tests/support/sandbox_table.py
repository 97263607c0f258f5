"""The tables of docs/sandbox.md: what the simulated exchange does with each endpoint and each stream, and why.

`python tests/support/sandbox_table.py` prints them. `--write` keeps them there. A test fails when the document says something else, and
another holds each row to what the exchange really answers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

from backpack_proto.exchange import FAULT_KINDS
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import Channel

__all__ = ["DOCUMENT", "NONE", "PLAIN", "ROWS", "SILENT", "SIMULATED", "STREAMS", "with_tables"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"
SIMULATED: Final = "simulated"
PLAIN: Final = "plain data"
NONE: Final = "501"
SILENT: Final = "silent"
BEGIN, END = "<!-- {}: python tests/support/sandbox_table.py --write -->", "<!-- end of {} -->"


class Row(NamedTuple):
    """One line of a table."""

    kind: str
    why: str


_EMPTY = "always empty: rows are never made here"
ROWS: dict[str, Row] = {
    "markets": Row(SIMULATED, "made-up markets, with the ticks, steps and states that orders are held to"),
    "market": Row(SIMULATED, "one of them, as it is at this moment"),
    "ticker": Row(SIMULATED, "from the trades of the last day. `source=External` is made up for stocks"),
    "tickers": Row(SIMULATED, "the same of every open market"),
    "depth": Row(SIMULATED, "the book itself, in the id space of the `depth` stream"),
    "klines": Row(SIMULATED, "from the trades. The day before the start is made up, `source=External` too"),
    "trades": Row(SIMULATED, "all trades, the crowd's and yours"),
    "trades_history": Row(SIMULATED, "the same, with an offset"),
    "mark_prices": Row(SIMULATED, "they follow the books once a second"),
    "open_interest": Row(SIMULATED, "it wanders"),
    "funding_rates": Row(SIMULATED, "the rates that positions pay"),
    "status": Row(PLAIN, "always `Ok`: a fault of the plan refuses requests instead"),
    "ping": Row(SIMULATED, "`pong`"),
    "time": Row(SIMULATED, "the engine's clock"),
    "assets": Row(PLAIN, "the assets of the spot markets, with one blockchain each, and the stocks"),
    "collateral_parameters": Row(PLAIN, "three assets. Margin itself goes by one haircut of 10 %"),
    "borrow_lend_markets": Row(PLAIN, "three pools whose rates never change"),
    "borrow_lend_markets_history": Row(PLAIN, "the same rates at every time"),
    "borrow_lend_apy": Row(PLAIN, "the same rates"),
    "borrow_lend_liquidation_price": Row(PLAIN, "always 0: there are no liquidations here"),
    "prediction_events": Row(PLAIN, "one question, without a market"),
    "prediction_tags": Row(PLAIN, "its one tag"),
    "securities": Row(SIMULATED, "five stocks with the sessions and limits that quotes are held to"),
    "stock_sessions": Row(SIMULATED, "the sessions that close and open the stock's book"),
    "stock_holidays": Row(SIMULATED, "the days that the sessions keep, up to the end of 2027"),
    "stock_indicative_quote": Row(SIMULATED, "a made-up price while a session is open, `priceUnavailable` outside"),
    "vaults": Row(PLAIN, "one vault, whose token is always worth 1 USDC"),
    "vaults_history": Row(PLAIN, "its worth at every time"),
    "wallets": Row(PLAIN, "addresses without keys"),
    "account": Row(SIMULATED, "fees and counts of the account, with the settings that were changed"),
    "update_account": Row(PLAIN, "settings are kept and shown. Margin goes by a leverage of 10 in any case"),
    "convert_dust": Row(SIMULATED, "balances below one step of their spot market become USDC at the last price"),
    "max_borrow_quantity": Row(PLAIN, "always 0: borrowing is refused"),
    "max_order_quantity": Row(SIMULATED, "from balances, margin and position, without fees"),
    "max_withdrawal_quantity": Row(SIMULATED, "the available amount, less the fee"),
    "balances": Row(SIMULATED, "available and locked, to the last digit"),
    "collateral": Row(SIMULATED, "equity and margin of the whole account"),
    "positions": Row(SIMULATED, "entry, break-even, profit, funding and an estimated liquidation price"),
    "deposits": Row(PLAIN, "the first deposits of the account"),
    "deposit_address": Row(PLAIN, "an address without keys"),
    "withdrawals": Row(SIMULATED, "pending for 30 s, then confirmed"),
    "withdraw": Row(SIMULATED, "the balance goes down by quantity and fee, and no address gets it"),
    "borrow_lend_positions": Row(SIMULATED, "loans given, without interest and no collateral"),
    "borrow_lend": Row(SIMULATED, "`Lend` lends, `Borrow` takes back. More than that is `BORROW_LIMIT`"),
    "mint_vault_tokens": Row(SIMULATED, "USDC become tokens, one for one"),
    "redeem_vault_tokens": Row(SIMULATED, "tokens become USDC a minute later"),
    "cancel_vault_redeem": Row(SIMULATED, "the tokens come back"),
    "pending_vault_redeems": Row(SIMULATED, "redemptions of the last minute"),
    "vault_nav": Row(PLAIN, "always 1"),
    "order": Row(SIMULATED, "an open order"),
    "place_order": Row(SIMULATED, "limit, market and trigger orders, with take profit and stop loss"),
    "cancel_order": Row(SIMULATED, "answers with the order, 400 `INVALID_ORDER` where it is gone"),
    "open_orders": Row(SIMULATED, "those that rest, and triggers that wait"),
    "place_orders": Row(SIMULATED, "each order of a batch has an answer of its own"),
    "cancel_all_orders": Row(SIMULATED, "of one market"),
    "submit_rfq": Row(SIMULATED, "the simulated broker quotes it, for stocks while they trade"),
    "submit_quote": Row(SIMULATED, "a quote for a request of another account"),
    "accept_quote": Row(SIMULATED, "it settles at once, stocks a little later"),
    "refresh_rfq": Row(SIMULATED, "its quotes are gone, and its time begins again"),
    "cancel_rfq": Row(SIMULATED, "its quotes are gone"),
    "open_rfqs": Row(SIMULATED, "those that are open, each with its quotes"),
    "strategy": Row(PLAIN, "one that is open"),
    "create_strategy": Row(PLAIN, "it is kept, and does not trade"),
    "cancel_strategy": Row(PLAIN, "it is open no more"),
    "open_strategies": Row(PLAIN, "those that were created and not cancelled"),
    "cancel_all_strategies": Row(PLAIN, "of one market"),
    "borrow_lend_history": Row(SIMULATED, "loans given and taken back"),
    "borrow_lend_position_history": Row(PLAIN, _EMPTY),
    "interest_history": Row(PLAIN, "always empty: loans earn no interest"),
    "dust_history": Row(SIMULATED, "conversions"),
    "fill_history": Row(SIMULATED, "every fill, with its fee"),
    "funding_history": Row(SIMULATED, "every hour in which there was a position"),
    "order_history": Row(SIMULATED, "every order that was ever accepted"),
    "position_history": Row(PLAIN, _EMPTY),
    "rfq_history": Row(SIMULATED, "every request"),
    "quote_history": Row(SIMULATED, "every quote of the account"),
    "rfq_fill_history": Row(SIMULATED, "fills of its requests"),
    "quote_fill_history": Row(SIMULATED, "fills of its quotes"),
    "settlement_history": Row(PLAIN, _EMPTY),
    "strategy_history": Row(PLAIN, "every strategy"),
}
"""What the exchange does with each endpoint."""

STREAMS: dict[Channel, Row] = {
    Channel.BOOK_TICKER: Row(SIMULATED, "at each change of the best levels"),
    Channel.DEPTH: Row(SIMULATED, "every change, or the changes of 200, 600 or 1000 ms"),
    Channel.KLINE: Row(SIMULATED, "every interval"),
    Channel.TRADE: Row(SIMULATED, "the crowd's trades and yours"),
    Channel.TICKER: Row(SIMULATED, "once a second"),
    Channel.EXTERNAL_TICKER: Row(SIMULATED, "once a second"),
    Channel.STOCK_PRICE: Row(SIMULATED, "once a second while a market of the stock is open, with the session of that moment"),
    Channel.STOCK_INDICATIVE_QUOTE: Row(SIMULATED, "the same, both sides"),
    Channel.MARK_PRICE: Row(SIMULATED, "once a second, of perpetuals"),
    Channel.OPEN_INTEREST: Row(SIMULATED, "once a minute, of perpetuals"),
    Channel.LIQUIDATION: Row(SIMULATED, "now and then, of perpetuals: the crowd's, never yours"),
    Channel.ORDER_UPDATE: Row(SIMULATED, "events of the orders of the account that subscribed"),
    Channel.POSITION_UPDATE: Row(SIMULATED, "its positions: those that are open at once, then every change"),
    Channel.BALANCE_UPDATE: Row(SIMULATED, "its balances, when they change"),
    Channel.RFQ_UPDATE: Row(SIMULATED, "requests and quotes of the account, and requests of others"),
}
"""What the exchange does with each stream."""


def _endpoints() -> list[str]:
    lines = ["| endpoint | name | here | why |", "|---|---|---|---|"]
    for name, endpoint in ENDPOINTS.items():
        row = ROWS[name]
        lines.append(f"| `{endpoint.method} {endpoint.path}` | `{name}` | {row.kind} | {row.why} |")
    return lines


def _streams() -> list[str]:
    lines = ["| stream | here | why |", "|---|---|---|"]
    lines += [f"| `{channel.value}` | {row.kind} | {row.why} |" for channel, row in STREAMS.items()]
    return lines


def _faults() -> list[str]:
    lines = ["| name | effect | duration by default |", "|---|---|---|"]
    for name, kind in FAULT_KINDS.items():
        lasts = f"{kind.lasts_us // 1_000_000} s" if kind.lasts_us else "a moment"
        lines.append(f"| `{name}` | {kind.what} | {lasts} |")
    return lines


def with_tables(text: str) -> str:
    """Return the document with every table as it should be.

    Raises:
        ValueError: the document has lost the lines between which a table stands.
    """
    for name, lines in (("faults", _faults()), ("endpoints", _endpoints()), ("streams", _streams())):
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{DOCUMENT.name} has no table between {begin} and {end}")
        table = "\n".join(lines)
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Print the tables, and with `--write` keep them."""
    text = with_tables(DOCUMENT.read_text())
    print(text)
    if "--write" in arguments:
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
