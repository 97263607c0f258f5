from __future__ import annotations

import copy
import pickle
import traceback
from base64 import b64decode, b64encode, urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.errors import InvalidKey
from hypothesis_profiles import examples

# The sample of docs/protocol.md 2.1.
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
API_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
SEED = b64decode(SECRET)
PUBLIC = b64decode(API_KEY)
# A seed whose base64 differs between the two alphabets.
ODD_SEED = bytes(range(256 - 32, 256))
ODD_PUBLIC = SigningKey(ODD_SEED).verify_key.encode()

seeds = st.binary(min_size=32, max_size=32)


@examples(25)
@given(seeds)
def test_every_spelling_of_a_key_gives_the_same_credentials(seed: bytes) -> None:
    public = SigningKey(seed).verify_key.encode()
    expected = b64encode(public).decode()
    both = seed + public
    spellings = [form for raw in (seed, both) for form in (raw.hex(), raw.hex().upper(), b64encode(raw).decode())]
    spellings += [urlsafe_b64encode(raw).decode() for raw in (seed, both)]
    spellings += [f" {text.rstrip('=')}\n" for text in spellings]
    for text in spellings:
        credentials = Credentials(text, public_key=public.hex(), api_key=expected)
        assert credentials.api_key == expected
        assert verify_signature(expected, credentials.sign("text"), "text")


def test_text_is_signed_as_utf8() -> None:
    credentials = Credentials(SECRET)
    assert credentials.api_key == API_KEY
    assert credentials.sign("é") == credentials.sign("é".encode())
    assert credentials.sign("é") == b64encode(SigningKey(SEED).sign("é".encode()).signature).decode()


@pytest.mark.parametrize(
    "private_key",
    [
        "",
        "secret",
        SECRET[:-2],
        "0x" + SEED.hex(),
        SEED.hex()[:-1],
        SEED.hex()[:-1] + "g",
        SECRET.replace("=", "==="),
        SECRET[:-2] + "9=",  # the last character holds bits that no key has
        b64encode(SEED[:31]).decode(),
        b64encode(SEED + SEED[:31]).decode(),
        b64encode(ODD_SEED).decode().replace("+", "-", 1),  # both alphabets in one key
        SECRET[:20] + " " + SECRET[20:],
        "ü" * 44,
        "\ud800" * 44,
        SEED,
        None,
    ],
)
def test_what_is_no_private_key_is_refused(private_key: Any) -> None:
    with pytest.raises(InvalidKey, match=r"^the private key is not 32 or 64 bytes in hex or base64$"):
        Credentials(private_key)


def test_the_second_half_of_a_long_key_must_be_the_public_key() -> None:
    for text in ((SEED + ODD_PUBLIC).hex(), b64encode(SEED + SEED).decode()):
        with pytest.raises(InvalidKey, match="second half"):
            Credentials(text)


@pytest.mark.parametrize("name", ["api_key", "public_key"])
def test_keys_that_do_not_belong_together_are_refused(name: str) -> None:
    for text in (ODD_PUBLIC.hex(), b64encode(ODD_PUBLIC).decode(), SECRET):
        with pytest.raises(InvalidKey, match=f"^{name} does not belong to the private key$"):
            Credentials(SECRET, **{name: text})
    for text in ("", "your-api-key", (SEED + PUBLIC).hex()):
        with pytest.raises(InvalidKey, match=f"^{name} is not 32 bytes in hex or base64$"):
            Credentials(SECRET, **{name: text})


@pytest.mark.parametrize("passphrase", ["", " blank", "blank ", "two\nlines", "naïve", 7])
def test_a_passphrase_must_fit_a_header(passphrase: Any) -> None:
    with pytest.raises(InvalidKey, match="passphrase"):
        Credentials(SECRET, passphrase=passphrase)


def test_the_passphrase_is_a_header_or_nothing() -> None:
    assert Credentials(SECRET, passphrase="open sesame").passphrase_header() == (("X-Passphrase", "open sesame"),)
    assert Credentials(SECRET).passphrase_header() == ()


def material(*more: str) -> list[str]:
    """Everything that must never be seen, in the forms in which it could be."""
    return [SECRET, SECRET[4:20], SEED.hex(), repr(SEED), repr(SEED)[2:-1], str(list(SEED))[1:-1], *more]


def test_nothing_that_prints_credentials_shows_the_secret() -> None:
    credentials = Credentials(SECRET, passphrase="open sesame")
    assert repr(credentials) == "Credentials(A6EHv/PO...)"
    shown = [
        repr(credentials),
        str(credentials),
        f"{credentials}",
        f"{credentials!s:>60}",
        "%s %r" % (credentials, credentials),  # noqa: UP031 - one of the ways to print
    ]
    shown += [f"{[credentials]}", repr({"credentials": credentials})]
    shown += [f"{getattr(credentials, name)!r} {getattr(credentials, name)}" for name in Credentials.__slots__]
    shown.append(repr(credentials.__getstate__()))
    for text in shown:
        assert not any(secret in text for secret in material("open sesame"))


def test_credentials_have_no_dictionary_and_refuse_to_be_serialised() -> None:
    credentials = Credentials(SECRET)
    with pytest.raises(TypeError):
        vars(credentials)
    with pytest.raises(TypeError):
        format(credentials, "s" * 5)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(credentials, protocol)
    with pytest.raises(TypeError):
        msgspec.json.encode(credentials)
    with pytest.raises(AttributeError):
        credentials.api_key = "other"  # type: ignore[misc]


def test_a_copy_is_the_same_object() -> None:
    credentials = Credentials(SECRET)
    assert copy.copy(credentials) is credentials
    assert copy.deepcopy({"nested": [credentials]})["nested"][0] is credentials


@pytest.mark.parametrize(
    "arguments",
    [
        {"private_key": SECRET + "!"},
        {"private_key": SECRET, "public_key": ODD_PUBLIC.hex()},
        {"private_key": SECRET, "public_key": SECRET},
        {"private_key": SECRET, "api_key": "é" + SECRET},
        {"private_key": SECRET, "passphrase": "open sesame\n"},
        {"private_key": (SEED + SEED).hex()},
    ],
)
def test_a_refusal_holds_no_material_in_text_context_or_locals(arguments: dict[str, str]) -> None:
    with pytest.raises(InvalidKey) as caught:
        Credentials(**arguments)
    secrets = material("open sesame", ODD_PUBLIC.hex(), *arguments.values())
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_globals["__name__"] != __name__]
    assert frames
    shown = [str(error), repr(error), repr(error.args), *(repr(list(frame.f_locals)) for frame in frames)]
    shown += [repr(value) for frame in frames for name, value in frame.f_locals.items() if name != "self"]
    for text in shown:
        assert not any(secret in text for secret in secrets)


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=20))
def test_garbage_is_no_signature_and_no_error(api_key: str, signature: str, text: str) -> None:
    good = Credentials(SECRET).sign(b"text")
    assert verify_signature(api_key, signature, text) is False
    assert verify_signature(API_KEY, signature, text) is False
    assert verify_signature(api_key, good, "text") is False
    assert verify_signature(API_KEY, good, text) is (text == "text")
    assert verify_signature(API_KEY, good, "\ud800") is False


def test_what_is_not_even_text_is_no_signature() -> None:
    thing: Any = None
    assert verify_signature(thing, thing, "text") is False


@given(seeds, st.binary(min_size=64, max_size=64), st.binary(max_size=20))
def test_well_formed_garbage_is_no_signature_either(key: bytes, signature: bytes, text: bytes) -> None:
    assert verify_signature(b64encode(key).decode(), b64encode(signature).decode(), text) is False


def test_a_signature_holds_for_its_text_and_key_only() -> None:
    good = Credentials(SECRET).sign("text")
    assert verify_signature(API_KEY, good, b"text")
    assert not verify_signature(API_KEY, good, "texT")
    assert not verify_signature(b64encode(ODD_PUBLIC).decode(), good, "text")
    assert not verify_signature(API_KEY.rstrip("="), good, "text")
