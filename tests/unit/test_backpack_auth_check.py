"""The check of keys: what it says of good and bad ones, where it takes them from, and that the private key is never shown."""

from __future__ import annotations

import io
import json
import pickle
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from backpack_proto.auth.keys import verify_signature
from backpack_proto.errors import LocalProtocolError
from backpack_runtime.cli.auth_check import Report, check_keys
from backpack_runtime.cli.parser import main
from backpack_runtime.key_sources import ENVIRONMENT, HiddenText, Keys, find_keys

SEED = bytes(range(200, 232))
PUBLIC = SigningKey(SEED).verify_key.encode()
PRIVATE_KEY = b64encode(SEED).decode()
PUBLIC_KEY = b64encode(PUBLIC).decode()
OTHER_PUBLIC_KEY = b64encode(SigningKey(bytes(32)).verify_key.encode()).decode()
SHOWN_NEVER = (PRIVATE_KEY.rstrip("="), SEED.hex(), SEED.hex().upper(), urlsafe_b64encode(SEED).decode().rstrip("="))


@pytest.fixture(autouse=True)
def no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def checked(private_key: str | None, *, api_key: str | None = None, public_key: str | None = None) -> Report:
    api, public, private = (None if text is None else HiddenText(text) for text in (api_key, public_key, private_key))
    report = check_keys(Keys(api_key=api, public_key=public, private_key=private))
    assert not [form for form in SHOWN_NEVER if form in "\n".join(report.lines)]
    return report


@pytest.mark.parametrize("private_key", [PRIVATE_KEY, SEED.hex(), (SEED + PUBLIC).hex(), urlsafe_b64encode(SEED).decode()])
@pytest.mark.parametrize("public_key", [PUBLIC_KEY, PUBLIC.hex().upper(), PUBLIC_KEY.rstrip("=")])
def test_keys_that_belong_together(private_key: str, public_key: str) -> None:
    report = checked(private_key, api_key=public_key, public_key=public_key)
    assert report.code == 0
    assert report.lines[-1].startswith("OK: ")
    assert f"public, base64: {PUBLIC_KEY}" in report.lines
    assert f"public, hex:    {PUBLIC.hex()}" in report.lines


def test_samples_are_signatures_of_what_they_say() -> None:
    lines = checked(PRIVATE_KEY).lines
    texts = [line.removeprefix("  signed text: ") for line in lines if line.startswith("  signed text: ")]
    signatures = [line.removeprefix("  X-Signature: ") for line in lines if line.startswith("  X-Signature: ")]
    assert texts == ["instruction=balanceQuery&timestamp=1700000000000&window=5000", "1700000000000000GET/api/v1/capital"]
    assert [verify_signature(PUBLIC_KEY, *pair) for pair in zip(signatures, texts, strict=True)] == [True, True]
    assert sum(line.startswith("SAMPLE, ") for line in lines) == 2


@pytest.mark.parametrize(
    ("private_key", "keys", "reason"),
    [
        (None, {}, "no private key was given"),
        ("secret", {}, "the private key is not 32 or 64 bytes in hex or base64"),
        (
            PRIVATE_KEY,
            {"api_key": "your-api-key"},
            "the API key is not 32 bytes in hex or base64: at Backpack it is the public key",
        ),
        (PRIVATE_KEY, {"public_key": PUBLIC.hex()[:-2]}, "the public key is not 32 bytes in hex or base64"),
        (PRIVATE_KEY, {"public_key": OTHER_PUBLIC_KEY}, "the public key does not belong to the private key"),
        (PRIVATE_KEY, {"api_key": OTHER_PUBLIC_KEY}, "the API key does not belong to the private key"),
        (PUBLIC_KEY, {"public_key": PRIVATE_KEY}, "the public key and the private key are swapped"),
        (PRIVATE_KEY, {"public_key": PRIVATE_KEY}, "the public key does not belong to the private key"),
        ("secret", {"public_key": PRIVATE_KEY}, "the private key is not 32 or 64 bytes in hex or base64"),
        (None, {"api_key": PRIVATE_KEY}, "no private key was given"),
    ],
)
def test_keys_that_cannot_be_used(private_key: str | None, keys: dict[str, str], reason: str) -> None:
    report = checked(private_key, **keys)
    assert report.code == 2
    assert report.lines[-1].startswith("INVALID: ")
    assert reason in report.lines[-1]
    assert "SAMPLE" not in "".join(report.lines)


def test_every_problem_is_told() -> None:
    assert checked("secret", api_key="your-api-key", public_key="public").lines[-1].count(" is not ") == 3


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = HiddenText(PRIVATE_KEY)
    keys = Keys(private_key=secret)
    assert repr(secret) == str(secret) == f"{secret}" == "<secret>"
    assert PRIVATE_KEY not in repr(keys)
    assert secret.reveal() == PRIVATE_KEY
    with pytest.raises(TypeError):
        pickle.dumps(keys)


def test_the_first_place_that_has_a_key_wins(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("api_key=from file\nprivate_key=from file\n")
    file.chmod(0o600)
    environment = dict.fromkeys(ENVIRONMENT.values(), "from environment")
    keys = find_keys({"api_key": HiddenText("given")}, key_file=file, environment=environment, prompt=None)
    assert keys.sources == {"api_key": "argument", "private_key": "key file", "public_key": "environment"}
    assert [key.reveal() for key in keys[:3] if isinstance(key, HiddenText)] == ["given", "from environment", "from file"]
    assert keys.warnings == ()


def test_the_prompt_is_the_last_resort() -> None:
    asked = find_keys({}, key_file=None, environment={}, prompt=lambda: PRIVATE_KEY)
    assert asked.private_key is not None
    assert (asked.private_key.reveal(), asked.sources) == (PRIVATE_KEY, {"private_key": "prompt"})
    assert find_keys({}, key_file=None, environment={}, prompt=None).private_key is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"private_key": PRIVATE_KEY, "public_key": PUBLIC_KEY, "window_ms": 5000}),
        json.dumps({"secret": PRIVATE_KEY, "api_key": PUBLIC_KEY, "symbols": ["SOL_USDC"]}),
        f"# keys\nexport BACKPACK_PRIVATE_KEY='{PRIVATE_KEY}'\nBACKPACK_API_KEY = {PUBLIC_KEY}\n\n",
    ],
)
def test_a_key_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(0o600)
    assert main(["auth-check", "--key-file", str(file)]) == 0
    output = capsys.readouterr()
    assert "private key:    well-formed (key file), never shown\n" in output.out
    assert output.err == ""


@pytest.mark.parametrize("content", [b"", b"nothing", b'{"private_key": "', b'{"a":' + b"[" * 50_000, b"\xff"])
def test_a_key_file_without_keys(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(LocalProtocolError, match="there is no key in it"):
        find_keys({}, key_file=file, environment={}, prompt=None)


def test_a_key_file_that_others_can_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    file.write_text(f"private_key={PRIVATE_KEY}")
    file.chmod(0o644)
    assert main(["auth-check", "--key-file", str(file)]) == 0
    assert capsys.readouterr().err == "backpack-feed: warning: the key file can be read by other users\n"


def test_arguments_show_in_process_lists_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["auth-check", "--private-key", PRIVATE_KEY]) == 0
    assert "list of processes" in capsys.readouterr().err


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BACKPACK_PRIVATE_KEY", PRIVATE_KEY)
    monkeypatch.setenv("BACKPACK_PUBLIC_KEY", OTHER_PUBLIC_KEY)
    assert main(["auth-check"]) == 2
    output = capsys.readouterr()
    assert "the public key does not belong to the private key" in output.out
    assert output.err == ""


def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: PRIVATE_KEY)
    assert main(["auth-check"]) == 0
    assert "(prompt)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["auth-check", PRIVATE_KEY],
        ["--private-key", PRIVATE_KEY, "auth-check"],
        ["auth-check", f"-v{PRIVATE_KEY}"],
        ["auth-check", f"--privat={PRIVATE_KEY}", f"--nothing={PRIVATE_KEY}"],
        ["auth-check", "--key-file", PRIVATE_KEY],
        ["account", "--key-file", PRIVATE_KEY],
        ["account", "--seconds", PRIVATE_KEY],
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as ended:
        code = ended.code
    output = capsys.readouterr()
    assert code == 2
    assert output.err.startswith("backpack-feed")
    assert not [form for form in SHOWN_NEVER if form[:24] in output.out + output.err]


def test_an_account_without_a_key_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["account"]) == 2
    assert capsys.readouterr().err.startswith("backpack-feed: no private key: ")


def test_impossible_combinations_of_the_account_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["account", "--sandbox", "--rest-url", "http://x"]) == 2
    assert main(["account", "--ws-url", "ws://x"]) == 2
    assert main(["account", "--trade"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
