"""The planner and the disk: what does not fit waits, and blocks nobody that fits."""

from __future__ import annotations

from tests.factories import NOW, a_gpu, queued, status
from training_cluster.domain.disk import DiskRoom, in_words
from training_cluster.domain.spec import GIB
from training_cluster.scheduling.plan import Snapshot, WaitCode, plan


def decide(jobs, gpus: int, *, gib: float, is_full: bool = False):
    free = int(gib * GIB)
    room = DiskRoom("/state", free - GIB, free, 0, is_full)
    return plan(Snapshot(jobs, [status(a_gpu(i)) for i in range(gpus)], room), NOW)


def test_a_job_that_does_not_fit_waits_and_those_behind_it_start():
    jobs = [queued(1, disk_bytes=12 * GIB), queued(2, disk_bytes=2 * GIB)]
    decision = decide(jobs, 1, gib=5)
    assert [p.job_id for p in decision.placements] == ["job-2"]
    reason = decision.waiting["job-1"]
    assert reason.code is WaitCode.DISK
    assert "needs about 12.0 GiB on /state; 5.0 GiB are free" in reason.message


def test_what_one_plan_starts_counts_for_the_next_job_of_it():
    jobs = [queued(n, disk_bytes=2 * GIB) for n in (1, 2, 3)]
    decision = decide(jobs, 3, gib=5.5)  # 4.5 GiB without the reserve
    assert [p.job_id for p in decision.placements] == ["job-1", "job-2"]
    assert "jobs that run will write about 4.0 GiB" in decision.waiting["job-3"].message


def test_nothing_starts_into_a_full_disk_however_little_it_needs():
    decision = decide([queued(1), queued(2, disk_bytes=1)], 2, gib=5, is_full=True)
    assert decision.placements == ()
    assert {reason.code for reason in decision.waiting.values()} == {WaitCode.DISK}


def test_bytes_are_told_as_people_read_them():
    assert [in_words(n) for n in (0, 1023, 1536, 13207024435)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "12.3 GiB",
    ]
