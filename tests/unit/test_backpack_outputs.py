"""What actions show of themselves: they end up in logs and tracebacks, and some of them hold what is secret."""

from __future__ import annotations

import pytest

from backpack_proto.http import HttpRequest
from backpack_proto.outputs import SendRequest, SendText


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
def test_a_signed_text_does_not_show_its_signature(show: type[str]) -> None:
    text = SendText('{"method":"SUBSCRIBE","params":["account.orderUpdate"],"signature":["key","c2VjcmV0"]}', signed=True)
    assert show(text) == "SendText('<signed>')"
    assert show([text]) == "[SendText('<signed>')]"


def test_a_text_without_a_signature_shows_what_it_sends() -> None:
    assert repr(SendText('{"method":"PING"}')) == """SendText('{"method":"PING"}')"""


def test_a_request_shows_where_it_goes_and_no_value() -> None:
    request = HttpRequest(
        method="GET", target="/api/v1/order?clientId=77", headers=(("X-Signature", "c2VjcmV0"),), body=b'{"price":"1"}'
    )
    assert repr(request) == "HttpRequest(GET /api/v1/order)"
    shown = repr(SendRequest(request_id=1, request=request, timeout_us=2))
    assert shown.startswith("SendRequest(request_id=1, request=HttpRequest(GET /api/v1/order), timeout_us=2, ")
