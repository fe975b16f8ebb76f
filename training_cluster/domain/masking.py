"""What of an address may be shown: where it leads, never the secret in it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def masked(url: str) -> str:
    """A URL without what may be secret in it: all behind the host, and outside of the web the
    host as well, where it may be a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    if parts.scheme.rpartition("+")[2] not in ("http", "https") or not parts.hostname:
        return f"{parts.scheme}://***" if parts.scheme else "***"
    return f"{parts.scheme}://{parts.hostname}/***"


def without_password(text: str) -> str:
    """A URL without the user and password it may begin with; any other text as it is."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "***@", text)
