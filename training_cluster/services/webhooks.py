"""What people do with webhooks: subscribe, look, rotate secrets, test, replay, unsubscribe.

A webhook's address is written to its own file before its row is stored, so a row always has one."""

from __future__ import annotations

import asyncio
import secrets as random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import Conflict, InvalidRequest, WebhookNotFound
from training_cluster.domain.event import EventType
from training_cluster.domain.masking import masked
from training_cluster.domain.principal import Principal
from training_cluster.domain.webhook import Delivery, DeliveryState, Webhook
from training_cluster.ports import Clock, EndpointFormat, Notifier
from training_cluster.services.secret_files import Address, Secret, SecretFiles
from training_cluster.store import deliveries, events, webhooks
from training_cluster.store.database import Database

log = structlog.get_logger(__name__)

_OVERLAP_SECONDS = 24 * 3600.0
_MOST_SECRETS = 8
_MOST_PER_USER = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """A subscription somebody asks for; `events` empty means all, `only_user` whose jobs."""

    url: str = field(repr=False)
    events: tuple[str, ...] = ()
    only_user: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Unveiled:
    """A webhook with the secret that signs from now on: the only time it is told. None for a
    receiver that takes no signatures."""

    webhook: Webhook
    secret: str | None = field(repr=False)


class Webhooks:
    """The service behind the webhook routes. Admins may see and touch every webhook, everybody
    else only their own: those of others do not exist for them (WebhookNotFound)."""

    def __init__(
        self,
        database: Database,
        addresses: SecretFiles,
        notifier: Notifier,
        clock: Clock,
        *,
        new_secret: Callable[[], str],
    ) -> None:
        self._database = database
        self._addresses = addresses
        self._notifier = notifier
        self._clock = clock
        self._new_secret = new_secret
        self._one_rotation = asyncio.Lock()
        self.on_due: Callable[[], None] = lambda: None

    async def remove_orphans(self) -> None:
        """Forget addresses whose webhook was never stored or is gone."""
        known = await self._database.read(webhooks.ids)
        removed = await self._addresses.remove_orphans(known)
        if removed:
            log.info("removed", action="webhooks.orphans", addresses=removed)

    async def receiver(self, url: str, user: str, *, named: str = "url") -> Unveiled:
        """A webhook that is about to be stored, its address written down already.

        Raises InvalidRequest with a problem on the field `named`."""
        kind = await asyncio.to_thread(self._check, url, named)
        secret = self._new_secret() if kind is EndpointFormat.STANDARD else None
        hook = Webhook(
            id=f"wh_{random.token_hex(10)}",
            format=kind.value,
            url=masked(url),
            user=user,
            created_at=self._clock.now(),
        )
        signing = (Secret(secret),) if secret is not None else ()
        await self._addresses.write(hook.id, Address(url, signing))
        crash_point("webhook.address_written")
        return Unveiled(hook, secret)

    async def forget_receiver(self, hook: Webhook) -> None:
        """Take back what `receiver` wrote: the webhook was not stored."""
        await self._addresses.remove(hook.id)

    def _check(self, url: str, named: str) -> EndpointFormat:
        try:
            return self._notifier.check(url)
        except InvalidRequest as error:
            problems = tuple(replace(problem, field=named) for problem in error.problems)
            raise InvalidRequest(error.message, problems=problems, hint=error.hint) from None

    async def create(self, wanted: NewWebhook, by: Principal) -> Unveiled:
        """Subscribe. Raises InvalidRequest, and Conflict for a user who has too many."""
        made = await self.receiver(wanted.url, by.name)
        hook = replace(
            made.webhook,
            events=tuple(dict.fromkeys(wanted.events)),
            only_user=wanted.only_user,
            description=wanted.description,
            sees_all=by.is_admin,
        )
        try:
            await self._database.write(lambda connection: _store(connection, hook))
        except Conflict:
            await self.forget_receiver(hook)
            raise
        log.info("created", action="webhook.created", webhook=hook.id, user=hook.user)
        return Unveiled(hook, made.secret)

    async def visible(self, by: Principal) -> list[Webhook]:
        """The standing webhooks this caller may see, oldest first."""
        found = await self._database.read(webhooks.standing)
        return [hook for hook in found if by.owns(hook.user)]

    async def get(self, webhook_id: str, by: Principal) -> Webhook:
        """One webhook, a job's own too. Raises WebhookNotFound."""
        return await self._database.read(lambda c: self._find(c, webhook_id, by))

    async def delete(self, webhook_id: str, by: Principal) -> None:
        """Unsubscribe; what waits for it is dropped. Raises WebhookNotFound."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> str:
            hook = self._find(connection, webhook_id, by)
            webhooks.delete(connection, hook.id, by.name, now)
            return hook.id

        deleted = await self._database.write(change)
        crash_point("webhook.row_deleted")
        await self._addresses.remove(deleted)

    async def enable(self, webhook_id: str, by: Principal) -> Webhook:
        """Tell a disabled webhook of events again, from now on. Raises WebhookNotFound."""

        def change(connection: sqlite3.Connection) -> Webhook:
            hook = self._find(connection, webhook_id, by)
            webhooks.enable(connection, hook.id)
            return webhooks.find(connection, hook.id)

        return await self._database.write(change)

    async def rotate(self, webhook_id: str, by: Principal) -> Unveiled:
        """Sign by a new secret; the one before signs along for 24 hours. Raises WebhookNotFound,
        and Conflict for a receiver that takes no signatures."""
        hook = await self.get(webhook_id, by)
        if hook.format != EndpointFormat.STANDARD:
            raise Conflict(f"messages to webhook {hook.id} are not signed")
        async with self._one_rotation:
            address = await self._addresses.read(hook.id)
            if address is None:
                raise WebhookNotFound(f"the address of webhook {hook.id} is gone")
            secret = self._new_secret()
            await self._addresses.write(hook.id, _rotated(address, secret, self._clock.now()))
        log.info("rotated", action="webhook.rotated", webhook=hook.id, user=by.name)
        return Unveiled(hook, secret)

    async def test(self, webhook_id: str, by: Principal) -> Delivery:
        """Send a notification that says nothing. Raises WebhookNotFound, and Conflict while the
        webhook is disabled."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Delivery:
            hook = self._find_enabled(connection, webhook_id, by)
            data = {"webhook_id": hook.id, "user": hook.user, "by": by.name}
            event = events.append(connection, now, EventType.WEBHOOK_TEST, data=data)
            number = deliveries.add(connection, hook.id, event)
            return deliveries.find(connection, hook.id, number)

        return self._soon(await self._database.write(change))

    async def deliveries(
        self,
        webhook_id: str,
        by: Principal,
        *,
        state: DeliveryState | None,
        before: int,
        limit: int,
    ) -> list[Delivery]:
        """Deliveries with a number below `before`, newest first. Raises WebhookNotFound."""

        def query(connection: sqlite3.Connection) -> list[Delivery]:
            hook = self._find(connection, webhook_id, by)
            return deliveries.page(connection, hook.id, before=before, limit=limit, state=state)

        return await self._database.read(query)

    async def delivery(
        self, webhook_id: str, by: Principal, number: int
    ) -> tuple[Delivery, bytes | None]:
        """One delivery and what is sent, None before the first try. Raises WebhookNotFound or
        DeliveryNotFound."""

        def query(connection: sqlite3.Connection) -> tuple[Delivery, bytes | None]:
            hook = self._find(connection, webhook_id, by)
            found = deliveries.find(connection, hook.id, number)
            return found, deliveries.body(connection, found.id)

        return await self._database.read(query)

    async def replay(self, webhook_id: str, by: Principal, number: int) -> Delivery:
        """Send a delivery again, as it was. Raises WebhookNotFound, DeliveryNotFound, and Conflict
        while the webhook is disabled."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> Delivery:
            hook = self._find_enabled(connection, webhook_id, by)
            return deliveries.replay(connection, hook.id, number, now)

        return self._soon(await self._database.write(change))

    async def replay_undelivered(self, webhook_id: str, by: Principal, since: float) -> int:
        """Send again all that was created since then (Unix seconds) and did not arrive; returns
        how many. Raises as `replay`."""
        now = self._clock.now()

        def change(connection: sqlite3.Connection) -> int:
            hook = self._find_enabled(connection, webhook_id, by)
            return deliveries.replay_undelivered(connection, hook.id, since, now)

        count = await self._database.write(change)
        self.on_due()
        return count

    def _soon(self, delivery: Delivery) -> Delivery:
        self.on_due()
        return delivery

    def _find(self, connection: sqlite3.Connection, webhook_id: str, by: Principal) -> Webhook:
        hook = webhooks.find(connection, webhook_id)
        if not by.owns(hook.user):
            raise webhooks.unknown(webhook_id)
        return hook

    def _find_enabled(
        self, connection: sqlite3.Connection, webhook_id: str, by: Principal
    ) -> Webhook:
        hook = self._find(connection, webhook_id, by)
        if hook.disabled_at is not None:
            hint = f"POST /webhooks/{hook.id}/enable first"
            raise Conflict(f"webhook {hook.id} is disabled: {hook.disabled_reason}", hint=hint)
        return hook


def _store(connection: sqlite3.Connection, hook: Webhook) -> None:
    own = sum(other.user == hook.user for other in webhooks.standing(connection))
    if own >= _MOST_PER_USER:
        raise Conflict(f"{hook.user} has {own} webhooks", hint="delete one that is not needed")
    webhooks.insert(connection, hook)
    data = {"webhook_id": hook.id, "user": hook.user, "url": hook.url}
    events.append(connection, hook.created_at, EventType.WEBHOOK_CREATED, data=data)


def _rotated(address: Address, secret: str, now: float) -> Address:
    until = now + _OVERLAP_SECONDS
    kept = [
        replace(old, expires_at=old.expires_at or until)
        for old in address.secrets
        if old.signs_at(now)
    ]
    return replace(address, secrets=(Secret(secret), *kept[: _MOST_SECRETS - 1]))
