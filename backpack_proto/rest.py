"""REST: from a call to a request, and from a response to a typed answer or an error.

A request is checked against its row of the endpoint table before anything is sent. A response is read by the same row. The
exchange's errors are JSON with a code, except when a parameter could not be parsed or a path does not exist, which is plain text
(docs/protocol.md 1.4); both become `ApiError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from .decoding import decode
from .endpoints import ENDPOINTS, Endpoint
from .errors import ApiError, LocalProtocolError, RemoteProtocolError
from .inputs import Parameter
from .outputs import HttpRequest
from .results import DepthSnapshot, ServerTime
from .signing import Headers, Signer, json_body, query_string

__all__ = [
    "ENDPOINTS",
    "DepthSnapshot",
    "Endpoint",
    "ServerTime",
    "build_request",
    "parse_response",
    "refused_authentication",
]

RETRY_US: Final = 1_000_000
"""How long to wait before another try when the exchange does not say."""

_NOTHING: Mapping[str, Parameter] = MappingProxyType({})
_JSON = (("Content-Type", "application/json; charset=utf-8"),)
_EXCERPT = 200


class _ErrorBody(Struct, frozen=True, gc=False):
    code: str | int
    message: str | None = None


def build_request(
    endpoint: Endpoint,
    parameters: Mapping[str, Parameter | None] = _NOTHING,
    *,
    signer: Signer | None = None,
    unix_us: int | None = None,
) -> HttpRequest:
    """Make the request of a call; parameters that are None are left out.

    `signer` and `unix_us`, the exchange's time in microseconds, are needed by private endpoints; public ones are never signed.

    Raises:
        LocalProtocolError: a parameter is unknown, missing or not of its shape, or a private endpoint cannot be signed.
    """
    present = {name: value for name, value in parameters.items() if value is not None}
    _check(endpoint, present)
    target, body = endpoint.path, b""
    headers: Headers = ()
    if endpoint.method != "GET":
        headers, body = _JSON, json_body(present)
    elif present:
        target = f"{endpoint.path}?{query_string(present)}"
    request = HttpRequest(method=endpoint.method, target=target, headers=headers, body=body)
    if endpoint.instruction is None:
        return request
    if signer is None or unix_us is None:
        raise LocalProtocolError(f"{endpoint.name} is private: it needs credentials to be signed with")
    signed = signer.headers(request, instruction=endpoint.instruction, parameters=present, unix_us=unix_us)
    return HttpRequest(method=endpoint.method, target=target, headers=headers + signed, body=body)


def parse_response(
    endpoint: Endpoint,
    parameters: Mapping[str, Parameter | None],
    *,
    status: int,
    body: bytes,
    retry_after_us: int | None = None,
) -> object:
    """Return the typed answer of a call, `endpoint.result`; None for an empty 202 or 204.

    `parameters` are those of the call, for a snapshot repeats some of them; `retry_after_us` is the Retry-After header, if any.

    Raises:
        ApiError: the exchange refused; its `retry_after_us` is None when another try would fail the same way, or when the call may
            have had its effect already.
        RemoteProtocolError: the exchange accepted, but its answer cannot be read.
    """
    if not 200 <= status < 300:
        raise _refusal(endpoint, status, body, retry_after_us)
    if status in (202, 204) and not body.strip():
        return None
    if endpoint.read is None:
        return decode(body, endpoint.result, endpoint.name)
    return endpoint.read(body, {name: value for name, value in parameters.items() if value is not None})


def refused_authentication(error: ApiError) -> bool:
    """Whether a refusal is about the signature: wrong key, wrong text or wrong time.

    Such errors have no code of their own (docs/protocol.md 1.4), so the status and the text decide.
    """
    message = error.message.casefold()
    return error.status == 401 or error.code == "INVALID_SIGNATURE" or "signature" in message or "expired" in message


def _check(endpoint: Endpoint, present: Mapping[str, Parameter]) -> None:
    rules = {rule.name: rule for rule in endpoint.parameters}
    for name, value in present.items():
        if name not in rules:
            known = f"it has {', '.join(rules)}" if rules else "it has none"
            raise LocalProtocolError(f"{endpoint.name} has no parameter {name}; {known}")
        try:
            rules[name].check(value)
        except LocalProtocolError as error:
            raise LocalProtocolError(f"{endpoint.name}: {error}") from None
    for rule in endpoint.parameters:
        if rule.required and rule.name not in present:
            raise LocalProtocolError(f"{endpoint.name} needs {rule.name}: {rule.shape}")


def _refusal(endpoint: Endpoint, status: int, body: bytes, retry_after_us: int | None) -> ApiError:
    try:
        error = decode(body, _ErrorBody, "error")
    except RemoteProtocolError:
        code, message = "", body[: 4 * _EXCERPT].decode(errors="replace").strip()[:_EXCERPT]
    else:
        code, message = str(error.code), error.message or ""
    if retry_after_us is not None:
        retry_after_us = max(0, retry_after_us)
    elif status in (429, 503) or (status >= 500 and endpoint.method == "GET"):
        # Any other 5xx leaves open whether an order was placed.
        retry_after_us = RETRY_US
    return ApiError(
        status=status,
        code=code,
        message=message,
        endpoint=f"{endpoint.method} {endpoint.path}",
        retry_after_us=retry_after_us,
    )
