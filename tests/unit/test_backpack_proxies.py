"""Which proxy serves which target, what a proxy URL may say, and that no password is ever seen."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Open
from backpack_proto.machine import Now
from backpack_runtime.client import BackpackClient
from backpack_runtime.network import proxy_settings as module
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.dialing import describe
from backpack_runtime.network.proxy_settings import (
    InvalidProxy,
    Proxies,
    Proxy,
    ProxyInjector,
    ProxySettings,
    get_proxy_injector,
    init_proxy_system,
    log_proxy_use,
    resolve_proxies,
)
from backpack_runtime.settings import Settings

CANARY = "c4n@ry:/?#secret%"
URL = f"socks5h://user:{quote(CANARY, safe='')}@proxy.example:1080"
ONE, TWO, THREE, FOUR = (f"http://proxy{number}.example:3128" for number in range(1, 5))
HTTP = "CRYPTOFEED_PROXY_DEFAULT__HTTP__URL"
WEBSOCKET = "CRYPTOFEED_PROXY_DEFAULT__WEBSOCKET__URL"
BACKPACK = "CRYPTOFEED_PROXY_EXCHANGES__BACKPACK__"
ON = {"CRYPTOFEED_PROXY_ENABLED": "true"}


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has set no proxies."""
    monkeypatch.setattr(module._Installed, "injector", None)


def endpoints(proxies: Proxies) -> tuple[str | None, str | None]:
    return tuple(None if proxy is None else proxy.endpoint for proxy in (proxies.rest, proxies.websocket))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("url", "scheme", "remote_dns"),
    [
        ("http://proxy.example:3128", "http", True),
        ("https://proxy.example:3128/", "https", True),
        ("socks4://proxy.example:3128", "socks4", True),
        ("socks4a://proxy.example:3128", "socks4", True),
        ("socks5://proxy.example:3128", "socks5", True),
        ("socks5h://proxy.example:3128", "socks5", True),
        ("SOCKS5H://Proxy.Example:3128", "socks5", True),
    ],
)
def test_a_url_names_scheme_host_and_port(url: str, scheme: str, *, remote_dns: bool) -> None:
    proxy = Proxy.parse(url)
    assert (proxy.scheme, proxy.host, proxy.port, proxy.remote_dns) == (scheme, "proxy.example", 3128, remote_dns)
    assert (proxy.username, proxy.password) == (None, None)
    assert str(proxy) == proxy.endpoint == f"{scheme}://proxy.example:3128"


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5"])
def test_names_are_looked_up_here_only_when_that_is_asked_for(scheme: str) -> None:
    assert Proxy.parse(f"{scheme}://h:1").remote_dns
    assert Proxy.parse(f"{scheme}://h:1", remote_dns=True).remote_dns
    assert not Proxy.parse(f"{scheme}://h:1", remote_dns=False).remote_dns


@pytest.mark.parametrize("scheme", ["socks5h", "socks4a"])
def test_a_scheme_that_means_remote_look_ups_cannot_mean_local_ones(scheme: str) -> None:
    with pytest.raises(InvalidProxy, match="looks up names"):
        Proxy.parse(f"{scheme}://h:1", remote_dns=False)


def test_an_ipv6_address_stands_in_brackets() -> None:
    proxy = Proxy.parse("socks5://[2001:db8::1]:1080")
    assert (proxy.host, proxy.port, proxy.endpoint) == ("2001:db8::1", 1080, "socks5://[2001:db8::1]:1080")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "no scheme"),
        ("proxy.example:1080", "no scheme"),
        ("//proxy.example:1080", "no scheme"),
        ("ftp://h:1", "is one of http, https, socks4, socks4a, socks5, socks5h"),
        ("ws://h:1", "is one of http"),
        ("http://", "no host"),
        ("http://:3128", "no host"),
        ("http://user:pw@:3128", "no host"),
        ("http://user:pw@", "no host"),
        ("http://h", "no port"),
        ("http://user:pw@h", "no port"),
        ("http://h:", "no port"),
        ("http://[::1]", "no port"),
        ("http://h:0", "1 to 65535"),
        ("http://h:65536", "1 to 65535"),
        ("http://h:-1", "1 to 65535"),
        ("http://h:x", "1 to 65535"),
        ("http://h:٣", "1 to 65535"),
        ("http://h:1/path", "no path"),
        ("http://h:1?q", "no path"),
        ("http://h:1/?", "no path"),
        ("http://h:1#f", "no path"),
        ("http://user:pa/ss@h:1", "percent-encoded"),
        (" http://h:1", "space"),
        ("http://h:1\n", "control"),
        ("http://user:p w@h:1", "percent-encoded"),
        ("http://user:p\tw@h:1", "percent-encoded"),
        ("http://user:%zz@h:1", "%25"),
        ("http://user:50%@h:1", "%25"),
        ("http://@h:1", "no user"),
        ("http://:pw@h:1", "no user"),
        ("http://us%3Aer:pw@h:1", "colon"),
        ("http://user:p%C3%A4ss@h:1", "ASCII"),
        ("http://user:p%0Ass@h:1", "ASCII"),
        ("socks5://user@h:1", "needs a password"),
        ("socks5://user:@h:1", "needs a password"),
        (f"socks5://user:{'p' * 256}@h:1", "at most 255"),
        (f"socks5://{'u' * 256}:p@h:1", "at most 255"),
        ("socks4://user:pw@h:1", "no password"),
        ("http://a..b:1", "malformed"),
        ("http://-a:1", "malformed"),
        ("http://b%41d:1", "malformed"),
        ("http://bücher.example:1", "malformed"),
        (f"http://{'a' * 64}:1", "malformed"),
        ("http://[::1:1", "malformed"),
        ("http://[h]:1", "malformed"),
        ("http://[127.0.0.1]:1", "malformed"),
        ("http://[::1%25lo]:1", "malformed"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidProxy, match=reason) as refused:
        Proxy.parse(url)
    assert isinstance(refused.value, LocalProtocolError)


@pytest.mark.parametrize("value", [None, 5, b"http://h:1", ["http://h:1"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidProxy, match="text"):
        Proxy.parse(value)


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
HOSTS = st.sampled_from(["h", "proxy.example", "a-b.c_d.example.", "127.0.0.1", "::1", "2001:db8::1"])


@given(PRINTABLE.filter(lambda text: ":" not in text), PRINTABLE, HOSTS, st.integers(1, 65535))
def test_every_password_comes_out_as_it_was_put_in(user: str, password: str, host: str, port: int) -> None:
    where = f"[{host}]" if ":" in host else host
    for scheme in ("http", "socks5"):
        proxy = Proxy.parse(f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{where}:{port}")
        assert (proxy.username, proxy.password, proxy.host, proxy.port) == (user, password, host, port)
        assert proxy.endpoint == f"{scheme}://{where}:{port}"


@given(st.text(max_size=60) | st.builds("{}://{}".format, st.sampled_from(["http", "socks5"]), st.text(max_size=60)))
def test_any_text_is_a_proxy_or_is_refused(text: str) -> None:
    try:
        proxy = Proxy.parse(text)
    except InvalidProxy:
        return
    assert Proxy.parse(proxy.endpoint).endpoint == proxy.endpoint


def test_a_user_without_a_password() -> None:
    http, socks4 = Proxy.parse("http://token@h:1"), Proxy.parse("socks4://token@h:1")
    assert (http.username, http.password) == ("token", "")
    assert (socks4.username, socks4.password) == ("token", None)


def test_proxies_are_values() -> None:
    assert Proxy.parse(URL) == Proxy.parse(URL)
    assert hash(Proxy.parse(URL)) == hash(Proxy.parse(URL))
    assert len({Proxy.parse(URL), Proxy.parse(URL.replace("user", "other")), Proxy.parse("socks5://proxy.example:1080")}) == 3
    with pytest.raises(AttributeError, match="frozen"):
        Proxy.parse(URL).host = "elsewhere"


@pytest.mark.parametrize(
    ("value", "rest", "websocket"),
    [
        (None, None, None),
        ({}, None, None),
        (ONE, ONE, ONE),
        (Proxy.parse(ONE), ONE, ONE),
        (Proxies(websocket=Proxy.parse(TWO)), None, TWO),
        ({"url": ONE}, ONE, ONE),
        ({"http": ONE, "websocket": TWO}, ONE, TWO),
        ({"rest": ONE, "ws": {"url": TWO}}, ONE, TWO),
        ({"http": ONE}, ONE, None),
        ({"websocket": {"url": TWO}, "http": None}, None, TWO),
        ({"url": None}, None, None),
    ],
)
def test_the_ways_to_say_which_proxies(value: Any, rest: str | None, websocket: str | None) -> None:
    assert endpoints(Proxies.of(value)) == (rest, websocket)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"htpt": ONE}, "or http and websocket"),
        ({"url": ONE, "http": TWO}, "a proxy is its url"),
        ({"http": ONE, "rest": TWO}, "two names"),
        ({"http": {"host": "h"}}, "http: a proxy is its url"),
        ({"websocket": "h:1"}, "websocket: the proxy URL has no scheme"),
        ({"url": ONE, "timeout_seconds": 0}, "timeout_seconds is above 0"),
        ({"url": ONE, "timeout_seconds": 301}, "at most 300"),
        ({"url": ONE, "timeout_seconds": "soon"}, "timeout_seconds"),
        ({"url": ONE, "timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"http": ONE, "timeout_seconds": True}, "timeout_seconds"),
        ({"url": ONE, "remote_dns": "perhaps"}, "neither true nor false"),
        (5, "text"),
    ],
)
def test_what_is_no_way_to_say_it(value: Any, reason: str) -> None:
    with pytest.raises(InvalidProxy, match=reason):
        Proxies.of(value)


def test_a_proxy_may_have_a_patience_of_its_own() -> None:
    proxies = Proxies.of({"http": {"url": ONE, "timeout_seconds": 2}, "websocket": TWO, "timeout_seconds": 9})
    assert proxies.rest is not None
    assert proxies.websocket is not None
    assert [proxies.timeout_of(proxy) for proxy in (proxies.rest, proxies.websocket)] == [2.0, 9.0]
    assert Proxies.of(ONE).timeout_seconds == 30.0


def test_local_look_ups_can_be_asked_for_in_settings() -> None:
    proxies = Proxies.of({"url": "socks5://h:1", "remote_dns": False})
    assert proxies.rest is not None
    assert not proxies.rest.remote_dns


@pytest.mark.parametrize("explicit", [None, "rest", "websocket", "both"])
@pytest.mark.parametrize("exchange", [None, "rest", "websocket", "both"])
@pytest.mark.parametrize("default", [None, "rest", "websocket", "both"])
@pytest.mark.parametrize("enabled", [False, True])
def test_the_nearest_setting_wins_for_rest_and_websocket_each(
    explicit: str | None, exchange: str | None, default: str | None, *, enabled: bool
) -> None:
    def setting(which: str | None, url: str) -> dict[str, str]:
        return {name: url for name in ("rest", "websocket") if which in (name, "both")}

    def winner(name: str) -> str | None:
        ranks = [(explicit, ONE), *([(exchange, TWO), (default, THREE)] if enabled else [])]
        return next((url for which, url in ranks if which in (name, "both")), None)

    settings = ProxySettings(
        enabled=enabled,
        default=setting(default, THREE),
        exchanges={"Backpack": setting(exchange, TWO), "binance": {"url": FOUR}},
    )
    found = init_proxy_system(settings).proxies("BACKPACK", setting(explicit, ONE))
    assert endpoints(found) == (winner("rest"), winner("websocket"))
    assert endpoints(resolve_proxies(setting(explicit, ONE))) == endpoints(found)


def test_another_exchange_has_the_default() -> None:
    injector = ProxyInjector(ProxySettings(enabled=True, default=ONE, exchanges={"backpack": TWO}))
    assert endpoints(injector.proxies("binance")) == (ONE, ONE)
    assert endpoints(injector.proxies()) == (TWO, TWO)


def test_each_setting_brings_its_own_patience() -> None:
    settings = ProxySettings(
        enabled=True, default={"rest": THREE, "timeout_seconds": 3}, exchanges={"backpack": {"ws": TWO, "timeout_seconds": 2}}
    )
    found = ProxyInjector(settings).proxies()
    assert found.rest is not None
    assert found.websocket is not None
    assert (found.timeout_of(found.rest), found.timeout_of(found.websocket)) == (3.0, 2.0)


def test_the_environment_in_the_shape_of_the_ecosystem(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        **ON,
        HTTP: ONE,
        WEBSOCKET: TWO,
        f"{BACKPACK}HTTP__URL": THREE,
        f"{BACKPACK}WEBSOCKET__URL": FOUR,
        f"{BACKPACK}TIMEOUT_SECONDS": "7",
        f"{BACKPACK}WEBSOCKET__TIMEOUT_SECONDS": "2.5",
    }.items():
        monkeypatch.setenv(name, value)
    found = resolve_proxies()
    assert endpoints(found) == (THREE, FOUR)
    assert found.rest is not None
    assert found.websocket is not None
    assert (found.timeout_of(found.rest), found.timeout_of(found.websocket)) == (7.0, 2.5)
    assert endpoints(resolve_proxies(exchange="binance")) == (ONE, TWO)
    assert endpoints(resolve_proxies({"ws": ONE})) == (THREE, ONE)
    assert endpoints(init_proxy_system().proxies()) == (THREE, FOUR)


@pytest.mark.parametrize("enabled", ["false", "0", "no", "off", "", None])
def test_the_environment_is_off_until_it_says_that_it_is_on(enabled: str | None) -> None:
    environment = {HTTP: ONE} if enabled is None else {HTTP: ONE, "CRYPTOFEED_PROXY_ENABLED": enabled}
    settings = ProxySettings.from_environment(environment)
    assert not settings.enabled
    assert ProxyInjector(settings).proxies() == Proxies()


@pytest.mark.parametrize("enabled", ["true", "True", "1", "yes", "on"])
def test_the_environment_says_that_it_is_on(enabled: str) -> None:
    assert ProxySettings.from_environment({"CRYPTOFEED_PROXY_ENABLED": enabled}).enabled


@pytest.mark.parametrize(
    "environment",
    [
        {"cryptofeed_proxy_enabled": "true", "cryptofeed_proxy_default__http__url": ONE},
        {**ON, "CRYPTOFEED_PROXY_DEFAULT": f'{{"http": {{"url": "{ONE}"}}}}'},
        {**ON, "CRYPTOFEED_PROXY_DEFAULT__HTTP": ONE, WEBSOCKET: ""},
        {**ON, HTTP: ONE, "OTHER": "x", "CRYPTOFEED_PROX": "x"},
        {**ON, "CRYPTOFEED_PROXY_DEFAULT__HTTP": f'{{"url": "{TWO}", "timeout_seconds": 5}}', HTTP: ONE},
    ],
)
def test_other_ways_to_write_the_same_environment(environment: dict[str, str]) -> None:
    assert endpoints(ProxyInjector(ProxySettings.from_environment(environment)).proxies()) == (ONE, None)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CRYPTOFEED_PROXY_ENABLED": "perhaps"}, "neither true nor false"),
        ({"CRYPTOFEED_PROXY_DEFUALT__HTTP__URL": ONE}, "no others"),
        ({"CRYPTOFEED_PROXY_EXCHANGES": ONE}, "no others"),
        ({"CRYPTOFEED_PROXY_DEFAULT__HTTP__URLL": ONE}, "default: http: a proxy is its url"),
        ({"CRYPTOFEED_PROXY_DEFAULT__HTTP__POOL": "{}"}, "default: http: a proxy is its url"),
        ({HTTP: "proxy.example:3128"}, "default: http: the proxy URL has no scheme"),
        ({f"{BACKPACK}WEBSOCKET__URL": "socks5://h"}, "exchanges.backpack: websocket: the proxy URL has no port"),
        ({"CRYPTOFEED_PROXY_DEFAULT__HTTP": ONE, HTTP: ONE}, "set as a whole"),
        ({"CRYPTOFEED_PROXY_DEFAULT": "{"}, "JSON"),
    ],
)
def test_an_environment_that_is_not_understood_is_refused(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidProxy, match=reason):
        ProxySettings.from_environment(environment)


def test_the_program_outranks_the_environment_and_can_switch_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_proxy_injector() is None
    monkeypatch.setenv("CRYPTOFEED_PROXY_ENABLED", "true")
    monkeypatch.setenv(HTTP, ONE)
    injector = get_proxy_injector()
    assert injector is not None
    assert endpoints(injector.proxies()) == (ONE, None)
    installed = init_proxy_system(ProxySettings(enabled=True, default=TWO))
    assert get_proxy_injector() is installed
    assert endpoints(resolve_proxies()) == (TWO, TWO)
    init_proxy_system(ProxySettings())
    assert get_proxy_injector() is None
    assert resolve_proxies() == Proxies()
    assert endpoints(resolve_proxies(THREE)) == (THREE, THREE)


def test_a_client_takes_the_environment_but_its_own_sandbox_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFEED_PROXY_ENABLED", "true")
    monkeypatch.setenv(HTTP, ONE)
    assert endpoints(BackpackClient()._proxies) == (ONE, None)
    assert endpoints(BackpackClient(settings=Settings(proxies={"ws": TWO}))._proxies) == (ONE, TWO)
    assert endpoints(BackpackClient(sandbox=True)._proxies) == (None, None)
    assert endpoints(BackpackClient(sandbox=True, settings=Settings(proxies=TWO))._proxies) == (TWO, TWO)


@pytest.mark.parametrize(
    ("proxies", "seconds"),
    [(None, 15), ({"http": ONE}, 15), (ONE, 45), ({"ws": {"url": TWO, "timeout_seconds": 5}, "timeout_seconds": 50}, 20)],
)
def test_a_session_gives_up_only_after_the_proxy_has_used_up_its_time(proxies: Any, seconds: int) -> None:
    session = BackpackClient(settings=Settings(proxies=proxies))._session
    session.handle(Open(), Now(0, 0))
    assert session.deadline == seconds * 1_000_000


def test_a_client_refuses_a_bad_proxy_before_it_connects() -> None:
    with pytest.raises(InvalidProxy, match="no port"):
        BackpackClient(settings=Settings(proxies="socks5://proxy.example"))


def test_an_https_proxy_needs_tls_even_to_a_plain_exchange() -> None:
    plain = ("http://127.0.0.1:1", "ws://127.0.0.1:1")
    assert Addresses(*plain, proxies=Proxies.of("http://h:1")).ssl_context is None
    assert Addresses(*plain, proxies=Proxies.of("https://h:1")).ssl_context is not None


def test_the_log_names_scheme_host_and_port_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="backpack_runtime.network.proxy_settings"):
        log_proxy_use("websocket", Proxy.parse(URL))
    assert caplog.messages == ["proxy: transport=websocket exchange=backpack scheme=socks5 endpoint=proxy.example:1080"]
    assert not leaks(repr(vars(caplog.records[0])))


def leaks(text: str) -> bool:
    return any(needle in text for needle in (CANARY, quote(CANARY, safe=""), "secret", "c4n"))


@pytest.mark.parametrize("bad", ["", "http://h:1/x?"])
def test_the_search_finds_a_planted_leak(bad: str) -> None:
    assert leaks(f"{bad}{URL}")
    assert not leaks("socks5://proxy.example:1080")


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        lambda value: "%s %r" % (value, value),  # noqa: UP031 - as logging does
        lambda value: repr(vars(value) if hasattr(value, "__dict__") else dir(value)),
        lambda value: repr(copy.copy(value)),
        lambda value: repr([getattr(value, name) for name in getattr(value, "__slots__", ())]),
    ],
)
def test_nothing_shows_a_password(show: Callable[[object], str]) -> None:
    proxy = Proxy.parse(URL)
    proxies = Proxies.of(URL)
    settings = ProxySettings(enabled=True, default=URL, exchanges={"backpack": {"ws": URL}})
    for value in (proxy, proxies, settings, settings.default, ProxyInjector(settings), Addresses(proxies=proxies)):
        assert not leaks(show(value))
    assert not leaks(repr(vars(BackpackClient(settings=Settings(proxies=URL)))))


def test_nothing_pickles_a_password() -> None:
    for value in (Proxy.parse(URL), Proxies.of(URL), ProxySettings(enabled=True, default=URL)):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value)


BAD = URL.replace(":1080", "")


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Proxy.parse(BAD),
        lambda: Proxy.parse(f"http://user:{CANARY}@h:1"),
        lambda: Proxy.parse(f"http://user:{quote(CANARY, safe='')}@h:x"),
        lambda: Proxies.of(BAD),
        lambda: Proxies.of({"http": {"url": BAD}}),
        lambda: Proxies.of({"url": URL, "timeout_seconds": -1}),
        lambda: Proxies.of({URL: "x"}),
        lambda: ProxySettings(default=BAD),
        lambda: ProxySettings(exchanges={"backpack": {"ws": BAD}}),
        lambda: ProxySettings.from_environment({HTTP: BAD}),
        lambda: ProxySettings.from_environment({"CRYPTOFEED_PROXY_DEFAULT": f'{{"http": "{BAD}"'}),
        lambda: ProxySettings.from_environment({"CRYPTOFEED_PROXY_DEFAULT": f'{{"http": "{BAD}"}}'}),
        lambda: ProxySettings.from_environment({"CRYPTOFEED_PROXY_ENABLED": URL}),
        lambda: resolve_proxies(BAD),
        lambda: ProxyInjector(ProxySettings()).proxies(explicit=BAD),
        lambda: BackpackClient(settings=Settings(proxies=BAD)),
        lambda: BackpackClient(settings=Settings(proxies=URL, minimum_tls="1.1")),
        lambda: BackpackClient(slow_consumer="never", settings=Settings(proxies={"url": URL})),
        lambda: BackpackClient(channels=["nonsense"], settings=Settings(proxies=URL)),
    ],
)
def test_no_refusal_shows_a_password_not_even_in_the_locals_of_its_frames(refused: Callable[[], object]) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        refused()
    error = caught.value
    assert error.__traceback__ is not None
    # Without the frames of this test, which have the URL that they hand over.
    ours = error.__traceback__.tb_next
    assert ours is not None
    told = traceback.TracebackException.from_exception(error.with_traceback(ours.tb_next), capture_locals=True)
    assert not leaks("".join(told.format()))
    assert not leaks(repr(error.args))


def test_the_reason_behind_the_attempts_of_a_connection_is_named() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    for cause in (refused, ExceptionGroup("multiple connection attempts failed", [refused, OSError(101, "unreachable")])):
        failed = OSError("All connection attempts failed")
        failed.__cause__ = cause
        assert describe(failed) == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert describe(OSError("All connection attempts failed")) == "OSError: All connection attempts failed"
