"""Our sessions, runs, jobs and environments in Vertesia's words."""

from __future__ import annotations

from typing import Any

from training_cluster.api.dialects.vertesia.from_job import from_job, last_moment, moment
from training_cluster.domain.interaction import InteractionRun
from training_cluster.domain.principal import Principal
from training_cluster.domain.training_session import Environment, TrainingSession

PROJECT = "training-cluster"
_ACCOUNT = {"id": PROJECT, "name": PROJECT}
_NO_TOKENS = {"prompt": 0, "completion": 0}


def environment(found: Environment) -> dict[str, Any]:
    """Where trainings run."""
    return {"id": found.id, "name": found.name, "provider": found.provider}


def session(
    found: TrainingSession, where: Environment, by: Principal, *, with_runs: bool = True
) -> dict[str, Any]:
    """A session as `by` may see it; lists show it without its runs. Its job is `{}` before the
    first."""
    content: dict[str, Any] = {
        "id": found.id,
        "project": PROJECT,
        "name": found.name,
        "env": environment(where),
        "model": found.model,
        "status": found.status.value,
        "runs": list(found.run_ids),
        "dataset": found.dataset,
        "job": from_job(found.job, by, model=found.trained) if found.job else {},
        "created_by": f"user:{found.user}",
        "updated_by": f"user:{found.updated_by}",
        "created_at": moment(found.created_at),
        "updated_at": moment(_last_change(found)),
        "warnings": list(found.warnings),
    }
    if not with_runs:
        del content["runs"]
    return content


def _last_change(found: TrainingSession) -> float:
    """When something last became of a session or of its job, in Unix seconds."""
    return max(found.updated_at, last_moment(found.job) if found.job else 0.0)


def run(found: InteractionRun, where: Environment) -> dict[str, Any]:
    """A recorded interaction. Tokens and seconds that nobody counted are 0."""
    said = found.details
    return {
        "id": found.id,
        "interaction": {
            "id": found.interaction,
            "name": found.interaction,
            "description": "",
            "status": "published",
            "version": 1,
        },
        "environment": environment(where),
        "modelId": found.model,
        "ttl": said.get("ttl", 0),
        "status": found.status.value,
        "token_use": said.get("token_use", _NO_TOKENS),
        "execution_time": said.get("execution_time", 0),
        "created_at": moment(found.created_at),
        "updated_at": moment(found.created_at),
        "account": _ACCOUNT,
        "project": {**_ACCOUNT, "account": PROJECT},
        "config": said.get("config", {}),
        "source": {
            "type": "api",
            "label": "API Request",
            "principal_type": "user",
            "principal_id": found.user,
            **said.get("source", {}),
        },
        "created_by": f"user:{found.user}",
        "updated_by": f"user:{found.user}",
        "tags": said.get("tags", []),
    }


def run_in_full(found: InteractionRun, where: Environment) -> dict[str, Any]:
    """A run with what was asked and what was answered."""
    return {
        **run(found, where),
        "prompt": [dict(message) for message in found.messages],
        "parameters": found.details.get("parameters"),
        "result": found.details.get("result", []),
        "warnings": found.details.get("warnings", []),
    }
