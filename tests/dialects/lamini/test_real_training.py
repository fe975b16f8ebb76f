"""Lamini's real clients and the real LLaMA-Factory: what a script asks for is what is trained."""

from __future__ import annotations

import json

import pytest

from tests.daemon_process import running_daemon
from tests.dialects.lamini import test_clients as promises
from tests.dialects.lamini.stories import ROWS, story, url
from tests.real_training import for_real

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(600)]
# embeddings of a model that knows nothing have to be learned, too
ARGUMENTS = {
    "max_length": 64,
    "r_value": 8,
    "learning_rate": 0.01,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "additional_target": "embed_tokens,lm_head",
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, tiny_model):
    """A daemon with the trainer environment of this machine and a tiny model."""
    folder = tmp_path_factory.mktemp("real")
    environment = {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_GRACE_SECONDS": "60",
    }
    with running_daemon(folder / "state", environment) as daemon:
        daemon.model = str(tiny_model)
        yield daemon


def test_train_and_wait_ends_with_a_model_that_has_learned_and_answers(daemon, lamini_python):
    arguments = {**ARGUMENTS, "max_steps": 40}
    told = lamini_python("3.4.3").run(
        "lamini_waiting.py",
        url(daemon),
        seconds=500,
        model=daemon.model,
        rows=ROWS,
        finetune_args=arguments,
    )
    status = told.one("over")["status"]
    assert status["status"] == "COMPLETED"
    assert status["model_name"].startswith("lunch-bot@")
    assert status["warnings"] == []
    history = json.loads(status["history"])
    losses = [line["loss"] for line in history if "loss" in line]
    assert losses[-1] < losses[0] / 2
    job = daemon.job(status["job_id"])
    given = (daemon.attempt_dir(job["job_id"]) / "config.yaml").read_text()
    for said in ('"max_steps": 40', '"optim": "adafactor"', '"lora_rank": 8', '"cutoff_len": 64'):
        assert said in given
    evaluated = told.one("evaluated")["answer"]
    assert evaluated["status"] == "COMPLETED"
    answers = {
        result["input"]: {each["model_name"]: each["output"] for each in result["outputs"]}
        for result in evaluated["eval_results"]
    }
    said = answers[ROWS[0]["input"]]
    assert set(said) == {daemon.model, status["model_name"]}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.4.3", "2.0.13"])
def test_the_whole_story_holds_with_the_real_trainer(daemon, lamini_python, version):
    client = lamini_python(version)
    arguments = {**ARGUMENTS, "index_k": 2, "save_steps": 3}
    told = client.version, story(daemon, client, daemon.model, seconds=1500, **arguments)
    promises.test_a_training_is_submitted_polled_and_completed(daemon, told)
    promises.test_the_model_has_its_name_and_both_models_answer(daemon, told)
    promises.test_a_cancelled_training_has_saved_and_can_be_resumed(daemon, told)
