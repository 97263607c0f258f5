"""The signed text, and the headers that carry the signature (docs/protocol.md section 2).

Two schemes share one `Signer`. `instruction` is the exchange's own: the name of the instruction and the sorted parameters are
signed, with a timestamp in milliseconds. `request` signs timestamp (microseconds), method, path and body, and may carry a
passphrase. A subscription on the websocket has one form only, `instruction=subscribe`.

The signed values are the sent values: each value is turned into text once, by `encode_value`, and that text goes raw into the signed
string, percent-encoded into a query and as it is into a JSON body. `keys.verify_signature` is the other end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias, final
from urllib.parse import quote

import msgspec

from backpack_proto.decoding import is_unicode, sane
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.hints import one_of, shown
from backpack_proto.http import Argument, Headers, HttpRequest

from .keys import Credentials

__all__ = [
    "DEFAULT_WINDOW_MS",
    "MAX_EXCHANGE_WINDOW_MS",
    "MAX_WINDOW_MS",
    "Argument",
    "Parameters",
    "Scheme",
    "Signer",
    "encode_value",
    "json_body",
    "query_string",
    "request_text",
    "signed_headers",
    "signing_string",
]

Parameters: TypeAlias = Mapping[str, Argument]

DEFAULT_WINDOW_MS: Final = 5_000
MAX_WINDOW_MS: Final = 10_000
"""The longest window that a `Signer` uses: a signed request that leaks is worth something for that long."""
MAX_EXCHANGE_WINDOW_MS: Final = 60_000
"""The longest window that the exchange accepts (docs/protocol.md 2.1)."""


class Scheme(StrEnum):
    """Scope of a signature."""

    INSTRUCTION = "instruction"
    """Instruction and parameters: accepted by the exchange."""
    REQUEST = "request"
    """Timestamp, method, path and body."""


@final
class Signer:
    """Signs REST requests and private subscriptions with one set of credentials, in one scheme.

    `window_ms` is the time that a signature is good for, 1 to `MAX_WINDOW_MS`. `api_key` is the value of `X-API-Key` in the `request`
    scheme, for users whose API key is not the public key. All else that is signed names the public key.

    Raises:
        ConfigurationError: the window is out of range, or the scheme does not exist.
    """

    __slots__ = ("_credentials", "_request_api_key", "_scheme", "_window_ms")

    def __init__(
        self,
        credentials: Credentials,
        *,
        scheme: str = Scheme.INSTRUCTION,
        window_ms: int = DEFAULT_WINDOW_MS,
        api_key: str | None = None,
    ) -> None:
        _check_window(window_ms, MAX_WINDOW_MS)
        if scheme not in list(Scheme):
            raise ConfigurationError(one_of("scheme", scheme, list(Scheme)))
        self._credentials = credentials
        self._request_api_key = credentials.api_key if api_key is None else api_key
        self._scheme = Scheme(scheme)
        self._window_ms = window_ms

    @property
    def api_key(self) -> str:
        """The public key in base64."""
        return self._credentials.api_key

    @property
    def scheme(self) -> Scheme:
        """Scope of a signature of a request."""
        return self._scheme

    @property
    def window_ms(self) -> int:
        """Time that a signature is good for, in milliseconds."""
        return self._window_ms

    def headers(
        self, request: HttpRequest, *, instruction: str, parameters: Parameters | Sequence[Parameters], unix_us: int
    ) -> Headers:
        """Sign one request. Of all that is given, each scheme signs its own part.

        `request` is complete but for these headers, `parameters` are those of its query or its body (a sequence: a batch of
        orders), `unix_us` the exchange's time in microseconds.

        Raises:
            LocalProtocolError: a value cannot be signed.
        """
        if self._scheme is Scheme.REQUEST:
            text = request_text(request.method, request.target, request.body, timestamp_us=unix_us)
            signed = signed_headers(
                self._credentials, text, timestamp=unix_us, window_ms=self._window_ms, api_key=self._request_api_key
            )
            return signed + self._credentials.passphrase_header()
        timestamp_ms = unix_us // 1000
        string = signing_string(instruction, parameters, timestamp_ms=timestamp_ms, window_ms=self._window_ms)
        return signed_headers(self._credentials, string, timestamp=timestamp_ms, window_ms=self._window_ms)

    def subscribe_signature(self, unix_us: int) -> tuple[str, str, str, str]:
        """Sign a subscription to private streams: API key, signature, timestamp in ms and window in ms, all of them strings.

        `unix_us` is the exchange's time in microseconds. Stream names are not signed (docs/protocol.md 3.1).
        """
        timestamp_ms = unix_us // 1000
        text = signing_string("subscribe", {}, timestamp_ms=timestamp_ms, window_ms=self._window_ms)
        return (self.api_key, self._credentials.sign(text), str(timestamp_ms), str(self._window_ms))

    def __repr__(self) -> str:
        """Show the public parts."""
        return f"Signer({self._credentials!r}, scheme={self._scheme.value!r}, window_ms={self._window_ms})"


def encode_value(name: str, value: Argument) -> str:
    """Turn one value into the text that is signed and sent: booleans in lower case, decimals without an exponent.

    Raises:
        LocalProtocolError: naming the parameter. A float, a decimal that is no usable number, text that is not Unicode, an integer
            of more than 64 bits, or another type.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() if -(2**63) <= value < 2**64:
            return str(int(value))
        case Decimal() if sane(value):
            return f"{value:f}"
        case str() if is_unicode(value):
            # Not str(value): members of a `str, Enum` class would give their name.
            return str.__str__(value)
        case float():
            raise LocalProtocolError(f"{name} is a float; money is a Decimal or a string (docs/protocol.md 2.2)")
        case _:
            raise LocalProtocolError(f"{name} cannot be signed: a {type(value).__name__} of that value has no exact text")


def query_string(parameters: Parameters) -> str:
    """Return parameters as a URL query, sorted and percent-encoded. Those that are None are left out.

    Raises:
        LocalProtocolError: a value has no exact text.
    """
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in _encode(parameters))


def json_body(parameters: Parameters | Sequence[Parameters]) -> bytes:
    """Return parameters as a compact JSON object (a sequence: array of objects) in the order given. None is left out.

    Decimals become strings, for that is how the exchange reads them.

    Raises:
        LocalProtocolError: a value has no exact text.
    """
    if not isinstance(parameters, Mapping):
        return b"[" + b",".join(json_body(order) for order in parameters) + b"]"
    texts = dict(_encode(parameters))
    members = {
        name: value if isinstance(value, int) else texts[name] for name, value in parameters.items() if value is not None
    }
    return msgspec.json.encode(members)


def signing_string(
    instruction: str, parameters: Parameters | Sequence[Parameters], *, timestamp_ms: int, window_ms: int
) -> str:
    """Return the text that the `instruction` scheme signs. Values stand in it raw, not percent-encoded.

    `parameters` are those of the query or the body. A sequence is a batch of orders, each sorted on its own behind its own
    instruction. `window_ms` is 1 to `MAX_EXCHANGE_WINDOW_MS`. Source: docs/protocol.md 2.2.

    Raises:
        LocalProtocolError: a value has no exact text, a batch without orders, or a window out of range.
    """
    _check_window(window_ms, MAX_EXCHANGE_WINDOW_MS)
    groups = [parameters] if isinstance(parameters, Mapping) else parameters
    if not groups:
        raise LocalProtocolError("a batch needs at least one order")
    parts = []
    for group in groups:
        parts.append(f"instruction={instruction}")
        parts.extend(f"{name}={text}" for name, text in _encode(group))
    return "&".join([*parts, f"timestamp={timestamp_ms}", f"window={window_ms}"])


def request_text(method: str, path: str, body: bytes, *, timestamp_us: int) -> bytes:
    """Return the text that the `request` scheme signs: timestamp in microseconds, METHOD, path with its query, body."""
    return f"{timestamp_us}{method.upper()}{path}".encode() + body


def signed_headers(
    credentials: Credentials, text: str | bytes, *, timestamp: int, window_ms: int, api_key: str | None = None
) -> Headers:
    """Return the four headers of a signed request. `timestamp` is in the scheme's unit, the same that stands in `text`.

    `api_key` is the public key unless another one is given.
    """
    return (
        ("X-Timestamp", str(timestamp)),
        ("X-Window", str(window_ms)),
        ("X-API-Key", credentials.api_key if api_key is None else api_key),
        ("X-Signature", credentials.sign(text)),
    )


def _encode(parameters: Parameters) -> list[tuple[str, str]]:
    """Names and texts of the parameters that are not None, sorted by name."""
    return [(name, encode_value(name, value)) for name, value in sorted(parameters.items()) if value is not None]


def _check_window(window_ms: object, maximum: int) -> None:
    if isinstance(window_ms, bool) or not isinstance(window_ms, int) or not 1 <= window_ms <= maximum:
        raise ConfigurationError(f"window_ms: a whole number of milliseconds, from 1 to {maximum}, got {shown(window_ms)}")
