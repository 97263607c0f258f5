"""The front of the exchange's REST side: the request budget, faults, and the routes."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple, TypeAlias

from backpack_proto.exchange.account.command_stream import Execute
from backpack_proto.exchange.account.order_request import refusal
from backpack_proto.exchange.faults import Fault, Faults, RateLimits
from backpack_proto.exchange.messages import AbandonRequest, RequestReceived, Respond, SendFrame
from backpack_proto.machine import Now

from .answers import TEXT, refuse
from .private_routes import PrivateRoutes
from .public_routes import Routes

__all__ = ["Desk", "Gateway"]

GatewayOutput: TypeAlias = SendFrame | Respond | AbandonRequest


class Desk(NamedTuple):
    """Where the signed requests of one account are answered, and how many of them."""

    routes: PrivateRoutes
    limits: RateLimits


class Gateway:
    """Answers every request once, or abandons it. A delayed answer waits here.

    `desks` are those of the accounts, by API key. Requests with another key, or without one, are the first one's to refuse, and it has the
    budget of requests without a signature.
    """

    def __init__(self, routes: Routes, desks: Mapping[str, Desk], faults: Faults) -> None:
        self._routes = routes
        self._desks = desks
        self._first = next(iter(desks.values()))
        self._faults = faults
        self._late: list[tuple[int, int, Respond]] = []
        self._delayed = 0
        self._waiting: dict[int, Fault | None] = {}
        """Faults of the answers to commands that wait for the speed bump, by request."""

    @property
    def deadline(self) -> int | None:
        """When the next delayed answer is due."""
        return self._late[0][0] if self._late else None

    def due(self, mono_us: int) -> list[GatewayOutput]:
        """The delayed answers whose time has come."""
        outputs: list[GatewayOutput] = []
        while self._late and self._late[0][0] <= mono_us:
            outputs.append(heappop(self._late)[2])
        return outputs

    def abandon(self) -> list[GatewayOutput]:
        """Give up every answer that is still to come. Commands that wait for the speed bump are done all the same."""
        late, self._late = self._late, []
        waiting, self._waiting = self._waiting, {}
        answers = [response.request_id for _, _, response in sorted(late, key=lambda entry: entry[:2])]
        return [AbandonRequest(number) for number in (*answers, *waiting)]

    def handle(self, given: RequestReceived, engine_us: int, now: Now) -> list[GatewayOutput]:
        """Execute one request, and return its outputs."""
        path = given.target.partition("?")[0]
        signed = self._first.routes.serves(path)
        private, limits = self._desk(given) if signed else self._first
        number = given.request_id
        fault = self._faults.draw(given.method.upper(), path)
        if fault is Fault.TOO_MANY_REQUESTS or not limits.admit(path, engine_us, signed=signed):
            asked_s = self._faults.retry_after_s
            headers = () if asked_s is None else (("Retry-After", str(asked_s)),)
            return [refuse(number, refusal("TOO_MANY_REQUESTS", "Too many requests", 429), headers)]
        if fault is Fault.ERROR_BEFORE:
            return [refuse(number, refusal("SERVER_ERROR", "Service unavailable", 503))]
        if fault is Fault.EXPIRED and signed:
            return [refuse(number, refusal("INVALID_CLIENT_REQUEST", "Request has expired"))]
        frames: list[SendFrame] = []
        if signed:
            frames, waits = private.respond(given, engine_us, now.mono_us)
            if waits is None:
                self._waiting[number] = fault
                return [*frames]
            response = waits
        else:
            response = self._routes.respond(given, engine_us)
        return self._answer(frames, response, fault, now.mono_us)

    def finish(self, execute: Execute, engine_us: int, mono_us: int) -> list[GatewayOutput]:
        """Execute a command that has waited for the speed bump, and answer its request."""
        frames, response = execute(engine_us)
        if response.request_id not in self._waiting:
            return [*frames]
        return self._answer(frames, response, self._waiting.pop(response.request_id), mono_us)

    def _answer(self, frames: list[SendFrame], response: Respond, fault: Fault | None, mono_us: int) -> list[GatewayOutput]:
        number = response.request_id
        if fault is Fault.LOSE_REPLY:
            return [*frames, AbandonRequest(number)]
        if fault is Fault.ERROR_AFTER:
            return [*frames, Respond(number, 502, TEXT, b"Bad Gateway")]
        if fault is Fault.DELAY:
            self._delayed += 1  # breaks ties in the order of arrival
            heappush(self._late, (mono_us + self._faults.delay_us, self._delayed, response))
            return [*frames]
        return [*frames, response]

    def _desk(self, given: RequestReceived) -> Desk:
        """The desk of the account that a request names."""
        if len(self._desks) > 1:
            for name, value in given.headers:
                if name.lower() == "x-api-key":
                    return self._desks.get(value, self._first)
        return self._first
