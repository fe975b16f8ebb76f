"""What is wrong with a field and what would be right, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from training_cluster.api import schemas
from training_cluster.api.overrides import Overrides

_RIGHT = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "model": "a JSON object",
    "dict": "a JSON object",
    "finite": "a finite number",
    "enum": "one of the documented values",
}
_BOUNDS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "expected": "{}",
}
_FORMS = {
    schemas.LABEL_PATTERN: "text in one line that can be seen, without control characters",
    schemas.NAME_PATTERN: "letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
    schemas.HUB_ID_PATTERN: "owner/name, as on the hub",
    schemas.HUB_DATASET_PATTERN: "owner/name, as on the hub",
    schemas.REVISION_PATTERN: "a branch, a tag or a commit",
    schemas.HUB_TOKEN_PATTERN: "a token as the hub gives it: letters, digits, '_', '.' and '-'",
    schemas.MODULES_PATTERN: "names of modules separated by commas, or `all`",
}
_NOT_JSON = {
    "recursion limit exceeded": "it is nested too deeply",
    "number out of range": "a number has too many digits",
    "unexpected end of hex escape": "half of a surrogate pair stands alone",
    "lone leading surrogate in hex escape": "half of a surrogate pair stands alone",
}


def field_error(item: Mapping[str, Any], *, of_job: bool = True) -> dict[str, str | None]:
    """One of pydantic's errors as field, message and what is expected; `of_job` says that the
    fields are those of a job."""
    if item["type"] == "json_invalid":
        return _not_json(str(item["ctx"]["error"]))
    where = [str(part) for part in item["loc"]]
    field = ".".join(where[1:]) or (where[0] if where else "body")
    if item["type"] == "extra_forbidden":
        instead = _instead(where) if of_job else "only documented fields: /docs has them"
        return {"field": field, "message": "there is no such field", "expected": instead}
    return {"field": field, "message": _message(item), "expected": _expected(item, field)}


def _not_json(error: str) -> dict[str, str | None]:
    for theirs, ours in _NOT_JSON.items():
        error = error.replace(theirs, ours)
    message = f"not valid JSON: {error}"
    return {"field": "body", "message": message, "expected": "a JSON object in UTF-8"}


def _message(item: Mapping[str, Any]) -> str:
    kind, given = item["type"], item.get("input")
    if kind == "missing":
        return "it is missing"
    if kind in ("too_short", "string_too_short") and not given:
        return "it is empty"
    if kind in ("too_long", "string_too_long") and isinstance(given, str):
        return f"it has {len(given)} characters"
    if kind == "string_pattern_mismatch":
        return "it has characters or a form that cannot be used"
    return str(item["msg"]).removeprefix("Value error, ")


def _expected(item: Mapping[str, Any], field: str) -> str | None:
    """What would be right, from what pydantic knows of the rule that was broken."""
    kind, context = item["type"], item.get("ctx") or {}
    if kind == "missing":
        return "a JSON object" if field == "body" else "a value"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return _FORMS.get(pattern, f"text matching {pattern}")
    if kind == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    words = [text.format(context[key]) for key, text in _BOUNDS.items() if key in context]
    return ", ".join(words) or _RIGHT.get(kind.partition("_")[0])


def _instead(where: list[str]) -> str:
    """What somebody may have meant by a field that there is not."""
    name, inside = where[-1], where[1:-1]
    known = Overrides.model_fields if inside == ["overrides"] else schemas.TrainRequest.model_fields
    if not inside and name in Overrides.model_fields:
        return f"overrides.{name}"
    near = get_close_matches(name[:64], known, 1, cutoff=0.75)
    if near:
        return f"perhaps {near[0]}"
    if inside == ["overrides"]:
        return "a key of docs/overrides.md"
    return "only documented fields; further trainer keys go into `overrides`"
