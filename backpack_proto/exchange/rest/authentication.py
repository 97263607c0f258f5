"""Who may see an account: the keys that the simulated exchange knows, and whether a signature is theirs."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from typing import NoReturn

from backpack_proto.auth.keys import verify_signature
from backpack_proto.auth.signing import DEFAULT_WINDOW_MS, MAX_EXCHANGE_WINDOW_MS, Parameters, request_text, signing_string
from backpack_proto.errors import ApiError, InvalidKey, LocalProtocolError
from backpack_proto.exchange.messages import RequestReceived

__all__ = ["Authentication"]

_NUMBER = re.compile(r"[0-9]{1,16}")


class Authentication:
    """The API keys that exist, and the check of signatures made with one of them.

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
        """Return whether the `signature` member of a SUBSCRIBE frame is good at that time.

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

    def verify_request(
        self, given: RequestReceived, instruction: str, parameters: Parameters | Sequence[Parameters], now_us: int
    ) -> None:
        """Check the signature of a REST request, made in either scheme (docs/protocol.md 2.1 and 2.2).

        The scheme is the one that the signature fits: `instruction` counts in milliseconds, `request` in microseconds. A
        request is good from its timestamp on for the length of its window. A timestamp ahead of the exchange by more than the
        window counts as expired.

        Raises:
            ApiError: it is not signed, not by a key that exists, not rightly, or not lately.
        """
        headers = {name.lower(): value for name, value in given.headers}
        api_key, signature = headers.get("x-api-key"), headers.get("x-signature")
        timestamp, window = headers.get("x-timestamp", ""), headers.get("x-window", str(DEFAULT_WINDOW_MS))
        if api_key is None:
            _refuse("Invalid X-API-Key header")
        if signature is None or not _is_signature(signature):
            _refuse("Invalid X-Signature header")
        if not _NUMBER.fullmatch(timestamp):
            _refuse("Invalid X-Timestamp header")
        if not _NUMBER.fullmatch(window) or not 1 <= int(window) <= MAX_EXCHANGE_WINDOW_MS:
            _refuse("Invalid X-Window header")
        if api_key not in self._api_keys:
            raise ApiError(status=401, code="UNAUTHORIZED", message="Unauthorized", endpoint="")
        stamp, window_ms = int(timestamp), int(window)
        try:
            text = signing_string(instruction, parameters, timestamp_ms=stamp, window_ms=window_ms)
        except LocalProtocolError:  # half of a surrogate pair, or an empty batch: those cannot be signed
            text = ""
        if text and verify_signature(api_key, signature, text):
            signed_us = stamp * 1000
        elif verify_signature(api_key, signature, _whole_request(given, stamp)):
            signed_us = stamp
        else:
            _refuse("Invalid signature")
        if abs(now_us // 1000 - signed_us // 1000) > window_ms:
            _refuse("Request has expired")


def _whole_request(given: RequestReceived, timestamp_us: int) -> bytes:
    target = given.target.encode(errors="replace").decode()
    return request_text(given.method, target, given.body, timestamp_us=timestamp_us)


def _is_signature(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 64
    except ValueError:
        return False


def _refuse(message: str) -> NoReturn:
    raise ApiError(status=400, code="INVALID_CLIENT_REQUEST", message=message, endpoint="")
