"""What a request says of who sends it, read from its headers in one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

Address = tuple[str, int]

SESSION_COOKIE = "training_cluster_session"

# what proxies, tunnels and content networks add to what they forward
_PROXY_NAMES = frozenset(
    {
        *(b"forwarded", b"via", b"x-real-ip", b"x-proxy", b"x-client-ip", b"client-ip"),
        *(b"x-cluster-client-ip", b"true-client-ip", b"fastly-client-ip", b"cdn-loop"),
        *(b"x-envoy-external-address", b"x-amzn-trace-id", b"x-request-via", b"proxy-connection"),
        *(b"ngrok-skip-browser-warning", b"x-zrok-share", b"max-forwards"),
    }
)
_PROXY_PREFIXES = (
    *(b"x-forwarded", b"x-original-", b"x-proxy-", b"x-proxied-", b"x-real-", b"x-zrok"),
    *(b"cf-", b"tailscale-", b"x-tailscale-", b"x-envoy-", b"x-ngrok-", b"x-azure-", b"x-arr-"),
)
# of these a second one would leave open which is meant
_ONCE = frozenset({b"host", b"origin", b"authorization", b"sec-fetch-site"})
# names of folders, none of them `.` or `..`: what a proxy may say it has taken off our paths
_PREFIX = re.compile(rb"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+){1,8}/?", re.ASCII)
_MOST_PREFIX = 128
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Asking:
    """A request without its body. `bearer` is what `Authorization: Bearer` says, `proxy` the
    header that speaks of one, `repeated` a header that may come once and came twice; `prefix` is
    what a proxy has taken off the path, without a slash at the end."""

    method: str
    client: Address | None
    server: Address | None
    host: str = ""
    origin: str | None = None
    fetch_site: str | None = None
    bearer: str | None = None
    session: str | None = None
    proxy: str | None = None
    repeated: str | None = None
    prefix: str = ""

    @property
    def changes(self) -> bool:
        """Whether the method may change something."""
        return self.method not in _SAFE_METHODS

    @property
    def address(self) -> str:
        """The other end of the connection."""
        return self.client[0] if self.client else "unknown"


def read(scope: Scope) -> Asking:
    """The facts of a request. Header names are in lower case in ASGI."""
    server = scope.get("server")
    asking = Asking(
        scope["method"],
        _address(scope.get("client")),
        _address(server) if server and server[1] is not None else None,
    )
    seen: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _ONCE and name in seen:
            asking.repeated = name.decode("latin-1")
        elif name in _PROXY_NAMES or name.startswith(_PROXY_PREFIXES):
            asking.proxy = name.decode("latin-1")
        elif name == b"cookie":
            asking.session = asking.session or _session(value)
        seen[name] = value
    asking.host = seen.get(b"host", b"").decode("latin-1").strip().lower()
    asking.origin = _text(seen.get(b"origin"))
    asking.fetch_site = _text(seen.get(b"sec-fetch-site"))
    asking.prefix = _prefix(seen.get(b"x-forwarded-prefix", b""))
    asking.bearer = _bearer(seen.get(b"authorization", b""))
    return asking


def _address(found: tuple[str, int] | None) -> Address | None:
    return None if found is None else (found[0], found[1])


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1").strip().lower()


def _prefix(value: bytes) -> str:
    """A prefix as it can stand before a path; nothing for what is none."""
    value = value.strip()
    usable = len(value) <= _MOST_PREFIX and _PREFIX.fullmatch(value)
    return value.decode("ascii").rstrip("/") if usable else ""


def _bearer(value: bytes) -> str | None:
    scheme, _, text = value.decode("latin-1").strip().partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def _session(cookies: bytes) -> str | None:
    for part in cookies.decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == SESSION_COOKIE:
            return value
    return None
