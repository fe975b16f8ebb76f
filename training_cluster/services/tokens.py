"""Tokens: made, listed, revoked, and looked at by every request that shows one.

All of them are in memory, and every change goes through here: a request costs no read, and a token
that is revoked opens nothing from that moment on.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from training_cluster.domain.errors import Conflict, Forbidden, TokenNotFound
from training_cluster.domain.principal import Principal, Role, Via
from training_cluster.domain.token import Token, digest, new_text, token_id_of
from training_cluster.ports import Clock
from training_cluster.store import tokens
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_MOST_PER_USER = 100
_NO_SECRET = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token somebody asks for; `user` None is the asker, `seconds` None lives until revoked."""

    user: str | None = None
    role: Role | None = None
    label: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A token with its text: the only time it is told."""

    token: Token
    text: str = field(repr=False)


class Tokens:
    """The service behind tokens. `load` comes first."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, Token] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self.on_use: Callable[[str, float], None] = lambda token_id, moment: None

    async def load(self) -> None:
        """Take up the tokens of the store."""
        found = await self._database.read(tokens.all_of)
        self._known = {token.id: token for token in found}

    def verify(self, text: str) -> Token | None:
        """The token with this text, if it is valid. An unknown id takes the way of a wrong
        secret, and secrets are compared in constant time."""
        known = self._known.get(token_id_of(text) or "")
        expected = known.secret_sha256 if known else _NO_SECRET
        if not hmac.compare_digest(digest(text), expected) or known is None:
            return None
        now = self._clock.now()
        if not known.is_valid(now):
            return None
        self.on_use(known.id, now)
        return known

    def valid(self, token_id: str) -> Token | None:
        """A token by its id, if it is valid now."""
        known = self._known.get(token_id)
        return known if known is not None and known.is_valid(self._clock.now()) else None

    async def first(self, user: str) -> str | None:
        """The text of an admin token for the one who runs the daemon, where there has never been
        any token; None ever after."""
        token, text = self._new(user, Role.ADMIN, "made at the first start", user, None)

        def change(connection: sqlite3.Connection) -> bool:
            if not tokens.is_empty(connection):
                return False
            tokens.insert(connection, token)
            return True

        if self._known or not await self._database.write(change):
            return None
        self._known[token.id] = token
        return text

    async def create(self, wanted: NewToken, by: Principal) -> Issued:
        """Make a token. Raises Forbidden for what `by` may not give away, and Conflict for a user
        who has too many."""
        user, role = _granted(wanted, by)
        now = self._clock.now()
        valid = sum(each.user == user and each.is_valid(now) for each in self._known.values())
        if valid >= _MOST_PER_USER:
            raise Conflict(f"{user} has {_MOST_PER_USER} tokens", hint="revoke one not needed")
        until = self._until(wanted.seconds, by)
        token, text = self._new(user, role, wanted.label, by.name, until)
        await self._database.write(lambda connection: tokens.insert(connection, token))
        self._known[token.id] = token
        log.info("created", action="token.created", token=token.id, user=user, by=by.name)
        return Issued(token, text)

    def _new(
        self, user: str, role: Role, label: str, by: str, until: float | None
    ) -> tuple[Token, str]:
        token_id, text = new_text()
        token = Token(
            id=token_id,
            secret_sha256=digest(text),
            user=user,
            role=role,
            label=label,
            made_by=by,
            created_at=self._clock.now(),
            expires_at=until,
        )
        return token, text

    def _until(self, seconds: float | None, by: Principal) -> float | None:
        """When a token ends: never after the one it was made with."""
        maker = self._known.get(by.token_id or "")
        wanted = None if seconds is None else self._clock.now() + seconds
        ends = [end for end in (wanted, maker.expires_at if maker else None) if end is not None]
        return min(ends, default=None)

    def visible(self, by: Principal, *, revoked: bool = False) -> list[Token]:
        """The tokens one may see, oldest first; those that are revoked only if asked for."""
        return [
            token
            for token in self._known.values()
            if by.owns(token.user) and (revoked or token.revoked_at is None)
        ]

    async def revoke(self, token_id: str, by: Principal) -> Token:
        """End a token: sessions and open streams end with it. Raises TokenNotFound, also for
        those of others, which do not exist for who is no admin."""
        known = self._known.get(token_id)
        if known is None or not by.owns(known.user):
            raise TokenNotFound(
                f"there is no token {token_id!r}", hint="GET /tokens lists the tokens"
            )
        if known.revoked_at is not None:
            return known
        now = self._clock.now()
        await self._database.write(lambda c: tokens.revoke(c, known, by.name, now))
        gone = self._known[token_id] = replace(known, revoked_at=now)
        log.info("revoked", action="token.revoked", token=token_id, user=known.user, by=by.name)
        for end in list(self._watchers.pop(token_id, ())):
            end()
        return gone

    def watch(self, token_id: str, end: Callable[[], None]) -> None:
        """Have `end` called when the token is revoked."""
        self._watchers.setdefault(token_id, set()).add(end)

    def unwatch(self, token_id: str, end: Callable[[], None]) -> None:
        """Take back `watch`."""
        watchers = self._watchers.get(token_id, set())
        watchers.discard(end)
        if not watchers:
            self._watchers.pop(token_id, None)

    def mark_used(self, used: dict[str, float]) -> None:
        """Show when tokens were last used (Unix seconds)."""
        for token_id, moment in used.items():
            known = self._known[token_id]
            self._known[token_id] = replace(known, last_used_at=moment)


def _granted(wanted: NewToken, by: Principal) -> tuple[str, Role]:
    """Whose token it becomes and with which role. Raises Forbidden."""
    if by.via is Via.OPEN:
        raise Forbidden("nobody knows who asks: a token needs an owner")
    by.require(Role.SUBMITTER)
    user, role = wanted.user or by.name, wanted.role or Role.SUBMITTER
    if user != by.name:
        by.require(Role.ADMIN)
    by.require(role)
    return user, role
