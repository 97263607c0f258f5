"""Every endpoint of the table, asked of the simulated exchange, and the document that says what each of them does."""

from __future__ import annotations

import json

import pytest

from backpack_proto.exchange import RequestReceived, Respond
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import channel_of
from sandbox_calls import Caller
from sandbox_table import DOCUMENT, NONE, PLAIN, ROWS, SILENT, SIMULATED, STREAMS, with_tables


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_answer_of_the_sandbox_decodes_by_the_table(name: str) -> None:
    caller = Caller()
    parameters = caller.parameters(name)
    if ROWS[name].kind == NONE:
        answer = caller.answer(name, parameters)
        assert (answer.status, json.loads(answer.body)["code"]) == (501, "NOT_IMPLEMENTED")
        assert ENDPOINTS[name].route in json.loads(answer.body)["message"]
    else:
        assert ROWS[name].kind in {SIMULATED, PLAIN}
        caller.call(name, parameters)


def test_a_path_that_the_exchange_does_not_have_is_a_404_and_one_of_the_web_session_a_401() -> None:
    caller = Caller()

    def ask(method: str, path: str) -> tuple[int, bytes]:
        (answer,) = (
            output
            for output in caller.exchange.handle(RequestReceived(9, method, path), caller.clock.now)
            if isinstance(output, Respond)
        )
        return answer.status, answer.body

    assert ask("GET", "/api/v1/nonsense") == (404, b"404 not found")
    assert ask("DELETE", "/api/v1/depth") == (405, b"method not allowed")
    for method in ("GET", "POST", "PATCH"):
        status, body = ask(method, "/wapi/v1/capital/withdrawals/delay")
        assert (status, json.loads(body)["code"]) == (401, "UNAUTHORIZED")
    assert ask("GET", "/api/v1/market-sessions") == ask("GET", "/api/v1/stockSessions")
    assert ask("GET", "/api/v1/market-holidays") == ask("GET", "/api/v1/stockHolidays")


def test_the_document_says_what_the_sandbox_does_with_every_endpoint_and_stream() -> None:
    assert list(ROWS) == list(ENDPOINTS)
    assert set(STREAMS) == set(Channel)
    assert DOCUMENT.read_text() == with_tables(DOCUMENT.read_text()), "python tests/support/sandbox_table.py --write"


def test_a_stream_that_is_said_to_be_simulated_can_be_subscribed() -> None:
    there = {channel_of(name) for name in Caller().exchange._sockets.streams}
    assert {channel for channel, row in STREAMS.items() if row.kind != SILENT} <= there
