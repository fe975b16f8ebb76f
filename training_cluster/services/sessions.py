"""Logins at the page: a token becomes a secret that only the browser's cookie holds."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from training_cluster.domain.token import Session, Token, digest
from training_cluster.ports import Clock
from training_cluster.services.tokens import Tokens
from training_cluster.store import tokens as store
from training_cluster.store.database import Database

_MOST_SECONDS = 7 * 24 * 3600.0
_MOST_PER_TOKEN = 20


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session with its secret: the only time it is told."""

    session: Session
    token: Token
    secret: str = field(repr=False)


class Sessions:
    """The sessions, all in memory. `load` comes first."""

    def __init__(self, database: Database, tokens: Tokens, clock: Clock) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._known: dict[bytes, Session] = {}

    async def load(self) -> None:
        """Take up the sessions of the store."""
        now = self._clock.now()
        found = await self._database.read(lambda connection: store.sessions(connection, now))
        self._known = {session.secret_sha256: session for session in found}

    def find(self, secret: str) -> Token | None:
        """The token behind a cookie, while both are valid."""
        session = self._known.get(digest(secret))
        if session is None or session.expires_at <= self._clock.now():
            return None
        return self._tokens.valid(session.token_id)

    async def log_in(self, token: Token) -> LoggedIn:
        """Begin a session of a token that has been verified."""
        now, secret = self._clock.now(), secrets.token_hex(32)
        until = min(now + _MOST_SECONDS, token.expires_at or float("inf"))
        session = Session(
            secret_sha256=digest(secret), token_id=token.id, created_at=now, expires_at=until
        )
        oldest = self._crowding_out(token)
        await self._database.write(lambda c: store.log_in(c, session, token.user, oldest))
        self._forget_ended()
        for each in oldest:
            self._known.pop(each.secret_sha256, None)
        self._known[session.secret_sha256] = session
        return LoggedIn(session, token, secret)

    def _crowding_out(self, token: Token) -> list[Session]:
        """The oldest sessions of a token that has as many as it may."""
        own = [session for session in self._known.values() if session.token_id == token.id]
        own.sort(key=lambda session: session.created_at)
        return own[: max(0, len(own) - _MOST_PER_TOKEN + 1)]

    def _forget_ended(self) -> None:
        now = self._clock.now()
        self._known = {
            key: session
            for key, session in self._known.items()
            if session.expires_at > now and self._tokens.valid(session.token_id)
        }

    async def log_out(self, secret: str) -> None:
        """End a session; harmless when there is none."""
        session, now = self._known.get(digest(secret)), self._clock.now()
        if session is None:
            return
        token = self._tokens.valid(session.token_id)
        user = token.user if token else ""
        await self._database.write(lambda c: store.log_out(c, session, user, now))
        self._known.pop(session.secret_sha256, None)
