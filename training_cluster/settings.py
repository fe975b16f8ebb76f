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
from urllib.parse import urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from training_cluster.resources import shipped
from training_cluster.settings_sections import (
    HangSettings,
    LogSettings,
    MetricsSettings,
    RecoverySettings,
)
from training_cluster.settings_sections import Section as _Section
from training_cluster.storage_settings import DatasetSettings, DiskSettings, RetentionSettings

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
    healthy_seconds: float = Field(
        default=30.0, ge=0, le=86_400, description="So long a device that failed must be well."
    )
    held_memory_seconds: float = Field(
        default=60.0, ge=0, le=3600, description="So long memory may be held after an attempt."
    )


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


class LimitSettings(_Section):
    """What callers may take of the daemon."""

    connections: int = Field(default=4000, ge=64, le=100_000, description="Open at a time.")
    head_seconds: float = Field(
        default=10.0, gt=0, le=600, description="For a client to send the head of a request."
    )
    body_seconds: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="For a client to send the body; a second more for each 16 KiB of it.",
    )
    stall_seconds: float = Field(
        default=120.0, gt=0, le=3600, description="So long a body may be silent in between."
    )
    streams_per_user: int = Field(
        default=256, ge=1, le=100_000, description="Event streams a user may have open."
    )
    queued_per_user: int = Field(
        default=10_000, ge=1, le=10_000_000, description="Jobs a user may have waiting."
    )
    sync_seconds: float = Field(
        default=3600.0, gt=0, le=30 * 86_400, description="Waited for a job's end at most."
    )
    signed_url_seconds: float = Field(
        default=3600.0, gt=0, le=7 * 86_400, description="An address without a token is good for."
    )
    without_device: int = Field(
        default=2,
        ge=1,
        le=256,
        description="Jobs without a device that run at a time: exports, evaluations, downloads.",
    )


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINING_CLUSTER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    host: str = "0.0.0.0"  # noqa: S104  # a token is needed from elsewhere
    port: int = Field(default=23478, ge=0, le=65535)
    tunnel: str | None = Field(
        default=None,
        description="HOST:PORT of a second listener for zrok and the like, where a token is "
        "always needed.",
    )
    state_dir: Path = Field(default_factory=lambda: platformdirs.user_state_path(_APP))
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path(_APP),
        description="Trainer environments and tiny models; shared by all state directories.",
    )
    auth: Literal["local", "open"] = Field(
        default="local",
        description="local: users of this machine, and whoever has a token. open: whoever can "
        "connect submits, without being asked.",
    )
    admins: NameList = Field(
        default=(), description="Unix users who are admins, beside root and the daemon's own."
    )
    never_local: NameList = Field(
        default=(),
        description="Unix users who need a token on this machine too: those that tunnels run as.",
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
    pause_grace_seconds: float = Field(
        default=600.0, ge=0, le=86400, description="The same for a pause: the job saves meanwhile."
    )
    devices: DeviceSettings = DeviceSettings()
    trainer: TrainerSettings = TrainerSettings()
    tracking: TrackingSettings = TrackingSettings()
    webhooks: WebhookSettings = WebhookSettings()
    metrics: MetricsSettings = MetricsSettings()
    logs: LogSettings = LogSettings()
    hang: HangSettings = HangSettings()
    limits: LimitSettings = LimitSettings()
    datasets: DatasetSettings = DatasetSettings()
    disk: DiskSettings = DiskSettings()
    recovery: RecoverySettings = RecoverySettings()
    retention: RetentionSettings = RetentionSettings()

    @field_validator("tunnel")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if not value:
            return None
        text = f"127.0.0.1:{value}" if value.isdecimal() else value
        try:
            parts = urlsplit(f"//{text}")
            known = parts.hostname is not None and parts.port is not None
        except ValueError:
            known = False
        if not known or parts.path or "@" in text:
            raise ValueError("it is an address and a port, like 127.0.0.1:23479")
        return text

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
