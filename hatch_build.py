"""Build hook: compiles the native kernels into the wheel, or leaves it a pure one (docs/kernels.md).

Every C file of the packages is a module of its own and has a twin in Python, which runs where the module is missing. All of them
are built, or neither. They are built for the stable ABI, so one wheel serves every CPython from 3.11 on.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilder, WheelBuilderConfig

PURE = "BACKPACK_FEED_PURE"
NATIVE = "BACKPACK_FEED_NATIVE"

OLDEST = (3, 11)
LIMITED_API = f"0x{OLDEST[0]:02X}{OLDEST[1]:02X}0000"
PYTHON_TAG = f"cp{OLDEST[0]}{OLDEST[1]}"

OPTIONS = [] if os.name == "nt" else ["-fvisibility=hidden"]
if OPTIONS and not os.environ.get("CFLAGS"):
    # These would come after those of the user. With debug information the same source in another folder would make another file.
    OPTIONS += ["-O3", "-g0"]


class NativeKernelsHook(BuildHookInterface[WheelBuilderConfig]):
    """Adds the compiled kernels to a wheel, or puts them beside their sources where the install is an editable one."""

    _folder: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files of the wheel are collected."""
        pure, native = self._asked_for(PURE), self._asked_for(NATIVE)
        if pure and native:
            self.app.abort(f"{PURE} and {NATIVE} exclude each other: unset one of them")
        editable = version == "editable"
        if editable:
            self._remove_built()
        if pure:
            return
        try:
            built = self._compiled()
        except CannotCompile as reason:
            if native:
                self.app.abort(f"the native kernels were not built, and {NATIVE}=1 asks for them: {reason}")
            self.app.display_warning(f"the native kernels were not built, pure Python takes their place: {reason}")
            return
        for module, path in built.items():
            if editable:
                shutil.copyfile(path, Path(self.root, module))
            else:
                build_data["force_include"][str(path)] = module
        if not editable:
            # hatchling's own tag says for which platform. On macOS it heeds MACOSX_DEPLOYMENT_TARGET, as the compiler does.
            platform = cast(WheelBuilder, self.build_config.builder).get_best_matching_tag().rpartition("-")[2]
            build_data["tag"] = f"{PYTHON_TAG}-abi3-{platform}"
            build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove the temporary files, which the wheel has now."""
        if self._folder is not None:
            self._folder.cleanup()

    def _asked_for(self, variable: str) -> bool:
        value = os.environ.get(variable, "")
        if value not in {"", "0", "1"}:
            self.app.abort(f"{variable}: 1, 0 or empty, got {value!r}")
        return value == "1"

    def _sources(self) -> list[Path]:
        return sorted(Path(self.root).glob("backpack_*/**/*.c"))

    def _remove_built(self) -> None:
        """Remove the kernels of an earlier editable install: they may be older than its source, or not be wanted any more."""
        for path in self._built_in_place():
            path.unlink()

    def _built_in_place(self) -> Iterator[Path]:
        for source in self._sources():
            for suffix in (".so", ".pyd"):
                yield from source.parent.glob(f"{source.stem}.*{suffix}")

    def _compiled(self) -> dict[str, Path]:
        """Compile in a temporary folder. Return the files by their places in the wheel."""
        if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
            raise CannotCompile("this interpreter has no stable ABI")
        try:
            # Needed here alone. Pip does not install it where build isolation is off.
            from setuptools import Distribution, Extension  # noqa: PLC0415
            from setuptools.command.build_ext import build_ext  # noqa: PLC0415
            from setuptools.errors import BaseError, CCompilerError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise CannotCompile(str(error)) from error
        self._folder = TemporaryDirectory(prefix="backpack-feed-")
        extensions = [
            Extension(
                ".".join(source.relative_to(self.root).with_suffix("").parts),
                [str(source)],
                py_limited_api=True,
                define_macros=[("Py_LIMITED_API", LIMITED_API)],
                extra_compile_args=OPTIONS,
            )
            for source in self._sources()
        ]
        command = build_ext(Distribution({"name": self.metadata.name, "ext_modules": extensions}))
        library = Path(self._folder.name, "library")
        command.build_lib = str(library)
        command.build_temp = str(Path(self._folder.name, "objects"))
        try:
            command.ensure_finalized()
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            raise CannotCompile(str(error)) from error
        return {Path(path).relative_to(library).as_posix(): Path(path) for path in command.get_outputs()}


class CannotCompile(Exception):
    """There is no compiler, or it refused."""
