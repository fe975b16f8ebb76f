"""Addresses that open one door for a while to whoever has them, as object stores make them.

Their clients send no token to such an address: what may be done, where, in whose name and until
when is part of it and signed (HMAC-SHA256). An address that was made for somebody with a token ends
with that token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from training_cluster.domain.errors import AccessDenied
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.ports import Clock
from training_cluster.services.tokens import Tokens

_KEY_BYTES = 32
_FIELDS = ("expires", "user", "token", "signature")
_MARK = b"signature="


class BadSignature(AccessDenied):
    """The address was not made here, was changed, or is no longer good."""

    code = "bad_signature"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="ask for a new address where this one came from")


@dataclass(frozen=True, slots=True)
class SignedUrls:
    """Signs and checks. Addresses are good for `seconds`."""

    key: bytes = field(repr=False)
    tokens: Tokens
    clock: Clock
    seconds: float

    def sign(
        self, method: str, path: str, user: str, by: Principal, seconds: float | None = None
    ) -> str:
        """An address, without scheme and host, by which `method` may be done at `path` in `user`'s
        name; `by` has asked for it. `seconds` where it is to be good for longer."""
        expires = str(math.ceil(self.clock.now() + max(self.seconds, seconds or 0.0)))
        token = by.token_id or ""
        signature = self._signature(method, path, expires, user, token)
        values = (expires, user, token, signature)
        return f"{path}?{urlencode(dict(zip(_FIELDS, values, strict=True)))}"

    def caller(self, method: str, path: str, query: bytes) -> Principal | None:
        """Who a request by such an address is; None when it is no such address. Raises
        BadSignature."""
        if _MARK not in query:
            return None
        said = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        if any(len(said.get(name, ())) != 1 for name in _FIELDS):
            return None
        expires, user, token, signature = (said[name][0] for name in _FIELDS)
        meant = "GET" if method == "HEAD" else method
        right = self._signature(meant, path, expires, user, token)
        if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "replace")):
            raise BadSignature("the address is not signed by this daemon for this")
        if self.clock.now() >= float(expires):
            raise BadSignature("the address has expired")
        if token and self.tokens.valid(token) is None:
            raise BadSignature("the token by which the address was made has ended")
        role = Role.VIEWER if meant == "GET" else Role.SUBMITTER
        return Principal(user, role, Via.SIGNED, token or None)

    def _signature(self, *parts: str) -> str:
        return hmac.new(self.key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def key_of(state_dir: Path) -> bytes:
    """The key of a state directory, made at its first use; only the daemon's user can read it.
    Raises OSError."""
    path = state_dir / "url-signing.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
        path.unlink()  # half written, when the disk was full
        return key_of(state_dir)
    with os.fdopen(descriptor, "wb") as file:
        key = os.urandom(_KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
