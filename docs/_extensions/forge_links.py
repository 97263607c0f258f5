"""Links between the documents: a build fails where one leads nowhere, a heading that is not there included.

A forge shows the same files, so anchors are those that a forge makes of headings.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


__all__ = ["anchors", "dead_links", "documents", "prose", "setup"]

ROOT = Path(__file__).parents[2]

_log = logging.getLogger(f"sphinx.{__name__}")  # whose warnings fail a build
_FENCE = re.compile(r"^( *)(```+|~~~+|:::+).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} (.+?)#*$", re.MULTILINE)


def documents() -> list[Path]:
    """Return every document of the project: those at the top and those of the site."""
    docs = ROOT / "docs"
    pages = [path for path in docs.rglob("*.md") if not path.relative_to(docs).parts[0].startswith("_")]
    return sorted(ROOT.glob("*.md")) + sorted(pages)


def prose(text: str) -> str:
    """Return a document without its blocks of code."""
    return _FENCE.sub("", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors that a forge makes of the headings of a document."""
    found: Counter[str] = Counter()
    names = set()
    for heading in _HEADING.findall(prose(path.read_text(encoding="utf-8"))):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return frozenset(names)


def dead_links(paths: Iterable[Path]) -> list[str]:
    """Return a line for each link of the documents that leads to no file or to no heading."""
    dead = []
    for path in paths:
        for link in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(path.read_text(encoding="utf-8")))):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                dead.append(f"{path.relative_to(ROOT)}: no file {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                dead.append(f"{path.relative_to(ROOT)}: no heading {link}")
    return dead


IN_PLACE_OF = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "reporting.md",
}
"""The page of the site that has the text of a file at the top of the project."""
_INCLUDE = re.compile(r"```\{include\} \.\./(\w+\.md)\n```\n")


def _lead_to_pages(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Have links lead to pages of the site where a forge shows files, and take over the text of those files."""
    text, up = source[0], r"((?:\.\./)*)\.\./"
    included = _INCLUDE.fullmatch(text)
    if included:
        text, up = (ROOT / included[1]).read_text(encoding="utf-8"), "()"
        text = text.replace("](docs/", "](").replace("](examples/", "](../examples/")
    for file, page in IN_PLACE_OF.items():
        text = re.sub(rf"\]\({up}{re.escape(file)}", rf"](\1{page}", text)
    source[0] = text


def _check(_: Sphinx) -> None:
    for line in dead_links(documents()):
        _log.warning("dead link: %s", line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Check the links of every build."""
    app.connect("builder-inited", _check)
    app.connect("source-read", _lead_to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
