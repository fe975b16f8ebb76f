"""The address by which a client has reached the daemon: what an absolute URL must begin with.

Tunnels and proxies speak plain HTTP to the daemon and say in headers what they were asked for. Who
lies there misleads nobody else: the answer goes to who has asked.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers

from training_cluster.api.asking import Asking
from training_cluster.api.gate import Door
from training_cluster.api.links import link

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def absolute(request: Request, path: str) -> str:
    """The address of `path` at the scheme and host that the client has."""
    door: Door = request.app.state.door
    asked: Asking = request.state.asking
    hidden = door.access.is_tunnel(asked.server)
    found = told_by(request.headers, door.access.public_origin if hidden else None)
    return (found or f"{request.url.scheme}://{request.url.netloc}") + link(path)


def told_by(headers: Headers, public_origin: str | None) -> str | None:
    """What the headers say; `public_origin` where a tunnel has put a local name into them. None
    when they name no host."""
    host = _first(headers.get("x-forwarded-host") or headers.get("host") or "")
    if not _HOST.fullmatch(host):
        return public_origin
    if public_origin is not None and urlsplit(f"//{host}").hostname in _LOCAL_NAMES:
        return public_origin
    return f"{_scheme(headers)}://{host}"


def _scheme(headers: Headers) -> str:
    said = _first(headers.get("x-forwarded-proto", "")).lower()
    if said in ("http", "https"):
        return said
    return "https" if headers.get("x-proxy", "").lower() == "zrok" else "http"


def _first(value: str) -> str:
    """Of a list that several proxies have made, what the outermost has said."""
    return value.partition(",")[0].strip()
