"""All that can be counted and measured of a session, in one value."""

from __future__ import annotations

from random import Random

from backpack_proto.inputs import Unsubscribe
from backpack_proto.metrics import MetricsSnapshot, StreamMetrics
from backpack_proto.observation import UNKNOWN_CHANNEL, channels_seen
from backpack_proto.session import Session
from backpack_proto.streams.channels import Channel
from backpack_proto.testing import Simulation


def snapshot(messages: int, **streams: tuple[int, int]) -> MetricsSnapshot:
    """Counters with these streams, each with its frames and the age of the last one. `_` stands for the dot of a name."""
    empty = Session(Random()).metrics(Simulation.of_streams().now)
    found = {
        name.replace("_", ".", 1): StreamMetrics(messages=count, age_us=age_us) for name, (count, age_us) in streams.items()
    }
    return MetricsSnapshot(
        **{**{name: getattr(empty, name) for name in empty.__struct_fields__}, "ws_messages": messages, "streams": found}
    )


def test_every_channel_is_there_and_frames_without_one_are_unknown() -> None:
    metrics = snapshot(20, trade_SOL_USDC=(7, 500), trade_BTC_USDC=(5, 90), kind_SOL_USDC=(2, 10))
    channels = channels_seen(metrics, {"trade.SOL_USDC", "trade.BTC_USDC", "depth.SOL_USDC"})
    assert list(channels) == [*map(str, Channel), UNKNOWN_CHANNEL]
    trades, depth, unknown = channels["trade"], channels["depth"], channels[UNKNOWN_CHANNEL]
    assert (trades.frames, trades.wanted, trades.newest_age_us, trades.oldest_age_us) == (12, 2, 90, 500)
    assert (depth.frames, depth.wanted, depth.newest_age_us) == (0, 1, None)
    assert (unknown.frames, unknown.wanted, unknown.newest_age_us) == (8, 0, None)
    assert sum(channel.frames for channel in channels.values()) == metrics.ws_messages


def test_streams_that_are_wanted_no_more_count_and_have_no_age() -> None:
    channels = channels_seen(snapshot(7, trade_SOL_USDC=(7, 500)), set())
    assert (channels["trade"].frames, channels["trade"].wanted, channels["trade"].oldest_age_us) == (7, 0, None)


def test_a_session_is_observed_with_its_books_and_what_became_of_them() -> None:
    simulation = Simulation.of_streams("depth.SOL_USDC", "depth.600ms.SOL_USDC", "depth.HNT_USDC", "trade.SOL_USDC", seed=7)
    simulation.run(30_000_000)
    seen = simulation.session.observe(simulation.now)
    assert (seen.connected, seen.account_live, seen.unresolved) == (True, None, 0)
    assert [(book.symbol, book.live, book.closed) for book in seen.books] == [
        ("SOL_USDC", True, False),
        ("HNT_USDC", False, True),
        ("SOL_USDC", True, False),
    ], "the finest first"
    assert all((book.age_us is None) == book.closed for book in seen.books)
    assert seen.engine_to_receipt.count > 0
    assert seen.resyncs == {}
    simulation.cut()
    simulation.run(30_000_000)
    simulation.give(Unsubscribe(("depth.SOL_USDC", "depth.600ms.SOL_USDC")))
    left = simulation.session.observe(simulation.now)
    assert [book.symbol for book in left.books] == ["HNT_USDC"]
    assert left.resyncs == {"SOL_USDC": 4}, "each of two books by the cut and by the end"
    assert left.channels["depth"].frames > seen.channels["depth"].frames > 0


def test_a_session_of_calls_only_has_no_connection_to_tell_of() -> None:
    seen = Session(Random(), streams=False).observe(Simulation.of_streams().now)
    assert (seen.connected, seen.books, seen.health.healthy) == (None, (), True)
