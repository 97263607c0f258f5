"""State diagrams of the machines, drawn from the tables that the code runs by: `python tests/support/state_diagrams.py` writes them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from backpack_proto.book import audit, sync
from backpack_proto.connection import canary, connection, heartbeat, path
from backpack_proto.machine import Transitions

__all__ = ["DIAGRAMS", "DOCUMENT", "Diagram", "document"]

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "machines.md"


class Diagram(NamedTuple):
    """One machine and what there is to say of it."""

    title: str
    text: str
    transitions: Transitions[Any]
    begin: Enum


DIAGRAMS = (
    Diagram(
        "A book: synchronising",
        "A book becomes live by an edge into FOLLOWING, and by no other. From there on its claims decide whether it is live.",
        sync.TRANSITIONS,
        sync.SyncState.IDLE,
    ),
    Diagram("A book: auditing", "A book that follows is compared with snapshots.", audit.TRANSITIONS, audit.AuditState.OFF),
    Diagram("The path of a connection", "PROVED is the claim of the path.", path.TRANSITIONS, path.PathState.DOWN),
    Diagram("Canaries", "", canary.TRANSITIONS, canary.CanaryState.OFF),
    Diagram("The connection", "", connection.TRANSITIONS, connection.ConnectionState.IDLE),
    Diagram("The heartbeat", "", heartbeat.TRANSITIONS, heartbeat.HeartbeatState.IDLE),
)


def document() -> str:
    """Return the document: inputs that leave a state as it is are listed below each diagram."""
    parts = [
        "# State diagrams\n\nDrawn from the transition tables of the machines by `python tests/support/state_diagrams.py`; a test compares them.\n"
    ]
    for diagram in DIAGRAMS:
        parts.append(f"\n## {diagram.title}\n\n{diagram.text}\n".replace("\n\n\n", "\n"))
        parts.append(_drawn(diagram))
    return "".join(parts)


def _drawn(diagram: Diagram) -> str:
    moves: dict[tuple[str, str], list[str]] = {}
    stays: dict[str, list[str]] = {}
    for state, given, to in diagram.transitions.edges:
        if state is to:
            stays.setdefault(state.name, []).append(given.__name__)
        else:
            moves.setdefault((state.name, to.name), []).append(given.__name__)
    lines = ["\n```mermaid", "stateDiagram-v2", f"    [*] --> {diagram.begin.name}"]
    lines += [f"    {before} --> {after}: {', '.join(sorted(names))}" for (before, after), names in sorted(moves.items())]
    lines += ["```", ""]
    lines += [f"* {state} stays: {', '.join(f'`{name}`' for name in sorted(names))}" for state, names in sorted(stays.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
