"""Commands over webhooks: who is told of events, and what became of each telling."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from training_cluster.cli import show, terminal
from training_cluster.cli.options import Json, Url, connect
from training_cluster.domain.webhook import DeliveryState

if TYPE_CHECKING:
    from training_cluster.client import Client, Delivery, UnveiledWebhook, Webhook

webhook = typer.Typer(help="Slack and other receivers that are told of events.")

WebhookName = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, wh_...")]

_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 20.0


@webhook.callback()
def group() -> None:
    """Slack and other receivers that are told of events."""


@webhook.command()
def add(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="A Slack webhook or a receiver of signed JSON; - reads it."
        ),
    ],
    events: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", help="Such as job.failed; may be repeated. Default: all."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's jobs.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Subscribe a receiver to events."""
    # an address is a secret: from standard input it is in no list of processes
    receiver = sys.stdin.readline().strip() if address == "-" else address
    with connect(url) as client:
        made = client.webhooks.create(
            receiver, events or (), only_user=user, description=description
        )
    if as_json:
        terminal.document(made.raw)
        return
    terminal.say(f"{made.webhook_id} is told at {made.url}")
    _tell_secret(made)
    terminal.note(f"try it with: training-cluster webhook test {made.webhook_id}")


@webhook.command("list")
def list_all(url: Url = None, as_json: Json = False) -> None:
    """List the subscriptions."""
    with connect(url) as client:
        found = client.webhooks.all()
    if as_json:
        terminal.document({"webhooks": [hook.raw for hook in found]})
    elif found:
        terminal.show(_webhooks_table(found))
    else:
        terminal.note("there are none; add one with: training-cluster webhook add ADDRESS")


@webhook.command("show")
def show_one(name: WebhookName, url: Url = None, as_json: Json = False) -> None:
    """Show one webhook, a job's own too."""
    with connect(url) as client:
        hook = client.webhooks.get(name)
    if as_json:
        terminal.document(hook.raw)
    else:
        terminal.show(_webhook_view(hook))


@webhook.command()
def remove(name: WebhookName, url: Url = None, as_json: Json = False) -> None:
    """Unsubscribe; what still waits for it is dropped."""
    with connect(url) as client:
        client.webhooks.delete(name)
    if as_json:
        terminal.document({"webhook_id": name, "deleted": True})
    else:
        terminal.say(f"{name} is told nothing more")


@webhook.command()
def enable(name: WebhookName, url: Url = None, as_json: Json = False) -> None:
    """Tell a disabled webhook of events again."""
    with connect(url) as client:
        hook = client.webhooks.enable(name)
    if as_json:
        terminal.document(hook.raw)
    else:
        terminal.say(f"{hook.webhook_id} is told of events from now on")


@webhook.command()
def rotate(name: WebhookName, url: Url = None, as_json: Json = False) -> None:
    """Sign by a new secret; the one before signs along for 24 hours."""
    with connect(url) as client:
        made = client.webhooks.rotate(name)
    if as_json:
        terminal.document(made.raw)
    else:
        _tell_secret(made)


@webhook.command("test")
def send_test(name: WebhookName, url: Url = None, as_json: Json = False) -> None:
    """Send a test notification and tell what the receiver answered."""
    with connect(url) as client:
        sent = client.webhooks.test(name)
        sent = _answered(client, sent)
    if as_json:
        terminal.document(sent.raw)
    else:
        terminal.say(f"delivery {sent.delivery}: {_outcome(sent)}")
    if sent.state != DeliveryState.DELIVERED:
        raise typer.Exit(1)


def _answered(client: Client, sent: Delivery) -> Delivery:
    """The delivery after its first try, or as it is when that takes long."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while sent.state == DeliveryState.PENDING and not sent.tries and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        sent = client.webhooks.delivery(sent.webhook_id, sent.delivery)
    return sent


@webhook.command()
def deliveries(
    name: WebhookName,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Deliveries shown at most.")] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List what a webhook was told, newest first."""
    with connect(url) as client:
        found = list(client.webhooks.deliveries(name, state, limit))
    if as_json:
        terminal.document({"deliveries": [one.raw for one in found]})
    else:
        terminal.show(_deliveries_table(found, time.time()))


@webhook.command()
def replay(
    name: WebhookName,
    delivery: Annotated[
        int | None,
        typer.Argument(min=1, help="Its number; without one, all that did not arrive."),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Without a number: only what is that new.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Send deliveries again, as they were."""
    if delivery is not None and hours is not None:
        raise typer.BadParameter("--hours goes without the number of a delivery")
    with connect(url) as client:
        if delivery is not None:
            again: dict[str, Any] = client.webhooks.replay(name, delivery).raw
            said = f"delivery {delivery} is sent again"
        else:
            since = 0.0 if hours is None else time.time() - hours * 3600
            count = client.webhooks.replay_undelivered(name, since)
            again = {"webhook_id": name, "replayed": count}
            said = f"{count} deliveries are sent again"
    if as_json:
        terminal.document(again)
    else:
        terminal.say(said)


def _tell_secret(made: UnveiledWebhook) -> None:
    if made.secret is not None:
        terminal.say(f"secret {made.secret}")
        terminal.note("the secret is shown this once: the receiver checks signatures by it")


def _webhooks_table(hooks: Iterable[Webhook]) -> Table:
    made = show.table("WEBHOOK", "TELLS", "FORMAT", "USER", "OF", "EVENTS", "REMARK")
    for hook in hooks:
        events = ", ".join(hook.events) or "all"
        whose = hook.only_user or "everybody"
        show.row(
            made, hook.webhook_id, hook.url, hook.format, hook.user, whose, events, _remark(hook)
        )
    return made


def _remark(hook: Webhook) -> str:
    return f"disabled: {hook.disabled_reason}" if hook.disabled_at else hook.description


def _webhook_view(hook: Webhook) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (
        ("webhook", hook.webhook_id),
        ("tells", hook.url),
        ("format", hook.format),
        ("user", hook.user),
        ("job", hook.job_id),
        ("of", hook.only_user),
        ("events", ", ".join(hook.events) or "all"),
        ("created", show.moment(hook.created_at)),
        ("remark", _remark(hook)),
    ):
        if value:
            show.row(facts, name, value)
    return facts


def _deliveries_table(found: Iterable[Delivery], now: float) -> Table:
    made = show.table(
        "DELIVERY", "EVENT", "JOB", "CREATED", "TRIES", "OUTCOME", right=("DELIVERY",)
    )
    for one in found:
        outcome = _outcome(one)
        if one.next_at is not None and one.tries:
            outcome += f", again in {show.duration(one.next_at - now)}"
        show.row(
            made,
            one.delivery,
            one.event,
            one.job_id,
            show.moment(one.created_at),
            one.tries,
            outcome,
        )
    return made


def _outcome(delivery: Delivery) -> str:
    answer = f"answered {delivery.last_status}" if delivery.last_status else delivery.last_error
    return f"{delivery.state}, {answer}" if answer else delivery.state


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(webhook, name="webhook")
