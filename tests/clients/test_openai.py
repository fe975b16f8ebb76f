"""Scripts with OpenAI's own clients work here by changing one URL: from the upload to the tuned
model, and through what goes wrong."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.adapters.wandb_stand_in import WandbStandIn
from tests.daemon_process import running_daemon, trainer

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

PYTHONS = ("1.109", "2.54", "3.52")
AS_QUICK = ["1.109", pytest.param("2.54", marks=pytest.mark.slow), "3.52"]
STEPS = 12
ROWS = [
    {
        "messages": [
            {"role": "system", "content": "You count."},
            {"role": "user", "content": f"What is {number}?"},
            {"role": "assistant", "content": f"It is {number}."},
        ]
    }
    for number in range(12)
]


PREFERENCES = [
    {
        "input": {"messages": [{"role": "user", "content": f"What is {number}?"}]},
        "preferred_output": [{"role": "assistant", "content": "A number."}],
        "non_preferred_output": [{"role": "assistant", "content": "Nothing."}],
    }
    for number in range(4)
]


def jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WALK = {
    "model": "owner/base",
    "rows": jsonl(ROWS),
    "held_out": jsonl(ROWS[:3]),
    "native": {"tracking_backend": "none"},
    "endless": {"overrides": {"max_steps": 1_000_000}},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    command = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", STEPS, 0.01, 4)}
    with running_daemon(tmp_path_factory.mktemp("openai") / "state", command) as daemon:
        yield daemon


def url(daemon) -> str:
    return str(daemon.client.base_url)


REFUSALS = {
    "cancel again": ("BadRequestError", 400, "job_already_finished", None),
    "no such job": ("NotFoundError", 404, "fine_tune_not_found", "fine_tuning_job_id"),
    "no such file": ("BadRequestError", 400, "unknown_dataset", "training_file"),
    "no such model": ("NotFoundError", 404, "model_not_found", "model"),
    "bad model": ("BadRequestError", 400, "model_not_allowed", "model"),
    "bad number": ("BadRequestError", 400, "invalid_request", "hyperparameters.n_epochs"),
    "bad purpose": ("BadRequestError", 400, "invalid_request", "purpose"),
}


def check_walk(story, steps):
    """What every client tells of the walk, whatever its language."""
    uploaded = story.one("uploaded")["file"]
    assert uploaded["object"] == "file"
    assert uploaded["bytes"] > 0
    assert story.one("file")["file"]["status"] == "processed"
    assert story.one("content")["same"] is True

    created = story.one("created")["job"]
    assert created["training_file"] == uploaded["id"]
    assert created["seed"] == 11
    assert created["metadata"] == {"script": "walk"}
    assert created["hyperparameters"]["n_epochs"] == 2
    assert created["hyperparameters"]["batch_size"] == 2
    check_end(story, created, steps)
    check_control(story)
    refused = {
        each["name"]: (each["kind"], each["status"], each["code"], each["param"])
        for each in story.all("refused")
    }
    assert refused == REFUSALS
    assert all(each["message"] for each in story.all("refused"))


def check_end(story, created, steps):
    ended = story.one("ended")
    job, statuses = ended["job"], ended["statuses"]
    known = ["validating_files", "queued", "running", "succeeded"]
    assert statuses == [status for status in known if status in statuses]
    assert statuses[-1] == "succeeded", job["error"]
    assert job["id"] == created["id"]
    assert ":walk:" in job["fine_tuned_model"]
    assert job["trained_tokens"] > 0
    assert job["finished_at"] >= job["created_at"]
    events = story.one("events")
    assert len(set(events["ids"])) == len(events["ids"])
    assert events["messages"][0] == "The job has successfully completed"
    assert events["messages"][-1] == f"Created fine-tuning job: {job['id']}"
    measured = [data["step"] for data in story.one("metrics")["data"] if "train_loss" in data]
    rows = list(csv.DictReader(io.StringIO(story.one("results")["text"])))
    lost = [int(row["step"]) for row in rows if row["train_loss"]]
    assert lost == sorted(measured)
    assert lost[-1] == steps
    assert story.one("checkpoints")["steps"][0] == steps
    assert story.one("found")["ids"][0] == job["id"]
    model = story.one("model")
    assert model["model"]["id"] == job["fine_tuned_model"]
    assert model["listed"] is True
    assert story.one("model deleted")["model"]["deleted"] is True


def check_control(story):
    assert story.one("running")["job"]["status"] == "running"
    assert story.one("paused")["status"] == "paused"
    assert story.one("resumed")["status"] in ("queued", "running")
    assert story.one("cancelled")["job"]["status"] == "cancelled"
    upload = story.one("parts")["upload"]
    assert upload["status"] == "completed"
    assert upload["file"]["bytes"] == upload["bytes"]
    assert story.one("deleted")["file"]["deleted"] is True


@pytest.mark.parametrize("version", AS_QUICK)
def test_a_python_script_works_from_the_upload_to_the_model(daemon, openai_python, version):
    story = openai_python(version).run("openai_walk.py", url(daemon), **WALK)
    check_walk(story, STEPS)


def test_a_node_script_works_from_the_upload_to_the_model(daemon, openai_node):
    check_walk(openai_node.run("openai_walk.mjs", url(daemon), **WALK), STEPS)


KINDS = {
    *("FileObject", "FileDeleted", "FineTuningJob", "FineTuningJobEvent", "Upload", "UploadPart"),
    *("FineTuningJobCheckpoint", "Model", "ModelDeleted"),
}
MOMENTS = {"succeeded", "failed", "running", "paused", "cancelled", "processed", "error"}
SCHEMAS = {
    "create": "CreateJob",
    "upload": "CreateUpload",
    "supervised": "SupervisedHyperparameters",
    "dpo": "DpoHyperparameters",
    "wandb": "Wandb",
}
NOT_SAID = {"Model": {"shutdown_date"}}  # of the newest package: nothing is shut down here
NOT_TAKEN = {"expires_after"}  # files stay until they are deleted


@pytest.mark.parametrize("version", AS_QUICK)
def test_every_word_and_answer_is_as_the_types_of_the_package_have_it(
    daemon, openai_python, version
):
    """`paused` alone is a status of ours; only who pauses a job sees it."""
    files = {"preferences": jsonl(PREFERENCES), "unusable": jsonl([{"neither": "nor"}])}
    story = openai_python(version).run("openai_types.py", url(daemon), **files, **WALK)
    held = story.all("held")
    assert [each for each in held if each["flaw"] and each["status"] != "paused"] == []
    assert {each["kind"] for each in held} == KINDS
    assert {each["status"] for each in held} >= MOMENTS
    for each in held:
        assert set(each["missing"]) <= NOT_SAID.get(each["kind"], set()), each
    assert story.one("ended")["statuses"] == ["succeeded", "succeeded", "failed"]
    words, schemas = story.one("words"), daemon.client.get("/openapi.json").json()["components"]
    for name, schema in SCHEMAS.items():
        known = schemas["schemas"][schema]["properties"].keys()
        assert set(words[name]) - NOT_TAKEN <= known, name
    assert set(words["list"]) == {"after", "limit", "metadata"}


@pytest.mark.slow
def test_the_openai_command_works_as_it_is_typed(daemon, openai_python):
    """Version 1 of the package has it; the later ones have none."""
    story = openai_python("1.109").run("openai_cli.py", url(daemon), seconds=800, **WALK)
    job = story.one("ended")["job"]
    assert job["status"] == "succeeded"
    assert ":typed:" in job["fine_tuned_model"]
    assert story.one("listed")["page"]["data"][0]["id"] == job["id"]
    assert len(story.one("events")["page"]["data"]) == 2
    assert job["training_file"] in story.one("files")["said"]
    assert "already completed" in story.one("refused")["said"]
    assert job["fine_tuned_model"] in story.one("models")["said"]


@pytest.mark.slow
def test_litellm_tunes_lists_and_cancels(daemon, real_client):
    story = real_client("litellm-1.110").run("litellm_walk.py", url(daemon), seconds=800, **WALK)
    job = story.one("ended")["job"]
    assert job["status"] == "succeeded"
    assert ":light:" in job["fine_tuned_model"]
    assert story.one("listed")["ids"] == [job["id"]]
    assert story.one("results")["text"].startswith("step,train_loss,")
    assert story.one("cancelled")["job"]["status"] == "cancelled"
    refused = story.one("refused")
    assert refused["kind"] == "BadRequestError"
    assert "file-none" in refused["message"]
    assert story.one("deleted")["file"]["deleted"] is True


@pytest.mark.slow
def test_dspy_tunes_a_model_and_cancels_a_job(daemon, real_client, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(WALK["rows"])
    story = real_client("dspy-3.4").run(
        "dspy_walk.py", url(daemon), seconds=800, data=ROWS, file=str(file), **WALK
    )
    tuned = story.one("tuned")
    assert tuned["status"] == "succeeded"
    assert tuned["model"].startswith("ft:base:")
    assert story.one("known")["is_ours"] is True
    cancelled = daemon.client.get("/train").json()["jobs"][0]
    assert cancelled["status"] == "cancelled"


@pytest.mark.slow
def test_instructor_tunes_from_a_file_and_watches(daemon, real_client):
    story = real_client("instructor-1.17").run(
        "instructor_walk.py", url(daemon), seconds=800, **WALK
    )
    ended = story.one("ended")
    assert ended["job"]["status"] == "succeeded"
    assert ":instructed:" in ended["job"]["fine_tuned_model"]
    assert ended["file"] == "processed"
    assert "already completed" in story.one("refused")["said"]


@pytest.mark.slow
def test_the_sync_of_wandb_takes_over_what_was_measured(daemon, real_client, openai_python):
    """Its server is a stand-in of ours, over HTTP."""
    walk = openai_python("3.52").run("openai_walk.py", url(daemon), ends_here=True, **WALK)
    job, wandb = walk.one("ended")["job"], WandbStandIn()
    wandb.start()
    try:
        story = real_client("wandb-0.31").run(
            "wandb_walk.py",
            url(daemon),
            variables={"WANDB_BASE_URL": wandb.url},
            job=job["id"],
            datasets=False,
        )
    finally:
        wandb.stop()
    assert "successfully" in story.one("synced")["said"]
    (run,) = wandb.runs.values()
    assert run.name == job["id"]
    assert run.project == "tuned"
    losses = [row["train_loss"] for row in run.rows if "train_loss" in row]
    assert losses == pytest.approx([4 / step for step in range(1, STEPS + 1)])
    assert run.summary["fine_tuned_model"] == job["fine_tuned_model"]
    assert run.summary["status"] == "succeeded"
