"""What Lamini's clients say of a training becomes a job; what cannot be honoured is named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from training_cluster.adapters.llamafactory.config import ALLOWED
from training_cluster.api.dialects.lamini import finetune_args
from training_cluster.api.dialects.lamini.schemas import FinetuneArgs, TrainPayload
from training_cluster.api.dialects.lamini.to_spec import to_spec
from training_cluster.domain.errors import InvalidRequest
from training_cluster.domain.spec import JobSpec

MODEL = "meta-llama/Llama-3.2-3B-Instruct"


def asked(gpus: int = 8, **body):
    payload = TrainPayload.model_validate({"model_name": MODEL, **body})
    return to_spec(payload, "faq@v1.0", "faq", gpus)


def args(**finetune_args):
    found = asked(finetune_args=finetune_args)
    return found.spec, list(found.warnings)


def test_what_is_left_out_has_laminis_documented_default():
    found = asked()
    spec = found.spec
    assert found.warnings == ()
    assert (spec.model_name, spec.dataset_version) == (MODEL, "faq@v1.0")
    assert spec.overrides == {"max_steps": 100, "optim": "adafactor"}
    assert (spec.learning_rate, spec.save_steps, spec.cutoff_len) == (9e-4, 60, 2048)
    assert (spec.gradient_accumulation_steps, spec.lora_rank) == (2, 64)
    assert spec.max_samples == 10_000_000  # the whole dataset
    assert spec.gpus == 1
    assert spec.min_gpu_memory is None


def test_what_lamini_cannot_say_is_left_at_our_default():
    ours, native = asked().spec, JobSpec()
    for name in ("batch_size", "num_epochs", "priority", "max_retries", "tracking_backend"):
        assert getattr(ours, name) == getattr(native, name)


@pytest.mark.parametrize(
    ("said", "value", "ours"),
    [
        ("max_steps", 50, "overrides.max_steps"),
        ("learning_rate", 3e-4, "learning_rate"),
        ("learning_rate", "3e-4", "learning_rate"),
        ("save_steps", 30, "save_steps"),
        ("max_finetuning_examples", 12, "max_samples"),
        ("gradient_accumulation_steps", 8, "gradient_accumulation_steps"),
        ("max_length", 512, "cutoff_len"),
        ("optim", "adamw_torch", "overrides.optim"),
        ("optim", "adamw_torch_fused", "overrides.optim"),
        ("optim", "adafactor", "overrides.optim"),
        ("r_value", 32, "lora_rank"),
        # what no document has and scripts say
        ("batch_size", 4, "batch_size"),
        ("per_device_train_batch_size", 4, "batch_size"),
        ("num_train_epochs", 2, "num_epochs"),
        ("lora_alpha", 16, "lora_alpha"),
        ("warmup_ratio", 0.1, "overrides.warmup_ratio"),
        ("weight_decay", 0.01, "overrides.weight_decay"),
        ("lr_scheduler_type", "linear", "overrides.lr_scheduler_type"),
        ("template", "llama3", "template"),
    ],
)
def test_an_argument_sets_what_it_means_here(said, value, ours):
    spec, warnings = args(**{said: value})
    group, _, name = ours.rpartition(".")
    found = spec.overrides[name] if group else getattr(spec, name)
    assert found == (float(value) if isinstance(value, str) and name == "learning_rate" else value)
    assert warnings == []


def test_every_documented_argument_is_mapped_or_named_as_without_effect():
    mapped = {*finetune_args.FIELDS, *finetune_args.OVERRIDES}
    assert mapped == set(finetune_args.DEFAULTS)
    rest = set(FinetuneArgs.model_fields) - mapped
    assert all(name.startswith("index_") for name in rest)
    values = dict.fromkeys(rest - {"index_method"}, 2) | {"index_method": "IndexPQ"}
    _, warnings = args(**values)
    assert len(warnings) == 1
    assert all(f"finetune_args.{name}" in warnings[0] for name in rest)
    assert "memory tuning" in warnings[0]


def test_every_override_is_one_the_trainer_takes():
    names = {*finetune_args.OVERRIDES.values()}
    assert names <= ALLOWED
    assert set(finetune_args.FIELDS.values()) | set(finetune_args.KNOWN.values()) <= {
        *JobSpec.__dataclass_fields__
    }


@pytest.mark.parametrize(
    ("asked_for", "used"),
    [
        ("adamw_hf", "adamw_torch"),
        ("adamw_apex_fused", "adamw_torch_fused"),
        ("adamw_anyprecision", "adamw_torch"),
    ],
)
def test_an_optimizer_that_is_not_there_gives_way_to_its_like_and_says_so(asked_for, used):
    spec, warnings = args(optim=asked_for)
    assert spec.overrides["optim"] == used
    assert any(asked_for in said and used in said for said in warnings)


def test_save_steps_below_one_are_a_share_of_all_steps():
    assert args(max_steps=200, save_steps=0.25)[0].save_steps == 50
    assert args(save_steps=0.001)[0].save_steps == 1
    assert args(save_steps=7.0)[0].save_steps == 7
    spec, warnings = args(epochs=3, save_steps=0.25)
    assert spec.save_steps == 60
    assert "share" in warnings[0]


def test_epochs_stand_instead_of_the_steps_nobody_asked_for():
    spec, _ = args(num_train_epochs=2)
    assert spec.num_epochs == 2
    assert "max_steps" not in spec.overrides
    spec, warnings = args(num_train_epochs=2, max_steps=10)
    assert spec.overrides["max_steps"] == 10
    assert spec.num_epochs == JobSpec().num_epochs
    assert "epochs in finetune_args had no effect: max_steps" in warnings[0]


def test_keys_that_nobody_knows_and_values_that_cannot_be_used_are_named():
    spec, warnings = args(early_stopping=True, batch_size="many", adam_beta1=7, report_to=None)
    assert spec.batch_size == JobSpec().batch_size
    said = " ".join(warnings)
    assert "finetune_args.early_stopping" in said
    assert 'finetune_args.batch_size had no effect: "many"' in said
    assert "finetune_args.adam_beta1" in said
    assert "report_to" not in said  # null says nothing


def test_nulls_say_nothing():
    names = set(TrainPayload.model_fields) - {"model_name"}
    assert asked(**dict.fromkeys(names)) == asked()
    assert args(**dict.fromkeys(FinetuneArgs.model_fields)) == (asked().spec, [])
    assert asked(gpu_config={"gpus": None, "nodes": None}) == asked()


@pytest.mark.parametrize(
    "finetune",
    [
        {"max_steps": 0},
        {"max_steps": True},
        {"max_steps": "ten"},
        {"learning_rate": -1},
        {"learning_rate": float("inf")},
        {"save_steps": 0},
        {"optim": "lion"},
        {"r_value": 4096},
        {"max_length": 1},
        {"index_method": "IndexOfSomething"},
        "fast",
    ],
)
def test_a_documented_argument_with_a_value_that_cannot_be_is_refused(finetune):
    with pytest.raises(ValidationError):
        asked(finetune_args=finetune)


@pytest.mark.parametrize(
    ("config", "possible", "leased", "words"),
    [
        (None, 8, 1, ()),
        ({}, 8, 1, ()),
        ({"gpus": 0, "nodes": 0}, 8, 1, ()),
        ({"gpus": 2, "nodes": 1}, 8, 2, ()),
        ({"gpus": 2}, 8, 2, ()),
        ({"gpus": 2, "nodes": 3}, 8, 6, ("2 x 3",)),
        ({"gpus": 4, "nodes": 4}, 8, 8, ("4 x 4", "8 are used")),
        ({"gpus": 4}, 1, 1, ("1 is used",)),
        ({"gpus": 4}, 0, 4, ()),  # nothing can serve it: the queue says what it would need
        ({"gpus": 1, "kind": "h100"}, 8, 1, ("gpu_config.kind",)),
    ],
)
def test_gpu_config_becomes_real_leases(config, possible, leased, words):
    found = asked(possible, gpu_config=config)
    assert found.spec.gpus == leased
    said = " ".join(found.warnings)
    assert all(word in said for word in words)
    assert bool(said) == bool(words)


def test_memory_can_be_asked_of_every_gpu():
    assert asked(gpu_config={"gpus": 2, "min_gpu_memory": 40}).spec.min_gpu_memory == 40


def test_the_model_is_named_and_the_request_remembered():
    found = asked(custom_model_name="faq bot", is_public=True, train_type=None)
    assert found.spec.save_name == "faq bot"
    assert found.request.dialect == "lamini"
    assert dict(found.request.data) == {
        "dataset_id": "faq",
        "custom_model_name": "faq bot",
        "is_public": True,
        "train_type": None,
    }


@pytest.mark.parametrize("kind", ["memory_tuning", "mome_mini"])
def test_memory_tuning_is_trained_as_one_adapter_and_says_so(kind):
    found = asked(train_type=kind)
    assert found.spec.finetuning_type is None  # the recipe's: lora
    assert kind in found.warnings[0]
    assert "LoRA" in found.warnings[0]


def test_memory_rag_trains_nothing_and_is_refused():
    with pytest.raises(InvalidRequest, match="memory_rag"):
        asked(train_type="memory_rag")


def test_inputs_reach_the_model_as_they_are():
    assert asked().spec.template == "empty"


def test_what_lamini_2_says_of_lora_is_honoured():
    peft = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    found = asked(enable_peft=True, peft_args={**peft, "bias": "none"})
    spec = found.spec
    assert (spec.finetuning_type, spec.lora_rank, spec.lora_alpha) == ("lora", 4, 8)
    assert (spec.lora_dropout, spec.lora_target) == (0.1, "q_proj,v_proj")
    assert "peft_args.bias" in found.warnings[0]
    full = asked(enable_peft=False, peft_args=peft)
    assert full.spec.finetuning_type == "full"
    assert full.spec.lora_rank is None


def test_keys_beside_those_of_the_documents_are_taken_and_named():
    found = asked(model_config={"a": 1}, use_cached_model=False, source={}, id="7")
    said = " ".join(found.warnings)
    assert "model_config" in said
    assert "use_cached_model" in said
    assert "id, model_config had no effect" in said
    assert "source" not in said
