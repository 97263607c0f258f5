"""Plain English, counted: `python -m tools.plain_language` shows the figures of each room, `--check` fails where one is over its limit.

Prose is read from docstrings (those behind attributes too), comments, texts of errors, help texts and documents. Code inside prose is left out: backticks,
fenced blocks, indented examples. A turn of phrase is counted in 1,000 words. Its limit is twice the larger figure of trio and websockets, which
`--measure trio websockets` counts again. Phrases that have a plainer form, and docstrings that begin with "What", "Whether" or "How", have no
limit but zero.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, cast

__all__ = [
    "LIMITS",
    "PHRASES",
    "ROOMS",
    "Passage",
    "Prose",
    "document_prose",
    "faults",
    "main",
    "over_limit",
    "python_prose",
    "rates",
]

PATTERNS = {
    "what": re.compile(r"\b(?:what|whatever|whoever)\b", re.IGNORECASE),
    "nothing": re.compile(r"\b(?:none|nobody|nothing)\b"),
    "semicolon": re.compile(r";(?=\s|$)"),
}
"""Turns of phrase that cost the reader a second look: clauses that stand for a noun, negations that stand for one, chained clauses."""

MEASURED = {
    "trio 0.35.0": {"what": 1.5, "nothing": 0.5, "semicolon": 1.9},
    "websockets 17.4": {"what": 0.2, "nothing": 0.0, "semicolon": 2.8},
}
"""The same counts in two libraries that are praised for their prose, in 1,000 words."""

LIMITS = {turn: 2 * max(figures[turn] for figures in MEASURED.values()) for turn in PATTERNS}

PHRASES = {
    r"\banew\b": "again",
    r"\bin so many words\b": "explicitly",
    r"\bat the most\b": "at most",
    r"\bgone around\b": "bypassed",
    r"\b(?:comes|come|came) along\b": "included",
    r"\bis no (?:positive|valid|port|number|proxy)\b": "not a ...",
    r"\bthat (?:is|are) none\b": "invalid",
    r"\bfor who(?:ever)?\b": "for users who",
}
"""Phrases with a plainer form beside each."""

NOT_A_START = re.compile(r"(?:What|Whether|How)\b")

ROOMS = {
    "backpack_proto": ("backpack_proto/*.py",),
    "backpack_proto/account": ("backpack_proto/account/**/*.py",),
    "backpack_proto/auth": ("backpack_proto/auth/**/*.py",),
    "backpack_proto/book": ("backpack_proto/book/**/*.py",),
    "backpack_proto/connection": ("backpack_proto/connection/**/*.py",),
    "backpack_proto/exchange": ("backpack_proto/exchange/**/*.py",),
    "backpack_proto/orders": ("backpack_proto/orders/**/*.py",),
    "backpack_proto/rest": ("backpack_proto/rest/**/*.py",),
    "backpack_proto/streams": ("backpack_proto/streams/**/*.py",),
    "backpack_proto/testing": ("backpack_proto/testing/**/*.py",),
    "backpack_runtime": ("backpack_runtime/*.py",),
    "backpack_runtime/cli": ("backpack_runtime/cli/**/*.py",),
    "backpack_runtime/cryptofeed": ("backpack_runtime/cryptofeed/**/*.py",),
    "backpack_runtime/delivery": ("backpack_runtime/delivery/**/*.py",),
    "backpack_runtime/framing": ("backpack_runtime/framing/**/*.py",),
    "backpack_runtime/network": ("backpack_runtime/network/**/*.py",),
    "backpack_runtime/orders": ("backpack_runtime/orders/**/*.py",),
    "backpack_runtime/rest": ("backpack_runtime/rest/**/*.py",),
    "backpack_runtime/transports": ("backpack_runtime/transports/**/*.py",),
    "backpack_runtime/checkup": ("backpack_runtime/checkup/**/*.py",),
    "backpack_runtime/exports": ("backpack_runtime/exports/**/*.py",),
    "backpack_runtime/prometheus": ("backpack_runtime/prometheus/**/*.py",),
    "backpack_runtime/publishing": ("backpack_runtime/publishing/**/*.py",),
    "backpack_runtime/recording": ("backpack_runtime/recording/**/*.py",),
    "backpack_runtime/serving": ("backpack_runtime/serving/**/*.py",),
    "tools": ("tools/**/*.py", "deploy/**/*.py", "docs/**/*.py", "hatch_build.py"),
    "documents": ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md"),
}
"""The rooms of the project. Each is held to the limits by itself, so that one cannot hide in another."""

OPEN: frozenset[str] = frozenset()
"""Rooms that have not been gone through yet: shown, not checked."""

EXCLUDED = ("docs/protocol.md", "docs/sandbox-clients.md", "docs/support.md")
"""Documents that are mostly words of the exchange, or tables that a test makes."""

_DIRECTIVE = re.compile(r"#\s*(?:noqa|type:|pragma|ruff|mypy)[^-]*-?\s*")
_CODE = re.compile(r"``[^`]*``|`[^`]*`")
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


class Passage(NamedTuple):
    """A piece of prose and where it stands."""

    path: Path
    line: int
    text: str
    starts: bool = False
    """It is a docstring, whose first word counts."""


class Prose(NamedTuple):
    """Number of words, and of each turn of phrase."""

    words: int
    found: dict[str, int]


def python_prose(path: Path) -> Iterator[Passage]:
    """Read docstrings, comments, error texts and help texts of a module.

    Raises:
        SyntaxError: it is not Python.
    """
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
            for statement in body if isinstance(body, list) else ():
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    text = statement.value.value
                    if isinstance(text, str):
                        yield Passage(path, statement.lineno, _without_examples(text), starts=True)
        if isinstance(node, ast.Call):
            helps = [keyword.value for keyword in node.keywords if keyword.arg in {"help", "description"}]
            yield from (Passage(path, part.lineno, part.value) for value in helps for part in _texts(value))
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from (Passage(path, node.lineno, part.value) for part in _texts(node.exc) if " " in part.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], _DIRECTIVE.sub("", token.string).lstrip("#: "))


class _Text(Protocol):
    value: str
    lineno: int


def _texts(node: ast.AST) -> Iterator[_Text]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield cast("_Text", part)


def document_prose(path: Path) -> Iterator[Passage]:
    """Read the prose of a Markdown document, tables and lists included."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield Passage(path, number, line)


def rates(passages: Iterable[Passage]) -> Prose:
    """Count words and turns of phrase."""
    words, found = 0, dict.fromkeys(PATTERNS, 0)
    for passage in passages:
        text = _CODE.sub("X", passage.text)
        words += len(_WORD.findall(text))
        for turn, pattern in PATTERNS.items():
            found[turn] += len(pattern.findall(text))
    return Prose(words, found)


def faults(passages: Iterable[Passage]) -> Iterator[str]:
    """Name each place that no limit allows, as `path:line: text`."""
    for path, line, text, starts in passages:
        if starts and NOT_A_START.match(text.lstrip()):
            yield f"{path}:{line}: a docstring begins with {text.split()[0]!r}"
        for phrase, plain in PHRASES.items():
            if (found := re.search(phrase, _CODE.sub("X", text))) is not None:
                yield f"{path}:{line}: {found[0]!r}, plainly {plain!r}"


def allowed(turn: str, words: int) -> int:
    """Return how often a turn of phrase may stand in a number of words: at least once."""
    return max(1, int(LIMITS[turn] * words / 1000))


def over_limit(room: str, prose: Prose) -> list[str]:
    """Name each turn of phrase that a room has too often."""
    return [
        f"{room}: {turn!r} {count} times in {prose.words} words, at most {allowed(turn, prose.words)}"
        for turn, count in prose.found.items()
        if count > allowed(turn, prose.words)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Show or check the figures, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="plain_language", description="Count turns of phrase that cost a reader a second look."
    )
    parser.add_argument("--check", action="store_true", help="fail where a room that has been gone through is over a limit")
    parser.add_argument("--list", action="store_true", help="name each place")
    parser.add_argument("--measure", nargs="+", metavar="PACKAGE", help="count other packages, which are installed, instead")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="only these rooms, or files")
    parsed = parser.parse_args(arguments)
    if parsed.measure:
        for package in parsed.measure:
            _show(package, [passage for path in _package(package) for passage in python_prose(path)])
        return 0
    root = Path(__file__).resolve().parents[1]
    failed = False
    for room in parsed.rooms or ROOMS:
        paths = [root / room] if room not in ROOMS else [path for pattern in ROOMS[room] for path in sorted(root.glob(pattern))]
        passages = [passage for path in paths for passage in _read(path, root)]
        prose = _show(room, passages) if not parsed.check else rates(passages)
        if parsed.list:
            _list(passages, root)
        if parsed.check and room not in OPEN:
            broken = [*over_limit(room, prose), *faults(passages)]
            print("".join(f"{line}\n" for line in broken), end="")
            failed = failed or bool(broken)
    return int(failed)


def _read(path: Path, root: Path) -> Iterable[Passage]:
    if path.suffix == ".py":
        return python_prose(path)
    return () if path.relative_to(root).as_posix() in EXCLUDED else document_prose(path)


def _package(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"plain_language: there is no package {name!r}")
    root = Path(spec.submodule_search_locations[0])
    return [path for path in sorted(root.rglob("*.py")) if "tests" not in path.relative_to(root).parts]


def _show(room: str, passages: Sequence[Passage]) -> Prose:
    prose = rates(passages)
    figures = "  ".join(f"{turn} {1000 * count / max(prose.words, 1):5.1f}" for turn, count in prose.found.items())
    print(f"{room:30} {prose.words:6} words  {figures}  named {sum(1 for _ in faults(passages)):3}")
    return prose


def _list(passages: Iterable[Passage], root: Path) -> None:
    for passage in passages:
        text = _CODE.sub("X", passage.text)
        for offset, line in enumerate(text.splitlines()):
            turns = [turn for turn, pattern in PATTERNS.items() if pattern.search(line)]
            if turns:
                print(f"  {passage.path.relative_to(root)}:{passage.line + offset}: {', '.join(turns)}: {line.strip()}")
    print("".join(f"  {fault}\n" for fault in faults(passages)), end="")


def _without_examples(docstring: str) -> str:
    """Leave out the lines of a docstring that are code: indented deeper than its prose, behind a line that ends with a colon or is empty."""
    lines = docstring.splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    margin = min(indents, default=0)
    kept, example = lines[:1], False
    for before, line in pairwise(lines):
        deep = len(line) - len(line.lstrip()) > margin
        example = deep and (example or not before.strip())
        kept.append("" if example else line)
    return "\n".join(kept)


if __name__ == "__main__":
    sys.exit(main())
