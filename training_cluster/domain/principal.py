"""Who asks, and what that person may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from training_cluster.domain.errors import Forbidden


class Role(StrEnum):
    """What a caller may do; each includes those before it."""

    VIEWER = "viewer"  # look at the queue
    SUBMITTER = "submitter"  # submit, and touch one's own jobs and webhooks
    ADMIN = "admin"  # touch everybody's, and manage tokens and devices

    def includes(self, other: Role) -> bool:
        """Whether this role may do all that the other may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class Via(StrEnum):
    """How a caller was recognised."""

    LOCAL = "local"  # the kernel named the Unix user at the other end of the connection
    TOKEN = "token"  # noqa: S105  # a bearer token
    COOKIE = "cookie"  # a token given to the login page
    UPLOAD = "upload"  # the address of an upload, which opens nothing else
    OPEN = "open"  # nobody is asked: auth = "open"
    SIGNED = "signed"  # an address that was signed for one thing


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `name` owns jobs and webhooks; `token_id` names the token, if one was shown."""

    name: str
    role: Role
    via: Via
    token_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everybody's things may be touched."""
        return self.role is Role.ADMIN

    def owns(self, owner: str) -> bool:
        """Whether the caller may see and touch what belongs to `owner`."""
        return self.is_admin or self.name == owner

    def require(self, role: Role) -> None:
        """Raise Forbidden unless the caller has that role or a higher one."""
        if not self.role.includes(role):
            raise Forbidden(
                f"{self.name} is a {self.role}, and this needs a {role}",
                hint=f"ask an admin for a token with the role {role}",
            )

    def require_ownership(self, owner: str, what: str) -> None:
        """Raise Forbidden unless `what`, of `owner`, may be touched."""
        if not self.owns(owner):
            raise Forbidden(
                f"{what} belongs to {owner}, not to {self.name}",
                hint="its owner or an admin can do this",
            )
