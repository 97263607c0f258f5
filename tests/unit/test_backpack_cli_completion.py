"""Completion in shells: the script of bash is tried in bash, those of the others are read."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from backpack_runtime.cli.completion import SHELLS, script
from backpack_runtime.cli.parser import COMMANDS, main

ASK = """
source "$1"; shift
function=$(complete -p backpack-feed | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"$function" backpack-feed "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "backpack-feed.bash"
    path.write_text(script("bash"), encoding="utf-8")
    return path


def completed(bash_script: Path, line: str, folder: Path) -> set[str]:
    words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
    done = subprocess.run(
        ("bash", "-c", ASK, "bash", str(bash_script), *words),
        capture_output=True,
        cwd=folder,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return {word for word in done.stdout.splitlines() if word}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("backpack-feed ", {command.name for command in COMMANDS}),
        ("backpack-feed wat", {"watch"}),
        ("backpack-feed watch --chan", {"--channels"}),
        ("backpack-feed watch --channels bo", {"book", "book_ticker"}),
        ("backpack-feed watch --channels kl", {"klines.1m"}),
        ("backpack-feed watch SOL", {"SOL_USDC", "SOL_USDC_PERP"}),
        ("backpack-feed watch --minimum-tls ", {"1.2", "1.3"}),
        ("backpack-feed watch --backend t", {"trio"}),
        ("backpack-feed watch --sandbox --faults mu", {"mute"}),
        ("backpack-feed account --key-file ke", {"keys.json"}),
        ("backpack-feed replay ./re", {"./recording.jsonl"}),
        ("backpack-feed completion ", set(SHELLS)),
    ],
)
def test_bash_completes(line: str, found: set[str], bash_script: Path, tmp_path: Path) -> None:
    for name in ("keys.json", "recording.jsonl"):
        (tmp_path / name).touch()
    assert completed(bash_script, line, tmp_path) == found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_has_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(command.name in out for command in COMMANDS)
    assert "--key-file" in out


def test_another_shell_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["completion", "fishy"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
