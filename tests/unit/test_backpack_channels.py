"""The table of channels, beside everything that has to keep step with it: a row that was forgotten somewhere fails here."""

from __future__ import annotations

import json

import pytest

import backpack_proto
from backpack_proto.exchange import Exchange, FrameReceived, SendFrame, SocketOpened
from backpack_proto.inputs import TimerFired
from backpack_proto.streams.channels import CHANNEL_OF, Channel, SymbolKind, SymbolRule
from backpack_proto.streams.frames import Frame, decode_frame
from backpack_proto.streams.payloads import Payload, StreamPayload
from backpack_proto.testing.laws import FakeClock
from payload_table import FRAMES

PUBLIC = [channel for channel in Channel if not channel.private]


def examples() -> dict[Channel, set[type[StreamPayload]]]:
    """The types of the recorded frames, by the channel that their stream belongs to."""
    found: dict[Channel, set[type[StreamPayload]]] = {channel: set() for channel in Channel}
    for line in FRAMES:
        decoded = decode_frame(line)
        for frame in decoded if isinstance(decoded, tuple) else (decoded,):
            assert isinstance(frame, Frame)
            assert frame.payload is not None
            found[backpack_proto.parse_stream(frame.stream).channel].add(type(frame.payload))
    return found


def test_every_payload_belongs_to_one_channel() -> None:
    assert set(CHANNEL_OF) == set(Payload.__args__)
    assert len(CHANNEL_OF) == sum(len(channel.traits.payloads) for channel in Channel)


def test_every_payload_of_every_channel_has_a_recorded_example_on_one_of_its_streams() -> None:
    assert examples() == {channel: set(channel.traits.payloads) for channel in Channel}


def test_every_payload_is_public() -> None:
    for payload in CHANNEL_OF:
        assert getattr(backpack_proto, payload.__name__) is payload
        assert payload.__name__ in backpack_proto.__all__


def test_a_common_name_means_one_channel() -> None:
    names = [*(name for channel in Channel for name in channel.traits.common), *(channel.value for channel in Channel)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("channel", PUBLIC)
def test_a_public_channel_whose_name_is_two_words_has_one_that_python_people_use(channel: Channel) -> None:
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in channel.value)
    if snake != channel.value:
        assert snake in channel.traits.common
    assert all(name.islower() for name in channel.traits.common)


def test_market_data_may_be_lost_by_a_slow_consumer_and_the_account_may_not() -> None:
    assert [channel for channel in Channel if channel.traits.droppable] == PUBLIC


def test_what_comes_every_second_is_missed_after_five() -> None:
    canaries = {channel for channel in Channel if channel.traits.every_second}
    assert canaries == {Channel.TICKER, Channel.MARK_PRICE}
    assert {channel.traits.first_data_us for channel in canaries} == {5_000_000}


def test_a_stream_of_the_account_can_be_asked_for_without_a_symbol() -> None:
    assert not [channel for channel in Channel if channel.private and channel.traits.symbol is SymbolRule.REQUIRED]


def test_there_are_eleven_public_channels() -> None:
    """Those of the exchange's page of 2026-10-03 (docs/protocol.md 11)."""
    assert len(PUBLIC) == 11


def of_a_stock(channel: Channel) -> str:
    """The stream of a channel for a perpetual on a stock, or for that stock."""
    symbol = "AAPL" if channel.traits.symbol_kind is SymbolKind.TICKER else "AAPL.US_USDC_PERP"
    return f"{channel}.1m.{symbol}" if channel.traits.intervals else f"{channel}.{symbol}"


def test_the_simulated_exchange_sends_every_public_channel_of_a_perpetual_within_a_minute() -> None:
    """But for liquidations, which come when they come."""
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=0.1)
    wanted = [channel for channel in PUBLIC if channel is not Channel.LIQUIDATION]
    streams = {channel: of_a_stock(channel) for channel in wanted}
    exchange.handle(SocketOpened(1), clock.now)
    exchange.handle(FrameReceived(1, json.dumps({"method": "SUBSCRIBE", "params": list(streams.values())}).encode()), clock.now)
    seen: set[Channel] = set()
    end_us = clock.mono_us + 61_000_000
    while clock.mono_us < end_us and seen != set(wanted):
        assert exchange.deadline is not None
        clock.advance_to(exchange.deadline)
        sent = [output.data for output in exchange.handle(TimerFired(), clock.now) if isinstance(output, SendFrame)]
        seen |= {backpack_proto.parse_stream(json.loads(data)["stream"]).channel for data in sent}
    assert seen == set(wanted)
