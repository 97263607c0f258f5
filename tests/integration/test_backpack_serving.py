"""A served client over real sockets: each path when all is well and when it is not, who may read, and readers that are slow or gone."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backpack_proto.encoding import decode_event
from backpack_proto.errors import BackpackError, ConfigurationError, LocalProtocolError
from backpack_proto.exchange import CloseMarket, OpenMarket
from backpack_proto.outputs import BookChanged, EventsDropped
from backpack_proto.streams.payloads import Event, Trade
from backpack_runtime import make_app, serve_dashboard
from backpack_runtime.cli.serve import keep_tickers
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.serving import streams

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
SYMBOL = "SOL_USDC"
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Served(NamedTuple):
    """A client that is served, and one who reads."""

    sandbox: Sandbox
    client: BackpackClient
    url: str
    http: aiohttp.ClientSession

    async def json(self, path: str, **headers: str) -> tuple[int, Any]:
        """The status and the body of an answer."""
        async with self.http.get(path, headers=headers) as answer:
            return answer.status, await answer.json()

    async def status(self, path: str, **headers: str) -> int:
        async with self.http.get(path, headers=headers) as answer:
            return answer.status

    async def until_status(self, path: str, status: int) -> Any:
        """The body of the first answer with a status."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                found, body = await self.json(path)
                if found == status:
                    return body


@asynccontextmanager
async def serving(
    symbols: tuple[str, ...] = (SYMBOL,), *, silent: Callable[[bytes], bool] | None = None, **options: Any
) -> AsyncIterator[Served]:
    async with serve_sandbox(seed=3) as sandbox:
        if silent is not None:
            sandbox.silent = silent
        async with (
            BackpackClient(symbols, settings=sandbox.settings, on_event=lambda _: None) as client,
            serve_dashboard(client, port=0, **options) as url,
            aiohttp.ClientSession(url) as http,
        ):
            yield Served(sandbox, client, url, http)


@pytest.fixture(scope="module")
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    """One server for all tests that only read."""
    assert anyio_backend
    async with serving((SYMBOL, "BTC_USDC_PERP", "HNT_USDC"), channels=("book", "trades")) as found:
        with anyio.fail_after(PATIENCE_SECONDS):
            while [row["state"] for row in (await found.json("/books"))[1]] != ["verified", "verified", "closed"]:
                pass  # each look is a turn of the loop
            await found.until_status("/health", 200)
        yield found


async def messages(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The messages of a stream of server-sent events, comments as `comment`."""
    found: dict[str, str] = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if not line:
            yield found
            found = {}
        else:
            name, _, value = line.partition(":")
            found[name or "comment"] = value.removeprefix(" ")


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    async for message in messages(answer):
        if "data" in message:
            yield decode_event(message["data"])


# ---- each path


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    async with served.http.get("/") as answer:
        page = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    parts = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {"dashboard.css", "dashboard.js", "icon.svg"} <= set(parts)
    for part in parts:
        assert "//" not in part
        if not part.startswith("/?"):
            assert await served.status(f"/{part}") == 200
    for name in ("dashboard.js", "drawing.js", "dashboard.css"):
        async with served.http.get(f"/{name}") as answer:
            text = await answer.text()
        assert "http:" not in text
        assert "https:" not in text
        assert "innerHTML" not in text


async def test_health_and_readiness_of_a_client_that_is_well(served: Served) -> None:
    assert await served.json("/health") == (200, {"status": "healthy", "reasons": [], "notes": ["market HNT_USDC is closed"]})
    assert await served.json("/ready") == (200, {"ready": True, "books": {"wanted": 3, "live": 2, "closed": 1}})


async def test_a_book_is_as_the_exchange_sent_it(served: Served) -> None:
    status, book = await served.json("/books/SOL-USDC?levels=3")
    assert status == 200
    assert [len(book[side]) for side in ("bids", "asks")] == [3, 3]
    assert all(re.fullmatch(r"\d+(\.\d+)?", text) for level in book["bids"] for text in level)
    assert (book["symbol"], book["state"], book["live"], book["verified"]) == (SYMBOL, "verified", True, True)
    assert (book["closed"], book["reason"], book["coverage"]) == (False, None, {"lowest_bid": None, "highest_ask": None})
    assert book["age_s"] < PATIENCE_SECONDS
    assert book["last"] > 0


async def test_a_closed_market_says_so(served: Served) -> None:
    _, book = await served.json("/books/HNT_USDC")
    assert (book["state"], book["closed"], book["live"]) == ("closed", True, False)
    assert book["reason"] == "the exchange says that the market is closed"


async def test_the_list_of_books_has_every_state(served: Served) -> None:
    _, books = await served.json("/books")
    assert [row["symbol"] for row in books] == [SYMBOL, "BTC_USDC_PERP", "HNT_USDC"]
    assert books[2]["state"] == "closed"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/books/SOL_USDX", 404, "did you mean SOL_USDC"),
        ("/books/%3Cscript%3E", 404, "'<script>' is not a market of the exchange"),
        ("/books/SOL_USDC_PERP", 404, "the book of 'SOL_USDC_PERP' is not served here; did you mean"),
        ("/state?symbol=SOL_USDX", 404, "did you mean SOL_USDC"),
        ("/events?symbol=SOL_USDX", 404, "did you mean SOL_USDC"),
        ("/events?channel=tradez", 400, "did you mean trade or trades?"),
        ("/events?channel=balance.*", 400, "private data are not served"),
        ("/events?channel=mark_price", 400, "is not subscribed here: there are book, trades"),
        ("/books/SOL_USDC?levels=0", 400, "levels: a whole number from 1 to 5000, got '0'"),
        ("/books/SOL_USDC?levels=9999999", 400, "levels: "),
        ("/nothing", 404, "Not Found"),
    ],
)
async def test_what_cannot_be_answered_is_said_in_words(served: Served, path: str, status: int, said: str) -> None:
    found, body = await served.json(path)
    assert found == status
    assert said in body["error"]


async def test_metrics_are_read_by_the_parser_of_prometheus(served: Served) -> None:
    async with served.http.get("/metrics") as answer:
        assert answer.status == 200
        families = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert "backpack_health_status" in families
    async with served.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")


async def test_events_are_those_that_were_asked_for_and_numbered(served: Served) -> None:
    ids: list[str] = []
    async with served.http.get("/events?channel=trades,book&symbol=SOL-USDC") as answer:
        assert answer.content_type == "text/event-stream"
        with anyio.fail_after(PATIENCE_SECONDS):
            seen: set[str] = set()
            async for message in messages(answer):
                if "data" not in message:
                    continue
                ids.append(message["id"])
                event = decode_event(message["data"])
                assert getattr(event, "symbol", SYMBOL) == SYMBOL
                seen.add(type(event).__name__)
                if {"Trade", "BookChanged"} <= seen:
                    break
    run = ids[0].partition("-")[0]
    assert ids == [f"{run}-{number + 1}" for number in range(len(ids))]


async def test_whoever_comes_back_is_told_that_events_are_missing(served: Served) -> None:
    async with served.http.get("/events", headers={"Last-Event-ID": "66172c-9"}) as answer:
        first = [message async for message in _first(messages(answer), 2)]
    assert first[0] == {"retry": "1000"}
    assert first[1]["event"] == "missed"


async def _first(found: AsyncIterator[dict[str, str]], count: int) -> AsyncIterator[dict[str, str]]:
    async for message in found:
        yield message
        count -= 1
        if not count:
            return


async def test_a_stream_without_events_has_comments(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with served.http.get("/events?channel=trades&symbol=HNT_USDC") as answer:
        with anyio.fail_after(PATIENCE_SECONDS):
            async for message in messages(answer):
                if "comment" in message:
                    break


async def test_the_state_has_what_the_page_shows_and_new_samples_only(served: Served) -> None:
    async with served.http.get("/state?symbol=BTC_USDC_PERP&levels=4") as answer:
        with anyio.fail_after(PATIENCE_SECONDS):
            pictures = [json.loads(message["data"]) async for message in _first(messages(answer), 3)]
    first = pictures[0]
    assert first["panel"]["symbol"] == "BTC_USDC_PERP"
    assert len(first["panel"]["bids"]) == 4
    assert first["common"]["connection"]["up"] is True
    assert [market["symbol"] for market in first["common"]["markets"]] == [SYMBOL, "BTC_USDC_PERP", "HNT_USDC"]
    assert len(pictures[1]["samples"]) + len(pictures[2]["samples"]) <= 2
    assert pictures[0]["common"]["mono_us"] < pictures[1]["common"]["mono_us"] < pictures[2]["common"]["mono_us"]


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/books", "/books/SOL_USDC", "/events", "/state"])
async def test_head_has_no_body_and_nothing_can_be_written(served: Served, path: str) -> None:
    async with served.http.head(path) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        async with served.http.request(method, path) as answer:
            assert answer.status == 405
            assert answer.headers["Allow"].replace(" ", "") == "GET,HEAD"
            assert not [name for name in answer.headers if name.startswith("Access-Control")]


# ---- who may read


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", ":x", "192.168.0.9"])
async def test_a_name_that_was_made_to_lead_here_gets_nothing(served: Served, host: str) -> None:
    for path in ("/", "/health", "/state", "/nothing"):
        assert await served.status(path, Host=host) in {400, 403}


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "[::1]:80"])
async def test_names_of_loopback_are_taken_at_any_port(served: Served, host: str) -> None:
    assert await served.status("/health", Host=host) == 200


async def test_another_site_may_lead_to_the_page_and_read_nothing(served: Served) -> None:
    across = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/state", "/events", "/health", "/dashboard.js"):
        assert await served.status(path, **across) == 403
        assert await served.status(path, **{"Sec-Fetch-Site": "same-site"}) == 403
    leads = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert await served.status("/", **across, **leads) == 200
    assert await served.status("/health", **across, **leads) == 403


async def test_with_a_token_nothing_is_read_without_it() -> None:
    async with serving(token=TOKEN) as served:
        for path in ("/", "/health", "/metrics", "/state", "/events", "/books", "/dashboard.js", f"/health?token={TOKEN}"):
            async with served.http.get(path) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="backpack-feed"')
                assert TOKEN not in await answer.text()
        for wrong in ("Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00fc"):
            assert await served.status("/health", Authorization=wrong) == 401
        assert await served.status("/health", Authorization=f"Bearer {TOKEN}") in {200, 503}
        assert await served.status("/?token=wrong") == 401
        async with served.http.get(f"/?token={TOKEN}") as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        name, _, value = cookie.partition(";")[0].partition("=")
        assert await served.status("/books", Cookie=f"{name}={value}") == 200
        assert await served.status("/books", Cookie=f"{name}={value}x") == 401


async def test_elsewhere_than_on_loopback_a_token_is_needed() -> None:
    async with serve_sandbox() as sandbox, BackpackClient([SYMBOL], settings=sandbox.settings) as client:
        with pytest.raises(ConfigurationError, match=r"token: 0\.0\.0\.0 can be reached from other machines"):
            async with serve_dashboard(client, host="0.0.0.0", port=0):
                pass
        with pytest.raises(ConfigurationError, match="hosts: any Host header is allowed only with a token"):
            make_app(client, hosts=None)
        async with (
            serve_dashboard(client, host="0.0.0.0", port=0, token=TOKEN) as url,
            aiohttp.ClientSession(url.replace("0.0.0.0", "127.0.0.1")) as http,
        ):
            async with http.get("/books", headers={"Host": "feed.example"}) as answer:
                assert answer.status == 401
            async with http.get("/books", headers={"Host": "feed.example", "Authorization": f"Bearer {TOKEN}"}) as answer:
                assert answer.status == 200


async def test_an_argument_that_cannot_be_used_is_named() -> None:
    async with serve_sandbox() as sandbox, BackpackClient([SYMBOL], settings=sandbox.settings) as client:
        for token in ("short", "with spaces in the middle", "ü" * 20, "x" * 300):
            with pytest.raises(ConfigurationError, match="token: 16 to 256 letters") as error:
                make_app(client, token=token)
            assert token not in str(error.value)
        with pytest.raises(LocalProtocolError, match="BTC_USDC"):
            make_app(client, symbols=["BTC_USDC"])
        with pytest.raises(ConfigurationError, match="readers"):
            make_app(client, readers=0)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(BackpackError, match=rf"port: {port} of 127\.0\.0\.1 is in use"):
                async with serve_dashboard(client, port=port):
                    pass
        for host in ("no.such.host.invalid", "192.0.2.1"):
            with pytest.raises(BackpackError, match=r"host: .* is not an address of this machine"):
                async with serve_dashboard(client, host=host, port=0):
                    pass


# ---- when it is not well


async def test_it_is_not_ready_before_the_first_data() -> None:
    async with serving(silent=lambda _: True) as served:
        assert await served.status("/ready") == 503
        status, health = await served.json("/health")
        assert status == 503
        assert health["reasons"]
        served.sandbox.silent = lambda _: False
        await served.until_status("/ready", 200)
        await served.until_status("/health", 200)


async def test_a_lost_connection_shows_everywhere_and_passes() -> None:
    async with serving() as served:
        await served.until_status("/ready", 200)
        await served.until_status("/health", 200)
        served.sandbox.refusing = True
        served.sandbox.drop_connections()
        health = await served.until_status("/health", 503)
        assert health["status"] == "down"
        assert "the connection is down" in health["reasons"][0]
        assert await served.status("/ready") == 200
        _, book = await served.json(f"/books/{SYMBOL}")
        assert (book["state"], book["live"], book["verified"]) == ("stale", False, False)
        assert book["reason"].startswith("the connection is down: ")
        assert book["bids"]
        async with served.http.get("/state") as answer:
            picture = json.loads((await anext(messages(answer)))["data"])
        connection = picture["common"]["connection"]
        assert connection["up"] is False
        assert connection["reason"]
        assert connection["retry_s"] is not None
        assert picture["panel"]["state"] == "stale"
        served.sandbox.refusing = False
        await served.until_status("/health", 200)
        assert (await served.json(f"/books/{SYMBOL}"))[1]["live"] is True


async def test_a_client_that_is_closed_is_not_well_and_has_no_events() -> None:
    async with serve_sandbox() as sandbox:
        client = BackpackClient([SYMBOL], settings=sandbox.settings)
        async with client, serve_dashboard(client, port=0) as url, aiohttp.ClientSession(url) as http:
            async with http.get("/events") as stream:
                await client.aclose()
                with anyio.fail_after(PATIENCE_SECONDS):
                    await stream.read()  # it ends
            with anyio.fail_after(PATIENCE_SECONDS):
                while True:
                    async with http.get("/health") as answer:
                        if (found := await answer.json())["reasons"][0] == "the client has been closed":
                            break
            assert (answer.status, found["status"]) == (503, "down")
            async with http.get("/events") as answer:
                assert answer.status == 503
                assert "the client has been closed" in (await answer.json())["error"]
            async with http.get("/ready") as answer:
                assert answer.status == 503


async def test_a_book_that_is_unsubscribed_or_subscribed_is_taken_up() -> None:
    async with serving() as served:
        async with served.http.get("/state?symbol=SOL_USDC") as answer:
            pictures = messages(answer)
            assert json.loads((await anext(pictures))["data"])["panel"]["symbol"] == SYMBOL
            await served.client.subscribe(["book"], ["BTC_USDC_PERP"])
            await served.client.unsubscribe(["book"], [SYMBOL])
            with anyio.fail_after(PATIENCE_SECONDS):
                picture = json.loads((await anext(pictures))["data"])
                while picture["panel"] is not None:
                    picture = json.loads((await anext(pictures))["data"])
            assert [market["symbol"] for market in picture["common"]["markets"]] == ["BTC_USDC_PERP"]
        assert await served.status(f"/books/{SYMBOL}") == 404
        assert await served.status("/books/BTC_USDC_PERP") == 200


async def test_a_market_that_closes_is_no_reason_against_health_and_is_back_when_it_opens() -> None:
    async with serving((SYMBOL, "HNT_USDC")) as served, anyio.create_task_group() as tasks:
        tasks.start_soon(keep_tickers, served.client, (SYMBOL, "HNT_USDC"))
        await served.until_status("/ready", 200)

        async def until_state(state: str) -> dict[str, Any]:
            with anyio.fail_after(PATIENCE_SECONDS):
                while True:
                    row: dict[str, Any] = (await served.json("/books"))[1][0]
                    if row["state"] == state and row["change"] is not None:
                        return row

        await until_state("verified")
        served.sandbox._give(CloseMarket(SYMBOL))
        await served.client.verify(SYMBOL)
        await until_state("closed")
        health = await served.until_status("/health", 200)
        assert f"market {SYMBOL} is closed" in health["notes"]
        ticker = f"ticker.{SYMBOL}"
        assert not served.client._session.shows(ticker)
        served.sandbox._give(OpenMarket(SYMBOL))
        await served.client.load_markets(fresh=True)
        await until_state("verified")
        assert served.client._session.shows(ticker)
        tasks.cancel_scope.cancel()


# ---- readers


async def test_there_is_a_largest_number_of_streams() -> None:
    async with serving(readers=2) as served:
        async with served.http.get("/events"), served.http.get("/state"):
            for path in ("/events", "/state"):
                async with served.http.get(path) as answer:
                    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                    assert (await answer.json())["error"] == "2 streams are being read, and more are not allowed"
            assert await served.status("/books") == 200
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:  # those that have gone leave room
                async with served.http.get("/state") as answer:
                    if answer.status == 200:
                        break


async def test_a_reader_that_goes_leaves_nothing_behind() -> None:
    async with serving() as served:
        await served.until_status("/ready", 200)
        before = len(asyncio.all_tasks())
        for path in ("/events", "/state", "/events?channel=trades&symbol=SOL_USDC"):
            host, port = re.findall(r"//(.*):(\d+)/", served.url)[0]
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        outlets = served.client._inside().outlets
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(asyncio.all_tasks()) > before or len(outlets._all) > 1:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)


@pytest.mark.slow
async def test_a_slow_reader_loses_by_the_policy_and_is_told() -> None:
    async with serving() as served:
        await served.until_status("/ready", 200)
        host, port = re.findall(r"//(.*):(\d+)/", served.url)[0]
        slow = socket.create_connection((host, int(port)))
        slow.setblocking(False)  # noqa: FBT003 - that is its only argument
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(slow, f"GET /events?channel=trades HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b"200 OK" in await loop.sock_recv(slow, 1_000)
        frame = (
            b'{"data":{"E":1795012347120455,"T":1795012347118000,"a":"1","b":"2","e":"trade","m":true,"p":"99.11","q":"0.01",'
            b'"s":"SOL_USDC","t":%d},"stream":"trade.SOL_USDC"}'
        )
        sent = 0
        outlets = served.client._inside().outlets
        delivery = next(delivery for delivery, kinds in outlets._all if Trade in kinds and BookChanged not in kinds)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not delivery.snapshot.dropped:
                for _ in range(500):
                    served.sandbox.inject(frame % sent)
                    sent += 1
                await anyio.sleep(0.01)
                assert delivery.snapshot.waiting <= streams.BUFFER + 500
        with anyio.fail_after(PATIENCE_SECONDS):
            while delivery.snapshot.behind_us < 2_500_000:  # noqa: ASYNC110 - nothing tells of it
                await anyio.sleep(0.05)
        # Others are not held up by it, and the client is as well as before.
        assert [reason for reason in (await served.json("/health"))[1]["reasons"] if "late" in reason] == []
        reader, writer = await asyncio.open_connection(sock=slow)
        lost = None
        with anyio.fail_after(PATIENCE_SECONDS):
            while not isinstance(lost, EventsDropped):
                line = await reader.readline()
                if line.startswith(b"data: "):
                    lost = decode_event(line[6:])
        assert lost.count >= 1
        assert not lost.private
        writer.close()
