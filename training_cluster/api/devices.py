"""The native API's devices: look, hold, quarantine, wave through, release."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response

from training_cluster.api import examples, render
from training_cluster.api.auth import Admin, Caller, Submitter
from training_cluster.api.examples import shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.schemas import HoldRequest, QuarantineRequest, ToleranceRequest
from training_cluster.api.services import Daemon, answer
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.views import (
    DevicesView,
    HoldView,
    QuarantineView,
    ReleasedView,
    ToleranceView,
)
from training_cluster.domain.device import MIB
from training_cluster.domain.errors import DeviceNotFound

router = LateRouter(route_class=StrictJsonRoute, tags=["devices"])

_DEVICES = {"devices": [examples.DEVICE], "source": "nvml", "note": None, "fault": None}
_HOLD = {
    "device": examples.GPU_ID,
    "user": "alice",
    "reason": "debugging a notebook",
    "until": examples.STARTED_AT + 3600,
}
_RELEASED = {"device": examples.GPU_ID, "released": True}
_QUARANTINES: dict[str, Any] = {"by hand": {"value": {"reason": "its fan is loud"}}}
_TOLERANCES: dict[str, Any] = {
    "for a day": {"value": {"reason": "a display server", "memory_mib": 600, "seconds": 86400}}
}
_HOLD_REQUESTS: dict[str, Any] = {
    "for an hour": {"value": {"reason": "debugging a notebook", "seconds": 3600}}
}


@router.get("/devices", summary="List devices", responses=shown(DevicesView, _DEVICES))
async def list_devices(daemon: Daemon, _: Caller) -> Response:
    """Every device with its standing: free, leased, held, excluded, busy, quarantined or
    faulty, and why."""
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
    caller: Submitter,
) -> Response:
    """Nothing new starts on a held device; a job that has it keeps it. UUID or index. Only admins
    change or release the hold of somebody else."""
    hold = await daemon.devices.hold(device, caller, body.reason, body.seconds)
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
async def release_device(device: str, daemon: Daemon, caller: Submitter) -> Response:
    """Harmless when the device was not held."""
    released = await daemon.devices.release(device, caller)
    return answer({"device": daemon.devices.find(device).uuid, "released": released})


@router.post(
    "/devices/{device}/quarantine",
    summary="Quarantine a device",
    responses=shown(QuarantineView, examples.QUARANTINE, DeviceNotFound),
)
async def quarantine_device(
    device: str,
    body: Annotated[QuarantineRequest, Body(openapi_examples=_QUARANTINES)],
    daemon: Daemon,
    caller: Admin,
) -> Response:
    """Nothing new starts on it until an admin releases it; a job that has it keeps it."""
    made = await daemon.devices.quarantine(device, caller.name, body.reason)
    return answer(render.quarantine(made))


@router.delete(
    "/devices/{device}/quarantine",
    summary="Release a device from quarantine",
    responses=shown(ReleasedView, _RELEASED, DeviceNotFound),
)
async def end_quarantine(device: str, daemon: Daemon, caller: Admin) -> Response:
    """Whatever it was quarantined for; a fault that is still there quarantines it again."""
    released = await daemon.devices.end_quarantine(device, caller.name)
    return answer({"device": daemon.devices.find(device).uuid, "released": released})


@router.put(
    "/devices/{device}/tolerance",
    summary="Wave foreign memory through",
    responses=shown(ToleranceView, examples.TOLERANCE, DeviceNotFound),
)
async def tolerate(
    device: str,
    body: Annotated[ToleranceRequest, Body(openapi_examples=_TOLERANCES)],
    daemon: Daemon,
    caller: Admin,
) -> Response:
    """The device counts as free although others use that much of its memory; their load still
    makes it busy."""
    made = await daemon.devices.tolerate(
        device, caller.name, body.reason, body.memory_mib * MIB, body.seconds
    )
    return answer(render.tolerance(made))


@router.delete(
    "/devices/{device}/tolerance",
    summary="Wave nothing through any more",
    responses=shown(ReleasedView, _RELEASED, DeviceNotFound),
)
async def end_tolerance(device: str, daemon: Daemon, caller: Admin) -> Response:
    """Harmless when nothing was."""
    released = await daemon.devices.end_tolerance(device, caller.name)
    return answer({"device": daemon.devices.find(device).uuid, "released": released})
