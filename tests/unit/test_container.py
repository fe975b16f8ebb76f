"""The container file names only what is there. None can be built in a test: this reads it."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import Any

import pytest
import typer

from tests.daemon_process import ROOT
from training_cluster.cli.main import build
from training_cluster.settings import Settings, load_settings

FILE = ROOT / "configs" / "container" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its words, lines put together, comments left out."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def of(name: str) -> list[str]:
    return [words for instruction, words in instructions() if instruction == name]


def variables() -> dict[str, str]:
    return dict(word.split("=", 1) for words in of("ENV") for word in shlex.split(words))


def test_every_file_that_is_copied_is_there():
    sources = [
        source
        for words in of("COPY")
        if not words.startswith("--from")
        for source in words.split()[:-1]
    ]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_all_that_the_build_reads_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    copied = {source for words in of("COPY") for source in words.split()[:-1]}
    assert needed <= copied


def test_the_python_of_the_image_is_one_that_we_support():
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert oldest == ">=3.11"
    for image in of("FROM"):
        found = re.match(r"python:3\.(\d+)-slim", image)
        assert found is not None
        assert int(found[1]) >= 11


def test_its_variables_are_settings(monkeypatch: pytest.MonkeyPatch):
    ours = {name for name in variables() if name.startswith("TRAINING_CLUSTER_")}
    known = {f"TRAINING_CLUSTER_{name.upper()}" for name in Settings.model_fields}
    assert ours <= known
    for name in ours:
        monkeypatch.setenv(name, variables()[name])
    monkeypatch.setenv("TRAINING_CLUSTER_CONFIG", str(ROOT / "configs" / "training_cluster.toml"))
    settings = load_settings()
    volumes = json.loads(of("VOLUME")[0])
    assert [str(settings.state_dir), str(settings.data_dir)] == volumes
    assert settings.auth == "local", "out of the container everybody needs a token"
    assert of("EXPOSE") == [str(settings.port)]
    assert f":{settings.port}/healthz" in of("HEALTHCHECK")[0]


def test_the_daemon_does_not_run_as_root():
    names = [name for name, _ in instructions()]
    (user,) = of("USER")
    assert int(user) > 0, "a number, so that the host can check that it is not root"
    assert f"useradd --uid {user} " in " ".join(of("RUN"))
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_the_commands_it_starts_exist():
    shell = json.loads(of("ENTRYPOINT")[0])
    assert shell[:2] == ["/bin/sh", "-c"]
    tree: Any = typer.main.get_command(build())
    for command in re.split(r"&&", shell[2]):
        words = shlex.split(command.replace("exec ", ""))
        assert words[0] == "training-cluster"
        found = tree
        for word in words[1:]:
            found = found.commands[word] if hasattr(found, "commands") else found
    assert words[1:] == ["serve", "$@"], "the signal to end must reach the daemon itself"
