"""The shapes of the webhook routes: what they take and what they answer, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from training_cluster.api.examples import JOB_ID, STARTED_AT
from training_cluster.api.schemas import Label, Url
from training_cluster.api.shape import Shape
from training_cluster.api.strict_model import Strict
from training_cluster.domain.webhook import DeliveryState

EventName = Literal[
    "job.queued",
    "job.started",
    "job.progress",
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.paused",
    "job.resumed",
    "job.retried",
    "job.preempted",
    "job.retrying",
    "job.stalled",
    "device.quarantined",
]
Remark = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class WebhookRequest(Strict):
    """A subscription."""

    url: Url = Field(
        description="An incoming webhook of Slack (https://hooks.slack.com/services/...), "
        "slack+https://... for another receiver of Slack's messages, or a receiver of signed JSON."
    )
    events: list[EventName] = Field(
        default_factory=list, max_length=16, description="Empty: all of them."
    )
    only_user: Label | None = Field(None, description="Only this user's jobs.")
    description: Remark = ""


class ReplayRequest(Strict):
    """Which of the deliveries that did not arrive are made again."""

    since: float = Field(0.0, ge=0, le=1e11, description="Unix seconds; 0: all there are.")


class WebhookView(Shape):
    """A webhook; `url` is masked, `format` is standard, slack or apprise. Times are Unix
    seconds. `job_id` is set for the receiver that a job named itself."""

    webhook_id: str
    url: str
    format: str
    user: str
    events: list[str]
    only_user: str | None
    job_id: str | None
    description: str
    created_at: float
    disabled_at: float | None
    disabled_reason: str | None
    links: dict[str, str]


class UnveiledView(WebhookView):
    """A webhook with its signing secret, which is shown this once; null where nothing is signed."""

    secret: str | None


class WebhooksView(Shape):
    """The webhooks a user may see, oldest first."""

    webhooks: list[WebhookView]


class DeletedView(Shape):
    """The webhook that was told of events until now."""

    webhook_id: str
    deleted: bool


class DeliveryView(Shape):
    """One event on its way to one webhook. Times are Unix seconds; `next_at` is the next try."""

    delivery: int
    webhook_id: str
    message_id: str
    event: str
    event_sequence: int
    state: DeliveryState
    created_at: float
    tries: int
    next_at: float | None
    job_id: str | None
    job_sequence: int | None
    last_status: int | None
    last_error: str | None
    delivered_at: float | None


class DeliveryDetailView(DeliveryView):
    """A delivery with what is sent; `body` is null before the first try."""

    body: str | None


class DeliveryPage(Shape):
    """Deliveries, newest first; `next_cursor` is null on the last page."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


class ReplayedView(Shape):
    """How many deliveries are made again."""

    webhook_id: str
    replayed: int


REQUESTS: dict[str, Any] = {
    "Slack's messages": {
        "value": {
            "url": "slack+https://chat.lab.example/hooks/xxxx",
            "events": ["job.completed", "job.failed"],
        }
    },
    "signed JSON": {"value": {"url": "https://lab.example/hook", "only_user": "alice"}},
}
REPLAYS: dict[str, Any] = {"since an hour": {"value": {"since": STARTED_AT}}}
WEBHOOK: dict[str, Any] = {
    "webhook_id": "wh_3f9c2a1d7be04c58a6e1",
    "url": "https://lab.example/***",
    "format": "standard",
    "user": "alice",
    "events": ["job.completed", "job.failed"],
    "only_user": "alice",
    "job_id": None,
    "description": "",
    "created_at": STARTED_AT,
    "disabled_at": None,
    "disabled_reason": None,
    "links": {
        "self": "/webhooks/wh_3f9c2a1d7be04c58a6e1",
        "deliveries": "/webhooks/wh_3f9c2a1d7be04c58a6e1/deliveries",
    },
}
UNVEILED = {**WEBHOOK, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
DELETED = {"webhook_id": WEBHOOK["webhook_id"], "deleted": True}
DELIVERY: dict[str, Any] = {
    "delivery": 12,
    "webhook_id": WEBHOOK["webhook_id"],
    "message_id": "msg_345_wh_3f9c2a1d7be04c58a6e1",
    "event": "job.failed",
    "event_sequence": 345,
    "state": "pending",
    "created_at": STARTED_AT + 60,
    "tries": 1,
    "next_at": STARTED_AT + 65.2,
    "job_id": JOB_ID,
    "job_sequence": 3,
    "last_status": 503,
    "last_error": None,
    "delivered_at": None,
}
DELIVERY_DETAIL = {**DELIVERY, "body": '{"type":"job.failed","sequence":345,"data":{}}'}
REPLAYED = {"webhook_id": WEBHOOK["webhook_id"], "replayed": 3}
