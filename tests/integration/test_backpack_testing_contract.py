"""The published check of transports: ours pass it, and one that breaks a rule is told which."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import anyio
import pytest
from anyio.abc import ByteStream

from backpack_proto.errors import ConfigurationError
from backpack_proto.inputs import Connected, Fact, Given, ReadingPaused, TextReceived
from backpack_proto.outputs import Action, WithdrawRequest
from backpack_runtime import Addresses, Proxies, StreamTransport
from backpack_runtime.network.addresses import Address
from backpack_runtime.testing import CONTRACT, ContractBroken, check_transport
from backpack_runtime.transports.anyio import AnyioTransport
from transports import SOCKETS, Runtime

pytestmark = pytest.mark.anyio


class OwnTransport(StreamTransport):
    """The smallest runtime that there can be."""

    async def connect(self, address: Address, tls: ssl.SSLContext | None) -> ByteStream:
        assert tls is None
        return await anyio.connect_tcp(address.host, address.port)


@pytest.fixture(params=SOCKETS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return SOCKETS[str(request.param)]


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("runtime").backend) if "runtime" in request.fixturenames else "asyncio"


async def test_our_runtimes_keep_the_contract(runtime: Runtime) -> None:
    await check_transport(runtime.transport)


async def test_a_runtime_that_only_opens_streams_keeps_the_contract() -> None:
    await check_transport(OwnTransport)


class TellsInsideCalls(OwnTransport):
    def pause_reading(self) -> None:
        self._inbox.put([ReadingPaused()])
        super().pause_reading()


class NeverPauses(OwnTransport):
    def pause_reading(self) -> None:
        self._inbox.put_later([ReadingPaused()])


class SendsWhatWasWithdrawn(OwnTransport):
    def perform(self, action: Action) -> None:
        if not isinstance(action, WithdrawRequest):
            super().perform(action)


class SaysConnectedTwice(OwnTransport):
    def _report(self, websocket: object, facts: Sequence[Fact]) -> None:
        doubled: list[Fact] = [one for fact in facts for one in ([fact, fact] if isinstance(fact, Connected) else [fact])]
        super()._report(websocket, doubled)  # type: ignore[arg-type]  # passed on


class TakesEverything(OwnTransport):
    def perform(self, action: Action) -> None:
        try:
            super().perform(action)
        except TypeError:
            return


class WakesWithSomething(OwnTransport):
    async def next(self, until: int | None) -> list[Given]:
        return await super().next(until) or [TextReceived(b"")]


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (TellsInsideCalls, "who listens is told"),
        (NeverPauses, "while reading is paused|who listens is told"),
        (SendsWhatWasWithdrawn, "a request that is withdrawn"),
        (SaysConnectedTwice, "OpenSocket ends the websocket before"),
        (TakesEverything, "what is no action"),
        (WakesWithSomething, "next gives TimerFired"),
    ],
)
async def test_a_transport_that_breaks_a_rule_is_told_which(make: type[OwnTransport], rule: str) -> None:
    with pytest.raises(ContractBroken, match=f"^({rule})") as caught:
        await check_transport(make)
    assert caught.value.rule in CONTRACT
    assert str(caught.value) == f"{caught.value.rule}: {caught.value.detail}"


async def test_other_errors_come_out_with_the_rule_as_a_note() -> None:
    class Crashes(OwnTransport):
        def now(self) -> None:  # type: ignore[override]  # that is the point
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as caught:
        await check_transport(Crashes)  # type: ignore[arg-type]  # that is the point
    assert any("while this was tried: " in note for note in caught.value.__notes__)


async def test_a_proxy_is_refused_and_never_bypassed() -> None:
    addresses = Addresses("http://127.0.0.1:1", "ws://127.0.0.1:1", proxies=Proxies.of("http://127.0.0.1:2"))
    with pytest.raises(ConfigurationError, match="proxies: OwnTransport connects directly"):
        OwnTransport(addresses)
    AnyioTransport(addresses)
