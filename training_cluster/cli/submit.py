"""The submit command: a job from flags and files, sent, and waited for if wanted."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training_cluster.cli import show, terminal
from training_cluster.cli.job_file import FIELDS, assemble
from training_cluster.cli.options import Json, Url, connect
from training_cluster.cli.waiting import report_end, require_completed, wait_for

if TYPE_CHECKING:
    from training_cluster.client import Client, Job, Submitted

_MODEL = "Model and data"
_TRAINING = "Training"
_NAMES = "Names and records"
_QUEUE = "Queue"


class Strategy(StrEnum):
    """What to do when no device is free."""

    QUEUE = "queue"
    REJECT = "reject"


def _field(*names: str, text: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


Text = str | None
Whole = int | None
Number = float | None


def submit(
    context: typer.Context,
    model_name: Annotated[
        Text,
        _field("--model-name", "--model", "-m", text="Hub id or directory.", panel=_MODEL),
    ] = None,
    dataset_version: Annotated[
        Text,
        _field("--dataset-version", "--dataset", "-d", text="Registered version.", panel=_MODEL),
    ] = None,
    template: Annotated[Text, _field(text="Prompt format.", panel=_MODEL)] = None,
    max_samples: Annotated[Whole, _field(text="Examples used at most.", panel=_MODEL)] = None,
    cutoff_len: Annotated[Whole, _field(text="Tokens an example is cut at.", panel=_MODEL)] = None,
    recipe: Annotated[Text, _field(text="A recipe of configs/recipes.", panel=_TRAINING)] = None,
    stage: Annotated[Text, _field(text="sft, dpo, kto or pt.", panel=_TRAINING)] = None,
    finetuning_type: Annotated[Text, _field(text="lora, full or freeze.", panel=_TRAINING)] = None,
    num_epochs: Annotated[
        Number, _field("--num-epochs", "--epochs", text="Passes over the data.", panel=_TRAINING)
    ] = None,
    learning_rate: Annotated[
        Number, _field("--learning-rate", "--lr", text="Such as 2e-5.", panel=_TRAINING)
    ] = None,
    batch_size: Annotated[
        Whole, _field(text="Examples per device and step.", panel=_TRAINING)
    ] = None,
    gradient_accumulation_steps: Annotated[
        Whole, _field(text="Steps per update.", panel=_TRAINING)
    ] = None,
    save_steps: Annotated[Whole, _field(text="Steps between saves.", panel=_TRAINING)] = None,
    lora_rank: Annotated[Whole, _field(text="Rank of the LoRA matrices.", panel=_TRAINING)] = None,
    lora_alpha: Annotated[Whole, _field(text="LoRA's scale.", panel=_TRAINING)] = None,
    lora_dropout: Annotated[Number, _field(text="LoRA's dropout.", panel=_TRAINING)] = None,
    lora_target: Annotated[
        Text, _field(text="Modules with LoRA, comma-separated, or all.", panel=_TRAINING)
    ] = None,
    additional_target: Annotated[
        Text, _field(text="Modules trained in full beside LoRA.", panel=_TRAINING)
    ] = None,
    settings: Annotated[
        list[str] | None,
        _field(
            "--set",
            text="Any other field or trainer key; may be repeated.",
            panel=_TRAINING,
            metavar="KEY=VALUE",
        ),
    ] = None,
    lora_name: Annotated[Text, _field(text="A label.", panel=_NAMES)] = None,
    lora_version: Annotated[Text, _field(text="A label.", panel=_NAMES)] = None,
    save_name: Annotated[Text, _field(text="A label.", panel=_NAMES)] = None,
    tracking_backend: Annotated[
        list[str] | None,
        _field(text="wandb, mlflow or none; several by commas, or repeated.", panel=_NAMES),
    ] = None,
    tracking: Annotated[
        list[str] | None,
        _field(
            text="project, entity, experiment, run_name or tags (by commas); may be repeated.",
            panel=_NAMES,
            metavar="KEY=VALUE",
        ),
    ] = None,
    webhook_url: Annotated[
        Text, _field(text="A Slack webhook or a receiver of signed JSON to notify.", panel=_NAMES)
    ] = None,
    gpus: Annotated[Whole, _field(text="Devices, all of them or none.", panel=_QUEUE)] = None,
    min_gpu_memory: Annotated[
        Number, _field(text="GiB each device must have.", panel=_QUEUE)
    ] = None,
    priority: Annotated[Whole, _field(text="Higher goes first.", panel=_QUEUE)] = None,
    max_seconds: Annotated[
        Number, _field(text="An attempt that runs longer is stopped.", panel=_QUEUE)
    ] = None,
    max_retries: Annotated[Whole, _field(text="Further attempts.", panel=_QUEUE)] = None,
    depends_on: Annotated[
        list[str] | None,
        _field(text="A job that must complete first; may be repeated.", panel=_QUEUE),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="When no device is free: wait, or be refused.", rich_help_panel=_QUEUE),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON; - for standard input."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job's end.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds --wait waits at most.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and job again are stored once.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Submit a training job. Flags win over --set, --set over the file; what nobody says takes
    the daemon's default."""
    # the parameters of this function are its flags; their values are read together
    flags = {name: value for name, value in context.params.items() if name in FIELDS}
    job = assemble(file, settings or (), flags)
    with connect(url) as client:
        answer = client.submit(job, strategy=strategy, idempotency_key=idempotency_key)
        if not as_json:
            _announce(answer, wait=wait)
        if wait:
            _wait(client, answer, timeout, as_json)
        elif as_json:
            terminal.document(answer.raw)
        else:
            terminal.note(f"follow it with: training-cluster status --watch {answer.number}")


def _announce(answer: Submitted, *, wait: bool) -> None:
    already = ", as it was already submitted" if answer.replayed else ""
    terminal.say(f"job {answer.number} {answer.status}{already} ({answer.job_id})")
    if answer.wait_reason and not wait:  # waiting shows it too
        terminal.say(f"position {answer.queue_position}: {answer.wait_reason.message}")
    if answer.estimated_start:
        left = show.duration(answer.estimated_start - time.time())
        terminal.say(f"starts in about {left} ({show.moment(answer.estimated_start)})")
    for warning in answer.warnings:
        terminal.warn(warning)


def _wait(client: Client, answer: Submitted, timeout: float | None, as_json: bool) -> None:
    job: Job = wait_for(client, answer.job_id, answer.number, quiet=as_json, timeout=timeout)
    if as_json:
        terminal.document(job.raw)
        require_completed(job)
    else:
        report_end(job)


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(submit)
