"""The feed behind real proxies: both kinds of connections go through them, and what fails there is named."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler
from cryptofeed.symbols import Symbols

from backpack_runtime.cryptofeed import BackpackFeed
from backpack_runtime.cryptofeed.markets import loading as market_loading
from proxy_matrix import Remote, serve_elsewhere
from proxy_programs import PASSWORD, PROGRAMS, RunningProxy, missing, run_proxy

Running = Callable[[Any], AbstractAsyncContextManager[None]]
PATIENCE_SECONDS = 60
HANDLER = {"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}}


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The registries of cryptofeed are those of the process. Its files go to where they harm nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(market_loading, "_origin", [])
    Symbols.data.pop("BACKPACK", None)
    caplog.set_level(logging.INFO, "backpack_runtime")
    yield
    Symbols.data.pop("BACKPACK", None)


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with serve_elsewhere(speed=1.0) as remote:
        yield remote


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[RunningProxy]:
    absent = missing(request.param)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    with run_proxy(PROGRAMS[request.param], password=True) as proxy:
        yield proxy


class Watcher:
    """A feed behind a proxy, and what it delivers."""

    def __init__(self, remote: Remote, proxies: dict[str, Any] | None, **options: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.feed: Any = BackpackFeed(
            config={"use_sandbox": True, "sandbox_url": remote.rest_url, "ca_file": remote.ca_file, "proxies": proxies},
            symbols=["SOL-USDC"],
            channels=["trades", "l2_book"],
            callbacks={channel: self._counting(channel) for channel in ("trades", "l2_book")},
            **options,
        )
        self.handler = FeedHandler(config=HANDLER)
        self.handler.add_feed(self.feed)

    def _counting(self, channel: str) -> Callable[[Any, float], Any]:
        async def count(_found: Any, _receipt: float) -> None:
            self.counts[channel] += 1

        return count

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


async def started(*arguments: Any, **options: Any) -> Watcher:
    """In a thread, for earlier versions of cryptofeed load the markets, and block, where a feed is made."""
    return await asyncio.to_thread(Watcher, *arguments, **options)


def transports(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {found for line in caplog.messages for found in re.findall("^proxy: transport=(http|websocket) ", line)}


@pytest.mark.anyio
@pytest.mark.parametrize(("proxy", "scheme"), [("microsocks", "socks5h"), ("tinyproxy", "http")], indirect=["proxy"])
async def test_both_kinds_of_connections_go_through_a_proxy(
    proxy: RunningProxy, scheme: str, remote: Remote, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = await started(remote, {"url": proxy.url(scheme, PASSWORD)})
    async with running(watcher.handler):
        await watcher.until(lambda: watcher.counts["trades"] and watcher.counts["l2_book"] > 5)
        assert watcher.feed.health().healthy
    assert transports(caplog) == {"http", "websocket"}
    assert PASSWORD not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("proxy", ["microsocks"], indirect=True)
@pytest.mark.parametrize("is_cryptofeeds", [False, True], ids=["config", "http_proxy"])
async def test_a_proxy_for_rest_alone_leaves_the_websocket_alone(
    proxy: RunningProxy,
    is_cryptofeeds: bool,  # noqa: FBT001
    remote: Remote,
    running: Running,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = proxy.url("socks5h", PASSWORD)
    watcher = await started(remote, None, http_proxy=url) if is_cryptofeeds else await started(remote, {"http": url})
    async with running(watcher.handler):
        await watcher.until(lambda: watcher.counts["l2_book"] > 5)
    assert transports(caplog) == {"http"}
    assert PASSWORD not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(("proxy", "scheme"), [("microsocks", "socks5h"), ("tinyproxy", "http")], indirect=["proxy"])
async def test_refused_credentials_are_named_and_counted(
    proxy: RunningProxy, scheme: str, remote: Remote, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = await started(remote, {"websocket": proxy.url(scheme, "wrong-word")})
    async with running(watcher.handler):
        await watcher.until(lambda: watcher.feed.metrics_snapshot()["proxy_failures"] >= 1)
        report = watcher.feed.health()
    assert report.status == "down"
    assert f"proxy {scheme.removesuffix('h')}://{proxy.endpoint(scheme)} refused the credentials" in " ".join(report.reasons)
    assert "wrong-word" not in caplog.text
    assert not watcher.counts


@pytest.mark.parametrize("proxy", ["microsocks"], indirect=True)
def test_markets_that_cannot_be_had_name_the_proxy(proxy: RunningProxy, remote: Remote, running: Running) -> None:
    async def program() -> None:
        watcher = await started(remote, {"url": proxy.url("socks5", "wrong-word")})
        async with running(watcher.handler):
            await watcher.until(lambda: False)

    with pytest.raises(BaseException) as raised:
        asyncio.run(program())
    found = [error for error in _leaves(raised.value) if "refused the credentials" in str(error)]
    assert found
    assert "wrong-word" not in str(found[0])


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


@pytest.mark.anyio
@pytest.mark.parametrize(("proxy", "scheme"), [("microsocks", "socks5"), ("tinyproxy", "http")], indirect=["proxy"])
async def test_a_proxy_that_dies_is_named_and_found_again(
    proxy: RunningProxy, scheme: str, remote: Remote, running: Running
) -> None:
    watcher = await started(remote, {"url": proxy.url(scheme, PASSWORD)})
    async with running(watcher.handler):
        await watcher.until(lambda: watcher.counts["l2_book"] > 5)
        proxy.kill()
        await watcher.until(lambda: watcher.feed.metrics_snapshot()["proxy_failures"])
        assert f"proxy {scheme}://{proxy.endpoint(scheme)}" in " ".join(watcher.feed.health().reasons)
        proxy.start()
        await watcher.until(lambda: watcher.feed.metrics_snapshot()["ws_reconnects"])
        before = watcher.counts["l2_book"]
        await watcher.until(lambda: watcher.counts["l2_book"] > before + 5)
        assert "down" not in watcher.feed.health().status
