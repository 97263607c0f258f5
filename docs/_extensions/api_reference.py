"""The directive `exports`: the public names of some modules, each documented from its docstring.

A line of its content is a pattern over the modules in which names are defined, such as `backpack_proto.streams.*`, or one name, such as
`backpack_runtime.Settings`. `rest` stands for all names that no other directive has. Each public name is documented exactly once:
another number is a warning, and so the end of the build.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import getsource
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from docutils import nodes
from sphinx.addnodes import pending_xref, pending_xref_condition
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

__all__ = ["ROOTS", "claims", "homes", "public_names", "setup"]

ROOTS = ("backpack_proto", "backpack_runtime")
PARTS = (
    "backpack_proto.testing",
    "backpack_proto.testing.strategies",
    "backpack_runtime.testing",
    "backpack_runtime.prometheus",
    "backpack_runtime.publishing",
)
"""Public modules beside the roots, each where it is there."""
INSIDE = (
    "Value",
    "Struct",
    "object",
    "Exception",
    "BaseException",
    "Enum",
    "IntEnum",
    "StrEnum",
    "str",
    "int",
    "tuple",
    "Mapping",
)
"""Classes whose members every subclass has, and which are documented once or by Python."""
DRIVEN_INSIDE = {"backpack_proto.Account": "handle", "backpack_runtime.Exchange": "handle, on_book"}
"""Members that only this project's own machines call, with values that are not public."""
WITHOUT_MEMBERS = {"backpack_runtime.BackpackSync"}
"""Classes that repeat the members of another one."""
REST = "rest"

_log = logging.getLogger(__name__)


@cache
def homes(root: str) -> dict[str, str]:
    """Return the module in which each public name of a root is defined, as the imports of the root say."""
    module = import_module(root)
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            home = ".".join(filter(None, [root if node.level else "", node.module]))
            names = [alias.name for alias in node.names]
            found |= dict.fromkeys(import_module(home).__all__ if names == ["*"] else names, home)
    return {name: found.get(name, root) for name in module.__all__}


@cache
def public_names() -> dict[str, str]:
    """Return every public name, and the module in which it is defined. A name that several modules have is that of the first one."""
    found: dict[str, str] = {}
    taken: set[int] = set()
    for root in (*ROOTS, *(module for module in PARTS if find_spec(module) is not None)):
        module = import_module(root)
        for name, home in (homes(root) if root in ROOTS else dict.fromkeys(getattr(module, "__all__", ()), root)).items():
            value = getattr(module, name)
            if not name.startswith("__") and (id(value) not in taken or not isinstance(value, type)):
                taken.add(id(value))
                found[f"{root}.{name}"] = home
    return found


def _meant(pattern: str) -> list[str]:
    names = public_names()
    if pattern in names:
        return [pattern]
    return [name for name, home in names.items() if fnmatchcase(home, pattern)]


@cache
def claims(folder: Path) -> dict[str, list[str]]:
    """Return the names that each line of a directive in the folder stands for.

    A name that stands somewhere by itself is left out of the patterns.
    """
    lines = [
        line.strip()
        for path in sorted(folder.rglob("*.md"))
        for block in re.findall(r"^```\{exports\}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]
    alone = {line for line in lines if line in public_names()}
    meant = {line: [name for name in _meant(line) if name == line or name not in alone] for line in lines if line != REST}
    taken = Counter(name for names in meant.values() for name in names)
    if REST in lines:
        meant[REST] = [name for name in public_names() if name not in taken]
        taken.update(meant[REST])
    for line, count in Counter(lines).items():
        if count > 1:
            _log.warning("exports: the line %r stands %d times", line, count)
    for line, names in meant.items():
        if not names and line != REST:
            _log.warning("exports: %r matches no public name", line)
    for name in public_names():
        if taken[name] != 1:
            _log.warning("exports: %s is documented %d times, expected once", name, taken[name])
    return meant


def _documented(name: str) -> list[str]:
    root, _, last = name.rpartition(".")
    value = getattr(import_module(root), last)
    if isinstance(value, type):
        lines = [f".. autoclass:: {name}"]
        if name not in WITHOUT_MEMBERS:
            lines += ["   :members:", "   :undoc-members:", f"   :inherited-members: {', '.join(_stop_at(value))}"]
            if name in DRIVEN_INSIDE:
                lines += [f"   :exclude-members: {DRIVEN_INSIDE[name]}"]
            if issubclass(value, BaseException):
                lines += ["   :show-inheritance:"]
        return [*lines, ""]
    if callable(value) and getattr(value, "__module__", "").partition(".")[0] in ROOTS and hasattr(value, "__code__"):
        return [f".. autofunction:: {name}", ""]
    text = " ".join(filter(None, [_text_below(public_names()[name], last), _choices(value)]))
    return [f".. py:data:: {last}", f"   :module: {root}", "", f"   {text}", ""]


def _text_below(home: str, name: str) -> str:
    """Return the docstring below the assignment of a name, on one line."""
    body = ast.parse(getsource(import_module(home))).body
    for node, below in pairwise(body):
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if (
            isinstance(target, ast.Name)
            and target.id == name
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            return re.sub(r"`([^`]+)`", r"``\1``", " ".join(str(below.value.value).split()))
    return ""


def _choices(value: object) -> str:
    """Return the members of a union, the words of a closed list, or the values of a constant."""
    if isinstance(value, tuple | int | str):
        return f"``{value}``"
    if get_origin(value) not in {Literal, Union, UnionType}:
        return f"``{value}``" if get_args(value) else ""
    parts = [
        f":py:obj:`~{part.__module__}.{part.__qualname__}`" if isinstance(part, type) else f"``{part!r}``"
        for part in get_args(value)
    ]
    return f"One of {', '.join(parts)}."


def _stop_at(value: type) -> list[str]:
    return [base.__name__ for base in value.__mro__[1:] if base.__name__ in INSIDE] or ["object"]


class Exports(SphinxDirective):
    """The directive."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return what autodoc makes of the names."""
        meant = claims(Path(self.env.srcdir))
        names = [name for line in self.content if line.strip() for name in sorted(meant[line.strip()], key=_order)]
        lines = ["```{eval-rst}", *(line for name in names for line in _documented(name)), "```"]
        return self.parse_text_to_nodes("\n".join(lines))


def _order(name: str) -> tuple[str, str]:
    return name.rpartition(".")[2].lower(), name


@cache
def _by_identity() -> dict[str, str]:
    """Return the public name of each class by the path of its definition."""
    return {f"{home}.{name.rpartition('.')[2]}": name for name, home in public_names().items()} | {
        f"{value.__module__}.{value.__qualname__}": name
        for name in public_names()
        if isinstance(value := getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]), type)
    }


@cache
def _by_last_name() -> dict[str, str]:
    """Return the public name behind a word in a text; of two with one name it is the runtime's, which most programs import."""
    return {name.rpartition(".")[2]: name for name in public_names() if not name.endswith("__")}


class PublicNames(SphinxPostTransform):
    """Resolves references to Python names: to the place of a public one, and to plain text for all others.

    It comes before Sphinx's own search, which looks through all names for each reference. Public annotations have public classes, but for
    type variables: tests/unit/test_backpack_exports.py holds them to that.
    """

    default_priority = 5

    def run(self, **_: object) -> None:
        """Replace the references of one document."""
        for node in list(self.document.findall(pending_xref)):
            if node.get("refdomain") == "py":
                self._resolve(node)
        for literal in list(self.document.findall(nodes.literal)):
            name = _by_last_name().get(literal.astext())
            place = self.env.domains.python_domain.objects.get(name or "")
            if place is not None and isinstance(literal.parent, nodes.paragraph | nodes.entry):
                found = literal.deepcopy()
                literal.replace_self(
                    make_refnode(self.app.builder, self.env.docname, place.docname, place.node_id, found, name)
                )

    def _resolve(self, node: pending_xref) -> None:
        target = str(node["reftarget"])
        last = target.rpartition(".")[2]
        ours = target.startswith(ROOTS)
        shown = nodes.Text(last) if isinstance(node[0], pending_xref_condition) else node[0].deepcopy()
        objects = self.env.domains.python_domain.objects
        for candidate in (_by_identity().get(target), *(f"{root}.{last}" for root in ROOTS if ours or target == last)):
            if candidate is not None and candidate in objects:
                found = objects[candidate]
                builder = self.app.builder
                node.replace_self(make_refnode(builder, self.env.docname, found.docname, found.node_id, shown, candidate))
                return
        node.replace_self(shown)


_EARLY, _LATE = 100, 900


def _read_markdown(_app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Make reStructuredText of what docstrings have of Markdown: code in single backticks, blocks of code, and names of pages."""
    text = re.sub(r"(?<![`:\w])`([^`]+)`(?!`)(\w?)", _as_literal, "\n".join(lines))
    text = re.sub(r"(?<![\w`/])docs/([\w/-]+)\.md(?!\w)", r":doc:`docs/\1.md </\1>`", text)
    lines[:] = re.sub(r"(^\S.*\n)\n(?= {4})", r"\1\n::\n\n", text, flags=re.MULTILINE).split("\n")
    _told[what, name] = list(lines)


def _as_literal(code: re.Match[str]) -> str:
    return f"``{code[1]}``" + (code[2] and rf"\ {code[2]}")


def _keep_sentences(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Undo napoleon's reading of a member: it takes what stands before a colon for a type."""
    before = _told.pop((what, name), None)
    if before is not None and what in {"attribute", "data", "property"}:
        lines[:] = str(GoogleDocstring(before, app.config, app, "method", name, found, options)).split("\n")


def _shorten_contents(_app: Sphinx, env: BuildEnvironment) -> None:
    """Keep members out of the tables of contents, which each page of the site copies as a whole."""
    for name, contents in env.tocs.items():
        if name.startswith("reference/"):
            for entry in list(contents.findall(nodes.reference)):
                item = entry.parent.parent
                if str(entry.get("anchorname", "")).count(".") > 1 and item.parent is not None:
                    item.parent.remove(item)


_told: dict[tuple[str, str], list[str]] = {}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("exports", Exports)
    app.connect("autodoc-process-docstring", _read_markdown, priority=_EARLY)
    app.connect("autodoc-process-docstring", _keep_sentences, priority=_LATE)
    app.add_post_transform(PublicNames)
    app.connect("env-updated", _shorten_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
