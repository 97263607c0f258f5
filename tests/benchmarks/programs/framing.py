"""Websocket frames to messages: variant `ours`, `compressed`, or `wsproto` alone, on the same bytes."""

from __future__ import annotations

from time import process_time_ns

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from backpack_proto.inputs import TextReceived
from backpack_runtime.framing.client import WebsocketFraming
from backpack_runtime.framing.server import ServerFraming
from tests.benchmarks.frames import record

from .metering import load_options, report

READ_BYTES = 64 * 1024


def reads(texts: list[bytes], *, compression: bool) -> tuple[WebsocketFraming, list[bytes]]:
    """Return a client with an open websocket, and the frames for it as a socket would hand them over."""
    client, server = WebsocketFraming("h", compression=compression), ServerFraming(compression=compression)
    server.receive(client.open())
    client.receive(server.accept())
    stream = b"".join(map(server.message, texts))
    return client, [stream[start : start + READ_BYTES] for start in range(0, len(stream), READ_BYTES)]


def ours(client: WebsocketFraming, pieces: list[bytes]) -> int:
    return sum(type(fact) is TextReceived for piece in pieces for fact in client.receive(piece))


def wsproto_alone(pieces: list[bytes]) -> int:
    connection = Connection(ConnectionType.CLIENT)
    count = 0
    parts: list[str] = []
    for piece in pieces:
        connection.receive_data(piece)
        for event in connection.events():
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    "".join(parts)
                    parts.clear()
                    count += 1
    return count


def main() -> None:
    options = load_options()
    texts = [message.at(1_790_000_000_000_000) for message in record(options.frames).measured]
    client, pieces = reads(texts, compression=options.variant == "compressed")
    began = process_time_ns()
    count = wsproto_alone(pieces) if options.variant == "wsproto" else ours(client, pieces)
    spent = process_time_ns() - began
    report(done=True, events=count, us_a_frame=spent / 1000 / options.frames)


if __name__ == "__main__":
    main()
