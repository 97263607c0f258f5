"""`backpack-feed record`: everything that a session receives, in a file."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ConfigurationError
from backpack_proto.streams.payloads import Event
from backpack_proto.text import printable
from backpack_runtime.client import BackpackClient
from backpack_runtime.recording.recorder import ROTATE_BYTES, ROTATE_S, Recorder
from backpack_runtime.transport import system_now

from .options import (
    KEYS_COME_FROM,
    add_connection,
    add_faults,
    add_key_file,
    add_markets,
    count,
    exchange_of,
    keys_of,
    positive,
    refuse_with_sandbox,
    settings_of,
)
from .output import Printer
from .running import enter, run_until_signalled

__all__ = ["DESCRIPTION", "add_arguments", "run"]

TERMINAL_SECONDS = 0.25
LOG_SECONDS = 10.0
MEBIBYTE = 1024 * 1024

DESCRIPTION = (
    "Record all that a session receives, with both clocks, so that `backpack-feed replay FILE` gives the same events, books included."
    " Each read is in the file at once; finished parts are compressed to FILE.000001.zst and so on. Keys, signatures, two-factor tokens"
    f" and addresses are never written (docs/recording.md). With --account: {KEYS_COME_FROM}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="is made; one that exists is refused")
    add_markets(parser, channels="as `watch` has them")
    parser.add_argument("--depth", type=count, default=10, metavar="N", help="levels a side in the events (default: 10)")
    parser.add_argument("--account", action="store_true", help="record the account as well")
    add_key_file(parser)
    parser.add_argument(
        "--rotate-mib",
        type=positive,
        default=ROTATE_BYTES / MEBIBYTE,
        metavar="N",
        help="finish a part when it is so large, before compression (default: 64)",
    )
    parser.add_argument(
        "--rotate-seconds", type=positive, default=ROTATE_S, metavar="N", help="or after that time (default: 3600)"
    )
    add_connection(parser, sandbox="a simulated exchange that is started along", events=False)
    add_faults(parser)


def run(parsed: argparse.Namespace) -> int:
    """Record until the time is over or a signal comes, and return the exit code.

    Raises:
        LocalProtocolError: the options name something that does not exist.
        ConfigurationError: the options contradict each other, or the file exists.
        RecordingFailed: the file cannot be written.
        BackpackError: the exchange cannot be reached.
        OSError: the output cannot be written.
    """
    if parsed.faults and not parsed.sandbox:
        raise ConfigurationError("--faults is about a simulated exchange: give --sandbox as well")
    refuse_with_sandbox(parsed, "key-file")
    if parsed.key_file and not parsed.account:
        raise ConfigurationError("--key-file is for --account: give both")
    client = BackpackClient(
        parsed.symbols,
        channels=parsed.channels,
        settings=settings_of(parsed),
        sandbox=parsed.sandbox,
        sandbox_faults=",".join(planned.text for planned in parsed.faults),
        signer=_signer(parsed),
        follow_account=parsed.account,
        book_levels=parsed.depth,
        on_event=_ignore,
    )
    recorder = Recorder(
        client, parsed.file, rotate_bytes=max(int(parsed.rotate_mib * MEBIBYTE), 1), rotate_s=parsed.rotate_seconds
    )

    async def body() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(recorder)
            await enter(client, stack, exchange_of(parsed))
            with anyio.move_on_after(parsed.seconds):
                await _Progress(recorder, client).show()

    # The command says it in its own way, once.
    logging.getLogger("backpack_runtime.recording").addFilter(lambda record: record.levelno < logging.ERROR)
    code = run_until_signalled(body, backend=parsed.backend)
    if recorder.failure is not None:
        raise recorder.failure
    Printer().write(f"{_outcome(recorder, Path(parsed.file))}\n".encode())
    return code


def _signer(parsed: argparse.Namespace) -> Signer | None:
    if parsed.sandbox or not parsed.account:
        return None
    keys = keys_of(parsed)
    if keys.private_key is None:
        raise ConfigurationError("no private key: BACKPACK_PRIVATE_KEY, --key-file or a terminal to ask on, or --sandbox")
    return Signer(
        Credentials(
            keys.private_key.reveal(),
            api_key=None if keys.api_key is None else keys.api_key.reveal(),
            public_key=None if keys.public_key is None else keys.public_key.reveal(),
        )
    )


def _ignore(_: Event) -> None:
    """Take events that the recorder has recorded already."""


class _Progress:
    """Shows how a recording goes on: one line that is rewritten on a terminal, a line now and then elsewhere, on standard error."""

    def __init__(self, recorder: Recorder, client: BackpackClient) -> None:
        self._recorder = recorder
        self._client = client
        self._begun_us = system_now().mono_us
        self._last = (self._begun_us, 0, 0)
        self._on_terminal = os.isatty(2)

    async def show(self) -> None:
        """Show it until it is cancelled.

        Raises:
            RecordingFailed: the file can be written no more.
        """
        shown_us = self._begun_us
        try:
            while True:
                await anyio.sleep(TERMINAL_SECONDS)
                if self._recorder.failure is not None:
                    raise self._recorder.failure
                now_us = system_now().mono_us
                if self._on_terminal or now_us - shown_us >= LOG_SECONDS * 1e6:
                    shown_us = now_us
                    self._write(self._line(now_us))
        finally:
            if self._on_terminal:
                sys.stderr.write("\n")

    def _write(self, line: str) -> None:
        if self._on_terminal:
            width = os.get_terminal_size(2).columns
            sys.stderr.write(f"\r{line[: width - 1]}\x1b[K")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def _line(self, now_us: int) -> str:
        then_us, events, size = self._last
        seconds = max((now_us - then_us) / 1e6, 1e-6)
        self._last = (now_us, self._recorder.events, self._recorder.size_bytes)
        minutes, second = divmod((now_us - self._begun_us) // 1_000_000, 60)
        metrics, health = self._client.metrics, self._client.health
        rate = (self._recorder.events - events) / seconds
        speed = (self._recorder.size_bytes - size) / seconds / MEBIBYTE
        state = printable("; ".join(health.reasons) or "well", None)
        return (
            f"{minutes // 60:02}:{minutes % 60:02}:{second:02}  {rate:.0f} events/s"
            f"  {self._recorder.size_bytes / MEBIBYTE:.1f} MiB, {speed:.2f} MiB/s  part {self._recorder.parts}"
            f"  resyncs {metrics.orderbook_resyncs}  reconnects {metrics.ws_reconnects}  {state}"
        )


def _outcome(recorder: Recorder, file: Path) -> str:
    parts = "1 part" if recorder.parts == 1 else f"{recorder.parts} parts"
    return (
        f"{file}: {recorder.events} events of {recorder.batches} reads, {recorder.size_bytes / MEBIBYTE:.1f} MiB in {parts},"
        f" digest {recorder.digest}"
    )
