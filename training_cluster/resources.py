"""Finds the files that ship with the program: `configs/` and `datasets/`.

A checkout keeps them at its top level, an installed wheel inside the package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, e.g. `configs/recipes`; it may not exist."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    return _PACKAGE / "_data" / name
