"""A fine-tuning job's events and checkpoints for OpenAI's clients."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response

from training_cluster.api.auth import Caller
from training_cluster.api.dialects.openai import events, metrics, names, views
from training_cluster.api.dialects.openai.views import answers
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, answer
from training_cluster.domain.errors import FieldProblem, InvalidRequest, JobNotFound
from training_cluster.domain.job import Job
from training_cluster.services.saved_checkpoints import SavedCheckpoint

router = LateRouter(prefix="/v1/fine_tuning/jobs", tags=["openai"])

JobId = Annotated[str, Path(max_length=64, description="`ftjob-...`, or a native id or number.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most 500 come at once.")]
After = Annotated[str | None, Query(max_length=128, description="The last id of a page.")]
_MOST = 500


@router.get(
    "/{fine_tuning_job_id}/events",
    summary="What has happened to a job, newest first",
    responses=answers(views.JobEventList, views.listed(views.EVENT), JobNotFound),
)
async def list_events(
    fine_tuning_job_id: JobId,
    daemon: Daemon,
    caller: Caller,
    after: After = None,
    limit: Limit = 20,
) -> Response:
    """Messages, and the metrics of each step that was logged. What a job said when it failed is
    for its owner."""
    job = await daemon.history.job(names.native_job(fine_tuning_job_id))
    start, most = events.cursor(after), min(limit, _MOST)
    moments = await daemon.timeline.before(job, start.place, events.TELLERS, most + 2, caller)
    return answer(events.page(job, moments, start, most))


@router.get(
    "/{fine_tuning_job_id}/checkpoints",
    summary="The checkpoints of a job, the furthest first",
    responses=answers(
        views.CheckpointList,
        {**views.listed(views.CHECKPOINT), "first_id": None, "last_id": None},
        JobNotFound,
    ),
)
async def list_checkpoints(
    fine_tuning_job_id: JobId,
    daemon: Daemon,
    _: Caller,
    after: After = None,
    limit: Limit = 10,
) -> Response:
    """Those that are on the disk, complete, with what had been measured by then."""
    job, saved = await daemon.checkpoints.of(names.native_job(fine_tuning_job_id))
    data = [_checkpoint(job, each) for each in saved]
    if after is not None:
        data = _behind(data, after)
    most = min(limit, _MOST)
    shown = data[:most]
    return answer(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(data) > most,
        }
    )


def _checkpoint(job: Job, saved: SavedCheckpoint) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{job.id.replace('-', '')}-{saved.attempt}-{saved.step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(saved.saved_at),
        "fine_tuned_model_checkpoint": names.tuned_model(job, saved.step),
        "fine_tuning_job_id": names.job_id(job.id),
        "metrics": metrics.of_checkpoint(saved.step, saved.values),
        "step_number": saved.step,
    }


def _behind(data: list[dict[str, Any]], after: str) -> list[dict[str, Any]]:
    """What comes after a checkpoint, also when that one has gone meanwhile."""
    step = after.rpartition("-")[2]
    if not (after.startswith("ftckpt-") and step.isascii() and step.isdigit()):
        problem = FieldProblem("after", "not the id of a checkpoint", "an id of an earlier page")
        raise InvalidRequest(f"{after[:64]!r} is no id of a checkpoint", problems=(problem,))
    return [each for each in data if each["step_number"] < int(step)]
