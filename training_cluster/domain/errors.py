"""The exception tree: every refusal and failure the daemon can name.

TrainingClusterError
├── InvalidRequest             the request says something that cannot be
│   ├── UnknownDataset
│   ├── InvalidDataset
│   ├── ModelNotAllowed
│   ├── ImpossibleRequest      asks for more than this machine has
│   └── IdempotencyMismatch    same Idempotency-Key, another body
├── AccessDenied
├── NotFound
│   ├── JobNotFound
│   ├── DeviceNotFound
│   ├── WebhookNotFound
│   └── DeliveryNotFound
├── Conflict
│   ├── JobAlreadyFinished
│   ├── NoDeviceFree           strategy=reject and nothing is free
│   └── StaleTransition        somebody else moved the job first
├── Unavailable
│   ├── StoreUnavailable
│   ├── EngineUnavailable
│   └── TrackerUnavailable     try again later
├── TrackerRefused             this run will never be taken as it is
├── StorageFull
└── CannotStart                the daemon refuses to come up
    ├── StateDirectoryInUse
    ├── StoreCorrupt
    └── PortInUse

`api/app.py` maps classes to HTTP status codes; `code` is the stable machine-readable word.
The class docstring is the default message.
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
    """This caller may not do that."""

    code = "access_denied"


class NotFound(TrainingClusterError):
    """There is no such thing."""

    code = "not_found"


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class DeviceNotFound(NotFound):
    """There is no such device."""

    code = "device_not_found"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


class DeliveryNotFound(NotFound):
    """There is no such delivery."""

    code = "delivery_not_found"


class Conflict(TrainingClusterError):
    """The request does not fit the present state."""

    code = "conflict"


class JobAlreadyFinished(Conflict):
    """The job has already finished."""

    code = "job_already_finished"


class NoDeviceFree(Conflict):
    """No device is free for this job now."""

    code = "no_device_free"

    def __init__(self, message: str, *, retry_after_seconds: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class StaleTransition(Conflict):
    """The job changed state in the meantime."""

    code = "stale_transition"


class Unavailable(TrainingClusterError):
    """A part of the daemon is not available at the moment."""

    code = "unavailable"


class StoreUnavailable(Unavailable):
    """The store cannot be used at the moment."""

    code = "store_unavailable"


class EngineUnavailable(Unavailable):
    """The engine cannot start attempts at the moment."""

    code = "engine_unavailable"


class TrackerUnavailable(Unavailable):
    """The tracker cannot be reached at the moment."""

    code = "tracker_unavailable"


class TrackerRefused(TrainingClusterError):
    """The tracker does not take this run."""

    code = "tracker_refused"


class StorageFull(TrainingClusterError):
    """The disk that holds the state directory is full."""

    code = "storage_full"


class CannotStart(TrainingClusterError):
    """The daemon cannot start."""

    code = "cannot_start"


class StateDirectoryInUse(CannotStart):
    """Another daemon already schedules from this state directory."""

    code = "state_directory_in_use"


class StoreCorrupt(CannotStart):
    """The database of this state directory is damaged."""

    code = "store_corrupt"


class PortInUse(CannotStart):
    """The port is already in use."""

    code = "port_in_use"
