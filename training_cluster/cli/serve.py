"""Commands over the daemon itself: serve, config show."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import ConfigFile, Json
from training_cluster.domain.masking import without_password

config = typer.Typer(help="The settings that are in effect.")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    tunnel: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A second listener, where a token is always needed."
        ),
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="The queue and its jobs.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Trainer environments.")] = None,
    auth: Annotated[
        str | None, typer.Option(help="local: this machine's users, and tokens. open: anybody.")
    ] = None,
    cpu_slots: Annotated[int | None, typer.Option(min=1, help="Slots where no GPU exists.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A device (index or UUID) to leave alone.")
    ] = None,
    model_root: Annotated[
        list[Path] | None, typer.Option(help="A folder that models may be taken from.")
    ] = None,
    dataset_root: Annotated[
        list[Path] | None, typer.Option(help="A folder of registered dataset versions.")
    ] = None,
    trainer_command: Annotated[
        str | None, typer.Option(help="The program given `train <config>.yaml`, quoted.")
    ] = None,
    grace_seconds: Annotated[
        float | None, typer.Option(min=0, help="From TERM to KILL when stopping.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run the daemon until it is told to stop. Flags win over environment and file."""
    gc.disable()  # what a start makes is to stay: garbage is looked for once, when it is over
    from training_cluster.settings import load_settings

    settings = load_settings(
        config, host=host, port=port, tunnel=tunnel, state_dir=state_dir, data_dir=data_dir,
        auth=auth, cpu_slots=cpu_slots, grace_seconds=grace_seconds, log_format=log_format,
        model_roots=model_root or None, dataset_roots=dataset_root or None,
        devices={"exclude": exclude} if exclude else None,
        trainer={"command": trainer_command} if trainer_command else None,
    )  # fmt: skip
    from training_cluster import daemon

    raise typer.Exit(daemon.serve(settings))


@config.callback()
def group() -> None:
    """The settings that are in effect."""


@config.command("show")
def show_config(config: ConfigFile = None, as_json: Json = False) -> None:
    """Print the effective settings, as a settings file would say them; passwords in addresses
    are masked."""
    from training_cluster.settings import load_settings, settings_file

    file = config or settings_file()
    values = _masked(load_settings(config).model_dump(mode="json"))
    if as_json:
        terminal.document({"file": file, "settings": values})
        return
    terminal.say(f"# {file}" if file else "# no settings file: defaults and environment")
    _say_section(values)
    for name, section in values.items():
        if isinstance(section, dict):
            terminal.say(f"\n[{name}]")
            _say_section(section)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return without_password(value) if isinstance(value, str) else value


def _say_section(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            terminal.say(f"# {name} is not set")
        elif not isinstance(value, dict):
            terminal.say(f"{name} = {_toml(value)}")


def _toml(value: str | float | bool | list[str]) -> str:
    # strings, numbers, booleans and lists of strings look the same in JSON and in TOML
    return json.dumps(value, ensure_ascii=False)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(serve)
    app.add_typer(config, name="config")
