"""When queued jobs are likely to start and running ones to end. Pure, and honest: None without
anything to go by."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from statistics import median

from training_cluster.domain.job import Progress

_SIMULATED = 256


def typical_seconds(durations: Sequence[float]) -> float | None:
    """How long a job takes here: the median of the latest completed ones."""
    return median(durations) if durations else None


def remaining_seconds(
    progress: Progress | None, elapsed_seconds: float, typical: float | None
) -> float | None:
    """Seconds a running job still needs: by its own progress, else by what is typical."""
    if progress is not None and progress.step > 0 and progress.total_steps > 0:
        if progress.remaining_seconds is not None:
            return progress.remaining_seconds
        return elapsed_seconds * (1 - progress.fraction) / progress.fraction
    return None if typical is None else max(typical - elapsed_seconds, 0.0)


def start_delays(
    devices_free_in: Sequence[float], queued_gpus: Sequence[int], typical: float
) -> list[float | None]:
    """Seconds until each queued job starts, in queue order, if every job takes `typical`.

    `devices_free_in` are the seconds until each device is free. None for a job that asks for more
    devices than there are or for none, and beyond the first few hundred jobs.
    """
    heap = list(devices_free_in)
    heapq.heapify(heap)
    delays: list[float | None] = []
    for gpus in queued_gpus[:_SIMULATED]:
        if not 0 < gpus <= len(heap):
            delays.append(None)
            continue
        start = max([heapq.heappop(heap) for _ in range(gpus)])
        for _ in range(gpus):
            heapq.heappush(heap, start + typical)
        delays.append(start)
    return delays + [None] * (len(queued_gpus) - len(delays))
