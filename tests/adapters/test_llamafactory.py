"""What LLaMA-Factory is asked to do: checks, configuration, dataset_info, environment, progress."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.adapters.llamafactory_parts import (
    a_dataset,
    a_trainer,
    an_assignment,
    config_of,
)
from tests.factories import a_gpu
from training_cluster.domain.device import Device, DeviceKind
from training_cluster.domain.errors import InvalidRequest
from training_cluster.domain.job import Checkpoint
from training_cluster.domain.spec import JobSpec


def _prepared(tmp_path: Path, spec: JobSpec, **dataset: Any) -> dict[str, Any]:
    assignment = an_assignment(tmp_path)
    a_trainer().prepare(spec, a_dataset(tmp_path, **dataset), assignment)
    return config_of(assignment.directory)


def test_an_unknown_recipe_is_refused_with_the_recipes_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="dpo, full_sft, kto, lora_sft, pretrain") as caught:
        a_trainer().check(JobSpec(recipe="lora"), a_dataset(tmp_path))
    assert caught.value.problems[0].field == "recipe"


@pytest.mark.parametrize("name", ["../recipes/dpo", "/etc/passwd", "", ".", "a\0b", "x" * 300])
def test_a_recipe_name_never_leaves_the_recipe_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="there is no recipe"):
        a_trainer().check(JobSpec(recipe=name), a_dataset(tmp_path))


@pytest.mark.parametrize(
    ("recipe", "form", "fits"),
    [
        ("lora_sft", "alpaca", True),
        ("lora_sft", "sharegpt", True),
        ("full_sft", "openai", True),
        ("lora_sft", "preference", False),
        ("lora_sft", "text", False),
        ("dpo", "preference", True),
        ("dpo", "alpaca", False),
        ("kto", "kto", True),
        ("kto", "preference", False),
        ("lora_sft", "prompt_completion", True),
        ("pretrain", "text", True),
        ("pretrain", "openai", False),
    ],
)
def test_a_dataset_must_fit_the_stage(tmp_path: Path, recipe: str, form: str, fits: bool) -> None:
    dataset = a_dataset(tmp_path, format=form)
    if fits:
        a_trainer().check(JobSpec(recipe=recipe), dataset)
        return
    with pytest.raises(InvalidRequest, match=f"v9 has the format {form}") as caught:
        a_trainer().check(JobSpec(recipe=recipe), dataset)
    assert caught.value.problems[0].field == "dataset_version"


def test_every_problem_of_a_request_is_named_at_once(tmp_path: Path) -> None:
    overrides: Any = {"output_dir": "/", "learning_rate": 1.0, "eval_strategy": "steps"}
    spec = JobSpec(stage="ppo", finetuning_type="magic", overrides=overrides)
    with pytest.raises(InvalidRequest) as caught:
        a_trainer().check(spec, a_dataset(tmp_path))
    fields = [problem.field for problem in caught.value.problems]
    assert fields == [
        "stage",
        "finetuning_type",
        "overrides.output_dir",
        "overrides.learning_rate",
        "overrides.eval_strategy",
    ]


def test_what_will_have_no_effect_is_warned_of(tmp_path: Path) -> None:
    dataset = a_dataset(tmp_path)
    warnings = a_trainer().check(JobSpec(recipe="full_sft", max_samples=5, lora_rank=4), dataset)
    assert [w for w in warnings if "first 5 of 24 rows" in w]
    assert [w for w in warnings if "lora_rank" in w]
    assert [w for w in a_trainer().check(JobSpec(recipe="pretrain"), dataset) if "output" in w]
    assert a_trainer().check(JobSpec(), dataset) == ()


def test_rows_that_may_be_too_few_to_pack_are_warned_of(tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text('{"text": "Once"}\n')
    dataset = a_dataset(tmp_path, [{"text": "x" * 9000}], format="text", validation_file=held_out)
    [warning] = a_trainer().check(JobSpec(recipe="pretrain"), dataset)
    assert warning.startswith("all validation rows together may have less than cutoff_len (2048)")
    rows = JobSpec(recipe="pretrain", overrides={"packing": False})
    assert a_trainer().check(rows, dataset) == ()


@pytest.mark.parametrize("field", ["model_name", "template", "lora_target"])
def test_a_string_that_omegaconf_would_interpolate_is_refused(tmp_path: Path, field: str) -> None:
    spec = JobSpec(**{field: "${oc.env:HF_TOKEN}"})  # type: ignore[arg-type]
    dataset, assignment = a_dataset(tmp_path), an_assignment(tmp_path)
    with pytest.raises(InvalidRequest) as caught:
        a_trainer().check(spec, dataset)
    assert caught.value.problems[0].field == field
    with pytest.raises(InvalidRequest):
        a_trainer().prepare(spec, dataset, assignment)


def test_the_job_wins_over_the_recipe_and_the_daemon_over_both(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "mine.yaml").write_text(
        "stage: sft\nlora_rank: 8\nseed: 1\noutput_dir: /\nreport_to: wandb\nlogging_steps: 7\n"
    )
    spec = JobSpec(recipe="mine", lora_rank=4, overrides={"seed": 2, "trust_remote_code": True})
    assignment = an_assignment(tmp_path)
    a_trainer(recipe_dir=recipes).prepare(spec, a_dataset(tmp_path), assignment)
    config = config_of(assignment.directory)
    assert config["lora_rank"] == 4
    assert config["seed"] == 2
    assert config["logging_steps"] == 7
    assert config["trust_remote_code"] is False
    assert config["report_to"] == "none"
    assert config["output_dir"] == str(assignment.directory / "output")


def test_a_changed_recipe_is_read_again(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    trainer, dataset = a_trainer(recipe_dir=tmp_path), a_dataset(tmp_path)
    for number, seed in enumerate((1, 22)):
        recipe.write_text(f"stage: sft\nseed: {seed}\n")
        assignment = an_assignment(tmp_path, number=number)
        trainer.prepare(JobSpec(recipe="r"), dataset, assignment)
        assert config_of(assignment.directory)["seed"] == seed


def test_the_fields_of_a_job_reach_the_trainer_under_its_names(tmp_path: Path) -> None:
    spec = JobSpec(batch_size=3, num_epochs=2.5, learning_rate=1e-5, lora_alpha=32, cutoff_len=99)
    config = _prepared(tmp_path, spec)
    assert config["per_device_train_batch_size"] == 3
    assert config["num_train_epochs"] == 2.5
    assert config["learning_rate"] == 1e-5
    assert config["lora_alpha"] == 32
    assert config["cutoff_len"] == 99
    assert config["model_name_or_path"] == spec.model_name
    assert config["enable_jit_checkpoint"] is True


def test_lora_fields_are_left_out_of_full_fine_tuning(tmp_path: Path) -> None:
    assert "lora_rank" not in _prepared(tmp_path, JobSpec(recipe="full_sft", lora_rank=4))


def test_half_precision_is_for_gpus_only(tmp_path: Path) -> None:
    dataset, trainer = a_dataset(tmp_path), a_trainer()
    on_gpu, on_cpu = an_assignment(tmp_path, a_gpu()), an_assignment(tmp_path, number=2)
    fp16 = an_assignment(tmp_path, a_gpu(), number=3)
    trainer.prepare(JobSpec(), dataset, on_gpu)
    trainer.prepare(JobSpec(overrides={"bf16": True}), dataset, on_cpu)
    trainer.prepare(JobSpec(overrides={"fp16": True}), dataset, fp16)
    assert config_of(on_gpu.directory)["bf16"] is True
    assert config_of(on_cpu.directory)["bf16"] is False
    assert "bf16" not in config_of(fp16.directory)


def test_short_runs_log_every_step_and_long_ones_every_tenth(tmp_path: Path) -> None:
    assert _prepared(tmp_path, JobSpec(num_epochs=1))["logging_steps"] == 1
    long = replace(a_dataset(tmp_path), rows=100_000)
    assignment = an_assignment(tmp_path, number=2)
    a_trainer().prepare(JobSpec(max_samples=100_000), long, assignment)
    assert config_of(assignment.directory)["logging_steps"] == 10


def test_tokens_are_counted_without_what_fills_a_batch_up(tmp_path: Path) -> None:
    assert _prepared(tmp_path, JobSpec())["include_num_input_tokens_seen"] == "non_padding"
    packed = an_assignment(tmp_path, number=2)
    a_trainer().prepare(JobSpec(overrides={"neat_packing": True}), a_dataset(tmp_path), packed)
    assert config_of(packed.directory)["include_num_input_tokens_seen"] == "all"


def test_a_validation_file_is_evaluated_on_each_epoch(tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.json"
    config = _prepared(tmp_path, JobSpec(batch_size=2), validation_file=held_out)
    assert config["eval_dataset"] == "v9-validation"
    assert config["eval_strategy"] == "epoch"
    assert config["per_device_eval_batch_size"] == 2
    info = json.loads((tmp_path / "attempt-1" / "dataset_info.json").read_text())
    assert info["v9-validation"]["file_name"] == str(held_out)


def test_the_config_is_json_that_yaml_reads_the_same(tmp_path: Path) -> None:
    template = 'a"b\\n 𝄞 é \u2028\x7f\x85\ufeff # - : {x} %'
    config = _prepared(tmp_path, JobSpec(template=template))
    text = (tmp_path / "attempt-1" / "config.yaml").read_text(encoding="utf-8")
    assert config["template"] == template
    assert yaml.safe_load(text)["template"] == template


@pytest.mark.parametrize(
    ("form", "columns", "expected"),
    [
        ("alpaca", {"query": "input"}, {"formatting": "alpaca"}),
        ("sharegpt", {"messages": "talk"}, {"formatting": "sharegpt"}),
        ("openai", {"messages": "messages"}, {"formatting": "sharegpt"}),
        ("preference", {"chosen": "good"}, {"formatting": "alpaca", "ranking": True}),
        ("text", {"prompt": "text"}, {"formatting": "alpaca"}),
    ],
)
def test_each_dataset_format_is_described_to_the_trainer(
    tmp_path: Path, form: str, columns: dict[str, str], expected: dict[str, Any]
) -> None:
    recipe = {"preference": "dpo", "kto": "kto", "text": "pretrain"}.get(form, "lora_sft")
    _prepared(tmp_path, JobSpec(recipe=recipe), format=form, columns=columns)
    entry = json.loads((tmp_path / "attempt-1" / "dataset_info.json").read_text())["v9"]
    assert Path(entry["file_name"]).is_absolute()
    assert expected.items() <= entry.items()
    assert columns.items() <= entry["columns"].items()
    assert ("tags" in entry) == (form == "openai")


def test_a_directory_with_a_blank_is_passed_by_relative_name(tmp_path: Path) -> None:
    spaced = tmp_path / "my jobs"
    spaced.mkdir()
    dataset = a_dataset(tmp_path)
    plain, blank = an_assignment(tmp_path), an_assignment(spaced)
    assert a_trainer().prepare(JobSpec(), dataset, plain).argv[1:] == (
        "train",
        str(plain.directory / "config.yaml"),
    )
    launch = a_trainer().prepare(JobSpec(), dataset, blank)
    assert launch.argv[1:] == ("train", "config.yaml")
    assert launch.directory == blank.directory


def test_a_trainer_gets_only_the_allowed_environment(tmp_path: Path) -> None:
    outside = {
        "HF_TOKEN": "hf_1",
        "LC_ALL": "C.UTF-8",
        "NCCL_DEBUG": "INFO",
        "LAB_LICENSE": "x",
        "AWS_SECRET_ACCESS_KEY": "no",
        "PYTHONPATH": "/evil",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    trainer = a_trainer(environment=outside, pass_environment=("LAB_LICENSE",))
    launch = trainer.prepare(JobSpec(max_seconds=9), a_dataset(tmp_path), an_assignment(tmp_path))
    environment = launch.environment
    assert environment["HF_TOKEN"] == "hf_1"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["NCCL_DEBUG"] == "INFO"
    assert environment["LAB_LICENSE"] == "x"
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "RECORD_VRAM"} & environment.keys()
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["HF_DATASETS_CACHE"].startswith(str(launch.directory))
    assert environment["PATH"].split(os.pathsep) == ["/opt/trainer/bin", "/usr/bin"]
    assert (launch.grace_seconds, launch.max_seconds) == (20.0, 9)


def test_threads_of_a_training_on_the_cpu_do_not_spin_unless_the_operator_says_so(
    tmp_path: Path,
) -> None:
    def policy(number: int, outside: dict[str, str], *devices: Device) -> str | None:
        assignment = an_assignment(tmp_path, *devices, number=number)
        launch = a_trainer(environment=outside).prepare(JobSpec(), a_dataset(tmp_path), assignment)
        return launch.environment.get("OMP_WAIT_POLICY")

    assert policy(1, {}) == "PASSIVE"
    assert policy(2, {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE"
    assert policy(3, {}, a_gpu(3)) is None


def test_gpus_are_named_by_index_and_slices_by_uuid(tmp_path: Path) -> None:
    dataset, trainer = a_dataset(tmp_path), a_trainer()
    one = trainer.prepare(JobSpec(), dataset, an_assignment(tmp_path, a_gpu(3)))
    mig = a_gpu(5, kind=DeviceKind.MIG)
    sliced = trainer.prepare(JobSpec(), dataset, an_assignment(tmp_path, mig, number=2))
    assert one.environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert one.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert one.environment["RECORD_VRAM"] == "1"
    assert "FORCE_TORCHRUN" not in one.environment
    assert sliced.environment["CUDA_VISIBLE_DEVICES"] == mig.uuid


def test_several_devices_are_launched_through_torchrun_on_the_leased_port(tmp_path: Path) -> None:
    assignment = an_assignment(tmp_path, a_gpu(1), a_gpu(3), master_port=29511)
    environment = a_trainer().prepare(JobSpec(), a_dataset(tmp_path), assignment).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert environment["FORCE_TORCHRUN"] == "1"
    assert environment["MASTER_PORT"] == "29511"
    assert environment["NPROC_PER_NODE"] == "2"


def test_a_log_line_becomes_a_point_with_hugging_face_names() -> None:
    line = (
        b'{"current_steps": 3, "total_steps": 40, "loss": 1.5, "lr": 2e-05, "epoch": 0.1, '
        b'"percentage": 7.5, "elapsed_time": "1 day, 0:00:02", "remaining_time": "0:01:05", '
        b'"total_tokens": 992, "vram_allocated": 1.25, "accuracy": 0.5, "reward": -0.25}\n'
    )
    point = a_trainer().parse(line)
    assert point is not None
    assert (point.progress.step, point.progress.total_steps) == (3, 40)
    assert point.progress.elapsed_seconds == 86402
    assert point.progress.remaining_seconds == 65
    assert point.values == {
        "train/loss": 1.5,
        "train/learning_rate": 2e-05,
        "train/epoch": 0.1,
        "train/total_tokens": 992,
        "train/vram_allocated": 1.25,
        "train/accuracy": 0.5,
        "train/reward": -0.25,
    }


def test_values_that_are_not_finite_are_dropped_and_the_step_is_kept() -> None:
    line = (
        b'{"current_steps": 1, "total_steps": 2, "loss": NaN, "eval_loss": Infinity, "lr": 1e999}'
    )
    point = a_trainer().parse(line)
    assert point is not None
    assert point.progress.step == 1
    assert point.values == {}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"loss": 1}',
        b'{"current_steps": "1", "total_steps": 2}',
        b'{"current_steps": true, "total_steps": 2}',
        b'{"current_steps": -1, "total_steps": 2}',
        b'{"current_steps": 1, "total_ste',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"current_steps": 1, "total_steps": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_malformed_line_says_nothing(line: bytes) -> None:
    assert a_trainer().parse(line) is None


@pytest.mark.parametrize("key", ["deepspeed", "resume_from_checkpoint", "reward_model", "x"])
def test_a_spec_that_came_another_way_is_held_against_the_allow_list_too(tmp_path, key):
    spec = JobSpec(overrides={key: "/etc/passwd"})
    with pytest.raises(InvalidRequest, match=key):
        a_trainer().check(spec, a_dataset(tmp_path))
    with pytest.raises(InvalidRequest, match=key):
        a_trainer().prepare(spec, a_dataset(tmp_path), an_assignment(tmp_path))


def test_the_speed_of_a_resumed_attempt_is_that_of_its_own_steps_and_tokens() -> None:
    """LLaMA-Factory divides all steps and tokens of the job by the seconds of the attempt."""
    line = json.dumps(
        {"current_steps": 60, "total_steps": 100, "elapsed_time": "0:00:20",
         "remaining_time": "0:00:13", "throughput": 300.0, "total_tokens": 6000}
    ).encode()  # fmt: skip
    since = Checkpoint(Path("/c/checkpoint-50"), 50, tokens=5000)
    point = a_trainer().parse(line, since)
    assert point is not None
    assert point.progress.remaining_seconds == pytest.approx(80), "2 s a step, 40 steps"
    assert point.values["train/throughput"] == pytest.approx(50), "1000 tokens in 20 s"
    assert point.values["train/total_tokens"] == 6000
    nothing_done = a_trainer().parse(line, replace(since, step=60, tokens=6000))
    assert nothing_done is not None
    assert nothing_done.progress.remaining_seconds is None
    assert "train/throughput" not in nothing_done.values


def test_a_resumed_attempt_is_told_of_its_checkpoint_and_nobody_else_can_tell_it(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path / "attempt-1" / "output" / "checkpoint-50", 50)
    assignment = replace(an_assignment(tmp_path), resume_from=checkpoint)
    a_trainer().prepare(JobSpec(), a_dataset(tmp_path), assignment)
    assert config_of(assignment.directory)["resume_from_checkpoint"] == str(checkpoint.path)
    asking = JobSpec(overrides={"resume_from_checkpoint": "/etc"})
    with pytest.raises(InvalidRequest, match="resume_from_checkpoint"):
        a_trainer().check(asking, a_dataset(tmp_path))
