"""Holds what the daemon answers against the types of OpenAI's own package, strictly: each kind of
answer at each moment of several jobs, and the words its requests have.

Arguments: `model`, `rows`, `preferences` and `unusable`, the content of files, and `native`.
"""

import time

import openai
import pydantic
from openai.types import fine_tuning, upload_create_params
from openai.types.fine_tuning import job_create_params, job_list_params
from telling import ARGUMENTS, tell

client = openai.OpenAI()
jobs, files = client.fine_tuning.jobs, client.files
model, native = ARGUMENTS["model"], {"training_cluster": ARGUMENTS["native"]}
FINAL = ("succeeded", "failed", "cancelled")


def held(call, *arguments, **named):
    """The answer, once what it says on the wire was held against its type."""
    response = call(*arguments, **named)
    parsed, said = response.parse(), response.http_response.json()
    is_page = said["object"] == "list"
    items, kinds = ([said], [type(parsed)])
    if is_page:
        items, kinds = said["data"], [type(each) for each in parsed.data]
    for item, kind in zip(items, kinds, strict=True):
        missing = sorted(kind.model_fields.keys() - item.keys())
        for name in ("error", "hyperparameters"):
            part = getattr(parsed, name, None)
            if isinstance(part, openai.BaseModel) and type(item[name]) is dict:
                missing += sorted(type(part).model_fields.keys() - item[name].keys())
        try:
            kind.model_validate(item, strict=True)
            problem = None
        except pydantic.ValidationError as error:
            problem = str(error)
        tell("held", kind=kind.__name__, status=item.get("status"), missing=missing, flaw=problem)
    return parsed


def upload(name, content):
    return held(files.with_raw_response.create, file=(name, content.encode()), purpose="fine-tune")


def create(file, **fields):
    made = jobs.with_raw_response.create
    return held(made, model=model, training_file=file.id, extra_body=native, **fields)


def until(job, *statuses):
    while job.status not in statuses:
        time.sleep(0.05)
        job = held(jobs.with_raw_response.retrieve, job.id)
    return job


rows = upload("train.jsonl", ARGUMENTS["rows"])
preferences = upload("pairs.jsonl", ARGUMENTS["preferences"])
unusable = upload("none.jsonl", ARGUMENTS["unusable"])
wandb = {"project": "p", "name": "n", "entity": None, "tags": ["t"]}
whole = create(
    rows,
    validation_file=rows.id,
    suffix="typed",
    seed=3,
    metadata={"a": "b"},
    integrations=[{"type": "wandb", "wandb": wandb}],
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
)
paired = create(preferences, method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}})
failing = create(unusable)
whole, paired, failing = (until(job, *FINAL) for job in (whole, paired, failing))
native = {"training_cluster": {**ARGUMENTS["native"], **ARGUMENTS["endless"]}}
long = until(create(rows, hyperparameters={}), "running")
held(jobs.with_raw_response.pause, long.id)
held(jobs.with_raw_response.resume, long.id)
held(jobs.with_raw_response.cancel, long.id)
held(jobs.with_raw_response.list)
for job in (whole, paired, failing, long):
    held(jobs.with_raw_response.list_events, job.id, limit=100)
    held(jobs.checkpoints.with_raw_response.list, job.id)
held(files.with_raw_response.list)
held(files.with_raw_response.list, purpose="fine-tune-results")
held(files.with_raw_response.retrieve, whole.result_files[0])
spare = upload("spare.jsonl", ARGUMENTS["rows"])
held(files.with_raw_response.delete, spare.id)
held(client.models.with_raw_response.list)
held(client.models.with_raw_response.retrieve, whole.fine_tuned_model)
held(client.models.with_raw_response.delete, whole.fine_tuned_model)
part = {"filename": "x.jsonl", "bytes": 1, "mime_type": "text/jsonl", "purpose": "fine-tune"}
pending = held(client.uploads.with_raw_response.create, **part)
held(client.uploads.parts.with_raw_response.create, pending.id, data=b"x")
held(client.uploads.with_raw_response.cancel, pending.id)

tell("ended", statuses=[job.status for job in (whole, paired, failing)])
tell(
    "words",
    create=sorted(job_create_params.JobCreateParams.__annotations__),
    list=sorted(job_list_params.JobListParams.__annotations__),
    upload=sorted(upload_create_params.UploadCreateParams.__annotations__),
    supervised=sorted(fine_tuning.SupervisedHyperparameters.model_fields),
    dpo=sorted(fine_tuning.DpoHyperparameters.model_fields),
    wandb=sorted(job_create_params.IntegrationWandb.__annotations__),
)
