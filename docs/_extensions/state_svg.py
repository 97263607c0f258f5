"""State diagrams as drawings, by nothing but what is here.

Every state is a column and every edge a row of its own, so that no two labels can meet.
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["drawing", "edges"]

COLUMN, BOX, ROW, TOP, MARGIN, LETTER = 136, 118, 34, 46, 8, 6.7

_EDGE = re.compile(r"(\[\*\]|\w+) --> (\w+)(?:: (.+))?")


def edges(lines: list[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the first state and the edges of a state diagram: from, to, inputs.

    Raises:
        ValueError: it is no state diagram, or has a line that is not an edge.
    """
    if not lines or lines[0].strip() != "stateDiagram-v2":
        raise ValueError("only stateDiagram-v2 is drawn")
    begin, found = "", []
    for line in lines[1:]:
        match = _EDGE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"not an edge: {line.strip()!r}")
        before, after, label = match[1], match[2], match[3] or ""
        if before == "[*]":
            begin = after
        else:
            found.append((before, after, label))
    if not begin:
        raise ValueError("no first state: [*] --> STATE")
    return begin, found


def drawing(begin: str, moves: list[tuple[str, str, str]]) -> str:
    """Return the diagram as SVG that takes its colours from the page."""
    states = _by_distance(begin, moves)
    moves = sorted(moves, key=lambda move: (states.index(move[0]), states.index(move[1])))
    middle = {state: MARGIN + COLUMN * position + COLUMN / 2 for position, state in enumerate(states)}
    width = 2 * MARGIN + COLUMN * len(states)
    height = TOP + ROW * len(moves) + 26
    said = "; ".join(f"{before} to {after}: {label}" for before, after, label in moves)
    parts = [
        (
            f'<svg class="states" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{escape(f"Begins in {begin}. {said}")}</title>'
        )
    ]
    for state in states:
        x = middle[state]
        parts.append(f'<line class="life" x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 8}"/>')
        kind = "state first" if state == begin else "state"
        parts.append(f'<rect class="{kind}" x="{x - BOX / 2}" y="8" width="{BOX}" height="28" rx="6"/>')
        parts.append(f'<text class="name" x="{x}" y="27">{escape(state)}</text>')
    for row, (before, after, label) in enumerate(moves):
        y = TOP + ROW * row + 26
        start, end = middle[before], middle[after]
        sign = 1 if end > start else -1
        half = len(label) * LETTER / 2
        x = min(max((start + end) / 2, MARGIN + half), width - MARGIN - half)
        parts.append(f'<rect class="ground" x="{x - half - 3}" y="{y - 19}" width="{2 * half + 6}" height="15"/>')
        parts.append(f'<text class="label" x="{x}" y="{y - 7}">{escape(label)}</text>')
        parts.append(f'<circle class="from" cx="{start}" cy="{y}" r="3"/>')
        parts.append(f'<line class="edge" x1="{start}" y1="{y}" x2="{end - sign * 7}" y2="{y}"/>')
        parts.append(f'<path class="tip" d="M {end} {y} l {-sign * 9} -4.5 v 9 z"/>')
    return "".join([*parts, "</svg>"])


def _by_distance(begin: str, moves: list[tuple[str, str, str]]) -> list[str]:
    """Return the states in the order in which they are reached."""
    states = [begin]
    for state in states:  # grows while it is walked through
        states += sorted({after for before, after, _ in moves if before == state} - set(states))
    return states + sorted({state for move in moves for state in move[:2]} - set(states))
