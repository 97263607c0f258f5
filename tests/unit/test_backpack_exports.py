"""Everything that a public annotation names can be imported from a root."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any, get_args, get_type_hints

import pytest

import backpack_proto
import backpack_runtime

ROOTS = (backpack_proto, backpack_runtime)
EXPORTED = {f"{root.__name__}.{name}": getattr(root, name) for root in ROOTS for name in root.__all__}
OURS = ("backpack_proto", "backpack_runtime")

# What a machine says to whoever drives it is of the inside. `Session.handle` is the exception, which a runtime of one's own calls.
DRIVEN_INSIDE = {backpack_proto.Account, backpack_runtime.Exchange}


def is_ours(found: object) -> bool:
    return isinstance(found, type) and found.__module__.split(".")[0] in OURS


def public_functions(exported: object) -> Iterator[tuple[str, Any]]:
    """The functions that a user of an exported name can call, and those that make the class."""
    if isinstance(exported, FunctionType):
        yield exported.__name__, exported
    if not is_ours(exported) or not isinstance(exported, type):
        return
    for owner in exported.__mro__:
        if not is_ours(owner):
            continue
        for name, member in vars(owner).items():
            if name.startswith("_") and name not in {"__init__", "__iter__", "__getitem__", "__call__"}:
                continue
            if name == "handle" and exported in DRIVEN_INSIDE:
                continue
            match member:
                case FunctionType():
                    yield name, member
                case classmethod() | staticmethod():
                    yield name, member.__func__
                case property(fget=FunctionType() as read):
                    yield name, read
                case _:
                    pass


def annotations_of(exported: object) -> Iterator[tuple[str, Any]]:
    for name, function in public_functions(exported):
        for argument, hint in get_type_hints(function).items():
            yield f"{name}: {argument}", hint
    if isinstance(exported, type):
        for owner in exported.__mro__:
            if is_ours(owner):
                hints = get_type_hints(owner)
                yield from ((name, hints[name]) for name in inspect.get_annotations(owner) if not name.startswith("_"))
    elif not isinstance(exported, FunctionType):
        yield "alias", exported


def classes_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    origin = getattr(hint, "__origin__", None)
    if isinstance(origin, type):
        yield origin
    for part in get_args(hint):
        yield from (found for one in (part if isinstance(part, list) else [part]) for found in classes_in(one))


def private_classes(exported: object) -> dict[str, str]:
    known = {value for value in EXPORTED.values() if isinstance(value, type)}
    return {
        f"{found.__module__}.{found.__qualname__}": where
        for where, hint in annotations_of(exported)
        for found in classes_in(hint)
        if is_ours(found) and found not in known
    }


@pytest.mark.parametrize("name", EXPORTED)
def test_a_class_in_a_public_annotation_can_be_imported_from_a_root(name: str) -> None:
    assert private_classes(EXPORTED[name]) == {}


def test_the_walk_sees_what_is_not_exported() -> None:
    class Hidden:
        pass

    Hidden.__module__ = "backpack_proto.hidden"

    class Seen:
        def method(self, given: tuple[Hidden, ...] | None) -> dict[str, list[Hidden]]:
            raise NotImplementedError

        @property
        def member(self) -> Hidden:
            raise NotImplementedError

    Seen.__module__ = "backpack_proto.seen"
    functions = dict(public_functions(Seen))
    assert set(functions) == {"method", "member"}
    hints = get_type_hints(functions["method"], localns={"Hidden": Hidden})
    assert {found for hint in hints.values() for found in classes_in(hint) if is_ours(found)} == {Hidden}


def test_the_lists_of_names_are_sorted_and_have_each_name_once() -> None:
    for root in ROOTS:
        assert len(set(root.__all__)) == len(root.__all__)
        assert all(hasattr(root, name) for name in root.__all__)


def test_no_exported_name_is_a_module() -> None:
    assert [name for name, value in EXPORTED.items() if inspect.ismodule(value)] == []
