"""Settings: flag > environment > file > default, into frozen sections.

Environment names are `TRAINING_CLUSTER_` and the name, a section's names after two underscores:
`TRAINING_CLUSTER_PORT`, `TRAINING_CLUSTER_TRAINER__COMMAND`.
The file is TOML; the first of these that exists is read: `$TRAINING_CLUSTER_CONFIG`,
`<user config>/training-cluster/training_cluster.toml`, `configs/training_cluster.toml`.
"""

from __future__ import annotations

import json
import os
import shlex
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from training_cluster.resources import shipped

_APP = "training-cluster"
_chosen_file: ContextVar[Path | None] = ContextVar("_chosen_file", default=None)


def _split(value: object, separator: str) -> object:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(separator) if part.strip()]


def _words(value: object) -> object:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return shlex.split(value)
    return _split(value, " ")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


PathList = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(lambda v: _split(v, os.pathsep))]
NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(lambda v: _split(v, ","))]
Command = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainerSettings(_Section):
    """How attempts are executed."""

    command: Command = Field(
        default=(),
        description="The program, given `train <config>.yaml`; a list or a shell-quoted string. "
        "Empty: the LLaMA-Factory of the trainer environment.",
    )
    environment_dir: Path | None = Field(
        default=None, description="An existing venv or conda environment with LLaMA-Factory."
    )
    pass_environment: NameList = Field(
        default=(),
        description="Further environment variables handed from the daemon to trainers.",
    )
    master_port_first: int = Field(default=29500, ge=1024, le=65000)
    master_port_last: int = Field(default=29999, ge=1024, le=65535)


class DeviceSettings(_Section):
    """Which devices the queue may use, and when foreign use makes one busy."""

    exclude: NameList = Field(default=(), description="UUIDs or indices to leave out.")
    kind: Literal["auto", "nvml", "cpu"] = "auto"
    busy_memory_mib: int = Field(default=256, ge=0)
    busy_utilization_percent: float = Field(default=20.0, ge=0, le=100)
    poll_seconds: float = Field(default=5.0, gt=0, le=3600)
    deadline_seconds: float = Field(default=5.0, gt=0, le=60)


class TrackingSettings(_Section):
    """MLflow and W&B, told by a worker process beside the daemon."""

    backends: NameList = Field(
        default=("mlflow", "wandb"),
        description="The trackers that are served; jobs that ask for another get a warning.",
    )
    environment_dir: Path | None = Field(
        default=None, description="An existing venv or conda environment with mlflow and wandb."
    )
    mlflow_uri: str | None = Field(
        default=None,
        description="http(s)://... of a tracking server; empty: a database in the state directory.",
    )
    mlflow_ui_url: str = Field(
        default="http://127.0.0.1:5000",
        description="Where `training-cluster mlflow` shows that database, for links.",
    )
    mlflow_experiment: str = Field(default="training-cluster", min_length=1, max_length=250)
    wandb_project: str = Field(default="training-cluster", min_length=1, max_length=128)
    wandb_entity: str | None = None
    wandb_base_url: str | None = Field(default=None, description="A W&B server of one's own.")
    wandb_mode: Literal["auto", "online", "offline"] = Field(
        default="auto", description="auto: online when WANDB_API_KEY or ~/.netrc has a key."
    )
    tags: NameList = Field(default=(), description="Labels every run gets.")
    upload_model: bool = Field(
        default=False, description="Send the trained model itself to the trackers, too."
    )
    deadline_seconds: float = Field(default=60.0, gt=0, le=3600)


class WebhookSettings(_Section):
    """Notifications to Slack and other receivers."""

    allow_hosts: NameList = Field(
        default=(),
        description="Hosts, addresses or networks (10.0.0.0/8) that may be called although they "
        "are not public, over http and on any port too; `apprise` opens mail and other services.",
    )
    progress_minutes: float = Field(
        default=0.0, ge=0, le=10_080, description="job.progress at most this often; 0: never."
    )
    public_url: str | None = Field(
        default=None, description="Address of this daemon for links in notifications."
    )
    timeout_seconds: float = Field(default=15.0, gt=0, le=120)


class MetricsSettings(_Section):
    """What is measured while a job runs."""

    telemetry_seconds: float = Field(
        default=15.0, ge=0, le=3600, description="Between two samples of a device; 0: none."
    )
    most_mib: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Of an attempt's metrics log this much is kept and told, a million lines.",
    )


class LogSettings(_Section):
    """The trainers' logs."""

    most_mib: int = Field(
        default=256,
        ge=0,
        le=1_000_000,
        description="Disk a log may take; its middle is given up first. 0: no limit.",
    )


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINING_CLUSTER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    host: str = "127.0.0.1"
    port: int = Field(default=23478, ge=0, le=65535)
    state_dir: Path = Field(default_factory=lambda: platformdirs.user_state_path(_APP))
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path(_APP),
        description="Trainer environments and tiny models; shared by all state directories.",
    )
    auth: Literal["local", "open"] = Field(
        default="local",
        description="local: this machine's users only. open: whoever can connect.",
    )
    model_roots: PathList = Field(
        default=(), description="Folders below which model_name may be a path."
    )
    dataset_roots: PathList = Field(
        default_factory=lambda: (shipped("datasets"),),
        description="Folders that hold registered dataset versions.",
    )
    recipe_dir: Path = Field(default_factory=lambda: shipped("configs/recipes"))
    log_format: Literal["console", "json"] = "console"
    cpu_slots: int = Field(default=1, ge=1, le=256, description="Slots where no GPU exists.")
    grace_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="Seconds between TERM and KILL when stopping."
    )
    devices: DeviceSettings = DeviceSettings()
    trainer: TrainerSettings = TrainerSettings()
    tracking: TrackingSettings = TrackingSettings()
    webhooks: WebhookSettings = WebhookSettings()
    metrics: MetricsSettings = MetricsSettings()
    logs: LogSettings = LogSettings()

    @field_validator("state_dir", "data_dir", "recipe_dir")
    @classmethod
    def _absolute_path(cls, value: Path) -> Path:
        return _absolute(value)

    @field_validator("model_roots", "dataset_roots")
    @classmethod
    def _absolute_paths(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(_absolute(path) for path in value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags come in as init arguments; after the environment comes one TOML file."""
        file = _chosen_file.get()
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def settings_file() -> Path | None:
    """The settings file that is read when none is named on the command line."""
    named = os.environ.get("TRAINING_CLUSTER_CONFIG")
    if named:
        return Path(named)
    candidates = (
        platformdirs.user_config_path(_APP) / "training_cluster.toml",
        shipped("configs/training_cluster.toml"),
    )
    return next((path for path in candidates if path.is_file()), None)


def load_settings(file: Path | None = None, **flags: Any) -> Settings:
    """Read the settings; flags that are None count as not given.

    Raises pydantic.ValidationError for bad values and OSError for an unreadable file.
    """
    chosen = file or settings_file()
    if chosen is not None and not chosen.is_file():
        raise FileNotFoundError(f"settings file {chosen} does not exist")
    token = _chosen_file.set(chosen)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    finally:
        _chosen_file.reset(token)
