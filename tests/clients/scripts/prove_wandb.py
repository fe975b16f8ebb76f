"""Has W&B look at a job that was cancelled, waits for a word, and tells the version."""

from importlib.metadata import version

from telling import hear, tell
from wandb.integration.openai.fine_tuning import WandbLogger

WandbLogger.sync("ftjob-1", wait_for_job_success=False)
tell("listed", jobs=["ftjob-1"], word=hear())
tell("version", version=version("wandb"))
