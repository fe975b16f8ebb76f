"""Jobs of other kinds that start from a registered model: export it, have it answer prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from training_cluster.domain.model import Model
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import EVALUATE, EXPORT, JobSpec
from training_cluster.services.jobs import Jobs, Overview, Submission
from training_cluster.services.models import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where such a job runs: by default beside the devices, on the processor."""

    needs_device: bool = False
    min_gpu_memory: float | None = None
    priority: int = 0
    max_seconds: float | None = None


class ModelJobs:
    """Submits them. Models are named as everywhere; `by` is who asks and becomes the owner.

    Methods raise ModelNotFound, Pruned, Forbidden, and what `Jobs.submit` raises."""

    def __init__(self, jobs: Jobs, models: Models) -> None:
        self._jobs = jobs
        self._models = models

    async def export(
        self, key: str, by: Principal, *, name: str | None = None, place: Place | None = None
    ) -> Overview:
        """Have a LoRA adapter merged into its base model; the result is registered under `name`,
        by default the adapter's with `-merged`, in the adapter's version."""
        model = await self._models.usable(key, by)
        spec = _spec(EXPORT, model, place or Place(), {})
        named = replace(spec, save_name=name or f"{model.name}-merged", lora_version=model.version)
        return await self._submit(named, by)

    async def evaluate(
        self,
        key: str,
        by: Principal,
        *,
        prompts: Sequence[str] | None = None,
        samples: int | None = None,
        max_new_tokens: int | None = None,
        place: Place | None = None,
    ) -> Overview:
        """Have a model and its base answer `prompts`; without them the first `samples` of the
        dataset the model was trained on."""
        model = await self._models.usable(key, by)
        told = {
            "tuned_name": model.key,
            "base_model": model.base_model,
            "prompts": None if prompts is None else list(prompts),
            "samples": samples,
            "max_new_tokens": max_new_tokens,
        }
        options = {name: value for name, value in told.items() if value is not None}
        return await self._submit(_spec(EVALUATE, model, place or Place(), options), by)

    async def _submit(self, spec: JobSpec, by: Principal) -> Overview:
        return await self._jobs.submit(Submission(spec=spec, user=by.name, is_admin=by.is_admin))


def _spec(kind: str, model: Model, place: Place, options: dict[str, Any]) -> JobSpec:
    known = JobSpec()
    return JobSpec(
        kind=kind,
        model_name=model.key,
        model_id=model.id,
        options=options,
        dataset_version=model.dataset or known.dataset_version,
        template=str(model.config.get("template") or known.template),
        tracking_backend="none",
        needs_device=place.needs_device,
        min_gpu_memory=place.min_gpu_memory if place.needs_device else None,
        priority=place.priority,
        max_seconds=place.max_seconds,
    )
