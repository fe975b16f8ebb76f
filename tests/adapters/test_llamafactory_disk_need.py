"""What a job is estimated to write: from above, but not absurdly so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training_cluster.adapters.llamafactory.disk_need import disk_need
from training_cluster.domain.spec import GIB, JobSpec
from training_cluster.ports import Dataset

MIB = 1 << 20


def a_dataset(folder: Path, *, rows: int = 1000, size: int = MIB) -> Dataset:
    file = folder / "train.json"
    file.write_bytes(bytes(size))
    return Dataset(
        version="v1.0",
        format="alpaca",
        train_file=file,
        validation_file=None,
        columns={},
        rows=rows,
        sha256="0" * 64,
    )


def need(folder: Path, recipe: dict[str, Any] | None = None, **spec: Any):
    found = JobSpec(**spec)
    return disk_need(found, recipe or {}, a_dataset(folder), {"HF_HUB_CACHE": str(folder / "hub")})


# adapter files that trainings of these models left, rank 8 on all linear layers, float32
MEASURED = {"Qwen/Qwen2.5-0.5B-Instruct": 17.6, "Qwen/Qwen2.5-1.5B": 36.9, "org/Llama-7b": 80.1}


@pytest.mark.parametrize("model", MEASURED)
def test_an_adapter_is_estimated_from_above_within_a_factor(model, tmp_path):
    found = need(tmp_path, model_name=model)
    adapter = (found.other_bytes - (32 + 20 + 3) * MIB) / MIB
    assert MEASURED[model] <= adapter <= 3 * MEASURED[model]


def test_full_training_counts_weights_and_optimizer_of_every_parameter(tmp_path):
    found = need(tmp_path, {"finetuning_type": "full"}, model_name="Qwen/Qwen2.5-1.5B-Instruct")
    assert 16 * GIB < found.checkpoint_bytes < 18 * GIB  # 1.5e9 parameters of 12 bytes
    lean = need(tmp_path, {"finetuning_type": "full", "pure_bf16": True}, model_name="a/b-1.5B")
    assert lean.checkpoint_bytes < found.checkpoint_bytes / 1.8


@pytest.mark.parametrize(
    ("fields", "checkpoints"),
    [
        ({"save_steps": 500}, 4),  # 1500 steps, and one at the end
        ({"save_steps": 10}, 151),
        ({"save_steps": 10, "overrides": {"save_total_limit": 2}}, 4),
        ({"save_steps": 10, "overrides": {"max_steps": 20}}, 3),
        ({"gradient_accumulation_steps": 20, "save_steps": 500}, 2),
        ({"gpus": 2, "save_steps": 250}, 4),
    ],
)
def test_checkpoints_are_those_that_lie_there_at_a_time(fields, checkpoints, tmp_path):
    assert need(tmp_path, **fields).checkpoints == checkpoints


def test_a_model_on_this_machine_is_measured_and_not_guessed(tmp_path):
    local = tmp_path / "some-70B-name"
    local.mkdir()
    (local / "model.safetensors").write_bytes(bytes(4 * MIB))
    (local / "tokenizer.json").write_bytes(bytes(MIB))
    found = need(tmp_path, {"finetuning_type": "full"}, model_name=str(local))
    assert found.checkpoint_bytes < 30 * MIB
    snapshot = tmp_path / "hub" / "models--org--big-70B" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model-00001.safetensors").write_bytes(bytes(8 * MIB))
    cached = need(tmp_path, {"finetuning_type": "full"}, model_name="org/big-70B")
    assert cached.checkpoint_bytes < 80 * MIB


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("org/tiny-125m", 125e6),
        ("org/no-size", 8e9),
        ("org/thing-2.5b-it", 2.5e9),
        ("org/" + "9" * 40 + "B", None),
    ],
)
def test_a_model_elsewhere_counts_by_its_name(name, parameters, tmp_path):
    found = need(tmp_path, {"finetuning_type": "full"}, model_name=name)
    if parameters is not None:
        assert found.checkpoint_bytes == pytest.approx(parameters * 12, rel=0.2)
    assert 0 < found.total_bytes < 2**63
