"""Asks for a page of fine-tuning jobs as litellm does, waits for a word, and tells the version."""

from importlib.metadata import version

import litellm
from telling import hear, tell

page = litellm.list_fine_tuning_jobs(custom_llm_provider="openai", limit=3)
tell("listed", jobs=[job.id for job in page.data], word=hear())
tell("version", version=version("litellm"))
