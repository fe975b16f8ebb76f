"""Waits for a job to come to rest, for clients that expect the answer to be the outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import aclosing

from training_cluster.api.services import Services
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.principal import Principal


async def until(
    daemon: Services, job: Job, states: Collection[JobState], seconds: float, by: Principal
) -> Job:
    """The job once it is in one of these states, or as it is after so many seconds."""
    deadline = time.monotonic() + seconds
    after = await daemon.history.last_event()
    job = await daemon.history.job(job.id)
    async with aclosing(daemon.history.follow_events(after, job=job, by=by)) as told:
        while job.state not in states and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(anext(told), left)
            except (StopAsyncIteration, TimeoutError):
                break
            job = await daemon.history.job(job.id)
    return await daemon.history.job(job.id)
