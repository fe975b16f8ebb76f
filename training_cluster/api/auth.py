"""Who is asking, decided from what the request says and from what the kernel says of its peer.

A loopback address alone proves nothing: tunnels forward from there. So a request counts as local
only when nothing in it speaks of a proxy or of another site, and the kernel says which Unix user
holds the other end of the connection. On the tunnel's listener nobody is local.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request

from training_cluster.api.asking import Address, Asking
from training_cluster.domain.errors import AccessDenied, Forbidden
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.domain.token import PREFIX, Token
from training_cluster.ports import PeerIdentity

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_SITES = (None, "none", "same-origin")
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104
_ANONYMOUS = Principal("anonymous", Role.SUBMITTER, Via.OPEN)
HINT = (
    "send `Authorization: Bearer tq_...`; an admin makes a token with `training-cluster token "
    "create`. On the machine itself http://localhost needs none"
)


class BadCredential(AccessDenied):
    """The token is not valid: unknown, wrong, expired or revoked."""

    code = "invalid_token"


class TokenCheck(Protocol):
    """Knows the token with a text."""

    def verify(self, text: str) -> Token | None:
        """The token, if it is valid."""
        ...


class SessionCheck(Protocol):
    """Knows the token behind a login's cookie."""

    def find(self, secret: str) -> Token | None:
        """The token, if it and the session are valid."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """The operator's choices, and how to tell local users apart. `admins` and `never_local` are
    Unix users, `tunnel` is where the tunnel's listener is, `public_origin` an origin that is ours
    beside the one of the Host header."""

    mode: str
    peers: PeerIdentity
    admins: frozenset[str] = frozenset({"root"})
    never_local: frozenset[str] = frozenset()
    tunnel: Address | None = None
    public_origin: str | None = None

    def identify(self, asking: Asking, tokens: TokenCheck, sessions: SessionCheck) -> Principal:
        """Who asks: by a token, a login, as a user of this machine, or as anybody where the
        daemon is open. Raises AccessDenied, BadCredential and Forbidden.

        Asks the kernel on the event loop: that takes some 30 µs, a thread hop more."""
        if asking.repeated is not None:
            raise AccessDenied(f"the header {asking.repeated} came more than once")
        if asking.bearer is not None and asking.bearer.startswith(PREFIX):
            token = tokens.verify(asking.bearer)
            if token is None:
                raise BadCredential(hint=HINT)
            return token.principal(Via.TOKEN)
        if asking.session is not None and (found := sessions.find(asking.session)) is not None:
            self._require_own_page(asking)
            return found.principal(Via.COOKIE)
        if self.is_tunnel(asking.server):
            raise AccessDenied("a token is needed here", hint=HINT)
        return self._without_token(asking)

    def is_tunnel(self, server: Address | None) -> bool:
        """Whether a request came in by the tunnel's listener; also when that cannot be told."""
        if server is None:
            return True
        if self.tunnel is None or server[1] != self.tunnel[1]:
            return False
        return self.tunnel[0] in _EVERYWHERE or _plain(server[0]) == _plain(self.tunnel[0])

    def is_own_site(self, asking: Asking) -> bool:
        """Whether no page of another web site has made a browser send this."""
        return asking.fetch_site in _OWN_SITES and (
            asking.origin is None or self._is_own(asking.origin, asking)
        )

    def _is_own(self, origin: str, asking: Asking) -> bool:
        scheme, _, place = origin.partition("://")
        ours = scheme in ("http", "https") and place != "" and place == asking.host
        return ours or (self.public_origin is not None and origin == self.public_origin)

    def _require_own_page(self, asking: Asking) -> None:
        """A browser sends the cookie along whoever makes it ask."""
        if not self.is_own_site(asking) or (asking.changes and asking.origin is None):
            raise Forbidden(
                "with the login's cookie only our own page may ask",
                hint="programs send `Authorization: Bearer tq_...`; behind a proxy that changes "
                "the Host header set webhooks.public_url",
            )

    def _without_token(self, asking: Asking) -> Principal:
        refusal = self._refusal(asking)
        if refusal is None:
            name = self._user_of(asking)
            if name is None:
                refusal = "the kernel does not say which user of this machine asks"
            elif name in self.never_local:
                refusal = f"{name} needs a token on this machine too"
            else:
                role = Role.ADMIN if name in self.admins else Role.SUBMITTER
                return Principal(name, role, Via.LOCAL)
        if self.mode == "open" and self.is_own_site(asking):
            return _ANONYMOUS
        raise AccessDenied(refusal, hint=HINT)

    def _user_of(self, asking: Asking) -> str | None:
        if asking.client is None or asking.server is None:
            return None
        return self.peers.user_of(asking.client, asking.server)

    def _refusal(self, asking: Asking) -> str | None:
        """Why a request does not count as one of this machine."""
        if asking.client is None or not _is_loopback(asking.client[0]):
            return "only users of this machine need no token"
        if asking.proxy is not None:
            return f"the request came through a proxy ({asking.proxy})"
        if _host_name(asking.host) not in _LOCAL_NAMES:
            return "the Host header does not name this machine"
        if not self.is_own_site(asking):
            return "another web site may not use this daemon"
        return None


async def principal(request: Request) -> Principal:
    """Who asks, as the gate has found."""
    caller: Principal = request.state.principal
    return caller


def _requiring(role: Role) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(caller: Annotated[Principal, Depends(principal)]) -> Principal:
        caller.require(role)
        return caller

    return check


Caller = Annotated[Principal, Depends(principal)]
"""Anybody who is known."""
Submitter = Annotated[Principal, Depends(_requiring(Role.SUBMITTER))]
"""Somebody who may change things of their own. Raises Forbidden."""
Admin = Annotated[Principal, Depends(_requiring(Role.ADMIN))]
"""Somebody who may change everything. Raises Forbidden."""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _plain(host: str) -> str:
    """An address in one spelling."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(_plain(host)).is_loopback
    except ValueError:
        return False
