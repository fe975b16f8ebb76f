"""Tokens and sessions: what a caller shows instead of being a user of this machine.

A token is written `tq_<id>_<secret>`; a session is what the login page turns one into. Only hashes
of the secrets are kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from training_cluster.domain.principal import Principal, Role, Via

PREFIX = "tq_"
_FORM = re.compile(r"tq_([0-9a-f]{12})_([0-9a-f]{48})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its secret. `user` owns what is done with it, `made_by` made it. Times are
    Unix seconds; `last_used_at` is up to a minute behind."""

    id: str
    secret_sha256: bytes = field(repr=False)
    user: str
    role: Role
    label: str = ""
    made_by: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it still opens the door."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def principal(self, via: Via) -> Principal:
        """Who comes with it."""
        return Principal(self.user, self.role, via, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login at the page: lives as long as its token, and at most until `expires_at`."""

    secret_sha256: bytes = field(repr=False)
    token_id: str
    created_at: float
    expires_at: float


def new_text() -> tuple[str, str]:
    """The id and the whole text of a new token; 192 of its bits are secret."""
    token_id = secrets.token_hex(6)
    return token_id, f"{PREFIX}{token_id}_{secrets.token_hex(24)}"


def token_id_of(text: str) -> str | None:
    """The id in the text of a token; None for what is not one."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def digest(secret: str) -> bytes:
    """What is kept of a secret. It is random and long: nothing slower is needed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
