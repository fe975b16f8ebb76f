"""The native API's devices: look, hold, release."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from training_cluster.api import examples, render
from training_cluster.api.auth import Principal
from training_cluster.api.examples import shown
from training_cluster.api.schemas import HoldRequest
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.views import DevicesView, HoldView, ReleasedView
from training_cluster.domain.errors import DeviceNotFound

router = APIRouter(route_class=StrictJsonRoute, tags=["devices"])

_DEVICES = {"devices": [examples.DEVICE], "source": "nvml", "note": None, "fault": None}
_HOLD = {
    "device": examples.GPU_ID,
    "user": "alice",
    "reason": "debugging a notebook",
    "until": examples.STARTED_AT + 3600,
}
_RELEASED = {"device": examples.GPU_ID, "released": True}
_HOLD_REQUESTS: dict[str, Any] = {
    "for an hour": {"value": {"reason": "debugging a notebook", "seconds": 3600}}
}


@router.get("/devices", summary="List devices", responses=shown(DevicesView, _DEVICES))
async def list_devices(daemon: Daemon, _: Principal) -> Response:
    """Every device with its standing: free, leased, held, excluded, busy or faulty, and why."""
    state = await daemon.queue.state()
    inventory = daemon.devices.latest
    content = {
        "devices": render.queue_state(state)["devices"],
        "source": inventory.source,
        "note": inventory.note,
        "fault": inventory.fault,
    }
    return answer(content)


@router.put(
    "/devices/{device}/hold",
    summary="Keep a device out of the queue",
    responses=shown(HoldView, _HOLD, DeviceNotFound),
)
async def hold_device(
    device: str,
    body: Annotated[HoldRequest, Body(openapi_examples=_HOLD_REQUESTS)],
    daemon: Daemon,
    user: Principal,
) -> Response:
    """Nothing new starts on a held device; a job that has it keeps it. UUID or index."""
    hold = await daemon.devices.hold(device, user, body.reason, body.seconds)
    content = {
        "device": hold.device_uuid,
        "user": hold.user,
        "reason": hold.reason,
        "until": hold.until,
    }
    return answer(content)


@router.delete(
    "/devices/{device}/hold",
    summary="Give a held device back to the queue",
    responses=shown(ReleasedView, _RELEASED, DeviceNotFound),
)
async def release_device(device: str, daemon: Daemon, user: Principal) -> Response:
    """Harmless when the device was not held."""
    released = await daemon.devices.release(device, user)
    return answer({"device": daemon.devices.find(device).uuid, "released": released})
