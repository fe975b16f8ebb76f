"""Asks for a page of fine-tuning jobs, waits for a word, and tells the version."""

import openai
from telling import hear, tell

client = openai.OpenAI()
page = client.fine_tuning.jobs.list(limit=3)
tell("listed", jobs=[job.id for job in page.data], word=hear())
tell("version", version=openai.__version__)
