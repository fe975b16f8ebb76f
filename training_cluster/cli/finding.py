"""What an examination of the doctor says: ok, warn or fail, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found; `cure` is what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    cure: str | None = None


def ok(name: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Verdict.OK, detail)


def warn(name: str, detail: str, cure: str) -> Finding:
    """Jobs run all the same."""
    return Finding(name, Verdict.WARN, detail, cure)


def fail(name: str, detail: str, cure: str) -> Finding:
    """Jobs cannot run like this."""
    return Finding(name, Verdict.FAIL, detail, cure)
