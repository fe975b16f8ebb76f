"""The service commands as far as they go without a systemd; tests/acceptance/test_systemd.py has
a real one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed
from training_cluster.cli import systemd
from training_cluster.service_unit import Scope, Unit, read_unit

# what would take the GPU, the scratch files of running jobs or the users' names away
_BREAKS_TRAINERS = (
    "PrivateTmp", "PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "ProtectProc",
    "ProtectHome", "PrivateUsers", "DynamicUser", "MemoryDenyWriteExecute", "RuntimeDirectory",
    "PrivateNetwork", "SystemCallFilter", "OOMScoreAdjust",
)  # fmt: skip

SYSTEM = Unit(
    Scope.SYSTEM,
    ("/opt/t c/bin/training-cluster", "serve", "--host", "0.0.0.0"),
    "nobody",
    ("/var/lib/x/state", "/var/lib/x/data"),
    ("/var/lib/x/state", "/var/lib/x/data", "/home/100% mine"),
)
USER = Unit(Scope.USER, ("/bin/true", "serve"))


def lines(text: str) -> dict[str, str]:
    """Directives and their values."""
    said = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in said)


def test_the_unit_of_the_system_says_what_keeps_jobs_alive_and_the_machine_safe():
    said = lines(SYSTEM.text())
    assert said["ExecStart"] == '"/opt/t c/bin/training-cluster" serve --host 0.0.0.0'
    assert said["KillMode"] == "process"
    assert said["OOMPolicy"] == "continue"
    assert said["NoNewPrivileges"] == "yes"
    assert said["CapabilityBoundingSet"] == ""
    assert '"-/home/100%% mine"' in said["ReadWritePaths"]
    assert "-/tmp" in said["ReadWritePaths"]
    assert "AF_NETLINK" in said["RestrictAddressFamilies"], "the kernel is asked who is there"


@pytest.mark.parametrize("unit", [SYSTEM, USER])
def test_nothing_in_a_unit_takes_from_trainers_what_they_need(unit):
    assert not lines(unit.text()).keys() & set(_BREAKS_TRAINERS)


@pytest.mark.parametrize("unit", [SYSTEM, USER])
def test_a_unit_that_was_written_can_be_read_back(unit, tmp_path):
    file = tmp_path / "training-cluster.service"
    file.write_text(unit.text())
    assert read_unit(file) == unit


def test_words_that_a_unit_cannot_say_are_refused():
    with pytest.raises(ValueError, match="cannot say"):
        Unit(Scope.USER, ("/bin/a\nExecStartPost=/bin/evil",)).text()


def test_dollars_and_quotes_reach_the_program_as_they_are():
    text = Unit(Scope.USER, ("/bin/x", "a$HOME", 'say "it"', "50%")).text()
    assert lines(text)["ExecStart"] == '/bin/x a$$HOME "say \\"it\\"" 50%%'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_unit(scope, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    program = folder / "training-cluster"
    program.symlink_to("/bin/true")
    unit = Unit(
        Scope(scope), (str(program), "serve", "--port", "8000"), "root", (str(tmp_path),),
        (str(tmp_path),),
    )  # fmt: skip
    file = tmp_path / "training-cluster.service"
    file.write_text(unit.text())
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--{scope}", "--recursive-errors=no", str(file)],
        capture_output=True, text=True, check=False, env={**os.environ, "XDG_RUNTIME_DIR": "/run"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "training-cluster" in line]
    # the driver's program is missing where there is no GPU, and the unit lets it
    assert [line for line in ours if "nvidia-modprobe" not in line] == []


def test_a_dry_run_prints_the_unit_anywhere(run: Run):
    done = run("service", "install", "--user", "--dry-run", "--", "--port", "8000")
    assert done.code == 0
    said = lines(done.out)
    program, *words = shlex.split(said["ExecStart"])
    assert words == ["serve", "--port", "8000"]
    assert subprocess.run([program, "--version"], check=True, capture_output=True).stdout


def test_the_settings_file_is_named_in_full(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("port = 8001\n")
    done = run("service", "install", "--user", "--dry-run", "--config", "mine.toml")
    assert f"serve --config {tmp_path}/mine.toml" in done.out


def test_options_that_serve_would_not_take_are_refused_now_not_at_boot(run: Run):
    done = run("service", "install", "--user", "--dry-run", "--", "--prot", "8000")
    failed(done, "--prot", code=2)


def test_settings_that_are_wrong_are_refused_now_not_at_boot(run: Run, tmp_path: Path):
    file = tmp_path / "wrong.toml"
    file.write_text("no_such_setting = 1\n")
    failed(run("service", "install", "--user", "--dry-run", "--config", file), "no_such_setting")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look through others' eyes")
def test_a_service_never_runs_as_root_unasked(run: Run, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    if "training-cluster" not in Path("/etc/passwd").read_text():
        done = run("service", "install", "--system", "--dry-run")
        failed(done, "as root")
        assert "useradd --system" in done.err


def test_a_user_who_is_not_there_is_named(run: Run):
    done = run("service", "install", "--system", "--dry-run", "--as", "no-such-user")
    failed(done, "no-such-user")
    failed(run("service", "install", "--user", "--as", "x", "--dry-run"), "--system", code=2)


def test_without_systemd_it_says_so_and_what_to_do(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(systemd, "_BOOTED", tmp_path / "not booted")
    for command in ("install", "uninstall"):
        done = run("service", command, "--user")
        failed(done, "systemd does not run this machine")
        assert re.search("training-cluster serve.*--dry-run", done.err)


def test_a_unit_of_somebody_else_is_left_alone(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(systemd, "_BOOTED", tmp_path)
    monkeypatch.setattr(systemd.shutil, "which", lambda name: f"/bin/{name}")
    file = tmp_path / ".config/systemd/user/training-cluster.service"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/mine\n")
    for command in ("install", "uninstall", "status"):
        failed(run("service", command, "--user"), "was not written by this program")
    assert file.read_text() == "[Service]\nExecStart=/bin/mine\n"


def test_the_state_of_a_service_that_is_not_installed(run: Run):
    failed(run("service", "status", "--user"), "training-cluster.service")
