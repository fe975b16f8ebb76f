"""A trainer that crashes when its work is done has done it; one that crashes before has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.adapters.llamafactory_parts import a_trainer
from training_cluster.domain.job import Outcome, StopReason, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Exit

_LAUNCHER = (
    "terminate called without an active exception\n"
    "Traceback (most recent call last):\n"
    '  File "/env/bin/torchrun", line 6, in <module>\n'
    "    sys.exit(main())\n"
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    "============================================================\n"
    "Root Cause (first observed failure):\n"
    "[0]:\n  rank      : 1 (local_rank: 1)\n  exitcode  : {code} (pid: 7)\n"
)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The directory of an attempt that trained three steps and wrote all that it writes."""
    output = tmp_path / "output"
    output.mkdir()
    lines = ({"current_steps": n, "total_steps": 3, "loss": 4.0 - n} for n in (1, 2, 3))
    (output / "trainer_log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (output / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (output / "trainer_state.json").write_text('{"global_step": 3}')
    for name in ("adapter_config", "train_results", "eval_results", "all_results"):
        (output / f"{name}.json").write_text("{}")
    (tmp_path / "config.yaml").write_text('{"eval_strategy": "epoch"}')
    return tmp_path


def judged(directory: Path, code: int, reason: StopReason | None = None) -> Verdict:
    return a_trainer().judge(JobSpec(), directory, Exit(code, stop_reason=reason), None)


@pytest.mark.parametrize("code", [-6, -11, 134, 139])
def test_a_crash_after_everything_was_saved_undoes_nothing(finished: Path, code: int) -> None:
    verdict = judged(finished, code)
    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.result is not None
    assert verdict.result["kind"] == "lora_adapter"
    assert "everything was saved; then SIG" in verdict.message


def test_a_rank_that_aborts_at_its_exit_undoes_nothing(finished: Path) -> None:
    (finished / "trainer.log").write_text(_LAUNCHER.format(code=-6))
    verdict = judged(finished, 1)
    assert verdict.outcome is Outcome.COMPLETED
    assert "SIGABRT" in verdict.message


@pytest.mark.parametrize("code", [-9, -15, 137, 1, 2])
def test_what_is_no_crash_is_what_it_was(finished: Path, code: int) -> None:
    assert judged(finished, code).outcome in (Outcome.KILLED, Outcome.TRAINER_ERROR)


@pytest.mark.parametrize("said", [_LAUNCHER.format(code=1), _LAUNCHER.format(code=-9)])
def test_a_rank_that_failed_otherwise_is_a_failure(finished: Path, said: str) -> None:
    (finished / "trainer.log").write_text(said)
    assert judged(finished, 1).outcome in (Outcome.KILLED, Outcome.TRAINER_ERROR)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval_results.json", None),
        ("train_results.json", None),
        ("all_results.json", "{"),
        ("trainer_state.json", '{"global_step": 2}'),
        ("trainer_state.json", None),
        ("adapter_model.safetensors", "\t\0\0\0\0\0\0\0{}"),
        ("adapter_config.json", None),
    ],
)
def test_a_crash_before_everything_was_saved_is_a_failure(
    finished: Path, name: str, content: str | None
) -> None:
    file = finished / "output" / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    verdict = judged(finished, -6)
    assert verdict.outcome is Outcome.TRAINER_ERROR
    assert "crashed with SIGABRT" in verdict.message


def test_nothing_is_waited_for_that_was_not_asked_for(finished: Path) -> None:
    (finished / "config.yaml").write_text("{}")
    (finished / "output" / "eval_results.json").unlink()
    assert judged(finished, -6).outcome is Outcome.COMPLETED


def test_a_pause_whose_trainer_crashed_at_its_exit_is_a_pause(finished: Path) -> None:
    log = finished / "output" / "trainer_log.jsonl"
    log.write_text(log.read_text().replace('"total_steps": 3', '"total_steps": 9'))
    verdict = judged(finished, -6, StopReason.PAUSED)
    assert verdict.outcome is Outcome.PAUSED
    assert verdict.result is not None, "what it saved at its end is whole"
