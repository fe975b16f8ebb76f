"""What a job measures, by the names OpenAI's clients look for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_NAMES = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "eval/loss": "valid_loss",
    "eval/accuracy": "valid_mean_token_accuracy",
}
COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
"""The columns of a result file that there always are."""
CHECKPOINT = (
    *("step", "train_loss", "train_mean_token_accuracy", "valid_loss", "full_valid_loss"),
    *("valid_mean_token_accuracy", "full_valid_mean_token_accuracy"),
)


def named(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics under OpenAI's names; what has none there keeps its own, as one word."""
    return {_name(key): value for key, value in values.items()}


def columns(metrics: Iterable[str]) -> list[str]:
    """The columns of a result file for a job that has measured these."""
    others = {_name(name) for name in metrics if _is_training(name)}
    return [*COLUMNS, *sorted(others - set(COLUMNS))]


def of_checkpoint(step: int, values: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a checkpoint. Evaluations here are always over the whole validation file."""
    known = named(values)
    full = {f"full_{key}": value for key, value in known.items() if key.startswith("valid_")}
    if "train_accuracy" in known:
        known["train_mean_token_accuracy"] = known["train_accuracy"]
    return {"step": step, **{k: v for k, v in {**known, **full}.items() if k in CHECKPOINT}}


def _name(metric: str) -> str:
    kind, _, rest = metric.partition("/")
    if metric in _NAMES or not rest:
        return _NAMES.get(metric, metric)
    prefix = {"train": "", "eval": "valid_"}.get(kind, f"{kind}_")
    return prefix + rest.replace("/", "_")


def _is_training(metric: str) -> bool:
    return not metric.startswith("system/")
