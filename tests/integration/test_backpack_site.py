"""The documentation site as a reader has it, in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
FAQ = ROOT / "docs" / "faq.md"
QUESTIONS = re.findall(r"^## (.+)$", FAQ.read_text(encoding="utf-8"), re.MULTILINE)
ASKED = {
    "dataframe": "how-do-i-turn-candles-or-trades-into-a-dataframe",
    "top 5 levels of the book": "how-do-i-get-the-top-five-levels-of-an-order-book",
    "api keys environment": "how-do-i-read-api-keys-from-the-environment",
    "round to tick": "how-do-i-round-prices-and-quantities-to-tick-and-step",
    "docker": "how-do-i-run-it-in-docker",
    "systemd": "how-do-i-run-it-as-a-systemd-service",
    "windows": "does-it-run-on-windows-or-macos",
    "stop loss": "how-do-i-place-a-stop-loss",
    "rate limit": "what-are-the-rate-limits-and-who-keeps-to-them",
    "stale book": "why-is-my-book-stale",
    "prometheus": "how-do-i-export-metrics-to-prometheus",
    "asyncio.run": "can-i-use-asyncio-run-instead-of-anyio-run",
    "jupyter": "how-do-i-use-it-in-a-jupyter-notebook",
    "ccxt": "how-do-i-move-from-ccxt",
    "bpx-py": "how-do-i-move-from-bpx-py",
    "many symbols": "how-do-i-scale-to-many-symbols-and-several-processes",
    "proxy": "how-do-i-connect-through-a-proxy",
    "measure latency": "how-do-i-measure-latency",
    "record data": "how-do-i-record-market-data-to-a-file",
    "all markets": "how-do-i-follow-all-markets-at-once",
}
"""Words that a reader types, and the question that answers them."""
PHONE = (390, 844)
SECONDS = 20

pytestmark = [pytest.mark.gate, pytest.mark.required]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The site, built as tox does, once for all workers."""
    pytest.importorskip("furo")
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "documentation"
    with FileLock(f"{folder}.lock"):
        if not (folder / "html" / "searchindex.js").exists():
            command = [
                sys.executable,
                "-m",
                "sphinx",
                "-W",
                "--keep-going",
                "-n",
                "-d",
                f"{folder}/trees",
                "docs",
                f"{folder}/html",
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
            assert done.returncode == 0, done.stderr
    return folder / "html"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--window-size={PHONE[0]},{PHONE[1]}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=programs["chromedriver"]))
    try:
        driver.set_script_timeout(SECONDS)
        driver.implicitly_wait(SECONDS)
        yield driver
    finally:
        driver.quit()


def first_result(browser: Any, address: str, asked: str) -> str:
    """Return where the first result of a search leads."""
    browser.get(f"{address}/search.html?q={quote(asked)}")
    found = browser.find_element("css selector", "ul.search li a")
    return str(found.get_attribute("href")).removeprefix(f"{address}/")


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_the_first_result_of_its_own_search(question: str, browser: Any, address: str) -> None:
    shown = question.replace("`", "")
    result = first_result(browser, address, shown)
    assert result.startswith("faq.html#")
    browser.get(f"{address}/{result}")
    anchor = result.partition("#")[2]
    heading = browser.find_element("css selector", f"[id='{anchor}'] h2")
    assert heading.text.rstrip("¶# ") == shown


@pytest.mark.parametrize("asked", ASKED)
def test_a_few_words_find_the_question_that_they_are_about(asked: str, browser: Any, address: str) -> None:
    assert first_result(browser, address, asked) == f"faq.html#{ASKED[asked]}"


def test_the_search_of_a_class_finds_its_reference(browser: Any, address: str) -> None:
    assert first_result(browser, address, "BookDesynced") == "reference/events.html#backpack_proto.BookDesynced"


def test_no_page_is_wider_than_a_phone_or_complains(site: Path, browser: Any, address: str) -> None:
    wide = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        browser.get(f"{address}/{name}")
        beyond = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        if beyond > 0:
            wide[name] = beyond
    assert wide == {}
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    elsewhere = {
        path.name: found
        for path in (*site.rglob("*.html"), *site.rglob("*.css"))
        for found in [
            re.findall(r"""(?:src=["']|url\(["']?|<link[^>]+href=["'])(https?:)?//[^"')]+""", path.read_text(encoding="utf-8"))
        ]
        if found
    }
    assert elsewhere == {}


def test_every_public_name_is_documented_once(site: Path) -> None:
    api_reference = pytest.importorskip("api_reference")
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    counts = {name: len(re.findall(rf'id="{re.escape(name)}"', text)) for name in api_reference.public_names()}
    assert {name: count for name, count in counts.items() if count != 1} == {}


def test_a_field_of_a_value_is_shown_with_its_docstring(site: Path) -> None:
    text = (site / "reference" / "payloads.html").read_text(encoding="utf-8")
    assert 'id="backpack_proto.Trade.buyer_is_maker"' in text
    described = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    assert "Address of the websocket." in described


def test_diagrams_are_drawn(site: Path) -> None:
    text = (site / "machines.html").read_text(encoding="utf-8")
    assert text.count('<svg class="states"') == 6
    assert "SnapshotArrived" in text
    assert "stateDiagram" not in text


def test_the_site_has_the_list_for_programs(site: Path) -> None:
    lines = (site / "llms.txt").read_text(encoding="utf-8").splitlines()
    pages = [match[1] for line in lines if (match := re.match(r"- \[[^\]]+\]\(([^)]+)\): .", line))]
    assert len(pages) > 20
    assert [page for page in pages if not (site / page).exists()] == []
