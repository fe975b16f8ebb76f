"""Decides what an ended attempt amounts to: exit and intent first, then logs and output."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path

from training_cluster.adapters.llamafactory.checkpoints import last_checkpoint
from training_cluster.adapters.llamafactory.failure import (
    Failure,
    rank_was_killed,
    read_failure,
    signal_of_first_rank,
)
from training_cluster.adapters.llamafactory.progress import last_points
from training_cluster.adapters.llamafactory.result import describe_result
from training_cluster.adapters.llamafactory.teardown import had_saved_everything
from training_cluster.domain.job import Outcome, Progress, StopReason, TrainingPoint, Verdict
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Exit

_STOPPED = {
    StopReason.CANCELLED: Outcome.CANCELLED,
    StopReason.TIMED_OUT: Outcome.TIMED_OUT,
    StopReason.PREEMPTED: Outcome.PREEMPTED,
    StopReason.PAUSED: Outcome.PAUSED,
    StopReason.HUNG: Outcome.HUNG,
}

# Read in this order: what comes first wins. Data come before the model: a model's errors have no
# frames in the data loader, but data errors may say "not found". A shell reports a signal as
# 128 + number.
_SIGNS: tuple[tuple[Outcome, re.Pattern[str]], ...] = (
    (
        Outcome.OUT_OF_MEMORY,
        re.compile(
            r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|^MemoryError"
            r"|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|DefaultCPUAllocator: (can't|not enough)"
            r"|Cannot allocate memory|Memory allocation still failed",
            re.MULTILINE,
        ),
    ),
    (
        Outcome.DISK_FULL,
        re.compile(
            r"No space left on device|Errno (27|28|122)\]|[Qq]uota exceeded"
            r"|Not enough disk space|PytorchStreamWriter failed writing|os error (27|28|122)\b"
        ),
    ),
    (Outcome.TRAINER_ERROR, re.compile(r"^ValueError: Template .* does not exist", re.MULTILINE)),
    (
        Outcome.DATASET_INVALID,
        re.compile(
            r"^datasets\.exceptions\.|DatasetGenerationError|The dataset is not applicable"
            r"|llamafactory/data/(loader|parser|converter|data_utils|processor/\w+)\.py"
            r"|Cannot find (valid|sufficient) samples|Undefined dataset",
            re.MULTILINE,
        ),
    ),
    (
        Outcome.MODEL_UNAVAILABLE,
        re.compile(
            r"Failed to load (tokenizer|config|processor|model)"
            r"|llamafactory/model/loader\.py\", line \d+, in load_(tokenizer|config)"
            r"|is not a valid model identifier|is not a local folder|Incorrect path_or_model_id"
            r"|(Repository|Revision|Entry|LocalEntry)NotFoundError|GatedRepoError"
            r"|OfflineModeIsEnabled|HFValidationError|[Cc]ouldn't connect to"
            r"|does not appear to have (a )?file|Error no file named|Unrecognized model in"
            r"|SafetensorError"
        ),
    ),
)

HINTS = {
    Outcome.HUNG: "Look at the end of the log for what it waited for: a download, a lock, another "
    "rank. Retries (max_retries) go on from the last checkpoint; hang.stop_seconds says how long "
    "a trainer may do nothing.",
    Outcome.OUT_OF_MEMORY: "Lower batch_size (raise gradient_accumulation_steps to match), "
    "cutoff_len or lora_rank, or ask for a larger device with min_gpu_memory.",
    Outcome.MODEL_UNAVAILABLE: "Check model_name. A hub model needs the network, or a copy in the "
    "hub's cache; a gated one needs HF_TOKEN in the daemon's environment; a path needs "
    "config.json, tokenizer and weights in it.",
    Outcome.DATASET_INVALID: "Check the rows of this dataset version against its format "
    "(dataset.json, or `training-cluster dataset show`), then submit again.",
    Outcome.DISK_FULL: "Make room on the disk of the state directory, then submit again; a larger "
    "save_steps keeps fewer checkpoints.",
    Outcome.TRAINER_ERROR: "Read the whole log with `training-cluster logs`; if the trainer did "
    "not even start, run `training-cluster trainer check`.",
    Outcome.LAUNCH_FAILED: "Run `training-cluster trainer install` (it does nothing where all is "
    "well), then `training-cluster trainer check`, and look at the setting "
    "trainer.command.",
    Outcome.KILLED: "Most often the kernel ended it because the machine ran out of memory: "
    "`dmesg` tells. Lower batch_size or cutoff_len, or run fewer jobs at once.",
    Outcome.LOST: "The machine was restarted, or the runner was killed. "
    "`training-cluster retry` goes on from its last checkpoint.",
    Outcome.TIMED_OUT: "`training-cluster retry` goes on from its last checkpoint for as long "
    "again; or raise max_seconds, or train less: num_epochs, max_samples.",
    Outcome.INTERRUPTED: "Something outside the daemon told the trainer to stop. "
    "`training-cluster retry` goes on from its last checkpoint.",
    Outcome.PREEMPTED: "The job gave way to another one and goes on from its last checkpoint.",
    Outcome.PAUSED: "`training-cluster resume` goes on from its last checkpoint.",
}
_TOO_SHORT = "Cannot find sufficient samples"
_TOO_SHORT_HINT = (
    "Stage pt makes pieces of cutoff_len tokens, and all rows of the training or validation file "
    "together have less than one: lower cutoff_len, or set overrides.packing to false."
)
_LOSSES = {
    False: "the runner vanished without a record of the end",
    True: "the machine was restarted while this was running",
}
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})


def judge(spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None) -> Verdict:
    """The verdict on one ended attempt, and the checkpoint it left if there is more to do."""
    verdict = _judge(spec, directory, ending, progress)
    if verdict.outcome is Outcome.COMPLETED:
        return verdict
    return replace(verdict, checkpoint=last_checkpoint(directory / "output"))


def _judge(spec: JobSpec, directory: Path, ending: Exit, progress: Progress | None) -> Verdict:
    points = last_points(directory / "output" / "trainer_log.jsonl")
    reached = _reached(points, progress)
    crash = _crash_at_its_exit(directory, ending, reached)
    if crash:
        ending = replace(ending, code=0)
    if ending.code == 0 and _has_finished(spec, ending, reached):
        remark = crash and f"everything was saved; then {crash} ended the trainer at its exit"
        return Verdict(Outcome.COMPLETED, remark, result=describe_result(spec, directory, points))
    if ending.stop_reason is not None:
        return _stopped(spec, directory, ending, points, reached)
    if ending.exec_error is not None:
        message = f"the trainer could not be executed: {ending.exec_error}"
        return _verdict(Outcome.LAUNCH_FAILED, message)
    if ending.code is None:
        return _verdict(Outcome.LOST, _LOSSES[ending.rebooted])
    if ending.code == 0:
        message = f"the trainer stopped {_where(reached)} with exit status 0; nobody here asked"
        result = describe_result(spec, directory, points)
        return Verdict(Outcome.INTERRUPTED, message, HINTS[Outcome.INTERRUPTED], result)
    return _failed(spec, directory, ending.code, reached)


def _reached(points: list[TrainingPoint], progress: Progress | None) -> Progress | None:
    known = [point.progress for point in points] + ([progress] if progress else [])
    return max(known, key=lambda one: one.step, default=None)


def _has_finished(spec: JobSpec, ending: Exit, reached: Progress | None) -> bool:
    """Exit status 0 alone does not tell: a trainer that saved and stopped exits so as well."""
    if reached is not None and reached.step >= reached.total_steps:
        return True
    if ending.stop_reason is not None:
        return False
    return reached is None or "early_stopping_steps" in spec.overrides


def _stopped(
    spec: JobSpec,
    directory: Path,
    ending: Exit,
    points: list[TrainingPoint],
    reached: Progress | None,
) -> Verdict:
    outcome = _STOPPED[ending.stop_reason or StopReason.CANCELLED]
    message = f"stopped {_where(reached)}"
    if outcome is Outcome.TIMED_OUT and spec.max_seconds is not None:
        message += f": ran longer than max_seconds ({spec.max_seconds:g})"
    saved = describe_result(spec, directory, points, final=ending.code == 0)
    return Verdict(outcome, message, HINTS.get(outcome, ""), saved)


def _crash_at_its_exit(directory: Path, ending: Exit, reached: Progress | None) -> str:
    """The name of the signal by which a trainer, or the first of its ranks to fail, crashed when
    its work was done; empty when it did not."""
    if not ending.code:
        return ""
    number = _signal(ending.code) or signal_of_first_rank(directory / "trainer.log")
    crashed = number in _CRASHES and had_saved_everything(directory, reached)
    return _signal_name(number) if crashed else ""


def _signal(code: int) -> int:
    return -code if code < 0 else code - 128 if 128 < code < 192 else 0


def _failed(spec: JobSpec, directory: Path, code: int, reached: Progress | None) -> Verdict:
    number = _signal(code)
    log = directory / "trainer.log"
    if number and number not in _CRASHES:
        return _verdict(Outcome.KILLED, f"ended by {_signal_name(number)} {_where(reached)}")
    failure = read_failure(log)
    outcome = _classify(failure)
    if outcome is Outcome.TRAINER_ERROR and rank_was_killed(log):
        return _verdict(Outcome.KILLED, f"one of its processes was killed {_where(reached)}")
    how = f"crashed with {_signal_name(number)}" if number else f"exit status {code}"
    message = failure.message or f"the trainer ended with {how} and printed nothing"
    if number and failure.message:
        message = f"the trainer {how} {_where(reached)}; its last words:\n{message}"
    if outcome is Outcome.MODEL_UNAVAILABLE:
        message = f"the model {spec.model_name} could not be loaded: {message}"
    return _verdict(outcome, message)


def _classify(failure: Failure) -> Outcome:
    for outcome, sign in _SIGNS:
        if sign.search(failure.evidence):
            return outcome
    return Outcome.TRAINER_ERROR


def _verdict(outcome: Outcome, message: str) -> Verdict:
    return Verdict(outcome, message, _TOO_SHORT_HINT if _TOO_SHORT in message else HINTS[outcome])


def _where(reached: Progress | None) -> str:
    if reached is None:
        return "before the first step"
    return f"at step {reached.step} of {reached.total_steps}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
