"""Lamini's route for evaluations: what the base model and the tuned one answer.

Lamini evaluates after every training; here it is a job that is queued when it is first asked for.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response

from training_cluster.api.auth import Submitter
from training_cluster.api.dialects.lamini import documents, examples, from_job, views
from training_cluster.api.dialects.lamini.own_jobs import until
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.domain.device import DeviceKind
from training_cluster.domain.errors import Forbidden, JobNotFound, ModelNotFound, WrongState
from training_cluster.domain.job import FINISHED, Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.services.evaluations import Evaluation
from training_cluster.services.model_jobs import Place

router = LateRouter(prefix="/v1/train/jobs", tags=["lamini"])

_SECONDS = 50.0  # proxies give up after a minute


@router.get(
    "/{job_id}/eval",
    summary="Have the base model and the tuned one answer",
    responses=documents.answers(
        views.Evaluation, examples.EVALUATION, JobNotFound, Forbidden, WrongState, ModelNotFound
    ),
)
async def evaluate(
    job_id: str,
    daemon: Daemon,
    caller: Submitter,
    wait: Annotated[
        float, Query(ge=0, le=_SECONDS, description="Ours: seconds to wait for the answers.")
    ] = _SECONDS,
) -> Response:
    """The first call queues an evaluation, and so does one after a failure. The answer comes when
    it is over, or after 50 seconds without results: ask again then."""
    job = (await daemon.jobs.get(job_id)).job
    model = await daemon.models.by_job(job.id)
    if model is None or not model.is_public:
        caller.require_ownership(job.user, f"job {job.number}")
    if job.state is not JobState.COMPLETED:
        raise WrongState(
            f"job {job.number} is {job.state}: there is no model to evaluate",
            hint="evaluate it once it has completed",
        )
    asked = await _asked(job, daemon, caller)
    asked = await until(daemon, asked.id, caller, wait, lambda each: each.state in FINISHED)
    found = await daemon.evaluations.result(asked)
    return answer(_content(job, found or Evaluation(asked, None)))


async def _asked(job: Job, daemon: Services, caller: Principal) -> Job:
    """The evaluation of a job's model that is there or on its way, else a new one. What somebody
    else has asked of a public model is that one's."""
    known = await daemon.evaluations.result(job)
    of_use = known is not None and known.job.state not in (JobState.FAILED, JobState.CANCELLED)
    if known is not None and of_use and caller.owns(known.job.user):
        return known.job
    return await daemon.evaluations.ask(job, by=caller, place=_place(daemon))


def _place(daemon: Services) -> Place:
    """On a GPU where there is one: a large model answers on a processor for hours."""
    devices = daemon.devices.latest.devices
    return Place(needs_device=any(device.kind is not DeviceKind.CPU for device in devices))


def _content(job: Job, found: Evaluation) -> dict[str, Any]:
    state = found.job.state
    over = from_job.STATUSES[state] if state in FINISHED else from_job.EVALUATING
    error = found.job.error
    return {
        "job_id": job.number,
        "status": over,
        "eval_job_id": found.job.number,
        "eval_results": found.answers or [],
        "error": None if error is None else f"{error.code}: {error.message}",
    }
