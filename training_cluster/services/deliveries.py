"""Takes notifications from the outbox to their receivers, again and again until they arrive.

Each try is a task of its own: a receiver that is slow or dead delays neither the loop nor
another receiver."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from training_cluster.crash_points import crash_point
from training_cluster.domain.errors import TrainingClusterError, WebhookNotFound
from training_cluster.domain.webhook import Delivery, OutboxFilled, Webhook
from training_cluster.ports import Clock, Endpoint, EndpointFormat, Notifier, Receipt
from training_cluster.scheduling import redelivery
from training_cluster.scheduling.redelivery import Redelivery
from training_cluster.services import notification
from training_cluster.services.devices import DeviceWatch
from training_cluster.services.loop import Loop
from training_cluster.services.secret_files import SecretFiles
from training_cluster.store import deliveries, webhooks
from training_cluster.store.database import Database
from training_cluster.store.deliveries import Settled
from training_cluster.store.facts import Fact

log = structlog.get_logger(__name__)

_AT_ONCE = 64
_AT_ONCE_PER_WEBHOOK = 4
_KEPT_FREE = 32  # for webhooks that have no try under way
# the wall clock may be set, or the machine may have slept: look again by then
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_TRY_SECONDS = 300.0  # the notifier has a deadline of its own; this is the net below it
_LAST_WORDS_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Task:
    """Whom to tell, and what if that was made before."""

    hook: Webhook
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the outbox found; `next_at` is when more falls due (Unix seconds)."""

    due: Sequence[Delivery]
    next_at: float | None


class Deliveries(Loop):
    """At most 64 tries at once, 4 for each webhook, one for each job of a webhook."""

    name = "deliveries"

    def __init__(
        self,
        database: Database,
        addresses: SecretFiles,
        notifier: Notifier,
        devices: DeviceWatch,
        clock: Clock,
        *,
        base_url: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._database = database
        self._addresses = addresses
        self._notifier = notifier
        self._devices = devices
        self._clock = clock
        self._base_url = base_url
        self._jitter = jitter
        self._next_at: float | None = None
        self._under_way: dict[int, Delivery] = {}
        self._ended: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def notice(self, facts: Sequence[Fact]) -> None:
        """Told of every commit: wakes when it has filled the outbox."""
        if any(isinstance(fact, OutboxFilled) for fact in facts):
            self.wake()

    def delay(self) -> float | None:
        """Until the next retry falls due; what is under way wakes the loop when it ends."""
        if self._next_at is None:
            return None
        return min(_LONGEST_PAUSE_SECONDS, max(0.0, self._next_at - self._clock.now()))

    async def run_once(self) -> None:
        """Begin a try of everything that is due and may be under way now."""
        now = self._clock.now()
        self._ended.clear()
        look = await self._database.read(lambda connection: _look(connection, now))
        self._next_at = look.next_at
        for delivery in look.due:
            if self._may_begin(delivery):
                self._begin(delivery)

    def _may_begin(self, delivery: Delivery) -> bool:
        under_way = self._under_way.values()
        if delivery.id in self._under_way or len(under_way) >= _AT_ONCE:
            return False
        if delivery.id in self._ended:  # while we looked: what we saw of it is old
            return False
        of_webhook = Counter(other.job_id for other in under_way if _same_webhook(other, delivery))
        if delivery.job_id is not None and of_webhook[delivery.job_id]:
            return False
        most = _AT_ONCE_PER_WEBHOOK if len(under_way) < _AT_ONCE - _KEPT_FREE else 1
        return of_webhook.total() < most

    def _begin(self, delivery: Delivery) -> None:
        self._under_way[delivery.id] = delivery
        task = asyncio.create_task(self._deliver(delivery), name=f"deliver {delivery.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until no try is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """End; tries under way get a moment, and those that need longer are made again by the
        next daemon."""
        await super().stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.idle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, delivery: Delivery) -> None:
        """One try. Whatever fails on our side, the delivery stays in the outbox."""
        try:
            receipt = await self._try(delivery)
            if receipt is not None:
                crash_point("delivery.before_result")
                await self._settle_surely(delivery, receipt)
        except Exception:
            log.exception("will be tried again", action="delivery.error", delivery=delivery.id)
            await asyncio.sleep(_AFTER_ERROR_SECONDS)
        finally:
            del self._under_way[delivery.id]
            self._ended.add(delivery.id)
            self.wake()

    async def _try(self, delivery: Delivery) -> Receipt | None:
        """None when the webhook went away in the meantime, and its deliveries with it."""
        task = await self._database.read(lambda connection: _task(connection, delivery))
        if task is None:
            return None
        endpoint = await self._endpoint(task.hook)
        if endpoint is None:
            return Receipt(None, "the file with the address of this webhook is gone")
        try:
            body = task.body or await self._body(delivery, endpoint.format)
            crash_point("delivery.before_send")
            return await self._send(endpoint, delivery, body)
        except TrainingClusterError:
            raise
        except Exception:
            log.exception("counts as a failed try", action="delivery.bug", delivery=delivery.id)
            return Receipt(None, "the notification could not be made: the daemon's log says why")

    async def _endpoint(self, hook: Webhook) -> Endpoint | None:
        address = await self._addresses.read(hook.id)
        if address is None:
            return None
        now = self._clock.now()
        signing = tuple(secret.text for secret in address.secrets if secret.signs_at(now))
        return Endpoint(EndpointFormat(hook.format), address.url, signing)

    async def _body(self, delivery: Delivery, kind: EndpointFormat) -> bytes:
        """What every try sends: made at the first one, then kept."""
        facts = await self._database.read(lambda c: notification.gather(c, delivery))
        made = await asyncio.to_thread(self._make, facts, kind)
        return await self._database.write(lambda c: deliveries.keep_body(c, delivery.id, made))

    def _make(self, facts: notification.Facts, kind: EndpointFormat) -> bytes:
        names = {device.uuid: device.name for device in self._devices.latest.devices}
        return self._notifier.render(kind, notification.document(facts, self._base_url, names))

    async def _send(self, endpoint: Endpoint, delivery: Delivery, body: bytes) -> Receipt:
        now = self._clock.now()
        try:
            async with asyncio.timeout(_LONGEST_TRY_SECONDS):
                return await self._notifier.send(endpoint, delivery.message_id, now, body)
        except TimeoutError:
            return Receipt(None, "the try did not come to an end")

    async def _settle_surely(self, delivery: Delivery, receipt: Receipt) -> None:
        """Record what was answered, however long the store is unavailable: a receiver is not
        told twice because our disk is full."""
        decision = redelivery.decide(delivery.tries + 1, receipt, self._clock.now(), self._jitter())
        while True:
            try:
                await self._settle(delivery, receipt, decision)
                return
            except Exception:
                log.exception("will try again", action="delivery.settle", delivery=delivery.id)
                await asyncio.sleep(_AFTER_ERROR_SECONDS)

    async def _settle(self, delivery: Delivery, receipt: Receipt, decision: Redelivery) -> None:
        now = self._clock.now()
        settled = Settled(
            state=decision.state,
            next_at=decision.next_at,
            status=receipt.status,
            error=receipt.error,
        )

        def change(connection: sqlite3.Connection) -> None:
            deliveries.settle(connection, delivery, settled, now)
            if decision.disable_reason is not None:
                webhooks.disable(connection, delivery.webhook_id, decision.disable_reason, now)

        await self._database.write(change)
        log.info(
            "tried",
            action="delivery.tried",
            delivery=delivery.id,
            webhook=delivery.webhook_id,
            state=decision.state.value,
            status=receipt.status,
            tries=delivery.tries + 1,
        )


def _task(connection: sqlite3.Connection, delivery: Delivery) -> _Task | None:
    try:
        hook = webhooks.find(connection, delivery.webhook_id)
    except WebhookNotFound:
        return None
    if hook.disabled_at is not None:
        return None
    return _Task(hook, deliveries.body(connection, delivery.id))


def _look(connection: sqlite3.Connection, now: float) -> _Look:
    due = deliveries.due(connection, now, per_webhook=_AT_ONCE_PER_WEBHOOK, limit=2 * _AT_ONCE)
    return _Look(due, deliveries.next_at(connection, now))


def _same_webhook(one: Delivery, other: Delivery) -> bool:
    return one.webhook_id == other.webhook_id
