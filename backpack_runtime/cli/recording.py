"""`backpack-feed recording`: look into a recording, and export it. Its sub-commands are rows of `SUBCOMMANDS`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from backpack_proto.text import printable
from backpack_runtime.recording.reader import open_recording
from backpack_runtime.recording.summary import Summary, summarize

from .complaints import FAILED, ended_by_signals
from .events import event_name_of
from .output import Printer
from .recording_export import add_export, export

__all__ = ["DESCRIPTION", "SUBCOMMANDS", "add_arguments", "run"]

DESCRIPTION = "Look into a recording: the file of `backpack-feed record`, or frames alone, one a line."
MEBIBYTE = 1024 * 1024
SHOWN_STREAMS = 40


class RecordingCommand(NamedTuple):
    """One sub-command."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    chosen = parser.add_subparsers(required=True, metavar="WHAT", dest="what", parser_class=type(parser))
    for command in SUBCOMMANDS:
        of_command = chosen.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(of_command)
        of_command.set_defaults(run_what=command.run)


def run(parsed: argparse.Namespace) -> int:
    """Run the sub-command and return its exit code.

    Raises:
        ConfigurationError: the file cannot be opened.
        RecordingUnreadable: it cannot be read to its end.
        OSError: the output cannot be written.
    """
    return int(parsed.run_what(parsed))


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the recording, compressed or not; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _info(parsed: argparse.Namespace) -> int:
    """Write the figures of a recording. The exit code is 1 when its replay differs."""
    with ended_by_signals(), open_recording(parsed.file, verify=None) as recording:
        summary = summarize(recording)
    text = msgspec.json.encode(summary) + b"\n" if parsed.json else "".join(f"{line}\n" for line in _lines(summary)).encode()
    Printer().write(text)
    return FAILED if summary.differs else 0


def _lines(summary: Summary) -> list[str]:
    start, end = _date(summary.start_us), _date(summary.end_us)
    latency = "unknown"
    if summary.engine_to_receipt_p50_us is not None and summary.engine_to_receipt_p99_us is not None:
        latency = f"p50 {summary.engine_to_receipt_p50_us / 1e3:.1f} ms, p99 {summary.engine_to_receipt_p99_us / 1e3:.1f} ms"
    rows = {
        "recorded": f"{start} to {end}, {summary.seconds:.1f} s",
        "by": f"version {summary.product}" if summary.has_header else "frames alone, one a line",
        "wanted": ", ".join((*summary.symbols, *summary.channels)) or "unknown",
        "files": ", ".join(f"{part.name} {part.bytes / MEBIBYTE:.2f} MiB" for part in summary.parts) or "standard input",
        "events": f"{summary.events} of {summary.batches} {'reads' if summary.has_header else 'frames'}",
        "connections": f"{summary.connections}, lost {summary.connections_lost}",
        "books": f"gaps {summary.gaps}, resyncs {summary.resyncs}, divergences {summary.divergences}",
        "wrong": f"dropped frames {summary.dropped_frames}, errors of the exchange {summary.errors}",
        "latency": f"engine to receipt: {latency}",
        "end": _end(summary),
        "digest": _verdict(summary),
    }
    lines = [f"{name:<12} {printable(text, None)}" for name, text in rows.items()]
    busiest = sorted(summary.streams.items(), key=lambda item: (-item[1].messages, item[0]))
    lines += ["", "  messages     per s  stream"]
    lines += [f"{of.messages:>10} {of.per_second:>9.1f}  {printable(name, None)}" for name, of in busiest[:SHOWN_STREAMS]]
    if len(busiest) > SHOWN_STREAMS:
        lines.append(f"{len(busiest) - SHOWN_STREAMS} streams more; --json has them all")
    lines += ["", "    events  kind"]
    lines += [f"{times:>10}  {event_name_of(name)}" for name, times in summary.event_counts.items()]
    return lines


def _end(summary: Summary) -> str:
    torn = "; the last line is cut off" if summary.torn else ""
    if not summary.has_header:
        return f"of the file{torn}"
    return (summary.end or "the recorder was killed") + torn


def _verdict(summary: Summary) -> str:
    if summary.verified is None:
        return "none"
    return "verified: the replay gives the recorded events" if summary.verified else f"differs: {summary.differs}"


def _date(unix_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=unix_us)).strftime("%Y-%m-%d %H:%M:%S UTC")


SUBCOMMANDS = (
    RecordingCommand("info", "Show time span, streams, rates, latency, gaps and errors of a recording.", _add_info, _info),
    RecordingCommand("export", "Write trades, tops, books and candles as Parquet or CSV (docs/export.md).", add_export, export),
)
