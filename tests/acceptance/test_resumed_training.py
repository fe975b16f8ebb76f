"""The real LLaMA-Factory, stopped again and again, gives what an uninterrupted run gives.

Two jobs ask for the same training at the same time. One runs through; the other is paused and
resumed, then killed with its runner. Steps, losses and weights are compared."""

from __future__ import annotations

import json
import os
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.seen import logged_lines
from tests.acceptance.test_resume import csv_steps, kill_with_runner, move, reaches_step
from tests.daemon_process import DaemonProcess, eventually, running_daemon
from tests.real_training import for_real
from tests.trust import Form, Promise
from training_cluster import trainer_environment
from training_cluster.settings import load_settings

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(900)]

EPOCH_STEPS, SAVE_STEPS, BATCH, CUTOFF = 16, 25, 4, 128
# the same program on the same machine with all states restored: measured as 0.0, and what rounding
# could do in some other version of torch is far below this
CLOSE = 1e-4
_ANSWERS = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2])
tokens = AutoTokenizer.from_pretrained(sys.argv[2])("Who are you?", return_tensors="pt")
print(model.generate(**tokens, max_new_tokens=5).shape[1] - tokens["input_ids"].shape[1])
"""


@pytest.fixture
def daemon(tmp_path: Path, tiny_model: Path) -> Iterator[DaemonProcess]:
    """Two CPU slots, the trainer environment of this machine, a tiny model."""
    environment = {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        daemon.model = str(tiny_model)  # type: ignore[attr-defined]
        yield daemon


def submit(daemon: DaemonProcess, epochs: int) -> str:
    request = {
        "model_name": daemon.model,  # type: ignore[attr-defined]
        "cutoff_len": CUTOFF,
        "max_samples": BATCH * EPOCH_STEPS,
        "batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-3,
        "num_epochs": epochs,
        "save_steps": SAVE_STEPS,
        "additional_target": "embed_tokens,lm_head",
        "overrides": {"logging_steps": 1},
    }
    return str(daemon.submit(**request)["job_id"])


def pause_and_resume(daemon: DaemonProcess, job: str, attempt: int, step: int) -> int:
    """Returns the step at which it was saved."""
    eventually(lambda: len(daemon.job(job)["attempts"]) == attempt)
    reaches_step(daemon, job, step, attempt, seconds=120)
    move(daemon, job, "pause")
    paused = daemon.wait_for(job, "paused", seconds=120)
    saved = int(paused["attempts"][-1]["checkpoint_step"])
    assert paused["progress"]["step"] == saved >= step
    assert move(daemon, job, "resume")["resumed_from_step"] == saved
    return saved


def curve(daemon: DaemonProcess, job: str, name: str) -> list[tuple[int, float]]:
    """Step and value of every line that has this metric, in log order."""
    lines = logged_lines(daemon, job)
    return [(line["step"], line["values"][name]) for line in lines if name in line["values"]]


def weights(result: dict[str, Any]) -> array[float]:
    """All numbers of a float32 adapter, in the order of its file."""
    content = (Path(result["path"]) / "adapter_model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8 : 8 + length])
    assert {t["dtype"] for name, t in tensors.items() if name != "__metadata__"} == {"F32"}
    numbers = array("f")
    numbers.frombytes(content[8 + length :])
    return numbers


def farthest(pairs: Iterator[tuple[float, float]]) -> float:
    return max(abs(one - other) for one, other in pairs)


def assert_answers(daemon: DaemonProcess, result: dict[str, Any]) -> None:
    """The adapter can be loaded onto its base model and generates."""
    data = load_settings().data_dir
    python = str(trainer_environment.python(trainer_environment.environment_path(data)))
    model = daemon.model  # type: ignore[attr-defined]
    said = subprocess.run(
        [python, "-I", "-c", _ANSWERS, model, result["path"]],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 1 <= int(said.stdout.split()[-1]) <= 5


def check(daemon: DaemonProcess, pauses: int, trust, form: Form) -> None:
    epochs = 6 + 8 * pauses
    total, saved = EPOCH_STEPS * epochs, 0
    through, job = submit(daemon, epochs), submit(daemon, epochs)
    for attempt in range(1, pauses + 1):
        saved = pause_and_resume(daemon, job, attempt, saved + 8)
    reaches_step(daemon, job, saved + SAVE_STEPS + 3, pauses + 1, seconds=120)
    kill_with_runner(daemon.attempt_dir(job, pauses + 1))
    done = daemon.wait_for(job, seconds=300)
    whole = daemon.wait_for(through, seconds=300)
    outcomes = [attempt["outcome"] for attempt in done["attempts"]]
    assert outcomes == ["paused"] * pauses + ["lost", "completed"]
    assert len(whole["attempts"]) == 1

    losses, wanted = (curve(daemon, key, "train/loss") for key in (job, through))
    assert [step for step, _ in losses] == list(range(1, total + 1)), "without gap or repeat"
    assert [step for step, _ in wanted] == list(range(1, total + 1))
    assert csv_steps(daemon, job) == list(range(1, total + 1))
    evaluated = [step for step, _ in curve(daemon, job, "eval/loss")]
    ends = list(range(EPOCH_STEPS, total + 1, EPOCH_STEPS))
    assert set(ends) <= set(evaluated)
    assert len(set(evaluated)) == len(evaluated)
    apart = farthest((one[1], other[1]) for one, other in zip(losses, wanted, strict=True))
    moved = farthest(zip(weights(done["result"]), weights(whole["result"]), strict=True))
    assert apart <= CLOSE
    assert moved <= CLOSE
    for name in ("steps", "first_loss", "final_loss", "train_loss"):
        assert done["result"][name] == pytest.approx(whole["result"][name], abs=CLOSE), name
    # saved in the middle of a step, whose tokens were counted and are counted again
    twice = done["result"]["tokens"] - whole["result"]["tokens"]
    assert 0 <= twice <= pauses * BATCH * CUTOFF
    assert_answers(daemon, done["result"])
    times = "twice" if pauses == 2 else "once"
    trust(
        Promise.RESUME,
        f"paused {times}, killed once: {total} of {total} steps, each once; losses at most "
        f"{apart:.1g}, weights at most {moved:.1g} from the uninterrupted run's",
        form=form,
    )


def test_a_training_that_was_paused_and_killed_ends_as_one_that_ran_through(daemon, trust):
    check(daemon, 1, trust, "short")


@pytest.mark.slow
def test_a_training_that_was_paused_twice_and_killed_ends_as_one_that_ran_through(daemon, trust):
    check(daemon, 2, trust, "full")
