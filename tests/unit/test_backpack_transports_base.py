"""Which facts name the proxy that a connection went through."""

from __future__ import annotations

import pytest

from backpack_proto.inputs import ConnectFailed, Disconnected, Fact, RequestFailed, ResponseReceived, TextReceived
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.transports.base import _through
from backpack_runtime.transports.websocket import ABNORMAL_CLOSURE

PROXY = Proxy.parse("socks5://user:secret@h:1080")
BLAME = " (through proxy socks5://h:1080)"


@pytest.mark.parametrize(
    ("fact", "named"),
    [
        (ConnectFailed("refused"), ConnectFailed(f"refused{BLAME}")),
        (Disconnected(ABNORMAL_CLOSURE, "reset"), Disconnected(ABNORMAL_CLOSURE, f"reset{BLAME}")),
        (RequestFailed(request_id=1, reason="reset"), RequestFailed(request_id=1, reason=f"reset{BLAME}")),
    ],
)
def test_a_connection_that_broke_names_its_proxy(fact: Fact, named: Fact) -> None:
    assert _through(PROXY, fact) == named


@pytest.mark.parametrize(
    "fact",
    [
        Disconnected(1000, "goodbye"),
        Disconnected(1001, "restart"),
        Disconnected(1011, "no pong"),
        ConnectFailed("no answer", proxy="http://other:1"),
        RequestFailed(request_id=1, reason="no answer", sent=False, proxy="http://other:1"),
        ResponseReceived(request_id=1, status=502, body=b""),
        TextReceived(b"{}"),
    ],
)
def test_what_the_exchange_did_and_what_names_its_proxy_already_is_not_blamed_on_the_proxy(fact: Fact) -> None:
    assert _through(PROXY, fact) is fact
