"""Jobs and attempts in the store: what the functions do and what the schema refuses."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import JobNotFound, StaleTransition
from training_cluster.domain.job import (
    AttemptRef,
    EndedAttempt,
    JobError,
    JobState,
    Outcome,
    Progress,
    StopReason,
    TrainingPoint,
    Verdict,
)
from training_cluster.store import attempts, events, jobs, progress, returns

PORTS = range(29500, 29510)


def insert(connection, **fields):
    new = a_new_job(**fields)
    jobs.insert(connection, new)
    return jobs.find(connection, new.id)


def claim(connection, job, *devices: str):
    where = f"/state/jobs/{job.id}/attempt-{job.attempt_number + 1}"
    return attempts.claim(connection, job, devices or ("GPU-0",), where, NOW, PORTS)


def event_types(connection, job) -> list[str]:
    return [event.type.value for event in events.page(connection, 0, 100, job_number=job.number)]


def test_a_job_is_found_by_id_and_by_number(connection):
    job = insert(connection, lora_name="x")
    assert jobs.find(connection, str(job.number)) == job
    assert job.spec.lora_name == "x"
    for unknown in ("999", "no-such-job", "", "9" * 30, "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(JobNotFound):
            jobs.find(connection, unknown)


def test_the_queue_is_ordered_by_priority_then_number(connection):
    for priority in (0, 5, 0, 5):
        insert(connection, priority=priority)
    assert [job.number for job in jobs.queued(connection, 10)] == [2, 4, 1, 3]
    assert jobs.jobs_ahead(connection, 0, 3) == 3


def test_what_a_dialect_said_stays_with_the_job_and_finds_it(connection):
    native = insert(connection)
    metadata = {"team": "vision", "it's": "100 %", "a.b": '"'}
    new = replace(a_new_job(), request=DialectRequest("openai", {"metadata": metadata}))
    jobs.insert(connection, new)
    other = replace(a_new_job(), request=DialectRequest("lamini", {"is_public": True}))
    jobs.insert(connection, other)
    assert native.request is None
    assert jobs.find(connection, new.id).request == new.request

    def found(**words):
        page = jobs.page(connection, state=None, user=None, limit=10, metadata=words)
        return [job.id for job in page]

    assert found() == [other.id, native.id], "none is asked for: those that have none"
    assert found(team="vision") == found(**metadata) == [new.id]
    assert found(team="speech") == found(is_public="1") == []
    assert found(**{**metadata, "team": "speech"}) == []


def test_counters_follow_every_move(connection):
    first, second = insert(connection), insert(connection)
    claim(connection, first)
    jobs.end_unstarted(connection, second, JobState.CANCELLED, NOW, None)
    assert jobs.counts(connection) == {JobState.PREPARING: 1, JobState.CANCELLED: 1}


def test_pages_go_newest_first_and_filter(connection):
    for n in range(5):
        insert(connection, user="alice" if n % 2 else "bob")
    first = jobs.page(connection, state=None, user=None, limit=2)
    assert [job.number for job in first] == [5, 4]
    rest = jobs.page(connection, state=None, user=None, before=4, limit=10)
    assert [job.number for job in rest] == [3, 2, 1]
    mine = jobs.page(connection, state=JobState.QUEUED, user="alice", limit=10)
    assert [job.number for job in mine] == [4, 2]


def test_a_claim_leases_devices_and_says_so(connection):
    job = insert(connection, gpus=2)
    claimed = claim(connection, job, "GPU-0", "GPU-1")
    assert claimed.ref.number == 1
    assert claimed.master_port == PORTS.start
    assert set(attempts.leases(connection)) == {"GPU-0", "GPU-1"}
    assert event_types(connection, job) == ["job.queued", "job.starting"]
    assert claim(connection, job) is None, "a claimed job is not in the queue any more"


def test_a_device_cannot_be_leased_twice_even_if_python_is_wrong(connection):
    first, second = insert(connection), insert(connection)
    claim(connection, first)
    with pytest.raises(sqlite3.IntegrityError):
        claim(connection, second)


async def test_a_refused_claim_leaves_no_trace(database):
    first = await database.write(lambda c: insert(c))
    second = await database.write(lambda c: insert(c))
    await database.write(lambda c: claim(c, first))
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(lambda c: claim(c, second))
    job = await database.read(lambda c: jobs.find(c, second.id))
    assert (job.state, job.attempt_number) == (JobState.QUEUED, 0)


def test_an_ended_attempt_frees_its_devices_and_finishes_its_job(connection):
    job = insert(connection)
    claimed = claim(connection, job)
    assert attempts.mark_running(connection, claimed, NOW + 1)
    running = jobs.find(connection, job.id)
    verdict = Verdict(Outcome.COMPLETED, result={"path": "/somewhere"})
    assert attempts.end(connection, running, verdict, 0, NOW + 9, None) is JobState.COMPLETED
    done = jobs.find(connection, job.id)
    assert (done.started_at, done.finished_at) == (NOW + 1, NOW + 9)
    assert done.result == {"path": "/somewhere"}
    assert attempts.leases(connection) == {}
    assert attempts.active(connection) == []
    assert event_types(connection, job)[-2:] == ["job.started", "job.completed"]


def test_an_attempt_ends_once(connection):
    job = insert(connection)
    attempts.mark_running(connection, claim(connection, job), NOW)
    running = jobs.find(connection, job.id)
    attempts.end(connection, running, Verdict(Outcome.COMPLETED), 0, NOW, None)
    with pytest.raises(StaleTransition):
        attempts.end(connection, running, Verdict(Outcome.KILLED), -9, NOW, None)


def test_a_failed_attempt_can_put_its_job_back_into_the_queue(connection):
    job = insert(connection)
    attempts.mark_running(connection, claim(connection, job), NOW)
    running = jobs.find(connection, job.id)
    verdict = Verdict(Outcome.KILLED, "killed", "look at dmesg")
    assert attempts.end(connection, running, verdict, -9, NOW, NOW + 10) is JobState.QUEUED
    again = jobs.find(connection, job.id)
    assert (again.not_before, again.error) == (NOW + 10, None)
    assert returns.history(connection, again) == [EndedAttempt(Outcome.KILLED)]
    assert claim(connection, again).ref.number == 2
    assert event_types(connection, job)[-2:] == ["job.retrying", "job.starting"]


def test_a_stop_is_recorded_before_anybody_signals(connection):
    job = insert(connection)
    attempts.mark_running(connection, claim(connection, job), NOW)
    attempts.mark_stopping(connection, jobs.find(connection, job.id), StopReason.CANCELLED, NOW)
    assert jobs.find(connection, job.id).state is JobState.STOPPING
    assert attempts.active(connection)[0].stop_reason is StopReason.CANCELLED


def test_a_job_that_moved_on_is_a_stale_transition(connection):
    job = insert(connection)
    jobs.end_unstarted(connection, job, JobState.CANCELLED, NOW, None)
    with pytest.raises(StaleTransition):
        jobs.end_unstarted(connection, job, JobState.CANCELLED, NOW, None)


def test_a_stretch_of_the_log_is_stored_with_how_far_it_was_read(connection):
    job = insert(connection)
    claim(connection, job)
    ref = AttemptRef(job.id, 1)
    for loss, stretch in ((2.0, (0, 25)), (1.5, (25, 50))):
        point = TrainingPoint(Progress(10, 100), {"train/loss": loss})
        assert progress.record(connection, job.number, ref, [(point, NOW)], stretch) == stretch[1]
    late = TrainingPoint(Progress(10, 100), {"train/loss": 9.0})
    assert progress.record(connection, job.number, ref, [(late, NOW)], (25, 75)) == 50
    assert jobs.find(connection, job.id).metrics == {"train/loss": 1.5}
    assert attempts.active(connection)[0].log_offset == 50


def test_dependencies_hold_back_and_break(connection):
    parent = insert(connection)
    child = insert(connection, depends_on=(parent.id,))
    waiting = {job.number: job for job in jobs.queued(connection, 10)}
    assert waiting[child.number].waits_for == (parent.number,)
    jobs.end_unstarted(connection, parent, JobState.CANCELLED, NOW, None)
    waiting = {job.number: job for job in jobs.queued(connection, 10)}
    assert waiting[child.number].broken_by == parent.number


def test_an_idempotency_key_belongs_to_its_user(connection):
    mine = insert(connection, user="alice", key="k")
    insert(connection, user="bob", key="k")
    assert jobs.by_idempotency_key(connection, "alice", "k") == (mine.id, "0" * 64)
    with pytest.raises(sqlite3.IntegrityError):
        insert(connection, user="alice", key="k")


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE jobs SET state = 'completed'",
        "UPDATE jobs SET finished_at = 1",
        "UPDATE jobs SET state = 'failed', finished_at = 1",
        "UPDATE jobs SET state = 'running'",
        "UPDATE jobs SET state = 'sleeping'",
        "UPDATE jobs SET spec = 'not json'",
        "UPDATE jobs SET error_code = 'x'",
        "INSERT INTO attempts (job_number, number, directory, created_at, ended_at)"
        " VALUES (1, 1, '/x', 0, 5)",
        "INSERT INTO attempts (job_number, number, directory, created_at) VALUES (77, 1, '/x', 0)",
        "INSERT INTO leases (device_uuid, job_number, attempt_number, leased_at)"
        " VALUES ('GPU-0', 1, 4, 0)",
    ],
)
def test_the_database_refuses_nonsense(connection, nonsense):
    insert(connection)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(nonsense)


def test_a_failed_job_keeps_its_typed_error(connection):
    job = insert(connection)
    error = JobError("dependency_failed", "what", "cure")
    jobs.end_unstarted(connection, job, JobState.FAILED, NOW, error)
    assert jobs.find(connection, job.id).error == error
