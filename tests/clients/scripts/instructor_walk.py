"""A fine-tuning by Instructor's command: `instructor jobs create-from-file`, which then watches.

Arguments: `model`, `rows`.
"""

import subprocess
import sys
import time
from pathlib import Path

from instructor.cli.jobs import client, get_file_status, get_jobs
from telling import ARGUMENTS, tell

COMMAND = [sys.executable, "-m", "instructor.cli.jobs"]
Path("train.jsonl").write_text(ARGUMENTS["rows"])
before = {job.id for job in get_jobs(50)}
words = ["create-from-file", "train.jsonl", "--model", ARGUMENTS["model"], "--n-epochs", "1"]
with open("watched", "w") as watched:
    watching = subprocess.Popen(
        [*COMMAND, *words, "--model-suffix", "instructed"], stdout=watched, stderr=watched
    )
try:
    made = []
    while not made:
        assert watching.poll() is None, Path("watched").read_text()
        time.sleep(0.1)
        made = [job for job in get_jobs(50) if job.id not in before]
    job = made[0]
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    while job.id not in "".join(Path("watched").read_text().split()):  # lines are wrapped
        assert watching.poll() is None, Path("watched").read_text()
        time.sleep(0.2)
finally:
    watching.kill()
    watching.wait()
tell("ended", job=job, file=get_file_status(job.training_file))
done = subprocess.run([*COMMAND, "cancel", job.id], capture_output=True, text=True)
tell("refused", said=done.stdout)
