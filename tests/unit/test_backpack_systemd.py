"""The units of systemd: systemd takes them, and what they start exists."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from backpack_runtime.cli import publish

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE = UNITS / "backpack-publish@.service"
INSTANCE = "backpack-publish@1-4-a.service"
ANALYZE = shutil.which("systemd-analyze")


def parsed(path: Path) -> ConfigParser:
    found = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    found.optionxform = str  # type: ignore[method-assign, assignment]  # names of units have capitals
    found.read_string(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    assert ANALYZE is not None
    shutil.copy(SERVICE, tmp_path / INSTANCE)
    shutil.copy(UNITS / "backpack-publish.target", tmp_path)
    ended = subprocess.run(
        [ANALYZE, "verify", str(tmp_path / INSTANCE), str(tmp_path / "backpack-publish.target")],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in ended.stderr.splitlines() if "backpack-" in line]
    assert complaints == []


def test_the_service_starts_the_shard_of_its_instance_and_is_stopped_with_time_to_drain(tmp_path: Path) -> None:
    service = parsed(SERVICE)["Service"]
    assert service["ExecStart"].endswith("sh %i")
    script = re.findall(r"-c '(.*)' sh %i", service["ExecStart"])[0].replace("$(hostname)", "host")
    program = tmp_path / "backpack-feed"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    script = script.replace("/opt/backpack-feed/bin/backpack-feed", str(program))
    ended = subprocess.run(["/bin/sh", "-c", script, "sh", "2-4-b"], capture_output=True, text=True, check=True)
    command, *arguments = ended.stdout.split()
    assert command == "publish"
    parser = argparse.ArgumentParser()
    publish.add_arguments(parser)
    given = parser.parse_args(arguments)
    assert (given.shard, given.name, given.json) == ((2, 4), "host-2-4-b", True)
    assert int(service["TimeoutStopSec"]) > 2 * 5
    assert service["SuccessExitStatus"] == "143"
