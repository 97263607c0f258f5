"""REST: from a call to a request, and from a response to a typed answer or an error.

The parameters of a call are checked against its row of the endpoint table when it is made, once, by `Endpoint.check`. From the checked
parameters a request is built and signed when it is sent, once. A response is read by the same row. The
exchange's errors are JSON with a code, except when a parameter could not be parsed or a path does not exist, which is plain text
(docs/protocol.md 1.4). Both become `ApiError`. A call that changes something has a third end: the exchange, or a program between,
broke down, or its answer cannot be read. It may have had its effect, so that is an `OutcomeUnknown`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, cast, get_args, get_origin

from msgspec import Struct

from backpack_proto.auth.signing import Signer, json_body, query_string
from backpack_proto.decoding import Rows, decode_json, decode_rows, whole_number
from backpack_proto.errors import (
    ApiError,
    BackpackError,
    LocalProtocolError,
    NothingTraded,
    OutcomeUnknown,
    PartlyUnreadable,
    RemoteProtocolError,
)
from backpack_proto.http import Headers, HttpRequest, Parameter
from backpack_proto.inputs import Arguments
from backpack_proto.text import printable

from .endpoints.table import ENDPOINTS, Checked, Endpoint, find_endpoint
from .results.market_data import DepthSnapshot, Page, ServerTime

__all__ = [
    "ENDPOINTS",
    "DepthSnapshot",
    "Endpoint",
    "Page",
    "ServerTime",
    "build_request",
    "find_endpoint",
    "outcome_unknown",
    "parse_response",
    "redirect_refused",
    "refused_as_expired",
    "refused_authentication",
    "retry_after_us",
]

UNSAID_RETRY_US: Final = 1_000_000
"""Wait before another try when the exchange does not say."""

_NOTHING: Checked = MappingProxyType({})
_LONGEST_RETRY_S = 10**12
_JSON = (("Content-Type", "application/json; charset=utf-8"),)
_EXCERPT = 200
_ORIGIN = re.compile(r"(https?|wss?)://(?:[^/?#@\s]*@)?([\w.:\[\]-]{1,255})", re.ASCII | re.IGNORECASE)
"""Scheme and authority of an absolute URL."""
_TIMEOUT_CODE = "TIMEOUT"
_REQUEST_TIMEOUT = 408
_CLIENT_IDS = ("clientId", "clientStrategyId")
_ORDER_IDS = ("orderId", "strategyId", "quoteId", "rfqId")


class _ErrorBody(Struct, frozen=True, gc=False):
    code: str | int
    message: str | None = None


def build_request(
    endpoint: Endpoint,
    parameters: Checked = _NOTHING,
    *,
    signer: Signer | None = None,
    unix_us: int | None = None,
) -> HttpRequest:
    """Make the request of a call of parameters that `endpoint.check` returned.

    `signer` and `unix_us`, the exchange's time in microseconds, are needed by private endpoints. Public ones are never signed.

    Raises:
        LocalProtocolError: a private endpoint cannot be signed.
    """
    content = _content(parameters)
    target, body = endpoint.path, b""
    headers: Headers = ()
    if endpoint.method != "GET":
        headers, body = _JSON, json_body(content)
    elif isinstance(content, Mapping) and content:
        target = f"{endpoint.path}?{query_string(content)}"
    request = HttpRequest(method=endpoint.method, target=target, headers=headers, body=body)
    if endpoint.instruction is None:
        return request
    if signer is None or unix_us is None:
        raise LocalProtocolError(
            f"{endpoint.name} is private: it needs credentials to be signed with; give signer=Signer(Credentials(private_key))"
        )
    signed = signer.headers(request, instruction=endpoint.instruction, parameters=content, unix_us=unix_us)
    return HttpRequest(method=endpoint.method, target=target, headers=headers + signed, body=body)


def parse_response(
    endpoint: Endpoint,
    parameters: Arguments,
    *,
    status: int,
    body: bytes,
    retry_after_us: int | None = None,
    headers: Headers = (),
) -> object:
    """Return the typed answer of a call, `endpoint.result`. None only where that is the type.

    `parameters` are those of the request, for a snapshot repeats some of them. `retry_after_us` is the Retry-After header, if any.
    `headers` hold the page counts of a history, which is a `Page` with or without them.

    Raises:
        ApiError: the exchange refused. Its `retry_after_us` is None when another try would fail the same way.
        NothingTraded: there was no trade to answer with yet.
        OutcomeUnknown: the call was to change something, and may have done so. A 202 says that it was accepted and no more.
        PartlyUnreadable: some rows of a list cannot be read.
        RemoteProtocolError: the exchange accepted, but its answer cannot be read.
    """
    checked = cast("Checked", {name: value for name, value in parameters.items() if value is not None})
    if not 200 <= status < 300:
        refusal = _refusal(endpoint, status, body, retry_after_us, headers)
        if not endpoint.idempotent and (status >= 500 or status == _REQUEST_TIMEOUT or refusal.code == _TIMEOUT_CODE):
            raise outcome_unknown(endpoint, checked, f"answered {status} {refusal.code} {refusal.message}".rstrip())
        raise refusal
    if endpoint.result is None:
        return None
    if status in (HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT) and not body.strip():
        raise _empty(endpoint, checked, status)
    try:
        answer = _read(endpoint, body, checked)
    except RemoteProtocolError as error:
        if endpoint.idempotent:
            raise
        raise outcome_unknown(endpoint, checked, f"accepted, but the answer cannot be read: {error}") from None
    return _page(answer, headers) if endpoint.paged else answer


def _empty(endpoint: Endpoint, parameters: Checked, status: int) -> BackpackError:
    """Return the error that stands for an answer without a body (docs/protocol.md 1.4)."""
    if not endpoint.idempotent:
        return outcome_unknown(endpoint, parameters, f"accepted with {status}, without a word on how it ends")
    if endpoint.may_be_empty and status == HTTPStatus.NO_CONTENT:
        return NothingTraded(endpoint=endpoint.route, symbol=str(parameters.get("symbol")))
    return RemoteProtocolError(f"{endpoint.name}: {status} without a body")


def _read(endpoint: Endpoint, body: bytes, parameters: Checked) -> object:
    """Read a body. The rows of a list are read one by one where the whole cannot be read."""
    answer: object
    if endpoint.read is not None:
        answer = endpoint.read(body, parameters)
    elif get_origin(endpoint.result) is tuple:
        answer = decode_rows(body, get_args(endpoint.result)[0], endpoint.name)
    else:
        answer = decode_json(body, endpoint.result, endpoint.name)
    if not isinstance(answer, Rows):
        return answer
    if answer.errors:
        raise PartlyUnreadable(endpoint=endpoint.route, rows=answer.rows, errors=answer.errors)
    return answer.rows


def outcome_unknown(endpoint: Endpoint, parameters: Checked, reason: str) -> OutcomeUnknown:
    """Return the error of a call that may have had its effect, with the names that it can be looked up by."""
    content = _content(parameters)
    if not isinstance(content, Mapping):
        orders = tuple((str(order["symbol"]), _client_id(order)) for order in content)
        return OutcomeUnknown(endpoint=endpoint.route, reason=reason, orders=orders)
    symbol = content.get("symbol")
    return OutcomeUnknown(
        endpoint=endpoint.route,
        reason=reason,
        symbol=None if symbol is None else str(symbol),
        client_id=next((content[name] for name in _CLIENT_IDS if name in content), None),
        order_id=next((content[name] for name in _ORDER_IDS if name in content), None),
    )


def retry_after_us(headers: Headers) -> int | None:
    """Return how long a response asks to wait before the next try, in microseconds, or None when it does not say.

    The exchange was never seen to send a Retry-After (docs/protocol.md 1.3). Seconds are read, a date is not.
    """
    seconds = next((whole_number(value) for name, value in headers if name.casefold() == "retry-after"), None)
    return None if seconds is None else min(seconds, _LONGEST_RETRY_S) * 1_000_000


def redirect_refused(location: str) -> str:
    """Error text for a redirect, which is never followed: a signed request is for the host that it was addressed to."""
    origin = _ORIGIN.match(location)
    return f"a redirect to {'another path' if origin is None else f'{origin[1]}://{origin[2]}'}, which is not followed"


def refused_authentication(error: ApiError) -> bool:
    """Return whether a refusal is about the signature: wrong key, wrong text or wrong time.

    Such errors have no code of their own (docs/protocol.md 1.4), so the status and the text decide.
    """
    message = error.message.casefold()
    return error.status == 401 or error.code == "INVALID_SIGNATURE" or "signature" in message or refused_as_expired(error)


def refused_as_expired(error: ApiError) -> bool:
    """Return whether a refusal says that the signature was too old, or too far ahead: one of the two clocks is wrong."""
    return "expired" in error.message.casefold()


def _content(checked: Checked) -> Mapping[str, Parameter] | Sequence[Mapping[str, Parameter]]:
    """Return the parameters, or the orders of a batch, as they are signed and sent."""
    single: dict[str, Parameter] = {}
    for name, value in checked.items():
        if not isinstance(value, str | int):
            return value
        single[name] = value
    return single


def _client_id(order: Mapping[str, Parameter]) -> int | None:
    client_id = order.get("clientId")
    return client_id if isinstance(client_id, int) else None


def _page(rows: object, headers: Headers) -> Page[object]:
    counts = {name.casefold(): whole_number(value) for name, value in headers}
    return Page(
        rows=tuple(rows) if isinstance(rows, Sequence) else (),
        total=counts.get("x-total"),
        page_count=counts.get("x-page-count"),
        page_number=counts.get("x-current-page"),
        page_size=counts.get("x-page-size"),
    )


def _refusal(endpoint: Endpoint, status: int, body: bytes, retry_after_us: int | None, headers: Headers) -> ApiError:
    if 300 <= status < 400:
        message = redirect_refused(next((value for name, value in headers if name.casefold() == "location"), ""))
        return ApiError(status=status, code="", message=message, endpoint=endpoint.route)
    try:
        error = decode_json(body, _ErrorBody, "error")
    except RemoteProtocolError:
        code, message = "", body[: 4 * _EXCERPT].decode(errors="replace").strip()[:_EXCERPT]
    else:
        code, message = str(error.code), error.message or ""
    if retry_after_us is not None:
        retry_after_us = max(0, retry_after_us)
    elif status == 429 or status >= 500:
        retry_after_us = UNSAID_RETRY_US
    return ApiError(
        status=status,
        code=printable(code),
        message=printable(message),
        endpoint=endpoint.route,
        retry_after_us=retry_after_us,
    )
