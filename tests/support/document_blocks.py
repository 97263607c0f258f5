"""The blocks of code in the documents: which there are, and whether one that is not run as a program can be right."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml
from forge_links import documents

from backpack_runtime.cli.parser import COMMANDS

__all__ = ["RUN", "Block", "blocks", "complaint"]

ROOT = Path(__file__).parents[2]
RUN = "python"
"""The language of the blocks that are run, each as a program."""
SHOWN = {"", "text", "mermaid"}
"""Output, and diagrams, which the build of the site draws."""
OUTSIDE = frozenset(
    shlex.split(
        "$EDITOR apt-get cat cd chmod cp curl docker echo export git grep install jq journalctl kill mkdir nats nats-server podman"
        " promtool redis-cli redis-server set source sudo systemctl tail useradd"
    )
)
"""Programs of other projects, which a document only names."""

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One block of code."""

    path: Path
    line: int
    language: str
    text: str
    reason: str
    """Says why it is not run, where it is not."""

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    """Return every block of every document but the directives of the site."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            language = match["language"].strip()
            if not language.startswith("{"):
                line = text.count("\n", 0, match.start("fence")) + 1
                found.append(Block(path, line, language, match["text"], match["reason"] or ""))
    return found


def complaint(block: Block) -> str:
    """Return the faults of a block that is not run. No text when nothing is."""
    try:
        match block.language:
            case "json":
                _read_json(block.text)
            case "toml":
                tomllib.loads(block.text)
            case "ini":
                configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
            case "yaml" | "yml":
                list(yaml.safe_load_all(block.text))
            case "sh" | "bash" | "console":
                return "; ".join(filter(None, map(_of_command, _commands(block.text))))
            case language if language not in SHOWN:
                return f"nobody knows how to check {language!r}: write `<!-- not run: REASON -->` above it"
    except (ValueError, configparser.Error, yaml.YAMLError) as error:
        return str(error)
    return ""


def _read_json(text: str) -> None:
    """Read one value, or values one after the other."""
    rest, decoder = text.strip(), json.JSONDecoder()
    while rest:
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


def _commands(text: str) -> list[list[str]]:
    """Return the simple commands of a script: those of a pipe, of `&&` and of a substitution each on their own."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;"):
                found.append(words)
                words = []
            elif not set(word) <= set("<>"):
                words.append(word)
        found.append(words)
    return [words for words in found if words]


def _of_command(words: list[str]) -> str:
    while words and re.fullmatch(r"[A-Z][A-Z_0-9]*=.*", words[0]):
        words = words[1:]
    if not words:
        return ""
    program, *arguments = words
    match Path(program).name, arguments:
        case "backpack-feed", [command, *rest] if not command.startswith("-"):
            return _of_ours(command, rest)
        case "backpack-feed", _:
            return ""
        case "tox", ["run", *rest]:
            return _of_tox(rest)
        case "pip", _:
            return _of_pip(arguments)
        case (("python" | "python3"), ["-c", code]):
            compile(code, program, "exec")
            return ""
        case (("python" | "python3"), ["-m", module, *_]):
            return "" if find_spec(module) is not None else f"there is no module {module}"
        case (("python" | "python3"), [file, *_]) if file.endswith(".py"):
            return "" if (ROOT / file).exists() else f"there is no file {file}"
        case (("pre-commit" | ".ci/run" | "run"), _):
            return ""
        case name, _ if name in OUTSIDE:
            return ""
    return f"nobody knows how to check {' '.join(words)!r}: write `<!-- not run: REASON -->` above it"


def _of_ours(command: str, arguments: list[str]) -> str:
    row = next((row for row in COMMANDS if row.name == command), None)
    if row is None:
        return f"there is no command {command!r}"
    declared = _options(row.module)
    unknown = [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in declared]
    return f"{command} has no {', '.join(unknown)}" if unknown else ""


@cache
def _options(module: str) -> frozenset[str]:
    """Return the options that the parsers of a command know, those of its own commands included."""
    from argparse import ArgumentParser, _SubParsersAction  # noqa: PLC0415 - has no public name

    parser = ArgumentParser()
    parser.add_argument("--verbose")
    import_module(module).add_arguments(parser)
    found: set[str] = set()
    waiting = [parser]
    while waiting:
        for action in waiting.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, _SubParsersAction):
                waiting += action.choices.values()
    return frozenset(found)


def _of_tox(arguments: list[str]) -> str:
    environments = arguments[arguments.index("-e") + 1].split(",") if "-e" in arguments else []
    known = (ROOT / "tox.ini").read_text(encoding="utf-8")
    unknown = [name for name in environments if f"[testenv:{name}]" not in known and not re.fullmatch(r"py(31\d)?", name)]
    return f"tox has no environment {', '.join(unknown)}" if unknown else ""


def _of_pip(arguments: list[str]) -> str:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {name for word in arguments for part in re.findall(r"\[([\w,-]+)\]$", word) for name in part.split(",")}
    groups = {after for word, after in pairwise(arguments) if word == "--group"}
    unknown = (extras - set(settings["project"]["optional-dependencies"])) | (groups - set(settings["dependency-groups"]))
    return f"there is no extra or group {', '.join(sorted(unknown))}" if unknown else ""
