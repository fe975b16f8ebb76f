"""A fine-tuning by litellm: upload, create, poll, list, cancel another, what is refused.

Arguments: `model`, `rows`, `endless`.
"""

import time
from pathlib import Path

import litellm
from telling import ARGUMENTS, tell

OPENAI = {"custom_llm_provider": "openai"}
Path("train.jsonl").write_text(ARGUMENTS["rows"])
with open("train.jsonl", "rb") as file:
    uploaded = litellm.create_file(file=file, purpose="fine-tune", **OPENAI)
tell("uploaded", file=uploaded)
job = litellm.create_fine_tuning_job(
    model=ARGUMENTS["model"],
    training_file=uploaded.id,
    hyperparameters={"n_epochs": 1},
    suffix="light",
    **OPENAI,
)
tell("created", job=job)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.1)
    job = litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **OPENAI)
tell("ended", job=job)
page = litellm.list_fine_tuning_jobs(limit=1, **OPENAI)
tell("listed", ids=[each.id for each in page.data])
results = litellm.file_content(file_id=job.result_files[0], **OPENAI)
tell("results", text=results.text)
other = litellm.create_fine_tuning_job(
    model=ARGUMENTS["model"],
    training_file=uploaded.id,
    extra_body={"training_cluster": ARGUMENTS["endless"]},
    **OPENAI,
)
tell("cancelled", job=litellm.cancel_fine_tuning_job(fine_tuning_job_id=other.id, **OPENAI))
try:
    litellm.create_fine_tuning_job(model=ARGUMENTS["model"], training_file="file-none", **OPENAI)
except Exception as error:
    tell("refused", kind=type(error).__name__, message=str(error))
with open("train.jsonl", "rb") as file:
    unused = litellm.create_file(file=file, purpose="fine-tune", **OPENAI)
tell("deleted", file=litellm.file_delete(file_id=unused.id, **OPENAI))
