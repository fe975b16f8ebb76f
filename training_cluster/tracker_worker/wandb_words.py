"""Turns our names into ones W&B takes, and finds the key W&B has here."""

from __future__ import annotations

import hashlib
import netrc
import os
import re
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "https://api.wandb.ai"
MOST_ID_CHARACTERS = 64
MOST_NAME_CHARACTERS = 128
MOST_LABEL_CHARACTERS = 64
HASH_CHARACTERS = 10

_PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MOST_ID_CHARACTERS}}}")


def run_id(key: str) -> str:
    """The id of the run of a key: always the same, and another one for another key."""
    if _PLAIN_ID.fullmatch(key):
        return key
    digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()[:HASH_CHARACTERS]
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", key)[: MOST_ID_CHARACTERS - HASH_CHARACTERS - 1]
    return f"{kept}-{digest}"


def metric(name: str) -> str:
    """The name of a value in a row; those with an underscore in front are W&B's own."""
    return f"value{name}" if not name or name.startswith("_") else name


def labels(words: list[str]) -> list[str]:
    """Tags of a run: cut, and none twice."""
    return list(dict.fromkeys(word[:MOST_LABEL_CHARACTERS] for word in words if word))


def server(base_url: str | None) -> str:
    """The address of the server that is meant."""
    return (base_url or os.environ.get("WANDB_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")


def api_key(base_url: str | None) -> str | None:
    """The API key W&B would find for its server, in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return os.environ["WANDB_API_KEY"]
    host = urlsplit(server(base_url)).netloc
    return next((key for path in _netrc_files() if (key := _entry(path, host))), None)


def _netrc_files() -> list[str]:
    chosen = os.environ.get("NETRC")
    return [os.path.expanduser(path) for path in ([chosen] if chosen else ["~/.netrc", "~/_netrc"])]


def _entry(path: str, host: str) -> str | None:
    try:
        entry = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None
