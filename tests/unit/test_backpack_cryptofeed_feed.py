"""What a feed is made with, and whose markets it knows."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("cryptofeed.feed", reason="cryptofeed is not installed")

from cryptofeed.backends.redis import TradeRedis
from cryptofeed.callback import Callback
from cryptofeed.exceptions import UnsupportedDataFeed, UnsupportedSymbol
from cryptofeed.exchange import Exchange as Exchange_
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols

from backpack_proto.auth.keys import Credentials
from backpack_proto.errors import ConfigurationError, UnknownSymbol
from backpack_proto.exchange import THROWAWAY_SECRET, Exchange, RequestReceived, Respond
from backpack_proto.machine import Now
from backpack_runtime.cryptofeed import BackpackFeed, CcxtBackpackFeed
from backpack_runtime.cryptofeed.markets import loading as market_loading
from backpack_runtime.network import proxy_settings
from backpack_runtime.network.proxy_settings import InvalidProxy, ProxySettings, init_proxy_system

NOW = Now(1_000_000, 1_790_000_000_000_000)
HERE, THERE = "http://127.0.0.1:1", "http://127.0.0.1:2"


@functools.cache
def markets() -> list[Any]:
    outputs = Exchange(seed=1, unix_us=NOW.unix_us).handle(RequestReceived(1, "GET", "/api/v1/markets"), NOW)
    found: list[Any] = json.loads(next(output.body for output in outputs if isinstance(output, Respond)))
    return found


def markets_of(address: str) -> list[Any]:
    """One exchange lists all there is, the other nothing but SOL."""
    return [market for market in markets() if address.startswith(HERE) or market["baseSymbol"] == "SOL"]


class Answers:
    """Answers for both exchanges, to those who wait for them and to those who block."""

    def read(self, address: str, *, json: bool = False, **_options: Any) -> Any:
        return markets_of(address) if json else self._later(address)

    async def _later(self, address: str) -> str:
        return json.dumps(markets_of(address))

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(market_loading, "_origin", [])
    monkeypatch.setattr(BackpackFeed, "http_sync", Answers(), raising=False)
    monkeypatch.setattr(CcxtBackpackFeed, "http_sync", Answers(), raising=False)
    Symbols.data.pop("BACKPACK", None)
    yield
    Symbols.data.pop("BACKPACK", None)


def feed_of(url: str, symbol: str) -> Any:
    feed: Any = BackpackFeed({"use_sandbox": True, "sandbox_url": url}, symbols=[symbol], channels=["trades"])
    feed.http_conn = Answers()
    return feed


def loaded(feed: Any) -> Any:
    if hasattr(Feed, "_setup"):
        asyncio.run(feed._setup())
    return feed


def test_two_exchanges_in_one_process_keep_their_markets_apart() -> None:
    first, second = feed_of(HERE, "BTC-USDC-PERP"), feed_of(THERE, "SOL-USDC")
    assert "BTC-USDC-PERP" in loaded(first).normalized_symbol_mapping
    assert set(loaded(second).normalized_symbol_mapping) == {"SOL-USDC", "SOL-USDC-PERP"}
    assert not first._is_spot("BTC_USDC_PERP")
    assert first._is_spot("BTC_USDC")
    assert second._is_spot("SOL_USDC")
    with pytest.raises(UnsupportedSymbol):
        loaded(feed_of(THERE, "BTC-USDC-PERP"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": ["trades"]}, "trades needs symbols"),
        ({"subscription": {"l2_book": [], "trades": ["SOL-USDC"]}}, "l2_book needs symbols"),
        ({"symbols": ["SOL-USDC"]}, "symbols need channels"),
        ({"channels": ["trades"], "subscription": {"trades": ["SOL-USDC"]}}, "not both"),
    ],
)
def test_what_would_subscribe_nothing_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BackpackFeed({"use_sandbox": True, "sandbox_url": HERE}, **options)


# ---- arguments that cannot be used


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"symbols": "SOL-USDC", "channels": ["trades"]},
            "symbols: a list of texts, got the text 'SOL-USDC'; write ['SOL-USDC']",
        ),
        ({"symbols": ["SOL-USDC"], "channels": "trades"}, "channels: a list of texts, got the text 'trades'; write ['trades']"),
        (
            {"subscription": {"trades": "SOL-USDC"}},
            "subscription['trades']: a list of texts, got the text 'SOL-USDC'; write ['SOL-USDC']",
        ),
        (
            {"symbols": ["SOL-USDC"], "channels": ["orderbook"]},
            "channels: 'orderbook' is not a channel of this feed; did you mean l2_book?",
        ),
        (
            {"symbols": ["SOL-USDC"], "channels": ["tades"]},
            "channels: 'tades' is not a channel of this feed; did you mean trades?",
        ),
        ({"silence_seconds": True}, "silence_seconds: a number of seconds, at least 0.001, got True (bool)"),
        ({"ping_timeout_seconds": float("nan")}, "ping_timeout_seconds: a number of seconds, at least 0.001, got nan (float)"),
    ],
)
def test_an_impossible_argument_is_refused_with_a_hint(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BackpackFeed({"use_sandbox": True, "sandbox_url": HERE}, **options)
    assert str(caught.value) == said


@pytest.mark.parametrize("feed", [BackpackFeed, CcxtBackpackFeed])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"symbol": ["SOL-USDC"]}, "symbol: {feed} has no such argument; did you mean symbols?"),
        ({"testnet": True}, "testnet: {feed} has no such argument; did you mean sandbox?"),
        ({"max_dept": 5}, "max_dept: {feed} has no such argument; did you mean max_depth?"),
        ({"colour": "red"}, "colour: {feed} has no such argument"),
        ({"use_sandbox": True}, "use_sandbox: it is a field of config; give config={{'use_sandbox': ...}}"),
        ({"proxies": None}, "proxies: it is a field of config; give config={{'proxies': ...}}"),
        ({"subaccount": "x"}, "subaccount: a subaccount of Backpack has keys of its own; give those as the keys of config"),
        ({"sandbox": "yes"}, "sandbox: True or False, got 'yes'"),
        ({"candle_closed_only": "no"}, "candle_closed_only: True or False, got 'no'"),
        ({"max_depth": -5}, "max_depth: a whole number of levels a side, 0 for all, got -5 (int)"),
        ({"max_depth": True}, "max_depth: a whole number of levels a side, 0 for all, got True (bool)"),
        ({"timeout": "60"}, "timeout: a number, got '60'"),
        ({"retries": None}, "retries: a number, got None"),
        ({"symbols": "SOL-USDC"}, "symbols: a list of texts, got the text 'SOL-USDC'; write ['SOL-USDC']"),
        ({"symbols": ["SOL-USDC"]}, 'channels: symbols need channels; give some, as in ["trades"]'),
        ({"channels": ["trades"]}, 'symbols: trades needs symbols; give some, as in ["SOL-USDC"]'),
        ({"sandbox": False}, "sandbox: False, but config has use_sandbox=True; leave one of the two out"),
    ],
)
def test_an_argument_that_cryptofeed_would_swallow_is_refused(feed: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        feed({"use_sandbox": True, "sandbox_url": HERE}, **options)
    assert str(caught.value) == said.format(feed=feed.__name__)


def test_an_argument_of_the_other_feed_is_refused_with_its_name() -> None:
    for feed, name in ((BackpackFeed, "snapshot_interval"), (CcxtBackpackFeed, "silence_seconds")):
        with pytest.raises(ConfigurationError, match=f"{name}: {feed.__name__} has no such argument"):
            cast("Any", feed)({"use_sandbox": True, "sandbox_url": HERE}, **{name: 5})


def test_all_that_cryptofeed_itself_takes_is_taken() -> None:
    own = {"config", "symbols", "channels", "subscription", "callbacks", "kwargs", "self", "subaccount", "sandbox"}
    theirs = [*inspect.signature(Feed.__init__).parameters.values(), *inspect.signature(Exchange_.__init__).parameters.values()]
    options = {one.name: one.default for one in theirs if one.name not in own}
    options |= {"candle_interval": "1m", "timeout": -1}
    for feed in (BackpackFeed, CcxtBackpackFeed):
        feed({"use_sandbox": True, "sandbox_url": HERE}, sandbox=True, **options)


@pytest.mark.parametrize("feed", [BackpackFeed, CcxtBackpackFeed])
def test_the_argument_sandbox_reaches_a_simulated_exchange(feed: Any, caplog: pytest.LogCaptureFixture) -> None:
    configs: list[Any] = [None, {}, {"backpack": {}}]
    for config in configs:
        made = feed(config, sandbox=True)
        assert made.settings.use_sandbox
        assert made.sandbox is True
        assert made.rest_url.startswith("http://127.0.0.1:")
        assert made.ws_url.startswith("ws://127.0.0.1:")
    assert feed({"use_sandbox": True, "sandbox_url": HERE}, sandbox=True).rest_url == HERE
    assert feed(sandbox=False).rest_url == "https://api.backpack.exchange"
    with pytest.raises(ConfigurationError, match=r"config has no field sandbox; did you mean use_sandbox\?"):
        feed({"sandbox": True})
    assert "checksum" not in caplog.text
    feed(sandbox=True, checksum_validation=True)
    assert "checksum_validation has no effect, the exchange sends no checksums" in caplog.text


def test_the_feed_by_ccxt_says_that_it_uses_no_keys(caplog: pytest.LogCaptureFixture) -> None:
    config = {"use_sandbox": True, "sandbox_url": HERE, "enable_private_channels": True}
    key = Credentials(THROWAWAY_SECRET).api_key
    CcxtBackpackFeed({**config, "auth": {"api_key": key, "public_key": key, "private_key": THROWAWAY_SECRET}})
    assert "has no private channels, the keys of config are not used" in caplog.text


def test_a_backend_with_which_cryptofeed_3_has_ended_the_feed_is_named() -> None:
    feed: Any = BackpackFeed({"use_sandbox": True, "sandbox_url": HERE})
    feed._backend_error = ValueError("table 'book' does not exist")
    (reason,) = [reason for reason in feed.health().reasons if "backend" in reason]
    assert reason.endswith("cryptofeed ends the feed: ValueError: table 'book' does not exist")


# ---- proxies


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none, whatever the environment of the tests says, and none that would have to be there."""
    monkeypatch.setattr(market_loading, "fetch_markets", lambda *_arguments: json.dumps(markets()))
    monkeypatch.setattr(proxy_settings._Installed, "injector", None)
    for name in [name for name in os.environ if name.upper().startswith("CRYPTOFEED_PROXY_")]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("variables", "config", "said"),
    [
        ({"DEFAULT__HTTP__URL": "http://p:1"}, {}, "a proxy is set for http, but"),
        ({"EXCHANGES__BACKPACK__WEBSOCKET__URL": "socks5://p:1"}, {}, "a proxy is set for websocket, but"),
        (
            {"DEFAULT__HTTP__URL": "http://p:1", "DEFAULT__WEBSOCKET__URL": "http://p:1", "ENABLED": "false"},
            {},
            "a proxy is set for http and websocket, but",
        ),
        ({"DEFAULT__WEBSOCKET__URL": "http://p:1"}, {"proxies": {"http": "http://q:1"}}, "a proxy is set for websocket, but"),
        ({"DEFAULT__WEBSOCKET__URL": "http://p:1"}, {"proxies": "http://q:1"}, ""),
        ({"DEFAULT__HTTP__URL": "http://p:1", "ENABLED": "true"}, {}, ""),
        ({"EXCHANGES__BINANCE__HTTP__URL": "http://p:1"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_a_proxy_that_is_set_and_not_enabled_is_told(
    variables: dict[str, str],
    config: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CRYPTOFEED_PROXY_{name}", value)
    feed = BackpackFeed({"use_sandbox": True, "sandbox_url": HERE, **config})
    told = [record.getMessage() for record in caplog.records if "proxies are not enabled" in record.getMessage()]
    notes = [note for note in feed.health().notes if "proxies are not enabled" in note]
    assert [f"BACKPACK: {note}" for note in notes] == told
    assert [line.startswith(f"BACKPACK: {said}") for line in told] == ([True] if said else [])
    assert all("CRYPTOFEED_PROXY_ENABLED=true" in note for note in notes)


@pytest.mark.usefixtures("no_proxies")
def test_proxies_that_a_program_has_not_enabled_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFEED_PROXY_DEFAULT__HTTP__URL", "http://p:1")
    sandbox = {"use_sandbox": True, "sandbox_url": HERE}
    init_proxy_system(ProxySettings(default={"websocket": "http://p:1"}))
    assert "a proxy is set for websocket, but" in BackpackFeed(sandbox).health().notes[-1]
    init_proxy_system(ProxySettings())
    assert BackpackFeed(sandbox).health().notes == [], "the program has switched off what the environment says"


@pytest.mark.usefixtures("no_proxies")
def test_cryptofeeds_own_proxy_serves_rest_and_is_refused_where_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = {"use_sandbox": True, "sandbox_url": HERE}
    made: Any = BackpackFeed(sandbox, http_proxy="socks5://me:secret@p:1")
    proxies = made._addresses.proxies
    assert (proxies.rest.endpoint, proxies.websocket) == ("socks5://p:1", None)
    with pytest.raises(InvalidProxy, match=r"^http_proxy: ") as caught:
        BackpackFeed(sandbox, http_proxy="me:secret@p")
    assert "secret" not in str(caught.value)
    assert "http_proxy is not used" not in caplog.text
    made = BackpackFeed({**sandbox, "proxies": "http://q:2"}, http_proxy="http://p:1")
    assert made._addresses.proxies.rest.endpoint == "http://q:2"
    assert "http_proxy is not used, for the settings have a proxy for http: http://q:2" in caplog.text


def test_an_unknown_channel_is_unknown_to_cryptofeed_as_well() -> None:
    for feed in (BackpackFeed, CcxtBackpackFeed):
        with pytest.raises(UnsupportedDataFeed, match="did you mean l2_book"):
            feed({"use_sandbox": True, "sandbox_url": HERE}, symbols=["SOL-USDC"], channels=["book"])


@pytest.mark.parametrize(
    ("symbol", "meant"), [("BTC-USDT", "BTC-USDC"), ("BTC_USDC_PERP", "BTC-USDC-PERP"), ("btc-usdc", "BTC-USDC")]
)
def test_an_unknown_symbol_comes_with_the_one_that_was_meant(symbol: str, meant: str) -> None:
    with pytest.raises(UnsupportedSymbol) as caught:
        loaded(feed_of(HERE, symbol))
    assert isinstance(caught.value, UnknownSymbol)
    assert str(caught.value).startswith(f"symbols: '{symbol}' is not a market of the exchange; did you mean {meant}")


# ---- a market that was listed after the markets were loaded


class Exchanges(Answers):
    """Its cache keeps the list of markets as it was before SOL was listed. Whatever it does not know it gets from the exchange."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    def read(self, address: str, *, json: bool = False, **_options: Any) -> Any:
        self.asked.append(address)
        if self.fails and "?" in address:
            raise ConnectionRefusedError("nobody answers")
        found = [market for market in markets() if "?" in address or market["baseSymbol"] != "SOL"]
        return found if json else self._given(found)

    async def _given(self, found: list[Any]) -> str:
        return json.dumps(found)


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    found = Exchanges()
    monkeypatch.setattr(BackpackFeed, "http_sync", found, raising=False)
    return found


def feed_at(exchanges: Exchanges, *symbols: str) -> Any:
    feed: Any = BackpackFeed({"use_sandbox": True, "sandbox_url": HERE}, symbols=list(symbols), channels=["funding"])
    feed.http_conn = exchanges
    return loaded(feed)


def test_a_market_that_was_listed_just_now_is_found(exchanges: Exchanges) -> None:
    assert "SOL-USDC" not in feed_at(exchanges, "BTC-USDC-PERP").normalized_symbol_mapping
    asked = len(exchanges.asked)
    feed = feed_at(exchanges, "BTC-USDC-PERP", "SOL-USDC-PERP", "SOL-USDC")
    (address,) = exchanges.asked[asked:]
    assert address.startswith(f"{HERE}/api/v1/markets?fresh=")
    assert set(feed.subscription["markPrice"]) == {"BTC_USDC_PERP", "SOL_USDC_PERP", "SOL_USDC"}
    assert feed._symbol_of("SOL_USDC_PERP") == "SOL-USDC-PERP"
    assert feed._is_spot("SOL_USDC")
    # Whoever comes next finds it in the table.
    feed_at(exchanges, "SOL-USDC")
    assert len(exchanges.asked) == asked + 1


def test_a_symbol_is_refused_as_unknown_by_a_fresh_list_only(exchanges: Exchanges) -> None:
    with pytest.raises(UnsupportedSymbol, match=r"^symbols: 'SOL-USDT' is not a market of the exchange; did you mean SOL-USDC"):
        feed_at(exchanges, "SOL-USDT")
    assert ["?" in address for address in exchanges.asked] == [False, True]


def test_where_no_fresh_list_can_be_had_the_error_says_so(exchanges: Exchanges) -> None:
    exchanges.fails = True
    with pytest.raises(UnsupportedSymbol) as caught:
        feed_at(exchanges, "SOL-USDC")
    said = "a fresh list of markets could not be had: ConnectionRefusedError: nobody answers"
    assert str(caught.value).startswith("symbols: 'SOL-USDC' is not a market of the exchange")
    assert str(caught.value).endswith(said)


# ---- callbacks


async def on_trade(_trade: Any, _receipt: float) -> None:
    pass


def blocks(_trade: Any, _receipt: float) -> None:
    pass


class Handler:
    """A callback that is an object."""

    async def __call__(self, _trade: Any, _receipt: float) -> None:
        """Take a trade."""

    async def method(self, _trade: Any, _receipt: float) -> None:
        """Take a trade."""

    def blocks(self, _trade: Any, _receipt: float) -> None:
        """Take a trade."""


async def on_two(_trade: Any) -> None:
    pass


async def generates(_trade: Any, _receipt: float) -> Any:
    yield


AWAITED = "callbacks['trades']: a coroutine function (async def) that takes an object and its receipt timestamp, got "


def feed_with(callbacks: Any) -> Any:
    return BackpackFeed(
        {"use_sandbox": True, "sandbox_url": HERE}, symbols=["SOL-USDC"], channels=["trades"], callbacks=callbacks
    )


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (blocks, "blocks (a function), which cannot be awaited; write async def"),
        (lambda trade, receipt: on_trade([trade], receipt), "<lambda> (a function), which cannot be awaited"),
        (print, "print (a builtin_function_or_method), which cannot be awaited"),
        (Handler, "Handler (a class), which cannot be awaited; give an object of it, with async def __call__"),
        (Handler().blocks, "Handler.blocks (a method), which cannot be awaited"),
        (functools.partial(blocks, 1), "blocks (a partial), which cannot be awaited"),
        (generates, "generates (a function), which cannot be awaited"),
        (on_two, "on_two, which does not: too many positional arguments"),
        (functools.partial(on_trade, 1), "on_trade, which does not: too many positional arguments"),
        (None, "None, which cannot be awaited"),
        ("on_trade", "'on_trade', which cannot be awaited"),
        ((on_trade,), "a tuple, which cannot be awaited"),
        ([on_trade, blocks], "blocks (a function), which cannot be awaited"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_callback_that_cannot_be_awaited_is_refused_where_the_feed_is_made(callback: Any, said: str) -> None:
    for feed in (BackpackFeed, CcxtBackpackFeed):
        with pytest.raises(ConfigurationError) as caught:
            feed(
                {"use_sandbox": True, "sandbox_url": HERE},
                symbols=["SOL-USDC"],
                channels=["trades"],
                callbacks={"trades": callback},
            )
        assert (AWAITED + said) in str(caught.value)


@pytest.mark.parametrize(
    "callback",
    [
        on_trade,
        Handler(),
        Handler().method,
        functools.partial(Handler.method, Handler()),
        Callback(on_trade),
        TradeRedis(),
        [on_trade, Handler()],
        [],
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_can_be_awaited_is_taken(callback: Any) -> None:
    assert feed_with({"trades": callback}).callbacks["trades"] == (callback if isinstance(callback, list) else [callback])


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([on_trade], "callbacks: a mapping of channels to coroutine functions, got a list"),
        ({3: on_trade}, "callbacks[3 (int)]: the key is the name of a channel, as in 'trades', not 3 (int)"),
    ],
)
def test_callbacks_are_filed_by_channel(callbacks: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        feed_with(callbacks)
    assert str(caught.value) == said


def test_two_names_of_a_channel_do_not_hide_each_other_s_callbacks() -> None:
    handler = Handler()
    feed = feed_with({"order_info": on_trade, "order.*": [handler]})
    assert feed.callbacks["order_info"] == [on_trade, handler]


def test_a_callback_that_is_never_called_and_a_channel_without_one_are_said(caplog: pytest.LogCaptureFixture) -> None:
    feed_with({"tades": on_trade, "ticker": on_trade})
    assert [record.getMessage() for record in caplog.records if record.name == "backpack_runtime.cryptofeed"] == [
        "BACKPACK: a callback for 'tades' will never be called, there is no such channel; did you mean trades?",
        "BACKPACK: a callback for ticker will never be called, the channel is not subscribed",
        "BACKPACK: nothing will be delivered of trades: there is no callback for it",
    ]
