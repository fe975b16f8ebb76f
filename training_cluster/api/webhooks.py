"""The native API's webhooks: subscribe, look, rotate secrets, test, replay, unsubscribe."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response

from training_cluster.api import render, webhook_views
from training_cluster.api.auth import Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.links import link
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.webhook_views import (
    DeletedView,
    DeliveryDetailView,
    DeliveryPage,
    DeliveryView,
    ReplayedView,
    ReplayRequest,
    UnveiledView,
    WebhookRequest,
    WebhooksView,
    WebhookView,
)
from training_cluster.domain.errors import Conflict, DeliveryNotFound, StorageFull, WebhookNotFound
from training_cluster.domain.webhook import Delivery, DeliveryState, Webhook
from training_cluster.services.webhooks import NewWebhook, Unveiled
from training_cluster.store.deliveries import NEWEST

router = LateRouter(route_class=StrictJsonRoute, tags=["webhooks"])

WebhookId = Annotated[str, Path(max_length=64)]
DeliveryNumber = Annotated[int, Path(ge=1, le=2**62)]

_CREATED = {
    "model": UnveiledView,
    "content": {"application/json": {"example": webhook_views.UNVEILED}},
}


@router.post(
    "/webhooks",
    status_code=201,
    summary="Subscribe to events",
    responses={201: _CREATED, **documented(Conflict, StorageFull)},
)
async def create_webhook(
    body: Annotated[WebhookRequest, Body(openapi_examples=webhook_views.REQUESTS)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """The secret that signs notifications (Standard Webhooks) is in this answer and in no other;
    Slack's messages are not signed."""
    wanted = NewWebhook(
        url=body.url,
        events=tuple(body.events),
        only_user=body.only_user,
        description=body.description,
    )
    return answer(_unveiled(await daemon.webhooks.create(wanted, caller)), 201)


@router.get(
    "/webhooks",
    summary="List subscriptions",
    responses=shown(WebhooksView, {"webhooks": [webhook_views.WEBHOOK]}),
)
async def list_webhooks(daemon: Daemon, caller: Submitter) -> Response:
    """One's own, oldest first; administrators see everybody's."""
    found = await daemon.webhooks.visible(caller)
    return answer({"webhooks": [_webhook(hook) for hook in found]})


@router.get(
    "/webhooks/{webhook_id}",
    summary="Look at one webhook",
    responses=shown(WebhookView, webhook_views.WEBHOOK, WebhookNotFound),
)
async def get_webhook(webhook_id: WebhookId, daemon: Daemon, caller: Submitter) -> Response:
    """A subscription, or the receiver that a job named itself."""
    return answer(_webhook(await daemon.webhooks.get(webhook_id, caller)))


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Unsubscribe",
    responses=shown(DeletedView, webhook_views.DELETED, WebhookNotFound),
)
async def delete_webhook(webhook_id: WebhookId, daemon: Daemon, caller: Submitter) -> Response:
    """Its address and secret are forgotten, and what still waits for it is dropped."""
    await daemon.webhooks.delete(webhook_id, caller)
    return answer({"webhook_id": webhook_id, "deleted": True})


@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Sign by a new secret",
    responses=shown(UnveiledView, webhook_views.UNVEILED, WebhookNotFound, Conflict),
)
async def rotate_secret(webhook_id: WebhookId, daemon: Daemon, caller: Submitter) -> Response:
    """For 24 hours the secret before signs as well, so that the receiver can change over."""
    return answer(_unveiled(await daemon.webhooks.rotate(webhook_id, caller)))


@router.post(
    "/webhooks/{webhook_id}/enable",
    summary="Tell a disabled webhook of events again",
    responses=shown(WebhookView, webhook_views.WEBHOOK, WebhookNotFound),
)
async def enable_webhook(webhook_id: WebhookId, daemon: Daemon, caller: Submitter) -> Response:
    """A receiver that answers 410 is disabled. Harmless for one that is not."""
    return answer(_webhook(await daemon.webhooks.enable(webhook_id, caller)))


@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Send a test notification",
    responses=shown(DeliveryView, webhook_views.DELIVERY, WebhookNotFound, Conflict),
)
async def test_webhook(webhook_id: WebhookId, daemon: Daemon, caller: Submitter) -> Response:
    """The delivery that is on its way now: look at it to see what the receiver answered."""
    return answer(_delivery(await daemon.webhooks.test(webhook_id, caller)))


@router.post(
    "/webhooks/{webhook_id}/replay",
    summary="Send again all that did not arrive",
    responses=shown(ReplayedView, webhook_views.REPLAYED, WebhookNotFound, Conflict),
)
async def replay_undelivered(
    webhook_id: WebhookId,
    body: Annotated[ReplayRequest, Body(openapi_examples=webhook_views.REPLAYS)],
    daemon: Daemon,
    caller: Submitter,
) -> Response:
    """Everything created since then that was given up or dropped."""
    count = await daemon.webhooks.replay_undelivered(webhook_id, caller, body.since)
    return answer({"webhook_id": webhook_id, "replayed": count})


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="List deliveries, newest first",
    responses=shown(
        DeliveryPage, {"deliveries": [webhook_views.DELIVERY], "next_cursor": None}, WebhookNotFound
    ),
)
async def list_deliveries(
    webhook_id: WebhookId,
    daemon: Daemon,
    caller: Submitter,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[
        str | None, Query(max_length=64, description="next_cursor of the page before.")
    ] = None,
) -> Response:
    """What this webhook was told, is told and will be told again."""
    before = NEWEST if cursor is None else render.decode_cursor(cursor, "delivery")
    found = await daemon.webhooks.deliveries(
        webhook_id, caller, state=state, before=before, limit=limit + 1
    )
    more = len(found) > limit
    content = {
        "deliveries": [_delivery(one) for one in found[:limit]],
        "next_cursor": render.encode_cursor(found[limit - 1].id, "delivery") if more else None,
    }
    return answer(content)


@router.get(
    "/webhooks/{webhook_id}/deliveries/{number}",
    summary="Look at one delivery",
    responses=shown(
        DeliveryDetailView, webhook_views.DELIVERY_DETAIL, WebhookNotFound, DeliveryNotFound
    ),
)
async def get_delivery(
    webhook_id: WebhookId, number: DeliveryNumber, daemon: Daemon, caller: Submitter
) -> Response:
    """With the body that is sent, byte for byte what is signed."""
    found, body = await daemon.webhooks.delivery(webhook_id, caller, number)
    text = None if body is None else body.decode("utf-8", "replace")
    return answer({**_delivery(found), "body": text})


@router.post(
    "/webhooks/{webhook_id}/deliveries/{number}/replay",
    summary="Send a delivery again",
    responses=shown(
        DeliveryView, webhook_views.DELIVERY, WebhookNotFound, DeliveryNotFound, Conflict
    ),
)
async def replay_delivery(
    webhook_id: WebhookId, number: DeliveryNumber, daemon: Daemon, caller: Submitter
) -> Response:
    """The same message under the same id, from the start of the schedule; one that is pending
    goes on as it is."""
    return answer(_delivery(await daemon.webhooks.replay(webhook_id, caller, number)))


def _webhook(hook: Webhook) -> dict[str, Any]:
    path = link(f"/webhooks/{hook.id}")
    return {
        "webhook_id": hook.id,
        "url": hook.url,
        "format": hook.format,
        "user": hook.user,
        "events": hook.events,
        "only_user": hook.only_user,
        "job_id": hook.job_id,
        "description": hook.description,
        "created_at": hook.created_at,
        "disabled_at": hook.disabled_at,
        "disabled_reason": hook.disabled_reason,
        "links": {"self": path, "deliveries": f"{path}/deliveries"},
    }


def _unveiled(made: Unveiled) -> dict[str, Any]:
    return {**_webhook(made.webhook), "secret": made.secret}


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery": delivery.id,
        "webhook_id": delivery.webhook_id,
        "message_id": delivery.message_id,
        "event": delivery.event_type,
        "event_sequence": delivery.event_sequence,
        "state": delivery.state.value,
        "created_at": delivery.created_at,
        "tries": delivery.tries,
        "next_at": delivery.next_at,
        "job_id": delivery.job_id,
        "job_sequence": delivery.job_sequence,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "delivered_at": delivery.delivered_at,
    }
