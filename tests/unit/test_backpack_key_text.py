"""Keys in the forms that people have: all of them give the same credentials, and none of them is repeated by an error."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from backpack_proto.auth.key_text import HiddenText, KeyTexts, hide, parse_keys, pick_keys
from backpack_proto.auth.keys import Credentials
from backpack_proto.errors import InvalidKey
from hypothesis_profiles import examples

SEED = bytes(range(224, 256))  # both characters in which the alphabets of base64 differ
PUBLIC = SigningKey(SEED).verify_key.encode()
SECRET = b64encode(SEED).decode()
API_KEY = b64encode(PUBLIC).decode()
OTHER = b64encode(SigningKey(bytes(32)).verify_key.encode()).decode()
SHOWN_NEVER = (SECRET[:20], SEED.hex()[:20], urlsafe_b64encode(SEED).decode()[:20])


def pem(label: str, der: str, *, end: str = "\n") -> str:
    body = b64encode(bytes.fromhex(der)).decode()
    return end.join(
        [f"-----BEGIN {label}-----", *(body[at : at + 64] for at in range(0, len(body), 64)), f"-----END {label}-----", ""]
    )


# `openssl genpkey -algorithm ed25519`, and version 2 with its public key as two libraries write it.
PKCS8 = pem("PRIVATE KEY", f"302e020100300506032b657004220420{SEED.hex()}")
PKCS8_TWO = pem("PRIVATE KEY", f"3051020101300506032b657004220420{SEED.hex()}812100{PUBLIC.hex()}")
PKCS8_RING = pem("PRIVATE KEY", f"3053020101300506032b657004220420{SEED.hex()}a123032100{PUBLIC.hex()}")
SPKI = pem("PUBLIC KEY", f"302a300506032b6570032100{PUBLIC.hex()}")

PAIR = {"api_key": API_KEY, "private_key": SECRET}
PRIVATE_FORMS = [
    SECRET,
    SECRET.rstrip("="),
    urlsafe_b64encode(SEED).decode(),
    b64encode(SEED + PUBLIC).decode(),
    SEED.hex(),
    SEED.hex().upper(),
    (SEED + PUBLIC).hex(),
]
FORMS = {
    **{f"bare {number}": text for number, text in enumerate(PRIVATE_FORMS)},
    **{f"named {number}": f"secret={text}" for number, text in enumerate(PRIVATE_FORMS)},
    **{f"JSON {number}": json.dumps({"apiKey": API_KEY, "secret": text}) for number, text in enumerate(PRIVATE_FORMS)},
    "two bare lines": f"{API_KEY}\n{SECRET}\n",
    "two bare lines, the private one first": f"{SECRET}\n{API_KEY}",
    "two bare lines of hex and base64": f"{PUBLIC.hex()}\n{SECRET}",
    "quoted bare line": f'"{SECRET}"',
    "camel case": json.dumps({"apiKey": API_KEY, "apiSecret": SECRET}),
    "key and secret": json.dumps({"key": API_KEY, "secret": SECRET}),
    "public and private": json.dumps({"publicKey": API_KEY, "privateKey": SECRET}),
    "indented JSON": json.dumps({"public_key": API_KEY, "private_key": SECRET, "window_ms": 5000}, indent=2),
    "an object by exchange": json.dumps(
        {"binance": {"apiKey": "x", "secret": "y"}, "backpack": {"apiKey": API_KEY, "secret": SECRET}}
    ),
    "an object in an object": json.dumps({"credentials": {"key": API_KEY, "secret": SECRET}, "version": 1}),
    "dotenv": f"# keys\n\nBACKPACK_API_KEY={API_KEY}\nBACKPACK_API_SECRET={SECRET}  # of the bot\n",
    "export": f"export BACKPACK_PRIVATE_KEY='{SECRET}'\nexport BACKPACK_API_KEY=\"{API_KEY}\" # public\n",
    "blanks around the sign": f"api_key = {API_KEY}\nsecret_key =   {SECRET}\n",
    "PowerShell": f'$env:BACKPACK_PRIVATE_KEY="{SECRET}"',
    "INI": f"[backpack]\n; mine\nkey = {API_KEY}\nsecret = {SECRET}\n",
    "YAML": f"api_key: {API_KEY}\nsecret: '{SECRET}'\n",
    "as a web page shows it": f"API Key: {API_KEY}\nAPI Secret: {SECRET}",
    "keys of others beside it": f"API_KEY=abc\nSECRET=def\nBINANCE_SECRET=x\nBACKPACK_SECRET={SECRET}\nBACKPACK_API_KEY={API_KEY}\n",
    "PEM": PKCS8,
    "PEM with both keys": PKCS8_TWO,
    "PEM with a tag more": PKCS8_RING,
    "PEM of both kinds": f"subject=x\n{SPKI}{PKCS8}",
    "PEM and a name": f"{PKCS8}api_key={API_KEY}",
    "PEM in JSON": json.dumps({"private_key": PKCS8, "public_key": SPKI}),
    "PEM in one line": f'BACKPACK_PRIVATE_KEY="{PKCS8.strip()}"'.replace("\n", "\\n"),
    "PEM in quotes": f'BACKPACK_PRIVATE_KEY="{PKCS8.strip()}"\nBACKPACK_API_KEY={API_KEY}',
}


def is_hidden(error: BaseException) -> bool:
    """Return whether neither an error nor the locals of our frames show the key."""
    assert error.__traceback__ is not None
    told = traceback.TracebackException.from_exception(error.with_traceback(error.__traceback__.tb_next), capture_locals=True)
    return not any(form in "".join(told.format()) for form in SHOWN_NEVER)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_gives_the_same_credentials(form: str, end: str, encoding: str) -> None:
    text = FORMS[form].replace("\n", end)
    assert Credentials.from_text(text.encode(encoding)).api_key == API_KEY
    assert Credentials.from_text("\ufeff" + text).api_key == API_KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no key in it"),
        ("nothing", "there is no key in it"),
        ('{"private_key": "', "it is no JSON object"),
        ('{"a": ' + "[" * 50_000, "it is no JSON object"),
        ('{"symbols": ["SOL_USDC"]}', "there is no key in it"),
        (f"api_key={API_KEY}", "there is no private key"),
        (SPKI, "there is no private key"),
        ("secret=your-secret", "not 32 or 64 bytes"),
        (f"secret={SECRET[:-3]}", "not 32 or 64 bytes"),
        (f"api_key={OTHER}\nsecret={SECRET}", "api_key does not belong to the private key"),
        (f"{OTHER}\n{SECRET}", "neither is the public key of the other"),
        (f"{SECRET}\n{API_KEY}\n{OTHER}", "there are 3 keys"),
        (f"secret={SECRET}\nprivate_key={OTHER}", "it has private_key twice, with different values"),
        (f"secret={OTHER}\n{SECRET}", "it has private_key twice, once without a name"),
        (json.dumps({"a": {"secret": SECRET}, "b": {"secret": OTHER}}), "several accounts"),
        (json.dumps({"a": {"secret": SECRET, "private_key": OTHER}}), "private_key twice"),
        (PKCS8.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted PEM: decrypt it first"),
        (PKCS8.replace("PRIVATE", "OPENSSH PRIVATE"), "`BEGIN OPENSSH PRIVATE KEY`"),
        (PKCS8.replace("-----END", "-----"), "without an end"),
        (pem("PRIVATE KEY", f"302e020100300506032b656e04220420{SEED.hex()}"), "not an Ed25519 key"),  # X25519
        (pem("PRIVATE KEY", f"3051020101300506032b657004220420{SEED.hex()}812100{SEED.hex()}"), "second half"),
        (pem("CERTIFICATE", f"302a300506032b6570032100{PUBLIC.hex()}"), "`BEGIN CERTIFICATE` is no Ed25519 key"),
    ],
)
def test_what_holds_no_usable_keys_is_refused_without_being_repeated(text: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason) as caught:
        Credentials.from_text(text)
    assert is_hidden(caught.value)


def test_a_pem_key_is_taken_wherever_a_private_or_public_key_is() -> None:
    assert Credentials(PKCS8, public_key=SPKI, api_key=API_KEY).api_key == API_KEY
    for wrong, reason in ((SPKI, "`BEGIN PUBLIC KEY`"), (PKCS8[:40], "without an end")):
        with pytest.raises(InvalidKey, match=reason):
            Credentials(wrong)
    with pytest.raises(InvalidKey, match="public_key is not 32 bytes"):
        Credentials(PKCS8, public_key=PKCS8)


def test_a_passphrase_is_included() -> None:
    credentials = Credentials.from_text(json.dumps({**PAIR, "passphrase": "open sesame"}))
    assert credentials.passphrase_header() == (("X-Passphrase", "open sesame"),)


def test_named_values_are_picked_by_what_their_names_mean() -> None:
    others = {"HOME": "/", "SECRET": "of another program", "API_KEY": "too"}
    assert not any(pick_keys(others, prefixed=True))
    found = pick_keys({**others, "BACKPACK_PRIVATE_KEY": SECRET, "BPX_API_KEY": "", "Backpack-Exchange-Public-Key": API_KEY})
    assert found.private_key is not None
    assert found.public_key is not None
    assert (found.private_key.reveal(), found.api_key, found.public_key.reveal()) == (SECRET, None, API_KEY)
    with pytest.raises(InvalidKey, match="private_key twice") as caught:
        pick_keys({"BACKPACK_SECRET": SECRET, "BACKPACK_PRIVATE_KEY": OTHER}, prefixed=True)
    assert is_hidden(caught.value)


@examples(200)
@given(st.one_of(st.text(), st.binary(), st.text(alphabet="-BEGIN PRVATKY\n={}\":,#'")))
def test_any_text_is_read_or_refused(content: str | bytes) -> None:
    try:
        found = parse_keys(hide(content))
    except InvalidKey:
        return
    assert isinstance(found, KeyTexts)
    assert all(key is None or isinstance(key, HiddenText) for key in found)


@pytest.mark.parametrize("text", [" " * 60_000 + "x", "a" * 60_000, "a " * 30_000, "a=" + " #" * 30_000 + '"', '"' * 60_000])
def test_a_long_line_takes_no_long_time(text: str) -> None:
    """Steps that were quadratic in its length would run into the limit of the test run."""
    with pytest.raises(InvalidKey):
        Credentials.from_text("x=1\n" + text)
