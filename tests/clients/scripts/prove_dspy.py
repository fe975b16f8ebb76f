"""Asks whether a job exists as DSPy does, waits for a word, and tells the version."""

from importlib.metadata import version

from dspy.clients.openai import OpenAIProvider
from telling import hear, tell

there = [job for job in ("ftjob-1",) if OpenAIProvider.does_job_exist(job)]
tell("listed", jobs=there, word=hear())
tell("version", version=version("dspy"))
