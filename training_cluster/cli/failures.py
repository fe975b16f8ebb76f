"""Says in lines of `error:` and `hint:` what an exception means; nobody sees a traceback.

`python -X dev -m training_cluster ...` shows it all the same.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from training_cluster.cli import terminal
from training_cluster.domain.errors import TrainingClusterError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from training_cluster.client import ApiError

_Lines = list[str]


def report(error: Exception, *, as_json: bool) -> None:
    """Complain about a failure; with --json also as the one document, in the API's form."""
    errors, hints, body = _explain(error)
    for line in errors:
        terminal.complain(line)
    for hint in hints:
        terminal.note(f"hint: {hint}")
    if as_json:
        terminal.document(body)


def _explain(error: Exception) -> tuple[_Lines, _Lines, dict[str, Any]]:
    from training_cluster.client import ApiError, ClientError

    if isinstance(error, ApiError):
        return _refusal(error)
    if isinstance(error, ClientError | TrainingClusterError):
        hints = [error.hint] if error.hint else []
        return [error.message], hints, _body(error.code, error.message, error.hint)
    errors, hints = _local(error)
    return errors, hints, _body(_code(error), "; ".join(errors), "; ".join(hints) or None)


def _body(code: str, detail: str, hint: str | None) -> dict[str, Any]:
    return {"code": code, "detail": detail, "hint": hint}


def _refusal(error: ApiError) -> tuple[_Lines, _Lines, dict[str, Any]]:
    lines = [error.message]
    # the message may say it already; the hint names the field then
    untold = [each for each in error.errors if each.message not in error.message]
    lines += [f"{problem.field}: {problem.message}" for problem in untold]
    hints = [f"{p.field}: {p.expected}" for p in error.errors if p.expected]
    if error.hint:
        hints.append(error.hint)
    return lines, hints, error.raw or _body(error.code, error.message, error.hint)


def _local(error: Exception) -> tuple[_Lines, _Lines]:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return list(setting_problems(error)), ["`training-cluster doctor` names the settings file"]
    if isinstance(error, tomllib.TOMLDecodeError):
        return [f"the settings file is not TOML: {error}"], []
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return [f"{where}{error.strerror or error}"], []
    if isinstance(error, ValueError):
        return [str(error)], []
    defect = "this is a defect of training-cluster; `python -X dev -m training_cluster` shows where"
    return [f"{type(error).__name__}: {error}"], [defect]


def setting_problems(error: ValidationError) -> Iterator[str]:
    """One line for each setting that is wrong: its name, what is wrong, what was given."""
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            yield f"setting {name}: there is no such setting"
        else:
            yield f"setting {name}: {item['msg']}, not {item['input']!r}"


def _code(error: Exception) -> str:
    return "invalid_settings" if isinstance(error, ValueError) else "failed"
