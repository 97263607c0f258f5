"""Signatures for requests that a program sends by itself, with the keys of a feed's config."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn, cast, final
from urllib.parse import parse_qsl

from backpack_proto.auth.signing import Parameters, Scheme
from backpack_proto.errors import LocalProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.rest.endpoints.table import find_endpoint

from .config.model import BackpackConfig
from .errors import BackpackAuthError

__all__ = ["BackpackAuthHelper"]


@final
class BackpackAuthHelper:
    """Signatures and headers with the keys of a `BackpackConfig`, or of a mapping of its fields.

    Raises:
        BackpackAuthError: it has no keys.
    """

    def __init__(self, config: BackpackConfig | Mapping[str, Any]) -> None:
        try:
            settings = BackpackConfig.coerce(config)
        finally:
            del config
        signer = settings.signer()
        if signer is None or settings.auth is None:
            raise BackpackAuthError("signing requires auth credentials, and the config has none")
        self._signer = signer
        self._credentials = settings.auth.credentials

    def sign_message(self, message: str | bytes) -> str:
        """Return the signature of a text (UTF-8) in base64.

        Raises:
            BackpackAuthError: it is neither text nor bytes.
        """
        try:
            return self._credentials.sign(message)
        except (TypeError, UnicodeEncodeError):
            raise BackpackAuthError("what is signed is Unicode text, or bytes") from None

    def build_headers(
        self, *, method: str, path: str, body: str | bytes = "", timestamp_us: int | None = None
    ) -> dict[str, str]:
        """Return the headers that sign a request.

        In either scheme `path` is as it is sent, with its query, and so is `body`. The parts that the `instruction` scheme signs
        follow from the table of endpoints. `timestamp_us` is the exchange's time in microseconds, this machine's by default.

        Raises:
            BackpackAuthError: there is no such endpoint, it is not signed, or its parameters cannot be signed.
        """
        timestamp_us = time.time_ns() // 1000 if timestamp_us is None else timestamp_us
        given: list[tuple[object, Any]] = [(method, str), (path, str), (body, str | bytes), (timestamp_us, int)]
        if not all(isinstance(value, kind) for value, kind in given):
            raise BackpackAuthError("method and path are text, body is text or bytes, timestamp_us is a whole number")
        try:
            request = HttpRequest(method=method.upper(), target=path, body=body if isinstance(body, bytes) else body.encode())
            instruction, parameters = ("", {}) if self._signer.scheme is Scheme.REQUEST else _instructed(request)
            headers = self._signer.headers(request, instruction=instruction, parameters=parameters, unix_us=timestamp_us)
        except LocalProtocolError as error:
            raise BackpackAuthError(str(error)) from None
        except UnicodeEncodeError:
            raise BackpackAuthError("method, path and body are Unicode text") from None
        return dict(headers)

    def __repr__(self) -> str:
        """Show the public parts."""
        return f"BackpackAuthHelper({self._signer!r})"


def _instructed(request: HttpRequest) -> tuple[str, Parameters | Sequence[Parameters]]:
    """Return the instruction of a request, and the signed parameters of its query or body.

    Raises:
        BackpackAuthError: there is no such endpoint, or it is not signed.
        LocalProtocolError: the parameters cannot be read.
    """
    path, _, query = request.target.partition("?")
    endpoint = find_endpoint(f"{request.method} {path}")
    if endpoint.instruction is None:
        raise BackpackAuthError(f"{endpoint.route} is public: it is not signed")
    in_query = request.method == "GET"
    if query and not in_query:
        raise LocalProtocolError(f"the parameters of {endpoint.route} stand in its body, not in a query")
    if request.body and in_query:
        raise LocalProtocolError(f"the parameters of {endpoint.route} stand in its query, not in a body")
    return endpoint.instruction, _unique(parse_qsl(query, keep_blank_values=True)) if in_query else _members(request.body)


def _members(body: bytes) -> Parameters | Sequence[Parameters]:
    """Return the contents of a JSON body, numbers with the very digits that it has (docs/protocol.md 2.2)."""
    if not body:
        return {}
    try:
        decoded = json.loads(body.decode(), parse_float=_number, parse_constant=_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise LocalProtocolError("the body is not JSON") from None
    orders = decoded if isinstance(decoded, list) else [decoded]
    if not all(isinstance(order, dict) for order in orders):
        raise LocalProtocolError("the body is a JSON object, or an array of such")
    return cast("Parameters | Sequence[Parameters]", decoded)


def _number(text: str) -> Decimal:
    if not text.removeprefix("-").replace(".", "", 1).isdigit():
        _refuse(f"a number is written in plain digits, not as {text}")
    return Decimal(text)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of names that stand there once, each with a value: the exchange's reading of others is not known."""
    members = dict(pairs)
    if len(members) < len(pairs):
        _refuse("a parameter stands there twice")
    for name, value in pairs:
        if value is None:
            _refuse(f"{name} is null; leave it out")
    return members


def _refuse(reason: str) -> NoReturn:
    raise LocalProtocolError(reason)
