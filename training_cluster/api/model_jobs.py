"""The native API's jobs of other kinds: export a model, evaluate it, read the answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response
from pydantic import Field, StringConstraints

from training_cluster.api import examples, render
from training_cluster.api.auth import Caller, Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.models import ModelKey
from training_cluster.api.schemas import Label
from training_cluster.api.services import Daemon, answer
from training_cluster.api.shape import Shape
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.api.views import SubmittedView
from training_cluster.domain.errors import (
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    Pruned,
    StorageFull,
    TooManyJobs,
)
from training_cluster.domain.job import JobState
from training_cluster.services.model_jobs import Place

router = LateRouter(route_class=StrictJsonRoute, tags=["models"])

_MONTH = 30 * 86400
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=8192)]


class TaskRequest(Strict):
    """Where the job runs."""

    needs_device: bool = Field(
        False, description="Lease a device; by default it runs beside them, on the processor."
    )
    min_gpu_memory: float | None = Field(
        None, gt=0, le=4096, description="GiB the device must have in total."
    )
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first.")
    max_seconds: float | None = Field(None, gt=0, le=_MONTH)

    def place(self) -> Place:
        """The domain's form."""
        return Place(
            needs_device=self.needs_device,
            min_gpu_memory=self.min_gpu_memory,
            priority=self.priority,
            max_seconds=self.max_seconds,
        )


class ExportRequest(TaskRequest):
    """How a model is exported; nothing need be said."""

    name: Label | None = Field(
        None, description="What the merged model is called; by default the model's name, `-merged`."
    )


class EvaluateRequest(TaskRequest):
    """What a model is asked; nothing need be said."""

    prompts: list[Prompt] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="By default the first rows of the dataset's validation file, or of it.",
    )
    samples: int = Field(20, ge=1, le=200, description="So many rows, where there are no prompts.")
    max_new_tokens: int = Field(128, ge=1, le=4096, description="An answer is cut at.")


class OutputView(Shape):
    """What one model said."""

    model_name: str
    output: str


class AnswerView(Shape):
    """A prompt and what each model said to it, the base model first."""

    input: str
    outputs: list[OutputView]


class EvaluationView(Shape):
    """An evaluation; `answers` is null until its job has completed, the rest too where nobody has
    asked for one."""

    job_id: str | None
    status: JobState | None
    answers: list[AnswerView] | None


_EVALUATION: dict[str, Any] = {
    "job_id": examples.JOB_ID,
    "status": "completed",
    "answers": [
        {
            "input": "Who are you?",
            "outputs": [
                {"model_name": "Qwen/Qwen2.5-1.5B-Instruct", "output": "I am Qwen."},
                {"model_name": "initial-sft@v2", "output": "I am the lab's assistant."},
            ],
        }
    ],
}
_EXPORTS: dict[str, Any] = {
    "on the processor": {"value": {}},
    "on a device": {"value": {"needs_device": True, "name": "chat-whole"}},
}
_QUESTIONS: dict[str, Any] = {
    "rows of its dataset": {"value": {"samples": 5}},
    "own prompts": {"value": {"prompts": ["Who are you?"], "max_new_tokens": 32}},
}
_ERRORS = (ModelNotFound, Pruned, InvalidRequest, TooManyJobs, StorageFull)


@router.post(
    "/models/{key}/export",
    summary="Merge a LoRA adapter into its base model",
    responses=shown(SubmittedView, examples.QUEUED, *_ERRORS),
)
async def export_model(
    key: ModelKey,
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[ExportRequest | None, Body(openapi_examples=_EXPORTS)] = None,
) -> Response:
    """A queued job of the kind `export`; what it leaves is registered as a model of the kind
    `merged`, whose `parent_id` is this one."""
    asked = body or ExportRequest()
    made = await daemon.model_jobs.export(key, caller, name=asked.name, place=asked.place())
    return answer(render.submitted(made))


@router.post(
    "/models/{key}/evaluate",
    summary="Have a model and its base answer prompts",
    responses=shown(SubmittedView, examples.QUEUED, *_ERRORS),
)
async def evaluate_model(
    key: ModelKey,
    daemon: Daemon,
    caller: Submitter,
    body: Annotated[EvaluateRequest | None, Body(openapi_examples=_QUESTIONS)] = None,
) -> Response:
    """A queued job of the kind `evaluate`; `GET /train/{job_id}/evaluation` has the answers."""
    asked = body or EvaluateRequest()
    made = await daemon.model_jobs.evaluate(
        key,
        caller,
        prompts=asked.prompts,
        samples=asked.samples,
        max_new_tokens=asked.max_new_tokens,
        place=asked.place(),
    )
    return answer(render.submitted(made))


@router.get(
    "/train/{job_id}/evaluation",
    summary="Read what models answered",
    responses=shown(EvaluationView, _EVALUATION, JobNotFound),
)
async def get_evaluation(job_id: str, daemon: Daemon, caller: Caller) -> Response:
    """Of an evaluation job its own answers, of a training job the latest evaluation of the model it
    left. For its owner and admins."""
    job = (await daemon.jobs.get(job_id)).job
    caller.require_ownership(job.user, f"job {job.number}")
    found = await daemon.evaluations.result(job)
    if found is None:
        return answer({"job_id": None, "status": None, "answers": None})
    caller.require_ownership(found.job.user, f"job {found.job.number}")
    view = {"job_id": found.job.id, "status": found.job.state.value, "answers": found.answers}
    return answer(view)
