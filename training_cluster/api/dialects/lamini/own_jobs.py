"""The trainings of a caller, whichever API they came by, and waiting for one of them.

Lamini's lists have no pages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from training_cluster.api.services import Services
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.principal import Principal

_AT_ONCE = 100
_LAST = 2**62
_TRAIN = "train"


async def own_jobs(
    daemon: Services, user: str, *, most: int, state: JobState | None = None
) -> list[Job]:
    """The newest `most` trainings of a user, perhaps only those in one state."""
    found: list[Job] = []
    before = _LAST
    while len(found) < most:
        page = await daemon.jobs.page(user=user, state=state, before=before, limit=_AT_ONCE)
        found += [job for job in page if job.spec.kind == _TRAIN]
        if len(page) < _AT_ONCE:
            break
        before = page[-1].number
    return found[:most]


async def until(
    daemon: Services, key: str, by: Principal, seconds: float, check: Callable[[Job], bool]
) -> Job:
    """The job as soon as `check` holds for it, or as it is after so many seconds. Raises
    JobNotFound, and Forbidden for a job of somebody else."""
    after = await daemon.history.last_event()
    job = (await daemon.jobs.get(key)).job
    by.require_ownership(job.user, f"job {job.number}")
    deadline = time.monotonic() + seconds
    async with aclosing(daemon.history.follow_events(after, job=job, by=by)) as told:
        while not check(job) and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(anext(told), left)
            except (StopAsyncIteration, TimeoutError):
                break
            job = (await daemon.jobs.get(key)).job
    return (await daemon.jobs.get(key)).job
