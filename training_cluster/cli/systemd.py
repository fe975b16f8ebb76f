"""The way to systemd: is it here, where do its units lie, and what does systemctl say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import platformdirs

from training_cluster.domain.errors import TrainingClusterError
from training_cluster.service_unit import NAME, Scope, Unit, read_unit

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_SECONDS = 330  # longer than the unit's own TimeoutStartSec
_SHOWN = ("ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts")
_WITHOUT = "without it, run `training-cluster serve` by what starts programs on this machine; "
_DRY_RUN = "`training-cluster service install --dry-run` shows the unit"


class ServiceRefused(TrainingClusterError):
    """The service cannot be installed here."""

    code = "service_refused"


class Systemd:
    """The manager of a scope. Methods raise ServiceRefused when it refuses or is not there."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        folder = (
            Path("/etc/systemd/system")
            if scope is Scope.SYSTEM
            else platformdirs.user_config_path("systemd") / "user"
        )
        self.file = folder / NAME

    @property
    def systemctl(self) -> str:
        """What a person types to reach this manager."""
        return "systemctl" if self.scope is Scope.SYSTEM else "systemctl --user"

    @property
    def log_command(self) -> str:
        """Shows the end of the service's log."""
        return f"journalctl {'--user ' * (self.scope is Scope.USER)}-u training-cluster -n 30"

    def require(self) -> None:
        """Make sure that the manager can be asked to change something."""
        if shutil.which("systemctl") is None or not _BOOTED.is_dir():
            raise ServiceRefused("systemd does not run this machine", hint=_WITHOUT + _DRY_RUN)
        if self.scope is Scope.SYSTEM and os.geteuid() != 0:
            hint = "run it with sudo, or leave --system out for a service of your own"
            raise ServiceRefused("only root can change a service of the system", hint=hint)

    def installed(self) -> Unit | None:
        """The unit we installed; None when there is none. Raises ServiceRefused for another's."""
        try:
            unit = read_unit(self.file)
        except FileNotFoundError:
            return None
        if unit is None:
            hint = "move it away first, or go on managing it by hand"
            raise ServiceRefused(f"{self.file} was not written by this program", hint=hint)
        return unit

    def is_up_to_date(self, unit: Unit) -> bool:
        """Whether the file says what this version of the program would write."""
        return self.file.read_text() == unit.text()

    def call(self, *words: str) -> str:
        """Run systemctl; returns what it prints."""
        command = [*self.systemctl.split(), *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServiceRefused(f"{' '.join(command)}: {error}") from error
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
            raise ServiceRefused(f"{' '.join(command)}: {said}", hint=self._hint(said))
        return done.stdout

    def state(self) -> dict[str, str]:
        """What systemd knows of the service, by its own names of properties."""
        lines = self.call("show", NAME, *(f"--property={name}" for name in _SHOWN)).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _hint(self, said: str) -> str:
        if "bus" in said and self.scope is Scope.USER:
            runtime = f"XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
            return f"log in as that user (sudo and su open no session), or set {runtime}"
        return self.log_command


def lingers() -> bool | None:
    """Whether this user's services run without a login; None when nobody can say."""
    try:
        done = subprocess.run(
            f"loginctl show-user {os.getuid()} --property=Linger --value".split(),
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())
