"""The client's moves of jobs: cancel, pause, resume, retry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training_cluster.client.answers import Answer, Cancelled, read
from training_cluster.client.wire import Wire, path_of


@dataclass(frozen=True, kw_only=True)
class Controlled(Answer):
    """The answer to a pause, resume or retry. `resumed_from_step` is where the job goes on, 0 for
    its start; None while it is still saving."""

    job_id: str
    status: str
    message: str = ""
    resumed_from_step: int | None = None


class JobControl:
    """Jobs are named by number or by id. No request is ever sent twice: the second of two of them
    may be refused."""

    _wire: Wire

    def cancel(self, job_id: str | int) -> Cancelled:
        """Cancel a job that waits, or tell a running one to stop."""
        return read(
            Cancelled, self._wire.document("DELETE", path_of("train", job_id), repeatable=False)
        )

    def pause(self, job_id: str | int) -> Controlled:
        """Have a running job save, stop and free its devices; take a queued one out of the
        queue."""
        return self._move(job_id, "pause", None)

    def resume(self, job_id: str | int, priority: int | None = None) -> Controlled:
        """Let a paused job go on from its last checkpoint, with its old priority or another."""
        return self._move(job_id, "resume", None if priority is None else {"priority": priority})

    def retry(self, job_id: str | int, *, from_start: bool = False) -> Controlled:
        """Try a failed or cancelled job again, from its last checkpoint or from the start."""
        return self._move(job_id, "retry", {"from": "start"} if from_start else None)

    def _move(self, job_id: str | int, move: str, body: dict[str, Any] | None) -> Controlled:
        where = path_of("train", job_id, move)
        return read(Controlled, self._wire.document("POST", where, body=body, repeatable=False))
