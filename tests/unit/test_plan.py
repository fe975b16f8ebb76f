"""The planner's promises, as tables and as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import NOW, a_gpu, queued, status
from training_cluster.domain.device import DeviceKind, Standing
from training_cluster.domain.disk import DiskRoom
from training_cluster.domain.job import QueuedJob
from training_cluster.domain.spec import GIB
from training_cluster.scheduling.plan import DeviceStatus, Snapshot, WaitCode, fits, plan


def decide(jobs: list[QueuedJob], devices: list[DeviceStatus], **options: bool):
    return plan(Snapshot(jobs, devices), NOW, **options)


def placed(decision) -> dict[str, list[int]]:
    return {p.job_id: [device.index for device in p.devices] for p in decision.placements}


def test_jobs_start_in_queue_order_while_devices_last():
    decision = decide([queued(1), queued(2), queued(3)], [status(a_gpu(0)), status(a_gpu(1))])
    assert placed(decision) == {"job-1": [0], "job-2": [1]}
    assert decision.waiting["job-3"].code is WaitCode.DEVICES_IN_USE


def test_a_job_gets_all_its_devices_or_none():
    decision = decide(
        [queued(1, gpus=2)], [status(a_gpu(0)), status(a_gpu(1), Standing.LEASED, "x")]
    )
    assert decision.placements == ()
    reason = decision.waiting["job-1"]
    assert reason.code is WaitCode.DEVICES_IN_USE
    assert "needs 2 devices" in reason.message
    assert "GPU 1: x" in reason.message


def test_small_jobs_do_not_starve_a_large_one():
    devices = [status(a_gpu(0)), status(a_gpu(1), Standing.LEASED, "leased by job 9")]
    decision = decide([queued(1, gpus=2), queued(2)], devices)
    assert decision.placements == ()
    assert decision.waiting["job-2"].code is WaitCode.BEHIND
    assert "job 1" in decision.waiting["job-2"].message


def test_a_waiting_job_keeps_only_devices_it_could_use():
    small, large = status(a_gpu(0, gib=24)), status(a_gpu(1, gib=80), Standing.LEASED, "job 9")
    decision = decide([queued(1, min_memory_bytes=40 * GIB), queued(2)], [small, large])
    assert placed(decision) == {"job-2": [0]}


def test_a_job_this_machine_cannot_serve_blocks_nobody():
    decision = decide([queued(1, gpus=8), queued(2)], [status(a_gpu(0)), status(a_gpu(1))])
    assert placed(decision) == {"job-2": [0]}
    assert decision.waiting["job-1"].code is WaitCode.TOO_FEW_DEVICES


def test_an_excluded_device_does_not_count_as_possible():
    devices = [status(a_gpu(0)), status(a_gpu(1), Standing.EXCLUDED)]
    decision = decide([queued(1, gpus=2), queued(2)], devices)
    assert decision.waiting["job-1"].code is WaitCode.TOO_FEW_DEVICES
    assert placed(decision) == {"job-2": [0]}


def test_a_job_takes_the_smallest_device_that_serves_it():
    devices = [status(a_gpu(0, gib=80)), status(a_gpu(1, gib=24)), status(a_gpu(2, gib=48))]
    assert placed(decide([queued(1, min_memory_bytes=40 * GIB)], devices)) == {"job-1": [2]}


def test_slices_serve_single_process_jobs_only():
    slices = [status(a_gpu(i, kind=DeviceKind.MIG)) for i in range(2)]
    decision = decide([queued(1, gpus=2), queued(2)], slices)
    assert placed(decision) == {"job-2": [0]}


def test_a_dependency_holds_back_its_job_and_no_other():
    decision = decide([queued(2, waits_for=(1,)), queued(3)], [status(a_gpu(0))])
    assert decision.waiting["job-2"].code is WaitCode.DEPENDENCY
    assert placed(decision) == {"job-3": [0]}


def test_a_broken_dependency_is_reported_with_its_culprit():
    assert decide([queued(2, broken_by=1)], [status(a_gpu(0))]).broken == {"job-2": 1}


def test_a_retry_waits_for_its_time_and_tells_when_to_look_again():
    jobs = [queued(1, not_before=NOW + 20), queued(2, not_before=NOW + 10), queued(3)]
    decision = decide(jobs, [status(a_gpu(0))])
    assert decision.wake_at == NOW + 10
    assert decision.waiting["job-1"].code is WaitCode.RETRY_DELAY
    assert placed(decision) == {"job-3": [0]}


def test_without_explaining_it_stops_where_devices_end():
    decision = decide([queued(n) for n in range(1, 50)], [status(a_gpu(0))], explain=False)
    assert placed(decision) == {"job-1": [0]}
    assert not decision.complete
    assert not decision.waiting


jobs_strategy = st.lists(
    st.builds(
        lambda gpus, gib, waits, late: (gpus, gib * GIB, (99,) if waits else (), late),
        st.integers(1, 5),
        st.sampled_from([0, 0, 24, 80, 200]),
        st.booleans(),
        st.sampled_from([None, NOW - 1, NOW + 60]),
    ),
    max_size=12,
).map(
    lambda rows: [
        queued(n, gpus=g, min_memory_bytes=m, waits_for=w, not_before=t)
        for n, (g, m, w, t) in enumerate(rows, 1)
    ]
)
devices_strategy = st.lists(
    st.tuples(
        st.sampled_from([16, 24, 80]),
        st.sampled_from(list(Standing)),
        st.sampled_from([DeviceKind.GPU, DeviceKind.MIG]),
    ),
    max_size=6,
).map(lambda rows: [status(a_gpu(i, gib=g, kind=k), s) for i, (g, s, k) in enumerate(rows)])


@given(jobs_strategy, devices_strategy)
def test_every_plan_is_lawful(jobs, devices):
    decision = decide(jobs, devices)
    by_id = {job.id: job for job in jobs}
    used = [device.uuid for p in decision.placements for device in p.devices]
    free = {s.device.uuid for s in devices if s.availability.is_free}
    assert len(used) == len(set(used))
    assert set(used) <= free
    for placement in decision.placements:
        job = by_id[placement.job_id]
        assert len(placement.devices) == job.gpus
        assert all(fits(job, device) for device in placement.devices)
        assert not job.waits_for
        assert job.not_before is None or job.not_before <= NOW
    started = {p.job_id for p in decision.placements}
    assert started.isdisjoint(decision.waiting)
    assert started | set(decision.waiting) | set(decision.broken) == set(by_id)


@given(jobs_strategy, devices_strategy)
def test_the_first_ready_job_that_fits_now_always_starts(jobs, devices):
    free = [s.device for s in devices if s.availability.is_free]
    ready = [j for j in jobs if not j.waits_for and (j.not_before is None or j.not_before <= NOW)]
    first = ready[0] if ready else None
    if first and sum(fits(first, device) for device in free) >= first.gpus:
        assert decide(jobs, devices).placements[0].job_id == first.id


@given(jobs_strategy, devices_strategy)
def test_explaining_never_changes_what_starts(jobs, devices):
    assert placed(decide(jobs, devices)) == placed(decide(jobs, devices, explain=False))


def test_jobs_without_a_device_take_slots_and_no_devices():
    jobs = [queued(1, gpus=0), queued(2), queued(3, gpus=0), queued(4, gpus=0)]
    decision = plan(Snapshot(jobs, [status(a_gpu())], slots=2, most_slots=3), NOW)
    placed = {placement.job_id: placement.devices for placement in decision.placements}
    assert placed == {"job-1": (), "job-2": (a_gpu(),), "job-3": ()}
    reason = decision.waiting["job-4"]
    assert reason.code is WaitCode.SLOTS_IN_USE
    assert "3 jobs" in reason.message


def test_jobs_without_a_device_start_while_every_device_is_taken_and_reserve_none():
    taken = [status(a_gpu(), Standing.LEASED)]
    jobs = [queued(1), queued(2, gpus=0), queued(3, gpus=0)]
    decision = plan(Snapshot(jobs, taken, slots=1, most_slots=1), NOW, explain=False)
    assert [placement.job_id for placement in decision.placements] == ["job-2"]
    free = [status(a_gpu())]
    behind = plan(Snapshot([queued(1, gpus=0), queued(2)], free, most_slots=1), NOW, explain=False)
    assert [placement.job_id for placement in behind.placements] == ["job-2"]
    assert behind.complete


def test_a_job_without_a_device_waits_for_dependencies_and_room_as_any_other():
    jobs = [queued(1, gpus=0, waits_for=(7,)), queued(2, gpus=0, disk_bytes=10)]
    room = DiskRoom("/state", available_bytes=5, free_bytes=5, promised_bytes=0)
    decision = plan(Snapshot(jobs, [], room, slots=2, most_slots=2), NOW)
    assert decision.placements == ()
    codes = [decision.waiting[job].code for job in ("job-1", "job-2")]
    assert codes == [WaitCode.DEPENDENCY, WaitCode.DISK]
