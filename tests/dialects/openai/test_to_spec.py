"""OpenAI's request for a job becomes the native spec a person would have written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from training_cluster.api.dialects.openai.hyperparameters import USUAL_RATE, method, shown
from training_cluster.api.dialects.openai.requests import CreateJob
from training_cluster.api.dialects.openai.to_spec import in_their_words, to_spec
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec

FILE = "file-0199a0b3e1d27b0c8a1d6c0f2b4e7a95"
WANDB = {"type": "wandb", "wandb": {"project": "p", "name": "n", "entity": "e", "tags": ["a"]}}
NATIVE = JobSpec()


def asked(trackers=frozenset({"wandb"}), recipe=None, **fields):
    body = CreateJob.model_validate({"model": "o/m", "training_file": FILE, **fields})
    return to_spec(body, body.model, lambda spec: recipe or {}, trackers)


def supervised(**values):
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": values}}}


def dpo(**values):
    return {"method": {"type": "dpo", "dpo": {"hyperparameters": values}}}


FIELDS = [
    ({"model": "owner/base"}, {"model_name": "owner/base"}),
    ({"model": "/models/tiny"}, {"model_name": "/models/tiny"}),
    ({}, {"dataset_version": "0199a0b3-e1d2-7b0c-8a1d-6c0f2b4e7a95"}),
    ({"training_file": "v1.0"}, {"dataset_version": "v1.0"}),
    ({"suffix": "support bot"}, {"save_name": "support bot"}),
    ({"suffix": ""}, {"save_name": None}),
    ({"suffix": None}, {"save_name": None}),
    ({}, {"overrides": {"seed": 42}}),
    ({"seed": 7}, {"overrides": {"seed": 7}}),
    ({"seed": None}, {"overrides": {"seed": 42}}),
    (supervised(n_epochs=4), {"num_epochs": 4.0}),
    (supervised(n_epochs="auto"), {"num_epochs": NATIVE.num_epochs}),
    (supervised(batch_size=8), {"batch_size": 1, "gradient_accumulation_steps": 8}),
    (
        {**supervised(batch_size=8), "training_cluster": {"gpus": 2}},
        {"gpus": 2, "batch_size": 1, "gradient_accumulation_steps": 4},
    ),
    (
        {**supervised(batch_size=8), "training_cluster": {"gpus": 2, "batch_size": 4}},
        {"gpus": 2, "batch_size": 4, "gradient_accumulation_steps": 1},
    ),
    (supervised(batch_size=None), {"gradient_accumulation_steps": 2}),
    (supervised(learning_rate_multiplier=2), {"learning_rate": 2 * USUAL_RATE}),
    (supervised(learning_rate_multiplier=0.1), {"learning_rate": 0.1 * USUAL_RATE}),
    ({"hyperparameters": {"n_epochs": 2}}, {"num_epochs": 2.0}),
    ({"hyperparameters": {}}, {"num_epochs": NATIVE.num_epochs, "recipe": "lora_sft"}),
    ({"hyperparameters": None}, {"num_epochs": NATIVE.num_epochs}),
    ({"method": {"type": "supervised"}}, {"recipe": "lora_sft"}),
    ({"method": {"type": "dpo"}}, {"recipe": "dpo"}),
    (dpo(beta=0.3, n_epochs=1), {"overrides": {"seed": 42, "pref_beta": 0.3}, "num_epochs": 1.0}),
    ({"hyperparameters": {"n_epochs": 2}, **supervised(n_epochs=5)}, {"num_epochs": 5.0}),
    (
        {"integrations": [WANDB]},
        {
            "tracking_backend": "wandb",
            "tracking": {"project": "p", "run_name": "n", "entity": "e", "tags": ["a"]},
        },
    ),
    ({"integrations": None}, {"tracking_backend": NATIVE.tracking_backend, "tracking": {}}),
    ({"integrations": []}, {"tracking": {}}),
    ({"training_cluster": {"template": "llama3", "gpus": 2}}, {"template": "llama3", "gpus": 2}),
    (
        {"seed": 1, "training_cluster": {"overrides": {"max_steps": 9, "seed": 2}}},
        {"overrides": {"max_steps": 9, "seed": 1}},
    ),
    ({"training_cluster": {"max_samples": 5}}, {"max_samples": 5}),
    ({"training_cluster": {"save_name": "mine"}}, {"save_name": "mine"}),
    ({**dpo(), "training_cluster": {"recipe": "my_dpo"}}, {"recipe": "my_dpo"}),
]


@pytest.mark.parametrize(("fields", "spec"), FIELDS)
def test_a_field_becomes_its_native_one(fields, spec):
    found = asked(**fields).spec
    assert {name: getattr(found, name) for name in spec} == spec


def test_a_field_that_openai_cannot_say_keeps_its_native_default():
    found = asked().spec
    said = {"model_name", "dataset_version", "overrides", "max_samples"}
    for name in JobSpec.__dataclass_fields__.keys() - said:
        assert getattr(found, name) == getattr(NATIVE, name), name
    assert found.max_samples >= 10_000_000  # an epoch is all of the file there


def test_what_was_left_to_us_is_decided_shown_and_remembered():
    found = asked(**dpo(n_epochs=2, batch_size="auto"), recipe={"pref_beta": 0.25})
    assert found.spec.overrides["pref_beta"] == 0.25
    assert method(found.spec)["dpo"]["hyperparameters"] == {
        "n_epochs": 2,
        "batch_size": 2,
        "learning_rate_multiplier": 1,
        "beta": 0.25,
    }
    assert found.request.data["auto"] == ["batch_size", "learning_rate_multiplier", "beta"]


def test_numbers_are_shown_as_they_were_said():
    for multiplier in (0.1, 0.3, 1.8, 2, 7.77, 10):
        spec = asked(**supervised(learning_rate_multiplier=multiplier, n_epochs=1.5)).spec
        assert shown(spec)["learning_rate_multiplier"] == multiplier
        assert shown(spec)["n_epochs"] == 1.5


def test_what_it_must_answer_with_later_is_remembered():
    words = {"team": "x"}
    found = asked(metadata=words, suffix="s", integrations=[WANDB], validation_file=FILE)
    assert found.request.dialect == "openai"
    data = found.request.data
    assert data["metadata"] == words
    assert data["training_file"] == data["validation_file"] == FILE
    assert data["suffix"] == "s"


WARNED = [
    ({"n_gpus": 4}, "n_gpus"),
    ({"hyperparameters": {"compute_multiplier": 1}}, "hyperparameters.compute_multiplier"),
    (supervised(beta=0.1), "method.supervised.hyperparameters.beta"),
    ({"method": {"type": "supervised", "grader": {}}}, "method.grader"),
    ({"integrations": [{"type": "other"}]}, "integrations.0 (other)"),
    ({"integrations": [{**WANDB, "x": 1}]}, "integrations.0.x"),
    ({"integrations": [{"type": "wandb"}]}, "(wandb) has no effect: it says nothing of"),
    ({"integrations": [WANDB, WANDB]}, "integrations.1 (wandb) has no effect: a job is told"),
    ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo had no effect"),
    ({"training_cluster": {"model_name": "x/y"}}, "training_cluster.model_name: had"),
    ({"suffix": "a", "training_cluster": {"save_name": "b"}}, "training_cluster.save_name"),
    (
        {"seed": 1, "training_cluster": {"overrides": {"seed": 2, "max_steps": 3}}},
        "training_cluster.overrides.seed: had",
    ),
    ({"hyperparameters": {"n_epochs": 2}, **supervised(n_epochs=5)}, "hyperparameters had no"),
]


@pytest.mark.parametrize(("fields", "named"), WARNED)
def test_what_has_no_effect_is_named(fields, named):
    (warning,) = asked(**fields).warnings
    assert named in warning


def test_native_fields_that_openai_says_nothing_of_count():
    ours = {"template": "llama3", "learning_rate": 0.01, "batch_size": 2, "max_samples": 5}
    given = {**ours, "overrides": {"seed": 9, "pref_beta": 0.3}}
    found = asked(method={"type": "dpo", "dpo": {}}, training_cluster=given)
    assert found.warnings == ()
    assert {name: getattr(found.spec, name) for name in ours} == ours
    assert found.spec.overrides == given["overrides"]


def test_a_tracker_that_is_not_served_is_told_of():
    (warning,) = asked(frozenset(), integrations=[WANDB]).warnings
    assert "wandb is not served" in warning
    assert asked(integrations=[WANDB]).warnings == ()


REFUSED = [
    {"model": ""},
    {"suffix": "x" * 65},
    {"suffix": "a\nb"},
    {"seed": -1},
    {"seed": 2**31},
    {"metadata": {str(number): "x" for number in range(17)}},
    {"metadata": {"k" * 65: "x"}},
    {"metadata": {"k": "x" * 513}},
    {"metadata": {"k": 1}},
    {"method": {"type": "reinforcement"}},
    {"integrations": [{"type": "wandb", "wandb": {"name": "no project"}}]},
    *(supervised(n_epochs=bad) for bad in ("3", 0, -1, True, float("nan"), 1e9)),
    *(supervised(batch_size=bad) for bad in ("8", 0, 1.5, False, 5000, float("inf"))),
    dpo(beta=-1),
    dpo(beta="a"),
]


@pytest.mark.parametrize("fields", REFUSED, ids=lambda fields: str(fields)[:60])
def test_what_cannot_be_is_refused_before_anything_is_made(fields):
    with pytest.raises(ValidationError):
        asked(**fields)


@pytest.mark.parametrize("ours", [{}, {"gpus": 2}, {"gpus": 2, "batch_size": 2}])
def test_the_batch_that_is_shown_is_the_one_that_was_asked_for(ours):
    spec = asked(**supervised(batch_size=12), training_cluster=ours).spec
    assert shown(spec)["batch_size"] == 12


def test_a_batch_that_devices_cannot_share_is_refused_with_one_they_can():
    with pytest.raises(InvalidRequest) as found:
        asked(**supervised(batch_size=8), training_cluster={"gpus": 3})
    assert [(each.field, each.expected) for each in found.value.problems] == [
        ("hyperparameters.batch_size", "a multiple of 3")
    ]


def test_a_native_field_that_cannot_be_is_named_where_it_stands():
    with pytest.raises(InvalidRequest) as found:
        asked(training_cluster={"gpus": 65, "no_such": 1})
    assert {problem.field for problem in found.value.problems} == {
        "training_cluster.gpus",
        "training_cluster.no_such",
    }


def test_a_refusal_of_ours_names_the_field_openai_knows():
    problems = tuple(FieldProblem(name, "?") for name in ("dataset_version", "model_name", "gpus"))
    error = InvalidRequest("?", problems=problems)
    in_their_words(error)
    assert [problem.field for problem in error.problems] == ["training_file", "model", "gpus"]
