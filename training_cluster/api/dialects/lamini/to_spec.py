"""Lamini's request to train as a job of ours, and what of it cannot be honoured, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from training_cluster.api.dialects.lamini.finetune_args import Tuning, peft, tuning
from training_cluster.api.dialects.lamini.schemas import GpuConfig, TrainPayload, without_effect
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.errors import FieldProblem, InvalidRequest
from training_cluster.domain.spec import JobSpec

DIALECT = "lamini"
# Lamini hands a model the input as it is: people write prompt formats into their data
TEMPLATE = "empty"
_MOST_GPUS = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A job as it was asked for: what it is in our words, what has to be remembered to answer in
    Lamini's, and what has no effect."""

    spec: JobSpec
    request: DialectRequest
    warnings: tuple[str, ...]


def to_spec(
    payload: TrainPayload,
    dataset: str,
    dataset_id: str,
    possible_gpus: int,
    *,
    goes_on: bool = False,
) -> Asked:
    """The job that trains on `dataset`, a key of ours, which Lamini's client knows as
    `dataset_id`; of the machine's devices `possible_gpus` could serve it. One that `goes_on` trains
    a LoRA adapter that is there, with the rank it has.

    Raises InvalidRequest for Memory RAG, which trains nothing."""
    _refuse_rag(payload)
    found = tuning(payload.finetune_args)
    if goes_on and (payload.finetune_args is None or payload.finetune_args.r_value is None):
        del found.fields["lora_rank"]
    peft(payload.enable_peft, payload.peft_args, found)
    fields: dict[str, Any] = {"template": TEMPLATE, **found.fields}
    spec = JobSpec(
        model_name=payload.model_name,
        dataset_version=dataset,
        save_name=payload.custom_model_name,
        gpus=_gpus(payload.gpu_config, possible_gpus, found),
        min_gpu_memory=payload.gpu_config.min_gpu_memory if payload.gpu_config else None,
        overrides=found.overrides,
        **fields,
    )
    found.warnings.extend(_without_effect(payload))
    return Asked(spec, _remembered(payload, dataset_id), tuple(found.warnings))


def _remembered(payload: TrainPayload, dataset_id: str) -> DialectRequest:
    data = {
        "dataset_id": dataset_id,
        "custom_model_name": payload.custom_model_name,
        "is_public": bool(payload.is_public),
        "train_type": payload.train_type,
    }
    return DialectRequest(DIALECT, data)


def _gpus(config: GpuConfig | None, possible: int, found: Tuning) -> int:
    """How many devices to lease: those of all nodes, on this one machine, as far as it has them.
    Lamini's document says so too: more than there are becomes the limit, and the job waits."""
    if config is None:
        return 1
    found.warnings.extend(without_effect(config.unknown, "gpu_config."))
    gpus, nodes = max(config.gpus or 1, 1), max(config.nodes or 1, 1)
    asked = gpus * nodes
    if nodes > 1:
        found.warnings.append(
            f"gpu_config.nodes is {nodes} and this daemon has one machine: "
            f"{gpus} x {nodes} GPUs are taken on it as far as it has them"
        )
    most = min(possible, _MOST_GPUS) or asked
    if asked > most:
        found.warnings.append(
            f"gpu_config asks for {asked} GPUs and {most} of this machine can serve the job: "
            f"{most} {'is' if most == 1 else 'are'} used"
        )
    return min(asked, most)


def _refuse_rag(payload: TrainPayload) -> None:
    if payload.train_type == "memory_rag":
        message = "train_type memory_rag builds an index and trains nothing, which is not done here"
        problem = FieldProblem("train_type", message, "memory_tuning, or leave it out")
        raise InvalidRequest(message, problems=(problem,), hint="train_type memory_tuning trains")


def _without_effect(payload: TrainPayload) -> Iterator[str]:
    if payload.train_type in ("memory_tuning", "mome_mini"):
        yield (
            f"train_type {payload.train_type} is trained as one LoRA adapter: there is no mixture "
            "of memory experts here"
        )
    if payload.use_cached_model is False:
        yield "use_cached_model had no effect: a model that is here is not fetched again"
    said = {"id": payload.id, "source": payload.source, **payload.unknown}
    yield from without_effect(name for name, value in said.items() if value)
