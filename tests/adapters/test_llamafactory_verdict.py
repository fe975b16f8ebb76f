"""What an ended attempt amounts to; trainer logs as LLaMA-Factory and torch write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.adapters.llamafactory_parts import a_trainer
from training_cluster.domain.job import Outcome, Progress, StopReason, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Exit


def _judge(
    directory: Path, ending: Exit, spec: JobSpec | None = None, progress: Progress | None = None
) -> Verdict:
    return a_trainer().judge(spec or JobSpec(), directory, ending, progress)


def _log_steps(directory: Path, *losses: float, total: int) -> None:
    output = directory / "output"
    output.mkdir(exist_ok=True)
    lines = (
        json.dumps({"current_steps": step, "total_steps": total, "loss": loss, "total_tokens": 99})
        for step, loss in enumerate(losses, start=1)
    )
    (output / "trainer_log.jsonl").write_text("\n".join(lines) + '\n{"current_st')


def _save_adapter(folder: Path, *also: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", *also):
        (folder / name).write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    if "trainer_state.json" in also:
        step = int(folder.name.removeprefix("checkpoint-"))
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def _traceback(exception: str, place: str = "torch/nn/functional.py") -> str:
    return (
        "Traceback (most recent call last):\n"
        f'  File "/env/lib/python3.11/site-packages/{place}", line 12, in inner\n'
        "    something()\n"
        "    ^^^^^^^^^^^\n"
        f"{exception}\n"
    )


def test_exit_0_without_a_trainer_log_is_completed_with_no_result(tmp_path: Path) -> None:
    assert _judge(tmp_path, Exit(0)) == Verdict(Outcome.COMPLETED)


def test_a_finished_run_describes_its_adapter(tmp_path: Path) -> None:
    _log_steps(tmp_path, 5.0, 3.0, 1.5, total=3)
    _save_adapter(tmp_path / "output")
    (tmp_path / "output" / "train_results.json").write_text('{"train_loss": 3.1}')
    verdict = _judge(tmp_path, Exit(0), JobSpec(lora_name="mine", lora_version="2"))
    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.error is None
    result = verdict.result
    assert result is not None
    assert result["path"] == str(tmp_path / "output")
    assert result["kind"] == "lora_adapter"
    assert (result["lora_name"], result["lora_version"]) == ("mine", "2")
    assert (result["first_loss"], result["final_loss"], result["train_loss"]) == (5.0, 1.5, 3.1)
    assert (result["steps"], result["tokens"]) == (3, 99)
    assert "adapter_model.safetensors" in result["files"]


def test_weights_without_an_adapter_are_a_full_model(tmp_path: Path) -> None:
    _log_steps(tmp_path, 1.0, total=1)
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        (tmp_path / "output" / name).write_text("1234")
    result = _judge(tmp_path, Exit(0)).result
    assert result is not None
    assert result["kind"] == "full_model"
    assert result["size_bytes"] >= 8


def test_exit_0_short_of_the_steps_is_interrupted_not_completed(tmp_path: Path) -> None:
    _log_steps(tmp_path, 5.0, 3.0, total=40)
    _save_adapter(tmp_path / "output")
    verdict = _judge(tmp_path, Exit(0))
    assert verdict.outcome is Outcome.INTERRUPTED
    assert "step 2 of 40" in verdict.message
    assert verdict.result is not None


def test_a_run_that_may_stop_early_is_completed_when_it_does(tmp_path: Path) -> None:
    _log_steps(tmp_path, 5.0, total=40)
    spec = JobSpec(overrides={"early_stopping_steps": 3})
    assert _judge(tmp_path, Exit(0), spec).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (StopReason.CANCELLED, Outcome.CANCELLED),
        (StopReason.TIMED_OUT, Outcome.TIMED_OUT),
        (StopReason.PREEMPTED, Outcome.PREEMPTED),
        (StopReason.PAUSED, Outcome.PAUSED),
    ],
)
@pytest.mark.parametrize("code", [0, -15, -9, 1, None])
def test_a_stop_that_was_asked_for_is_what_it_was_asked_as(
    tmp_path: Path, reason: StopReason, outcome: Outcome, code: int | None
) -> None:
    _log_steps(tmp_path, 5.0, total=40)
    assert _judge(tmp_path, Exit(code, stop_reason=reason)).outcome is outcome


def test_a_stop_that_came_after_the_last_step_does_not_undo_the_work(tmp_path: Path) -> None:
    ending = Exit(0, stop_reason=StopReason.CANCELLED)
    done = Progress(step=40, total_steps=40)
    assert _judge(tmp_path, ending, progress=done).outcome is Outcome.COMPLETED
    assert _judge(tmp_path, ending).outcome is Outcome.CANCELLED


def test_a_timeout_names_its_limit(tmp_path: Path) -> None:
    ending = Exit(0, stop_reason=StopReason.TIMED_OUT)
    verdict = _judge(tmp_path, ending, JobSpec(max_seconds=90))
    assert "max_seconds (90)" in verdict.message
    assert verdict.hint


def test_a_forced_stop_leaves_the_last_complete_checkpoint(tmp_path: Path) -> None:
    output = tmp_path / "output"
    _log_steps(tmp_path, *[1.0] * 12, total=40)
    _save_adapter(output)  # may be half written
    _save_adapter(output / "checkpoint-2", "trainer_state.json")
    _save_adapter(output / "checkpoint-10", "trainer_state.json")
    _save_adapter(output / "checkpoint-11")
    _save_adapter(output / "checkpoint-12", "trainer_state.json", "checkpoint-is-incomplete.txt")
    result = _judge(tmp_path, Exit(-9, stop_reason=StopReason.CANCELLED)).result
    assert result is not None
    assert result["path"] == str(output / "checkpoint-10")


def test_a_trainer_that_cannot_be_executed_is_a_failed_launch(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, Exit(None, exec_error="[Errno 2] No such file: '/nope'"))
    assert verdict.outcome is Outcome.LAUNCH_FAILED
    assert "/nope" in verdict.message


def test_no_record_of_the_end_is_lost(tmp_path: Path) -> None:
    assert _judge(tmp_path, Exit(None)).outcome is Outcome.LOST


@pytest.mark.parametrize("code", [-9, -15, 137])
def test_a_signal_nobody_here_sent_is_killed(tmp_path: Path, code: int) -> None:
    verdict = _judge(tmp_path, Exit(code))
    assert verdict.outcome is Outcome.KILLED
    assert "SIG" in verdict.message
    assert "dmesg" in verdict.hint


def test_a_crash_of_its_own_is_a_trainer_error(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_text("loading\nFatal Python error: Segmentation fault\n")
    verdict = _judge(tmp_path, Exit(-11))
    assert verdict.outcome is Outcome.TRAINER_ERROR
    assert "SIGSEGV" in verdict.message
    assert "Segmentation fault" in verdict.message


@pytest.mark.parametrize(
    ("outcome", "exception", "place"),
    [
        (
            Outcome.OUT_OF_MEMORY,
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...",
            "torch/nn/functional.py",
        ),
        (
            Outcome.OUT_OF_MEMORY,
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
            "torch/nn/modules/linear.py",
        ),
        (
            Outcome.OUT_OF_MEMORY,
            "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: "
            "can't allocate memory: you tried to allocate 80 bytes. Error code 12",
            "llamafactory/model/loader.py",
        ),
        (Outcome.OUT_OF_MEMORY, "MemoryError", "llamafactory/data/loader.py"),
        (
            Outcome.DISK_FULL,
            "OSError: [Errno 28] No space left on device: '/s/output/checkpoint-4'",
            "transformers/trainer.py",
        ),
        (
            Outcome.DISK_FULL,
            "RuntimeError: [enforce fail at inline_container.cc:668] . PytorchStreamWriter failed "
            "writing file data/12: file write failed",
            "torch/serialization.py",
        ),
        (
            Outcome.DISK_FULL,
            "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left "
            "on device (os error 28)",
            "safetensors/torch.py",
        ),
        (
            Outcome.MODEL_UNAVAILABLE,
            "OSError: You are trying to access a gated repo.\nGatedRepoError: 403 Client Error",
            "transformers/utils/hub.py",
        ),
        (
            Outcome.MODEL_UNAVAILABLE,
            "OSError: /m does not appear to have a file named config.json.",
            "transformers/utils/hub.py",
        ),
        (
            Outcome.DATASET_INVALID,
            "KeyError: 'instruction'",
            "llamafactory/data/converter.py",
        ),
        (
            Outcome.DATASET_INVALID,
            "RuntimeError: Cannot find valid samples, check `data/README.md` for the data format.",
            "llamafactory/train/sft/workflow.py",
        ),
        (
            Outcome.TRAINER_ERROR,
            "ValueError: Template nope does not exist.",
            "llamafactory/data/template.py",
        ),
        (
            Outcome.TRAINER_ERROR,
            "ValueError: No modules were targeted for adaptation.",
            "peft/tuners/tuners_utils.py",
        ),
    ],
)
def test_an_exception_is_told_by_what_it_means(
    tmp_path: Path, outcome: Outcome, exception: str, place: str
) -> None:
    (tmp_path / "trainer.log").write_text("Loading ...\n" + _traceback(exception, place))
    verdict = _judge(tmp_path, Exit(1))
    assert verdict.outcome is outcome
    assert exception.split(":")[0] in verdict.message
    assert verdict.hint


def test_what_a_training_example_says_is_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_text(
        "training example:\nWhat does 'CUDA out of memory' mean? No space left on device!\n"
        + _traceback("ZeroDivisionError: division by zero")
    )
    verdict = _judge(tmp_path, Exit(1))
    assert verdict.outcome is Outcome.TRAINER_ERROR
    assert verdict.message.startswith("ZeroDivisionError: division by zero")


def test_of_a_failed_torchrun_the_rank_is_quoted_not_the_launcher(tmp_path: Path) -> None:
    ranks = [
        "".join(
            f"[rank{rank}]: {line}"
            for line in _traceback(f"torch.OutOfMemoryError: rank {rank}").splitlines(keepends=True)
        )
        for rank in (1, 0)
    ]
    launcher = _traceback("subprocess.CalledProcessError: Command '['torchrun']' returned 1.")
    (tmp_path / "trainer.log").write_text("".join(ranks) + launcher)
    verdict = _judge(tmp_path, Exit(1))
    assert verdict.outcome is Outcome.OUT_OF_MEMORY
    assert verdict.message.startswith("torch.OutOfMemoryError: rank 1")


def test_a_killed_rank_under_torchrun_is_killed(tmp_path: Path) -> None:
    summary = "Root Cause (first observed failure):\n  exitcode  : -9 (pid: 12)\n"
    launcher = _traceback("subprocess.CalledProcessError: Command '['torchrun']' returned 1.")
    (tmp_path / "trainer.log").write_text(summary + launcher)
    assert _judge(tmp_path, Exit(1)).outcome is Outcome.KILLED


def test_a_message_is_readable_and_short(tmp_path: Path) -> None:
    noise = "\x1b[31mred\x1b[0m\n" + "".join(f"\r{n}%|###" for n in range(5000)) + "\n"
    chained = (
        _traceback("ValueError: the cause " + "x" * 5000)
        + "\nThe above exception was the direct cause of the following exception:\n\n"
        + _traceback("\x1b[1mRuntimeError\x1b[0m: the consequence")
    )
    (tmp_path / "trainer.log").write_text(noise * 20 + chained)
    message = _judge(tmp_path, Exit(1)).message
    assert message.startswith("RuntimeError: the consequence\ncaused by ValueError: the cause")
    assert "at torch/nn/functional.py:12 inner" in message
    assert len(message) <= 1500
    assert "\x1b" not in message
    assert "\r" not in message


def test_a_program_without_tracebacks_is_quoted_by_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "trainer.log").write_bytes(b"one\n\xff\ntwo: bad flag\n")
    assert _judge(tmp_path, Exit(2)).message.endswith("two: bad flag")
    silent = tmp_path / "silent"
    silent.mkdir()
    assert "exit status 2" in _judge(silent, Exit(2)).message


def test_an_attempt_that_did_not_finish_says_where_another_can_go_on(tmp_path: Path) -> None:
    _log_steps(tmp_path, 5.0, total=40)
    assert _judge(tmp_path, Exit(1)).checkpoint is None
    folder = tmp_path / "output" / "checkpoint-1"
    _save_adapter(folder, "trainer_state.json")
    for ending in (Exit(1), Exit(None), Exit(-15, stop_reason=StopReason.PAUSED), Exit(0)):
        saved = _judge(tmp_path, ending).checkpoint
        assert saved is not None
        assert (saved.path, saved.step) == (folder, 1)
    done = _judge(tmp_path, Exit(0), progress=Progress(step=40, total_steps=40))
    assert done.checkpoint is None


def test_a_restart_of_the_machine_is_told_from_a_dead_runner(tmp_path: Path) -> None:
    assert "machine was restarted" in _judge(tmp_path, Exit(None, rebooted=True)).message
    assert "runner vanished" in _judge(tmp_path, Exit(None)).message


def test_the_figures_of_a_resumed_attempt_are_those_of_the_whole_job(tmp_path: Path) -> None:
    """The trainer logs and divides only what the last attempt did."""
    history = [{"step": 2, "loss": 9.0}, {"step": 4, "loss": 7.0}]
    origin = tmp_path / "before" / "checkpoint-4"
    origin.mkdir(parents=True)
    (origin / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    attempt = tmp_path / "attempt-2"
    _save_adapter(attempt / "output")
    (attempt / "config.yaml").write_text(json.dumps({"resume_from_checkpoint": str(origin)}))
    (attempt / "output" / "train_results.json").write_text('{"train_loss": 0.4}')
    whole = [*history, {"step": 5, "loss": 2.0}, {"step": 5, "train_loss": 0.4}]
    (attempt / "output" / "trainer_state.json").write_text(json.dumps({"log_history": whole}))
    line = {"current_steps": 5, "total_steps": 5, "loss": 2.0, "total_tokens": 50}
    (attempt / "output" / "trainer_log.jsonl").write_text(json.dumps(line) + "\n")
    result = _judge(attempt, Exit(0)).result
    assert result is not None
    assert (result["first_loss"], result["final_loss"], result["tokens"]) == (9.0, 2.0, 50)
    assert result["train_loss"] == pytest.approx((2 * 9 + 2 * 7 + 2) / 5)


def test_rows_that_are_too_few_to_pack_are_told_with_what_helps(tmp_path: Path) -> None:
    said = "RuntimeError: Cannot find sufficient samples, consider increasing dataset size."
    (tmp_path / "trainer.log").write_text(_traceback(said, "llamafactory/data/loader.py"))
    verdict = _judge(tmp_path, Exit(1))
    assert verdict.outcome is Outcome.DATASET_INVALID
    assert "lower cutoff_len, or set overrides.packing to false" in verdict.hint
