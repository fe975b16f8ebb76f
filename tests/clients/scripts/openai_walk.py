"""A fine-tuning script as people have them: upload, create, poll, events, results, cancel, errors.

Arguments: `model`, and `rows` and `held_out`, the content of two files; `native` goes into every
job, `endless` into the one that is cancelled. With `ends_here` the results are the end.
"""

import io
import time

import openai
from telling import ARGUMENTS, tell

client = openai.OpenAI()
model, native = ARGUMENTS["model"], ARGUMENTS["native"]


def body(**more):
    return {"training_cluster": {**native, **more}}


def refused(name, call):
    try:
        call()
    except openai.APIStatusError as error:
        tell(
            "refused",
            name=name,
            kind=type(error).__name__,
            status=error.status_code,
            code=error.code,
            param=error.param,
            message=error.message,
        )


training = client.files.create(
    file=("train.jsonl", ARGUMENTS["rows"].encode()), purpose="fine-tune"
)
tell("uploaded", file=training)
held_out = client.files.create(file=io.BytesIO(ARGUMENTS["held_out"].encode()), purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=model,
    training_file=training.id,
    validation_file=held_out.id,
    suffix="walk",
    seed=11,
    metadata={"script": "walk"},
    method={
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}},
    },
    extra_body=body(),
)
tell("created", job=job)
seen = [job.status]
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.05)
    job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != seen[-1]:
        seen.append(job.status)
tell("ended", job=job, statuses=seen)
tell("file", file=client.files.wait_for_processing(training.id))

events = list(client.fine_tuning.jobs.list_events(job.id, limit=4))
tell("events", ids=[event.id for event in events], messages=[event.message for event in events])
tell("metrics", data=[event.data for event in events if event.type == "metrics"])
checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
tell("checkpoints", steps=[each.step_number for each in checkpoints])
results = client.files.content(job.result_files[0])
tell("results", text=results.text)
tell("content", same=client.files.content(training.id).read() == ARGUMENTS["rows"].encode())
found = client.fine_tuning.jobs.list(metadata={"script": "walk"}, limit=1)
tell("found", ids=[each.id for each in found])

if ARGUMENTS.get("ends_here"):
    raise SystemExit

other = client.fine_tuning.jobs.create(
    model=model,
    training_file=training.id,
    hyperparameters={},
    extra_body=body(**ARGUMENTS["endless"]),
)
while other.status != "running":
    time.sleep(0.05)
    other = client.fine_tuning.jobs.retrieve(other.id)
tell("running", job=other)
paused = client.fine_tuning.jobs.pause(other.id)
tell("paused", status=paused.status)
tell("resumed", status=client.fine_tuning.jobs.resume(other.id).status)
cancelled = client.fine_tuning.jobs.cancel(other.id)
tell("cancelled", job=cancelled)

tuned = client.models.retrieve(job.fine_tuned_model)
tell("model", model=tuned, listed=tuned.id in [each.id for each in client.models.list()])

upload = client.uploads.upload_file_chunked(
    file=ARGUMENTS["rows"].encode(),
    filename="parts.jsonl",
    bytes=len(ARGUMENTS["rows"].encode()),
    mime_type="application/jsonl",
    purpose="fine-tune",
    part_size=400,
)
tell("parts", upload=upload)
tell("deleted", file=client.files.delete(upload.file.id))

create = client.fine_tuning.jobs.create
refused("cancel again", lambda: client.fine_tuning.jobs.cancel(other.id))
refused("no such job", lambda: client.fine_tuning.jobs.retrieve("ftjob-none"))
refused("no such file", lambda: create(model=model, training_file="file-none"))
refused("no such model", lambda: client.models.retrieve("ft:none"))
refused("bad model", lambda: create(model="../etc", training_file=training.id))
refused(
    "bad number",
    lambda: create(model=model, training_file=training.id, hyperparameters={"n_epochs": 0}),
)
refused("bad purpose", lambda: client.files.create(file=b"x", purpose="batch"))
tell("model deleted", model=client.models.delete(job.fine_tuned_model))
