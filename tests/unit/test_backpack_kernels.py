"""Native kernels: which there are, which are in use, and whether what was compiled is what stands in the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from backpack_runtime import kernels
from backpack_runtime.kernels import KERNELS, kernels_in_use

ROOT = Path(__file__).parents[2]
PACKAGES = ("backpack_proto", "backpack_runtime")


@pytest.mark.parametrize("suffix", [".c", ".pyi"])
def test_every_kernel_has_its_source_and_its_types(suffix: str) -> None:
    found = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob(f"*{suffix}")}
    assert {".".join(path.with_suffix("").parts) for path in found} == set(KERNELS)


def test_kernels_that_were_compiled_in_the_checkout_are_not_older_than_their_source() -> None:
    """An editable install runs them until it is made again."""
    sources = [ROOT.joinpath(*kernel.split(".")).with_suffix(".c") for kernel in KERNELS]
    old = [
        f"{built.relative_to(ROOT)} is older than its source: install again (pip install --editable)"
        for source in sources
        for built in source.parent.glob(f"{source.stem}.*")
        if built.suffix in {".so", ".pyd"} and built.stat().st_mtime < source.stat().st_mtime
    ]
    assert old == []


@pytest.mark.parametrize(
    ("installed", "absent", "said"),
    [
        (["kernel_a", "kernel_b"], [], "native kernels"),
        ([], ["kernel_c", "kernel_d"], "pure Python"),
        (["kernel_f"], ["kernel_e"], "native: kernel_f; pure Python: kernel_e"),
    ],
)
def test_what_is_said_is_what_is_installed(
    installed: list[str], absent: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in installed:
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kernels, "KERNELS", (*absent, *installed))
    assert kernels_in_use() == said


def test_a_kernel_that_cannot_be_loaded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernel_g.abi3.so").write_text("not a library")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kernels, "KERNELS", ("kernel_g",))
    with pytest.raises(ImportError, match=r"kernel_g\.abi3\.so"):
        kernels_in_use()
