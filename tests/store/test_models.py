"""Models in the store: registered with their job's end, found by every name they have."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import Conflict, ModelNotFound
from training_cluster.domain.job import Job, JobState, Outcome, Verdict
from training_cluster.domain.model import Model, ModelKind
from training_cluster.store import attempts, job_records, jobs, models, reconcile
from training_cluster.store.migrations import migrations

RESULT = {
    "path": "/state/jobs/x/attempt-1/output",
    "kind": "lora_adapter",
    "base_model": "Qwen/Qwen2.5-1.5B-Instruct",
    "dataset": {"version": "v1.0", "sha256": "5d" * 32},
    "size_bytes": 1234,
    "files": ["adapter_config.json", "adapter_model.safetensors"],
    "first_loss": 2.5,
    "final_loss": 0.5,
    "steps": 10,
}


def completed(connection: sqlite3.Connection, *, ends: Outcome = Outcome.COMPLETED, **fields: Any):
    """A job that ran and ended; returns it as it is then."""
    result = fields.pop("result", RESULT)
    request = fields.pop("request", None)
    new = replace(a_new_job(**fields), request=request)
    jobs.insert(connection, new)
    job = jobs.find(connection, new.id)
    directory = f"/state/jobs/{new.id}/attempt-1"
    attempts.claim(connection, job, (f"GPU-{new.id}",), directory, NOW, range(1, 9))
    job = jobs.find(connection, new.id)
    attempts.end(connection, job, Verdict(ends, result=result), 0, NOW + 5, None)
    return jobs.find(connection, new.id)


def left_by(connection: sqlite3.Connection, job: Job) -> Model:
    found = models.by_job(connection, job.id)
    assert found is not None
    return found


def test_a_job_that_completes_has_its_model_registered_with_its_lineage(connection):
    job = completed(connection, lora_name="chat", learning_rate=1e-4)
    model = left_by(connection, job)
    assert (model.key, model.user, model.kind) == ("chat@v1", "alice", ModelKind.ADAPTER)
    assert (model.job_id, model.job_number, model.attempt) == (job.id, job.number, 1)
    assert model.base_model == "Qwen/Qwen2.5-1.5B-Instruct"
    assert (model.dataset, model.dataset_sha256) == ("v1.0", "5d" * 32)
    assert model.metrics == {"first_loss": 2.5, "final_loss": 0.5, "steps": 10}
    assert model.config["learning_rate"] == 1e-4
    assert (model.path, model.size_bytes) == (RESULT["path"], 1234)
    assert model.files == ("adapter_config.json", "adapter_model.safetensors")
    kinds = [row["type"] for row in connection.execute("SELECT type FROM events ORDER BY sequence")]
    assert kinds[-2:] == ["model.registered", "job.completed"]


@pytest.mark.parametrize("ends", [Outcome.CANCELLED, Outcome.INTERRUPTED, Outcome.TIMED_OUT])
def test_what_a_job_left_that_did_not_complete_is_no_model(connection, ends):
    job = completed(connection, ends=ends)
    assert job.result is not None
    assert models.by_job(connection, job.id) is None


def test_a_job_that_left_nothing_has_no_model(connection):
    assert models.by_job(connection, completed(connection, result=None).id) is None


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({}, "Qwen2.5-1.5B-Instruct-1"),
        ({"lora_name": "Chat bot / 2"}, "Chat-bot-2"),
        ({"lora_name": "a", "save_name": "../b@c"}, "b-c"),
        ({"save_name": "2024"}, "model-2024"),
        ({"save_name": "//"}, "model-"),
        ({"save_name": "0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"},
         "model-0199a0b4-5c1e-7c3a-9f7e-3f1d5b7c9e21"),
        ({"save_name": "模型 é"}, "模型-é"),
        ({"save_name": "x" * 128}, "x" * 96),
    ],
)  # fmt: skip
def test_the_name_comes_from_the_labels_and_holds_nothing_that_paths_and_keys_are_made_of(
    connection, labels, name
):
    assert left_by(connection, completed(connection, **labels)).name == name
    assert models.find(connection, name).name == name


def test_a_job_that_was_public_leaves_a_public_model(connection):
    for said, is_public in ((True, True), (False, False), ("yes", False)):
        request = DialectRequest("lamini", {"is_public": said})
        assert left_by(connection, completed(connection, request=request)).is_public is is_public
    assert not left_by(connection, completed(connection)).is_public


def test_versions_of_a_name_count_and_one_that_was_asked_for_is_honoured_when_free(connection):
    asked = [None, "7", None, "v7", "beta one", "beta one"]
    found = [completed(connection, lora_name="chat", lora_version=each) for each in asked]
    versions = [left_by(connection, job).version for job in found]
    assert versions == ["v1", "v7", "v8", "v9", "beta-one", "v10"]
    warned = [bool(job.warnings) for job in found]
    assert warned == [False, False, False, True, False, True]
    assert found[3].warnings == ("chat@v7 is there already: this model is registered as chat@v9",)


def test_a_name_belongs_to_who_came_first(connection):
    completed(connection, lora_name="chat")
    others = [completed(connection, user="bob", lora_name="chat") for _ in range(2)]
    assert [left_by(connection, job).key for job in others] == ["chat-bob@v1", "chat-bob@v2"]
    assert "belong to somebody else" in others[0].warnings[0]
    assert models.find(connection, "chat").user == "alice"


def test_a_model_is_found_by_every_name_it_has(connection):
    first, second = (left_by(connection, completed(connection, lora_name="chat")) for _ in "12")
    models.set_alias(connection, first, "best", "alice", NOW)
    by = {
        key: models.find(connection, key).version
        for key in ("chat", "chat@v1", "chat@1", "chat@V2", "chat@best", str(first.number))
    }
    assert by == {
        "chat": "v2",
        "chat@v1": "v1",
        "chat@1": "v1",
        "chat@V2": "v2",
        "chat@best": "v1",
        str(first.number): "v1",
    }
    assert models.find(connection, second.id.upper()) == second
    assert models.find(connection, "chat@best").aliases == ("best",)


@pytest.mark.parametrize("key", ["", "x", "chat@", "chat@v9", "@v1", "9", "9" * 30, "a/b", "\0"])
def test_what_names_no_model_is_not_found(connection, key):
    completed(connection, lora_name="chat")
    with pytest.raises(ModelNotFound):
        models.find(connection, key)


def test_an_alias_moves_and_is_never_a_version(connection):
    first, second = (
        left_by(connection, completed(connection, lora_name="chat", lora_version=version))
        for version in (None, "beta")
    )
    models.set_alias(connection, first, "best", "alice", NOW)
    models.set_alias(connection, second, "best", "alice", NOW)
    assert models.find(connection, "chat@best") == models.find(connection, "chat@beta")
    with pytest.raises(Conflict):
        models.set_alias(connection, first, "beta", "alice", NOW)
    third = left_by(connection, completed(connection, lora_name="chat", lora_version="best"))
    assert third.version == "v2"
    assert models.drop_alias(connection, "chat", "best")
    assert not models.drop_alias(connection, "chat", "best")


def test_a_deleted_model_keeps_its_record_and_its_version(connection):
    first, second = (left_by(connection, completed(connection, lora_name="chat")) for _ in "12")
    models.set_alias(connection, second, "best", "alice", NOW)
    assert models.bury(connection, second, NOW + 9)
    assert not models.bury(connection, second, NOW + 10)
    assert models.find(connection, "chat") == first
    assert models.find(connection, "chat@v2").deleted_at == NOW + 9
    with pytest.raises(ModelNotFound):
        models.find(connection, "chat@best")
    assert left_by(connection, completed(connection, lora_name="chat")).version == "v3"
    assert [m.version for m in models.page(connection, limit=9)] == ["v3", "v1"]
    everything = models.page(connection, with_deleted=True, limit=9)
    assert [m.version for m in everything] == ["v3", "v2", "v1"]


def test_pages_are_filtered_and_go_on_behind_a_number(connection):
    for user, name in (("alice", "a"), ("bob", "b"), ("alice", "a"), ("alice", "c")):
        completed(connection, user=user, lora_name=name)
    assert [m.key for m in models.page(connection, user="alice", limit=2)] == ["c@v1", "a@v2"]
    assert [m.key for m in models.page(connection, before=2, limit=9)] == ["a@v1"]
    assert [m.key for m in models.page(connection, name="b", limit=9)] == ["b@v1"]
    assert models.page(connection, kind=ModelKind.MERGED, limit=9) == []


def test_the_database_refuses_names_with_slashes_and_one_model_twice(connection):
    completed(connection)
    for change in ("name = 'a/b'", "version = 'a@b'", "kind = 'other'", "gone_at = 1.0"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"UPDATE models SET {change}")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO models SELECT 99, 'x', 'n', 'v', user, kind, base_model, job_id,"
            " job_number, 1, NULL, NULL, NULL, '{}', '{}', path, 0, '[]', 0, 0, NULL, NULL"
            " FROM models"
        )


def test_models_of_jobs_that_completed_before_there_was_a_registry_are_in_it(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.row_factory = sqlite3.Row
    migrations.apply(connection, stop_before="m0008_models")
    spec = {"model_name": "Qwen/Qwen3", "lora_name": "chat", "dataset_version": "v1.0"}
    rows = [
        ("a", "alice", "completed", spec, RESULT),
        ("b", "alice", "completed", {**spec, "lora_version": "1"}, RESULT),
        ("c", "bob", "completed", spec, {**RESULT, "kind": "full_model"}),
        ("d", "bob", "completed", {**spec, "lora_name": None}, RESULT),
        ("e", "bob", "completed", spec, None),
        ("f", "bob", "cancelled", spec, RESULT),
    ]
    for number, (job_id, user, state, asked, result) in enumerate(rows):
        text = None if result is None else json.dumps(result)
        connection.execute(
            "INSERT INTO jobs (id, kind, state, user, spec, priority, gpus, min_memory_bytes,"
            " depends_on, attempt_number, created_at, finished_at, warnings, result)"
            " VALUES (?, 'train', ?, ?, ?, 0, 1, 0, '[]', 2, 1.0, ?, '[]', ?)",
            (job_id, state, user, json.dumps(asked), 10.0 + number, text),
        )
    connection.commit()
    migrations.apply(connection)
    found = models.page(connection, limit=9)
    keys = [m.key for m in reversed(found)]
    assert keys == ["chat@v1", "chat@v2", "chat-bob@v1", "Qwen2.5-1.5B-Instruct-4@v1"]
    assert [m.kind for m in reversed(found)][2] is ModelKind.FULL
    assert found[-1].created_at == 10.0
    assert found[-1].attempt == 2
    assert found[-1].metrics["final_loss"] == 0.5
    assert found[-1].config == spec
    connection.close()


def test_models_that_a_salvage_lost_are_registered_again(connection):
    job = completed(connection, lora_name="chat")
    connection.execute("DELETE FROM models")
    assert models.register_missing(connection) == 1
    assert left_by(connection, job).key == "chat@v1"
    assert models.register_missing(connection) == 0
    assert job.state is JobState.COMPLETED


def test_the_record_of_a_job_brings_its_model_back_with_its_aliases(connection):
    job = completed(connection, lora_name="chat")
    before = left_by(connection, job)
    models.set_alias(connection, before, "best", "alice", NOW)
    record = json.loads(json.dumps(job_records.record(connection, job.id)))
    connection.execute("DELETE FROM model_aliases")
    connection.execute("DELETE FROM models")
    reconcile.add_model(connection, record)
    reconcile.add_model(connection, record)
    assert models.find(connection, "chat@best").id == before.id
    assert models.register_missing(connection) == 0
