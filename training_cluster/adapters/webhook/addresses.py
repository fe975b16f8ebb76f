"""Which addresses may be called: public ones over https, and what an admin has opened."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from training_cluster.domain.errors import CannotStart, FieldProblem, InvalidRequest

MOST_CHARACTERS = 2048
PORTS = (443, 8443)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORDINARY = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")  # RFC 3986 without "#"
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# getaddrinfo reads such a name as an IPv4 address in octal, hexadecimal or with fewer parts
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_SUFFIXES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home.arpa")

_HTTPS = "https://<public host>/..., or a host the administrator opened in webhooks.allow_hosts"

# `is_global` alone lets these through (multicast, relays that reach IPv4 inside, cloud metadata),
# or did in some release of Python
_CLOSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")  # all that is assigned as global unicast
_CLOSED_V6 = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


def is_public(address: IPAddress) -> bool:
    """True when the address is one host of the public internet, and reaches nothing else."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not any(address in network for network in _CLOSED_V4)
    if address.scope_id is not None or address not in _OPEN_V6:
        return False
    return address.is_global and not any(address in network for network in _CLOSED_V6)


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL in the parts it is called by. `host` is a name in lower case or an address
    without brackets; `path` has the query with it and is hidden, as it often is a secret."""

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)

    @property
    def path_parts(self) -> list[str]:
        """The words of the path, which errors must not show."""
        return re.split(r"[/?&=]", self.path)

    @property
    def is_literal(self) -> bool:
        """True when the host is an address and no name."""
        return _literal(self.host) is not None

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Guard:
    """Decides by URL and by address. `allow_hosts` are names, addresses and CIDR networks.

    Raises CannotStart for an entry that is none of these."""

    def __init__(self, allow_hosts: tuple[str, ...]) -> None:
        self._names: set[str] = set()
        self._networks: list[IPNetwork] = []
        for entry in allow_hosts:
            self._open(entry.strip().lower())

    def _open(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            if not _is_name(entry):
                raise CannotStart(
                    f"webhooks.allow_hosts: {entry!r} is not a host name, address or network",
                    hint="write for instance hooks.lab.example, 10.0.0.7 or 10.0.0.0/8",
                ) from None
            self._names.add(entry)

    def target(self, url: str) -> Target:
        """The URL in parts. Raises InvalidRequest with a problem on the field `url`."""
        parts = _split(url)
        host = parts.hostname or ""
        address = _literal(host)
        if address is None:
            _check_name(host)
        opened = self._is_open(host, address)
        if not opened:
            _check_closed(parts, host, address)
        port = _port(parts)
        if not opened and port not in PORTS:
            raise refusal(f"port {port} may not be called", f"port 443 or 8443; {_HTTPS}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme, host, port, path)

    def admits(self, target: Target, address: str) -> bool:
        """True when a connection to this resolved address may be made for the target."""
        parsed = _literal(address)
        if parsed is None:
            return False
        return target.host in self._names or self._in_networks(parsed) or is_public(parsed)

    def _is_open(self, host: str, address: IPAddress | None) -> bool:
        return host in self._names or (address is not None and self._in_networks(address))

    def _in_networks(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks)


def refusal(wrong: str, right: str) -> InvalidRequest:
    """The error for an address that may not be used."""
    return InvalidRequest(
        f"this webhook address cannot be used: {wrong}",
        problems=(FieldProblem("url", wrong, right),),
    )


def check_characters(url: str) -> None:
    """Raises InvalidRequest for what no address has in it, and for endless ones."""
    if len(url) > MOST_CHARACTERS:
        raise refusal(f"it has {len(url)} characters", f"at most {MOST_CHARACTERS} characters")
    if not _ORDINARY.fullmatch(url):
        raise refusal(
            "it has characters that do not belong in an address",
            "letters, digits and -._~:/?[]!$&'()*+,;=% only; other names in punycode (xn--...)",
        )


def _split(url: str) -> SplitResult:
    check_characters(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise refusal("it is not a URL", _HTTPS) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise refusal("its scheme is not https", _HTTPS)
    if "@" in parts.netloc:
        raise refusal("it has a user name or password in it", "the same address without them")
    if "[" in parts.netloc and ":" not in (parts.hostname or ""):
        raise refusal("it has brackets around something else than an IPv6 address", _HTTPS)
    return parts


def _check_name(host: str) -> None:
    if not _is_name(host):
        raise refusal("its host is neither a name nor an address", _HTTPS)


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return (
        0 < len(host) <= 253
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def _check_closed(parts: SplitResult, host: str, address: IPAddress | None) -> None:
    """What holds for hosts that no admin has opened."""
    if parts.scheme != "https":
        raise refusal("it is not https", _HTTPS)
    if address is not None and not is_public(address):
        raise refusal(f"{host} is not a public address", _HTTPS)
    if address is None and ("." not in host or _is_local(host)):
        raise refusal(f"{host} is a name of this machine or of a local network", _HTTPS)


def _is_local(host: str) -> bool:
    return any(host == suffix or host.endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if port == 0:
        raise refusal("its port is not a port", "a port from 1 to 65535")
    return port


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
