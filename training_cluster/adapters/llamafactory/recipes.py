"""Reads training recipes: LLaMA-Factory YAML files that a job's fields are laid over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from training_cluster.domain.errors import FieldProblem, InvalidRequest

Recipe = Mapping[str, Any]

# the configuration is kept with the attempt and shown to trackers: secrets belong elsewhere
SECRETS = frozenset(
    {
        *("hf_hub_token", "ms_hub_token", "om_hub_token", "hub_token"),
        *("swanlab_api_key", "swanlab_lark_secret", "swanlab_lark_webhook_url"),
    }
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class RecipeDirectory:
    """The recipes of one folder, each parsed again only when its file changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._parsed: dict[str, tuple[tuple[int, int], Recipe]] = {}

    def names(self) -> tuple[str, ...]:
        """All recipe names, sorted."""
        return tuple(sorted(path.stem for path in self._directory.glob("*.yaml")))

    def load(self, name: str) -> Recipe:
        """The recipe of that name. Raises InvalidRequest, naming what exists."""
        if not _NAME.fullmatch(name):
            raise self._unknown(name)
        path = self._directory / f"{name}.yaml"
        try:
            status = path.stat()
        except OSError:
            raise self._unknown(name) from None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._parsed.get(name)
        if known is None or known[0] != stamp:
            known = (stamp, _parse(path))
            self._parsed[name] = known
        return known[1]

    def _unknown(self, name: str) -> InvalidRequest:
        expected = f"one of {', '.join(self.names()) or 'none: the recipe folder is empty'}"
        message = f"there is no recipe {name!r}; {expected}"
        return InvalidRequest(message, problems=(FieldProblem("recipe", message, expected),))


def _parse(path: Path) -> Recipe:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _broken(path, str(error)) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _broken(path, "it should be a mapping of LLaMA-Factory keys to values")
    if secrets := sorted(SECRETS & content.keys()):
        raise _broken(path, f"{secrets[0]} is a secret: hand it to trainers by the environment")
    return MappingProxyType(content)


def _broken(path: Path, why: str) -> InvalidRequest:
    message = f"recipe {path.stem!r} cannot be read: {why}"
    problem = FieldProblem("recipe", message, "valid YAML")
    return InvalidRequest(message, problems=(problem,), hint=f"Mend {path}.")
