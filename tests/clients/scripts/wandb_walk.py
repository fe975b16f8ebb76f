"""A finished fine-tuning job taken over to W&B by its own sync.

Arguments: `job`, the id of one that has succeeded.
"""

from telling import ARGUMENTS, tell
from wandb.integration.openai.fine_tuning import WandbLogger

said = WandbLogger.sync(ARGUMENTS["job"], project="tuned", log_datasets=ARGUMENTS["datasets"])
tell("synced", said=said)
