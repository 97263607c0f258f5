"""Wheels of this project, built here, and virtual environments to install them in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

__all__ = ["BUILT_KERNELS", "LACKING", "NO_COMPILER", "ROOT", "Environment", "build", "copy_tree", "run"]

ROOT = Path(__file__).parents[2]
OURS = ("cryptofeed", "backpack", "_backpack", "_editable", "__pycache__")
BUILT_FROM = (
    "backpack_proto",
    "backpack_runtime",
    "site-packages",
    "tools",
    "LICENSE",
    "README.md",
    "hatch_build.py",
    "pyproject.toml",
)

LACKING = next((name for name in ("hatchling", "editables", "pip") if find_spec(name) is None), None)
"""A library that building and installing needs, and that is not installed."""


def no_compiler() -> str | None:
    """Return why kernels cannot be compiled here, None if they can."""
    if find_spec("setuptools") is None:
        return "setuptools is not installed"
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(command) is None:
        return f"{command} is not installed"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.exists() else f"{header} is not installed"


NO_COMPILER = no_compiler()
BUILT_KERNELS = "pure Python" if NO_COMPILER else "native kernels"
"""The kernels of a wheel that is built here without asking for any."""


class Environment:
    """A virtual environment without pip, driven by that of the interpreter that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        run(sys.executable, "-m", "venv", "--without-pip", str(folder))
        self.site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def link_libraries(self, only: Iterable[str] | None = None) -> None:
        """Make everything importable that is installed, but for cryptofeed and this project. Or the libraries of some distributions."""
        libraries = self.folder / "libraries"
        libraries.mkdir()
        (self.site / "libraries.pth").write_text(f"{libraries}\n")
        if only is None:
            for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
                for entry in Path(installed).iterdir():
                    if not entry.name.startswith(OURS) and entry.suffix != ".pth":
                        (libraries / entry.name).symlink_to(entry)
            return
        for distribution in map(importlib.metadata.distribution, only):
            for file in distribution.files or []:
                link, top = libraries / file.parts[0], str(distribution.locate_file(file.parts[0]))
                if not file.parts[0].startswith((*OURS[1:], "..")) and not link.exists():
                    link.symlink_to(top)

    def copy_cryptofeed(self, into: Path | None = None) -> Path:
        """Install cryptofeed, without asking pip. Returns the folder that its packages are in."""
        into = into or self.site
        for file in importlib.metadata.distribution("cryptofeed").files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = into / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
        return into

    def remove_cryptofeed(self) -> None:
        """Remove cryptofeed as pip does: with everything that lies in its directory and came with it."""
        for folder in self.site.glob("cryptofeed*"):
            shutil.rmtree(folder)

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "pip", "--python", str(self.python), *arguments, timeout=900)

    def install(self, *what: str) -> None:
        ended = self.pip("install", "--no-deps", "--no-index", *what)
        assert ended.returncode == 0, ended.stderr

    def run(self, program: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run(str(self.python), *options, "-c", program, cwd=self.folder, variables=variables)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(str(self.folder / "bin" / "backpack-feed"), *arguments, cwd=self.folder)

    def files(self) -> dict[str, str]:
        """All installed files and folders, but for what Python makes of them."""
        return {
            str(path.relative_to(self.site)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(self.site.glob("**/*"))
            if "__pycache__" not in path.parts
        }


def copy_tree(folder: Path) -> Path:
    """Copy what a wheel is built from, without what others have built there: the tests run from the tree itself."""
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copyfile(source, folder / name)
    return folder


def build(
    folder: Path, *, target: str = "wheel", tree: Path = ROOT, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Build a wheel, or another target of hatchling, into a folder."""
    return run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder), cwd=tree, variables=variables)


def run(
    *command: str, cwd: Path | None = None, timeout: float = 120, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "CRYPTOFEED_", "COV_", "BACKPACK_FEED_"))
    }
    outside |= variables or {}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=outside)
