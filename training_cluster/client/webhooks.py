"""The client's part for webhooks: subscriptions, their secrets, and what became of deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from training_cluster.client.answers import Answer, read
from training_cluster.client.errors import ClientError
from training_cluster.client.wire import Wire

_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Webhook(Answer):
    """A webhook, its address masked; `format` is standard, slack or apprise, empty `events` mean
    all. Times are Unix seconds."""

    webhook_id: str
    url: str = ""
    format: str = ""
    user: str = ""
    events: tuple[str, ...] = ()
    only_user: str | None = None
    job_id: str | None = None
    description: str = ""
    created_at: float = 0.0
    disabled_at: float | None = None
    disabled_reason: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.webhook_id!r}, {self.url!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class UnveiledWebhook(Webhook):
    """A webhook with its signing secret, which the daemon tells this once; None where nothing is
    signed."""

    secret: str | None = None


@dataclass(frozen=True, kw_only=True)
class Delivery(Answer):
    """One event on its way to one webhook; `state` is pending, delivered, failed or dropped.
    `next_at` is the next try. Times are Unix seconds."""

    delivery: int
    webhook_id: str
    message_id: str = ""
    event: str = ""
    event_sequence: int = 0
    state: str = ""
    created_at: float = 0.0
    tries: int = 0
    next_at: float | None = None
    job_id: str | None = None
    job_sequence: int | None = None
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryDetail(Delivery):
    """A delivery with what is sent; `body` None before the first try."""

    body: str | None = None


class Webhooks:
    """`client.webhooks`: one method for each thing that can be done with webhooks."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(
        self,
        url: str,
        events: Sequence[str] = (),
        *,
        only_user: str | None = None,
        description: str = "",
    ) -> UnveiledWebhook:
        """Subscribe to events, all of them if none is named; keep the secret of the answer."""
        body = {
            "url": url,
            "events": list(events),
            "only_user": only_user,
            "description": description,
        }
        # not repeatable: each request that arrives is a subscription
        found = self._wire.document("POST", "/webhooks", body=body, repeatable=False)
        return read(UnveiledWebhook, found)

    def all(self) -> list[Webhook]:
        """The subscriptions one may see, oldest first."""
        found = self._wire.document("GET", "/webhooks").get("webhooks", [])
        return [read(Webhook, item) for item in found]

    def get(self, webhook_id: str) -> Webhook:
        """One webhook, a job's own too."""
        return read(Webhook, self._wire.document("GET", _path(webhook_id)))

    def delete(self, webhook_id: str) -> None:
        """Unsubscribe; what waits for it is dropped."""
        self._wire.send("DELETE", _path(webhook_id), repeatable=False)

    def enable(self, webhook_id: str) -> Webhook:
        """Have a disabled webhook told of events again."""
        return read(Webhook, self._wire.document("POST", _path(webhook_id, "enable")))

    def rotate(self, webhook_id: str) -> UnveiledWebhook:
        """A new signing secret; the one before signs along for 24 hours."""
        path = _path(webhook_id, "rotate")
        return read(UnveiledWebhook, self._wire.document("POST", path, repeatable=False))

    def test(self, webhook_id: str) -> Delivery:
        """Send a test notification."""
        path = _path(webhook_id, "test")
        return read(Delivery, self._wire.document("POST", path, repeatable=False))

    def deliveries(
        self, webhook_id: str, state: str | None = None, limit: int | None = None
    ) -> Iterator[Delivery]:
        """Deliveries, newest first; pages are fetched as they are needed."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            asked = {"state": state, "limit": size, "cursor": cursor}
            page = self._wire.document("GET", _path(webhook_id, "deliveries"), params=asked)
            found = [read(Delivery, item) for item in page.get("deliveries", [])]
            yield from found
            left = None if left is None else left - len(found)
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def delivery(self, webhook_id: str, number: int) -> DeliveryDetail:
        """One delivery with what is sent."""
        path = _path(webhook_id, "deliveries", number)
        return read(DeliveryDetail, self._wire.document("GET", path))

    def replay(self, webhook_id: str, number: int) -> Delivery:
        """Send one delivery again."""
        path = _path(webhook_id, "deliveries", number, "replay")
        return read(Delivery, self._wire.document("POST", path))

    def replay_undelivered(self, webhook_id: str, since: float = 0.0) -> int:
        """Send again all that was created since then (Unix seconds) and did not arrive."""
        path = _path(webhook_id, "replay")
        return int(self._wire.document("POST", path, body={"since": since}).get("replayed", 0))


def _path(webhook_id: str, *more: str | int) -> str:
    if webhook_id.strip(". ") == "":
        raise ClientError(f"{webhook_id!r} names no webhook", hint="webhooks have ids: wh_...")
    return "/".join(("", "webhooks", quote(webhook_id, safe=""), *map(str, more)))
