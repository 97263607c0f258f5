"""Credentials from the environment and from files."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

import backpack_proto
from backpack_proto.auth.keys import THROWAWAY_API_KEY, THROWAWAY_SECRET
from backpack_proto.errors import ConfigurationError, InvalidKey
from backpack_runtime import Credentials

OTHER = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="


def locals_of(error: BaseException) -> str:
    assert error.__traceback__ is not None
    inside = error.with_traceback(error.__traceback__.tb_next)
    return "".join(traceback.TracebackException.from_exception(inside, capture_locals=True).format())


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_they_come_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPACK_PRIVATE_KEY", THROWAWAY_SECRET)
    monkeypatch.setenv("BACKPACK_API_KEY", THROWAWAY_API_KEY)
    credentials = Credentials.from_env()
    assert credentials.api_key == THROWAWAY_API_KEY
    assert isinstance(credentials, backpack_proto.Credentials)
    assert isinstance(backpack_proto.Signer(credentials), backpack_proto.Signer)


@pytest.mark.parametrize("name", ["BACKPACK_SECRET", "BACKPACK_API_SECRET", "BACKPACK_SECRET_KEY", "BPX_PRIVATE_KEY"])
def test_other_usual_names_do_as_well(name: str) -> None:
    assert Credentials.from_env({name: THROWAWAY_SECRET, "SECRET": "of another program"}).api_key == THROWAWAY_API_KEY


@pytest.mark.parametrize(
    ("environment", "kind", "reason"),
    [
        ({}, ConfigurationError, "set BACKPACK_PRIVATE_KEY"),
        ({"PRIVATE_KEY": THROWAWAY_SECRET}, ConfigurationError, "set BACKPACK_PRIVATE_KEY"),
        ({"BACKPACK_PRIVATE_KEY": THROWAWAY_SECRET, "BACKPACK_SECRET": OTHER}, ConfigurationError, "private_key twice"),
        ({"BACKPACK_PRIVATE_KEY": THROWAWAY_SECRET, "BACKPACK_API_KEY": OTHER}, InvalidKey, "api_key does not belong"),
        ({"BACKPACK_PRIVATE_KEY": THROWAWAY_SECRET[1:]}, InvalidKey, "not 32 or 64 bytes"),
    ],
)
def test_an_environment_without_usable_keys(environment: dict[str, str], kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason) as caught:
        Credentials.from_env(environment)
    assert type(caught.value) is kind
    assert THROWAWAY_SECRET[1:20] not in locals_of(caught.value)


def test_they_come_from_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", f"\ufeff{THROWAWAY_API_KEY}\r\n{THROWAWAY_SECRET}\r\n")
    assert Credentials.from_file(str(file)).api_key == THROWAWAY_API_KEY
    credentials = Credentials.from_file(file)
    assert credentials.api_key == THROWAWAY_API_KEY
    assert repr(credentials) == "Credentials(A6EHv/PO...)"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(credentials)
    with pytest.raises(TypeError):
        vars(credentials)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("", ConfigurationError, "there is no key in it"),
        (f"api_key={THROWAWAY_API_KEY}", InvalidKey, "there is no private key in the key file"),
        (f"api_key={OTHER}\nsecret={THROWAWAY_SECRET}", InvalidKey, "api_key does not belong"),
        (f"{OTHER}\n{THROWAWAY_SECRET}", ConfigurationError, "neither is the public key of the other"),
    ],
)
def test_a_file_without_usable_keys(tmp_path: Path, text: str, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason) as caught:
        Credentials.from_file(write(tmp_path / "keys", text))
    assert THROWAWAY_SECRET[:20] not in locals_of(caught.value)


@pytest.mark.parametrize("place", [THROWAWAY_SECRET, "\0" + THROWAWAY_SECRET, "/", THROWAWAY_SECRET * 100])
def test_a_key_in_place_of_the_name_of_a_file_is_not_repeated(place: str) -> None:
    with pytest.raises(ConfigurationError, match="the key file cannot be read: ") as caught:
        Credentials.from_file(place)
    assert THROWAWAY_SECRET[:20] not in locals_of(caught.value)


def test_a_file_that_others_can_read_is_worth_a_warning(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", THROWAWAY_SECRET, 0o640)
    with pytest.warns(UserWarning, match="can be read by other users.*chmod 600") as caught:
        assert Credentials.from_file(file).api_key == THROWAWAY_API_KEY
    assert caught[0].filename == __file__
