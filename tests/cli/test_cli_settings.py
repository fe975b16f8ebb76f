"""Settings on the command line, the doctor, and the trainer's environment."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, Run, failed
from tests.daemon_process import DaemonProcess
from training_cluster.settings import load_settings
from training_cluster.trainer_environment import environment_path, is_complete

# before the tests get a home of their own
DATA_DIR = load_settings().data_dir


def test_what_config_shows_is_a_settings_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/bin/sh -c 'echo \"ü\\\\\"'")
    file = tmp_path / "settings.toml"
    file.write_text(run("config", "show").out, "utf-8")
    expected = load_settings()
    monkeypatch.delenv("TRAINING_CLUSTER_TRAINER__COMMAND")
    assert load_settings(file) == expected
    shown = run("config", "show", "--config", file, "--json").document
    assert shown["file"] == str(file)
    assert _what_is_set(shown["settings"]) == tomllib.loads(file.read_text("utf-8"))


def _what_is_set(values: dict[str, Any]) -> dict[str, Any]:
    """TOML knows no null: a setting that is not set is not there."""
    return {
        name: _what_is_set(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "setting prot: there is no such setting"),
        ("port = 'x'", "setting port: "),
        ("[devices]\npoll_seconds = 0", "setting devices.poll_seconds: "),
        ("port = ", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    for command in (["serve"], ["config", "show"]):
        failed(run(*command, "--config", file), said)
    doctor = run("doctor", "--config", file)
    assert doctor.code == 1
    assert str(file) in doctor.out


def test_a_settings_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    failed(run("serve", "--config", tmp_path / "gone.toml"), "gone.toml does not exist")


def test_serve_refuses_a_port_in_use_and_hears_its_flags(
    quick: DaemonProcess, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*PROGRAM, "serve", "--port", str(quick.port), "--state-dir", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "error: cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def verdicts(run: Run, *words: object) -> dict[str, str]:
    """The doctor's findings by name, the worst of those that share one."""
    found = run("doctor", "--json", *words).document["checks"]
    return {check["name"]: check["verdict"] for check in found}


def test_the_doctor_finds_nothing_wrong_where_nothing_is(
    quick: DaemonProcess, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/bin/true")
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__BACKENDS", "")
    monkeypatch.setenv("TRAINING_CLUSTER_DEVICES__KIND", "cpu")
    found = verdicts(run)
    for name in ("clock", "service"):  # those are of the machine that runs the tests
        found.pop(name, None)
    assert set(found.values()) == {"ok"}
    assert {"python", "settings", "state_dir", "trainer", "devices", "datasets"} <= found.keys()
    assert {"daemon", "daemon store", "daemon scheduler"} <= found.keys()
    assert run("doctor").code == 0


def test_the_doctor_names_each_thing_that_is_wrong_with_its_cure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAINING_CLUSTER_STATE_DIR", str(tmp_path / "file" / "state"))
    monkeypatch.setenv("TRAINING_CLUSTER_TRAINER__COMMAND", "/no/such/program")
    monkeypatch.setenv("TRAINING_CLUSTER_MODEL_ROOTS", str(tmp_path / "models"))
    monkeypatch.setenv("TRAINING_CLUSTER_DATASET_ROOTS", str(tmp_path))
    monkeypatch.setenv("TRAINING_CLUSTER_TRACKING__BACKENDS", "")
    monkeypatch.setenv("TRAINING_CLUSTER_DEVICES__KIND", "cpu")
    found = verdicts(run)
    wrong = {name for name, verdict in found.items() if verdict == "fail"}
    assert wrong == {"state_dir", "trainer", "model_roots", "datasets"}
    assert found["daemon"] == "warn"
    result = run("doctor")
    assert result.code == 1
    assert result.out.count("cure: ") == len(wrong) + 1


def test_a_missing_trainer_environment_is_named_with_the_cure(run: Run, tmp_path: Path) -> None:
    failed(run("tiny-model", tmp_path / "m"), "no complete trainer environment", "trainer install")
    failed(run("trainer", "check"), "hint: training-cluster trainer install")
    assert verdicts(run)["trainer"] == "fail"


@pytest.mark.trainer
def test_a_tiny_model_is_made_by_the_trainer_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_CLUSTER_DATA_DIR", str(DATA_DIR))
    if not is_complete(environment_path(DATA_DIR)):
        pytest.skip("the trainer environment is not installed")
    assert run("tiny-model", tmp_path / "m", "--json").document == {"path": str(tmp_path / "m")}
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "qwen2"
    failed(run("tiny-model", tmp_path), "holds something else")
    assert run("trainer", "check").code == 0
