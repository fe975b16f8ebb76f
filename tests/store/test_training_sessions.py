"""Sessions in the store: what they hold, and that their status is what dataset and job say."""

from __future__ import annotations

import json
from itertools import count

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.ids import new_job_id
from training_cluster.domain.interaction import InteractionRun, InteractionStatus
from training_cluster.domain.job import JobState
from training_cluster.domain.session_errors import RunNotFound, SessionNotFound
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.training_session import SessionStatus, TrainingSession
from training_cluster.store import interaction_runs, jobs, listed_trainings, training_sessions
from training_cluster.store.interaction_runs import RunFilter
from training_cluster.store.jobs import NewJob

_seconds = count(1)


def a_session(connection, name: str = "answers", user: str = "alice") -> TrainingSession:
    new = TrainingSession(
        id=new_job_id(NOW),
        number=0,
        user=user,
        name=name,
        environment="local",
        model="Qwen/Qwen2.5-1.5B-Instruct",
        status=SessionStatus.CREATED,
        created_at=NOW,
        updated_at=NOW,
        updated_by=user,
    )
    training_sessions.insert(connection, new)
    return training_sessions.find(connection, new.id)


def a_run(connection, user: str = "alice", **fields) -> InteractionRun:
    run = InteractionRun(
        id=new_job_id(NOW),
        user=user,
        interaction=fields.get("interaction", "Classify"),
        environment="local",
        model=fields.get("model"),
        status=fields.get("status", InteractionStatus.COMPLETED),
        messages=({"role": "user", "content": "Is this spam? ünïcode"},),
        output="no",
        created_at=NOW,
        details={"tags": fields.get("tags", [])},
    )
    interaction_runs.insert(connection, [run])
    return run


def a_dataset(connection, session: TrainingSession | None, origin: str = "rows") -> str:
    """One that is being checked; made in a session, or anywhere else."""
    dataset_id = new_job_id(NOW)
    request = {"dialect": "vertesia", "data": {"session": session.id}} if session else None
    connection.execute(
        "INSERT INTO datasets (id, name, version, user, state, origin, filename, bytes, asked,"
        " created_at) VALUES (?, ?, 'v1.0', 'alice', 'checking', ?, '', 1, ?, ?)",
        (dataset_id, f"d-{dataset_id[-12:]}", origin, json.dumps({"request": request}), later()),
    )
    return dataset_id


def later() -> float:
    return NOW + next(_seconds)


def checked(connection, dataset_id: str, error: str | None = None) -> None:
    state = "invalid" if error else "ready"
    connection.execute(
        "UPDATE datasets SET state = ?, error = ?, checked_at = ?, sha256 = 'x', format = 'openai',"
        " columns = '{}', rows = 1, original = 'o', train_file = 't' WHERE id = ?",
        (state, error, NOW, dataset_id),
    )


def a_job(connection, session: TrainingSession) -> int:
    request = DialectRequest("vertesia", {"session": session.id})
    new = NewJob(
        id=new_job_id(NOW), user="alice", spec=JobSpec(), created_at=later(), request=request
    )
    return jobs.insert(connection, new)


def put(connection, number: int, state: str) -> None:
    over = state in ("completed", "failed", "cancelled")
    connection.execute(
        "UPDATE jobs SET state = ?, attempt_number = 1, finished_at = ?, error_code = ?"
        " WHERE number = ?",
        (state, NOW if over else None, "out_of_memory" if state == "failed" else None, number),
    )


def status(connection, session: TrainingSession) -> str:
    found = training_sessions.find(connection, session.id)
    listed = listed_trainings.page(connection, found.status, 10, 0)
    assert session.id in [each.id for each in listed], "the filter says the same as the session"
    return found.status.value


def test_a_run_comes_back_as_it_was_recorded(connection):
    run = a_run(connection, tags=["gold"])
    assert interaction_runs.find(connection, run.id.upper(), "alice") == run
    assert run.row == {
        "messages": [
            {"role": "user", "content": "Is this spam? ünïcode"},
            {"role": "assistant", "content": "no"},
        ]
    }
    for unknown, by in ((run.id, "bob"), ("x", None), (new_job_id(NOW), None)):
        with pytest.raises(RunNotFound):
            interaction_runs.find(connection, unknown, by)


def test_runs_are_listed_newest_first_and_by_what_they_are(connection):
    first = a_run(connection, tags=["gold", "new"], model="a/b")
    second = a_run(connection, interaction="Summarise", status=InteractionStatus.FAILED)
    theirs = a_run(connection, user="bob")

    def found(limit=10, offset=0, **wanted):
        page = interaction_runs.page(connection, RunFilter(**wanted), limit, offset)
        return [run.id for run in page]

    assert found() == [theirs.id, second.id, first.id]
    assert found(1, 1) == [second.id]
    assert found(user="alice", tag=["gold"]) == found(tag=["gold", "new"]) == [first.id]
    assert found(interaction=["Summarise"]) == [second.id]
    assert found(status=[InteractionStatus.FAILED]) == [second.id]
    assert found(status=[*InteractionStatus], user="bob") == [theirs.id]
    assert found(model=["a/b"], environment=["local"]) == [first.id]
    assert found(environment=["elsewhere", "nowhere"]) == []


def test_a_session_keeps_its_runs_in_the_order_in_which_they_were_added(connection):
    session = a_session(connection)
    runs = [a_run(connection) for _ in range(3)]
    training_sessions.add_runs(connection, session, [runs[2].id, runs[0].id], "alice")
    training_sessions.add_runs(connection, session, [runs[0].id, runs[1].id], "alice")
    wanted = [runs[2], runs[0], runs[1]]
    assert training_sessions.find(connection, session.id).run_ids == tuple(r.id for r in wanted)
    assert training_sessions.runs(connection, session, 10) == wanted
    first, position = training_sessions.runs_behind(connection, session, 0, 2)
    rest, last = training_sessions.runs_behind(connection, session, position, 2)
    assert (first, rest) == (wanted[:2], wanted[2:])
    assert training_sessions.runs_behind(connection, session, last, 2) == ([], last)
    assert training_sessions.runs(connection, session, 1, 1) == [runs[0]]


def test_runs_of_others_are_not_there_to_be_added(connection):
    session, theirs = a_session(connection), a_run(connection, user="bob")
    with pytest.raises(RunNotFound):
        training_sessions.add_runs(connection, session, [theirs.id], "alice")
    training_sessions.add_runs(connection, session, [theirs.id], None)
    assert training_sessions.find(connection, session.id).run_ids == (theirs.id,)


def test_sessions_are_listed_newest_first_without_runs(connection):
    sessions = [a_session(connection, name) for name in "abc"]
    training_sessions.add_runs(connection, sessions[0], [a_run(connection).id], None)
    page = listed_trainings.page(connection, None, 2, 1)
    assert [(each.name, each.run_ids) for each in page] == [("b", ()), ("a", ())]
    with pytest.raises(SessionNotFound):
        training_sessions.find(connection, "x")


@pytest.mark.parametrize("origin", ["rows", "upload"])
def test_the_dataset_decides_until_a_job_is_started(connection, origin):
    session = a_session(connection)
    a_dataset(connection, None)
    assert status(connection, session) == "created"
    bad = a_dataset(connection, session, origin)
    assert status(connection, session) == "building"
    checked(connection, bad, "not one row")
    assert status(connection, session) == "failed"
    good = a_dataset(connection, session, origin)
    assert status(connection, session) == "building"
    checked(connection, good)
    assert status(connection, session) == "prepared"
    assert training_sessions.find(connection, session.id).dataset_id == good


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("queued", "processing"),
        ("preparing", "processing"),
        ("running", "processing"),
        ("stopping", "processing"),
        ("paused", "processing"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
    ],
)
def test_the_newest_job_decides_from_its_start_on(connection, state, said):
    session = a_session(connection)
    checked(connection, a_dataset(connection, session))
    put(connection, a_job(connection, session), "failed")
    number = a_job(connection, session)
    put(connection, number, state)
    assert status(connection, session) == said
    found = training_sessions.find(connection, session.id)
    assert found.job == jobs.find(connection, str(number))


def test_a_new_dataset_begins_another_round_once_the_job_is_over(connection):
    session = a_session(connection)
    checked(connection, a_dataset(connection, session))
    number = a_job(connection, session)
    a_dataset(connection, session)
    assert status(connection, session) == "processing"
    put(connection, number, "completed")
    assert status(connection, session) == "building"


def test_a_chosen_dataset_is_the_sessions_until_another_one_comes(connection):
    session = a_session(connection)
    built = a_dataset(connection, session)
    checked(connection, built)
    other = a_dataset(connection, None)
    checked(connection, other)

    def current():
        return training_sessions.find(connection, session.id).dataset_id

    choose = training_sessions.choose
    choose(connection, session, other, later(), is_folder=False)
    assert (current(), status(connection, session)) == (other, "prepared")
    choose(connection, session, "v1.0", later(), is_folder=True)
    assert (current(), status(connection, session)) == ("v1.0", "prepared")
    assert training_sessions.find(connection, session.id).dataset == "v1.0"
    assert training_sessions.built(connection, session) == built
    uploaded = a_dataset(connection, session, "upload")
    assert (current(), status(connection, session)) == (uploaded, "building")
    assert training_sessions.built(connection, session) == built
    choose(connection, session, other, later(), is_folder=False)
    connection.execute("UPDATE datasets SET deleted_at = 1 WHERE id IN (?, ?)", (other, uploaded))
    assert current() == built


def test_a_dataset_that_was_deleted_is_no_dataset(connection):
    session = a_session(connection)
    only = a_dataset(connection, session)
    checked(connection, only)
    connection.execute("UPDATE datasets SET deleted_at = 1 WHERE id = ?", (only,))
    assert status(connection, session) == "created"
    assert training_sessions.find(connection, session.id).dataset is None


def test_status_and_job_of_a_session_are_found_by_index(connection):
    session = a_session(connection)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN " + training_sessions._ONE, (session.id,)
    ).fetchall()
    told = " ".join(row["detail"] for row in plan)
    assert "jobs_of_sessions (<expr>=?)" in told
    assert "datasets_of_sessions (<expr>=?)" in told


def test_a_training_of_another_api_is_listed_and_found_as_a_session(connection):
    session = a_session(connection, "own")
    number = jobs.insert(connection, a_new_job(save_name="elsewhere", now=NOW + 1))
    job = jobs.find(connection, str(number))
    newest, older = listed_trainings.page(connection, None, 10, 0)
    assert (newest.id, newest.name, newest.is_own) == (job.id, "elsewhere", False)
    assert (older.id, older.is_own) == (session.id, True)
    assert newest.status is SessionStatus.PROCESSING
    assert newest.job is not None
    assert listed_trainings.find(connection, job.id) == newest
    assert listed_trainings.page(connection, SessionStatus.PROCESSING, 10, 0) == [newest]
    assert listed_trainings.page(connection, SessionStatus.COMPLETED, 10, 0) == []
    assert [each.id for each in listed_trainings.page(connection, None, 1, 1)] == [session.id]
    with pytest.raises(SessionNotFound):
        listed_trainings.find(connection, new_job_id(NOW))


def test_every_state_of_a_job_of_another_api_is_a_state_of_its_session():
    assert listed_trainings.STATUSES.keys() == set(JobState)
