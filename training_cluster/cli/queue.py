"""Commands over what jobs share: queue, gpus."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from training_cluster.cli import show, terminal
from training_cluster.cli.options import Json, Url, Watch, connect, no_json_with

_WATCH_SECONDS = 2.0

gpus = typer.Typer(help="Devices: look, hold, release.", invoke_without_command=True)

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE", help="Its index or UUID.")]


def queue(watch: Watch = False, url: Url = None, as_json: Json = False) -> None:
    """Show what runs, and what waits in which order and why."""
    no_json_with("--watch", watch, as_json)
    with connect(url) as client:
        if as_json:
            terminal.document(client.queue().raw)
            return
        with terminal.changing() as draw:
            draw(show.queue_view(client.queue(), time.time()))
            while watch:
                time.sleep(_WATCH_SECONDS)
                draw(show.queue_view(client.queue(), time.time()))


@gpus.callback()
def devices(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show the devices: which are free, who uses the others, and why."""
    context.obj = url, as_json
    if context.invoked_subcommand is not None:
        return
    with connect(url) as client:
        found = client.devices()
    if as_json:
        terminal.document(found.raw)
    else:
        terminal.show(show.devices_view(found))


@gpus.command()
def hold(
    context: typer.Context,
    device: DeviceName,
    reason: Annotated[str, typer.Option("--reason", "-r", help="What others shall read.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="For how long; default: until released.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Keep a device out of the queue; a job that has it keeps it."""
    url, as_json = url or context.obj[0], as_json or context.obj[1]
    with connect(url) as client:
        made = client.hold(device, reason, None if minutes is None else minutes * 60)
    if as_json:
        terminal.document(made.raw)
        return
    until = "until it is released" if made.until is None else f"until {show.moment(made.until)}"
    terminal.say(f"{made.device} is held {until}")


@gpus.command()
def release(
    context: typer.Context, device: DeviceName, url: Url = None, as_json: Json = False
) -> None:
    """Give a held device back to the queue."""
    url, as_json = url or context.obj[0], as_json or context.obj[1]
    with connect(url) as client:
        answer = client.release(device)
    if as_json:
        terminal.document(answer.raw)
    elif answer.released:
        terminal.say(f"{answer.device} is back in the queue")
    else:
        terminal.say(f"{answer.device} was not held")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(queue)
    app.add_typer(gpus, name="gpus")
