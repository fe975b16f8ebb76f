"""The trackers' own Python environment: MLflow and W&B, which the daemon never imports; and where
in a state directory they keep what they write."""

from __future__ import annotations

from pathlib import Path

from training_cluster.pinned_environment import Check, PinnedEnvironment, python

__all__ = [
    "TRACKER",
    "Check",
    "check",
    "environment_path",
    "install",
    "is_complete",
    "mlflow_artifacts",
    "mlflow_store",
    "python",
    "used_path",
    "wandb_folder",
]

_PROBE = """
import json, os, platform
def say(name, ok, detail): print(json.dumps([name, ok, detail]), flush=True)
def mlflow():
    import mlflow, mlflow.store.tracking.sqlalchemy_store
    return mlflow.__version__
def wandb():
    import wandb, wandb.util
    core = wandb.util.get_core_path()
    if not os.access(core, os.X_OK):
        raise FileNotFoundError(core)
    return wandb.__version__
say("python", True, platform.python_version())
for look in (mlflow, wandb):
    try:
        say(look.__name__, True, look())
    except BaseException as error:
        say(look.__name__, False, f"{type(error).__name__}: {error}"[:500])
"""

TRACKER = PinnedEnvironment(
    title="tracker environment",
    folder="trackers",
    requirements="configs/tracker-requirements.txt",
    needed_bytes=3 * 1024**3 // 2,
    install_command="training-cluster tracker install",
    modules=("mlflow", "wandb"),
    probe=_PROBE,
)

environment_path = TRACKER.path
install = TRACKER.install
is_complete = TRACKER.is_complete
check = TRACKER.check


def used_path(data_dir: Path, chosen: Path | None) -> Path:
    """The environment trackers run in: the one the settings name, else the one of our pins."""
    return chosen or environment_path(data_dir)


def mlflow_store(state_dir: Path) -> str:
    """The tracking URI of MLflow's database in this state directory."""
    return f"sqlite:///{state_dir / 'mlflow.db'}"


def mlflow_artifacts(state_dir: Path) -> Path:
    """The folder of the files that belong to runs in that database."""
    return state_dir / "mlflow-artifacts"


def wandb_folder(state_dir: Path) -> Path:
    """The folder below which W&B keeps its runs, in a folder `wandb` of its own making."""
    return state_dir / "wandb"
