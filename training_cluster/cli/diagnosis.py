"""The doctor's examinations: each looks at one thing and says ok, warn or fail, with a cure."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from training_cluster import tracker_environment, trainer_environment
from training_cluster.cli import credentials, tracker
from training_cluster.cli.diagnosis_trust import examine_trust
from training_cluster.cli.failures import setting_problems
from training_cluster.cli.finding import Finding
from training_cluster.cli.finding import fail as _fail
from training_cluster.cli.finding import ok as _ok
from training_cluster.cli.finding import warn as _warn
from training_cluster.cli.mlflow_ui import address_of
from training_cluster.cli.options import url_of
from training_cluster.cli.trainer import INSTALL, environment_of
from training_cluster.cli.wandb_sync import key_source, server_of
from training_cluster.client import ApiError, Client, ClientError
from training_cluster.settings import Settings, load_settings, settings_file

GIB = 1024**3
_LOW_BYTES = 10 * GIB
_LEAST_BYTES = GIB
_DAEMON_TIMEOUT_SECONDS = 5.0


def examine(config: Path | None, url: str | None, *, quick: bool) -> Iterator[Finding]:
    """Everything on which a working daemon depends, in the order in which to mend it."""
    yield _python()
    file = config or settings_file()
    try:
        settings = load_settings(config)
    except ValidationError as error:
        for line in setting_problems(error):
            yield _fail("settings", line, f"correct it in {file or 'the environment'}")
        return
    except (OSError, ValueError) as error:
        yield _fail("settings", str(error), f"correct {file or 'the environment'}")
        return
    yield _ok("settings", str(file) if file else "no file: defaults and environment")
    yield from _storage(settings)
    yield from _trainer(settings, quick=quick)
    yield from _trackers(settings, quick=quick)
    yield from _devices(settings)
    yield from _models_and_data(settings)
    yield from examine_trust(settings)
    yield from _daemon(url or url_of(settings.host, settings.port))


def _python() -> Finding:
    return _ok("python", f"{platform.python_version()} at {sys.executable}")


def _storage(settings: Settings) -> Iterator[Finding]:
    for name in ("state_dir", "data_dir"):
        path: Path = getattr(settings, name)
        there = next(p for p in (path, *path.parents) if p.exists())
        if problem := _why_not_writable(there):
            cure = f"give it to this user, or set {name} to another directory"
            yield _fail(name, f"{path}: {problem}", cure)
        else:
            yield _space(name, path, shutil.disk_usage(there).free)


def _why_not_writable(directory: Path) -> str | None:
    if not directory.is_dir():
        return f"{directory} is not a directory"
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return f"cannot write in {directory}: {error.strerror or error}"
    return None


def _space(name: str, path: Path, free: int) -> Finding:
    detail = f"{path}: writable, {free / GIB:.1f} GiB free"
    if free < _LEAST_BYTES:
        return _fail(name, detail, f"make room, or set {name} to a larger disk")
    if free < _LOW_BYTES:
        return _warn(name, detail, "checkpoints are large: make room before long jobs")
    return _ok(name, detail)


def _trainer(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    if settings.trainer.command:
        program = settings.trainer.command[0]
        found = shutil.which(program)
        if found is None:
            yield _fail("trainer", f"{program} cannot be executed", "correct trainer.command")
        else:
            yield _ok("trainer", f"the settings name {found}")
        return
    path = environment_of(settings)
    if not trainer_environment.is_complete(path):
        yield _fail("trainer", f"there is no complete environment in {path}", f"run `{INSTALL}`")
        return
    yield _ok("trainer", f"environment in {path}")
    for check in [] if quick else trainer_environment.check(path):
        name = f"trainer {check.name}"
        yield _ok(name, check.detail) if check.ok else _fail(name, check.detail, f"run `{INSTALL}`")


def _trackers(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    """A tracker that is missing never stops a job: nothing here is more than a warning."""
    backends = settings.tracking.backends
    if not backends:
        yield _ok("trackers", "the settings name none: runs are recorded here only")
        return
    yield from _tracker_environment(tracker.environment_of(settings), quick=quick)
    if "mlflow" in backends:
        yield _mlflow(settings)
    if "wandb" in backends:
        yield _wandb(settings)


def _tracker_environment(path: Path, *, quick: bool) -> Iterator[Finding]:
    if not tracker_environment.is_complete(path):
        why = f"there is no complete environment in {path}: MLflow and W&B hear of no run"
        yield _warn("trackers", why, f"run `{tracker.INSTALL}`")
        return
    yield _ok("trackers", f"environment in {path}")
    for check in [] if quick else tracker_environment.check(path):
        if not check.ok:
            yield _warn(f"trackers {check.name}", check.detail, f"run `{tracker.INSTALL}`")


def _mlflow(settings: Settings) -> Finding:
    uri = settings.tracking.mlflow_uri
    if not uri:
        where = settings.state_dir / "mlflow.db"
        return _ok("mlflow", f"runs go into {where}; `training-cluster mlflow` shows them")
    try:
        return _ok("mlflow", f"runs go to {address_of(uri)}")
    except ValueError as error:
        return _warn("mlflow", str(error), "correct tracking.mlflow_uri")


def _wandb(settings: Settings) -> Finding:
    mode, server = settings.tracking.wandb_mode, server_of(settings)
    if mode == "offline":
        return _ok("wandb", "runs are kept offline, as wandb_mode says")
    if source := key_source(server):
        return _ok("wandb", f"online: runs go to {server} with the key of {source}")
    cure = f"set WANDB_API_KEY for the daemon, or put a key for {server} into ~/.netrc"
    if mode == "online":
        return _warn("wandb", "wandb_mode is online, but there is no API key", cure)
    why = "no API key: runs are kept offline; `training-cluster wandb sync` uploads them later"
    return _ok("wandb", why)


def _devices(settings: Settings) -> Iterator[Finding]:
    from training_cluster.daemon import diagnose_devices

    inventory = diagnose_devices(settings)
    if inventory.fault:
        yield _fail("devices", inventory.fault, "`nvidia-smi` should work for this user")
        return
    summary = ", ".join(device.name for device in inventory.devices) or "none found"
    if inventory.source == "cpu" and settings.devices.kind == "auto":
        cure = "with a GPU here, install NVIDIA's driver; without one, set devices.kind to cpu"
        yield _warn("devices", inventory.note or summary, cure)
    elif not inventory.devices:
        yield _fail("devices", summary, "jobs would wait for ever: see devices.kind")
    else:
        yield _ok("devices", f"{inventory.source}: {summary}")
    for device in inventory.devices:
        if device.fault:
            yield _warn(f"device {device.index}", device.fault, "nothing is started on it")


def _models_and_data(settings: Settings) -> Iterator[Finding]:
    from training_cluster.daemon import list_datasets

    yield from _roots("model_roots", settings.model_roots)
    if not settings.model_roots:
        yield _ok("model_roots", "none set: models are named by hub id")
    missing = list(_roots("dataset_roots", settings.dataset_roots))
    yield from missing
    versions = list_datasets(settings)
    if versions:
        yield _ok("datasets", ", ".join(versions))
    else:
        yield _fail("datasets", "none is registered", "put one below a folder of dataset_roots")


def _roots(name: str, roots: tuple[Path, ...]) -> Iterator[Finding]:
    for root in roots:
        if not root.is_dir():
            yield _fail(name, f"{root} is not a directory", f"make it, or take it out of {name}")
        elif not os.access(root, os.R_OK | os.X_OK):
            yield _fail(name, f"{root} cannot be read", "let this user read it")
        else:
            yield _ok(name, str(root))


def _daemon(url: str) -> Iterator[Finding]:
    try:
        with Client(url, credentials.chosen.token(), timeout=_DAEMON_TIMEOUT_SECONDS) as client:
            ready = client.ready()
            quarantined = [device for device in client.devices() if device.quarantine]
    except ApiError as error:
        yield _fail("daemon", f"{url}: {error.message}", error.hint or "see the daemon's log")
        return
    except ClientError as error:
        yield _warn("daemon", error.message, error.hint or "run `training-cluster serve`")
        return
    yield _ok("daemon", f"answers at {url}")
    for check in ready.checks:
        name = f"daemon {check.name}"
        if check.ok:
            yield _ok(name, check.detail)
        else:
            bad = _fail if check.required else _warn
            yield bad(name, check.detail, "see the daemon's log")
    for device in quarantined:
        reason = str((device.quarantine or {}).get("reason", ""))
        cure = f"`training-cluster gpus release {device.index}` when it is mended: docs/devices.md"
        yield _warn(f"device {device.index} in quarantine", reason, cure)
