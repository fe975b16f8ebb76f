"""Asks for some jobs as Instructor's command does, waits for a word, and tells the version."""

from importlib.metadata import version

from instructor.cli.jobs import get_jobs
from telling import hear, tell

tell("listed", jobs=[job.id for job in get_jobs(limit=3)], word=hear())
tell("version", version=version("instructor"))
