"""The session as values: which machine hears of what, and what comes out. Its way through whole markets is in tests/simulation."""

from __future__ import annotations

from random import Random

from backpack_proto.inputs import Connected, Disconnected, Given, Open, ResponseReceived, Subscribe, TextReceived
from backpack_proto.outputs import BookVerified, Output, SendRequest
from backpack_proto.session import SUSPICION_US, Session
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.testing.laws import FakeClock

STREAMS = ("depth.SOL_USDC", "depth.BTC_USDC")


def frame(symbol: str, update_id: int, engine_us: int = 1) -> TextReceived:
    text = (
        f'{{"data":{{"E":1,"T":{engine_us},"U":{update_id},"a":[["9","2"]],"b":[],"e":"depth","s":"{symbol}","u":{update_id}}},'
        f'"stream":"depth.{symbol}"}}'
    )
    return TextReceived(text.encode())


class Books:
    """A session with two live books, and the answers of an exchange that stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.session = Session(Random(5), audit_books=False)
        self.give(Open(), Subscribe(STREAMS), Connected())
        self.give(frame("SOL_USDC", 5), frame("BTC_USDC", 5))
        assert [self.session.book(stream).live for stream in STREAMS] == [True, True]

    def give(self, *inputs: Given) -> list[Output]:
        """Give inputs now, and answer each request for a snapshot; returns what came out."""
        outputs: list[Output] = []
        waiting = list(inputs)
        while waiting:
            for output in self.session.handle(waiting.pop(0), self.clock.now):
                outputs.append(output)
                if isinstance(output, SendRequest):
                    body = b'{"asks":[["9","2"]],"bids":[["8","1"]],"lastUpdateId":"5","timestamp":1}'
                    waiting.append(ResponseReceived(request_id=output.request_id, status=200, body=body))
        return outputs


def checked(outputs: list[Output]) -> list[str]:
    return [output.stream for output in outputs if isinstance(output, BookVerified)]


def drops(outputs: list[Output]) -> list[Drop]:
    return [output.reason for output in outputs if isinstance(output, FrameDropped)]


def test_a_frame_that_cannot_be_read_has_every_book_checked_now_and_then() -> None:
    books = Books()
    garbage = TextReceived(b"garbage")
    first = books.give(garbage)
    assert drops(first) == [Drop.NOT_JSON]
    assert checked(first) == list(STREAMS)
    for _ in range(100):
        again = books.give(garbage)
        assert drops(again) == [Drop.NOT_JSON], "each is told, and none costs a request"
        assert not [output for output in again if isinstance(output, SendRequest)]
    books.clock.advance(SUSPICION_US - 1)
    assert checked(books.give(garbage)) == []
    books.clock.advance(1)
    assert checked(books.give(garbage)) == list(STREAMS)
    assert checked(books.give(garbage)) == []


def test_a_bad_frame_that_names_its_stream_has_that_book_checked_at_once() -> None:
    books = Books()
    books.give(TextReceived(b"garbage"))
    malformed = TextReceived(b'{"data":{"e":"depth","s":"SOL_USDC"},"stream":"depth.SOL_USDC"}')
    for _ in range(2):
        outputs = books.give(malformed)
        assert drops(outputs) == [Drop.MALFORMED]
        assert checked(outputs) == ["depth.SOL_USDC"]


def test_a_delta_of_another_symbol_is_dropped_and_the_book_checked() -> None:
    books = Books()
    data = frame("BTC_USDC", 6).data.replace(b'"stream":"depth.BTC_USDC"', b'"stream":"depth.SOL_USDC"')
    outputs = books.give(TextReceived(data))
    assert drops(outputs) == [Drop.MALFORMED]
    assert checked(outputs) == ["depth.SOL_USDC"]
    assert [books.session.book(stream).last for stream in STREAMS] == [5, 5]


def test_a_frame_without_a_connection_is_dropped_and_checks_no_book() -> None:
    books = Books()
    books.give(Disconnected(1006, "reset"))
    outputs = books.give(TextReceived(b"garbage"))
    assert drops(outputs) == [Drop.NOT_CONNECTED]
    assert len(outputs) == 1
