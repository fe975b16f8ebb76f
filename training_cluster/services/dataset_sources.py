"""Where a dataset may be taken from by its path: regular files below the dataset roots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from training_cluster.domain.errors import FieldProblem, InvalidRequest


def resolve(path: str, roots: Sequence[Path]) -> Path:
    """The file with its links resolved. Raises InvalidRequest."""
    if "\0" in path or not os.path.isabs(path):
        raise _refusal(f"{path[:200]!r} is not an absolute path", roots)
    try:
        real = Path(os.path.realpath(path))
        inside = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
        if not inside:
            raise _refusal(f"{path[:200]!r} is not below a dataset root", roots)
        if not real.is_file():
            raise _refusal(f"{path[:200]!r} is not a file", roots)
    except OSError as error:
        raise _refusal(f"{path[:200]!r} cannot be looked at: {error.strerror}", roots) from None
    return real


def _refusal(message: str, roots: Sequence[Path]) -> InvalidRequest:
    listed = ", ".join(map(str, roots)) or "none: the setting dataset_roots"
    problem = FieldProblem("path", message, f"a file below a dataset root: {listed}")
    return InvalidRequest(message, problems=(problem,))
