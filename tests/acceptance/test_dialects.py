"""A job is the same in every dialect: made in any it is listed in all, and at each moment of its
life each dialect says of it what docs/dialects.md says it says."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon_process import ROOT, DaemonProcess, eventually, running_daemon, trainer
from tests.dialects.page import statuses
from tests.dialects.speakers import SPEAKERS

PATIENCE = 120.0
SLOTS = len(SPEAKERS)
TABLE = {(said.state, said.when): said for said in statuses()}


class Life:
    """A daemon whose jobs go as far as they are led, and who speaks to it in each dialect."""

    def __init__(self, daemon: DaemonProcess, lead: Path) -> None:
        self.daemon = daemon
        self.lead = lead
        self.speakers = {name: make(daemon) for name, make in SPEAKERS.items()}
        self.jobs: list[str] = []

    def begin(self, name: str) -> None:
        """One job made in each dialect."""
        self.jobs = [speaker.make(f"{name}-{key}") for key, speaker in self.speakers.items()]

    def led(self, **words: object) -> None:
        """What the trainers read; None takes it away."""
        for name, word in words.items():
            file = self.lead / name.replace("_", "-")
            if word is None:
                file.unlink(missing_ok=True)
            else:
                part = self.lead / "part"
                part.write_text(str(word))
                part.rename(file)

    def all_are(self, state: str, **more: object) -> None:
        """Wait until every job is in a state, and as far as `step` if that is said."""
        for job in self.jobs:
            self.daemon.wait_for(job, state, seconds=PATIENCE)
            if "step" in more:
                eventually(lambda: self._step(job) == more["step"], PATIENCE)  # noqa: B023

    def numbers(self) -> list[str]:
        """The numbers of the jobs."""
        return [str(self.daemon.job(job)["number"]) for job in self.jobs]

    def data_is_ready(self) -> bool:
        """Whether everything that was handed in is checked."""
        found = self.speakers["native"].ask("GET", "/datasets")["datasets"]
        return {dataset["status"] for dataset in found} == {"ready"}

    def models(self) -> dict[str, list[str | None]]:
        """What the model of each job is called, by dialect."""
        return {
            name: [speaker.model(job) for job in self.jobs]
            for name, speaker in self.speakers.items()
        }

    def each(self, path: str) -> None:
        """Ask for the same with every job, natively."""
        for job in self.jobs:
            self.speakers["native"].ask("POST", f"/train/{job}/{path}")

    def cancelled(self) -> None:
        """Every job is cancelled for good."""
        for job in self.jobs:
            self.speakers["native"].ask("DELETE", f"/train/{job}")

    def look(self, state: str, when: str = "") -> None:
        """Every dialect lists every job, in the words of the table."""
        said = TABLE[state, when]
        for name, speaker in self.speakers.items():
            word = getattr(said, name, state)
            listed = speaker.listed()
            found = {job: listed.get(job) for job in self.jobs}
            assert found == dict.fromkeys(self.jobs, word), f"{name}: {state} {when}"

    def _step(self, job: str) -> int:
        return int((self.daemon.job(job)["progress"] or {}).get("step", 0))

    @contextmanager
    def no_device(self) -> Iterator[None]:
        """Nothing can start, until `free_devices` or the end."""
        for path in self._holds():
            self.speakers["native"].ask("PUT", path, json={"reason": "a test"})
        yield
        self.free_devices()

    def free_devices(self) -> None:
        """What waits can start."""
        for path in self._holds():
            assert self.daemon.client.delete(path).status_code in (200, 404)

    def _holds(self) -> list[str]:
        devices = self.daemon.client.get("/devices").json()["devices"]
        return [f"/devices/{device['uuid']}/hold" for device in devices]

    @contextmanager
    def no_runner(self) -> Iterator[None]:
        """What has a device does not get as far as its trainer."""
        pid = _child(self.daemon, "fork_server.py")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def _child(daemon: DaemonProcess, word: str) -> int:
    """The daemon's own child that was started with such a word."""
    assert daemon.process is not None
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == daemon.process.pid and word in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    (pid,) = found
    return pid


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    lead = tmp_path / "lead"
    lead.mkdir()
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("led", lead),
        "TRAINING_CLUSTER_CPU_SLOTS": str(SLOTS),
        "PYTHONPATH": f"{ROOT / 'tests' / 'held'}{os.pathsep}{ROOT}",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        yield Life(daemon, lead)


@pytest.mark.timeout(600)
def test_at_each_moment_of_its_life_each_dialect_says_what_the_table_says(life: Life, tmp_path):
    checks = tmp_path / "hold-checks"
    checks.touch()
    with life.no_device():
        life.begin("walk")
        life.look("queued", "its dataset is still being checked")
        checks.unlink()
        eventually(life.data_is_ready, PATIENCE)
        life.look("queued")
        with life.no_runner():
            life.free_devices()
            life.all_are("preparing")
            life.look("preparing")
    life.led(steps=2)
    life.all_are("running", step=2)
    life.look("running")
    life.each("pause")
    life.all_are("stopping")
    life.look("stopping")
    with life.no_device():
        life.led(may_stop="now")
        life.all_are("paused")
        life.look("paused", "with a checkpoint")
        life.each("resume")
        life.all_are("queued")
        life.look("queued")
    life.led(steps=4)
    life.all_are("running", step=4)
    life.look("running", "every step is done")
    assert {name for names in life.models().values() for name in names} == {None}
    life.led(may_end=0)
    life.all_are("completed")
    life.look("completed")
    models = life.models()
    assert None not in models["native"]
    assert models["lamini"] == models["vertesia"] == models["native"]
    assert [name.rpartition(":")[2] for name in models["openai"]] == life.numbers()
    life.led(may_end=1)
    life.begin("fail")
    life.all_are("failed")
    life.look("failed")
    life.led(may_end=None, steps=2)
    life.begin("cancel")
    life.all_are("running", step=2)
    life.cancelled()
    life.all_are("cancelled")
    life.look("cancelled", "with a checkpoint")
    with life.no_device():
        life.begin("never")
        life.each("pause")
        life.look("paused", "without one")
        life.cancelled()
        life.look("cancelled", "without a checkpoint")
