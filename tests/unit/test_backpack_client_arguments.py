"""Impossible arguments of a client are refused when it is made, with a hint."""

from __future__ import annotations

from typing import Any

import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError, InvalidStream
from backpack_runtime.client import BackpackClient
from backpack_runtime.settings import Settings
from backpack_runtime.transports.mock import MockTransport

SOL = ["SOL_USDC"]
CREDENTIALS = Credentials(THROWAWAY_SECRET)


async def later(_: object) -> None:
    """What nobody would wait for."""


class Later:
    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (
            ["SOL_USDC"],
            {},
            "symbols: a list of texts, 'all' or a predicate on markets, got the text 'SOL_USDC'; write ['SOL_USDC']",
        ),
        ([5], {}, "symbols: a list of texts, got 5 (int)"),
        ([["SOL_USDC", None]], {}, "symbols[1]: text, got None"),
        ([[""]], {}, "symbols[0]: text, got ''"),
        ([SOL], {"channels": "trades"}, "channels: a list of texts, got the text 'trades'; write ['trades']"),
        ([SOL], {"channels": [b"trades"]}, "channels[0]: text, got a bytes"),
        ([], {"channels": ["trades"]}, 'channels: trades without symbols subscribes nothing; give symbols, as in ["SOL_USDC"]'),
        (
            [[]],
            {"channels": ["liquidations", "book", "ticker"]},
            'channels: book, ticker without symbols subscribes nothing; give symbols, as in ["SOL_USDC"]',
        ),
        ([SOL], {"settings": {}}, "settings: a Settings, got a dict"),
        ([SOL], {"settings": Settings}, "settings: a Settings, got the class Settings"),
        ([SOL], {"sandbox": "yes"}, "sandbox: True or False, got 'yes'"),
        ([SOL], {"sandbox_seed": -1}, "sandbox_seed: a whole number, at least 0, got -1 (int)"),
        ([SOL], {"follow_account": 1}, "follow_account: True or False, got 1 (int)"),
        ([SOL], {"book_levels": True}, "book_levels: a whole number, at least 1, got True (bool)"),
        ([SOL], {"buffer": 0}, "buffer: a whole number, at least 1, got 0 (int)"),
        ([SOL], {"buffer": 1e4}, "buffer: a whole number, at least 1, got 10000.0 (float)"),
        (
            [SOL],
            {"slow_consumer": "blok"},
            "slow_consumer: one of block, conflate, drop_oldest, got 'blok'; did you mean block?",
        ),
        ([SOL], {"on_event": "print"}, "on_event: a function of one event, got 'print'"),
        (
            [SOL],
            {"on_event": later},
            "on_event: a plain function, got an `async def`, which is for `async for event in client`",
        ),
        (
            [SOL],
            {"on_event": Later()},
            "on_event: a plain function, got an `async def`, which is for `async for event in client`",
        ),
        ([SOL], {"signer": THROWAWAY_SECRET}, "signer: a Signer, got a str; make one: Signer(Credentials(private_key))"),
        ([SOL], {"signer": CREDENTIALS}, "signer: a Signer, got a Credentials; wrap it: Signer(credentials)"),
        ([], {"follow_account": True}, "follow_account=True needs a signer: give signer=Signer(Credentials(private_key))"),
        (
            [],
            {"channels": ["order.*"]},
            "a channel of the account needs a signer: give signer=Signer(Credentials(private_key))",
        ),
        (
            [SOL],
            {"sandbox": True, "settings": Settings(rest_url="http://h", ws_url="ws://h")},
            "sandbox=True starts an exchange of its own: leave rest_url and ws_url out of the settings",
        ),
        (
            [SOL],
            {"sandbox": True, "transport": MockTransport()},
            "transport: a sandbox is reached by a runtime of its own; leave out one of sandbox and transport",
        ),
    ],
)
def test_an_impossible_argument_is_refused(arguments: list[Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BackpackClient(*arguments, **options)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("channel", "meant"),
    [("orderbook", "book"), ("l2_book", "book"), ("trade_", "trade"), ("ohlcv", "klines.1m"), ("fills", r"order\.\*")],
)
def test_a_channel_of_another_library_is_refused_with_the_one_that_is_meant(channel: str, meant: str) -> None:
    with pytest.raises(InvalidStream, match=rf"^'{channel}' is not a channel of the exchange; did you mean {meant}"):
        BackpackClient(SOL, channels=[channel])


def test_channels_that_need_no_symbols_may_be_without() -> None:
    BackpackClient(channels=["liquidations"])
    BackpackClient(channels=["order.*", "position.SOL_USDC_PERP", "balance.*"], signer=Signer(CREDENTIALS))
    BackpackClient(channels=iter(["trades"]), symbols=iter(SOL))
    BackpackClient()
