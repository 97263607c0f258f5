"""A gateway before the simulated exchange: all of its paths begin with one of the gateway's own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from backpack_proto.exchange import Exchange, ExchangeInput, ExchangeOutput, RequestReceived
from backpack_proto.machine import Now
from backpack_runtime.sandbox import Sandbox

__all__ = ["BASE", "Gateway"]

BASE = "/gateway/backpack"


class Gateway:
    """Stands before an exchange and cuts its own path off, as a reverse proxy does."""

    def __init__(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.targets: list[str] = []
        self._exchange: Exchange = sandbox.exchange
        self._handle = self._exchange.handle
        monkeypatch.setattr(self._exchange, "handle", self.handle)

    def handle(self, given: ExchangeInput, now: Now) -> Sequence[ExchangeOutput]:
        if isinstance(given, RequestReceived):
            self.targets.append(given.target)
            # What does not begin with it stays as it is not: no path of the exchange.
            below = given.target.removeprefix(BASE) if given.target.startswith(BASE) else f"/nowhere{given.target}"
            given = replace(given, target=below)
        return self._handle(given, now)
