"""Which adapter stands behind each port, by the settings and by what this machine has."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training_cluster import tracker_environment, trainer_environment, trainer_tools
from training_cluster.adapters.cpu import CpuInventory
from training_cluster.adapters.dataset_directory import DatasetDirectory
from training_cluster.adapters.llamafactory import LlamaFactoryTrainer
from training_cluster.adapters.nvml.guarded import GuardedNvml
from training_cluster.adapters.peer_user import KernelPeers, user_name
from training_cluster.adapters.tracker_process import WorkerTracker, worker_command
from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.api.auth import Access
from training_cluster.domain.device import MIB, BusyPolicy, Inventory
from training_cluster.ports import Clock, DeviceInventory, Tracker
from training_cluster.scheduling.hang import HangRules
from training_cluster.scheduling.quarantine import QuarantineRules
from training_cluster.scheduling.retry import RecoveryPolicy
from training_cluster.services.run_records import TrackingPlace
from training_cluster.settings import Settings, TrackingSettings
from training_cluster.store.progress import Limits

HUB_TOKENS = "download_tokens"
"""The folder in the state directory with the tokens that downloads have of their own."""
_LLAMAFACTORY = "llamafactory-cli"
# what a tracker's libraries need of the daemon's environment; keys and passwords come this way
_TRACKER_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "NETRC", "WANDB_API_KEY"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_TRACKER_PREFIXES = ("LC_", "MLFLOW_", "AWS_", "AZURE_", "GOOGLE_")


def choose_trainer(settings: Settings) -> LlamaFactoryTrainer:
    """LLaMA-Factory, by the program the settings name or by its own environment."""
    command = settings.trainer.command or trainer_environment.command(trainer_path(settings))
    return LlamaFactoryTrainer(
        command=command,
        evaluate=_tool(settings, "sample_model.py"),
        download=_tool(settings, "fetch_model.py"),
        hub_tokens=settings.state_dir / HUB_TOKENS,
        recipe_dir=settings.recipe_dir,
        grace_seconds=settings.grace_seconds,
        daemon_environment=os.environ,
        pass_environment=settings.trainer.pass_environment,
    )


def _tool(settings: Settings, name: str) -> tuple[str, ...] | None:
    """Words that run a tool of ours in the trainer's Python; None where the settings name a program
    that is not LLaMA-Factory's own: that is asked for it."""
    chosen = settings.trainer.command
    python = trainer_environment.python(trainer_path(settings))
    if chosen and Path(chosen[0]).name != _LLAMAFACTORY:
        return None
    if chosen:
        python = Path(chosen[0]).parent / "python"
    return (str(python), "-I", str(Path(trainer_tools.__file__).parent / name))


def trainer_path(settings: Settings) -> Path:
    """Where the trainer environment is, or will be."""
    chosen = settings.trainer.environment_dir
    return chosen or trainer_environment.environment_path(settings.data_dir)


def has_trainer(settings: Settings) -> bool:
    """Whether the trainer environment's Python is there; `doctor` looks deeper."""
    return trainer_environment.python(trainer_path(settings)).exists()


def choose_inventory(settings: Settings) -> DeviceInventory:
    """NVML where there are GPUs, CPU slots where there are none.

    A GPU box with a broken driver must not quietly train on its CPU: device nodes, and a library
    that hangs or crashes, tell it from a machine that merely has NVIDIA's libraries."""
    kind, slots = settings.devices.kind, settings.cpu_slots
    if kind == "cpu":
        return CpuInventory(slots, f"devices.kind is cpu: {_cpu_slots(slots)}")
    nvml = GuardedNvml(settings.devices.deadline_seconds)
    probe = nvml.probe()
    in_trouble = probe.gpu_count is None and (_has_gpu_nodes() or not probe.answered)
    if kind == "nvml" or probe.gpu_count or in_trouble:
        return nvml
    nvml.close()
    return CpuInventory(slots, f"no GPU here ({probe.reason}): {_cpu_slots(slots)}")


def _has_gpu_nodes() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _cpu_slots(slots: int) -> str:
    return f"jobs run on {slots} CPU slot{'s' if slots > 1 else ''}"


def choose_access(settings: Settings) -> Access:
    """Who gets in. Admins without a token are root, whoever the daemon runs as, and those named."""
    public = settings.webhooks.public_url
    return Access(
        settings.auth,
        KernelPeers(),
        admins=frozenset({"root", own_user(), *settings.admins}),
        never_local=frozenset(settings.never_local),
        tunnel=tunnel_address(settings),
        public_origin=None if public is None else _origin(public),
    )


def own_user() -> str:
    """The Unix user the daemon runs as."""
    return user_name(os.getuid())


def tunnel_address(settings: Settings) -> tuple[str, int] | None:
    """Where the tunnel's listener is; None without one."""
    if settings.tunnel is None:
        return None
    parts = urlsplit(f"//{settings.tunnel}")
    return parts.hostname or "127.0.0.1", parts.port or 0


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def busy_policy(settings: Settings) -> BusyPolicy:
    """When foreign use makes a device busy."""
    devices = settings.devices
    return BusyPolicy(
        memory_bytes=devices.busy_memory_mib * MIB,
        utilization_percent=devices.busy_utilization_percent,
        excluded=frozenset(devices.exclude),
    )


def quarantine_rules(settings: Settings) -> QuarantineRules:
    """When a device that failed comes back."""
    devices = settings.devices
    return QuarantineRules(
        healthy_seconds=devices.healthy_seconds, held_memory_seconds=devices.held_memory_seconds
    )


def recovery_policy(settings: Settings) -> RecoveryPolicy:
    """What becomes of lost attempts."""
    return RecoveryPolicy(settings.recovery.lost_attempts, settings.recovery.most_losses)


def master_ports(settings: Settings) -> range:
    """Ports for torchrun, one for each attempt of several devices."""
    return range(settings.trainer.master_port_first, settings.trainer.master_port_last + 1)


def metric_limits(settings: Settings) -> Limits:
    """How much is kept of an attempt's metrics, and how often progress is told."""
    return Limits(
        progress_every_seconds=settings.webhooks.progress_minutes * 60 or None,
        most_bytes=settings.metrics.most_mib * MIB,
    )


def hang_rules(settings: Settings) -> HangRules:
    """When a trainer counts as hung, and what follows."""
    hang = settings.hang
    return HangRules(
        warn_seconds=hang.warn_seconds or None,
        stop_seconds=hang.stop_seconds if hang.stop == "stop" else None,
        no_step_seconds=hang.no_step_seconds or None,
    )


def choose_trackers(settings: Settings, clock: Clock) -> list[tuple[Tracker, TrackingPlace]]:
    """The trackers that are served, each with where it keeps runs."""
    path = tracker_environment.used_path(settings.data_dir, settings.tracking.environment_dir)
    python = tracker_environment.python(path)
    configurations = {"mlflow": _mlflow(settings), "wandb": _wandb(settings)}
    found: list[tuple[Tracker, TrackingPlace]] = []
    for name in settings.tracking.backends:
        tracker = WorkerTracker(
            name,
            worker_command(python, name),
            configurations[name],
            _tracker_variables(os.environ),
            clock=clock,
            deadline_seconds=settings.tracking.deadline_seconds,
        )
        found.append((tracker, _place(name, settings.tracking)))
    return found


def _mlflow(settings: Settings) -> Mapping[str, Any]:
    uri = settings.tracking.mlflow_uri
    return {
        "folder": str(settings.state_dir / "mlflow"),
        "ui_url": settings.tracking.mlflow_ui_url,
        "uri": uri or tracker_environment.mlflow_store(settings.state_dir),
        "artifact_root": None
        if uri
        else tracker_environment.mlflow_artifacts(settings.state_dir).as_uri(),
    }


def _wandb(settings: Settings) -> Mapping[str, Any]:
    return {
        "folder": str(tracker_environment.wandb_folder(settings.state_dir)),
        "mode": settings.tracking.wandb_mode,
        "base_url": settings.tracking.wandb_base_url,
    }


def _place(name: str, tracking: TrackingSettings) -> TrackingPlace:
    keys: tuple[str, ...]
    if name == "mlflow":
        keys, project, entity = ("experiment", "project"), tracking.mlflow_experiment, None
    else:
        keys, project, entity = ("project",), tracking.wandb_project, tracking.wandb_entity
    return TrackingPlace(project, keys, entity, tracking.tags, tracking.upload_model)


def _tracker_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name in _TRACKER_VARIABLES or name.startswith(_TRACKER_PREFIXES)
    }


def choose_notifier(settings: Settings) -> WebhookNotifier:
    """Webhooks under the operator's rules."""
    return WebhookNotifier(settings.webhooks.allow_hosts, settings.webhooks.timeout_seconds)


def own_url(settings: Settings) -> str:
    """Where people reach this daemon, for links in notifications."""
    if settings.webhooks.public_url:
        return settings.webhooks.public_url
    everywhere = settings.host in ("", "0.0.0.0", "::")  # noqa: S104
    host = socket.gethostname() if everywhere else settings.host
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def diagnose_devices(settings: Settings) -> Inventory:
    """One reading of the devices, for `doctor`."""
    inventory = choose_inventory(settings)
    try:
        return inventory.read()
    finally:
        inventory.close()


def list_datasets(settings: Settings) -> tuple[str, ...]:
    """The registered dataset versions, for `doctor`."""
    return DatasetDirectory(settings.dataset_roots).versions()
