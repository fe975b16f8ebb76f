"""Asks for the training jobs, waits for a word, and tells the version."""

from importlib.metadata import version

from lamini.api.train import Train
from telling import hear, tell

tell("listed", jobs=[job["job_id"] for job in Train().get_jobs()], word=hear())
tell("version", version=version("lamini"))
