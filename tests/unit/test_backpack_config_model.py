from __future__ import annotations

import copy
import os
import pickle
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed.config import Config
from nacl.signing import SigningKey
from pydantic import SecretStr, ValidationError

from backpack_proto.auth.keys import verify_signature
from backpack_proto.auth.signing import Scheme
from backpack_proto.errors import ConfigurationError
from backpack_runtime.cryptofeed.config.model import BackpackAuthSettings, BackpackConfig
from backpack_runtime.cryptofeed.config.sources import read_config
from backpack_runtime.network.addresses import REST_URL, WS_URL
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.settings import Settings
from hypothesis_profiles import examples

SEED = bytes(range(32))
PUBLIC = SigningKey(SEED).verify_key.encode()
OTHER = SigningKey(bytes(range(1, 33))).verify_key.encode()
PRIVATE_KEY = b64encode(SEED).decode()
PUBLIC_KEY = b64encode(PUBLIC).decode()
PASSPHRASE = "a passphrase nobody may see"
AUTH = {"api_key": PUBLIC_KEY, "public_key": PUBLIC_KEY, "private_key": PRIVATE_KEY}
FORMS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda raw: b64encode(raw).decode(),
    "base64 without padding": lambda raw: b64encode(raw).decode().rstrip("="),
    "url-safe base64": lambda raw: urlsafe_b64encode(raw).decode(),
    "hex": bytes.hex,
    "hex in capitals": lambda raw: raw.hex().upper(),
    "white space around": lambda raw: f" {raw.hex()}\n",
}
SECRETS = [PRIVATE_KEY, PRIVATE_KEY.rstrip("="), SEED.hex(), SEED.hex().upper(), PASSPHRASE, repr(SEED)[2:-1]]
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYPTOFEED_CONFIG", raising=False)


def complaint(**fields: Any) -> str:
    """What is wrong with a config, in one line."""
    with pytest.raises(ValidationError) as raised:
        BackpackConfig(**fields)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in raised.value.errors())


def is_silent(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


def frames_of(error: BaseException) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and locals of each frame, whatever error led to this one included."""
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None:
            continue
        pending += [current.__cause__, current.__context__]
        for frame, _ in traceback.walk_tb(current.__traceback__):
            yield frame.f_code.co_filename, frame.f_locals


def test_defaults_are_public_and_for_the_exchange() -> None:
    config = BackpackConfig()
    assert config.model_dump() == {
        "enable_private_channels": False,
        "auth": None,
        "proxies": None,
        "window_ms": 5000,
        "use_sandbox": False,
        "signing": "instruction",
        "sandbox_url": None,
        "ca_file": None,
    }
    assert (config.rest_url, config.ws_url) == (REST_URL, WS_URL)
    assert not config.requires_auth
    assert config.signer() is None


@each_form
def test_keys_of_every_form_become_base64(form: str) -> None:
    write = FORMS[form]
    auth = BackpackAuthSettings(api_key=write(PUBLIC), public_key=write(PUBLIC), private_key=write(SEED))
    assert (auth.api_key, auth.public_key, auth.private_key.reveal()) == (PUBLIC_KEY, PUBLIC_KEY, PRIVATE_KEY)
    assert auth == BackpackAuthSettings(**AUTH)
    assert verify_signature(PUBLIC_KEY, auth.credentials.sign("text"), "text")


@pytest.mark.parametrize("text", [PRIVATE_KEY, f"{PUBLIC_KEY}\n{PRIVATE_KEY}", f"secret: {SEED.hex()}\napi_key: {PUBLIC_KEY}"])
def test_a_key_file_stands_for_the_keys_in_it(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(0o600)
    config = BackpackConfig(auth={"key_file": file})
    assert config.auth == BackpackAuthSettings(**AUTH)
    assert caplog.text == ""
    file.chmod(0o644)
    BackpackConfig(auth={"key_file": str(file)})
    assert "can be read by other users" in caplog.text


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("nothing", {}, "there is no key in it"),
        ("secret=nothing", {}, "not 32 or 64 bytes"),
        (f"api_key={PUBLIC_KEY}", {}, "Field required"),
        (PRIVATE_KEY, {"api_key": PUBLIC_KEY}, "key_file has the keys: leave out the others"),
    ],
)
def test_a_key_file_without_usable_keys_is_refused(text: str, more: dict[str, str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ValidationError, match=said) as caught:
        BackpackConfig(auth={"key_file": file, **more})
    assert PRIVATE_KEY[:20] not in str(caught.value)


def test_a_private_key_may_have_the_public_one_behind_it() -> None:
    auth = BackpackAuthSettings(**{**AUTH, "private_key": (SEED + PUBLIC).hex()})
    assert auth.credentials.api_key == PUBLIC_KEY


@given(st.binary(min_size=32, max_size=32))
@examples(25)
def test_any_key_works_in_hex_and_base64(seed: bytes) -> None:
    public = SigningKey(seed).verify_key.encode()
    in_hex = BackpackAuthSettings(api_key="name", public_key=public.hex(), private_key=seed.hex())
    in_base64 = BackpackAuthSettings(
        api_key="name", public_key=b64encode(public).decode(), private_key=SecretStr(b64encode(seed).decode())
    )
    assert in_hex == in_base64
    assert in_hex.private_key.reveal() == b64encode(seed).decode()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"public_key": b64encode(OTHER).decode()}, "auth.public_key: public_key does not belong to private_key"),
        ({"public_key": PRIVATE_KEY}, "auth.public_key: public_key does not belong to private_key"),
        ({"public_key": PRIVATE_KEY, "private_key": PUBLIC_KEY}, "auth.public_key: public_key and private_key are swapped"),
        ({"public_key": "AAEC"}, "auth.public_key: it is not 32 bytes in hex or base64"),
        ({"private_key": PRIVATE_KEY[:-2]}, "auth.private_key: the private key is not 32 or 64 bytes in hex or base64"),
        ({"private_key": 1234}, "auth.private_key: it is text; in YAML, a value of digits alone wants quotes"),
        ({"api_key": PRIVATE_KEY}, "auth.api_key: that is the private key; api_key is sent with every request"),
        ({"api_key": SEED.hex()}, "auth.api_key: that is the private key; api_key is sent with every request"),
        ({"api_key": " "}, "auth.api_key: it is printable ASCII text, and not empty"),
        ({"api_key": "a\r\nX-Other: b"}, "auth.api_key: it is printable ASCII text, and not empty"),
        ({"passphrase": ""}, "auth.passphrase: it is printable ASCII text, and not empty"),
        ({"passphrase": PASSPHRASE + "\n"}, "auth.passphrase: it is printable ASCII text, and not empty"),
        (
            {"seed": PRIVATE_KEY},
            "auth.seed: Extra inputs are not permitted; there are private_key, public_key, api_key, passphrase",
        ),
        (
            {PRIVATE_KEY: "x"},
            "auth.**********: Extra inputs are not permitted; there are private_key, public_key, api_key, passphrase",
        ),
    ],
)
def test_what_is_wrong_with_a_key_is_said_without_the_key(changed: dict[str, Any], said: str) -> None:
    assert complaint(auth={**AUTH, **changed}) == said


def test_all_keys_are_wanted() -> None:
    assert complaint(auth={}) == "; ".join(f"auth.{name}: Field required" for name in ("private_key", "public_key", "api_key"))


def test_a_passphrase_is_for_the_request_scheme() -> None:
    said = complaint(auth={**AUTH, "passphrase": PASSPHRASE})
    assert said == ": auth.passphrase is sent in the request scheme only; leave it out, or set signing='request'"
    auth = BackpackConfig(auth={**AUTH, "passphrase": PASSPHRASE}, signing="request").auth
    assert auth is not None
    assert auth.passphrase is not None


def test_an_api_key_that_is_not_sent_is_warned_of_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    for fields, warned in (
        ({"auth": AUTH}, False),
        ({"auth": {**AUTH, "api_key": PUBLIC.hex()}}, False),
        ({"auth": {**AUTH, "api_key": "my-api-key"}, "signing": "request"}, False),
        ({"auth": {**AUTH, "api_key": "my-api-key"}}, True),
    ):
        caplog.clear()
        BackpackConfig(**fields).signer()
        assert ("auth.api_key is not a key of this account and is not sent" in caplog.text) is warned, fields
        assert "my-api-key" not in caplog.text


def test_an_api_key_of_another_name_is_for_the_request_scheme() -> None:
    named = {**AUTH, "api_key": "my-api-key"}
    assert BackpackConfig(auth=named).signer() is not None
    of_another = {**AUTH, "api_key": b64encode(OTHER).decode()}
    assert "auth.api_key does not belong to auth.private_key" in complaint(auth=of_another)
    opaque = BackpackConfig(auth={**AUTH, "api_key": OTHER.hex()}, signing="request").auth
    assert opaque is not None
    assert opaque.api_key == OTHER.hex()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"enable_private_channels": True}, ": enable_private_channels=True requires auth credentials"),
        ({"window_ms": 0}, "window_ms: Input should be greater than or equal to 1"),
        ({"window_ms": 10_001}, "window_ms: Input should be less than or equal to 10000"),
        ({"window_ms": True}, "window_ms: Input should be a valid integer"),
        ({"window_ms": 5.5}, "window_ms: Input should be a valid integer"),
        ({"signing": "hmac"}, "signing: Input should be 'instruction' or 'request'"),
        ({"sandbox_url": "https://localhost:1"}, ": sandbox_url requires use_sandbox=True"),
        ({"ca_file": "/there/is/none"}, "ca_file: Path does not point to a file"),
        ({"proxies": 8080}, "proxies: a proxy URL is text"),
        (
            {"proxies": {"hppt": "http://localhost:1"}},
            "proxies: proxies are a url, with remote_dns and timeout_seconds, or http and websocket of such, with timeout_seconds",
        ),
        ({"windowms": 1}, "windowms: Extra inputs are not permitted; did you mean window_ms?"),
        ({"sandbox": True}, "sandbox: Extra inputs are not permitted; did you mean use_sandbox?"),
        (
            {"native_enabled": True},
            f"native_enabled: Extra inputs are not permitted; there are {', '.join(BackpackConfig.model_fields)}",
        ),
    ],
)
def test_what_is_wrong_with_a_field_is_said(fields: dict[str, Any], said: str) -> None:
    assert complaint(**fields) == said


@pytest.mark.parametrize(
    "url",
    [
        "wss://localhost:1",
        "https://localhost:1/api?x=1",
        "https://localhost:1#x",
        "https://user:word@localhost",
        "https://u:w/@h",
    ],
)
def test_the_sandbox_has_an_address_of_http(url: str) -> None:
    said = complaint(use_sandbox=True, sandbox_url=url)
    assert said.startswith("sandbox_url: it is https://host:port or http://host:port")
    assert url not in said


@pytest.mark.parametrize("window_ms", [1, 5000, 10_000])
def test_windows_reach_the_signer(window_ms: int) -> None:
    signer = BackpackConfig(auth=AUTH, window_ms=window_ms, signing="request").signer()
    assert signer is not None
    assert (signer.window_ms, signer.scheme, signer.api_key) == (window_ms, Scheme.REQUEST, PUBLIC_KEY)


def test_addresses_of_the_sandbox() -> None:
    started_along = BackpackConfig(use_sandbox=True)
    assert (started_along.rest_url, started_along.ws_url) == (None, None)
    served = BackpackConfig(use_sandbox=True, sandbox_url="https://localhost:8443/")
    assert (served.rest_url, served.ws_url) == ("https://localhost:8443", "wss://localhost:8443")
    assert BackpackConfig(use_sandbox=True, sandbox_url="http://localhost:80").ws_url == "ws://localhost:80"
    below = BackpackConfig(use_sandbox=True, sandbox_url="http://gateway/backpack/", proxies="http://proxy.example:1")
    assert below.settings() == Settings(
        rest_url="http://gateway/backpack", ws_url="ws://gateway/backpack", proxies="http://proxy.example:1"
    )


def test_a_config_cannot_be_changed() -> None:
    config = BackpackConfig(auth=AUTH)
    with pytest.raises(ValidationError):
        config.window_ms = 1
    assert config.auth is not None
    with pytest.raises(ValidationError):
        config.auth.api_key = "x"
    given: dict[str, Any] = {"http": {"url": "http://localhost:1"}}
    behind_a_proxy = BackpackConfig(proxies=given)
    given["http"]["url"] = "http://elsewhere:1"
    assert behind_a_proxy.proxies == Proxies.of({"http": {"url": "http://localhost:1"}})


def test_coerce_takes_a_config_a_mapping_and_nothing() -> None:
    config = BackpackConfig(auth=AUTH, enable_private_channels=True)
    assert BackpackConfig.coerce(config) is config
    assert BackpackConfig.coerce() == BackpackConfig.coerce({}) == BackpackConfig()
    assert BackpackConfig.coerce({"auth": AUTH}, enable_private_channels=True) == config
    changed = BackpackConfig.coerce(config, window_ms=1)
    assert (changed.window_ms, changed.auth, changed.requires_auth) == (1, config.auth, True)
    assert BackpackConfig(**config.model_dump()) == config
    with pytest.raises(ValidationError, match="requires auth"):
        BackpackConfig.coerce(config, auth=None)
    with pytest.raises(ValidationError, match="window_ms"):
        config.model_copy(update={"window_ms": 0})
    with pytest.raises(TypeError, match="not a str"):
        BackpackConfig.coerce(PRIVATE_KEY)  # type: ignore[arg-type]


class TestSecrets:
    config = BackpackConfig(
        enable_private_channels=True, auth={**AUTH, "private_key": SEED.hex(), "passphrase": PASSPHRASE}, signing="request"
    )

    def test_nothing_that_shows_a_config_shows_them(self) -> None:
        config = self.config
        assert config.auth is not None
        for shown in (config, config.auth, config.signer(), config.model_dump(), config.auth.model_dump(), vars(config.auth)):
            assert is_silent(f"{shown!r} {shown}")
        assert is_silent(config.model_dump_json())
        assert is_silent(repr(config.__getstate__()))
        assert is_silent(repr(list(config)) + repr(list(config.auth)))
        assert PUBLIC_KEY not in repr(config)

    def test_what_was_dumped_as_json_is_no_config(self) -> None:
        with pytest.raises(ValidationError, match="private_key"):
            BackpackConfig.model_validate_json(self.config.model_dump_json())

    def test_they_are_not_pickled_and_not_copied(self) -> None:
        with pytest.raises(TypeError):
            pickle.dumps(self.config)
        assert copy.deepcopy(self.config) is copy.copy(self.config) is self.config
        public = BackpackConfig(window_ms=7)
        assert pickle.loads(pickle.dumps(public)) == public  # noqa: S301 - made a line above

    def test_a_password_of_a_proxy_is_not_shown(self) -> None:
        config = BackpackConfig(proxies={"url": "socks5://user:pass-word@localhost:1080"})
        assert "pass-word" not in f"{config!r} {config} {config.model_dump_json()}"

    @pytest.mark.parametrize(
        "fields",
        [
            {"auth": {**AUTH, "public_key": PRIVATE_KEY}},
            {"auth": {**AUTH, "api_key": PRIVATE_KEY}},
            {"auth": {**AUTH, "passphrase": PASSPHRASE + "\n"}},
            {"auth": {**AUTH, "private_key": PRIVATE_KEY + "x"}},
            {"auth": PRIVATE_KEY},
            {"auth": [PRIVATE_KEY]},
            {"auth": AUTH, "window_ms": 0},
            {"auth": AUTH, "unknown": PRIVATE_KEY},
            {"window_ms": PRIVATE_KEY},
            {"signing": PRIVATE_KEY},
            {"ca_file": PRIVATE_KEY},
            {"sandbox_url": PRIVATE_KEY, "use_sandbox": True},
            {"proxies": {PRIVATE_KEY: 1}},
            {PRIVATE_KEY: 1},
        ],
    )
    def test_errors_hold_none_of_what_was_given(self, fields: dict[str, Any]) -> None:
        for make in (
            lambda: BackpackConfig(**fields),
            lambda: BackpackConfig.coerce(fields),
            lambda: BackpackConfig().model_copy(update=fields),
            lambda: read_config({"backpack": fields}),
        ):
            with pytest.raises((ValidationError, ConfigurationError)) as raised:
                make()
            error: Any = raised.value
            details = f"{error.errors()} {error.json()}" if isinstance(error, ValidationError) else error.to_dict()
            assert is_silent(f"{error} {error!r} {details} {error.args}")
            for file, names in frames_of(error):
                if file != __file__:
                    assert is_silent(repr(names)), file


class TestReadConfig:
    keys: Mapping[str, Any] = {"key_id": PUBLIC_KEY, "key_secret": PRIVATE_KEY}
    private = BackpackConfig(enable_private_channels=True, auth=AUTH)

    def test_without_a_section_the_feed_is_public(self) -> None:
        configs: list[Any] = [
            None,
            {},
            {"log": {"disabled": True}},
            {"backpack": None},
            {"backpack": {}},
            Config({"uvloop": False}),
        ]
        for config in configs:
            own, others = read_config(config)
            assert own == BackpackConfig()
            assert Config(others)["backpack"]["key_id"] == {}, "the base class sees no key"

    def test_the_rest_of_the_configuration_reaches_the_base_class(self) -> None:
        given = {"log": {"disabled": True}, "ignore_invalid_instruments": True}
        for config in (given, Config(given)):
            _, others = read_config(config)
            assert Config(others).ignore_invalid_instruments is True
            assert Config(others).log.disabled is True

    def test_our_own_settings_are_taken_as_they_are(self) -> None:
        assert read_config(self.private)[0] is self.private
        assert read_config({"auth": AUTH, "enable_private_channels": True})[0] == self.private
        assert read_config({"backpack": self.private})[0] is self.private

    @pytest.mark.parametrize("wrap", [dict, Config], ids=["mapping", "Config"])
    def test_keys_of_cryptofeed_switch_private_channels_on(self, wrap: type[Any]) -> None:
        own, others = read_config(wrap({"log": {"disabled": True}, "backpack": dict(self.keys)}))
        assert own == self.private
        section = Config(others)["backpack"]
        assert section["key_id"]
        assert section["key_secret"]
        assert is_silent(repr(others))

    def test_the_section_has_our_fields_as_well(self) -> None:
        section = {**self.keys, "key_passphrase": PASSPHRASE, "signing": "request", "use_sandbox": True, "account_name": "a"}
        own, _ = read_config({"backpack": section})
        assert (own.signing, own.use_sandbox, own.requires_auth) == ("request", True, True)
        assert own.auth is not None
        assert own.auth.passphrase is not None
        assert own.auth.passphrase.reveal() == PASSPHRASE
        own, others = read_config({"backpack": {**self.keys, "enable_private_channels": False}})
        assert not own.requires_auth
        assert not Config(others)["backpack"]["key_id"]
        assert read_config({"backpack": {"auth": AUTH, "enable_private_channels": True}})[0] == self.private

    def test_the_public_key_is_derived_where_the_api_key_is_another_text(self) -> None:
        for section, api_key in (({"key_id": "name"}, "name"), ({}, PUBLIC_KEY), ({"key_id": None}, PUBLIC_KEY)):
            auth = read_config({"backpack": {**section, "key_secret": PRIVATE_KEY}})[0].auth
            assert auth is not None
            assert (auth.api_key, auth.public_key) == (api_key, PUBLIC_KEY)

    def test_a_path_is_that_of_a_yaml_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "config.yaml"
        file.write_text(f"log:\n  disabled: true\nbackpack:\n  key_id: {PUBLIC.hex()}\n  key_secret: {PRIVATE_KEY}\n")
        assert read_config(str(file))[0] == read_config(file)[0] == self.private
        monkeypatch.setenv("CRYPTOFEED_CONFIG", os.fspath(file))
        own, others = read_config(None)
        assert own == self.private
        assert is_silent(repr(others))
        own, others = read_config(BackpackConfig())
        assert own == BackpackConfig(), "what a program says counts, not what the environment says"
        assert is_silent(repr(others))
        assert read_config(str(tmp_path / "none.yaml"))[0] == BackpackConfig()
        assert "none.yaml does not exist, the defaults hold" in caplog.text
        monkeypatch.setenv("CRYPTOFEED_CONFIG", str(tmp_path / "gone.yaml"))
        assert read_config(None)[0] == BackpackConfig()
        assert "gone.yaml of CRYPTOFEED_CONFIG does not exist, the defaults hold" in caplog.text

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"window_ms": 1, "log": {}}, r"fields of BackpackConfig \(window_ms\) next to those of cryptofeed \(log\)"),
            ({"window_ms": 1, "binance": {}}, "next to those of cryptofeed"),
            ({"use_sandbx": True}, "no field use_sandbx; did you mean use_sandbox?"),
            ({"sandbox": True}, "no field sandbox; did you mean use_sandbox?"),
            ({"testnet": True}, "no field testnet; did you mean use_sandbox?"),
            ({"backpak": {"use_sandbox": True}}, "no field backpak; did you mean backpack?"),
            ({"colour": "red"}, "no field colour; there are those of BackpackConfig, and those of cryptofeed"),
            ({PRIVATE_KEY: 1}, "no field text of 44 characters"),
            ({"backpack": {"sandbox": True}}, "config.sandbox: .* did you mean use_sandbox?"),
            ({"use_sandbox": True, "sandbox": True}, "config.sandbox: .* did you mean use_sandbox?"),
            ({"api_key": PRIVATE_KEY}, "api_key belongs into auth"),
            ({"key_secret": PRIVATE_KEY}, "key_secret belongs into auth"),
            ({"backpack": {"key_id": PUBLIC_KEY}}, "no key_secret"),
            ({"backpack": {**keys, "auth": AUTH}}, "keys twice"),
            ({"backpack": PRIVATE_KEY}, "is a mapping"),
            ({"backpack": {"key_secret": 5}}, "private_key"),
            ({"backpack": {"use_sandbx": True}}, "use_sandbx"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, config: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigurationError, match=said) as raised:
            read_config(config)
        assert is_silent(str(raised.value))
        assert all(is_silent(repr(names)) for file, names in frames_of(raised.value) if file != __file__)

    def test_what_others_may_read_as_well_is_refused_only_where_it_was_meant_for_the_feed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "config.yaml"
        file.write_text("redis: {host: 127.0.0.1}\nbackpack: {use_sandbox: true}\n")
        for config in (file, Config({"redis": {"host": "127.0.0.1"}, "backpack": {"use_sandbox": True}})):
            caplog.clear()
            assert read_config(config)[0].use_sandbox
            assert "config has no field redis" in caplog.text
        file.write_text("sandbox: true\n")
        for config in (file, Config({"sandbox": True})):
            with pytest.raises(ConfigurationError, match=r"no field sandbox; did you mean use_sandbox\?"):
                read_config(config)

    def test_the_name_of_the_account_goes_to_the_base_class(self) -> None:
        _, others = read_config({"backpack": {"account_name": "main", "use_sandbox": True}})
        assert Config(others)["backpack"]["account_name"] == "main"

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(TypeError, match="not a int"):
            read_config(5)
