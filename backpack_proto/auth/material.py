"""Key material as text: hex, base64 of either alphabet, and PEM, turned into bytes.

Functions return faults as text. An error that was raised here would have the material among the locals of its frames.
PyNaCl is imported with the first key: market data do not need it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator

__all__ = ["KEY_BYTES", "from_base64", "open_private", "pem_blocks", "read_private", "read_public"]

KEY_BYTES = 32
_HEX = re.compile(r"[0-9A-Fa-f]+")

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BLANKS = re.compile(r"\\[nrt]|\s")
"""White space in a PEM, which is written as backslash and letter where it stands in JSON or in one line."""
# The DER of these keys differs only in the key: RFC 8410, section 7 and 10.3.
_PRIVATE_DER = re.compile(
    rb"\x30.\x02\x01[\x00\x01]\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20(.{32})"
    # Version 2 has the public key as well. Some libraries write it with a tag around the tag.
    rb"(?:(?:\x81\x21|\xa1\x23\x03\x21)\x00(.{32}))?",
    re.DOTALL,
)
_PUBLIC_DER = re.compile(rb"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00(.{32})", re.DOTALL)
_PRIVATE_LABEL = "PRIVATE KEY"
_PUBLIC_LABEL = "PUBLIC KEY"
_NO_PRIVATE_KEY = "the private key is not 32 or 64 bytes in hex or base64"


def read_private(text: object) -> bytes | str:
    """Return the 32 or 64 bytes of a private key, or its fault."""
    if isinstance(text, str) and "-----BEGIN" in text:
        found = [(label, raw) for label, raw, _ in pem_blocks(text)]
        if [label for label, _ in found] != [_PRIVATE_LABEL]:
            return _wrong_pem([label for label, _ in found])
        raw = found[0][1]
        return "the private key is PEM, but not an Ed25519 key in PKCS#8" if raw is None else raw
    raw = _read(text)
    return _NO_PRIVATE_KEY if raw is None or len(raw) not in (KEY_BYTES, 2 * KEY_BYTES) else raw


def read_public(text: object) -> bytes | None:
    """Return the 32 bytes of a public key, or None if it is invalid."""
    if isinstance(text, str) and "-----BEGIN" in text:
        found = list(pem_blocks(text))
        return found[0][1] if [label for label, *_ in found] == [_PUBLIC_LABEL] else None
    raw = _read(text)
    return None if raw is None or len(raw) != KEY_BYTES else raw


def pem_blocks(text: str) -> Iterator[tuple[str, bytes | None, str]]:
    """Find the blocks of PEM in a text: the label of each, its key or None where it is of another kind, and the block itself."""
    for block in _PEM.finditer(text):
        label, body = block[1], _BLANKS.sub("", block[2])
        der = from_base64(body)
        raw = None
        if der is not None and label == _PRIVATE_LABEL and der[1:2] == bytes([len(der) - 2 & 0xFF]):
            key = _PRIVATE_DER.fullmatch(der)
            raw = None if key is None else key[1] + (key[2] or b"")
        elif der is not None and label == _PUBLIC_LABEL:
            key = _PUBLIC_DER.fullmatch(der)
            raw = None if key is None else key[1]
        yield label, raw, block[0]


def _wrong_pem(labels: list[str]) -> str:
    if not labels:
        return "the private key is PEM without an end"
    if any("ENCRYPTED" in label for label in labels):
        return "the private key is encrypted PEM: decrypt it first, as by `openssl pkey`"
    wanted = f"one block `BEGIN {_PRIVATE_LABEL}` (Ed25519 in PKCS#8) is wanted"
    return f"the private key is PEM with {', '.join(f'`BEGIN {label}`' for label in labels)}: {wanted}"


def open_private(text: object) -> tuple[Callable[[bytes], bytes], bytes] | str:
    """Return a function that signs with a private key, and its public key, or the fault of the key."""
    raw = read_private(text)
    if isinstance(raw, str):
        return raw
    try:
        from nacl.signing import SigningKey  # noqa: PLC0415 - see the module's docstring
    except ImportError as error:
        return f"PyNaCl cannot be imported: {error}"
    key = SigningKey(raw[:KEY_BYTES])
    public = key.verify_key.encode()
    if raw[KEY_BYTES:] not in (b"", public):
        return "the second half of the private key is not the public key of its first half"

    def sign(text: bytes) -> bytes:
        try:
            return key.sign(text).signature
        except BaseException as error:  # noqa: BLE001 - raised again, without the frames that have the seed among their locals
            failure = error.with_traceback(None)
        raise failure

    return sign, public


def _read(text: object) -> bytes | None:
    """Key material from hex or base64, None when it is neither.

    The two cannot be mixed up: hex of 32 or 64 bytes would be base64 of 48 or 96.
    """
    if not isinstance(text, str):
        return None
    text = text.strip()
    if len(text) in (4 * KEY_BYTES, 2 * KEY_BYTES) and _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            return None
        text = text.replace("-", "+").replace("_", "/")
    return from_base64(text if text.endswith("=") else text + "=" * (-len(text) % 4))


def from_base64(text: object) -> bytes | None:
    """Return bytes from standard base64 in its only canonical form, None for everything else."""
    if not isinstance(text, str):
        return None
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return None
    # The last character may hold bits that decoding ignores: a typing error that would go unseen.
    return raw if b64encode(raw).decode() == text else None
