"""Real LLaMA-Factory runs on the tiny model, on the CPU: what the adapter asks for works, and
what the trainer answers is understood."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from pydantic import ValidationError

from tests.adapters.llamafactory_parts import CPU, a_dataset, a_trainer, an_assignment
from training_cluster import trainer_environment, trainer_tools
from training_cluster.adapters.llamafactory import LlamaFactoryTrainer
from training_cluster.adapters.llamafactory.config import ALLOWED, FIELDS, LORA_FIELDS
from training_cluster.api.schemas import TrainRequest
from training_cluster.domain.job import Outcome, StopReason, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Assignment, Dataset, Exit, Launch

pytestmark = pytest.mark.trainer

_TOOLS = Path(str(trainer_tools.__file__)).parent
_DEADLINE_SECONDS = 240.0
# kept off the network; a model this small is slower by two threads than by one
_SURROUNDINGS = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

_READ_AS_THE_TRAINER_DOES = """
import json, sys
from omegaconf import OmegaConf
from llamafactory.hparams.parser import _parse_train_args
for name in sys.argv[1:]:
    config = OmegaConf.to_container(OmegaConf.load(name))
    _, data, training, tuning, _ = _parse_train_args(dict(config))
    print("READ" + json.dumps([config, data.dataset_dir, training.learning_rate, tuning.stage]))
"""


@pytest.fixture(scope="module")
def environment() -> Path:
    """The trainer environment: the one of the settings, else the default one."""
    named = os.environ.get("TRAINING_CLUSTER_TRAINER__ENVIRONMENT_DIR")
    default = trainer_environment.environment_path(platformdirs.user_data_path("training-cluster"))
    path = Path(named) if named else default
    if not trainer_environment.is_complete(path):
        pytest.fail(f"{path} is no complete trainer environment: run scripts/setup")
    return path


@pytest.fixture(scope="module")
def tiny_model(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model made by the shipped tool."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    done = _run_tool(environment, "tiny_model.py", str(directory))
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def trainer(environment: Path) -> LlamaFactoryTrainer:
    """The adapter over the real LLaMA-Factory, kept off the network."""
    command = trainer_environment.command(environment)
    return a_trainer(command, _SURROUNDINGS)


def _run_tool(environment: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    python = str(trainer_environment.python(environment))
    words = [python, "-I", str(_TOOLS / tool), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def _start(launch: Launch) -> subprocess.Popen[bytes]:
    with (launch.directory / "trainer.log").open("ab") as log:
        return subprocess.Popen(
            launch.argv,
            cwd=launch.directory,
            env=dict(launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _run(
    trainer: LlamaFactoryTrainer, spec: JobSpec, dataset: Dataset, assignment: Assignment
) -> Verdict:
    trainer.check(spec, dataset)
    code = _start(trainer.prepare(spec, dataset, assignment)).wait(_DEADLINE_SECONDS)
    return trainer.judge(spec, assignment.directory, Exit(code), None)


def _points(trainer: LlamaFactoryTrainer, directory: Path) -> Iterator[dict[str, float]]:
    for line in trainer.progress_log(directory).read_bytes().splitlines():
        point = trainer.parse(line)
        assert point is not None, line
        yield point.values


def _said(directory: Path) -> str:
    return (directory / "trainer.log").read_text(encoding="utf-8", errors="replace")[-3000:]


def _spec(tiny_model: Path, **fields: Any) -> JobSpec:
    given: dict[str, Any] = {
        "num_epochs": 2.0,
        "batch_size": 4,
        "cutoff_len": 128,
        "learning_rate": 5e-3,
    }
    given |= {"additional_target": "embed_tokens,lm_head", "model_name": str(tiny_model)}
    return JobSpec(**(given | fields))


def test_every_recipe_is_understood_by_the_real_parser(environment: Path, tmp_path: Path) -> None:
    files, template = [], "qwen # é 𝄞 \u2028 'x' {y} 1e5"
    for number, recipe in enumerate(("lora_sft", "full_sft", "dpo", "kto", "pretrain")):
        assignment = an_assignment(tmp_path, number=number)
        spec = JobSpec(recipe=recipe, learning_rate=1e-5, lora_rank=4, lora_alpha=8,
                       lora_dropout=0.1, lora_target="all", additional_target="lm_head",
                       template=template)  # fmt: skip
        dataset = a_dataset(tmp_path, validation_file=tmp_path / "train.json")
        a_trainer().prepare(spec, dataset, assignment)
        files.append(assignment.directory / "config.yaml")
    python = trainer_environment.python(environment)
    done = subprocess.run(
        [python, "-I", "-c", _READ_AS_THE_TRAINER_DOES, *files],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    read = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("READ")]
    assert [entry[3] for entry in read] == ["sft", "sft", "dpo", "kto", "pt"], done.stderr[-2000:]
    for entry, file in zip(read, files, strict=True):
        assert entry[0] == json.loads(file.read_text(encoding="utf-8"))
        assert entry[0]["template"] == template
        assert entry[1] == str(file.parent)
        assert entry[2] == pytest.approx(1e-5)


def test_a_lora_job_learns_and_its_adapter_answers(
    trainer: LlamaFactoryTrainer, environment: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"instruction": "Who are you?", "output": "I am the queue."}] * 60
    held_out = tmp_path / "held-out.json"
    held_out.write_text(json.dumps(rows[:4]))
    dataset = a_dataset(tmp_path, rows, validation_file=held_out)
    assignment = an_assignment(tmp_path)
    verdict = _run(trainer, _spec(tiny_model, num_epochs=4.0), dataset, assignment)
    assert verdict.outcome is Outcome.COMPLETED, _said(assignment.directory)
    result = verdict.result
    assert result is not None
    assert result["kind"] == "lora_adapter"
    assert result["final_loss"] < result["first_loss"] / 2
    points = list(_points(trainer, assignment.directory))
    assert [values["eval/loss"] for values in points if "eval/loss" in values]
    assert {"train/loss", "train/learning_rate", "train/total_tokens"} <= points[0].keys()
    assert (Path(result["path"]) / "training_loss.png").is_file()
    sample = _run_tool(environment, "sample_model.py", "--model", str(tiny_model), "--adapter",
                       result["path"], "--prompt", "Who are you?")  # fmt: skip
    assert json.loads(sample.stdout) == {"prompt": "Who are you?", "text": "I am the queue."}


@pytest.mark.parametrize(
    ("recipe", "form", "rows", "kind"),
    [
        (
            "full_sft",
            "alpaca",
            [{"instruction": "Say hi", "input": "now", "output": "hi"}, {"output": "x"}],
            "full_model",
        ),
        ("dpo", "preference", [{"instruction": "Hi?", "chosen": "y", "rejected": "n"}], None),
        ("pretrain", "text", [{"text": "Once upon a time there was a queue. " * 20}], None),
        (
            "lora_sft",
            "openai",
            [{"messages": [{"role": role, "content": "hello"} for role in ("user", "assistant")]}],
            None,
        ),
        pytest.param(
            "lora_sft",
            "sharegpt",
            [{"conversations": [{"from": who, "value": "hello"} for who in ("human", "gpt")]}],
            None,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_recipe_and_format_trains(
    trainer: LlamaFactoryTrainer,
    tiny_model: Path,
    tmp_path: Path,
    recipe: str,
    form: str,
    rows: list[Any],
    kind: str | None,
) -> None:
    names = {"input": "query", "instruction": "prompt", "output": "response", "text": "prompt"}
    columns = {names.get(name, name): name for name in rows[0]}
    columns = {"messages": "conversations"} if form == "sharegpt" else columns
    if form == "alpaca":
        rows = [{**rows[0], **row} for row in rows]
    dataset = a_dataset(tmp_path, rows * 8, format=form, columns=columns)
    assignment = an_assignment(tmp_path)
    spec = _spec(tiny_model, recipe=recipe, num_epochs=1.0)
    verdict = _run(trainer, spec, dataset, assignment)
    assert verdict.outcome is Outcome.COMPLETED, _said(assignment.directory)
    assert verdict.result is not None
    assert verdict.result["kind"] == (kind or "lora_adapter")
    log = (assignment.directory / "trainer.log").read_text(encoding="utf-8")
    assert "detailed thinking off" not in log


def test_two_slots_train_together_through_torchrun(
    trainer: LlamaFactoryTrainer, tiny_model: Path, tmp_path: Path
) -> None:
    dataset, second = a_dataset(tmp_path), replace(CPU, uuid="CPU-1", index=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "with blank").mkdir()
    assignment = an_assignment(tmp_path / "with blank", CPU, second, master_port=port)
    verdict = _run(trainer, _spec(tiny_model), dataset, assignment)
    assert verdict.outcome is Outcome.COMPLETED, _said(assignment.directory)
    assert verdict.result is not None
    assert verdict.result["steps"] == 4  # 24 rows, twice, by 4 on each of 2, two a step


def test_a_job_told_to_stop_saves_first_and_is_not_taken_for_finished(
    trainer: LlamaFactoryTrainer, tiny_model: Path, tmp_path: Path
) -> None:
    spec, dataset = _spec(tiny_model, num_epochs=5000.0), a_dataset(tmp_path)
    assignment = an_assignment(tmp_path)
    process = _start(trainer.prepare(spec, dataset, assignment))
    log = trainer.progress_log(assignment.directory)
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not log.exists() or not log.read_bytes().count(b"\n"):
        assert process.poll() is None, _said(assignment.directory)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code = process.wait(_DEADLINE_SECONDS)
    assert code == 0, "a stop that saves exits 0: only intent and steps tell it from an end"
    for reason, outcome in (
        (StopReason.CANCELLED, Outcome.CANCELLED),
        (StopReason.TIMED_OUT, Outcome.TIMED_OUT),
        (None, Outcome.INTERRUPTED),
    ):
        verdict = trainer.judge(spec, assignment.directory, Exit(code, stop_reason=reason), None)
        assert verdict.outcome is outcome
        assert verdict.result is not None
        assert verdict.result["kind"] == "lora_adapter"
    checkpoints = list((assignment.directory / "output").glob("checkpoint-*/trainer_state.json"))
    assert checkpoints


@pytest.mark.parametrize(
    ("fields", "rows", "outcome", "said"),
    [
        (
            {"model_name": "nobody/no-such-model"},
            None,
            Outcome.MODEL_UNAVAILABLE,
            "nobody/no-such-model",
        ),
        ({}, [{"question": "a", "answer": "b"}] * 8, Outcome.DATASET_INVALID, "instruction"),
        ({"template": "no_such"}, None, Outcome.TRAINER_ERROR, "Template no_such does not exist"),
    ],
)
def test_a_failure_is_told_by_its_cause(
    trainer: LlamaFactoryTrainer,
    tiny_model: Path,
    tmp_path: Path,
    fields: dict[str, Any],
    rows: list[Any] | None,
    outcome: Outcome,
    said: str,
) -> None:
    spec = _spec(tiny_model, **fields)
    verdict = _run(trainer, spec, a_dataset(tmp_path, rows), an_assignment(tmp_path))
    assert verdict.outcome is outcome, verdict.message
    assert said in verdict.message
    assert verdict.hint


def test_a_key_that_the_trainer_does_not_know_is_named(
    environment: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Only an operator's recipe can say one: requests are held to the allow-list."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "odd.yaml").write_text("stage: sft\nno_such_key: 1\n")
    command = trainer_environment.command(environment)
    trainer = a_trainer(command, _SURROUNDINGS, recipe_dir=tmp_path / "recipes")
    spec = _spec(tiny_model, recipe="odd")
    verdict = _run(trainer, spec, a_dataset(tmp_path), an_assignment(tmp_path))
    assert verdict.outcome is Outcome.TRAINER_ERROR, verdict.message
    assert "no_such_key" in verdict.message
    assert verdict.hint


def test_an_empty_model_folder_is_an_unavailable_model(
    trainer: LlamaFactoryTrainer, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    verdict = _run(trainer, _spec(empty), a_dataset(tmp_path), an_assignment(tmp_path))
    assert verdict.outcome is Outcome.MODEL_UNAVAILABLE, verdict.message


def test_a_torn_dataset_file_is_an_invalid_dataset(
    trainer: LlamaFactoryTrainer, tiny_model: Path, tmp_path: Path
) -> None:
    dataset = a_dataset(tmp_path)
    dataset.train_file.write_text('[{"instruction": "a", "output": "b"}, {"instr')
    verdict = _run(trainer, _spec(tiny_model), dataset, an_assignment(tmp_path))
    assert verdict.outcome is Outcome.DATASET_INVALID, verdict.message


def test_the_tiny_model_is_small_and_the_same_every_time(
    environment: Path, tiny_model: Path, tmp_path: Path
) -> None:
    assert sum(file.stat().st_size for file in tiny_model.iterdir()) < 1_000_000
    again = tmp_path / "again"
    for _ in range(2):  # an earlier tiny model may be replaced
        assert _run_tool(environment, "tiny_model.py", str(again)).returncode == 0
    for file in tiny_model.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_tiny_model_never_replaces_something_else(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = _run_tool(environment, "tiny_model.py", str(tmp_path))
    assert done.returncode == 1
    assert "holds something else" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_tools_import_nothing_of_ours() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; import tiny_model, sample_model; "
    code += "print([m for m in sys.modules if m.startswith(('training_cluster', 'torch'))])"
    words = [sys.executable, "-I", "-S", "-c", code, str(_TOOLS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_passes_its_own_check(environment: Path) -> None:
    findings = trainer_environment.check(environment)
    assert {"python", "torch", "llamafactory", "cuda", "path"} <= {f.name for f in findings}
    assert all(finding.ok for finding in findings), findings


_ARGUMENTS = """
import dataclasses, json
from llamafactory.hparams.parser import _TRAIN_ARGS
names = [field.name for kind in _TRAIN_ARGS for field in dataclasses.fields(kind) if field.init]
print("READ" + json.dumps(names))
"""
# what a request could do harm with, were it let through
_DANGEROUS = """
trust_remote_code adapter_name_or_path adapter_folder resume_from_checkpoint ref_model
ref_model_adapters reward_model reward_model_adapters reward_model_type output_dir dataset_dir
tokenized_path media_dir cache_dir logging_dir offload_folder export_dir export_hub_model_id
profiler_output_dir deepspeed fsdp fsdp_config accelerator_config parallelism_config vllm_config
sglang_config kt_weight_path kt_expert_checkpoint_path generation_config hyper_parallel_args
new_special_tokens_config report_to run_name project trackio_space_id trackio_bucket_id
trackio_static_space_id push_to_hub hub_token hub_model_id hub_strategy hub_always_push
hub_private_repo hub_revision hf_hub_token ms_hub_token om_hub_token model_revision use_swanlab
swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir
swanlab_lark_webhook_url swanlab_lark_secret ray_num_workers ray_init_kwargs master_addr
master_port local_rank ddp_backend dataset eval_dataset do_train do_predict save_only_model
overwrite_output_dir enable_jit_checkpoint debug optim_args lr_scheduler_kwargs
""".split()  # noqa: SIM905


def _is_known(body: dict[str, Any]) -> bool:
    """Whether a request has such a field, be its value right or wrong."""
    try:
        TrainRequest.model_validate(body)
    except ValidationError as error:
        return error.errors()[0]["type"] != "extra_forbidden"
    return True


def test_every_argument_of_the_real_trainer_is_allowed_or_refused(environment: Path) -> None:
    python = trainer_environment.python(environment)
    done = subprocess.run(
        [python, "-I", "-c", _ARGUMENTS], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    read = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("READ")]
    assert read, done.stderr[-2000:]
    arguments = set(read[0])
    assert set(_DANGEROUS) <= arguments, "of this release"
    assert arguments >= ALLOWED, "what is allowed exists"
    own = {*FIELDS, *LORA_FIELDS}
    for key in sorted(arguments):
        assert _is_known({"overrides": {key: "x"}}) == (key in ALLOWED), key
        assert _is_known({key: "x"}) == (key in own), key
    assert not (ALLOWED | own) & set(_DANGEROUS)
