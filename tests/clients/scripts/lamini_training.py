"""A training by Lamini's own class: data, train, status until it is over, list, cancel, errors.

The second training is as long as one likes: the test says when it may be cancelled and resumed.
"""

import json
import time
from importlib.metadata import version

import lamini
from lamini.api.train import Train
from telling import ARGUMENTS, hear, tell

NEW = version("lamini") > "3"
OVER = ("COMPLETED", "PARTIALLY COMPLETED", "FAILED", "CANCELLED")


def refused(step, ask):
    """What a client raises where the daemon refuses."""
    try:
        found = ask()
    except Exception as error:
        tell(step, error=type(error).__name__, said=str(error))
    else:
        tell(step, error=None, said=found)


def trained(llm, steps, **more):
    """The data and its training, as this version of the client says it."""
    arguments = {**ARGUMENTS["finetune_args"], "max_steps": steps}
    if NEW:
        more = {"gpu_config": {"gpus": 1, "nodes": 1}, **more}
    return llm.train(ARGUMENTS["rows"], finetune_args=arguments, is_public=False, **more)


def awaited(llm, job):
    """Each status of a job once, in the order in which it was seen."""
    seen = []
    while True:
        status = llm.check_job_status(job["job_id"])
        if status["status"] not in seen:
            seen.append(status["status"])
        if status["status"] in OVER:
            return status, seen
        time.sleep(0.02)


llm = lamini.Lamini(model_name=ARGUMENTS["model"])
job = trained(llm, ARGUMENTS["steps"], **({"custom_model_name": "faq bot"} if NEW else {}))
tell("submitted", job=job, place=llm.upload_file_path)
status, seen = awaited(llm, job)
tell("over", status=status, seen=seen, history=json.loads(status["history"]))

while (answer := llm.evaluate(job["job_id"]))["status"] == "EVALUATING MODEL":
    pass  # it has waited for long and asks again
tell("evaluated", answer=answer)

arguments = {**ARGUMENTS["finetune_args"], "max_steps": 1_000_000}
known = {"data_or_dataset_id" if NEW else "dataset_id": job["dataset_id"]}
again = llm.train(**known, finetune_args=arguments)
tell("again", job=again)
hear()
refused("no model yet", lambda: llm.evaluate(again["job_id"]))
tell("cancelled", answer=llm.cancel_job(again["job_id"]))
if NEW:
    tell("resumed", answer=llm.resume_job(again["job_id"]))
    hear()
    tell("went on", status=llm.check_job_status(again["job_id"]))
tell("all cancelled", answer=llm.cancel_all_jobs())
status, seen = awaited(llm, again)
tell("stopped", status=status, seen=seen)
tell("listed", jobs=llm.get_jobs())

refused("no such job", lambda: llm.check_job_status(999_999))
refused("no such model", lambda: trained(lamini.Lamini(model_name="/nowhere/at/all"), 1))
refused("wrong argument", lambda: trained(llm, "many"))
refused("over already", lambda: llm.cancel_job(job["job_id"]))
refused("no token", lambda: Train(api_key="tq_no_such_token").get_jobs())
if NEW:
    from lamini.api.versions import APIVersion

    known = APIVersion().features_to_api_versions
    features = {name: sorted(versions) for name, versions in known.items()}
    tell("version", version=llm.version(), features=features)
refused("not here", lambda: llm.generate("What is for lunch?"))
