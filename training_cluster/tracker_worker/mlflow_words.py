"""Turns our names and values into ones MLflow takes: limits of mlflow.utils.validation."""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import Any

MOST_NAME_CHARACTERS = 250
MOST_PARAM_CHARACTERS = 6000
MOST_TAG_CHARACTERS = 5000  # of MLflow before 2.17; 8000 since
HASH_CHARACTERS = 8

STATUSES = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}

_UNUSUAL = re.compile(r"[^\w.\- :/]")


def name(text: str) -> str:
    """A name of a metric, param or tag. One that has to change gets a hash of the original at its
    end, so that two names never become one."""
    clean = posixpath.normpath("/" + _UNUSUAL.sub("_", text)).lstrip("/.")
    if clean and clean == text and len(text) <= MOST_NAME_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:HASH_CHARACTERS]
    kept = clean[: MOST_NAME_CHARACTERS - HASH_CHARACTERS - 1].rstrip("/")
    return f"{kept}-{digest}"


def param(value: Any) -> str:
    """The value of a param."""
    return str(value)[:MOST_PARAM_CHARACTERS]


def tag(value: Any) -> str:
    """The value of a tag."""
    return str(value)[:MOST_TAG_CHARACTERS]


def milliseconds(seconds: float) -> int:
    """Unix seconds as MLflow counts time."""
    return round(seconds * 1000)
