"""Webhooks over a real daemon with real receivers: events arrive signed, secrets stay secret."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from tests.cli.scripted_server import Reply, Request, ScriptedServer, scripted
from tests.daemon_process import DaemonProcess, eventually, running_daemon
from training_cluster.api.webhook_views import EventName
from training_cluster.domain.event import NOTIFIED

CANARY = "canary-5f1c"


def environment(**more: str) -> dict[str, str]:
    return {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
        **more,
    }


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path / "state", environment()) as started:
        yield started


@pytest.fixture
def receiver() -> Iterator[ScriptedServer]:
    with scripted(lambda _: Reply()) as server:
        yield server


def address(receiver: ScriptedServer) -> str:
    return f"{receiver.url}/{CANARY}-path?key={CANARY}-query"


def subscribe(daemon: DaemonProcess, url: str, **fields: Any) -> dict[str, Any]:
    response = daemon.client.post("/webhooks", json={"url": url, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


def deliveries(daemon: DaemonProcess, webhook_id: str, **params: Any) -> list[dict[str, Any]]:
    response = daemon.client.get(f"/webhooks/{webhook_id}/deliveries", params=params)
    assert response.status_code == 200, response.text
    return list(response.json()["deliveries"])


def types(receiver: ScriptedServer) -> list[str]:
    return [request.body["type"] for request in receiver.requests]


def verified(request: Request, secret: str) -> dict[str, Any]:
    """The document, its signature checked by the standard's own library."""
    return dict(Verifier(secret).verify(request.raw, request.headers))


def test_the_events_of_a_job_arrive_signed_and_numbered(daemon, receiver):
    made = subscribe(daemon, address(receiver))
    job = daemon.submit(lora_name="<tune> & co")
    eventually(lambda: "job.completed" in types(receiver))
    eventually(lambda: len(deliveries(daemon, made["webhook_id"], state="delivered")) == 3)
    told = [verified(request, made["secret"]) for request in receiver.requests]
    assert [one["type"] for one in told] == ["job.queued", "job.started", "job.completed"]
    assert [one["data"]["job_sequence"] for one in told] == [1, 2, 3]
    last = told[-1]["data"]["job"]
    assert (last["job_id"], last["status"]) == (job["job_id"], "completed")
    assert last["name"] == "<tune> & co"
    assert daemon.client.get(last["links"]["self"]).json()["job_id"] == job["job_id"]
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(set(ids)) == 3


def test_a_changed_body_does_not_verify(daemon, receiver):
    made = subscribe(daemon, receiver.url)
    daemon.client.post(f"/webhooks/{made['webhook_id']}/test")
    (request,) = eventually(lambda: receiver.requests)
    verified(request, made["secret"])
    request.raw = request.raw.replace(b"webhook.test", b"webhook.fake")
    with pytest.raises(Exception, match="No matching signature"):
        verified(request, made["secret"])


def test_after_a_rotation_the_old_and_the_new_secret_verify(daemon, receiver):
    made = subscribe(daemon, receiver.url)
    path = f"/webhooks/{made['webhook_id']}"
    new = daemon.client.post(f"{path}/rotate").json()["secret"]
    daemon.client.post(f"{path}/test")
    (request,) = eventually(lambda: receiver.requests)
    assert new != made["secret"]
    assert verified(request, made["secret"]) == verified(request, new)


def test_a_jobs_own_receiver_is_told_and_can_be_looked_up(daemon, receiver):
    job = daemon.submit(webhook_url=address(receiver))
    assert job["warnings"] == []
    daemon.submit()
    eventually(lambda: "job.completed" in types(receiver))
    view = daemon.job(job["job_id"])
    hook = daemon.client.get(f"/webhooks/{view['webhook_id']}").json()
    assert hook["job_id"] == job["job_id"]
    assert hook["url"] == view["config"]["webhook_url"] == "http://127.0.0.1/***"
    assert {request.body["data"]["job"]["number"] for request in receiver.requests} == {1}
    eventually(lambda: len(deliveries(daemon, view["webhook_id"], state="delivered")) == 3)
    secret = daemon.client.post(f"/webhooks/{view['webhook_id']}/rotate").json()["secret"]
    daemon.client.post(f"/webhooks/{view['webhook_id']}/test")
    eventually(lambda: "webhook.test" in types(receiver))
    verified(receiver.requests[-1], secret)
    assert daemon.client.get("/webhooks").json() == {"webhooks": []}


def test_a_receiver_that_hangs_holds_up_no_job_and_no_other_receiver(daemon, receiver):
    done = threading.Event()

    def hang(_: Request) -> Reply:
        done.wait(60)
        return Reply(broken=True)

    with scripted(hang) as slow:
        subscribe(daemon, slow.url)
        subscribe(daemon, receiver.url, events=["job.completed"])
        jobs = [daemon.submit()["job_id"] for _ in range(10)]
        for job in jobs:
            daemon.wait_for(job)
        eventually(lambda: len(receiver.requests) == 10)
        assert len(slow.requests) <= 4
        before = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - before < 10, "it does not wait for the hanging receiver"
        done.set()


def test_what_a_killed_daemon_was_telling_is_told_by_the_next_one(daemon, receiver):
    done = threading.Event()

    def hang(_: Request) -> Reply:
        done.wait(60)
        return Reply(broken=True)

    receiver.script = hang
    made = subscribe(daemon, receiver.url, events=["job.completed"])
    daemon.submit()
    (cut,) = eventually(lambda: receiver.requests)
    daemon.kill()
    receiver.script = lambda _: Reply()
    done.set()
    daemon.start()
    eventually(lambda: deliveries(daemon, made["webhook_id"], state="delivered"))
    again = receiver.requests[-1]
    assert again.raw == cut.raw
    assert again.headers["webhook-id"] == cut.headers["webhook-id"]


def test_a_failed_delivery_says_why_and_is_replayed(daemon, receiver):
    receiver.script = lambda _: Reply(status=302, headers={"Location": "http://127.0.0.1:1/"})
    made = subscribe(daemon, receiver.url, events=["job.failed"])
    path = f"/webhooks/{made['webhook_id']}"
    sent = daemon.client.post(f"{path}/test").json()
    number = sent["delivery"]

    def tried() -> dict[str, Any] | None:
        found = daemon.client.get(f"{path}/deliveries/{number}").json()
        return dict(found) if found["tries"] else None

    found = eventually(tried)
    assert (found["state"], found["last_status"]) == ("pending", 302)
    assert found["next_at"] > found["created_at"]
    assert json.loads(found["body"])["type"] == "webhook.test"
    receiver.script = lambda _: Reply(status=410)
    eventually(lambda: deliveries(daemon, made["webhook_id"], state="dropped"), 30)
    assert "410" in daemon.client.get(path).json()["disabled_reason"]
    assert daemon.client.post(f"{path}/deliveries/{number}/replay").status_code == 409
    receiver.script = lambda _: Reply()
    assert daemon.client.post(f"{path}/enable").json()["disabled_at"] is None
    assert daemon.client.post(f"{path}/deliveries/{number}/replay").json()["tries"] == 0
    eventually(lambda: deliveries(daemon, made["webhook_id"], state="delivered"))
    assert daemon.client.post(f"{path}/replay", json={}).json()["replayed"] == 0


def test_deliveries_come_in_pages(daemon, receiver):
    made = subscribe(daemon, receiver.url)
    path = f"/webhooks/{made['webhook_id']}"
    sent = [daemon.client.post(f"{path}/test").json()["delivery"] for _ in range(5)]
    seen: list[int] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = daemon.client.get(f"{path}/deliveries", params=params).json()
        seen += [one["delivery"] for one in page["deliveries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sent[::-1]
    job_cursor = "am9iOjE"
    response = daemon.client.get(f"{path}/deliveries", params={"cursor": job_cursor})
    assert response.status_code == 422, "a cursor of the list of jobs is none of this list"


def test_a_slack_receiver_gets_a_slack_message(daemon, receiver):
    receiver.script = lambda _: Reply(b"ok")
    made = subscribe(daemon, f"slack+{receiver.url}", events=["job.completed"])
    assert (made["format"], made["secret"]) == ("slack", None)
    daemon.submit(lora_name="<!channel> & <b>")
    (request,) = eventually(lambda: receiver.requests)
    assert "webhook-signature" not in request.headers
    assert "<!channel>" not in request.raw.decode()
    assert request.body["text"]


def test_no_secret_is_ever_shown_stored_or_logged(daemon, receiver, tmp_path):
    made = subscribe(daemon, address(receiver), description="shown")
    secret = made["secret"].removeprefix("whsec_")
    path = f"/webhooks/{made['webhook_id']}"
    rotated = daemon.client.post(f"{path}/rotate").json()["secret"].removeprefix("whsec_")
    job = daemon.submit(webhook_url=address(receiver))
    eventually(lambda: types(receiver).count("job.completed") == 2)
    daemon.client.post("/train", json={"webhook_url": f"ftp://{CANARY}"})
    daemon.client.post("/webhooks", json={"url": f"http://10.0.0.1/{CANARY}"})
    own = daemon.job(job["job_id"])["webhook_id"]
    shown = [
        daemon.client.get(where).text
        for where in (
            "/train", f"/train/{job['job_id']}", f"/train/{job['job_id']}/logs", "/queue", "/",
            "/webhooks", path, f"{path}/deliveries", f"{path}/deliveries/1", "/readyz",
            f"/webhooks/{own}", f"/webhooks/{own}/deliveries",
        )
    ]  # fmt: skip
    assert daemon.stop() == 0
    stored = [
        file.read_bytes().decode("latin-1")
        for file in [*daemon.state.rglob("*"), tmp_path / "daemon.log"]
        if file.is_file() and file.parent.name != "secrets"
    ]
    kept = "".join(file.read_text() for file in (daemon.state / "secrets").iterdir())
    for canary in (f"{CANARY}-path", f"{CANARY}-query", secret, rotated):
        assert canary in kept
        assert all(canary not in text for text in (*shown, *stored))
    for request in receiver.requests:
        assert CANARY.encode() not in request.raw


def test_addresses_inside_are_refused_by_name(shared_daemon):
    for url in (
        "http://10.0.0.1/x", "https://127.0.0.1/", "https://localhost/", "file:///etc/passwd",
        "https://user:pw@example.com/", "https://example.com:22/", "x", "https://[::1]/",
    ):  # fmt: skip
        response = shared_daemon.client.post("/webhooks", json={"url": url})
        assert response.status_code == 422, url
        assert [error["field"] for error in response.json()["errors"]] == ["url"]
    assert shared_daemon.client.get("/webhooks").json() == {"webhooks": []}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webhooks/wh_0", 404),
        ("DELETE", "/webhooks/wh_0", 404),
        ("POST", "/webhooks/wh_0/rotate", 404),
        ("POST", "/webhooks/wh_0/enable", 404),
        ("POST", "/webhooks/wh_0/test", 404),
        ("GET", "/webhooks/wh_0/deliveries", 404),
        ("GET", "/webhooks/wh_0/deliveries/1", 404),
        ("POST", "/webhooks/wh_0/deliveries/1/replay", 404),
        ("GET", "/webhooks/wh_0/deliveries/0", 422),
        ("GET", f"/webhooks/wh_0/deliveries/{2**63}", 422),
        ("GET", "/webhooks/%00%ff", 404),
        ("GET", "/webhooks/..%2f..%2fetc", 404),
        ("GET", f"/webhooks/{'w' * 65}", 422),
    ],
)
def test_what_is_not_there_is_a_problem(shared_daemon, method, path, status):
    response = shared_daemon.client.request(method, path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_events_are_chosen_from_those_that_are_told(shared_daemon):
    assert set(get_args(EventName)) == {kind.value for kind in NOTIFIED}
    body = {"url": "https://example.com/x", "events": ["job.exploded"]}
    response = shared_daemon.client.post("/webhooks", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "events.0"


def test_a_tracker_that_is_not_served_is_a_warning_to_who_asked_for_it(tmp_path):
    served = environment(TRAINING_CLUSTER_TRACKING__BACKENDS="mlflow")
    with running_daemon(tmp_path / "state", served) as daemon:
        both = daemon.submit(tracking_backend=["mlflow", "wandb"], tracking={"project": "p"})
        (warning,) = both["warnings"]
        assert "'wandb' is not served" in warning
        config = daemon.job(both["job_id"])["config"]
        assert config["tracking_backend"] == ["mlflow", "wandb"]
        assert config["tracking"] == {"project": "p"}
        assert daemon.submit()["warnings"] == []
        assert daemon.submit(tracking_backend="none")["warnings"] == []
