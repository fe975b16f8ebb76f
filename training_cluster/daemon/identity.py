"""Tokens, logins and their records put together, and the one token that the first start tells."""

from __future__ import annotations

import sys

from training_cluster.ports import Clock
from training_cluster.services.access_records import AccessRecords
from training_cluster.services.sessions import Sessions
from training_cluster.services.signed_urls import SignedUrls, key_of
from training_cluster.services.tokens import Tokens
from training_cluster.settings import Settings
from training_cluster.store.database import Database

_WELCOME = """
The admin token of this daemon, shown this once:

    {token}

From other machines it goes into `Authorization: Bearer ...` or TRAINING_CLUSTER_TOKEN. Whoever
runs the daemon, and root, need none here: `training-cluster token create` makes another one.

"""


class Identity:
    """Who gets in with what. Raises OSError when the key of signed addresses cannot be kept."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self.tokens = Tokens(database, clock)
        self.sessions = Sessions(database, self.tokens, clock)
        self.records = AccessRecords(database, self.tokens, clock)
        key, seconds = key_of(settings.state_dir), settings.limits.signed_url_seconds
        self.signed_urls = SignedUrls(key, self.tokens, clock, seconds)

    async def start(self, user: str) -> None:
        """Take up tokens and logins; where there has never been a token, make one for `user`, who
        runs the daemon, and tell it."""
        await self.tokens.load()
        await self.sessions.load()
        await self.records.start()
        first = await self.tokens.first(user)
        if first is not None:
            sys.stderr.write(_WELCOME.format(token=first))
            sys.stderr.flush()

    async def stop(self) -> None:
        """Write down what is not yet."""
        await self.records.stop()
