"""Commands over what jobs share: queue, gpus."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from training_cluster.cli import show, terminal
from training_cluster.cli.options import Json, Url, Watch, connect, no_json_with

_WATCH_SECONDS = 2.0

gpus = typer.Typer(
    help="Devices: look, hold, quarantine, tolerate, release.", invoke_without_command=True
)

Reason = Annotated[str, typer.Option("--reason", "-r", help="What others shall read.")]
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
    reason: Reason,
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
    """Give a held or quarantined device back to the queue; quarantines are for admins to end."""
    url, as_json = url or context.obj[0], as_json or context.obj[1]
    with connect(url) as client:
        answer = client.release(device)
        if any(one.uuid == answer.device and one.quarantine for one in client.devices()):
            answer = client.gpus.release(device)
    if as_json:
        terminal.document(answer.raw)
    elif answer.released:
        terminal.say(f"{answer.device} is back in the queue")
    else:
        terminal.say(f"{answer.device} was neither held nor quarantined")


@gpus.command()
def quarantine(
    context: typer.Context, device: DeviceName, reason: Reason, url: Url = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Keep a device out of the queue until an admin releases it; a job that has it keeps it."""
    url, as_json = url or context.obj[0], as_json or context.obj[1]
    with connect(url) as client:
        made = client.gpus.quarantine(device, reason)
    if as_json:
        terminal.document(made.raw)
    else:
        terminal.say(f"{made.device} is quarantined until it is released")


@gpus.command()
def tolerate(
    context: typer.Context,
    device: DeviceName,
    mib: Annotated[int, typer.Option(min=0, help="Memory that others may use; 0: no more.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="What others shall read.")] = "",
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="For how long; default: until --mib 0.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have a device count as free although others use some of its memory."""
    url, as_json = url or context.obj[0], as_json or context.obj[1]
    with connect(url) as client:
        if not mib:
            ended = client.gpus.end_tolerance(device)
            raw, said = ended.raw, f"{ended.device} is free only when nobody uses it"
        else:
            seconds = None if minutes is None else minutes * 60
            made = client.gpus.tolerate(device, reason or "waved through", mib, seconds)
            raw, said = made.raw, f"{made.device} counts as free with {mib} MiB in use by others"
    if as_json:
        terminal.document(raw)
    else:
        terminal.say(said)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(queue)
    app.add_typer(gpus, name="gpus")
