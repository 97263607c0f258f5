"""`backpack-feed auth-check`: keys of an account, checked in a few lines that never hold the private key.

Nothing is sent: whether the exchange knows the key is not found out here. A public value is repeated only when it belongs to the
private key, for otherwise it may be the private key that was given in the wrong place.
"""

from __future__ import annotations

import argparse
from base64 import b64decode
from typing import NamedTuple

from backpack_proto.auth.keys import Credentials, read_public_key
from backpack_proto.auth.signing import DEFAULT_WINDOW_MS, Scheme, Signer, request_text, signing_string
from backpack_proto.errors import InvalidKey
from backpack_proto.http import HttpRequest
from backpack_runtime.key_sources import HiddenText, Keys

from .options import KEYS_COME_FROM, add_key_file, keys_of

__all__ = ["DESCRIPTION", "Report", "add_arguments", "check_keys", "run"]

OK = 0
INVALID = 2
SAMPLE_UNIX_US = 1_700_000_000_000_000
"""A time so long ago that the exchange refuses a signature of it."""
SAMPLE_INSTRUCTION = "balanceQuery"
SAMPLE_REQUEST = HttpRequest(method="GET", target="/api/v1/capital")

_PUBLIC = {"api_key": "API key", "public_key": "public key"}


DESCRIPTION = (
    "Check the format of API keys, whether they belong together, and sign samples. Sends nothing, and never shows the"
    f" private key. {KEYS_COME_FROM} The exit code is 2 when the keys cannot be used."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--api-key", type=HiddenText, metavar="KEY", help="the public key, as the exchange calls it")
    parser.add_argument("--public-key", type=HiddenText, metavar="KEY", help="32 bytes in hex or base64")
    parser.add_argument(
        "--private-key", type=HiddenText, metavar="KEY", help="32 or 64 bytes in hex or base64; arguments show in process lists"
    )
    add_key_file(parser)


def run(parsed: argparse.Namespace) -> int:
    """Print the result of the check of the keys. Return the exit code."""
    report = check_keys(keys_of(parsed))
    print("\n".join(report.lines), flush=True)
    return report.code


class Report(NamedTuple):
    """Lines about keys, and the exit code that sums them up."""

    lines: tuple[str, ...]
    code: int
    """0, or 2 when the last line names a fault."""


def check_keys(keys: Keys) -> Report:
    """Check formats, and whether the public values belong to the private key. Sign samples when all is well."""
    opened = _open(keys.private_key)
    problems = [opened] if isinstance(opened, str) else []
    lines = [
        _line("private key", opened if isinstance(opened, str) else f"well-formed{_source(keys, 'private_key')}, never shown")
    ]
    expected = None if isinstance(opened, str) else opened.api_key
    for name, label in _PUBLIC.items():
        given = keys.api_key if name == "api_key" else keys.public_key
        if given is None:
            lines.append(_line(label, "not given"))
            continue
        problem = _problem(label, given, expected, keys.private_key)
        problems += [problem] if problem else []
        verdict = (
            f"belongs to the private key{_source(keys, name)}"
            if expected
            else "well-formed, but there is nothing to compare it with"
        )
        lines.append(_line(label, problem or verdict))
    if isinstance(opened, Credentials):
        lines += [
            _line("public, base64", opened.api_key),
            _line("public, hex", b64decode(opened.api_key).hex()),
        ]
    if problems or isinstance(opened, str):
        return Report((*lines, f"INVALID: {'; '.join(problems)}"), INVALID)
    return Report((*lines, *_samples(opened), "OK: the keys are well-formed and belong together"), OK)


def _open(private_key: HiddenText | None) -> Credentials | str:
    if private_key is None:
        return "no private key was given"
    try:
        return Credentials(private_key.reveal())
    except InvalidKey as error:
        return str(error)


def _problem(label: str, given: HiddenText, expected: str | None, private_key: HiddenText | None) -> str:
    """Return the fault of a value that should be the public key, or an empty text."""
    public = read_public_key(given.reveal())
    if public is None:
        hint = ": at Backpack it is the public key itself, not a name" if label == "API key" else ""
        return f"the {label} is not 32 bytes in hex or base64{hint}"
    if expected is None or public == expected:
        return ""
    opened = _open(given)
    if private_key is not None and isinstance(opened, Credentials) and opened.api_key == read_public_key(private_key.reveal()):
        return f"the {label} and the private key are swapped"
    return f"the {label} does not belong to the private key"


def _samples(credentials: Credentials) -> list[str]:
    timestamp_ms = SAMPLE_UNIX_US // 1000
    texts = {
        Scheme.INSTRUCTION: signing_string(SAMPLE_INSTRUCTION, {}, timestamp_ms=timestamp_ms, window_ms=DEFAULT_WINDOW_MS),
        Scheme.REQUEST: request_text(
            SAMPLE_REQUEST.method, SAMPLE_REQUEST.target, SAMPLE_REQUEST.body, timestamp_us=SAMPLE_UNIX_US
        ).decode(),
    }
    lines = []
    for scheme, text in texts.items():
        signer = Signer(credentials, scheme=scheme)
        headers = signer.headers(SAMPLE_REQUEST, instruction=SAMPLE_INSTRUCTION, parameters={}, unix_us=SAMPLE_UNIX_US)
        lines += [f"SAMPLE, {scheme.value} scheme, of a moment long past", f"  signed text: {text}"]
        lines += [f"  {name}: {value}" for name, value in headers]
    return lines


def _source(keys: Keys, name: str) -> str:
    return f" ({keys.sources[name]})" if name in keys.sources else ""


def _line(label: str, text: str) -> str:
    return f"{label + ':':<16}{text}"
