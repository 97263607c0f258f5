"""Our tables beside those of others: what the exchange has and we do not, or the other way round, is on a list with its reason.

The installed ccxt describes the routes that it knows, and `official_page.json` has the names of the exchange's own page. An entry of a list
that is not needed any more fails, like a name that is missing from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import KLINE_INTERVALS, Channel, SymbolKind, SymbolRule
from backpack_proto.streams.names import parse_stream
from support_table import NOT_BY_US

PAGE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "fixtures" / "backpack" / "official_page.json").read_text())
OPERATIONS = {*PAGE["operations_2026_08"], *PAGE["operations_2026_10_03"]}

ROUTES = {route for endpoint in ENDPOINTS.values() for route in (endpoint.route, *endpoint.former) if " " in route}
"""Those that we call, and those that lead to them by their former names."""
INSTRUCTIONS = {endpoint.instruction for endpoint in ENDPOINTS.values() if endpoint.instruction is not None}

NOT_OURS_OF_CCXT: dict[str, str] = {}
"""Routes that ccxt describes, and we do not have."""

NOT_OF_THE_PAGE: dict[str, str] = {}
"""Routes that we have, and neither the page nor ccxt."""

NOT_OF_THE_LIST_OF_INSTRUCTIONS = {
    "vaultMint": "documented beside its operation only",
    "vaultNavQuery": "documented beside its operation only",
    "vaultPendingRedeemsQuery": "documented beside its operation only",
    "vaultRedeemCancel": "documented beside its operation only",
    "vaultRedeemRequest": "documented beside its operation only",
}
"""Instructions that we sign with, and the page's list of them lacks."""

NOT_OURS_OF_THE_STREAMS: dict[str, str] = {}
"""Streams that the page names, and we do not have."""


def ccxt_routes() -> Iterator[str]:
    ccxt = pytest.importorskip("ccxt")
    for methods in ccxt.backpack().describe()["api"].values():
        for method, routes in methods.items():
            yield from (f"{method.upper()} /{route}" for route in routes)


def forms(channel: Channel) -> set[str]:
    """The names of a channel's streams, as the page writes them."""
    traits = channel.traits
    symbol = "<ticker>" if traits.symbol_kind is SymbolKind.TICKER else "<symbol>"
    heads = (
        [f"{channel}.<interval>"] if traits.intervals else [channel.value, *(f"{channel}.{ms}ms" for ms in traits.windows_ms)]
    )
    with_symbol = {f"{head}.{symbol}" for head in heads} if traits.symbol is not SymbolRule.NEVER else set()
    return with_symbol | ({channel.value} if traits.symbol is not SymbolRule.REQUIRED else set())


def test_every_route_of_the_installed_ccxt_is_ours_or_has_a_reason() -> None:
    assert set(ccxt_routes()) - ROUTES == set(NOT_OURS_OF_CCXT)


def test_every_operation_of_the_official_page_is_ours_or_has_a_reason() -> None:
    assert set(NOT_BY_US) == OPERATIONS - ROUTES


def test_every_route_of_ours_is_of_the_page_or_of_ccxt_or_has_a_reason() -> None:
    ours = {endpoint.route for endpoint in ENDPOINTS.values()}
    assert ours - OPERATIONS - set(ccxt_routes()) == set(NOT_OF_THE_PAGE)


def test_every_instruction_of_the_official_page_is_ours_and_the_other_way_round() -> None:
    named = set(PAGE["instructions_2026_10_03"])
    assert named <= INSTRUCTIONS
    assert INSTRUCTIONS - named == set(NOT_OF_THE_LIST_OF_INSTRUCTIONS)


def test_every_stream_of_the_official_page_is_ours_and_the_other_way_round() -> None:
    named = set(PAGE["streams_2026_10_03"])
    ours = {form for channel in Channel for form in forms(channel)}
    assert named - ours == set(NOT_OURS_OF_THE_STREAMS)
    assert ours - named == set()


@pytest.mark.parametrize("form", PAGE["streams_2026_10_03"])
def test_every_stream_of_the_official_page_can_be_subscribed(form: str) -> None:
    name = form.replace("<symbol>", "SOL_USDC_PERP").replace("<ticker>", "BRK.B").replace("<interval>", KLINE_INTERVALS[0])
    assert parse_stream(name).name == name


@pytest.mark.parametrize(
    "reasons",
    [NOT_OURS_OF_CCXT, NOT_BY_US, NOT_OF_THE_PAGE, NOT_OF_THE_LIST_OF_INSTRUCTIONS, NOT_OURS_OF_THE_STREAMS],
)
def test_every_entry_has_a_reason(reasons: dict[str, str]) -> None:
    assert all(reasons.values())
