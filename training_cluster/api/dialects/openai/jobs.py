"""Fine-tuning jobs for OpenAI's clients: create, list, look, cancel, pause, resume."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Header, Path, Query, Request, Response

from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.dialects import waiting
from training_cluster.api.dialects.openai import from_job, models, names, views
from training_cluster.api.dialects.openai.requests import CreateJob
from training_cluster.api.dialects.openai.to_spec import in_their_words, to_spec
from training_cluster.api.dialects.openai.views import answers
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.services import Daemon, Services, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.domain.dataset import DatasetState, DatasetVersion
from training_cluster.domain.dataset_errors import DatasetNotFound
from training_cluster.domain.errors import (
    FieldProblem,
    InvalidRequest,
    JobAlreadyFinished,
    JobNotFound,
    ModelNotFound,
    StorageFull,
    StoreUnavailable,
    TooManyJobs,
    WrongState,
)
from training_cluster.domain.job import ACTIVE, FINISHED, Job, JobState
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import TRAIN
from training_cluster.services import starting_checkpoints
from training_cluster.services.jobs import LAST, Overview, Submission
from training_cluster.services.paired_datasets import paired

router = LateRouter(prefix="/v1/fine_tuning/jobs", route_class=StrictJsonRoute, tags=["openai"])

JobId = Annotated[str, Path(max_length=64, description="`ftjob-...`, or a native id or number.")]
_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
_MOST = 200
_STOP_SECONDS = 30.0  # an SDK waits ten minutes by default
_DEEP: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "required": False,
            "description": "`metadata[key]=value`: only jobs with these words; `metadata=null`: "
            "only jobs without any.",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}


@router.post(
    "",
    summary="Create a fine-tuning job",
    responses=answers(views.JobView, views.WAITING, TooManyJobs, StorageFull, StoreUnavailable),
)
async def create_job(
    body: Annotated[CreateJob, Body(openapi_examples=views.REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """When the answer arrives the job is durable. What of the request has no effect is told by
    events of the level `warn`."""
    jobs = daemon.jobs
    model = await _model(body.model, daemon)
    asked = await asyncio.to_thread(to_spec, body, model, jobs.settings, jobs.trackers)
    submission = Submission(
        spec=asked.spec,
        user=caller.name,
        warnings=asked.warnings,
        idempotency_key=idempotency_key,
        request=asked.request,
        is_admin=caller.is_admin,
    )
    try:
        if body.validation_file is not None:
            pair = await _pair(body, body.validation_file, daemon, caller)
            submission = replace(submission, spec=replace(asked.spec, dataset_version=pair))
        overview = await jobs.submit(submission)
    except InvalidRequest as error:
        in_their_words(error)
        raise
    return answer(await _view(overview, daemon, caller))


async def _model(name: str, daemon: Services) -> str:
    """The native name of a model; those of OpenAI's form are in the registry, or checkpoints."""
    if names.job_of_model(name) is None:
        return name
    try:
        if names.step_of_model(name) is not None:
            job, saved = await models.checkpoint(name, daemon)
            return starting_checkpoints.key(job, saved.step)
        return (await models.find(name, daemon)).key
    except ModelNotFound as error:
        problem = FieldProblem("model", error.message, "a model of GET /v1/models")
        raise InvalidRequest(error.message, problems=(problem,)) from None


async def _pair(body: CreateJob, validation_file: str, daemon: Services, caller: Principal) -> str:
    """The dataset that holds one file against the other."""
    found: list[DatasetVersion] = []
    for field, key in (("training_file", body.training_file), ("validation_file", validation_file)):
        try:
            found.append(await daemon.datasets.get(names.native_file(key)))
        except DatasetNotFound:
            message = f"there is no uploaded file {key[:64]!r}"
            problem = FieldProblem(field, message, "the id of a file of POST /v1/files")
            raise InvalidRequest(message, problems=(problem,)) from None
    training, validation = found
    return (await paired(daemon.datasets, training, validation, names.DIALECT, caller)).id


@router.get(
    "",
    summary="List fine-tuning jobs, newest first",
    responses=answers(views.JobList, views.listed(views.JOB)),
    openapi_extra=_DEEP,
)
async def list_jobs(
    request: Request,
    daemon: Daemon,
    caller: Caller,
    after: Annotated[str | None, Query(max_length=64, description="A job's id.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most 200 come at once.")] = 20,
) -> Response:
    """The trainings of all, whichever API they came by; jobs of other kinds are none of these."""
    most, before = min(limit, _MOST), LAST
    if after is not None:
        before = await _place(after, daemon)
    words = _metadata(request)
    found = await daemon.jobs.page(kind=TRAIN, limit=most + 1, before=before, metadata=words)
    data = [await _listed(job, daemon, caller) for job in found[:most]]
    return answer({"object": "list", "data": data, "has_more": len(found) > most})


async def _place(after: str, daemon: Services) -> int:
    try:
        return (await daemon.history.job(names.native_job(after))).number
    except JobNotFound:
        problem = FieldProblem("after", "not the id of a job", "the last id of an earlier page")
        raise InvalidRequest(f"{after[:64]!r} is no id of a job", problems=(problem,)) from None


def _metadata(request: Request) -> dict[str, str] | None:
    """The words to look for; none at all means jobs without any, None all jobs."""
    found = ((_METADATA.fullmatch(key), value) for key, value in request.query_params.items())
    words = {match[1]: value for match, value in found if match is not None}
    return words or ({} if request.query_params.get("metadata") == "null" else None)


@router.get(
    "/{fine_tuning_job_id}",
    summary="Look at a fine-tuning job",
    responses=answers(views.JobView, views.JOB, JobNotFound),
)
async def get_job(fine_tuning_job_id: JobId, daemon: Daemon, caller: Caller) -> Response:
    """Also one that came by another API."""
    overview = await daemon.jobs.get(names.native_job(fine_tuning_job_id))
    return answer(await _view(overview, daemon, caller))


@router.post(
    "/{fine_tuning_job_id}/cancel",
    summary="Cancel a fine-tuning job",
    responses=answers(
        views.JobView, {**views.WAITING, "status": "cancelled"}, JobNotFound, JobAlreadyFinished
    ),
)
async def cancel_job(fine_tuning_job_id: JobId, daemon: Daemon, caller: Submitter) -> Response:
    """Answers once its trainer has ended, or after 30 seconds with the job as it is then."""
    job = await daemon.jobs.cancel(names.native_job(fine_tuning_job_id), caller)
    return await _at_rest(job, daemon, caller)


@router.post(
    "/{fine_tuning_job_id}/pause",
    summary="Pause a fine-tuning job",
    responses=answers(
        views.JobView,
        {**views.WAITING, "status": "paused"},
        *(JobNotFound, JobAlreadyFinished, WrongState),
    ),
)
async def pause_job(fine_tuning_job_id: JobId, daemon: Daemon, caller: Submitter) -> Response:
    """It saves and gives its devices back. Answers once it has, or after 30 seconds."""
    done = await daemon.jobs.pause(names.native_job(fine_tuning_job_id), caller)
    return await _at_rest(done.job, daemon, caller)


@router.post(
    "/{fine_tuning_job_id}/resume",
    summary="Resume a fine-tuning job",
    responses=answers(views.JobView, views.WAITING, JobNotFound, WrongState),
)
async def resume_job(fine_tuning_job_id: JobId, daemon: Daemon, caller: Submitter) -> Response:
    """It goes on from its last checkpoint once devices are free."""
    done = await daemon.jobs.resume(names.native_job(fine_tuning_job_id), caller)
    return answer(await _view(await daemon.jobs.get(done.job.id), daemon, caller))


async def _at_rest(job: Job, daemon: Services, caller: Principal) -> Response:
    rest = FINISHED | {JobState.PAUSED}
    job = await waiting.until(daemon, job, rest, _STOP_SECONDS, caller)
    return answer(await _view(await daemon.jobs.get(job.id), daemon, caller))


async def _listed(job: Job, daemon: Services, caller: Principal) -> dict[str, Any]:
    """Only of what runs the end has to be looked up."""
    if job.state in ACTIVE:
        return await _view(await daemon.jobs.get(job.id), daemon, caller)
    return from_job.body(job, caller, checking=await _is_checking(job, daemon))


async def _view(overview: Overview, daemon: Services, caller: Principal) -> dict[str, Any]:
    return from_job.body(
        overview.job,
        caller,
        checking=await _is_checking(overview.job, daemon),
        estimated_finish=overview.estimated_finish,
    )


async def _is_checking(job: Job, daemon: Services) -> bool:
    """Whether a job waits for the check of its file."""
    if job.state is not JobState.QUEUED or job.dataset_id is None:
        return False
    try:
        file = await daemon.datasets.get(job.dataset_id)
    except DatasetNotFound:
        return False
    return file.state is DatasetState.CHECKING
