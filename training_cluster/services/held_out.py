"""Holds the rows of a dataset against those of another: both have to be of one form.

Of OpenAI's conversations those that call tools are rewritten for the trainer, and others are not.
So where only one of two files calls any, the other one is rewritten, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_cluster.domain.dataset import DatasetOrigin, DatasetState, DatasetVersion
from training_cluster.domain.disclosure import veil
from training_cluster.ports import Findings, InspectionTask

_PLAIN, _REWRITTEN = "openai", "messages_tools"
_USUAL = "messages"

Inspect = Callable[[InspectionTask], Awaitable[Findings]]


async def against(
    other: DatasetVersion,
    findings: Findings,
    task: InspectionTask,
    user: str,
    inspect: Inspect,
    stored: Callable[[str], Path],
) -> Findings:
    """What was found of a user's dataset, with the rows of `other` for validation; an error where
    these do not fit."""
    if can_be_one_form(findings, other):
        again = replace(task, format=_REWRITTEN, origin=DatasetOrigin.UPLOAD)
        if _form(findings.report) == _REWRITTEN:
            assert other.original is not None
            again = replace(again, file=stored(other.original), filename=other.filename)
            made = await inspect(replace(again, columns={}, split=None))
            return replace(findings, **_validating(made.train_file, made.rows), error=made.error)
        findings = await inspect(again)
        return replace(findings, **_validating(other.train_file, other.rows))
    if why := misfit(findings, other, user):
        return replace(findings, error=why)
    return replace(findings, **_validating(other.train_file, other.rows))


def can_be_one_form(mine: Findings | DatasetVersion, other: DatasetVersion) -> bool:
    """Whether the two differ in nothing but that one of them was rewritten."""
    both = ((mine, _form(mine.report)), (other, _form(other.report)))
    if other.state is not DatasetState.READY or {form for _, form in both} != {_PLAIN, _REWRITTEN}:
        return False
    return all(form == _REWRITTEN or one.columns.get(_USUAL) == _USUAL for one, form in both)


def misfit(mine: Findings | DatasetVersion, other: DatasetVersion, user: str) -> str | None:
    """Why the rows of `other` cannot validate those of this user; the trainer reads both by one
    description."""
    if other.state is not DatasetState.READY or other.deleted_at is not None:
        why = other.error or "deleted"
        if other.error is not None and other.user != user:
            why = veil(other.user)
        return f"the validation dataset {other.label} is not usable: {why}"
    for what in ("format", "columns"):
        ours, theirs = getattr(mine, what), getattr(other, what)
        if ours != theirs:
            return (
                f"the validation dataset {other.label} has the {what} {theirs}, "
                f"this one has {ours}; they must be the same"
            )
    return None


def _form(report: Mapping[str, Any] | None) -> str | None:
    """As what the rows were read, before any was rewritten."""
    return (report or {}).get("detected_format")


def _validating(file: str | None, rows: int | None) -> dict[str, Any]:
    return {"validation_file": file, "validation_rows": rows}
