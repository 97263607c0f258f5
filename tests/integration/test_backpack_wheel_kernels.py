"""Native kernels in the wheel: compiled where there is a compiler, left out where there is none or where that was asked for."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import pytest

from backpack_proto import __version__
from backpack_runtime.kernels import KERNELS
from wheel_environments import LACKING, NO_COMPILER, ROOT, Environment, build, copy_tree, run

if LACKING:
    pytest.skip(f"{LACKING} is not installed", allow_module_level=True)

PURE = {"BACKPACK_FEED_PURE": "1"}
NATIVE = {"BACKPACK_FEED_NATIVE": "1"}
WITHOUT_COMPILER = {"PATH": "", "CC": "no-such-compiler"}
BUILT = {f"{kernel.replace('.', '/')}.abi3.so" for kernel in KERNELS}
STUBS = {f"{kernel.replace('.', '/')}.pyi" for kernel in KERNELS}
PURE_NAME = f"backpack_feed-{__version__}-py3-none-any.whl"
LOAD = """
import importlib.util, sys
from types import ModuleType
# What a kernel imports needs libraries, and none is installed there.
for name in ("backpack_proto", "backpack_proto.inputs"):
    sys.modules[name] = ModuleType(name)
sys.modules["backpack_proto.inputs"].TextReceived = tuple
for path in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location(path.rpartition("/")[2].partition(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(spec.name, *sorted(name for name in dir(module) if not name.startswith("_")))
"""

needs_compiler = pytest.mark.skipif(NO_COMPILER is not None, reason=str(NO_COMPILER))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def declared(kernel: str) -> str:
    """The kernel and its public names, as its stub says. Imports are none of them."""
    names = set()
    for node in ast.parse(ROOT.joinpath(*kernel.split(".")).with_suffix(".pyi").read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return " ".join([kernel.rpartition(".")[2], *sorted(name for name in names if not name.startswith("_"))])


def interpreters() -> set[str]:
    """This interpreter, and one of each other version that is in the path. A shim of pyenv may be there without its version."""
    found = {sys.version_info[:2]: sys.executable}
    for minor, folder in product((11, 12, 13), os.environ["PATH"].split(os.pathsep)):
        path = shutil.which(f"python3.{minor}", path=folder)
        if (3, minor) not in found and path is not None and run(path, "-c", "").returncode == 0:
            found[3, minor] = path
    return set(found.values())


def compiled(names: set[str]) -> set[str]:
    return {name for name in names if name.endswith((".so", ".pyd", ".dylib"))}


def compiled_in(tree: Path) -> set[str]:
    return compiled({path.relative_to(tree).as_posix() for path in tree.rglob("*")})


def built(folder: Path, *, target: str = "wheel", tree: Path = ROOT, variables: Mapping[str, str] | None = None) -> Path:
    """Build, and return the file."""
    ended = build(folder, target=target, tree=tree, variables=variables)
    assert ended.returncode == 0, ended.stderr
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("pure"), variables=PURE)


@pytest.mark.required
@needs_compiler
def test_a_native_wheel_is_one_for_all_interpreters_of_a_platform(wheel: Path) -> None:
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("backpack_feed", __version__, "cp311", "abi3")
    assert platform.startswith(("linux_", "macosx_"))
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"backpack_feed-{__version__}.dist-info/WHEEL").decode().splitlines()
    assert f"Tag: cp311-abi3-{platform}" in lines
    assert "Root-Is-Purelib: false" in lines


@pytest.mark.required
@needs_compiler
def test_the_kernels_are_all_that_a_native_wheel_has_more_than_a_pure_one(wheel: Path, pure_wheel: Path) -> None:
    assert pure_wheel.name == PURE_NAME
    native, pure = contents(wheel), contents(pure_wheel)
    assert compiled(native) == native - pure == BUILT
    assert native >= pure
    assert pure >= {"backpack_proto/py.typed", "backpack_runtime/py.typed", *STUBS}
    assert [name for name in native if name.endswith((".c", ".h"))] == []


@pytest.mark.required
@needs_compiler
def test_every_interpreter_loads_the_same_file_which_has_what_its_stub_says(wheel: Path, tmp_path: Path) -> None:
    for number, interpreter in enumerate(sorted(interpreters())):
        environment = tmp_path / str(number)
        assert run(interpreter, "-m", "venv", "--without-pip", str(environment)).returncode == 0
        python = str(environment / "bin" / "python")
        installed = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel))
        assert installed.returncode == 0, installed.stderr
        files = [str(path) for path in environment.rglob("*.so")]
        loaded = run(python, "-W", "error", "-c", LOAD, *files)
        assert loaded.returncode == 0, f"{interpreter}: {loaded.stderr}"
        assert sorted(loaded.stdout.splitlines()) == sorted(map(declared, KERNELS))


@pytest.mark.parametrize("variables", [PURE, WITHOUT_COMPILER], ids=["asked for", "without a compiler"])
def test_the_first_command_works_with_pure_python(
    variables: Mapping[str, str], make_environment: Callable[..., Environment], tmp_path: Path
) -> None:
    folder = tmp_path / "wheel"
    ended = build(folder, variables=variables)
    assert ended.returncode == 0, ended.stderr
    warnings = [line for line in ended.stderr.splitlines() if "native kernels" in line]
    if variables is PURE:
        assert warnings == []
    else:
        [warning] = warnings
        assert warning.startswith("the native kernels were not built, pure Python takes their place: ")
        assert NO_COMPILER or "no-such-compiler" in warning
    environment = make_environment(cryptofeed=False)
    environment.install(str(folder / PURE_NAME))
    assert environment.command("--version").stdout == f"backpack-feed {__version__} (pure Python)\n"
    watched = environment.command("watch", "SOL_USDC", "--sandbox", "--seconds", "0.5")
    assert watched.returncode == 0, watched.stderr


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        (NATIVE | WITHOUT_COMPILER, "the native kernels were not built, and BACKPACK_FEED_NATIVE=1 asks for them: "),
        (NATIVE | PURE, "BACKPACK_FEED_PURE and BACKPACK_FEED_NATIVE exclude each other: "),
        ({"BACKPACK_FEED_PURE": "yes"}, "BACKPACK_FEED_PURE: 1, 0 or empty, got 'yes'"),
        ({"BACKPACK_FEED_NATIVE": "2"}, "BACKPACK_FEED_NATIVE: 1, 0 or empty, got '2'"),
    ],
    ids=["no compiler", "both", "PURE=yes", "NATIVE=2"],
)
def test_no_wheel_is_built_that_was_not_asked_for(variables: Mapping[str, str], complaint: str, tmp_path: Path) -> None:
    ended = build(tmp_path, variables=variables)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(complaint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.required
@needs_compiler
def test_the_kernels_compile_without_a_warning(tmp_path: Path) -> None:
    ended = build(tmp_path, variables={**NATIVE, "CFLAGS": "-Wall -Wextra -Werror"})
    assert ended.returncode == 0, ended.stderr + ended.stdout


@pytest.mark.required
@needs_compiler
def test_what_does_not_compile_makes_a_pure_wheel(tmp_path: Path) -> None:
    """As without the headers of Python."""
    ended = build(tmp_path, variables={"CFLAGS": "-include no-such-header.h"})
    assert ended.returncode == 0
    assert "the native kernels were not built" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == [PURE_NAME]


@pytest.mark.required
@needs_compiler
def test_the_wheel_from_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    source = built(tmp_path / "sdist", target="sdist")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "extracted", filter="data")
    [tree] = (tmp_path / "extracted").iterdir()
    assert compiled_in(tree) == set()
    again = built(tmp_path / "wheel", tree=tree)
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


@pytest.mark.required
@needs_compiler
def test_an_editable_install_compiles_beside_the_sources_and_leaves_nothing_old(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    kernel = tree.joinpath(*KERNELS[0].split("."))
    source, library = kernel.with_suffix(".c"), kernel.with_suffix(".abi3.so")

    def install(variables: Mapping[str, str]) -> set[str]:
        folder = tmp_path / "editable"
        ended = build(folder, target="wheel:editable", tree=tree, variables=variables)
        assert ended.returncode == 0, ended.stderr
        assert [path.name for path in folder.iterdir()] == [PURE_NAME]
        assert compiled(contents(folder / PURE_NAME)) == set()
        return compiled_in(tree)

    assert install(NATIVE) == BUILT

    # Another wheel and a source distribution of the same tree do not have them.
    assert compiled(contents(built(tmp_path / "pure", tree=tree, variables=PURE))) == set()
    with tarfile.open(built(tmp_path / "sdist", target="sdist", tree=tree)) as archive:
        assert compiled(set(archive.getnames())) == set()

    # What is compiled is the source as it is now, whichever file has the later time.
    source.write_text(f'{source.read_text()}\nPyAPI_FUNC(const char *) planted(void) {{ return "planted"; }}\n')
    os.utime(source, (0, 0))
    assert install(NATIVE) == BUILT
    assert b"planted" in library.read_bytes()

    assert install(WITHOUT_COMPILER) == set()
    assert install(NATIVE) == BUILT
    assert install(PURE) == set()
