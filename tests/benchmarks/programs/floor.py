"""The least that a Python client can do: read, cut frames, decode them into types. No book and no check. Nothing of the product."""

from __future__ import annotations

import asyncio
import base64
import json
import os

from .metering import END_TRADE, MARK_TRADE, SYMBOL, Meter, Options, load_options, now_us
from .typed import Depth, Trade, decode

READ_BYTES = 64 * 1024


async def main(options: Options) -> None:
    meter = Meter(options)
    reader, writer = await asyncio.open_connection("127.0.0.1", options.port)
    key = base64.b64encode(os.urandom(16)).decode()
    fields = f"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
    writer.write(f"GET / HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    streams = [f"{kind}.{SYMBOL}" for kind in ("depth", "trade", "bookTicker")]
    subscription = json.dumps({"method": "SUBSCRIBE", "params": streams}).encode()
    writer.write(bytes((0x81, 0x80 | len(subscription))) + bytes(4) + subscription)
    late = meter.late_us
    count, rest = 0, b""
    while data := await reader.read(READ_BYTES):
        rest += data
        at, size = 0, len(rest)
        while size - at >= 4:
            length, start = rest[at + 1], at + 2
            if length == 126:
                length, start = (rest[at + 2] << 8) | rest[at + 3], at + 4
            if start + length > size:
                break
            found = decode(rest[start : start + length]).data
            at = start + length
            count += 1
            if type(found) is Trade and found.t <= END_TRADE:
                if found.t == MARK_TRADE:
                    meter.mark()
                    count = 0
                else:
                    meter.events = count - 1
                    meter.end()
                    return
            elif not meter.ready and type(found) is Depth and meter.warm(found.s, found.u):
                meter.report_ready()
            elif late is not None:
                late.append(now_us() - found.T)
        rest = rest[at:]


if __name__ == "__main__":
    asyncio.run(main(load_options()))
