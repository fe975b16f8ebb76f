"""Removing what is no longer wanted: first what it would free, then the removal."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response
from pydantic import Field

from training_cluster.api.auth import Admin
from training_cluster.api.examples import JOB_ID, shown
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.schemas import Name
from training_cluster.api.services import Daemon, answer
from training_cluster.api.shape import Shape
from training_cluster.api.strict_json import StrictJsonRoute
from training_cluster.api.strict_model import Strict
from training_cluster.domain.job import FINISHED, JobState
from training_cluster.domain.prune import PruneItem, PruneKind, PruneReport, PruneRequest

router = LateRouter(route_class=StrictJsonRoute, tags=["disk"])

_MOST_LISTED = 1000
_DAY = 86_400.0


class PruneBody(Strict):
    """Which finished jobs and what of them. Nothing goes unless `dry_run` is false."""

    dry_run: bool = True
    kinds: list[PruneKind] = Field(
        [PruneKind.CHECKPOINTS, PruneKind.CACHES],
        min_length=1,
        max_length=len(PruneKind),
        description="`results` are jobs with the model they left; no other kind removes a model. "
        "`datasets` are those no model and no job that goes on refers to, `uploads` those that "
        "broke off.",
    )
    older_than_days: float = Field(
        30.0, ge=0, le=36_500, description="Since the job ended, or the dataset or upload came."
    )
    user: Name | None = None
    state: JobState | None = Field(None, description=f"One of {', '.join(sorted(FINISHED))}.")


class PrunedItemView(Shape):
    """One thing: a path below the state directory and the bytes it takes; `name` is that of a
    dataset, or of the file of an upload."""

    kind: PruneKind
    job_id: str | None
    number: int | None
    user: str | None
    name: str | None
    path: str
    bytes: int


class PruneView(Shape):
    """What would go, or went; of many things the first thousand are listed, `things` counts all."""

    dry_run: bool
    bytes: int
    things: int
    by_kind: dict[str, int]
    deliveries: int
    items: list[PrunedItemView]
    failed: list[str]


_EXAMPLE: dict[str, Any] = {
    "dry_run": True,
    "bytes": 1610612736,
    "things": 1,
    "by_kind": {"checkpoints": 1610612736},
    "deliveries": 0,
    "items": [
        {
            "kind": "checkpoints",
            "job_id": JOB_ID,
            "number": 7,
            "user": "alice",
            "name": None,
            "path": f"jobs/{JOB_ID}/attempt-1/output/checkpoint-500",
            "bytes": 1610612736,
        }
    ],
    "failed": [],
}


@router.post("/prune", summary="Make room on the disk", responses=shown(PruneView, _EXAMPLE))
async def prune(
    body: Annotated[PruneBody, Body(openapi_examples={"what would go": {"value": {}}})],
    daemon: Daemon,
    _: Admin,
) -> Response:
    """Only of jobs that are over, never a checkpoint that is a result or that a retry needs, and a
    model only by the kind `results`. What went is on the job as `pruned`."""
    request = PruneRequest(
        kinds=frozenset(body.kinds),
        older_than_seconds=body.older_than_days * _DAY,
        user=body.user,
        state=body.state.value if body.state else None,
    )
    report = await daemon.retention.prune(request, dry_run=body.dry_run)
    return answer(_view(report, dry_run=body.dry_run))


def _view(report: PruneReport, *, dry_run: bool) -> dict[str, Any]:
    by_kind: dict[str, int] = {}
    for item in report.items:
        by_kind[item.kind.value] = by_kind.get(item.kind.value, 0) + item.bytes
    return {
        "dry_run": dry_run,
        "bytes": report.bytes,
        "things": len(report.items),
        "by_kind": by_kind,
        "deliveries": report.deliveries,
        "items": [_item(item) for item in report.items[:_MOST_LISTED]],
        "failed": report.failed[:_MOST_LISTED],
    }


def _item(item: PruneItem) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "job_id": item.job_id,
        "number": item.job_number,
        "user": item.user,
        "name": item.name,
        "path": item.path,
        "bytes": item.bytes,
    }
