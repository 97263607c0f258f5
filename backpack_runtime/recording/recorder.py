"""Recorder of a client: every input of its session, in the batches and at the moments in which they were handled.

A session is a pure machine: the same options, the same generator and the same inputs give the same outputs. So the
inputs are written, and a running digest of the events proves that a replay gave the same ones.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.to_thread import run_sync

from backpack_proto import __version__
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.inputs import Close, Given, RequestFailed, ResponseReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Output, SendRequest
from backpack_proto.streams.payloads import Event
from backpack_runtime.checks import checked_count, checked_seconds
from backpack_runtime.kernels import kernels_in_use
from backpack_runtime.transport import system_now

from .digest import EventDigest
from .errors import RecordingFailed
from .format import FORMAT, VERSION, Header, PartHeader, RandomState, Row, encode_batch, encode_refused, encode_row
from .parts import LEVEL
from .redaction import SECRET_NAMES
from .source import Recordable, SessionInputs, SignerShape
from .writer import Writer

__all__ = ["Recorder"]

_log = logging.getLogger("backpack_runtime.recording")

ROTATE_BYTES: Final = 64 * 1024 * 1024
ROTATE_S: Final = 3600.0
_SIGNATURE: Final = "x-signature"


class Recorder:
    """Writes every input of a client's session to a file, from before the first to after the last.

        async with Recorder(client, "session.jsonl"), client:
            ...

    Attached first and left last it has every input. Left earlier, it records until then. The client goes on when the file cannot be
    written: that is said once in the log, is `failure`, and is raised when the block is left.
    """

    def __init__(
        self,
        client: Recordable,
        path: Path | str,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_s: float = ROTATE_S,
        level: int = LEVEL,
    ) -> None:
        """Nothing is written before the block is entered.

        Args:
            client: a client that has not been entered yet.
            path: the file, which must not exist. Finished parts lie beside it, as `FILE.000001.zst`.
            rotate_bytes: a part is finished when it is so large, before compression.
            rotate_s: or when it was written to for so long, seconds.
            level: of the compression of finished parts, 1 to 22.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        if not isinstance(path, str | Path):
            raise ConfigurationError(f"path: the path of a file, got {type(path).__name__}")
        if not hasattr(client, "__recording_source__"):
            raise ConfigurationError(f"client: a BackpackClient, got {type(client).__name__}")
        self._client: Recordable | None = client
        self._path = Path(path)
        self._rotate_bytes = checked_count("rotate_bytes", rotate_bytes, unit="bytes")
        self._rotate_us = int(checked_seconds("rotate_s", rotate_s) * 1e6)
        self._level = checked_count("level", level, maximum=22)
        self._writer: Writer | None = None
        self._inputs: SessionInputs | None = None
        self._digest = EventDigest()
        self._private: set[int] = set()
        """Signed requests that wait for their answers."""
        self._part_from_us = 0
        self._closed = False
        self.batches = 0
        """So many were recorded."""
        self.failure: RecordingFailed | None = None
        """Why the recording has ended before its time."""

    @property
    def events(self) -> int:
        """The number of events that the recorded inputs made."""
        return self._digest.events

    @property
    def digest(self) -> str:
        """The SHA-256 over them, which a replay has as well."""
        return self._digest.whole

    @property
    def size_bytes(self) -> int:
        """The bytes that were written, before compression."""
        return 0 if self._writer is None else self._writer.total

    @property
    def parts(self) -> int:
        """The number of parts, the one that is being written included."""
        return 0 if self._writer is None else self._writer.part

    async def __aenter__(self) -> Self:
        """Make the file, and stand in the way of all inputs.

        Raises:
            LocalProtocolError: the client has been entered already or has another recorder, or this one was entered before.
            ConfigurationError: the file exists, or cannot be made.
            RecordingFailed: it cannot be written.
        """
        if self._client is None:
            raise LocalProtocolError("recorder: it has been entered before: make a new one, with another file")
        source = self._client.__recording_source__()
        handle_all = source.inputs.tap(self._handle)
        try:
            now = system_now()
            self._writer = Writer(self._path, level=self._level)
            self._part_from_us = now.mono_us
            self._writer.write(
                encode_row(
                    Header(
                        format=FORMAT,
                        version=VERSION,
                        product=__version__,
                        part=1,
                        started_us=now.unix_us,
                        python=platform.python_version(),
                        kernels=kernels_in_use(),
                        symbols=source.symbols,
                        channels=source.channels,
                        redacted=SECRET_NAMES,
                        session=source.options,
                        signer=SignerShape.of(source.signer),
                        random=RandomState.of(source.random),
                    )
                )
            )
        except BaseException:
            source.inputs.untap()
            if self._writer is not None:
                self._writer.close()
            raise
        self._handle_all = handle_all
        self._inputs = source.inputs
        # The task that reads leads to the recorder, and must not hold a client that was let go of.
        self._client = None
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the recording in order, and wait until its parts are compressed.

        Raises:
            RecordingFailed: it had ended before, and no other error is on its way.
        """
        writer = self._writer
        if writer is None:
            return
        if self.failure is None:
            now = system_now()
            end = Row(
                mono_us=now.mono_us,
                unix_us=now.unix_us,
                end="closed" if self._closed else "stopped",
                batches=self.batches,
                events=self.events,
                digest=self.digest,
            )
            self._write(encode_row(end))
        self._stop()
        writer.close()
        with anyio.CancelScope(shield=True):
            await run_sync(writer.wait)
        if self.failure is not None and exc is None:
            raise self.failure

    def _stop(self) -> None:
        if self._inputs is not None:
            self._inputs.untap()
            self._inputs = None

    def _handle(self, batch: Sequence[Given], now: Now) -> Sequence[Output]:
        try:
            outputs = self._handle_all(batch, now)
        except LocalProtocolError as refused:
            if len(batch) == 1:
                self._write(encode_refused(batch[0], refused, now), now)
            else:
                self._fail(RecordingFailed(f"{self._path}: an input of several was refused: {refused}"))
            raise
        except BaseException as error:
            self._fail(RecordingFailed(f"{self._path}: the session was interrupted by {type(error).__name__}"))
            raise
        if batch:  # else the pump only looks whether something is left
            try:
                self._record(batch, outputs, now)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                # Of an event or input that has no encoding: the client has to go on.
                self._fail(RecordingFailed(f"{self._path}: a batch has no form in which it can be written: {error}"))
        return outputs

    def _record(self, batch: Sequence[Given], outputs: Sequence[Output], now: Now) -> None:
        events = [output for output in outputs if isinstance(output, Event)]
        private = False
        if len(events) != len(outputs) or self._private:
            private = self._look_at_requests(batch, outputs)
        if events:
            self._digest.update(events)
        if type(batch[0]) is Close:
            self._closed = True
        self.batches += 1
        self._write(encode_batch(batch, now, self._digest.short if events else None, private=private), now)

    def _look_at_requests(self, batch: Sequence[Given], outputs: Sequence[Output]) -> bool:
        """Keep which requests are signed, and return whether one of them is answered here."""
        answered = {given.request_id for given in batch if isinstance(given, ResponseReceived | RequestFailed)}
        private = not answered.isdisjoint(self._private)
        self._private -= answered
        for output in outputs:
            if isinstance(output, SendRequest) and any(name.casefold() == _SIGNATURE for name, _ in output.request.headers):
                self._private.add(output.request_id)
        return private

    def _write(self, line: bytes, now: Now | None = None) -> None:
        writer = self._writer
        if writer is None or self.failure is not None:
            return
        try:
            writer.write(line)
            if now is not None and (writer.size >= self._rotate_bytes or now.mono_us - self._part_from_us >= self._rotate_us):
                self._turn(writer, now)
        except RecordingFailed as failed:
            self._fail(failed)

    def _turn(self, writer: Writer, now: Now) -> None:
        writer.turn()
        self._part_from_us = now.mono_us
        header = PartHeader(
            format=FORMAT,
            version=VERSION,
            part=writer.part,
            batches=self.batches,
            events=self.events,
            digest=self.digest,
        )
        writer.write(encode_row(header))

    def _fail(self, failure: RecordingFailed) -> None:
        """End the recording, once: inputs after a hole would not replay."""
        if self.failure is None:
            self.failure = failure
            _log.error("the recording has ended: %s", failure)
        self._stop()
