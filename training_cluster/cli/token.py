"""Commands over tokens: who gets in from other machines."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from training_cluster.cli import show, terminal
from training_cluster.cli.options import Json, Url, connect
from training_cluster.domain.principal import Role

if TYPE_CHECKING:
    from training_cluster.client import Token

token = typer.Typer(help="Who gets in from other machines, and as whom.")

_DAY_SECONDS = 86400.0


@token.callback()
def group() -> None:
    """Who gets in from other machines, and as whom."""


@token.command()
def create(
    user: Annotated[
        str | None, typer.Option(help="Whose it becomes; default: one's own name.")
    ] = None,
    role: Annotated[
        Role, typer.Option(help="viewer looks, submitter has jobs, admin may do everything.")
    ] = Role.SUBMITTER,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[
        float | None, typer.Option(min=0.001, help="Valid so long; default: until revoked.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a token; it is shown this once. On the daemon's machine its own user and root may."""
    seconds = None if days is None else days * _DAY_SECONDS
    with connect(url) as client:
        made = client.tokens.create(user, role=role.value, label=label, seconds=seconds)
    if as_json:
        terminal.document(made.raw)
        return
    terminal.say(made.token)
    until = "" if made.expires_at is None else f", until {show.moment(made.expires_at)}"
    terminal.note(f"for {made.user} as {made.role}{until}: it is shown this once")
    terminal.note(f"end it with: training-cluster token revoke {made.token_id}")


@token.command("list")
def list_all(
    revoked: Annotated[bool, typer.Option("--all", help="Those that are revoked, too.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List one's tokens, an admin everybody's; secrets are not among it."""
    with connect(url) as client:
        found = client.tokens.all(revoked=revoked)
    if as_json:
        terminal.document({"tokens": [one.raw for one in found]})
    elif found:
        terminal.show(_table(found))
    else:
        terminal.note("there are none; make one with: training-cluster token create")


@token.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `list` shows it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """End a token, with its logins and open streams."""
    with connect(url) as client:
        gone = client.tokens.revoke(name)
    if as_json:
        terminal.document(gone.raw)
    else:
        terminal.say(f"{gone.token_id} of {gone.user} opens nothing any more")


def _table(found: Iterable[Token]) -> Table:
    made = show.table("TOKEN", "USER", "ROLE", "MADE BY", "CREATED", "LAST USED", "UNTIL", "LABEL")
    for one in found:
        until = "revoked" if one.revoked_at else _until(one.expires_at)
        used = "-" if one.last_used_at is None else show.moment(one.last_used_at)
        created = show.moment(one.created_at)
        show.row(
            made, one.token_id, one.user, one.role, one.made_by, created, used, until, one.label
        )
    return made


def _until(expires_at: float | None) -> str:
    if expires_at is None:
        return "-"
    return "expired" if expires_at <= time.time() else show.moment(expires_at)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(token, name="token")
