"""OpenAI's fine-tuning API over our jobs, datasets and models."""

from training_cluster.api.dialects.openai import files, history, jobs, models, uploads

ROUTERS = (
    jobs.router,
    history.router,
    files.router,
    uploads.router,
    uploads.json_router,
    models.router,
)
