"""The dashboard in a real browser, before a real server and a real sandbox. The screenshots of the documents are made here.

`UPDATE_SCREENSHOTS=1 pytest -m gate tests/integration/test_backpack_dashboard.py -k screenshots` makes them again, in two minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.serving import serve_dashboard
from png import packed

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.required,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"),
]

PATIENCE_SECONDS = 60.0
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
IMAGES = Path(__file__).parents[2] / "docs" / "images"
UPDATES = bool(os.environ.get("UPDATE_SCREENSHOTS"))
MARKETS = ("SOL_USDC", "BTC_USDC_PERP", "AAPL.US_USDC_PERP", "HNT_USDC")
ALL_MARKETS = (*MARKETS[:1], "SOL_USDC_PERP", "BTC_USDC", *MARKETS[1:3], "kPEPE_USDC_PERP", "USDT_USDC", "HNT_USDC")
HOSTILE = "<img src=x onerror=document.title='taken'>"


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running command and its first line of output."""
    with subprocess.Popen((*COMMAND, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, line.strip()
        finally:
            process.kill()
            process.communicate()


class Browser:
    """A headless Chromium of a certain size."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        # As root it needs --no-sandbox, in a container --disable-dev-shm-usage. The rest keeps pictures the same.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def show(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Open a page in a window of this size, from scratch."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.errors()  # those of the page before
        self.driver.get(url)

    def text(self, selector: str) -> str:
        return str(self.run(f"return document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def state(self) -> str:
        """The state of the chosen market."""
        return str(self.run("return document.querySelector('#state').dataset.state"))

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def until(self, reached: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until the page shows something. How long that took."""
        begin = time.monotonic()
        while not reached():
            waited = time.monotonic() - begin
            assert waited < seconds, (waited, self.text("#server"), self.text("#health"), self.text("#market"))
            time.sleep(0.02)  # a page tells nobody, and a look costs the browser as much as a picture
        return time.monotonic() - begin

    def picture(self) -> bytes:
        return packed(self.driver.get_screenshot_as_png())

    def errors(self) -> list[str]:
        """All that the console has had since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def ladder(self) -> list[str]:
        return [
            str(one) for one in self.run("return [...document.querySelectorAll('.ladder li')].map((row) => row.textContent)")
        ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def exchange() -> Iterator[dict[str, Any]]:
    with program("sandbox", "--seed", "1") as (_, line):
        yield json.loads(line)


@pytest.fixture(scope="module")
def url(exchange: dict[str, Any]) -> Iterator[str]:
    with program("serve", *ALL_MARKETS, "--port", "0", "--rest-url", exchange["rest"], "--ws-url", exchange["ws"]) as (_, url):
        yield url


@pytest.fixture
def faults(exchange: dict[str, Any]) -> Iterator[Callable[[str], None]]:
    """Plans faults of the sandbox by its control endpoint, and takes them back at the end."""

    def plan(text: str) -> None:
        request = urllib.request.Request(f"{exchange['rest']}/sandbox/faults", json.dumps({"faults": text}).encode())  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - as above
            assert answer.status == 200

    yield plan
    plan("")


def is_verified(browser: Browser) -> bool:
    return browser.state() == "verified"


def test_the_book_moves_and_nothing_is_wrong_on_the_console(browser: Browser, url: str) -> None:
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    before, trade = browser.ladder(), browser.text("#trades li")
    browser.until(lambda: browser.ladder() != before)
    browser.until(lambda: browser.text("#trades li") != trade)
    assert browser.text("#symbol") == "SOL_USDC"
    assert re.fullmatch(r"\d+\.\d{2}", browser.text("#last"))
    assert "All is well" in browser.text("#verdict")
    # Every price has the decimals of the market's tick.
    prices = browser.run("return [...document.querySelectorAll('.ladder li span:first-of-type')].map((one) => one.textContent)")
    assert len(prices) >= 20
    assert all(re.fullmatch(r"\d+\.\d{2}", price) for price in prices if price)
    assert browser.run("return document.title").startswith("SOL_USDC")
    assert browser.errors() == []


def test_a_mute_exchange_turns_the_state_in_time_and_it_comes_back(
    browser: Browser, url: str, faults: Callable[[str], None]
) -> None:
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    good = browser.run("return getComputedStyle(document.querySelector('#bids span')).color")
    faults("mute@0-9")
    # The path is proved by data at most 5 s old. A picture comes every quarter of a second.
    assert browser.until(lambda: browser.state() == "stale") < 8
    browser.until(lambda: "no data" in browser.text("#why"), seconds=2)
    assert "mute for" in browser.text("#connection")
    assert browser.text("#streams .aside").startswith("in doubt")
    assert "Not all is well" in browser.text("#verdict")
    assert browser.run("return document.querySelector('#market').dataset.trust") == "no"
    grey = browser.run("return getComputedStyle(document.querySelector('#bids span')).color")
    assert grey != good
    assert grey == browser.run("return getComputedStyle(document.querySelector('[data-colour=old]')).color")
    assert browser.run("return getComputedStyle(document.querySelector('.row[aria-selected=true] .last')).color") == grey
    browser.until(lambda: is_verified(browser), seconds=20)
    assert browser.run("return document.querySelector('#why').hidden") is True
    assert browser.errors() == []


def test_a_lost_connection_is_counted_down_in_words(browser: Browser, url: str, faults: Callable[[str], None]) -> None:
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    faults("refuse@0-4")
    browser.until(lambda: browser.text("#connection").startswith("down for"))
    browser.until(lambda: "next try in" in browser.text("#connection-detail"))
    assert "The connection is down" in browser.text("#verdict")
    assert browser.state() == "stale"
    browser.until(lambda: is_verified(browser))


def test_a_page_that_has_lost_its_server_says_so_and_finds_it_again(browser: Browser, exchange: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    serve = ("serve", *MARKETS, "--port", port, "--rest-url", exchange["rest"], "--ws-url", exchange["ws"])
    with program(*serve) as (process, url):
        browser.show(url)
        browser.until(lambda: is_verified(browser))
        assert browser.errors() == []
        process.send_signal(signal.SIGSTOP)  # its sockets stay open, and nothing comes
        assert browser.until(lambda: "The server is lost" in browser.text("#server")) < 2.5
        assert browser.run("return document.body.dataset.server") == "lost"
        process.send_signal(signal.SIGCONT)
        browser.until(lambda: browser.run("return document.body.dataset.server") == "here")
        browser.until(lambda: is_verified(browser))
        browser.until(lambda: browser.run("return document.querySelector('#trades span:nth-child(3)') !== null"))
        process.kill()
        assert browser.until(lambda: "The server is lost" in browser.text("#server")) < 2.5
        assert "Old: the server is lost" in browser.text("#why")
        assert browser.state() == "old"
        chips = browser.run("return [...document.querySelectorAll('.row .chip b')].map((chip) => chip.textContent)")
        assert chips == ["old"] * len(MARKETS)
        old = browser.run("return getComputedStyle(document.querySelector('[data-colour=old]')).color")
        for selector in ("#bids span", "#last", ".row .last", "#status", "#trades span:nth-child(3)"):
            assert browser.run(f"return getComputedStyle(document.querySelector({selector!r})).color") == old
    browser.errors()  # the browser itself notes each connection that is refused
    with program(*serve):
        browser.until(lambda: browser.run("return document.body.dataset.server") == "here")
        browser.until(lambda: is_verified(browser))


def test_everything_can_be_done_by_keyboard(browser: Browser, url: str) -> None:
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    browser.press("j")
    browser.until(lambda: browser.text("#symbol") == "SOL_USDC_PERP" and is_verified(browser))
    assert browser.run("return location.hash") == "#SOL_USDC_PERP"
    browser.press(Keys.ARROW_DOWN)
    browser.until(lambda: browser.text("#symbol") == "BTC_USDC")
    browser.press("k", "k", "k")
    browser.until(lambda: browser.text("#symbol") == "SOL_USDC" and is_verified(browser))
    browser.press("/")
    browser.press("aapl")
    visible = "return [...document.querySelectorAll('.row')].filter((row) => !row.hidden).length"
    browser.until(lambda: browser.run(visible) == 1)
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.text("#symbol") == "AAPL.US_USDC_PERP")
    browser.press("/")
    browser.press(Keys.ESCAPE)
    browser.until(lambda: browser.run(visible) == len(ALL_MARKETS))
    browser.press("?")
    assert browser.run("return document.querySelector('#keys').open") is True
    browser.press(Keys.ESCAPE)
    browser.until(lambda: browser.run("return document.querySelector('#keys').open") is False)
    light = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
    browser.press("t", "t")  # light, dark
    browser.until(lambda: browser.run("return getComputedStyle(document.documentElement).backgroundColor") != light)
    browser.press("t")
    # Whatever has the focus shows it.
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    stops = set()
    for _ in range(5):
        browser.press(Keys.TAB)
        stops.add(browser.run("return document.activeElement.id || document.activeElement.className"))
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert {"theme", "help", "filter", "list"} <= stops
    assert browser.errors() == []


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
def test_no_width_needs_to_be_scrolled_sideways(browser: Browser, url: str, width: int) -> None:
    browser.show(f"{url}#kPEPE_USDC_PERP", width=width, height=800)
    browser.until(lambda: is_verified(browser))
    assert browser.text("#symbol") == "kPEPE_USDC_PERP"
    assert browser.run("return document.documentElement.scrollWidth") <= width
    cut = (
        "return [...document.querySelectorAll('.ladder li span')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert browser.run(cut) == 0


def test_a_closed_market_is_closed_and_not_stale(browser: Browser, url: str) -> None:
    browser.show(f"{url}#HNT_USDC")
    browser.until(lambda: browser.state() == "closed")
    assert "closed" in browser.text("#why")


def test_a_hidden_page_lets_go_of_the_server(browser: Browser, url: str) -> None:
    browser.show(url)
    browser.until(lambda: is_verified(browser))
    browser.run(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))"
    )
    browser.until(lambda: browser.run("return document.body.dataset.server") == "lost", seconds=5)
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    browser.until(lambda: browser.run("return document.body.dataset.server") == "here")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_text_of_the_exchange_is_text_on_the_page_and_the_token_leaves_the_address(browser: Browser) -> None:
    async with (
        serve_sandbox() as sandbox,
        BackpackClient(["SOL_USDC"], settings=sandbox.settings, on_event=lambda _: None) as client,
        serve_dashboard(client, port=0, token="a-token-of-the-tests") as url,
    ):
        sandbox.inject(json.dumps({"id": None, "error": {"code": 4000, "message": HOSTILE}}).encode())

        def look() -> None:
            browser.show(f"{url}?token=a-token-of-the-tests")
            browser.until(lambda: HOSTILE in browser.text("#reasons"))
            assert browser.run("return document.querySelectorAll('img').length") == 0
            assert browser.run("return document.title") != "taken"
            assert browser.run("return location.search") == ""
            browser.driver.refresh()  # by the cookie alone
            browser.until(lambda: is_verified(browser))
            assert browser.run("return document.cookie") == ""
            assert browser.errors() == []
            browser.driver.delete_all_cookies()

        await anyio.to_thread.run_sync(look)


def test_screenshots_of_the_page_can_be_made(
    browser: Browser, exchange: dict[str, Any], faults: Callable[[str], None], tmp_path: Path
) -> None:
    folder = IMAGES if UPDATES else tmp_path
    with program("serve", "--sandbox", "--port", "0") as (_, url):
        browser.show(url)
        browser.until(lambda: browser.run("return performance.now()") > (50_000 if UPDATES else 0))
        for name, width, height, dark in (("light", 1280, 800, False), ("dark", 1280, 800, True), ("phone", 390, 844, False)):
            browser.show(url, width=width, height=height, dark=dark)
            browser.until(lambda: is_verified(browser))
            browser.until(lambda: browser.run("return performance.now()") > 1_500)
            (folder / f"dashboard-{name}.png").write_bytes(browser.picture())
    with program("serve", *ALL_MARKETS, "--port", "0", "--rest-url", exchange["rest"], "--ws-url", exchange["ws"]) as (_, url):
        browser.show(url)
        browser.until(lambda: browser.run("return performance.now()") > (30_000 if UPDATES else 0))
        browser.until(lambda: is_verified(browser))
        faults("mute@0-20")
        browser.until(lambda: browser.state() == "stale")
        browser.until(lambda: browser.text("#why").startswith("Stale, for 4"))
        (folder / "dashboard-stale.png").write_bytes(browser.picture())
    pictures = sorted(folder.glob("dashboard-*.png"))
    assert [picture.stem.removeprefix("dashboard-") for picture in pictures] == ["dark", "light", "phone", "stale"]
    assert all(20_000 < picture.stat().st_size < 250_000 for picture in pictures)
