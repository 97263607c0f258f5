"""The navigation of the site, and `docs/llms.txt`: one line for each page, for whoever reads by program.

`python docs/_extensions/llms_index.py` writes the file, a test compares it, and the site has a copy.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge_links import prose

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["DOCUMENT", "listing", "navigation", "pages", "setup"]

DOCS = Path(__file__).parents[1]
DOCUMENT = DOCS / "llms.txt"

_TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)


def pages() -> list[str]:
    """Return the names of all pages but the first one."""
    found = (path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
    return sorted(
        path.with_suffix("").as_posix() for path in found if not path.parts[0].startswith("_") and path.name != "index.md"
    )


def navigation() -> dict[str, list[str]]:
    """Return the names of the pages below each caption of the navigation, in its order."""
    found: dict[str, list[str]] = {}
    for block in _TOCTREE.findall((DOCS / "index.md").read_text(encoding="utf-8")):
        caption = re.search(r"^:caption: (.+)$", block, re.MULTILINE)
        section = found.setdefault(caption[1] if caption else "", [])
        for entry in (line.strip() for line in block.splitlines()):
            if entry and not entry.startswith(":"):
                section += [page for page in _matching(entry) if page not in section]
    return found


def listing() -> str:
    """Return the content of `llms.txt`."""
    title, text = _described("index")
    lines = [f"# {title}", "", f"> {text}", ""]
    for caption, names in navigation().items():
        lines += [f"## {caption}", ""]
        lines += [f"- [{title}]({name}.md): {text}" for name in names for title, text in [_described(name)]]
        lines += [""]
    return "\n".join(lines)


def _described(name: str) -> tuple[str, str]:
    """Return the title of a page and the first sentence below it."""
    path = DOCS / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    included = _INCLUDED.search(text)
    if included:
        text = (path.parent / included[1]).read_text(encoding="utf-8")
    title, _, body = prose(text).strip().partition("\n")
    paragraphs = [" ".join(part.split()) for part in body.split("\n\n") if part.strip() and part.strip()[0] not in "#|<*-!"]
    first = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraphs[0]) if paragraphs else ""
    return title.removeprefix("# ").replace("`", ""), re.split(r"(?<=[.:?]) (?=[A-Z`*])", first)[0].rstrip(":")


def _leave_out(_app: Sphinx, name: str, source: list[str]) -> None:
    """Leave out of the navigation what no page is there for."""
    if name == "index":
        kept = [line for line in source[0].splitlines() if not re.fullmatch(r"[\w/-]+\*", line) or _matching(line)]
        source[0] = "\n".join(kept)


def _matching(entry: str) -> list[str]:
    return [page for page in pages() if fnmatchcase(page, entry)]


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "llms.txt").write_text(listing().replace(".md)", ".html)"), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy the list into each site."""
    app.connect("source-read", _leave_out)
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    DOCUMENT.write_text(listing(), encoding="utf-8")
