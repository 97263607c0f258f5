"""A server that masks its frames is found out, however its bytes are cut into reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp")

from aiohttp import WebSocketError

from backpack_runtime.transports.aiohttp.masks import Unmasked
from hypothesis_profiles import examples
from transports import frame

MASKED = bytes([0x81, 0x80 | 2, 1, 2, 3, 4]) + b"xx"
payloads = st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000]).map(lambda size: b"\x81\xff" * (size // 2))


class Parser:
    """Takes down what it is fed."""

    def __init__(self) -> None:
        self.fed = b""
        self.errors: list[BaseException] = []

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""

    def set_exception(self, error: BaseException) -> None:
        self.errors.append(error)


@examples(60)
@given(st.lists(payloads, max_size=4), st.booleans(), st.lists(st.integers(1, 400), max_size=12))
def test_all_frames_up_to_the_first_masked_one_are_read(texts: list[bytes], masks: bool, cuts: list[int]) -> None:  # noqa: FBT001
    parser = Parser()
    guard = Unmasked(parser, parser)
    good = b"".join(frame(0x1, text) for text in texts)
    data = good + (MASKED if masks else b"")
    ended = False
    for cut in [*cuts, len(data)]:
        if not ended:
            ended, _ = guard.feed_data(data[:cut])
            data = data[cut:]
    assert ended == masks
    # The first byte of a header may have passed before the second one said that the frame is masked.
    assert parser.fed in (good, good + MASKED[:1])
    assert [type(error) for error in parser.errors] == ([WebSocketError] if masks else [])
