"""Rows of jobs as the domain knows them: a page of jobs reads some fifty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.job import Job, JobError, JobState, Progress
from training_cluster.domain.spec import JobSpec
from training_cluster.store.json_text import parsed

SELECT = """
SELECT id, number, state, user, spec, priority, attempt_number, created_at, started_at, finished_at,
  not_before, progress, metrics, error_code, error_message, error_hint, result, warnings,
  disk_bytes, begins_after, counts_after, pruned, request, dataset_id
FROM jobs"""
"""What `job` reads, in this order: a row searches all its columns for each that is named."""


def job(row: Iterable[Any]) -> Job:
    """The job in a row of `SELECT`."""
    (
        job_id, number, state, user, spec, priority, attempt_number, created_at, started_at,
        finished_at, not_before, progress, metrics, code, message, hint, result, warnings,
        disk_bytes, begins_after, counts_after, pruned, request, dataset_id,
    ) = row  # fmt: skip
    return Job(
        id=job_id,
        number=number,
        state=JobState(state),
        user=user,
        spec=JobSpec.stored(parsed(spec)),
        priority=priority,
        attempt_number=attempt_number,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        not_before=not_before,
        progress=None if progress is None else Progress(**parsed(progress)),
        metrics=_parsed(metrics),
        error=None if code is None else JobError(code, message, hint),
        result=_parsed(result),
        warnings=tuple(parsed(warnings)),
        disk_bytes=disk_bytes,
        begins_after=begins_after,
        counts_after=counts_after,
        pruned=_parsed(pruned),
        request=DialectRequest.from_json(request) if request else None,
        dataset_id=dataset_id,
    )


def _parsed(text: str | None) -> Any:
    return None if text is None else parsed(text)
