"""The tables of docs/support.md: what this project has of the exchange, what the exchange does not offer, and what this project leaves out.

`python tests/support/support_table.py` prints the document. `--write` keeps it. A test fails when the document says something else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from backpack_proto.rest.endpoints.table import ENDPOINTS, Endpoint
from backpack_proto.streams.channels import Channel, SymbolKind, SymbolRule
from backpack_runtime.rest_methods import RestMethods
from sandbox_table import ROWS, STREAMS

__all__ = ["DOCUMENT", "NOT_BY_US", "NOT_OFFERED", "document", "method_of"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "support.md"

WITHOUT_AN_API_KEY = "of the web session: no instruction is documented, so a request with an API key cannot be signed"

NOT_BY_US = {
    "GET /wapi/v1/capital/withdrawals/delay": WITHOUT_AN_API_KEY,
    "POST /wapi/v1/capital/withdrawals/delay": WITHOUT_AN_API_KEY,
    "PATCH /wapi/v1/capital/withdrawals/delay": WITHOUT_AN_API_KEY,
}
"""Operations that the official page names, and we do not have."""

NOT_OFFERED = {
    "order entry over the websocket": "orders are placed and cancelled by REST ([protocol.md](protocol.md))",
    "modification of an order": "cancel it and place another one",
    "a dead man's switch (cancel all after a time)": "`cancel_on_exit` works as long as the process does ([order-safety.md](order-safety.md))",
    "acknowledgement of a subscription": "a stream is live with its first data ([concepts.md](concepts.md))",
    "a snapshot on the depth stream, or a checksum": "books are verified against `bookTicker` and fresh snapshots ([concepts.md](concepts.md))",
    "a testnet": "the sandbox is one on your own machine ([sandbox.md](sandbox.md))",
    "headers that tell of the request budget": "the client keeps a budget of its own",
}
"""What people look for, and the exchange does not have."""

_METHODS = {"fill_history": "fills"}
"""Histories are named by what they list."""


def method_of(endpoint: Endpoint) -> str:
    """Return the method of the client that calls an endpoint.

    Raises:
        LookupError: there is none.
    """
    for name in (f"get_{endpoint.name}", _METHODS.get(endpoint.name, endpoint.name)):
        if hasattr(RestMethods, name):
            return name
    raise LookupError(f"{endpoint.name} has no method")


def _forms(channel: Channel) -> str:
    traits = channel.traits
    symbol = "<ticker>" if traits.symbol_kind is SymbolKind.TICKER else "<symbol>"
    head = f"{channel}.<interval>" if traits.intervals else channel.value
    forms = [] if traits.symbol is SymbolRule.REQUIRED else [head]
    forms += [] if traits.symbol is SymbolRule.NEVER else [f"{head}.{symbol}"]
    forms += [f"{channel}.{window}ms.{symbol}" for window in traits.windows_ms]
    return ", ".join(f"`{form}`" for form in forms)


def _result(endpoint: Endpoint) -> str:
    kind = endpoint.result
    named = [part.__name__ for part in (kind, *get_args(kind)) if hasattr(part, "__name__") and part is not tuple]
    return ", ".join(f"`{name}`" for name in named if name[0].isupper()) or "—"


def document() -> str:
    """Return the whole document."""
    streams = [
        f"| {_forms(channel)} | {', '.join(f'`{kind.__name__}`' for kind in channel.traits.payloads)} | {STREAMS[channel].kind} |"
        for channel in Channel
    ]
    endpoints = [
        f"| `{one.route}` | `{method_of(one)}` | {_result(one)} | {ROWS[name].kind} |" for name, one in ENDPOINTS.items()
    ]
    return "\n".join(
        [
            "# What is supported",
            "",
            "Made by `python tests/support/support_table.py --write`; a test fails when it is not what the code says. Another one compares the code with the",
            "names of the exchange's official page of 2026-10-03, and with the routes that the installed ccxt knows.",
            "",
            "## Streams",
            "",
            "A stream of another kind can be subscribed raw (`subscribe_untyped`), and arrives as `UnknownPayload`.",
            "",
            "| stream | types of its data | in the sandbox |",
            "|---|---|---|",
            *streams,
            "",
            "## Endpoints",
            "",
            "| endpoint | method of the client | types of its answer | in the sandbox |",
            "|---|---|---|---|",
            *endpoints,
            "",
            "## Not offered by the exchange",
            "",
            "| what | instead |",
            "|---|---|",
            *(f"| {what} | {instead} |" for what, instead in NOT_OFFERED.items()),
            "",
            "## Not by us",
            "",
            "| what | why |",
            "|---|---|",
            *(f"| `{what}` | {why} |" for what, why in NOT_BY_US.items()),
            "",
        ]
    )


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(document())
    else:
        print(document(), end="")
