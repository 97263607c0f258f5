"""The table of all checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from . import calls, keys, local, streams, way
from .findings import Finding
from .subject import Connection, Subject

__all__ = ["CHECKS", "Check"]


class Check(NamedTuple):
    """One check: its name, its function, and the checks that it needs."""

    name: str
    make: Callable[[Subject], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    seconds: float = 10.0
    """Time that it may take."""


def _rest(make: Callable[[Subject, Connection], Awaitable[Finding]]) -> Callable[[Subject], Awaitable[Finding]]:
    return lambda subject: make(subject, subject.rest)


def _websocket(make: Callable[[Subject, Connection], Awaitable[Finding]]) -> Callable[[Subject], Awaitable[Finding]]:
    return lambda subject: make(subject, subject.websocket)


CHECKS: Final = (
    Check("versions", local.versions),
    Check("open files", local.file_descriptors),
    Check("REST proxy", _rest(way.check_proxy)),
    Check("REST name", _rest(way.check_name), ("REST proxy",)),
    Check("REST TCP", _rest(way.check_tcp), ("REST name",), 20.0),
    Check("REST TLS", _rest(way.check_tls), ("REST TCP",), 20.0),
    Check("websocket proxy", _websocket(way.check_proxy)),
    Check("websocket name", _websocket(way.check_name), ("websocket proxy",)),
    Check("websocket TCP", _websocket(way.check_tcp), ("websocket name",), 20.0),
    Check("websocket TLS", _websocket(way.check_tls), ("websocket TCP",), 20.0),
    Check("round trip", calls.round_trip, ("REST TLS",), 20.0),
    Check("clock", calls.clock_offset, ("round trip",)),
    Check("websocket", streams.websocket, ("round trip", "websocket TLS"), 15.0),
    Check("first data", streams.first_data, ("websocket",), 15.0),
    Check("latency", streams.latency, ("first data",)),
    Check("message age", streams.message_age, ("first data",)),
    Check("books and REST", streams.books_against_rest, ("first data",), 25.0),
    Check("tickers and REST", streams.tickers_against_rest, ("first data",)),
    Check("key", keys.account_reads, ("round trip",), 15.0),
    Check("private streams", keys.private_streams, ("key", "websocket")),
    Check("request budget", calls.request_budget, ("round trip",)),
    Check("event loop", local.event_loop_lag),
)
