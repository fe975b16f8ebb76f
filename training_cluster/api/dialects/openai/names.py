"""How OpenAI's clients name our jobs, files and models.

A fine-tuned model is `ft:<base>:<owner>:<name>:<number of its job>`: it is found by the number, and
the rest has to be right. A checkpoint's name goes on with `:ckpt-step-<step>`.
"""

from __future__ import annotations

import re

from training_cluster.domain.dialect import native_id, short_id
from training_cluster.domain.job import Job
from training_cluster.domain.model import Model

DIALECT = "openai"
JOB, FILE, RESULTS, UPLOAD, PART = "ftjob-", "file-", "file-results-", "upload-", "part-"
_STEP = re.compile(r":ckpt-step-(\d{1,12})\Z")
_TUNED = re.compile(r"ft:.*:([1-9]\d{0,17})(?::ckpt-step-\d+)?")


def job_id(native: str) -> str:
    """`ftjob-...` of a job's id."""
    return short_id(JOB, native)


def native_job(text: str) -> str:
    """The job's own id behind `ftjob-...`; ids and numbers of ours stay what they are."""
    return native_id(JOB, text)


def file_id(native: str) -> str:
    """`file-...` of a dataset's id."""
    return short_id(FILE, native)


def native_file(text: str) -> str:
    """The dataset's own id behind `file-...`; other names of datasets stay what they are."""
    return native_id(FILE, text)


def results_id(job: Job) -> str:
    """The file of what a job has measured."""
    return short_id(RESULTS, job.id)


def job_of_results(text: str) -> str | None:
    """The id of the job whose results a file is; None for a file that somebody uploaded."""
    found = native_id(RESULTS, text)
    return None if found == text else found


def training_file(job: Job) -> str:
    """What a job trains on, as it was named; a registered folder by its version."""
    asked = _said(job, "training_file")
    if asked is None and job.dataset_id is not None:
        asked = file_id(job.dataset_id)
    return asked or job.spec.dataset_version


def validation_file(job: Job) -> str | None:
    """What a job is held against, if a file was named."""
    return _said(job, "validation_file")


def base_model(job: Job) -> str:
    """What a job starts from, as it was named."""
    return _said(job, "model") or job.spec.model_name


def tuned_model(job: Job, step: int | None = None) -> str:
    """The name of the model a job makes, or of its checkpoint at a step."""
    label = job.spec.save_name or job.spec.lora_name
    name = _tuned(job.spec.model_name, job.user, label, job.number)
    return name if step is None else f"{name}:ckpt-step-{step}"


def registered_model(model: Model) -> str:
    """The same name of a model that is in the registry."""
    label = model.config.get("save_name") or model.config.get("lora_name")
    base = str(model.config.get("model_name", model.base_model))
    return _tuned(base, model.user, label, model.job_number)


def _tuned(base: str, owner: str, label: object, number: int) -> str:
    parts = (base.rstrip("/").rpartition("/")[2], owner, str(label or ""))
    return ":".join(["ft", *(part.replace(":", "-") for part in parts), str(number)])


def is_name_of(text: str, job: Job, model: Model | None) -> bool:
    """Whether a name means this model of a job, or a checkpoint of the job: all of it counts, so
    that a slip of the pen means no other model."""
    known = {tuned_model(job), registered_model(model) if model else None}
    return _STEP.sub("", text) in known


def job_of_model(text: str) -> int | None:
    """The number of the job that made a model with such a name; None for other names."""
    found = _TUNED.fullmatch(text)
    return int(found[1]) if found else None


def step_of_model(text: str) -> int | None:
    """The step of the checkpoint that a name means; None where it means a model."""
    found = _STEP.search(text)
    return int(found[1]) if found and job_of_model(text) is not None else None


def _said(job: Job, name: str) -> str | None:
    if job.request is None or job.request.dialect != DIALECT:
        return None
    value = job.request.data.get(name)
    return value if isinstance(value, str) else None
