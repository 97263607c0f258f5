"""`python -m tools.make_sync_client`: writes `backpack_runtime/sync_client.py`, a method for each of `BackpackClient`.

Run it whenever a public method of the client is added, changed or removed. With `--check` it only says whether that was forgotten. The
file is then formatted by `ruff format`, if that is installed. The check compares the program, not its format.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin

from backpack_runtime import sync_base
from backpack_runtime.client import BackpackClient

TARGET = Path(sync_base.__file__).with_name("sync_client.py")
OWN = {"aclose", "run", "start"}
"""Written by hand, in `SyncBase`."""
VIEWS = {"AccountView", "BookView"}
"""Views: they change after they were returned."""
PURE = {"settings"}
"""Properties that say the same at all times, before the block as well."""

HEAD = '''"""`BackpackClient` for programs without an event loop. Made by `python -m tools.make_sync_client`: do not edit."""

from __future__ import annotations

{imports}

__all__ = ["BackpackSync"]


class BackpackSync(SyncBase):
    """Backpack Exchange as a context manager and an iterator of typed events, for programs without an event loop.

        with BackpackSync(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
            for event in client:
                ...

    It is `BackpackClient` in a loop of asyncio in a thread of its own: every method is the same without `await`, and may be called from
    several threads. Ctrl-C while a call waits withdraws it. A thread that runs an event loop is refused, and so is a forked process.
    `on_event` is called in the background, where nothing of the client may be called.
    """
'''


class Imports:
    """Where the names of the generated module come from."""

    def __init__(self) -> None:
        self.by_module: dict[str, set[str]] = defaultdict(set)

    def need(self, node: ast.AST, module: ModuleType) -> None:
        """Import every name that stands in an expression of a module."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and not hasattr(builtins, part.id):
                self.by_module[home_of(part.id, module)].add(part.id)

    @property
    def text(self) -> str:
        """The import statements, those of the standard library first."""
        rows = [
            f"from {module} import {', '.join(sorted(names, key=lambda name: (not name.isupper(), name)))}"
            for module, names in sorted(self.by_module.items())
        ]
        groups = [[row for row in rows if part(row)] for part in (_is_standard, _is_core, _is_runtime)]
        return "\n\n".join("\n".join(group) for group in groups if group)


def _is_core(row: str) -> bool:
    return row.startswith("from backpack_proto")


def _is_runtime(row: str) -> bool:
    return row.startswith("from .")


def _is_standard(row: str) -> bool:
    return not (_is_core(row) or _is_runtime(row))


def home_of(name: str, module: ModuleType) -> str:
    """Return the module that a name of a module is imported from, or the module itself where the name is made there."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            base = module.__name__.split(".")[: -node.level] if node.level else []
            return shortened(".".join([*base, *([node.module] if node.module else [])]))
    return shortened(module.__name__)


def shortened(module: str) -> str:
    """Return the name of a module as its neighbours import it."""
    return "." + module.removeprefix("backpack_runtime.") if module.startswith("backpack_runtime.") else module


def without_async(text: str) -> str:
    """Return a docstring of an async method as one of a plain one."""
    for found, instead in (
        ("async for ", "for "),
        ("async with ", "with "),
        ("an async iterator", "an iterator"),
        ("await ", ""),
    ):
        text = text.replace(found, instead)
    return text.replace("aclose", "close")


def items_of(hint: Any, node: ast.expr, imports: Imports, module: ModuleType) -> str | None:
    """Return the type of the items of an async iterator, or None for other types."""
    kind = get_origin(hint) or hint
    if not hasattr(kind, "__anext__"):
        return None
    if get_args(hint) and isinstance(node, ast.Subscript):
        imports.need(node.slice, module)
        return ast.unparse(node.slice)
    returns = ast.parse(str(inspect.get_annotations(kind.__anext__)["return"]), mode="eval").body
    imports.need(returns, sys.modules[kind.__module__])
    return ast.unparse(returns)


def method(name: str, member: object, imports: Imports) -> str:
    """Return the plain twin of a method or property of the client."""
    function = member.fget if isinstance(member, property) else member
    if not isinstance(function, FunctionType):
        raise TypeError(f"{name} is neither a method nor a property: add its kind to tools/make_sync_client.py")
    module = sys.modules[function.__module__]
    [found] = ast.parse(re.sub(r"^    ", "", inspect.getsource(function), flags=re.MULTILINE)).body
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
        raise TypeError(f"{name} has no definition that can be read")
    arguments = found.args
    hints = [
        argument.annotation for argument in (*arguments.args, *arguments.kwonlyargs, arguments.vararg) if argument is not None
    ]
    is_items = found.returns is not None and hasattr(get_origin(hint := evaluated(found.returns, module)) or hint, "__anext__")
    for part in (*hints, *arguments.defaults, *arguments.kw_defaults, None if is_items else found.returns):
        if part is not None:
            imports.need(part, module)
    given = ", ".join(
        [argument.arg for argument in arguments.args[1:]]
        + ([f"*{arguments.vararg.arg}"] if arguments.vararg else [])
        + [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    )
    docstring = without_async(inspect.cleandoc(ast.get_docstring(found, clean=False) or ""))
    if name == "__init__":
        return define("__init__", arguments, "None", docstring, f"super().__init__(BackpackClient({given}))", decorator="")
    if found.returns is None:
        raise TypeError(f"{name} has no annotation of its result")
    returns, target = ast.unparse(found.returns), f"self._client.{name}"
    access = target if isinstance(member, property) else f"{target}({given})"
    lazily = f"lambda: {access}" if isinstance(member, property) or given else target
    if isinstance(found, ast.AsyncFunctionDef):
        body = f"self._call({', '.join(filter(None, [target, given]))})"
    elif (items := items_of(evaluated(found.returns, module), found.returns, imports, module)) is not None:
        returns, body = f"SyncIterator[{items}]", f"self._iterate({lazily})"
    elif returns in VIEWS:
        body = f"self._view({lazily})"
    elif name in PURE:
        body = access
    else:
        body = f"self._read({lazily})"
    decorator = "@property" if isinstance(member, property) else ""
    return define(name, arguments, returns, docstring, body if returns == "None" else f"return {body}", decorator=decorator)


def evaluated(annotation: ast.expr, module: ModuleType) -> Any:
    """Return the object that an annotation names in its module."""
    return eval(ast.unparse(annotation), vars(module))  # noqa: S307 - of our own source


def define(name: str, arguments: ast.arguments, returns: str, docstring: str, body: str, *, decorator: str) -> str:
    """Return the text of a method."""
    lines = docstring.splitlines()
    told = ['"""' + lines[0], *lines[1:]]
    told[-1] += '"""' if len(told) == 1 else ""
    if len(told) > 1:
        told.append('"""')
    rows = [*([decorator] if decorator else []), f"def {name}({ast.unparse(arguments)}) -> {returns}:"]
    rows += [f"    {line}" if line else "" for line in (*told, body)]
    return "\n".join(f"    {row}" if row else "" for row in rows)


def made() -> str:
    """Return the text of the module."""
    imports = Imports()
    imports.by_module[".client"].add("BackpackClient")
    imports.by_module[".sync_base"].add("SyncBase")
    names = ["__init__", *sorted(name for name in dir(BackpackClient) if not name.startswith("_") and name not in OWN)]
    methods = [method(name, inspect.getattr_static(BackpackClient, name), imports) for name in names]
    if any("SyncIterator[" in text for text in methods):
        imports.by_module[".background"].add("SyncIterator")
    return HEAD.format(imports=imports.text) + "\n" + "\n\n".join(methods) + "\n"


def is_same(one: str, other: str) -> bool:
    """Return whether two modules are the same but for their shape."""
    return program(one) == program(other)


def program(text: str) -> str:
    """Return the program of a module without its format: equal for two modules that differ in format only."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = inspect.cleandoc(node.value.value)
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    return ast.dump(tree)


def main(arguments: list[str] | None = None) -> int:
    """Write the module, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_sync_client", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; the exit code is 1 when the module is out of date")
    parsed = parser.parse_args(arguments)
    text = made()
    if parsed.check:
        fresh = TARGET.is_file() and is_same(text, TARGET.read_text(encoding="utf-8"))
        sys.stdout.write("" if fresh else f"{TARGET.name} is out of date: run python -m tools.make_sync_client\n")
        return 0 if fresh else 1
    TARGET.write_text(text, encoding="utf-8")
    for command in (
        ["ruff", "check", "--quiet", "--fix", "--select", "I", str(TARGET)],
        ["ruff", "format", "--quiet", str(TARGET)],
    ):
        try:
            subprocess.run(command, check=True)  # noqa: S603 - a program of ours
        except FileNotFoundError:
            sys.stdout.write("ruff is not installed: run `ruff format` on it before you commit\n")
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
