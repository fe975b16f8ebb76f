"""The mlflow command: MLflow's own page over the runs that the daemon recorded."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit, urlunsplit

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import ConfigFile, url_of
from training_cluster.cli.tracker import usable_python


def mlflow(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    config: ConfigFile = None,
) -> None:
    """Open MLflow on the daemon's runs, until Ctrl-C; of a tracking server, print its address."""
    from training_cluster.settings import load_settings

    settings = load_settings(config)
    if settings.tracking.mlflow_uri:
        terminal.say(address_of(settings.tracking.mlflow_uri))
        return
    python = usable_python(settings)
    _require_free(host, port)
    if not _is_loopback(host):
        terminal.warn("MLflow asks for no password: whoever reaches this port may change its runs")
    terminal.note(f"MLflow will answer at {url_of(host, port)}; Ctrl-C ends it")
    _become_server(python, settings.state_dir, host, port)


def address_of(uri: str) -> str:
    """The address of a tracking server to open in a browser, without the password it may hold.

    Raises ValueError when it is no http(s) address.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        raise ValueError("tracking.mlflow_uri must be an http(s) address, or be left out")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        cure = "choose another with --port or --host; perhaps MLflow is open there already"
        terminal.complain(f"cannot listen on {host} port {port}: {error.strerror}", cure)
        raise typer.Exit(1) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _become_server(python: Path, state_dir: Path, host: str, port: int) -> NoReturn:
    from training_cluster.pinned_environment import clean_environment
    from training_cluster.tracker_environment import mlflow_artifacts, mlflow_store

    state_dir.mkdir(parents=True, exist_ok=True)
    # nothing of the state directory may be taken for a Python package
    defaults = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONSAFEPATH": "1"}
    # the executor of GenAI jobs would be eight more processes of 170 MB
    defaults["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.chdir(state_dir)
    os.execve(  # noqa: S606
        python,
        [
            str(python), "-I", "-m", "mlflow", "server",
            "--backend-store-uri", mlflow_store(state_dir),
            "--artifacts-destination", str(mlflow_artifacts(state_dir)),
            "--host", host, "--port", str(port), "--workers", "1",
        ],
        defaults | clean_environment(),
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(mlflow)
