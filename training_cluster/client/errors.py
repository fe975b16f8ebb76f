"""What can go wrong between a caller and the daemon.

ClientError
├── ApiError        the daemon answered with a refusal or a failure
├── CannotConnect   no answer came
└── WaitTimedOut    a job took longer than the caller wanted to wait
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of a request and what would be right."""

    field: str
    message: str
    expected: str | None = None


class ClientError(Exception):
    """Something went wrong on the way to an answer."""

    code = "client_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class ApiError(ClientError):
    """The daemon's own words: HTTP status, stable code, message, hint, fields at fault.

    `raw` is the body as it came; `retry_after_seconds` is set where the daemon names a time.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str | None = None,
        errors: tuple[FieldProblem, ...] = (),
        *,
        raw: Mapping[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.errors = errors
        self.raw = dict(raw or {})
        self.retry_after_seconds = retry_after_seconds

    @classmethod
    def from_body(cls, status: int, body: Mapping[str, Any], retry_after: str = "") -> ApiError:
        """Read problem details (RFC 9457), or the body of a rejected submission."""
        message = body.get("detail") or body.get("message") or body.get("title")
        problems = body.get("errors") or ()
        return cls(
            status,
            str(body.get("code") or "http_error"),
            str(message or f"the daemon answered with status {status}"),
            body.get("hint"),
            tuple(_field_problem(item) for item in problems if isinstance(item, dict)),
            raw=body,
            retry_after_seconds=int(retry_after) if retry_after.isdecimal() else None,
        )


class CannotConnect(ClientError):
    """No answer came. `was_sent` is True when the daemon may have got the request all the same."""

    code = "cannot_connect"

    def __init__(self, message: str, *, hint: str | None = None, was_sent: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.was_sent = was_sent


class WaitTimedOut(ClientError, TimeoutError):
    """The job has not ended in the time given; it goes on."""

    code = "wait_timed_out"


def _field_problem(item: Mapping[str, Any]) -> FieldProblem:
    return FieldProblem(
        str(item.get("field", "")), str(item.get("message", "")), item.get("expected")
    )
