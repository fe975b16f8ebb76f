"""What becomes of a session's runs: a dataset, a job that trains on it, its end.

Dataset and job remember the session they were made in; so the session need not be told, and no
crash between two writes can leave it in a state that is not true.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import structlog

from training_cluster.domain.dataset import DatasetOrigin, DatasetVersion, NewDataset
from training_cluster.domain.dataset_errors import UploadNotFound
from training_cluster.domain.dialect import DialectRequest
from training_cluster.domain.ids import is_job_id
from training_cluster.domain.interaction import InteractionRun
from training_cluster.domain.job import Job
from training_cluster.domain.principal import Principal
from training_cluster.domain.session_errors import SessionNotReady
from training_cluster.domain.spec import JobSpec
from training_cluster.domain.training_session import SessionStatus, TrainingSession
from training_cluster.domain.upload import Upload
from training_cluster.ports import DatasetRegistry
from training_cluster.services.datasets import Datasets
from training_cluster.services.jobs import Jobs, Overview, Submission
from training_cluster.services.training_sessions import TrainingSessions
from training_cluster.services.uploads import Uploads

log = structlog.get_logger(__name__)

_DIALECT = "vertesia"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Built:
    """The dataset that was made of a session's runs, and how many of them had no answer."""

    dataset: DatasetVersion
    skipped: int


class _Rows:
    """The lines of a dataset, made of runs as they come; counts what is in it and what is not."""

    def __init__(self, runs: AsyncIterator[InteractionRun]) -> None:
        self._runs = runs
        self.taken = self.skipped = 0

    async def lines(self) -> AsyncIterator[bytes]:
        """A line of each run that has completed. Raises SessionNotReady when there is none."""
        async for run in self._runs:
            row = run.row
            if row is None:
                self.skipped += 1
                continue
            self.taken += 1
            yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
        if not self.taken:
            raise SessionNotReady(
                f"no run of the session has completed ({self.skipped} are in it)",
                hint="POST /api/v1/training/{id}/add adds runs to it",
            )


class SessionTrainings:
    """Builds, chooses, starts and cancels. Every method takes who asks, and raises SessionNotFound,
    Forbidden for a session of somebody else, and SessionNotReady."""

    def __init__(
        self,
        sessions: TrainingSessions,
        datasets: Datasets,
        uploads: Uploads,
        folders: DatasetRegistry,
        jobs: Jobs,
    ) -> None:
        self._sessions = sessions
        self._datasets = datasets
        self._uploads = uploads
        self._folders = folders
        self._jobs = jobs

    async def build(self, session_id: str, by: Principal) -> Built:
        """Make an immutable dataset of the session's runs, one row of each that completed; it is
        checked from now on. Raises StorageFull, and SessionNotReady when there is no such run."""
        session = await self._sessions.owned(session_id, by)
        _refuse_busy(session)
        rows = _Rows(self._sessions.all_runs(session))
        new = replace(self.new_dataset(session), origin=DatasetOrigin.ROWS)
        made = await self._datasets.receive(rows.lines(), new)
        log.info("built", action="session.built", session=session.id, rows=rows.taken)
        return Built(made, rows.skipped)

    def new_dataset(self, session: TrainingSession) -> NewDataset:
        """What a dataset that comes in for a session is called and remembers."""
        return NewDataset(
            user=session.user,
            filename=f"{session.name}.jsonl",
            model=session.model,
            description=f"made in the training session {session.name!r}",
            request=DialectRequest(_DIALECT, {"session": session.id}),
        )

    async def dataset(self, session: TrainingSession) -> DatasetVersion | None:
        """The dataset a session trains on; None without one, and for a version of a folder."""
        if session.dataset_id is None or not is_job_id(session.dataset_id):
            return None
        return await self._datasets.get(session.dataset_id)

    async def choose(self, session_id: str, name: str, by: Principal) -> TrainingSession:
        """Have a session train on a dataset: `default` is what was built last, else one by id,
        number, name or `name@version`, or a version registered in a folder. Raises
        DatasetNotFound."""
        session = await self._sessions.owned(session_id, by)
        _refuse_busy(session)
        if name == DEFAULT:
            built = await self._sessions.built(session)
            if built is None:
                raise SessionNotReady(
                    "nothing was built of the session's runs yet",
                    hint="POST /api/v1/training/{id}/build does it",
                )
            return await self._sessions.choose(session, built, by)
        if name in await asyncio.to_thread(self._folders.versions):
            return await self._sessions.choose(session, name, by, is_folder=True)
        found = await self._datasets.get(name)
        return await self._sessions.choose(session, found.id, by)

    async def upload(self, session_id: str, by: Principal) -> Upload:
        """A file that is to become the session's dataset; asked for again before anything of it has
        come it is the same one. Raises TooMany and StorageFull."""
        session = await self._sessions.owned(session_id, by)
        _refuse_busy(session)
        awaited = await self._sessions.awaited_upload(session)
        if awaited is not None:
            with contextlib.suppress(UploadNotFound):
                upload = await self._uploads.get(awaited)
                if not upload.done and not upload.received_bytes:
                    return upload
        return (await self._uploads.create(self.new_dataset(session), by)).upload

    async def start(
        self, session_id: str, to_spec: Callable[[TrainingSession, str], JobSpec], by: Principal
    ) -> Overview:
        """Queue a job of the session's owner; one that is asked for twice at the same moment is
        started once. Raises what submitting raises."""
        session = await self._sessions.owned(session_id, by)
        _refuse_busy(session)
        if session.dataset is None:
            raise SessionNotReady(
                "the session has no dataset to train on",
                hint="POST /api/v1/training/{id}/build makes one of its runs, "
                "POST /api/v1/training/{id}/dataset names another",
            )
        before = session.job.number if session.job else 0
        submission = Submission(
            spec=to_spec(session, session.dataset),
            user=session.user,
            warnings=session.warnings,
            idempotency_key=f"session/{session.id}/after/{before}",
            request=DialectRequest(_DIALECT, {"session": session.id}),
        )
        return await self._jobs.submit(submission)

    async def cancel(self, session_id: str, by: Principal) -> Job:
        """End the session's job. Raises JobAlreadyFinished."""
        session = await self._sessions.get(session_id)
        by.require_ownership(session.user, f"session {session.name!r}")
        if session.job is None:
            raise SessionNotReady(
                "no training was started in the session",
                hint="POST /api/v1/training/{id}/start starts one",
            )
        return await self._jobs.cancel(session.job.id, by)


def _refuse_busy(session: TrainingSession) -> None:
    if session.status is SessionStatus.PROCESSING and session.job is not None:
        raise SessionNotReady(
            f"the session's training is under way (job {session.job.number})",
            hint="wait for its end, or POST /api/v1/training/{id}/cancel",
        )
