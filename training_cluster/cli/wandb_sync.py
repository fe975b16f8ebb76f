"""The wandb sync command: uploads runs that W&B kept on disk while it had no key or server."""

from __future__ import annotations

import netrc
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import ConfigFile, Json
from training_cluster.cli.tracker import usable_python

if TYPE_CHECKING:
    from training_cluster.settings import Settings

wandb = typer.Typer(help="Runs that W&B keeps on this machine.")

_REACH_SECONDS = 10.0
_PUBLIC_SERVER = "https://api.wandb.ai"
_WORKER = Path(__file__).resolve().parents[1] / "tracker_worker"


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """One directory of W&B's own layout; `file` is its record of the run."""

    file: Path

    @property
    def directory(self) -> Path:
        """The directory; its name says when the run began."""
        return self.file.parent

    @property
    def is_synced(self) -> bool:
        """Whether W&B has left its mark that all of it was uploaded."""
        return self.file.with_suffix(".wandb.synced").exists()


@wandb.callback()
def group() -> None:
    """Runs that W&B keeps on this machine."""


@wandb.command()
def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Upload the runs recorded offline, oldest first; those uploaded before are left alone."""
    from training_cluster.settings import load_settings
    from training_cluster.tracker_environment import wandb_folder

    settings = load_settings(config)
    runs = [run for run in offline_runs(wandb_folder(settings.state_dir)) if not run.is_synced]
    open_files = _files_being_written()
    growing_ids = {run.file.name for run in runs if str(run.file.resolve()) in open_files}
    growing = [run for run in runs if run.file.name in growing_ids]  # also its earlier parts
    ready = [run for run in runs if run not in growing]
    for run in growing:
        terminal.note(f"{run.directory.name} is still being written: left for later")
    if ready and not dry_run:
        _upload(settings, ready, as_json=as_json)
    left = [run for run in ready if not run.is_synced]
    _tell(ready, left, growing, dry_run=dry_run, as_json=as_json)
    if left and not dry_run:
        raise typer.Exit(1)


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs kept below a W&B folder, in the order in which they began."""
    files = folder.glob("wandb/offline-run-*/*.wandb")
    return [OfflineRun(file) for file in sorted(files, key=lambda file: file.parent.name)]


def server_of(settings: Settings) -> str:
    """The address of the W&B server that is meant."""
    named = settings.tracking.wandb_base_url or os.environ.get("WANDB_BASE_URL")
    return (named or _PUBLIC_SERVER).rstrip("/")


def key_source(server: str) -> str | None:
    """Where W&B will find an API key for this server: a variable or a file; None: nowhere."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entry = netrc.netrc(file).authenticators(urlsplit(server).netloc)
    except (OSError, netrc.NetrcParseError):
        return None
    return str(file) if entry and entry[2] else None


def _files_being_written() -> set[str]:
    # A run that is uploaded while it grows would be marked as uploaded for ever. W&B's own process
    # holds the file open until the run is finished; so does nobody after a crash.
    import psutil

    paths: set[str] = set()
    for process in psutil.process_iter():
        try:
            paths.update(file.path for file in process.open_files())
        except psutil.Error:  # it has gone, or is another user's
            continue
    return paths


def _upload(settings: Settings, runs: Iterable[OfflineRun], *, as_json: bool) -> None:
    from training_cluster.pinned_environment import clean_environment
    from training_cluster.tracker_environment import wandb_folder

    python, server = usable_python(settings), server_of(settings)
    _require_key(server)
    _require_answer(server)
    folder = wandb_folder(settings.state_dir)
    environment = {**clean_environment(), "WANDB_BASE_URL": server, "WANDB_DIR": str(folder)}
    environment.pop("WANDB_MODE", None)  # a machine that is offline by habit still means this
    names = [str(run.directory.relative_to(folder)) for run in runs]
    subprocess.run(
        [python, "-I", str(_WORKER), "wandb", "sync", *names],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=sys.stderr if as_json else None, check=False,
    )  # fmt: skip


def _require_key(server: str) -> None:
    if key_source(server) is None:
        host = urlsplit(server).netloc
        cure = f"set WANDB_API_KEY, or add to ~/.netrc: machine {host} login user password <key>"
        terminal.complain(f"there is no API key for {host}", cure)
        raise typer.Exit(1)


def _require_answer(server: str) -> None:
    # W&B itself goes on trying without a word for longer than anybody watches
    address = urlsplit(server)
    host = address.hostname or ""
    if address.scheme in getproxies() and not proxy_bypass(host):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        terminal.complain(f"{server} cannot be reached: {error}", "the runs are kept: try later")
        raise typer.Exit(1) from error


def _tell(
    ready: list[OfflineRun],
    left: list[OfflineRun],
    growing: list[OfflineRun],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        groups = {"synced": [run for run in ready if run not in left], "left": left}
        named = {"would_sync": ready} if dry_run else groups
        named |= {"being_written": growing}
        terminal.document({name: [r.directory.name for r in runs] for name, runs in named.items()})
    elif dry_run:
        for run in ready:
            terminal.say(f"would upload {run.directory.name}")
    elif left:
        names = ", ".join(run.directory.name for run in left)
        terminal.complain(f"not uploaded: {names}", "see what W&B said above, then run it again")
    if not ready and not as_json:
        terminal.say("there is nothing to upload")


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.add_typer(wandb, name="wandb")
