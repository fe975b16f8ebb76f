"""The `openai` command as people type it: files.create, fine_tuning.jobs.create, list, cancel.

Arguments: `model`, `rows`. What a command prints is told as it is, parsed where it is JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from telling import ARGUMENTS, tell

MODEL = ARGUMENTS["model"]


def openai(*words):
    command = [sys.executable, "-m", "openai", "api", *words]
    return subprocess.run(command, capture_output=True, text=True)


def said(*words):
    done = openai(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


Path("train.jsonl").write_text(ARGUMENTS["rows"])
file = said("files.create", "-f", "train.jsonl", "-p", "fine-tune")
tell("uploaded", file=file)
jobs = "fine_tuning.jobs"
values = json.dumps({"n_epochs": 1, "batch_size": "auto"})
job = said(f"{jobs}.create", "-m", MODEL, "-F", file["id"], "-s", "typed", "-H", values)
tell("created", job=job)
while job["status"] not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.1)
    job = said(f"{jobs}.retrieve", "-i", job["id"])
tell("ended", job=job)
tell("listed", page=said(f"{jobs}.list", "-l", "1"))
tell("events", page=said(f"{jobs}.list_events", "-i", job["id"], "-l", "2"))
tell("files", said=openai("files.list").stdout)
refused = openai(f"{jobs}.cancel", "-i", job["id"])
tell("refused", said=refused.stdout + refused.stderr)
tell("models", said=openai("models.list").stdout)
