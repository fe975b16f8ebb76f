"""Asks the kernel which Unix user holds the client end of a loopback TCP connection.

An exact SOCK_DIAG_BY_FAMILY query over netlink, see sock_diag(7) and linux/inet_diag.h. Of a socket
that its process has closed already the kernel says uid 0 and inode 0: that is nobody, not root.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
import struct
import time

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_NLMSG_HEADER = struct.Struct("=IHHII")
_REQUEST_HEADER = struct.Struct("=BBBBI")
# idiag_family..idiag_retrans (4), sockid (48), expires, rqueue, wqueue (4 each), then these two
_OWNER = struct.Struct("=II")
_OWNER_OFFSET = _NLMSG_HEADER.size + 4 + 48 + 12
_TIMEOUT_SECONDS = 1.0
_NAME_SECONDS = 60.0
_MOST_NAMES = 1024

Address = tuple[str, int]


class KernelPeers:
    """The `PeerIdentity` of Linux. Names are remembered for a minute: a user directory that
    hangs is asked once, not by every request."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, float]] = {}

    def user_of(self, client: Address, server: Address) -> str | None:
        """The name (or uid) of the user at the client's end; None when the kernel cannot say."""
        try:
            uid = peer_uid(client, server)
        except (OSError, ValueError, struct.error):
            return None
        return None if uid is None else self._name(uid)

    def _name(self, uid: int) -> str:
        name, until = self._names.get(uid, ("", 0.0))
        now = time.monotonic()
        if until < now:
            name = user_name(uid)
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[uid] = (name, now + _NAME_SECONDS)
        return name


def user_name(uid: int) -> str:
    """The name of a user of this machine; the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def peer_uid(client: Address, server: Address) -> int | None:
    """The uid owning the socket bound to `client` and connected to `server`; None when there is
    none, or when it is closed and owned by nobody any more."""
    local, remote = _address(client[0]), _address(server[0])
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    socket_id = struct.pack("!HH", client[1], server[1])
    socket_id += local.packed.ljust(16, b"\0") + remote.packed.ljust(16, b"\0")
    socket_id += struct.pack("=I", 0) + _NO_COOKIE
    request = _REQUEST_HEADER.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + socket_id
    size = _NLMSG_HEADER.size + len(request)
    header = _NLMSG_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, os.getpid(), 0)
    return _parse(_ask(header + request))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; that of an IPv4 client at a listener for both is written within IPv6."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _ask(message: bytes) -> bytes:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT_SECONDS)
        netlink.send(message)
        return netlink.recv(8192)


def _parse(answer: bytes) -> int | None:
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = _OWNER.unpack_from(answer, _OWNER_OFFSET)
    return int(uid) if inode else None
