"""The client's part for tokens: made, listed, revoked."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from training_cluster.client.answers import Answer, read
from training_cluster.client.errors import ClientError
from training_cluster.client.wire import Wire


@dataclass(frozen=True, kw_only=True)
class Token(Answer):
    """A token without its secret; `role` is viewer, submitter or admin. Times are Unix seconds."""

    token_id: str
    user: str = ""
    role: str = ""
    label: str = ""
    made_by: str = ""
    created_at: float = 0.0
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.token_id!r}, {self.user!r}, {self.role!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class IssuedToken(Token):
    """A new token with its text, which the daemon tells this once."""

    token: str = field(default="", repr=False)


class Tokens:
    """`client.tokens`: one method for each thing that can be done with tokens."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(
        self,
        user: str | None = None,
        *,
        role: str | None = None,
        label: str = "",
        seconds: float | None = None,
    ) -> IssuedToken:
        """A token for a user (oneself if none is named), valid for so many seconds or until it is
        revoked; keep the text of the answer."""
        body = {"user": user, "role": role, "label": label, "expires_in_seconds": seconds}
        # not repeatable: each request that arrives makes a token
        found = self._wire.document("POST", "/tokens", body=body, repeatable=False)
        return read(IssuedToken, found)

    def all(self, *, revoked: bool = False) -> list[Token]:
        """The tokens one may see, oldest first."""
        asked = {"revoked": revoked or None}
        found = self._wire.document("GET", "/tokens", params=asked).get("tokens", [])
        return [read(Token, item) for item in found]

    def revoke(self, token_id: str) -> Token:
        """End a token; from then on it opens nothing."""
        if token_id.strip(". ") == "":
            raise ClientError(f"{token_id!r} names no token", hint="`all()` lists their ids")
        return read(Token, self._wire.document("DELETE", f"/tokens/{quote(token_id, safe='')}"))
