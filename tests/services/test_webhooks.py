"""Webhooks: whose they are, where their secrets lie, and what a job's own one leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.factories import ALICE, BOB, NOW, ROOT, a_gpu
from tests.fakes import FakeInventory, Told
from tests.services.household import Household
from training_cluster.domain.errors import (
    Conflict,
    DeliveryNotFound,
    IdempotencyMismatch,
    InvalidRequest,
    NoDeviceFree,
    StoreUnavailable,
    WebhookNotFound,
)
from training_cluster.domain.event import EventType
from training_cluster.domain.job import JobState
from training_cluster.domain.masking import masked
from training_cluster.domain.principal import Principal
from training_cluster.domain.spec import JobSpec
from training_cluster.ports import Receipt
from training_cluster.services.jobs import Strategy, Submission
from training_cluster.services.webhooks import NewWebhook
from training_cluster.store import events
from training_cluster.store.deliveries import NEWEST

URL = "https://lab.example/canary-path?key=canary-query"
SECRET = "whsec_secret1"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Household]:
    made = Household(tmp_path, FakeInventory(a_gpu(0)))
    await made.devices.read()
    yield made
    await made.close()


async def subscribe(lab: Household, by: Principal = ALICE, **fields: object) -> str:
    made = await lab.webhooks.create(NewWebhook(url=URL, **fields), by)
    return made.webhook.id


def files(lab: Household) -> list[Path]:
    folder = lab.database.path.parent / "secrets"
    return sorted(folder.iterdir()) if folder.exists() else []


def submission(**fields: object) -> Submission:
    more = {name: fields.pop(name) for name in ("strategy", "idempotency_key") if name in fields}
    return Submission(spec=JobSpec(**fields), user="alice", **more)


async def test_address_and_secret_are_in_a_private_file_and_nowhere_else(lab):
    made = await lab.webhooks.create(NewWebhook(url=URL), ALICE)
    assert made.secret == SECRET
    (file,) = files(lab)
    assert file.name == f"{made.webhook.id}.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "canary-query" in file.read_text()


async def test_the_database_never_holds_an_address_or_a_secret(lab):
    await subscribe(lab)
    await lab.jobs.submit(submission(webhook_url=URL, idempotency_key="k"))
    lab.notifier.answer = lambda _: Receipt(500)
    await lab.deliveries.run_once()
    await lab.deliveries.idle()
    assert lab.notifier.told
    for file in lab.database.path.parent.glob("queue.db*"):
        content = file.read_bytes()
        for canary in (b"canary", b"whsec", b"secret1", b"secret2"):
            assert canary not in content, file.name


async def test_nothing_that_is_logged_or_shown_has_a_secret_in_it(lab, capfd):
    hook = await subscribe(lab)
    made = await lab.webhooks.rotate(hook, ALICE)
    await lab.webhooks.test(hook, ALICE)
    await lab.jobs.submit(submission(webhook_url=URL))
    await lab.deliveries.run_once()
    await lab.deliveries.idle()
    await lab.webhooks.delete(hook, ALICE)
    out, err = capfd.readouterr()
    wanted = NewWebhook(url=URL)
    for text in (out, err, repr(made), repr(wanted), repr(await lab.addresses.read(hook))):
        assert "canary" not in text
        assert "whsec" not in text
    for told in lab.notifier.told:
        assert b"canary" not in told.body
        assert b"whsec" not in told.body


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "https://lab.example/***"),
        ("https://user:pw@host.example:8443/x", "https://host.example/***"),
        ("https://hooks.slack.com/services/T/B/x", "https://hooks.slack.com/***"),
        ("https://hooks.slack.com/***", "https://hooks.slack.com/***"),
        ("slack+https://chat.lab/x", "slack+https://chat.lab/***"),
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "discord://***"),
        ("mailto://user:pw@gmail.com", "mailto://***"),
        ("https://[::1", "***"),
        ("nonsense", "***"),
    ],
)
def test_a_shown_address_has_no_secret_in_it(url, shown):
    assert masked(url) == shown


async def test_an_address_that_may_not_be_called_is_refused_by_the_name_of_its_field(lab):
    with pytest.raises(InvalidRequest) as caught:
        await lab.webhooks.create(NewWebhook(url="ftp://x"), ALICE)
    assert [problem.field for problem in caught.value.problems] == ["url"]
    with pytest.raises(InvalidRequest) as caught:
        await lab.jobs.submit(submission(webhook_url="ftp://x"))
    assert [problem.field for problem in caught.value.problems] == ["webhook_url"]
    assert files(lab) == []


async def test_users_see_and_touch_only_their_own_webhooks(lab):
    mine, theirs = await subscribe(lab, ALICE), await subscribe(lab, BOB)
    assert [hook.id for hook in await lab.webhooks.visible(ALICE)] == [mine]
    assert [hook.id for hook in await lab.webhooks.visible(ROOT)] == [mine, theirs]
    test = await lab.webhooks.test(theirs, BOB)
    calls = lab.webhooks
    for call in (
        lambda user: calls.get(theirs, user),
        lambda user: calls.rotate(theirs, user),
        lambda user: calls.enable(theirs, user),
        lambda user: calls.test(theirs, user),
        lambda user: calls.deliveries(theirs, user, state=None, before=NEWEST, limit=1),
        lambda user: calls.delivery(theirs, user, test.id),
        lambda user: calls.replay(theirs, user, test.id),
        lambda user: calls.replay_undelivered(theirs, user, 0),
        lambda user: calls.delete(theirs, user),
    ):
        with pytest.raises(WebhookNotFound):
            await call(ALICE)
        await call(ROOT)


async def test_a_delivery_of_another_webhook_is_not_found(lab):
    mine, theirs = await subscribe(lab, ALICE), await subscribe(lab, BOB)
    test = await lab.webhooks.test(theirs, BOB)
    with pytest.raises(DeliveryNotFound):
        await lab.webhooks.delivery(mine, ALICE, test.id)
    with pytest.raises(DeliveryNotFound):
        await lab.webhooks.replay(mine, ALICE, test.id)


async def test_a_test_is_told_to_that_webhook_alone(lab):
    hook = await subscribe(lab, events=("job.failed",))
    await subscribe(lab, description="another")
    await lab.webhooks.test(hook, ALICE)
    await lab.deliveries.run_once()
    await lab.deliveries.idle()
    (told,) = lab.notifier.told
    assert told.document["type"] == "webhook.test"
    assert told.document["data"]["webhook_id"] == hook


async def test_a_deleted_webhook_leaves_no_secret(lab):
    hook = await subscribe(lab)
    await lab.webhooks.delete(hook, ALICE)
    assert files(lab) == []
    with pytest.raises(WebhookNotFound):
        await lab.webhooks.delete(hook, ALICE)


async def test_a_disabled_webhook_is_enabled_before_it_is_told_again(lab):
    hook = await subscribe(lab)
    lab.notifier.answer = lambda _: Receipt(410)
    test = await lab.webhooks.test(hook, ALICE)
    await lab.deliveries.run_once()
    await lab.deliveries.idle()
    for call in (
        lambda: lab.webhooks.test(hook, ALICE),
        lambda: lab.webhooks.replay(hook, ALICE, test.id),
        lambda: lab.webhooks.replay_undelivered(hook, ALICE, 0),
    ):
        with pytest.raises(Conflict, match="disabled"):
            await call()
    assert (await lab.webhooks.enable(hook, ALICE)).disabled_at is None
    assert await lab.webhooks.replay_undelivered(hook, ALICE, 0) == 1


async def test_receivers_that_take_no_signature_have_no_secret(lab):
    url = "https://hooks.slack.com/services/T/B/x"
    made = await lab.webhooks.create(NewWebhook(url=url), ALICE)
    assert (made.webhook.format, made.secret) == ("slack", None)
    with pytest.raises(Conflict, match="not signed"):
        await lab.webhooks.rotate(made.webhook.id, ALICE)


async def test_rotating_again_and_again_lets_no_secret_live_longer_than_a_day(lab):
    hook = await subscribe(lab)
    for _ in range(20):
        await lab.webhooks.rotate(hook, ALICE)
    address = await lab.addresses.read(hook)
    assert len(address.secrets) == 8
    assert address.secrets[0].text == "whsec_secret21"
    assert {secret.expires_at for secret in address.secrets} == {None, NOW + 24 * 3600}


async def test_one_user_cannot_subscribe_without_end(lab):
    for _ in range(50):
        await subscribe(lab)
    with pytest.raises(Conflict):
        await subscribe(lab)
    assert len(files(lab)) == 50
    await subscribe(lab, BOB)


async def test_a_jobs_own_webhook_is_told_of_that_job_only(lab):
    first = await lab.jobs.submit(submission(webhook_url=URL))
    await lab.jobs.submit(submission())
    assert first.job.spec.webhook_url == "https://lab.example/***"
    await lab.reaches(1, JobState.RUNNING)
    await lab.jobs.cancel("2", ALICE)
    await lab.jobs.cancel("1", ALICE)
    await lab.reaches(1, JobState.CANCELLED)

    async def all_told() -> list[Told]:
        await lab.deliveries.run_once()
        await lab.deliveries.idle()
        return lab.notifier.told if len(lab.notifier.told) >= 3 else []

    await lab.until(all_told)
    documents = [told.document for told in lab.notifier.told]
    assert [document["type"] for document in documents] == [
        "job.queued",
        "job.started",
        "job.cancelled",
    ]
    assert {document["data"]["job"]["number"] for document in documents} == {1}
    overview = await lab.jobs.get("1")
    assert overview.webhook_id == documents[0]["data"]["webhook_id"]
    assert await lab.webhooks.visible(ALICE) == [], "it is no standing subscription"
    assert (await lab.webhooks.get(overview.webhook_id, ALICE)).job_id == overview.job.id
    assert (await lab.jobs.get("2")).webhook_id is None


async def test_a_replayed_submission_leaves_one_address(lab):
    for _ in range(3):
        overview = await lab.jobs.submit(submission(webhook_url=URL, idempotency_key="k"))
    assert overview.replayed
    assert len(files(lab)) == 1
    with pytest.raises(IdempotencyMismatch):
        await lab.jobs.submit(submission(webhook_url=URL + "2", idempotency_key="k"))
    assert len(files(lab)) == 1


async def test_a_refused_job_leaves_no_address(lab):
    await lab.jobs.submit(submission())
    with pytest.raises(NoDeviceFree):
        await lab.jobs.submit(submission(webhook_url=URL, strategy=Strategy.REJECT))
    with pytest.raises(InvalidRequest):
        await lab.jobs.submit(submission(webhook_url=URL, depends_on=("99",)))
    assert files(lab) == []


async def test_an_address_whose_job_may_have_been_stored_waits_for_the_next_start(lab):
    lab.database.close()
    with pytest.raises(StoreUnavailable):
        await lab.jobs.submit(submission(webhook_url=URL))
    assert len(files(lab)) == 1


async def test_addresses_nobody_owns_are_removed(lab):
    hook = await subscribe(lab)
    (owned,) = files(lab)
    for name in ("wh_0.json", "half_written.new"):
        owned.with_name(name).write_text("{}")
    await lab.webhooks.remove_orphans()
    assert files(lab) == [owned]
    assert await lab.addresses.read(hook) is not None


async def test_what_happens_to_webhooks_is_on_record(lab):
    hook = await subscribe(lab)
    await lab.webhooks.delete(hook, ALICE)
    found = await lab.database.read(lambda c: events.page(c, 0, 10))
    assert [event.type for event in found] == [
        EventType.WEBHOOK_CREATED,
        EventType.WEBHOOK_DELETED,
    ]
    assert found[0].data == {
        "webhook_id": hook,
        "user": "alice",
        "url": "https://lab.example/***",
    }
