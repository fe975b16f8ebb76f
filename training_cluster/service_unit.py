"""The text of the systemd unit: made from a template in configs/systemd, and read back from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from string import Template

from training_cluster.resources import shipped

NAME = "training-cluster.service"
_MARK = "# unit: "
# what trainers write besides: scratch files, and the caches of whoever runs them
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108


class Scope(StrEnum):
    """Whose service it is: the machine's, or one user's."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Unit:
    """All that distinguishes one unit from another. `user` runs a system's; `mounts` are folders
    that must be there first; `writable` are those that the service may write to."""

    scope: Scope
    command: tuple[str, ...]
    user: str | None = None
    mounts: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()

    def text(self) -> str:
        """The file. Raises ValueError for what a unit file cannot say."""
        template = Template(shipped(f"configs/systemd/{self.scope}.service").read_text())
        return template.substitute(
            unit=json.dumps(asdict(self)),
            command=" ".join(_word(part).replace("$", "$$") for part in self.command),
            user=self.user,
            mounts=" ".join(map(_word, self.mounts)),
            writable=" ".join(map(_word, ("-" + path for path in (*self.writable, *_SCRATCH)))),
        )


def read_unit(file: Path) -> Unit | None:
    """The unit that this program has written there; None when it is somebody else's.

    Raises FileNotFoundError when there is no file."""
    for line in file.read_text(errors="replace").splitlines():
        if line.startswith(_MARK):
            return _parsed(line.removeprefix(_MARK))
    return None


def _parsed(mark: str) -> Unit | None:
    try:
        said = json.loads(mark)
        return Unit(
            Scope(said["scope"]),
            tuple(said["command"]),
            said["user"],
            tuple(said["mounts"]),
            tuple(said["writable"]),
        )
    except (ValueError, LookupError, TypeError):
        return None


def _word(word: str) -> str:
    """One word as systemd.syntax(7) wants it: quoted where needed, no specifiers."""
    if not word.isprintable():
        raise ValueError(f"a systemd unit cannot say {word!r}")
    plain = word.replace("%", "%%")
    if not set(plain) & set(" '\"\\;"):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
