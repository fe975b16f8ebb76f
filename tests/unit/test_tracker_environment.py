"""The tracker environment: its pins, and what a look inside says."""

from __future__ import annotations

from pathlib import Path

from tests.unit.small_wheels import make_wheel, write_pins
from training_cluster import tracker_environment as environments
from training_cluster.resources import shipped


def test_a_check_says_which_tracker_cannot_be_imported(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "wandb", "0.31.0")
    pins = write_pins(tmp_path, "wandb==0.31.0")
    path = environments.install(tmp_path, lambda _line: None, requirements=pins)
    findings = {finding.name: finding for finding in environments.check(path)}
    assert findings["python"].ok
    assert "No module named 'mlflow'" in findings["mlflow"].detail
    # this wandb is only a name: W&B's own program is not there
    assert not findings["wandb"].ok


def test_the_environment_the_settings_name_wins(tmp_path: Path) -> None:
    chosen = tmp_path / "conda"
    assert environments.used_path(tmp_path, chosen) == chosen
    assert environments.used_path(tmp_path, None).parent == tmp_path / "trackers"


def test_the_shipped_pins_are_exact_and_name_no_address() -> None:
    lines = shipped("configs/tracker-requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    names = {pin.partition("==")[0] for pin in pins}
    assert {"mlflow", "wandb", "alembic", "SQLAlchemy", "uvicorn"} <= names
    for pin in pins:
        name, _, version = pin.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum(), pin
        assert version.replace(".", "").isalnum(), pin
