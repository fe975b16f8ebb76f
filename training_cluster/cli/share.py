"""The share command: a public address, by zrok, for the listener that asks for a token."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from training_cluster.cli import terminal
from training_cluster.cli.options import INTERRUPTED, ConfigFile, url_of

if TYPE_CHECKING:
    from training_cluster.cli.zrok import Reader, Share
    from training_cluster.settings import Settings

_DEFAULT = "127.0.0.1:23479"
_LOOK_SECONDS = 10.0  # between two looks at whether the listener still asks for a token
_ANSWER_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0


def share(
    tunnel: Annotated[
        str | None,
        typer.Option(help=f"The daemon's listener for tunnels; default: the settings', {_DEFAULT}"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="A name reserved at zrok; else the address is a new one.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Share the daemon on the internet with zrok, until Ctrl-C; prints the address."""
    from training_cluster.cli.zrok import Zrok

    target = _target(tunnel, config)
    _require_listener(target)
    command = Zrok.find().command(target, name)
    try:
        with _ended_by_signal():
            _keep_sharing(command, target)
    except KeyboardInterrupt:
        terminal.note("the share has ended; the daemon and its jobs go on")
        raise typer.Exit(INTERRUPTED) from None


def _target(tunnel: str | None, config: Path | None) -> str:
    """The listener's URL. Raises CannotShare for what must not be shared."""
    from training_cluster.cli.zrok import CannotShare
    from training_cluster.settings import load_settings

    settings: Settings = load_settings(config)
    place = urlsplit(f"//{tunnel or settings.tunnel or _DEFAULT}")
    if place.hostname is None or place.port is None:
        raise typer.BadParameter(f"--tunnel is HOST:PORT, like {_DEFAULT}")
    if place.port == settings.port:
        raise CannotShare(
            f"port {place.port} is the daemon's own, where users of this machine need no token",
            hint=f"share its listener for tunnels: `training-cluster serve --tunnel {_DEFAULT}`",
        )
    return url_of(place.hostname, place.port)


def _require_listener(target: str) -> None:
    """Make sure that a daemon is there and asks for a token. Raises CannotShare."""
    from training_cluster.cli.zrok import CannotShare

    answers = _answers(target)
    if answers is None:
        raise CannotShare(f"nothing answers at {target}", hint=_start_hint(target))
    _require_token(target, answers)


def _require_token(target: str, answers: tuple[int, int]) -> None:
    from training_cluster.cli.zrok import CannotShare

    if answers != (200, 401):
        raise CannotShare(
            f"{target} is no listener for tunnels: it answers {answers[1]} to who shows no token",
            hint=_start_hint(target),
        )


def _start_hint(target: str) -> str:
    place = target.removeprefix("http://")
    return f"start the daemon with `training-cluster serve --tunnel {place}`"


def _answers(target: str) -> tuple[int, int] | None:
    """How it answers to who asks for its health, and for its front page, without a token; None
    when it does not answer."""
    import httpx2

    try:
        with httpx2.Client(trust_env=False, timeout=_ANSWER_SECONDS) as client:
            return client.get(f"{target}/healthz").status_code, client.get(target).status_code
    except httpx2.TransportError:
        return None


def _keep_sharing(command: list[str], target: str) -> None:
    """Start zrok, and again when it ends; a first start that fails is the end. Raises
    CannotShare."""
    from training_cluster.cli.zrok import REFUSED_FOR_GOOD, CannotShare, Reader, Share

    pause, has_shared = 1.0, False
    while True:
        began, reader, share = time.monotonic(), Reader(), Share(command)
        try:
            has_shared = _follow(share, reader, target) or has_shared
            code = share.wait()
        finally:
            share.end()
        why = reader.complaint or f"exit status {code}"
        if not has_shared or code == REFUSED_FOR_GOOD:
            raise CannotShare(f"zrok has ended: {why}")
        if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
            pause = 1.0
        terminal.warn(f"zrok has ended ({why}); it is started again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _follow(share: Share, reader: Reader, target: str) -> bool:
    """Print the addresses zrok tells, until it ends; returns whether there was one. Raises
    CannotShare when the listener lets people in without a token."""
    pending, told, look_at = b"", False, time.monotonic() + _LOOK_SECONDS
    while True:
        if time.monotonic() >= look_at:
            answers = _answers(target)
            if answers is not None:  # a daemon that restarts is away for a moment
                _require_token(target, answers)
            look_at = time.monotonic() + _LOOK_SECONDS
        wait = max(0.0, look_at - time.monotonic())
        if not select.select([share.output], [], [], wait)[0]:
            continue
        piece = share.output.read1(65536)
        *lines, pending = (pending + (piece or b"\n")).split(b"\n")
        for line in lines:
            for address in reader.addresses(line.decode(errors="replace")):
                told = True
                _tell(address)
        if not piece:
            return told


def _tell(address: str) -> None:
    terminal.say(address)
    terminal.note("who goes there needs a token: `training-cluster token create`; Ctrl-C ends it")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM ends the share as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(share)
