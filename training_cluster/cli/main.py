"""The entry point: the tree of commands, and what an error looks like to a person."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from training_cluster import __version__
from training_cluster.cli import credentials, terminal
from training_cluster.cli.credentials import FILE_VARIABLE, TOKEN_VARIABLE
from training_cluster.cli.failures import report

PROGRAM = "training-cluster"
_FAILED, _USAGE = 1, 2
_SERVE = "serve"
# the modules of this package that hold commands, in the order of the help
_COMMANDS = (
    _SERVE, "submit", "jobs", "job_control", "metrics", "queue", "dataset", "model", "webhook",
    "token", "doctor", "trainer", "tracker", "mlflow_ui", "wandb_sync", "service", "share",
    "storage", "prune",
)  # fmt: skip


def build(modules: tuple[str, ...] = _COMMANDS) -> typer.Typer:
    """The tree of commands, of all modules or of some."""
    app = typer.Typer(
        name=PROGRAM,
        help="The queue in front of this machine's GPUs: submit fine-tuning jobs and look after "
        "them.",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(root)
    for module in modules:
        import_module(f"training_cluster.cli.{module}").add_to(app)
    return app


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    token: Annotated[
        str | None,
        typer.Option(
            help=f"The token to show to the daemon. Others can read command lines: better set "
            f"{TOKEN_VARIABLE}."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"A file with it, of mode 600; or name it in {FILE_VARIABLE}."),
    ] = None,
) -> None:
    """What is common to all commands."""
    if version:
        terminal.say(f"{PROGRAM} {__version__}")
        raise typer.Exit
    credentials.chosen.choose(token, token_file)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(_USAGE)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = credentials.flags_first(sys.argv[1:] if arguments is None else arguments)
    # what the other commands need would stay in the daemon for months
    app = build((_SERVE,) if words[:1] == [_SERVE] else _COMMANDS)
    _accept_any_text(sys.stdout)
    _accept_any_text(sys.stderr)
    try:
        code = app(words, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _FAILED
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return _FAILED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        report(error, as_json="--json" in words)
        return _FAILED
    return code if isinstance(code, int) else 0


def _accept_any_text(stream: TextIO | Any) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def _drop_output() -> None:
    # whoever read the output has gone: Python's own flush at exit must not fail as well
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    terminal.complain(error.format_message(), f"see `{path} --help`")
    return error.exit_code
