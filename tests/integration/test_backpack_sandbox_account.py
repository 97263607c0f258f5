"""The simulated account over real sockets: a lost answer, and a late one."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import signed_headers, signing_string
from backpack_proto.exchange import Fault
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import system_now

pytestmark = pytest.mark.anyio

ORDER = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50", "quantity": "1"}
BODY = b'{"symbol":"SOL_USDC","side":"Bid","orderType":"Limit","price":"50","quantity":"1"}'


def order_request(sandbox: Sandbox) -> bytes:
    stamp = system_now().unix_us // 1000
    text = signing_string("orderExecute", ORDER, timestamp_ms=stamp, window_ms=5_000)
    headers = signed_headers(Credentials(sandbox.secret), text, timestamp=stamp, window_ms=5_000)
    lines = [f"{name}: {value}" for name, value in (*headers, ("Host", "sandbox"), ("Content-Length", str(len(BODY))))]
    return "\r\n".join(["POST /api/v1/order HTTP/1.1", *lines, "", ""]).encode() + BODY


async def connect(sandbox: Sandbox) -> SocketStream:
    host, _, port = sandbox.rest_url.removeprefix("http://").rpartition(":")
    return await anyio.connect_tcp(host, int(port))


async def test_a_lost_answer_is_a_dropped_connection_and_an_order_all_the_same() -> None:
    with anyio.fail_after(60):
        async with serve_sandbox(speed=0.0) as sandbox:
            sandbox.exchange.faults.plan(Fault.LOSE_REPLY, Fault.DELAY)
            sandbox.exchange.faults.delay_us = 200_000
            async with await connect(sandbox) as stream:
                await stream.send(order_request(sandbox))
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            assert len(sandbox.exchange.account.open_orders) == 1
            async with await connect(sandbox) as stream:
                await stream.send(order_request(sandbox))
                asked_s = anyio.current_time()
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
                assert anyio.current_time() - asked_s > 0.15
            async with await connect(sandbox) as stream:
                sandbox.exchange.faults.plan(Fault.DELAY)
                await stream.send(order_request(sandbox))
                while len(sandbox.exchange.account.open_orders) < 3:
                    await anyio.lowlevel.checkpoint()
            # Nobody waits for the third answer any more, which must not disturb the others.
            await anyio.sleep(0.3)
            async with await connect(sandbox) as stream:
                await stream.send(order_request(sandbox))
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
