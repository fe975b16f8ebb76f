"""Lists the training jobs each time the test asks."""

from lamini.api.train import Train
from telling import hear, tell

train = Train()
tell("ready")
while hear()["look"]:
    tell("seen", jobs={job["job_id"]: job["status"] for job in train.get_jobs()})
