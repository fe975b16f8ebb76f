"""Whatever NVML does, at whichever call: nothing starts on a device in doubt, and requests are
answered as if nothing were the matter."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests import fake_nvml as nvml
from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.fake_nvml import CALLS_ABOUT_ONE_GPU, FakeNvml
from tests.trust import Promise

ABOUT_THE_SYSTEM = ("nvmlInitWithFlags", "nvmlDeviceGetCount_v2")
# errors of these are of no consequence for any device
ABOUT_NOTHING = ("nvmlShutdown", "nvmlSystemGetDriverVersion")
ONLY_AT_A_START = ("nvmlInitWithFlags", *ABOUT_NOTHING)
ABOUT_SLICES = (
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId",
)
CALLS = (*ABOUT_THE_SYSTEM, *ABOUT_NOTHING, *CALLS_ABOUT_ONE_GPU, *ABOUT_SLICES)

NO_SUCH_CODE = 998  # pynvml asks the library what it means
CODES = (*range(1, 29), NO_SUCH_CODE, nvml.UNKNOWN)
ABSENT = (nvml.NOT_SUPPORTED, nvml.FUNCTION_NOT_FOUND)
# what a healthy GPU may answer, and what the queue then does without or asks in an older way
HARMLESS = {
    "nvmlDeviceGetMigMode": ABSENT,
    "nvmlDeviceGetMemoryInfo_v2": (*ABSENT, nvml.ARGUMENT_VERSION_MISMATCH),
    "nvmlDeviceGetUtilizationRates": ABSENT,
    "nvmlDeviceGetTemperatureV": (*ABSENT, nvml.ARGUMENT_VERSION_MISMATCH),
    "nvmlDeviceGetPowerUsage": ABSENT,
    "nvmlDeviceGetGpuInstanceId": ABSENT,
    "nvmlDeviceGetComputeRunningProcesses_v3": (
        *(*ABSENT, nvml.NO_PERMISSION, nvml.ARGUMENT_VERSION_MISMATCH),
    ),
    "nvmlDeviceGetGraphicsRunningProcesses_v3": (
        *(*ABSENT, nvml.NO_PERMISSION, nvml.ARGUMENT_VERSION_MISMATCH),
    ),
}
# where a wrong answer can be told from a right one; any number may be that of a slice's instance
GARBAGE = (
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetPowerUsage",
)
VICTIM, SLICED = 0, 2
LIMIT_SECONDS = 0.2


@dataclass(frozen=True)
class Case:
    """One NVML call and what becomes of it: an error code, hang, crash, garbage or lost."""

    call: str
    fault: int | str

    @property
    def gpu(self) -> int | None:
        """The GPU it happens to; None: every call, whatever it is about."""
        if self.call in ABOUT_SLICES:
            return SLICED
        return VICTIM if self.call in CALLS_ABOUT_ONE_GPU or self.fault == "lost" else None

    @property
    def doubtful(self) -> set[int]:
        """The GPUs that must get nothing, by index."""
        if self.fault in ("hang", "crash"):
            return {0, 1, 2}
        if self.call in ABOUT_NOTHING or self.fault in HARMLESS.get(self.call, ()):
            return set()
        return {0, 1, 2} if self.gpu is None else {self.gpu}

    def inject(self, fake: FakeNvml) -> None:
        if self.fault == "hang":
            fake.delay(self.call, 600, self.gpu)
        elif self.fault == "crash":
            fake.crash(self.call, self.gpu)
        elif self.fault == "garbage":
            fake.garble(self.call, self.gpu)
        elif self.fault == "lost":
            fake.lose(VICTIM)
        else:
            fake.fail(self.call, int(self.fault), self.gpu)
        if self.call in ONLY_AT_A_START:
            fake.reload_driver()


def all_cases() -> list[Case]:
    faults = (*CODES, "hang", "crash")
    return [
        *(Case(call, fault) for call in CALLS for fault in faults),
        *(Case(call, "garbage") for call in GARBAGE),
        Case("*", "lost"),
    ]


def some_cases() -> list[Case]:
    """One fault of each kind, at calls of each kind."""
    return [
        Case("*", "lost"),
        Case("nvmlDeviceGetMemoryInfo_v2", "hang"),
        Case("nvmlDeviceGetPowerUsage", "crash"),
        Case("nvmlDeviceGetUtilizationRates", "garbage"),
        Case("nvmlDeviceGetCount_v2", nvml.UNKNOWN),
        Case("nvmlInitWithFlags", nvml.DRIVER_NOT_LOADED),
        Case("nvmlDeviceGetMigDeviceHandleByIndex", nvml.TIMEOUT),
        Case("nvmlDeviceGetTemperatureV", nvml.NOT_SUPPORTED),
    ]


class Load:
    """Somebody who asks for everything all the time, about 60 times a second."""

    def __init__(self, base_url: str) -> None:
        self.seconds: list[float] = []
        self.wrong: list[str] = []
        self._url = base_url
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        paths = ("/healthz", "/devices", "/queue", "/train?limit=20", "/train/1")
        with httpx2.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            while not self._end.wait(0.015):
                path = random.choice(paths)
                began = time.perf_counter()
                response = client.get(path)
                self.seconds.append(time.perf_counter() - began)
                if response.status_code != 200:
                    self.wrong.append(f"{path}: {response.status_code}")

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


class Box:
    """A daemon over three simulated GPUs, the last one cut into a slice."""

    def __init__(self, daemon: DaemonProcess, fake: FakeNvml, record: Path) -> None:
        self.daemon, self.fake, self.record = daemon, fake, record
        self.submitted: list[float] = []

    def standings(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for device in self.daemon.client.get("/devices").json()["devices"]:
            found.setdefault(device["index"], set()).add(device["standing"])
        return found

    def launches(self) -> list[int]:
        """The GPU index of each launch so far."""
        file = self.record / "launches"
        if not file.exists():
            return []
        named = [json.loads(line)["devices"] for line in file.read_text().splitlines()]
        return [SLICED if device.startswith("MIG-") else int(device) for device in named]

    def submit(self) -> str:
        began = time.perf_counter()
        job = self.daemon.submit()["job_id"]
        self.submitted.append(time.perf_counter() - began)
        return str(job)

    def are_done(self, jobs: list[str]) -> bool:
        return all(self.daemon.job(job)["status"] == "completed" for job in jobs)

    def release(self) -> dict[int, set[str]]:
        """Have whatever is quarantined released; returns the standings before."""
        standings = self.standings()
        for index in standings:
            if "quarantined" in standings[index]:
                self.daemon.client.delete(f"/devices/{index}/quarantine")
        return standings

    def all_free(self) -> bool:
        return self.release() == {0: {"free"}, 1: {"free"}, 2: {"free"}}

    def suffers(self, case: Case) -> int:
        """One fault from beginning to end; returns how many launches there were on devices in
        doubt."""
        case.inject(self.fake)
        eventually(lambda: self._is_noticed(case), 10)
        before = len(self.launches())
        jobs = [self.submit() for _ in range(3)]
        healthy = {0, 1, 2} - case.doubtful
        if not case.doubtful:  # a reload of the driver may have quarantined all for a moment
            eventually(lambda: self.release() and self.are_done(jobs), 20)
        elif healthy:  # three jobs want a device, and those in doubt are idle all the while
            for job in jobs:
                self.daemon.wait_for(job, "completed", seconds=20)
        else:
            time.sleep(0.3)
        wrong = [index for index in self.launches()[before:] if index in case.doubtful]
        self.fake.heal()
        if case.fault == "lost":  # whoever mends a card loads its driver anew
            self.fake.reload_driver()
        eventually(self.all_free, 60)
        for job in jobs:
            self.daemon.wait_for(job, "completed", seconds=20)
        return len(wrong)

    def _is_noticed(self, case: Case) -> bool:
        standings = self.standings()
        bad = {"faulty", "quarantined"}
        return all(standings.get(index, bad) <= bad for index in case.doubtful)


@pytest.fixture
def box(tmp_path: Path, record: Path, fake_nvml: FakeNvml) -> Iterator[Box]:
    fake_nvml.gpus(3, total_gib=80)
    fake_nvml.mig(SLICED, 20)
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 0.02, 0),
        "TRAINING_CLUSTER_DEVICES__KIND": "auto",
        "TRAINING_CLUSTER_DEVICES__POLL_SECONDS": "0.1",
        "TRAINING_CLUSTER_DEVICES__DEADLINE_SECONDS": "0.4",
        "TRAINING_CLUSTER_DEVICES__HEALTHY_SECONDS": "0.2",
        **fake_nvml.environment(),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        daemon.wait_for(daemon.submit()["job_id"])
        yield Box(daemon, fake_nvml, record)


def check(box: Box, cases: list[Case]) -> str:
    """Let the box suffer each case under load; returns what was reached."""
    doubtful = 0
    with Load(str(box.daemon.client.base_url)) as load:
        for case in cases:
            with explained(case):
                doubtful += box.suffers(case)
    assert not load.wrong, load.wrong[:10]
    assert not (box.record / "conflicts").exists()
    assert doubtful == 0
    assert load.p99 < LIMIT_SECONDS, f"p99 {load.p99 * 1000:.0f} ms"
    slowest = max(box.submitted)
    return (
        f"{len(cases)} faults at {len({case.call for case in cases})} calls: {doubtful} launches "
        f"on a doubtful device, API p99 {load.p99 * 1000:.0f} ms over {len(load.seconds)} "
        f"requests, slowest submission {slowest * 1000:.0f} ms"
    )


@contextlib.contextmanager
def explained(case: Case) -> Iterator[None]:
    """A failure says in which case it happened."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error


def test_no_fault_of_nvml_starts_a_job_on_a_doubtful_device(
    box: Box, trust: Callable[..., None]
) -> None:
    trust(Promise.NVML, check(box, some_cases()), form="short")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_fault_of_any_call_of_nvml_starts_a_job_on_a_doubtful_device(
    box: Box, trust: Callable[..., None]
) -> None:
    trust(Promise.NVML, check(box, all_cases()), form="full")
