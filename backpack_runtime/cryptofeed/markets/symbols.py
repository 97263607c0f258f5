"""The exchange's markets in cryptofeed's terms, and how to get them where cryptofeed itself cannot."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import msgspec
from cryptofeed.defines import FUTURES, PERPETUAL, SPOT

from backpack_proto.encoding import plain_digits
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import ResponseReceived
from backpack_proto.outputs import SendRequest
from backpack_proto.rest.markets import Market, parse_markets
from backpack_proto.text import printable
from backpack_runtime.cryptofeed.errors import BackpackRestError
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.transports.anyio import AnyioTransport

__all__ = ["MARKETS_PATH", "fetch_markets", "put_rules", "symbols_of"]

MARKETS_PATH = "/api/v1/markets"
TIMEOUT_US = 15_000_000
_TYPES = {"SPOT": SPOT, "PERP": PERPETUAL, "IPERP": PERPETUAL, "DATED": FUTURES}


def symbols_of(document: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Normalised name to id of the exchange, and cryptofeed's `info` about each name, from the decoded answer of `/markets`.

    Prediction markets and requests for quotes have no type in cryptofeed, and are left out.

    Raises:
        RemoteProtocolError: it is no list of markets.
    """
    markets = parse_markets(msgspec.json.encode(document))
    names: dict[str, str] = {}
    info: dict[str, Any] = {"tick_size": {}, "step_size": {}, "instrument_type": {}}
    for symbol, market in markets.items():
        kind = _TYPES.get(market.market_type)
        if kind is None:
            LOG.debug("BACKPACK: %s is left out, cryptofeed has no type for %s markets", symbol, market.market_type)
            continue
        name = markets.normalised(symbol)
        names[name] = symbol
        put_rules(info, name, market)
        info["instrument_type"][name] = kind
    for error in markets.unreadable:
        LOG.log(logging.WARNING, "BACKPACK: a market is left out: %s", error)
    return names, info


def put_rules(info: dict[str, Any], name: str, market: Market) -> None:
    """Put a market's tick and step into cryptofeed's `info`, under its normalised name."""
    info["tick_size"][name] = plain_digits(market.tick_size)
    info["step_size"][name] = plain_digits(market.step_size)


def fetch_markets(addresses: Addresses, query: str = "") -> str:
    """Fetch the list of markets, and block until it is there. May be called in any thread, with a running loop or without.

    `query` is sent along, so that no cache has an answer to it.

    Raises:
        BackpackRestError: no answer, or a refusal.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(anyio.run, _fetch, addresses, query).result().decode()


async def _fetch(addresses: Addresses, query: str) -> bytes:
    request = HttpRequest(method="GET", target=f"{MARKETS_PATH}?{query}" if query else MARKETS_PATH)
    async with AnyioTransport(addresses) as transport:
        transport.perform(SendRequest(request_id=1, request=request, timeout_us=TIMEOUT_US))
        facts = await transport.next(None)
    (fact,) = facts
    if isinstance(fact, ResponseReceived) and fact.status == 200:
        return fact.body
    raise BackpackRestError(f"the list of markets could not be had: {_why(fact)}")


def _why(fact: object) -> str:
    if isinstance(fact, ResponseReceived):
        return f"status {fact.status}, {printable(fact.body[:200].decode(errors='replace'))}"
    return printable(str(getattr(fact, "reason", fact)))
