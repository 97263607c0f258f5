"""The files that make the container and the services around it: what they name exists, fits together, and keeps to a few rules."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from backpack_runtime.cli.parser import COMMANDS

ROOT = Path(__file__).parents[2]
DASHBOARD = "deploy/grafana/backpack.json"
ALERTS = "deploy/prometheus/alerts.yml"
PINNED = re.compile(r"[a-z0-9./-]+:(?!latest)[a-z]?[0-9][A-Za-z0-9.-]*")
SECRET_NAME = re.compile(r"(?i)token|secret|passw|private|api_?key")


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, its lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments, those of the form that is JSON included."""
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()


def stages() -> list[list[Instruction]]:
    """The stages of the Dockerfile."""
    lines = [line for line in read("Dockerfile").splitlines() if line.strip() and not line.startswith("#")]
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, text))
    return found


def of(stage: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in stage if instruction.name == name]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def loaded(path: str) -> Any:
    """A file of YAML."""
    pytest.importorskip("yaml")
    return import_module("yaml").safe_load(read(path))


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = loaded("compose.yaml")["services"]
    return found


# ---- the image


def test_base_images_are_pinned_and_the_same_in_both_stages() -> None:
    build, final = stages()
    (first,), (second,) = of(build, "FROM"), of(final, "FROM")
    assert first.words[0] == second.words[0]
    assert PINNED.fullmatch(first.words[0])


def test_the_last_stage_has_no_compiler_and_runs_as_nobody_in_particular() -> None:
    _, final = stages()
    assert not any("apt-get" in run.text or "pip " in run.text for run in of(final, "RUN"))
    names = [instruction.name for instruction in final]
    (user,) = of(final, "USER")
    assert int(user.text.partition(":")[0]) > 0
    assert names.index("USER") < names.index("ENTRYPOINT") < names.index("CMD")
    # What comes behind could only be owned by somebody else.
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])


def test_layers_hold_no_secret_and_no_cache() -> None:
    instructions = [instruction for stage in stages() for instruction in stage]
    assert not [one for one in instructions if one.name == "ADD"]
    assert not [one for one in instructions if one.name in {"ENV", "ARG", "LABEL"} and SECRET_NAME.search(one.text)]
    for run in (one.text for one in instructions if one.name == "RUN"):
        assert "apt-get install" not in run or ("--no-install-recommends" in run and "rm -rf /var/lib/apt/lists/*" in run)
        assert "pip " not in run or "--no-cache-dir" in run


def test_the_builder_sees_what_the_wheel_is_made_of_and_nothing_else() -> None:
    ignored = [line for line in read(".dockerignore").splitlines() if line and not line.startswith("#")]
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert all((ROOT / name).exists() for name in let_in)
    built_from = import_module("wheel_environments").BUILT_FROM
    assert let_in == {*built_from, "deploy/container/health.py"}
    copied = [word for stage in stages() for copy in of(stage, "COPY") if "--from" not in copy.text for word in copy.words[:-1]]
    assert all(word == "." or word in let_in for word in copied)


def test_the_default_command_is_one_and_listens_where_the_image_says() -> None:
    _, final = stages()
    (entry,), (command,), (exposed,) = of(final, "ENTRYPOINT"), of(final, "CMD"), of(final, "EXPOSE")
    assert entry.words == ["backpack-feed"]
    assert command.words == ["serve", "--host", "0.0.0.0", "--port", exposed.text]
    (health,) = of(final, "HEALTHCHECK")
    asked = json.loads(health.text.partition("CMD ")[2])
    assert asked == ["python", "/opt/health.py"]
    assert f"127.0.0.1:{exposed.text}/health" in read("deploy/container/health.py")
    assert "COPY deploy/container/health.py /opt/health.py" in read("Dockerfile")


# ---- the services


def test_images_are_pinned_and_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "build" in service or PINNED.fullmatch(service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_our_services_have_no_rights_that_they_do_not_need(services: dict[str, Any]) -> None:
    for name in ("sandbox", "feed"):
        service = services[name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert "no-new-privileges:true" in service["security_opt"]


def test_every_file_that_is_mounted_exists(services: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    files = [name for name in mounted if name.startswith("./")]
    assert len(files) >= 4
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert {name for name in mounted if not name.startswith("./")} == set(loaded("compose.yaml")["volumes"])


def test_every_secret_that_is_used_is_declared_and_its_value_is_in_no_file(services: dict[str, Any]) -> None:
    declared = loaded("compose.yaml")["secrets"]
    assert {secret for service in services.values() for secret in service.get("secrets", ())} == set(declared)
    assert all(set(secret) == {"environment"} for secret in declared.values())


def test_ports_and_names_lead_from_one_service_to_the_next(services: dict[str, Any]) -> None:
    feed = " ".join(services["feed"]["command"])
    sandbox_port = services["sandbox"]["command"][-1]
    assert f"--rest-url=http://sandbox:{sandbox_port} --ws-url=ws://sandbox:{sandbox_port}" in feed
    (exposed,) = of(stages()[1], "EXPOSE")
    assert services["feed"]["ports"] == [f"127.0.0.1:{exposed.text}:{exposed.text}"]
    assert f"--port={exposed.text}" in feed
    (job,) = loaded("deploy/container/prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"feed:{exposed.text}"]}]
    (source,) = loaded("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:" + services["prometheus"]["ports"][0].rpartition(":")[2]
    (provider,) = loaded("deploy/grafana/provisioning/dashboards/backpack.yml")["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/backpack.json"
    assert f"./{DASHBOARD}:{home}:ro" in services["grafana"]["volumes"]


def test_the_token_that_prometheus_shows_is_the_one_that_the_feed_reads(services: dict[str, Any]) -> None:
    (job,) = loaded("deploy/container/prometheus.yml")["scrape_configs"]
    path = job["authorization"]["credentials_file"]
    assert f"--token-file={path}" in services["feed"]["command"]
    assert f'"{path}"' in read("deploy/container/health.py")
    assert path == "/run/secrets/" + services["feed"]["secrets"][0]


@pytest.mark.skipif(find_spec("backpack_runtime.cli.serve") is None, reason="there is no command serve")
@pytest.mark.parametrize("service", ["sandbox", "feed"])
def test_commands_of_the_services_are_understood(service: str, services: dict[str, Any]) -> None:
    import argparse  # noqa: PLC0415 - for this test alone

    name, *arguments = services[service]["command"]
    (command,) = [one for one in COMMANDS if one.name == name]
    parser = argparse.ArgumentParser(exit_on_error=False)
    import_module(command.module).add_arguments(parser)
    assert parser.parse_args(arguments).host == "0.0.0.0"


@pytest.mark.required
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_understands_its_configuration(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/container/prometheus.yml", tmp_path)
    shutil.copy(ROOT / ALERTS, tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_document_names_each_service_with_its_address(services: dict[str, Any]) -> None:
    document = read("docs/container.md")
    for name, service in services.items():
        assert f"`{name}`" in document
        for port in service.get("ports", ()):
            assert port.rpartition(":")[0] in document
    assert shlex.join(of(stages()[1], "CMD")[0].words) in document
