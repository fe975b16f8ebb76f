"""What Lamini's clients are answered, as OpenAPI shows it, with examples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training_cluster.api.shape import Shape

Status = Literal[
    "CREATED",
    "SCHEDULED",
    "LOADING DATA",
    "TRAINING MODEL",
    "EVALUATING MODEL",
    "SAVING MODEL",
    "COMPLETED",
    "PARTIALLY COMPLETED",
    "FAILED",
    "CANCELLED",
]


class FieldError(Shape):
    """What is wrong with one field."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorView(Shape):
    """What went wrong: a sentence, or with 422 a list of what is wrong with which field."""

    detail: str | list[FieldError]


class BasePath(Shape):
    """Where data is sent."""

    upload_base_path: str


class Place(Shape):
    """Where one dataset is, or will be. `warnings` name what had no effect, here as everywhere."""

    dataset_id: str
    upload_base_path: str
    dataset_location: str
    num_datapoints: int | None = None
    warnings: list[str]


class Stored(Shape):
    """A dataset that has come. `name` is what the native API calls it."""

    dataset_id: str
    dataset_location: str
    num_datapoints: int | None
    name: str
    warnings: list[str]


class Counted(Shape):
    """How many rows a dataset has."""

    dataset_id: str
    num_datapoints: int
    warnings: list[str]


class Created(Shape):
    """A job that was taken; `warnings` name what cannot be honoured."""

    job_id: int
    status: Status
    dataset_id: str
    warnings: list[str]


class JobStatus(Shape):
    """A job. `model_name` is that of the tuned model, null until there is one; `history` is JSON
    in a text: what was measured at each step. `dataset_id` is what the client calls it."""

    job_id: int
    status: Status
    start_time: str = Field(description="UTC, ISO 8601 without a zone.")
    model_name: str | None
    custom_model_name: str | None
    base_model_name: str
    is_public: bool
    history: str
    resume_count: int
    dataset_id: str
    error: str | None
    warnings: list[str]


class Moved(Shape):
    """A job that was cancelled or goes on."""

    job_id: int
    status: Status
    message: str


class AllCancelled(Shape):
    """The jobs that were cancelled."""

    status: Status
    jobs: list[Moved]


class Output(Shape):
    """What one model has answered."""

    model_name: str
    output: str


class EvalResult(Shape):
    """One input and what the base model and the tuned one have answered."""

    input: str
    outputs: list[Output]


class Evaluation(Shape):
    """The answers of both models. While they are being written `status` is EVALUATING MODEL and
    there are no results yet; `eval_job_id` is the job that does it."""

    job_id: int
    status: Status
    eval_job_id: int
    eval_results: list[EvalResult]
    error: str | None


class DownloadedModel(Shape):
    """A base model that is here, or on its way. `model_id` is the number of the job that fetched
    it, null for one that was put here otherwise; everybody here may train on it."""

    model_id: int | None
    model_name: str
    model_type: str
    user_id: str | None
    is_public: bool
    creation_ts: str | None
    prev_download_ts: str | None
    prev_download_error: str | None
    download_attempts: int
    status: Literal["available", "downloading", "failed"]


class Downloading(Shape):
    """A base model that is here, or is being fetched by a job."""

    model_name: str
    model_type: str
    status: Literal["available", "downloading", "failed"]
    job_id: int | None
    error: str | None
    warnings: list[str]


class Endpoint(Shape):
    """A route of Lamini's that is here."""

    name: str
    path: str


class Version(Shape):
    """What is here: routes, this daemon's version, and that of the client it was tested with."""

    api: list[Endpoint]
    server: str
    client: str
