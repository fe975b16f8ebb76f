"""The header that says under which name a download is to be kept.

`curl -OJ` and older clients know the plain form only, so it is always there.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._+ ()-]+")


def disposition(filename: str) -> str:
    """A value of Content-Disposition; the exact name beside a plain one where they differ."""
    letters = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = _NOT_PLAIN.sub("_", letters).strip() or "download"
    value = f'attachment; filename="{plain}"'
    return value if plain == filename else f"{value}; filename*=utf-8''{quote(filename)}"
