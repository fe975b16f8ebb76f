"""The exception tree: every refusal and failure the daemon can name.

TrainingClusterError
├── InvalidRequest             the request says something that cannot be
│   ├── UnknownDataset
│   ├── InvalidDataset
│   ├── ModelNotAllowed
│   ├── ImpossibleRequest      asks for more than this machine has
│   └── IdempotencyMismatch    same Idempotency-Key, another body
├── AccessDenied               nobody knows who asks
├── Forbidden                  the caller is known and may not do that
├── NotFound
│   ├── JobNotFound
│   ├── DeviceNotFound
│   ├── ModelNotFound
│   ├── WebhookNotFound
│   ├── DeliveryNotFound
│   ├── DatasetNotFound
│   ├── UploadNotFound
│   ├── RunNotFound, SessionNotFound, EnvironmentNotFound   (session_errors.py)
│   └── TokenNotFound
├── Conflict
│   ├── JobAlreadyFinished
│   ├── WrongState             the job is in no state for that; so is a session: SessionNotReady
│   ├── ModelInUse
│   ├── NoDeviceFree           strategy=reject and nothing is free
│   ├── DatasetInUse           a job or a model refers to it
│   ├── DatasetNotReady        its check has not ended, or did not end well
│   ├── NameTaken              the name is somebody else's, or the version exists
│   ├── WrongOffset            a part of an upload does not follow on what came before
│   └── StaleTransition        somebody else moved the job first
├── TooMany                    the caller has used up what one caller may take
│   ├── TooManyJobs
│   ├── TooManyStreams
│   └── TooManyFailures        to get in
├── Unavailable
│   ├── StoreUnavailable
│   ├── StoreDamaged           found damaged while running; read only from then on
│   ├── EngineUnavailable
│   ├── InspectorUnavailable   datasets cannot be read now (InspectorDied: one in particular)
│   └── TrackerUnavailable     try again later
├── TrackerRefused             this run will never be taken as it is
├── Pruned                     it was there and was removed to make room
├── StorageFull
└── CannotStart                the daemon refuses to come up
    ├── StateDirectoryInUse
    ├── StoreCorrupt
    ├── StoreTooNew            a later version of the program has used it
    └── PortInUse

`api/app.py` maps classes to HTTP status codes; `code` is the stable machine-readable word.
The class docstring is the default message. Those of datasets are in `dataset_errors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of a request and what would be right."""

    field: str
    message: str
    expected: str | None = None


class TrainingClusterError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        super().__init__(self.message)


class InvalidRequest(TrainingClusterError):
    """The request is not valid."""

    code = "invalid_request"

    def __init__(
        self,
        message: str | None = None,
        *,
        problems: tuple[FieldProblem, ...] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class UnknownDataset(InvalidRequest):
    """No such dataset version is registered."""

    code = "unknown_dataset"


class InvalidDataset(InvalidRequest):
    """The dataset cannot be used for this job."""

    code = "invalid_dataset"


class ModelNotAllowed(InvalidRequest):
    """The model name is neither a hub id nor a directory under a model root."""

    code = "model_not_allowed"


class ImpossibleRequest(InvalidRequest):
    """The job asks for more than this machine has."""

    code = "impossible_request"


class IdempotencyMismatch(InvalidRequest):
    """This Idempotency-Key was already used with another request body."""

    code = "idempotency_mismatch"


class AccessDenied(TrainingClusterError):
    """The daemon does not know who asks."""

    code = "access_denied"


class Forbidden(TrainingClusterError):
    """This caller is known and may not do that."""

    code = "forbidden"


class NotFound(TrainingClusterError):
    """There is no such thing."""

    code = "not_found"


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class DeviceNotFound(NotFound):
    """There is no such device."""

    code = "device_not_found"


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


class DeliveryNotFound(NotFound):
    """There is no such delivery."""

    code = "delivery_not_found"


class TokenNotFound(NotFound):
    """There is no such token."""

    code = "token_not_found"


class Conflict(TrainingClusterError):
    """The request does not fit the present state."""

    code = "conflict"


class JobAlreadyFinished(Conflict):
    """The job has already finished."""

    code = "job_already_finished"


class WrongState(Conflict):
    """The job is in no state for that."""

    code = "wrong_state"


class ModelInUse(Conflict):
    """A job that is not over uses the model."""

    code = "model_in_use"


class NoDeviceFree(Conflict):
    """No device is free for this job now."""

    code = "no_device_free"

    def __init__(self, message: str, *, retry_after_seconds: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class StaleTransition(Conflict):
    """The job changed state in the meantime."""

    code = "stale_transition"


class TooMany(TrainingClusterError):
    """This is more than one caller may have at a time."""

    code = "too_many"

    def __init__(self, message: str, *, retry_after_seconds: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class TooManyJobs(TooMany):
    """The caller has too many jobs waiting."""

    code = "too_many_jobs"


class TooManyStreams(TooMany):
    """The caller has too many event streams open."""

    code = "too_many_streams"


class TooManyFailures(TooMany):
    """Too many attempts to get in have failed from there."""

    code = "too_many_failures"


class Unavailable(TrainingClusterError):
    """A part of the daemon is not available at the moment."""

    code = "unavailable"


class StoreUnavailable(Unavailable):
    """The store cannot be used at the moment."""

    code = "store_unavailable"


class StoreDamaged(Unavailable):
    """The database was found to be damaged: nothing is written to it any more."""

    code = "store_damaged"


class EngineUnavailable(Unavailable):
    """The engine cannot start attempts at the moment."""

    code = "engine_unavailable"


class TrackerUnavailable(Unavailable):
    """The tracker cannot be reached at the moment."""

    code = "tracker_unavailable"


class TrackerRefused(TrainingClusterError):
    """The tracker does not take this run."""

    code = "tracker_refused"


class Pruned(TrainingClusterError):
    """It was removed to make room on the disk."""

    code = "pruned"


class StorageFull(TrainingClusterError):
    """The disk that holds the state directory is full."""

    code = "storage_full"


class CannotStart(TrainingClusterError):
    """The daemon cannot start."""

    code = "cannot_start"


class StateDirectoryInUse(CannotStart):
    """Another daemon already schedules from this state directory."""

    code = "state_directory_in_use"


class StateDirectoryUnusable(CannotStart):
    """The state directory cannot be made or written."""

    code = "state_directory_unusable"


class StoreCorrupt(CannotStart):
    """The database of this state directory is damaged."""

    code = "store_corrupt"


class StoreTooNew(CannotStart):
    """The database was written by a later version of the program."""

    code = "store_too_new"


class PortInUse(CannotStart):
    """The port is already in use."""

    code = "port_in_use"
