"""The address of a job that Lamini's clients print where a script runs: `<url>/tune/<job_id>`."""

from __future__ import annotations

from fastapi.responses import RedirectResponse

from training_cluster.api.auth import Caller
from training_cluster.api.late_routes import LateRouter
from training_cluster.api.links import link
from training_cluster.api.problems import documented
from training_cluster.api.services import Daemon
from training_cluster.domain.errors import JobNotFound

router = LateRouter(tags=["lamini"])


@router.get(
    "/tune/{job_id}",
    summary="Follow the link that lamini 3 prints",
    status_code=307,
    response_class=RedirectResponse,
    responses={
        307: {"description": "where the job is: /train/{job_id}"},
        **documented(JobNotFound),
    },
)
async def follow_link(job_id: str, daemon: Daemon, caller: Caller) -> RedirectResponse:
    """To the job in the native API."""
    job = (await daemon.jobs.get(job_id)).job
    return RedirectResponse(link(f"/train/{job.id}"))
