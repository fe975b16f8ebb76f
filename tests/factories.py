"""Makes the values tests are about: a test names what matters to it, the rest is plausible."""

from __future__ import annotations

from training_cluster.domain.device import Availability, Device, DeviceKind, Standing
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.job import QueuedJob
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.domain.spec import GIB, JobSpec
from training_cluster.scheduling.plan import DeviceStatus
from training_cluster.store.jobs import NewJob

NOW = 1_795_000_000.0
ALICE = Principal("alice", Role.SUBMITTER, Via.LOCAL)
BOB = Principal("bob", Role.SUBMITTER, Via.LOCAL)
ROOT = Principal("root", Role.ADMIN, Via.LOCAL)


def a_gpu(index: int = 0, *, gib: int = 80, kind: DeviceKind = DeviceKind.GPU) -> Device:
    """A healthy idle GPU."""
    return Device(
        uuid=f"GPU-{index:08x}",
        kind=kind,
        index=index,
        name="NVIDIA H100",
        total_memory_bytes=gib * GIB,
        used_memory_bytes=0,
        utilization_percent=0.0,
    )


def status(device: Device, standing: Standing = Standing.FREE, reason: str = "") -> DeviceStatus:
    """A device with its standing."""
    return DeviceStatus(device, Availability(standing, reason))


def queued(number: int, **fields: object) -> QueuedJob:
    """A waiting job."""
    return QueuedJob(f"job-{number}", number, **fields)  # type: ignore[arg-type]


def a_new_job(
    *, user: str = "alice", now: float = NOW, key: str | None = None, **spec: object
) -> NewJob:
    """A job about to be acknowledged."""
    return NewJob(
        id=new_job_id(now),
        user=user,
        spec=JobSpec(**spec),  # type: ignore[arg-type]
        created_at=now,
        idempotency_key=key,
        request_sha256="0" * 64 if key else None,
    )
