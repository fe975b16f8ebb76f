"""Which checkpoints another attempt may go on from: those whose every file is whole."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.llamafactory_parts import a_trainer
from training_cluster.adapters.llamafactory.checkpoints import last_checkpoint
from training_cluster.domain.job import Checkpoint
from training_cluster.domain.spec import JobSpec


def safetensors(length: int = 8) -> bytes:
    """A file of one tensor."""
    entry = {"dtype": "F32", "shape": [length // 4], "data_offsets": [0, length]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(length)


def a_checkpoint(output: Path, step: int, **files: bytes) -> Path:
    """A complete one of a LoRA adapter, and further files by name (dots as underscores)."""
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    state = {"global_step": step, "num_input_tokens_seen": 7 * step, "log_history": []}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(safetensors())
    with zipfile.ZipFile(folder / "optimizer.pt", "w") as archive:
        archive.writestr("data.pkl", bytes(5000))
    return folder


def test_the_furthest_checkpoint_is_found_by_number_not_by_name(tmp_path):
    for step in (2, 10, 9):
        a_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    assert last_checkpoint(tmp_path) == Checkpoint(tmp_path / "checkpoint-10", 10, 70)


def test_without_a_folder_or_a_checkpoint_there_is_none(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "nowhere") is None


def truncate(name: str, by: int = 1) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - by)


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


INDEX = json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        write("checkpoint-is-incomplete.txt", b"saving"),
        remove("trainer_state.json"),
        write("trainer_state.json", b'{"global_step": 20, "log_hist'),
        write("trainer_state.json", b'{"global_step": 19}'),
        write("trainer_state.json", b"[20]"),
        write("trainer_state.json", b""),
        remove("adapter_model.safetensors"),
        remove("adapter_config.json"),
        truncate("adapter_model.safetensors"),
        write("adapter_model.safetensors", b""),
        write("adapter_model.safetensors", bytes(200)),
        write("adapter_model.safetensors", (2**63).to_bytes(8, "little") + b"{}"),
        write("adapter_model.safetensors", (2).to_bytes(8, "little") + b"{x"),
        write("adapter_model.safetensors", (8).to_bytes(8, "little") + b'{"a": 1}'),
        write("adapter_model.safetensors", safetensors() + b"more"),
        truncate("optimizer.pt", 30),
        write("optimizer.pt", b""),
        write("scheduler.pt", bytes(1465)),
        write("model.safetensors.index.json", INDEX),
        write("model.safetensors.index.json", b"{"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_next_older(tmp_path, damage):
    a_checkpoint(tmp_path, 10)
    damage(a_checkpoint(tmp_path, 20))
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 10


def test_a_checkpoint_of_a_full_model_needs_every_shard_of_its_index(tmp_path):
    folder = a_checkpoint(tmp_path, 5)
    (folder / "adapter_config.json").rename(folder / "config.json")
    (folder / "adapter_model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_bytes(INDEX)
    assert last_checkpoint(tmp_path) is None
    (folder / "model-00002-of-00002.safetensors").write_bytes(safetensors(400))
    assert last_checkpoint(tmp_path) == Checkpoint(folder, 5, 35)


def test_those_that_are_named_are_left_out(tmp_path):
    output = tmp_path / "output"
    used, other = a_checkpoint(output, 20), a_checkpoint(output, 10)
    found = a_trainer().checkpoint(JobSpec(), tmp_path, {used})
    assert found is not None
    assert found.path == other


def test_a_reward_model_without_lora_begins_anew(tmp_path):
    a_checkpoint(tmp_path / "output", 20)
    trainer = a_trainer()
    assert trainer.checkpoint(JobSpec(stage="rm", finetuning_type="full"), tmp_path) is None
    assert trainer.checkpoint(JobSpec(stage="rm", finetuning_type="lora"), tmp_path) is not None
