"""The control endpoint of a served sandbox: plans its faults while it runs, and shows their state (docs/sandbox.md).

`GET /sandbox/faults` shows the plan, `POST /sandbox/faults` with `{"faults": "gap,mute@5-12"}` begins another one. It belongs to the
process that serves the exchange, not to the exchange: planned faults do not touch it, except that connections are impossible while `refuse` holds.
"""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec
from msgspec import Struct

from backpack_proto.errors import ApiError, LocalProtocolError
from backpack_proto.exchange import FAULT_KINDS, Exchange, PlannedFault, Respond, parse_faults
from backpack_proto.exchange.rest.answers import refuse, respond
from backpack_proto.machine import Now

__all__ = ["FAULTS_PATH", "answer_control", "is_control", "is_loopback"]

FAULTS_PATH: Final = "/sandbox/faults"
_PREFIX: Final = "/sandbox/"


class _Plan(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of a POST: one text, or a list of entries."""

    faults: str | list[str]


_decode_plan = msgspec.json.Decoder(_Plan).decode


def is_control(target: str) -> bool:
    """Return whether a request is for the control endpoint, and not for the exchange."""
    return target.startswith(_PREFIX)


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine's own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def answer_control(
    exchange: Exchange, method: str, target: str, body: bytes, now: Now, *, local: bool
) -> tuple[tuple[PlannedFault, ...] | None, Respond]:
    """Return the plan of a request, or None without one, and the answer to it."""
    path = target.partition("?")[0]
    try:
        if not local:
            raise _error(403, "FORBIDDEN", "the control endpoint answers this machine only: ask from the host of the sandbox")
        if path != FAULTS_PATH:
            raise _error(404, "RESOURCE_NOT_FOUND", f"the control endpoint has {FAULTS_PATH} and nothing else")
        if method.upper() == "GET":
            return None, respond(0, _shown(exchange, now))
        if method.upper() == "POST":
            return _read(body), respond(0, _shown(exchange, now))
        raise _error(405, "INVALID_CLIENT_REQUEST", "GET shows the plan of faults, POST begins another")
    except ApiError as error:
        return None, refuse(0, error)


def _read(body: bytes) -> tuple[PlannedFault, ...]:
    try:
        faults = _decode_plan(body).faults
        return parse_faults(faults if isinstance(faults, str) else ",".join(faults))
    except LocalProtocolError as error:
        raise _error(400, "INVALID_CLIENT_REQUEST", str(error)) from None
    except (ValueError, RecursionError):
        raise _error(
            400,
            "INVALID_CLIENT_REQUEST",
            'the body is JSON such as {"faults": "gap,mute@5-12"}, or with a list of such entries',
        ) from None


def _shown(exchange: Exchange, now: Now) -> dict[str, object]:
    schedule = exchange.disturbances.schedule
    return {
        "elapsed_s": _seconds(schedule.elapsed_us(now.mono_us)) if schedule.planned else None,
        "planned": [
            {
                "fault": planned.text,
                "active": planned in schedule.active,
                "next_s": None if next_us is None else _seconds(next_us),
            }
            for planned, next_us in zip(schedule.planned, schedule.next_us(), strict=True)
        ],
        "fired": [
            {"fault": fired.name, "start_s": _seconds(fired.start_us), "end_s": _seconds(fired.end_us)}
            for fired in schedule.fired
        ],
        "known": {name: kind.what for name, kind in FAULT_KINDS.items()},
    }


def _seconds(microseconds: int) -> float:
    return round(microseconds / 1e6, 3)


def _error(status: int, code: str, message: str) -> ApiError:
    return ApiError(status=status, code=code, message=message, endpoint="")
