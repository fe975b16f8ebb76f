"""The trainer environment: how it is started, and what a look inside says."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.unit.small_wheels import make_wheel, write_pins
from training_cluster import trainer_environment as environments
from training_cluster.resources import shipped


def test_the_command_is_the_script_or_else_the_module(tmp_path: Path) -> None:
    assert environments.command(tmp_path)[1:] == ("-m", "llamafactory.cli")
    script = tmp_path / "bin" / "llamafactory-cli"
    script.parent.mkdir()
    script.touch()
    assert environments.command(tmp_path) == (str(script),)


def test_a_check_says_which_import_fails(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "torch", "2.11.0")
    path = environments.install(
        tmp_path, lambda _line: None, requirements=write_pins(tmp_path, "torch==2.11.0")
    )
    findings = {finding.name: finding for finding in environments.check(path)}
    assert findings["python"].ok
    assert findings["torch"] == environments.Check("torch", True, "2.11.0")
    assert not findings["llamafactory"].ok
    assert "ModuleNotFoundError" in findings["llamafactory"].detail
    assert not environments.check(tmp_path / "nowhere")[0].ok


def test_the_installed_environment_is_found_where_it_has_always_been(tmp_path: Path) -> None:
    # 6.6 GB would be downloaded again for a path that changed without the pins
    assert environments.environment_path(tmp_path).parent == tmp_path / "trainers"
    pins = write_pins(tmp_path, "torch==2.11.0", "llamafactory==0.9.5")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    identity = f"llamafactory==0.9.5\ntorch==2.11.0\n{python}".encode()
    name = environments.environment_path(tmp_path, pins).name
    assert name == hashlib.sha256(identity).hexdigest()[:12]


def test_the_shipped_pins_are_exact_and_name_no_address() -> None:
    lines = shipped("configs/trainer-requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert {"torch==2.11.0", "torchaudio==2.11.0", "llamafactory==0.9.5"} <= set(pins)
    for pin in pins:
        name, _, version = pin.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum(), pin
        assert version, pin
        assert version.replace(".", "").isalnum(), pin
