"""The rules by which a device counts as free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training_cluster.domain.device import (
    MIB,
    BusyPolicy,
    Device,
    DeviceKind,
    DeviceProcess,
    Hold,
    Lease,
    Standing,
    availability,
)

GPU = Device(
    uuid="GPU-1",
    kind=DeviceKind.GPU,
    index=1,
    name="NVIDIA H100 80GB HBM3",
    total_memory_bytes=80 * 1024 * MIB,
    used_memory_bytes=0,
    utilization_percent=0.0,
)
SLICE = replace(GPU, uuid="MIG-1", kind=DeviceKind.MIG, parent_uuid="GPU-1")
CPU = Device(uuid="CPU-1", kind=DeviceKind.CPU, index=1, name="a processor")
LEASE = Lease("GPU-1", "job-id", 17, 1, 0.0)
HOLD = Hold("GPU-1", "alice", "debugging", 0.0)
POLICY = BusyPolicy()
EVERYTHING = BusyPolicy(excluded=frozenset({"GPU-1"}))
FAULTY = replace(GPU, fault="GPU is lost")
FULL = replace(GPU, used_memory_bytes=1000 * MIB)


def test_an_idle_healthy_device_is_free_and_needs_no_reason() -> None:
    for device in (GPU, SLICE, CPU):
        verdict = availability(device, None, None, POLICY)
        assert verdict.is_free
        assert verdict.reason == ""


@pytest.mark.parametrize(
    ("device", "lease", "hold", "policy", "standing", "reason"),
    [
        (FAULTY, LEASE, HOLD, EVERYTHING, Standing.LEASED, "leased by job 17"),
        (FULL, LEASE, None, POLICY, Standing.LEASED, "leased by job 17"),
        (FAULTY, None, HOLD, EVERYTHING, Standing.FAULTY, "GPU is lost"),
        (FULL, None, HOLD, EVERYTHING, Standing.EXCLUDED, "left out by the settings"),
        (FULL, None, HOLD, POLICY, Standing.HELD, "held by alice: debugging"),
    ],
)
def test_the_strongest_reason_is_the_one_given(
    device: Device,
    lease: Lease | None,
    hold: Hold | None,
    policy: BusyPolicy,
    standing: Standing,
    reason: str,
) -> None:
    verdict = availability(device, lease, hold, policy)

    assert (verdict.standing, verdict.reason) == (standing, reason)
    assert not verdict.is_free


@pytest.mark.parametrize(
    ("memory", "load", "standing"),
    [
        (256 * MIB, 20.0, Standing.FREE),
        (256 * MIB + 1, 0.0, Standing.BUSY),
        (0, 20.1, Standing.BUSY),
        (0, None, Standing.FREE),
        (None, 0.0, Standing.FAULTY),
    ],
)
def test_foreign_use_above_the_thresholds_makes_a_gpu_busy(
    memory: int | None, load: float | None, standing: Standing
) -> None:
    device = replace(GPU, used_memory_bytes=memory, utilization_percent=load)

    assert availability(device, None, None, POLICY).standing is standing


def test_the_thresholds_are_those_of_the_policy() -> None:
    patient = BusyPolicy(memory_bytes=2000 * MIB, utilization_percent=100.0)

    assert availability(FULL, None, None, patient).is_free


@pytest.mark.parametrize("name", ["GPU-1", "1"])
@pytest.mark.parametrize("device", [GPU, SLICE])
def test_a_gpu_is_excluded_by_uuid_or_index_with_its_slices(device: Device, name: str) -> None:
    policy = BusyPolicy(excluded=frozenset({name}))

    assert availability(device, None, None, policy).standing is Standing.EXCLUDED


@pytest.mark.parametrize("device", [GPU, CPU])
def test_a_device_that_is_not_named_is_not_excluded(device: Device) -> None:
    policy = BusyPolicy(excluded=frozenset({"GPU-2", "2", "MIG-1"}))

    assert availability(device, None, None, policy).is_free


def test_an_excluded_index_means_gpus_not_cpu_slots() -> None:
    assert availability(CPU, None, None, BusyPolicy(excluded=frozenset({"1"}))).is_free


@pytest.mark.parametrize(
    ("processes", "reason"),
    [
        ((), "1000 MiB in use by a process that cannot be seen from here"),
        ((DeviceProcess(42, 900 * MIB),), "1000 MiB in use by pid 42"),
        (
            (DeviceProcess(42, None), DeviceProcess(43, 642 * MIB, "bob", "python eval.py", 7300)),
            "1000 MiB in use by python eval.py (pid 43) of bob, 2 h old and 1 more",
        ),
        (
            (DeviceProcess(43, 642 * MIB, "bob", "python eval.py", 3 * 86400),),
            "1000 MiB in use by python eval.py (pid 43) of bob, 3 d old",
        ),
    ],
)
def test_a_busy_gpu_names_its_biggest_user(
    processes: tuple[DeviceProcess, ...], reason: str
) -> None:
    device = replace(FULL, processes=processes)

    assert availability(device, None, None, POLICY).reason == reason


def test_a_gpu_under_load_says_how_much() -> None:
    device = replace(GPU, utilization_percent=98.0, processes=(DeviceProcess(42, 10 * MIB),))

    assert availability(device, None, None, POLICY).reason == "98 % load by pid 42"
