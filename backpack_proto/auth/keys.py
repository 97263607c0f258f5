"""Key material of one account: the only module that sees it.

Secrets sit in closures, not in attributes, because `str()` of PyNaCl's own key object is the raw seed. Errors are made where no
local variable and no chained exception holds any of it (docs/protocol.md 2.1). `material` and `key_text` know the forms of keys, and raise no errors that have seen one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, NoReturn, Self

from backpack_proto.errors import InvalidKey

from .key_text import HiddenText, KeyTexts, hide, parse_keys
from .material import KEY_BYTES, from_base64, open_private, read_public

__all__ = ["THROWAWAY_API_KEY", "THROWAWAY_SECRET", "Credentials", "read_public_key", "verify_signature"]

THROWAWAY_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # noqa: S105 - the bytes 0 to 31, known to everybody
"""Private key of the account that every simulated exchange has unless told otherwise (docs/protocol.md 2.1)."""

THROWAWAY_API_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
"""The API key that belongs to `THROWAWAY_SECRET`."""

_SIGNATURE_BYTES = 64


class Credentials:
    """The keys of one account: it signs, and never shows its keys.

    `private_key` is the 32-byte Ed25519 seed, or the 64 bytes of seed and public key. `public_key` and `api_key` are optional and
    must belong to it (the exchange's API key is the public key). Each is hex, or base64 of either alphabet with or without its
    padding, or PEM (PKCS#8). White space around it is ignored. `passphrase` is sent by the `request` scheme only. Source: docs/protocol.md 2.1.

    Raises:
        InvalidKey: a key is malformed or does not belong to the private key, or a header cannot carry the passphrase. Neither the
            text nor the frames of this module in the traceback hold any of them.
    """

    __slots__ = ("_api_key", "_passphrase", "_sign")

    def __init__(
        self,
        private_key: str,
        *,
        api_key: str | None = None,
        public_key: str | None = None,
        passphrase: str | None = None,
    ) -> None:
        # Tools that print the locals of a traceback ask for the repr of objects that could not be made as well.
        self._api_key = ""
        opened = open_private(private_key)
        problem = opened if isinstance(opened, str) else _mismatch(opened[1], api_key=api_key, public_key=public_key)
        if not problem and passphrase is not None and not _fits_header(passphrase):
            problem = "the passphrase is not printable ASCII text"
        if problem or isinstance(opened, str):
            # For tools that print the locals of every frame of a traceback.
            del private_key, api_key, public_key, passphrase
            raise InvalidKey(problem)
        self._sign, public = opened
        self._passphrase: Callable[[], str | None] = lambda: passphrase
        self._api_key = b64encode(public).decode()

    @classmethod
    def from_text(cls, text: str | bytes) -> Self:
        """Read the keys in a text: JSON, lines of NAME=VALUE, one bare key or two, or PEM (docs/ways-in.md).

        Raises:
            InvalidKey: there is no private key in it, a key is malformed, or another does not belong to the private one.
        """
        hidden = hide(text)
        del text
        return cls._of(parse_keys(hidden), "the text")

    @classmethod
    def _of(cls, keys: KeyTexts, where: str) -> Self:
        """Make them of keys as they were written. Nothing that was revealed is a local variable of this frame."""
        if keys.private_key is None:
            raise InvalidKey(f"there is no private key in {where}")
        return cls(
            keys.private_key.reveal(),
            api_key=_revealed(keys.api_key),
            public_key=_revealed(keys.public_key),
            passphrase=_revealed(keys.passphrase),
        )

    @property
    def api_key(self) -> str:
        """The public key in base64, as `X-API-Key` carries it."""
        return self._api_key

    def sign(self, text: str | bytes) -> str:
        """Return the signature of a text (UTF-8) in base64.

        Raises:
            TypeError: it is neither text nor bytes.
        """
        if not isinstance(text, str | bytes):
            # PyNaCl would say so too, from frames that have the seed among their locals.
            raise TypeError("what is signed is text or bytes")
        return b64encode(self._sign(text.encode() if isinstance(text, str) else text)).decode()

    def passphrase_header(self) -> tuple[tuple[str, str], ...]:
        """Return the `X-Passphrase` header, or no header without a passphrase."""
        passphrase = self._passphrase()
        return () if passphrase is None else (("X-Passphrase", passphrase),)

    def __repr__(self) -> str:
        """Show the beginning of the public key only."""
        return f"Credentials({self._api_key[:8]}...)"

    def __copy__(self) -> Self:
        """Return itself: it cannot change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: secrets are not multiplied."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("credentials cannot be pickled")


def read_public_key(text: str) -> str | None:
    """Return a public key, given in hex or base64 of either alphabet, in base64 as `X-API-Key` carries it, or None if it is invalid."""
    raw = read_public(text)
    return None if raw is None else b64encode(raw).decode()


def verify_signature(api_key: str, signature: str, text: str | bytes) -> bool:
    """Return whether `signature` (base64) of `text` was made with the private key behind `api_key` (base64), or False for any garbage."""
    key = from_base64(api_key)
    signed = from_base64(signature)
    if key is None or signed is None or len(key) != KEY_BYTES or len(signed) != _SIGNATURE_BYTES:
        return False
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415 - see the module's docstring
    from nacl.signing import VerifyKey  # noqa: PLC0415 - see the module's docstring

    try:
        VerifyKey(key).verify(text.encode(errors="surrogatepass") if isinstance(text, str) else text, signed)
    except BadSignatureError:
        return False
    return True


def _mismatch(public: bytes, **keys: str | None) -> str:
    """Return the fault of the keys that should be the public one, or an empty text."""
    for name, text in keys.items():
        raw = read_public(text)
        if text is not None and raw is None:
            return f"{name} is not 32 bytes in hex or base64"
        if text is not None and raw != public:
            return f"{name} does not belong to the private key"
    return ""


def _revealed(text: HiddenText | None) -> str | None:
    return None if text is None else text.reveal()


def _fits_header(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and text == text.strip() and bool(text)
