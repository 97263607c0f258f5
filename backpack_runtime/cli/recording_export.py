"""`backpack-feed recording export`: a recording as tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from backpack_proto.machine import Now
from backpack_proto.streams.payloads import Event
from backpack_runtime.exports.export import FORMATS, Exported, export_events
from backpack_runtime.exports.tables import TOPICS
from backpack_runtime.recording.reader import Recording, open_recording

from .complaints import FAILED, complain, ended_by_signals
from .options import names
from .output import Printer
from .reading_bar import reading_bar

__all__ = ["add_export", "export"]


def add_export(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument("file", metavar="FILE", help="the recording, compressed or not; - is standard input")
    parser.add_argument(
        "--to", required=True, choices=FORMATS, help="Parquet needs the extra parquet; CSV has the columns of tardis"
    )
    parser.add_argument("--out", metavar="DIR", help="where the files are written (default: the name of FILE, and the format)")
    parser.add_argument("--only", type=names, metavar="NAME,...", help=f"some of {', '.join(TOPICS)} (default: all)")
    parser.add_argument("--symbols", type=names, metavar="SYMBOL,...", help="SOL_USDC or SOL-USDC (default: all)")
    parser.add_argument("--compress", choices=("gzip",), help="for CSV; Parquet is always compressed")
    parser.add_argument("--unclosed", action="store_true", help="candles that still run, too")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def export(parsed: argparse.Namespace) -> int:
    """Write the tables of a recording, and list the files with their rows. The exit code is 1 when there are no rows.

    Raises:
        ConfigurationError: the file cannot be opened, a file to be written is there already, or a symbol was not recorded.
        MissingExtra: Parquet needs its extra.
        RecordingUnreadable: the recording cannot be read to its end. No file was written.
        ExportFailed: a value does not fit into the format. No file was written.
        OSError: a file cannot be written.
    """
    source = "stdin" if parsed.file == "-" else Path(parsed.file).name
    folder = Path(f"{Path(source).stem}-{parsed.to}" if parsed.out is None else parsed.out)
    with ended_by_signals(), open_recording(parsed.file) as recording, ExitStack() as stack:
        made = export_events(
            _events(recording, reading_bar(stack, recording, "export")),
            folder,
            to=parsed.to,
            only=parsed.only,
            symbols=parsed.symbols,
            compress=parsed.compress,
            unclosed=parsed.unclosed,
            force=parsed.force,
            source=source,
        )
        _warn(recording, made)
    if not made.files:
        return complain(
            f"{source}: {made.events} events, none of which has a row in {', '.join(parsed.only or TOPICS)}", FAILED
        )
    Printer().write(_summary(made).encode())
    return 0


def _events(recording: Recording, show: Callable[[], None]) -> Iterator[Event | tuple[Now, Event]]:
    """Return the events with their moments. Those of frames alone without, for the clock there is that of the exchange."""
    has_clock = recording.header is not None
    for step in recording.steps():
        for event in step.events:
            yield (step.now, event) if has_clock else event
        show()


def _warn(recording: Recording, made: Exported) -> None:
    if recording.torn:
        complain("warning: the last line of the recording is cut off; what came before it was exported", 0)
    if made.dropped:
        complain(f"warning: {made.dropped} events were lost before they were recorded", 0)
    if made.left_out:
        complain(
            f"warning: {made.left_out} changes of books were left out, for others before them are missing: see book_states", 0
        )


def _summary(made: Exported) -> str:
    rows = sum(file.rows for file in made.files)
    files = "1 file" if len(made.files) == 1 else f"{len(made.files)} files"
    lines = [f"{file.rows:>10}  {file.path}\n" for file in made.files]
    return "".join((*lines, f"{rows:>10}  rows of {made.events} events, in {files}\n"))
