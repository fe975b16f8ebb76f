"""The service commands: have systemd run the daemon, and say how it fares."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training_cluster.cli import terminal
from training_cluster.cli.credentials import FILE_VARIABLE, TOKEN_VARIABLE
from training_cluster.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from training_cluster.cli.systemd import Systemd
    from training_cluster.service_unit import Unit

_PREFIX = "TRAINING_CLUSTER_"

service = typer.Typer(help="The daemon as a service of systemd.")

System = Annotated[
    bool | None,
    typer.Option(
        "--system/--user",
        help="A service of the machine, or your own. Default: the machine's for root.",
    ),
]


@service.callback()
def group() -> None:
    """The daemon as a service of systemd."""


@service.command()
def install(
    serve_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- SERVE OPTIONS]", help="What `serve` is given, after `--`."),
    ] = None,
    system: System = None,
    run_as: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Who runs a --system service.")
    ] = None,
    writable: Annotated[
        list[Path] | None,
        typer.Option(help="One more folder that jobs may write to, e.g. a shared model cache."),
    ] = None,
    start: Annotated[bool, typer.Option(help="Start it now, too.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the unit.")] = False,
    config: ConfigFile = None,
) -> None:
    """Write the unit, enable and (re)start it; running jobs notice nothing of a restart."""
    from training_cluster.cli.service_plan import plan_unit

    manager = _manager(system)
    if run_as is not None and manager.scope == "user":
        raise typer.BadParameter("--as goes with --system: your own service runs as you")
    if not dry_run:
        manager.require()
        manager.installed()
    unit = plan_unit(
        manager.scope, run_as=run_as, config=config, writable=writable or [],
        serve_options=serve_options or [],
    )  # fmt: skip
    if dry_run:
        sys.stdout.write(unit.text())
        return
    _warn_of_variables()
    _put_in_place(manager, unit, start=start)


@service.command()
def uninstall(system: System = None) -> None:
    """Stop the service and remove its unit; the queue, its jobs and results stay."""
    manager = _manager(system)
    manager.require()
    if manager.installed() is None:
        terminal.complain(f"there is no {manager.file}")
        raise typer.Exit(1)
    manager.call("disable", "--now", manager.file.name)
    manager.file.unlink()
    manager.call("daemon-reload")
    terminal.say(f"removed {manager.file}")
    terminal.note("jobs that run go on to their end; a new daemon finds what became of them")


@service.command()
def status(system: System = None, as_json: Json = False) -> None:
    """Say whether the service is installed, as this version would, and running; exits 1 if not."""
    manager = _manager(system)
    unit = manager.installed()
    if unit is None:
        terminal.complain(f"there is no {manager.file}", "training-cluster service install")
        raise typer.Exit(1)
    state = manager.state()
    current = manager.is_up_to_date(unit)
    if as_json:
        found = {"unit": manager.file, "command": unit.command, "user": unit.user}
        terminal.document({**found, "up_to_date": current, "systemd": state})
    else:
        _say(manager, state, current)
    if state.get("ActiveState") != "active":
        raise typer.Exit(1)


def _manager(system: bool | None) -> Systemd:
    from training_cluster.cli.systemd import Systemd
    from training_cluster.service_unit import Scope

    wanted = os.geteuid() == 0 if system is None else system
    return Systemd(Scope.SYSTEM if wanted else Scope.USER)


def _put_in_place(manager: Systemd, unit: Unit, *, start: bool) -> None:
    from training_cluster.cli.service_plan import make_folders

    make_folders(unit)
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    temporary = manager.file.with_suffix(".new")
    temporary.write_text(unit.text())
    temporary.replace(manager.file)
    manager.call("daemon-reload")
    manager.call("enable", manager.file.name)
    terminal.say(f"wrote {manager.file}" + (f"; it runs as {unit.user}" if unit.user else ""))
    if start:
        manager.call("restart", manager.file.name)
        terminal.say(f"started; its log: {manager.log_command}")
    _warn_of_logout(unit)


def _warn_of_logout(unit: Unit) -> None:
    from training_cluster.cli.systemd import lingers

    if unit.user is None and not lingers():
        terminal.warn("systemd ends your service, and its jobs, when you log out")
        terminal.note("hint: loginctl enable-linger")


def _warn_of_variables() -> None:
    names = sorted(
        name
        for name in os.environ
        if name.startswith(_PREFIX) and name not in (TOKEN_VARIABLE, FILE_VARIABLE, _PREFIX + "URL")
    )
    if names:
        terminal.warn(f"the service does not see {', '.join(names)} of this shell")
        terminal.note("hint: say it in the settings file, or after `--`")


def _say(manager: Systemd, state: dict[str, str], current: bool) -> None:
    terminal.say(f"{state.get('ActiveState')} ({state.get('SubState')}), {manager.file}")
    terminal.say(f"pid {state.get('MainPID')}, restarted {state.get('NRestarts')} times by systemd")
    if not current:
        again = "training-cluster service install"
        terminal.warn(f"the unit is not what this version would write: run `{again}` as before")
    terminal.note(f"log: {manager.log_command}")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(service, name="service")
