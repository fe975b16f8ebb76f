"""The answers of the Vertesia dialect, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from training_cluster.api.problems import STATUS
from training_cluster.api.shape import Shape
from training_cluster.domain.errors import (
    AccessDenied,
    Forbidden,
    InvalidRequest,
    TooManyFailures,
    TrainingClusterError,
)
from training_cluster.domain.interaction import InteractionStatus
from training_cluster.domain.training_session import SessionStatus

JobStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class ErrorView(Shape):
    """What went wrong: the kind, the HTTP status again, and what to do about it."""

    error: str
    status: int
    message: str


class EnvironmentView(Shape):
    """Where trainings run."""

    id: str
    name: str
    provider: str


class JobView(Shape):
    """A training. `details` says why it waits or failed, `model` is what it has made."""

    id: str
    status: JobStatus
    created_at: str
    updated_at: str
    details: str | None
    model: str | None
    warnings: list[str]


NoJob = Annotated[dict[str, Any], Field(max_length=0, description="Nothing was started yet.")]


class SessionRefView(Shape):
    """A session as lists show it."""

    id: str
    project: str
    name: str
    env: EnvironmentView
    model: str
    status: SessionStatus
    dataset: str | None
    job: JobView | NoJob
    created_by: str
    updated_by: str
    created_at: str
    updated_at: str
    warnings: list[str]


class SessionView(SessionRefView):
    """A session with the ids of its runs."""

    runs: list[str]


class NameView(Shape):
    """What a session is called."""

    id: str
    name: str


class OkView(Shape):
    """It is done."""

    ok: bool


class BuiltView(Shape):
    """The dataset that was made: where it can be fetched, what it is called here, and how many
    runs are not in it because they had no answer."""

    dataset: str
    name: str
    skipped: int


class ChosenView(Shape):
    """The dataset a session trains on: where it can be fetched, else its name."""

    dataset: str
    name: str


class UrlView(Shape):
    """An address with a signature: good for a while, for whoever has it."""

    url: str


class RunRefView(Shape):
    """A run as lists show it."""

    id: str
    interaction: dict[str, Any]
    environment: EnvironmentView
    modelId: str | None
    ttl: float
    status: InteractionStatus
    token_use: dict[str, Any]
    execution_time: float
    created_at: str
    updated_at: str
    account: dict[str, Any]
    project: dict[str, Any]
    config: dict[str, Any]
    source: dict[str, Any]
    created_by: str
    updated_by: str
    tags: list[str]


class RunView(RunRefView):
    """A run with what was asked and what was answered."""

    prompt: list[dict[str, Any]]
    parameters: Any = None
    result: list[dict[str, Any]]
    warnings: list[str]


SESSION_ID = "0199a0b4-8a10-7c3a-9f7e-52a1c7be0d11"
RUN_ID = "0199a0b4-8b20-7d11-8e02-0c4b7a5d3e17"
JOB_ID = "0199a0b4-9c30-7e22-9a13-1d5c8b6e4f28"
_AT = "2026-11-20T14:12:34.567Z"
ENVIRONMENT = {"id": "local", "name": "this machine", "provider": "training-cluster"}
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "status": "running",
    "created_at": _AT,
    "updated_at": _AT,
    "details": "step 120 of 300",
    "model": None,
    "warnings": [],
}
SESSION_REF: dict[str, Any] = {
    "id": SESSION_ID,
    "project": "training-cluster",
    "name": "support answers",
    "env": ENVIRONMENT,
    "model": "Qwen/Qwen2.5-1.5B-Instruct",
    "status": "created",
    "dataset": None,
    "job": {},
    "created_by": "user:alice",
    "updated_by": "user:alice",
    "created_at": _AT,
    "updated_at": _AT,
    "warnings": [],
}
SESSION = {**SESSION_REF, "runs": [RUN_ID]}
RUN_REF = {
    "id": RUN_ID,
    "interaction": {
        "id": "Classify",
        "name": "Classify",
        "description": "",
        "status": "published",
        "version": 1,
    },
    "environment": ENVIRONMENT,
    "modelId": "Qwen/Qwen2.5-1.5B-Instruct",
    "ttl": 0,
    "status": "completed",
    "token_use": {"prompt": 10, "completion": 2},
    "execution_time": 0.5,
    "created_at": _AT,
    "updated_at": _AT,
    "account": {"id": "training-cluster", "name": "training-cluster"},
    "project": {
        "id": "training-cluster",
        "name": "training-cluster",
        "account": "training-cluster",
    },
    "config": {},
    "source": {
        "type": "api",
        "label": "API Request",
        "principal_type": "user",
        "principal_id": "alice",
        "client_ip": "127.0.0.1",
    },
    "created_by": "user:alice",
    "updated_by": "user:alice",
    "tags": [],
}
RUN = {
    **RUN_REF,
    "prompt": [{"role": "user", "content": "Is this refund request urgent? ..."}],
    "parameters": None,
    "result": [{"type": "text", "value": "urgent"}],
    "warnings": [],
}
_SIGNED = "expires=1795231800&user=alice&token=&signature=5b0c..."
_DATASET_ID = "0199a0b4-61c2-7d10-8a6b-0b5a4f1e9c77"
_CONTENT = f"http://gpubox.lab.example:23478/datasets/{_DATASET_ID}/content?{_SIGNED}"
BUILT = {"dataset": _CONTENT, "name": "support-answers@v1.0", "skipped": 0}
CHOSEN = {"dataset": _CONTENT, "name": "support-answers@v1.0"}
DOWNLOAD = {"url": _CONTENT}
UPLOAD = {"url": f"http://gpubox.lab.example:23478/uploads/{_DATASET_ID}?{_SIGNED}"}
SESSION_REQUEST = {
    "name": "support answers",
    "env": "local",
    "model": "Qwen/Qwen2.5-1.5B-Instruct",
}
RUN_REQUEST = {
    "interaction": "Classify",
    "messages": [{"role": "user", "content": "Is this refund request urgent? ..."}],
    "output": "urgent",
    "model": "Qwen/Qwen2.5-1.5B-Instruct",
    "token_use": {"prompt": 10, "completion": 2},
    "execution_time": 0.5,
}


def errors(*kinds: type[TrainingClusterError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for the errors a route can answer, in the words of this dialect."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = next(status for base, status in STATUS if issubclass(kind, base))
        title = (kind.__doc__ or "").strip().splitlines()[0]
        example = {"error": title, "status": status, "message": title}
        content = {"application/json": {"example": example}}
        found[status] = {"description": title, "model": ErrorView, "content": content}
    return found


# what any route may answer
ANYWHERE = errors(AccessDenied, Forbidden, InvalidRequest, TooManyFailures)


def shown(view: Any, example: Any, *kinds: type[TrainingClusterError]) -> dict[Any, Any]:
    """A route's `responses`: its answer with an example, and the errors it can give."""
    answer = {"model": view, "content": {"application/json": {"example": example}}}
    return {200: answer, **errors(*kinds)}
