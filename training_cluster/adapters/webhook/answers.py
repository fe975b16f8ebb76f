"""Reads what a try to deliver came to: Retry-After, errors in words, Slack's own words."""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_WORD = re.compile(r"[a-z0-9_]{1,60}")
_SHORTEST_SECRET = 6
_SECONDS = re.compile(r"[0-9]{1,9}")


def is_success(status: int) -> bool:
    """True for 2xx, and for nothing else."""
    return 200 <= status < 300


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a Retry-After header (seconds, or an HTTP date); None when it says nothing.

    `now` is Unix seconds."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def status_error(status: int, body: bytes, *, slack: bool) -> str | None:
    """What is wrong with an answer; None for a success. Only Slack's one-word reasons are taken
    over from the body: another receiver's text may repeat what must stay secret."""
    word = body.decode("ascii", "replace").strip()
    if is_success(status):
        return None if not slack or word == "ok" else "Slack did not answer ok"
    if 300 <= status < 400:
        return f"answered {status}; redirects are not followed"
    reason = f" ({word})" if slack and _WORD.fullmatch(word) else ""
    return f"answered {status}{reason}"


def failure(error: BaseException, secrets: Iterable[str]) -> str:
    """A connection's failure in words, without any of the secret parts of its address."""
    said = " ".join(_words(error).split())[:200] or type(error).__name__
    if any(len(secret) >= _SHORTEST_SECRET and secret in said for secret in secrets):
        said = type(error).__name__
    return f"not delivered: {said}"


def _words(error: BaseException) -> str:
    """What the system or TLS said, if they are behind it: libraries say less."""
    found = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate refused: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            number = cause.errno or 0  # those of a failed lookup are below zero
            found = os.strerror(number) if number > 0 else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return found
