"""The parts beside the user of a client, in one task: the sandbox, the transport, and the session's loop.

A cancellation from outside does not reach into it: orders are to be taken off the book first, and the connection closed in order, by
the one who leaves the client. This module does not hold the client: one that was started without a block and is let go of has to be noticed (`owner`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import NamedTuple
from weakref import WeakMethod

import anyio
from anyio.abc import TaskStatus
from msgspec.structs import replace

from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event

from .calls import OpenCalls
from .delivery import EventStream, Outlets, SlowConsumer
from .loop_thread import LoopThread
from .network.addresses import Addresses
from .network.proxy_settings import Proxies
from .orders.desk import OrderGate
from .orders.safety import OrderSafety
from .pump import Deliver, Pump
from .recording.source import SessionInputs
from .settings import Settings
from .transport import Transport
from .transports import MakeTransport

__all__ = ["Driver", "Queue", "Running"]

LISTINGS_SECONDS = 60.0
"""Interval of looks for new listings, while markets are chosen by a rule."""


class Queue(NamedTuple):
    """Queue of the client's own iteration."""

    slow_consumer: SlowConsumer
    buffer: int
    buffer_bytes: int


class Running(NamedTuple):
    """Parts of a client that exist only inside the block."""

    outside: anyio.CancelScope
    """Around all of it: shielded by its starter, which from then on has to end it by the other scope."""
    scope: anyio.CancelScope
    """Around the session's loop: cancelled, it ends all that is running."""
    transport: Transport
    pump: Pump
    outlets: Outlets
    events: EventStream | None
    """Those of the client's own iteration, or None where a callback has them."""
    finished: anyio.Event
    loop: LoopThread


class Driver(NamedTuple):
    """The parts of a client that run by themselves."""

    session: Session
    inputs: SessionInputs
    calls: OpenCalls
    orders: OrderSafety
    settings: Settings
    proxies: Proxies
    transport: AbstractAsyncContextManager[Transport] | None
    """Instead of a runtime's."""
    make_transport: MakeTransport
    addresses: Addresses | None
    """Address of the exchange, or None where a sandbox is to be served."""
    sandbox: tuple[int, str]
    """Its seed and faults."""
    queue: Queue
    on_event: Callable[[Event], object] | None
    tell: Callable[[Event], None]
    deliver: Deliver
    connected: Callable[[Running], None]
    """Called with the parts, before the first delivery."""
    look_for_listings: WeakMethod[Callable[[], Awaitable[None]]]
    owned: bool
    """The client has an owner: its iteration ends by an error, which is not known before it has been left."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Run until the session has been closed and the scope of `Running` is cancelled."""
        with anyio.CancelScope() as outside:
            async with AsyncExitStack() as stack:
                running = await self._connect(stack, outside)
                self.connected(running)
                task_status.started()
                # Only this is cancelled from outside. The rest ends in order, and an error on its way out is not lost.
                with running.scope:
                    try:
                        await running.pump.run()
                        running.outlets.finish()
                    finally:
                        if not self.owned:
                            running.outlets.finish()
                        running.finished.set()
                        self.calls.end()
                    # Sandbox and sockets stay for the way out.
                    await anyio.sleep_forever()

    async def _connect(self, stack: AsyncExitStack, outside: anyio.CancelScope) -> Running:
        addresses = self.addresses
        if addresses is None:
            from .sandbox import serve_sandbox  # noqa: PLC0415 - only a sandbox needs the simulated exchange

            seed, faults = self.sandbox
            sandbox = await stack.enter_async_context(serve_sandbox(seed=seed, faults=faults))
            found = replace(self.settings, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url)
            addresses = found.addresses(self.proxies)
        own = self.transport or self.make_transport(addresses, compression=self.settings.compression)
        transport = await stack.enter_async_context(own)
        outlets = Outlets(
            pause=transport.pause_reading, resume=transport.resume_reading, tell=self.tell, on_event=self.on_event
        )
        events = outlets.open(*self.queue) if self.on_event is None else None
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        pump = Pump(self.session, transport, self.deliver, self.inputs)
        pump.perform_by(OrderGate(self.orders.journal, transport.perform, pump.give, tasks).perform)
        tasks.start_soon(self._look_for_listings)
        return Running(outside, anyio.CancelScope(), transport, pump, outlets, events, anyio.Event(), LoopThread())

    async def _look_for_listings(self) -> None:
        while True:
            await anyio.sleep(LISTINGS_SECONDS)
            look = self.look_for_listings()
            if look is None:
                return
            await look()
            # Not to be held while it sleeps.
            del look
