"""What the doctor says of who gets in, who can look into the queue, and what keeps it running."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from training_cluster.cli import diagnosis_trust
from training_cluster.cli.diagnosis_trust import examine_trust
from training_cluster.cli.finding import Finding, Verdict
from training_cluster.cli.systemd import Systemd
from training_cluster.service_unit import Scope, Unit
from training_cluster.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    """Settings with a private state directory, and what a test adds."""
    (tmp_path / "state").mkdir(mode=0o700)

    def make(**more: Any) -> Settings:
        return load_settings(state_dir=tmp_path / "state", **more)

    return make


def found(settings: Settings) -> dict[str, Finding]:
    """The findings by name."""
    return {finding.name: finding for finding in examine_trust(settings)}


def test_a_closed_daemon_with_a_private_state_directory_is_well(settings):
    findings = found(settings(host="0.0.0.0", tunnel="127.0.0.1:23479"))
    assert findings["access"].verdict is Verdict.OK
    assert "a token always at 127.0.0.1:23479" in findings["access"].detail
    assert findings["privacy"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("host", "who"), [("0.0.0.0", "whoever reaches it"), ("::1", "every user of this machine")]
)
def test_an_open_daemon_is_warned_of(settings, host, who):
    finding = found(settings(host=host, auth="open"))["access"]
    assert finding.verdict is Verdict.WARN
    assert who in finding.detail
    assert "local" in str(finding.cure)


def test_a_user_who_is_not_there_cannot_be_kept_out(settings):
    findings = found(settings(never_local=(getpass.getuser(), "zrook")))
    assert findings["never_local"].verdict is Verdict.WARN
    assert "zrook is no user" in findings["never_local"].detail
    findings = found(settings(admins=("alicce",)))
    assert "whoever gets that name will be an admin" in findings["admins"].detail
    assert "never_local" not in findings


def test_a_queue_that_others_can_look_into_is_warned_of(settings, tmp_path):
    (tmp_path / "state").chmod(0o755)
    finding = found(settings())["privacy"]
    assert (finding.verdict, "0755" in finding.detail) == (Verdict.WARN, True)
    assert finding.cure == f"chmod 700 {tmp_path}/state"


@pytest.mark.parametrize(("said", "warned"), [("no", True), ("yes", False), ("", False)])
def test_a_clock_that_nobody_sets_is_warned_of(settings, tmp_path, monkeypatch, said, warned):
    program = tmp_path / "timedatectl"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ("clock" in found(settings())) is warned


def test_a_unit_of_another_version_is_told_from_one_that_is_ours(settings, monkeypatch):
    manager = Systemd(Scope.USER)
    manager.file.parent.mkdir(parents=True)
    unit = Unit(Scope.USER, ("/bin/true", "serve"))
    monkeypatch.setattr(diagnosis_trust.Systemd, "state", lambda _: {"ActiveState": "active"})
    manager.file.write_text(unit.text())
    assert found(settings())["service"].verdict is Verdict.OK
    manager.file.write_text(unit.text().replace("KillMode=process", "KillMode=mixed"))
    finding = found(settings())["service"]
    assert finding.verdict is Verdict.WARN
    assert "not what this version would write" in finding.detail
    manager.file.write_text("[Service]\n")
    assert "was not written by this program" in found(settings())["service"].detail


def test_the_doctor_looks_at_these_too(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TRAINING_CLUSTER_AUTH", "open")
    said = run("doctor", "--quick").out
    assert 'auth is "open"' in said
