"""Reads and writes the files through which the daemon and a runner meet."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training_cluster.adapters.local_engine.processes import Process, boot_id
from training_cluster.domain.job import StopReason
from training_cluster.ports import Exit, Launch, Sighting


@dataclass(frozen=True, slots=True)
class AttemptFiles:
    """The files of one attempt's directory."""

    directory: Path

    def write_launch(self, launch: Launch) -> None:
        """Write launch.json, which holds secrets in its environment: mode 0600."""
        self._replace(
            "launch.json",
            {
                "ref": {"job_id": launch.ref.job_id, "number": launch.ref.number},
                "argv": launch.argv,
                "environment": dict(launch.environment),
                "grace_seconds": launch.grace_seconds,
                "max_seconds": launch.max_seconds,
            },
        )

    def forget_environment(self) -> None:
        """Take the values of the variables out of launch.json: the attempt has ended, and they
        may be secrets. Harmless when the file or its folder is gone."""
        with suppress(OSError):
            content = self._read("launch.json")
            if content is not None:
                content["environment"] = dict.fromkeys(content.get("environment", ()), "")
                self._replace("launch.json", content)

    def request_stop(self, reason: StopReason, grace_seconds: float | None = None) -> None:
        """Write stop.json unless the attempt has ended, or a stop was requested before that this
        one does not outweigh: only a cancellation outweighs others."""
        known = self.requested_stop()
        outweighs = reason is StopReason.CANCELLED and known is not StopReason.CANCELLED
        if (known is None or outweighs) and not self._exists("exit.json"):
            own = {} if grace_seconds is None else {"grace_seconds": grace_seconds}
            self._replace("stop.json", {"reason": reason.value, **own})

    def requested_stop(self) -> StopReason | None:
        """Why the attempt was told to stop, if it was."""
        content = self._read("stop.json")
        return StopReason(content["reason"]) if content else None

    def look(self) -> Sighting:
        """What the files say about the attempt."""
        if self._exists("exit.json"):
            return Sighting.EXITED
        with self._free_lock() as is_free:
            if not is_free:
                return Sighting.ALIVE
            if self._exists("exit.json"):  # it ended while we came to the lock
                return Sighting.EXITED
            return Sighting.LOST if self._exists("started") else Sighting.NEVER

    def is_started(self) -> bool:
        """Whether a runner has gone on to launch the trainer."""
        return self._exists("started")

    def revoke(self) -> bool:
        """Make sure that an attempt that was never started stays so; False if it was started.

        A runner reads launch.json and creates `started` under the lock.
        """
        with self._free_lock(os.O_CREAT) as is_free:
            if not is_free or self._exists("started"):
                return False
            (self.directory / "launch.json").unlink(missing_ok=True)
            return True

    def read_exit(self) -> Exit | None:
        """The runner's record of how the attempt ended, None if there is none."""
        content = self._read("exit.json")
        return None if content is None else parse_exit(content)

    def rebooted(self) -> bool:
        """Whether the machine was started anew since a runner wrote pid.json."""
        content = self._read("pid.json")
        return content is not None and content["boot_id"] != boot_id()

    def runner(self) -> Process | None:
        """The runner named by pid.json; None if there is none or the machine booted since."""
        return self._process("runner")

    def trainer(self) -> Process | None:
        """The trainer named by pid.json; None if there is none or the machine booted since."""
        return self._process("trainer")

    def _process(self, role: str) -> Process | None:
        content = self._read("pid.json")
        if content is None or content["boot_id"] != boot_id():
            return None
        return Process(content[role]["pid"], content[role]["start_time"])

    @contextmanager
    def _free_lock(self, flags: int = 0) -> Iterator[bool]:
        """Whether no runner holds the lock; if so, none gets it as long as the context lasts."""
        try:
            lock = os.open(self.directory / "lock", os.O_RDONLY | os.O_CLOEXEC | flags, 0o600)
        except FileNotFoundError:
            yield True
            return
        try:
            yield _share(lock)
        finally:
            os.close(lock)

    def _exists(self, name: str) -> bool:
        return os.path.exists(self.directory / name)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with open(self.directory / name, "rb") as file:
                content: dict[str, Any] = json.load(file)
        except (FileNotFoundError, ValueError):  # a file not synced may be empty after a power cut
            return None
        return content

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        temporary = self.directory / f"{name}.{os.getpid()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "w") as file:
            json.dump(content, file)
        os.replace(temporary, self.directory / name)


def parse_exit(content: dict[str, Any]) -> Exit:
    """What exit.json says."""
    reason = content["stop_reason"]
    return Exit(
        code=content["code"],
        started_at=content["started_at"],
        ended_at=content["ended_at"],
        duration_seconds=content["duration_seconds"],
        stop_reason=StopReason(reason) if reason else None,
        exec_error=content["exec_error"],
    )


def _share(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
