"""Who may see an account: the keys that the simulated exchange knows, and whether a signature is theirs."""

from __future__ import annotations

import re
from base64 import b64decode

from backpack_proto.errors import InvalidKey
from backpack_proto.keys import verify_signature
from backpack_proto.signing import MAX_EXCHANGE_WINDOW_MS, signing_string

__all__ = ["THROWAWAY_API_KEY", "THROWAWAY_SECRET", "Authentication"]

THROWAWAY_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # noqa: S105 - the bytes 0 to 31, known to everybody
"""Private key of the account that every simulated exchange has unless told otherwise (docs/protocol.md 2.1)."""

THROWAWAY_API_KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
"""The API key that belongs to `THROWAWAY_SECRET`."""

_NUMBER = re.compile(r"[0-9]{1,16}")


class Authentication:
    """The API keys that exist, and the check of what claims to be signed with one of them.

    Raises:
        InvalidKey: a key is not the base64 of 32 bytes.
    """

    def __init__(self, *api_keys: str) -> None:
        for api_key in api_keys:
            try:
                size = len(b64decode(api_key, validate=True))
            except ValueError:
                size = 0
            if size != 32:
                raise InvalidKey("an API key is the base64 of 32 bytes")
        self._api_keys = frozenset(api_keys)

    def verify_subscribe(self, signature: object, now_ms: int) -> bool:
        """Whether the `signature` member of a SUBSCRIBE frame is good at that time.

        It is a list of four strings: API key, signature, timestamp in ms, window in ms (docs/protocol.md 3.1). It holds from the
        timestamp on for the length of the window, and a timestamp may be ahead of the exchange by no more than that.
        """
        match signature:
            case [str(api_key), str(signed), str(timestamp), str(window)]:
                pass
            case _:
                return False
        if not _NUMBER.fullmatch(timestamp) or not _NUMBER.fullmatch(window):
            return False
        timestamp_ms, window_ms = int(timestamp), int(window)
        if api_key not in self._api_keys or not 1 <= window_ms <= MAX_EXCHANGE_WINDOW_MS:
            return False
        if abs(now_ms - timestamp_ms) > window_ms:
            return False
        text = signing_string("subscribe", {}, timestamp_ms=timestamp_ms, window_ms=window_ms)
        return verify_signature(api_key, signed, text)
