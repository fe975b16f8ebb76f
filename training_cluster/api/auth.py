"""Who is asking. This machine's users need no token; nobody else gets in yet.

A loopback address alone proves nothing: tunnels forward from there. So a request counts as local
only when nothing in it speaks of a proxy or of another site, and the kernel says which Unix user
holds the other end of the connection.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from training_cluster.domain.errors import AccessDenied
from training_cluster.ports import PeerIdentity

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_PROXY_HEADERS = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
    "x-proxy",
)
_OWN_SITES = (None, "none", "same-origin")
_HINT = 'ask on the machine itself at localhost, or let the operator set auth = "open"'


@dataclass(frozen=True, slots=True)
class Access:
    """The operator's choice, and how to tell local users apart."""

    mode: str
    peers: PeerIdentity


async def principal(request: Request) -> str:
    """The name of the user who asks. Raises AccessDenied.

    Asks the kernel on the event loop: that takes some 30 µs, a thread hop more."""
    access: Access = request.app.state.access
    if access.mode != "open":
        _require_local(request)
    client, server = request.client, request.scope.get("server")
    if client is None or server is None or not _is_loopback(client.host):
        return "anonymous"
    return access.peers.user_of((client.host, client.port), tuple(server)) or "local"


Principal = Annotated[str, Depends(principal)]


def _require_local(request: Request) -> None:
    if request.client is None or not _is_loopback(request.client.host):
        raise AccessDenied("only users of this machine may use this daemon", hint=_HINT)
    headers = request.headers
    for name in _PROXY_HEADERS:
        if name in headers:
            raise AccessDenied(f"the request came through a proxy ({name})", hint=_HINT)
    if _host_name(headers.get("host", "")) not in _LOCAL_NAMES:
        raise AccessDenied("the Host header does not name this machine", hint=_HINT)
    if headers.get("sec-fetch-site") not in _OWN_SITES or not _same_origin(headers):
        raise AccessDenied("another web site may not use this daemon", hint=_HINT)


def _same_origin(headers: object) -> bool:
    get = headers.get  # type: ignore[attr-defined]
    origin = get("origin")
    return origin is None or urlsplit(origin).netloc == get("host")


def _host_name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "") if host else ""


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
