"""Says in a tracker's words what a job's run is and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training_cluster.domain.errors import InvalidRequest
from training_cluster.domain.job import FINISHED, Attempt, Job, JobState
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import DatasetRegistry, RunEnding, TrackedRun, TrainingRecord
from training_cluster.store.tracker_runs import RunRow

Scalar = bool | int | float | str | None

_IN_PARAMETERS = ("model_name", "dataset_version", "recipe", "gpus", "priority", "max_retries")
_FIGURES = ("first_loss", "final_loss", "train_loss", "eval_loss", "steps", "tokens")


@dataclass(frozen=True, slots=True)
class TrackingPlace:
    """Where a tracker keeps runs unless a job says otherwise. `project_keys` are the names of
    the job's own choice in its `tracking` object, the first that is there counts."""

    project: str
    project_keys: tuple[str, ...]
    entity: str | None = None
    labels: tuple[str, ...] = ()
    upload_model: bool = False


class RunRecords:
    """Describes runs from what the store and the attempt's directory know."""

    def __init__(self, record: TrainingRecord, datasets: DatasetRegistry) -> None:
        self._record = record
        self._datasets = datasets

    def describe(
        self,
        row: RunRow,
        job: Job,
        attempts: list[Attempt],
        place: TrackingPlace,
        dataset_sha256: str | None = None,
    ) -> TrackedRun:
        """The run as it is opened; the hash of its dataset is looked up if it is one of a folder.
        Reads the attempt's configuration: call it on a thread."""
        attempt = latest_of(row, attempts)
        first = next((a for a in attempts if a.ref.number == row.attempt_number), attempt)
        chosen = job.spec.tracking
        return TrackedRun(
            key=run_key(row),
            name=(chosen.get("run_name") or job.spec.name) + _suffix(row),
            project=next((chosen[k] for k in place.project_keys if k in chosen), place.project),
            entity=chosen.get("entity") or place.entity,
            run_id=row.run_id,
            started_at=first.started_at or first.created_at,
            parameters=self._parameters(job.spec, Path(attempt.directory)),
            tags=self._tags(job, attempt, dataset_sha256),
            labels=(*place.labels, *chosen.get("tags", ())),
        )

    def _parameters(self, spec: JobSpec, directory: Path) -> Mapping[str, Scalar]:
        asked = {name: getattr(spec, name) for name in _IN_PARAMETERS}
        return {**asked, **self._record.parameters(directory)}

    def _tags(self, job: Job, attempt: Attempt, sha256: str | None) -> Mapping[str, str]:
        spec = job.spec
        tags = {
            "job_id": job.id,
            "job_number": str(job.number),
            "user": job.user,
            "kind": spec.kind,
            "model_name": spec.model_name,
            "dataset_version": spec.dataset_version,
            "dataset_sha256": sha256 or self._dataset_hash(spec.dataset_version),
            "devices": ",".join(attempt.device_uuids),
            "attempt": str(attempt.ref.number),
            "lora_name": spec.lora_name or "",
            "lora_version": spec.lora_version or "",
        }
        return {name: value for name, value in tags.items() if value}

    def _dataset_hash(self, version: str) -> str:
        try:
            return self._datasets.resolve(version).sha256
        except (InvalidRequest, OSError):  # it has gone since
            return ""

    def ending(
        self, row: RunRow, job: Job, attempts: list[Attempt], place: TrackingPlace
    ) -> RunEnding:
        """How a run that is over ended. Looks for artifacts: call it on a thread."""
        attempt = latest_of(row, attempts)
        is_last = row.next_attempt is None
        status = job.state.value if is_last else JobState.FAILED.value
        message = (job.error.message if job.error else "") if is_last else _superseded(row, attempt)
        ended_at = (job.finished_at if is_last else attempt.ended_at) or attempt.created_at
        return RunEnding(
            status=status,
            ended_at=ended_at,
            lines=row.sent_lines,
            message=message,
            summary=_summary(job, attempt, status) if is_last else {"status": status},
            artifacts=self._record.artifacts(
                Path(attempt.directory), model=place.upload_model and is_last
            ),
        )


def run_key(row: RunRow) -> str:
    """What names a run towards trackers: the job's id, numbered from its second run on."""
    return row.job_id + _suffix(row)


def _suffix(row: RunRow) -> str:
    return "" if row.number == 1 else f"-{row.number}"


def has_begun(row: RunRow, attempts: list[Attempt]) -> bool:
    """Whether there is something to tell: before its attempt is started, a run has no
    configuration yet."""
    attempt = latest_of(row, attempts)
    return row.run_id is not None or bool(attempt.started_at or attempt.ended_at)


def is_over(row: RunRow, job: Job) -> bool:
    """Whether no line will follow: the job has ended, or another run goes on for it."""
    return row.next_attempt is not None or job.state in FINISHED


def latest_of(row: RunRow, attempts: list[Attempt]) -> Attempt:
    """The latest attempt whose lines are in a run."""
    end = row.next_attempt
    mine = [a for a in attempts if end is None or a.ref.number < end]
    return mine[-1]


def _superseded(row: RunRow, attempt: Attempt) -> str:
    outcome = attempt.outcome.value if attempt.outcome else "ended"
    return f"attempt {attempt.ref.number} {outcome}; attempt {row.next_attempt} began anew"


def _summary(job: Job, attempt: Attempt, status: str) -> Mapping[str, float | str]:
    result = job.result or {}
    figures = {name: result[name] for name in _FIGURES if name in result}
    found: dict[str, float | str] = {"status": status, **figures}
    if job.error is not None:
        found["error_code"] = job.error.code
    if attempt.started_at is not None and attempt.ended_at is not None:
        found["duration_seconds"] = round(max(attempt.ended_at - attempt.started_at, 0.0), 3)
    return found
