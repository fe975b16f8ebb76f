"""Reads a file of pins: which they are, which name they give, which of them are met."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path


def read_pins(requirements: Path) -> list[str]:
    """The pins of a requirements file in order of name, without comments."""
    lines = (line.split("#")[0].strip() for line in requirements.read_text("utf-8").splitlines())
    return sorted(line for line in lines if line)


def identity(requirements: Path) -> str:
    """Twelve characters that change with the pins and with Python's minor version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = "\n".join([*read_pins(requirements), version])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def canonical(name: str) -> str:
    """A package's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(pins: Iterable[str], versions: dict[str, str]) -> list[str]:
    """The pins that these installed versions (by canonical name) do not meet."""
    return [pin for pin in pins if not _is_met(pin, versions)]


def _is_met(pin: str, versions: dict[str, str]) -> bool:
    name, _, wanted = pin.split(";")[0].strip().partition("==")
    return versions.get(canonical(name)) == wanted
