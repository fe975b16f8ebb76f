"""Models over HTTP: a job that completes has left one; people look, name, open and delete it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer

FAR = {"X-Forwarded-For": "203.0.113.9"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """Its trainer leaves a LoRA adapter after one step."""
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("saving", 1, 0, 10)}
    with running_daemon(tmp_path_factory.mktemp("models") / "state", environment) as started:
        yield started


def trained(daemon: DaemonProcess, **fields: object) -> dict:
    """The model of a job that has completed."""
    job = daemon.wait_for(daemon.submit(**fields)["job_id"])
    assert job["status"] == "completed"
    found = [m for m in listed(daemon) if m["job_id"] == job["job_id"]]
    assert len(found) == 1
    return dict(daemon.client.get(f"/models/{found[0]['model_id']}").json())


def listed(daemon: DaemonProcess, **query: object) -> list[dict]:
    response = daemon.client.get("/models", params=query)
    assert response.status_code == 200, response.text
    return list(response.json()["models"])


def token(daemon: DaemonProcess, user: str, role: str = "submitter") -> dict[str, str]:
    made = daemon.client.post("/tokens", json={"user": user, "role": role}).json()
    return {"Authorization": f"Bearer {made['token']}", **FAR}


def test_a_completed_job_has_left_a_model_with_its_lineage(daemon):
    model = trained(daemon, lora_name="lineage", lora_version="2", learning_rate=1e-3)
    assert model["key"] == "lineage@v2"
    assert model["kind"] == "adapter"
    assert model["dataset"]["version"] == "v1.0"
    assert len(model["dataset"]["sha256"]) == 64
    assert model["config"]["learning_rate"] == 1e-3
    assert model["metrics"]["final_loss"] == 4.0
    assert "adapter_model.safetensors" in model["files"]
    assert model["size_bytes"] == sum(
        (Path(model["path"]) / name).stat().st_size for name in model["files"]
    )
    said = daemon.client.get("/events", params={"job": model["job_id"], "limit": 100}).json()
    ended = {event["type"]: event["data"] for event in said["events"]}
    assert ended["model.registered"] == {"model": "lineage@v2"}
    assert ended["job.completed"]["model"] == "lineage@v2"


def test_a_key_may_come_percent_encoded(daemon):
    model = trained(daemon, lora_name="encoded é")
    for key in ("encoded-é@v1", "encoded-%C3%A9%40v1", "encoded-é", str(model["number"])):
        response = daemon.client.get(f"/models/{key}")
        assert response.json()["model_id"] == model["model_id"], key


def test_the_list_pages_and_filters(daemon):
    mine = [trained(daemon, save_name="paged")["key"] for _ in range(3)]
    assert [m["key"] for m in listed(daemon, name="paged")] == mine[::-1]
    first = daemon.client.get("/models", params={"name": "paged", "limit": 2}).json()
    rest = daemon.client.get(
        "/models", params={"name": "paged", "limit": 2, "cursor": first["next_cursor"]}
    ).json()
    assert [m["key"] for m in first["models"] + rest["models"]] == mine[::-1]
    assert rest["next_cursor"] is None
    assert listed(daemon, kind="full") == []
    wrong = daemon.client.get("/models", params={"cursor": "am9iOjE"})
    assert wrong.status_code == 422


def test_an_alias_names_a_version_until_it_is_moved_or_forgotten(daemon):
    for _ in range(2):
        trained(daemon, save_name="named")
    path = "/models/named/aliases/best"
    assert daemon.client.put(path, json={"version": "1"}).json()["aliases"] == ["best"]
    assert daemon.client.get("/models/named@best").json()["version"] == "v1"
    assert daemon.client.put(path, json={"version": "v2"}).status_code == 200
    assert daemon.client.get("/models/named%40best").json()["version"] == "v2"
    assert daemon.client.delete(path).json()["aliases"] == []
    assert daemon.client.get("/models/named@best").status_code == 404
    assert daemon.client.delete(path).status_code == 404


@pytest.mark.parametrize("alias", ["v7", "7", "a b", "-x"])
def test_what_looks_like_a_version_is_no_alias(daemon, alias):
    trained(daemon, save_name="plain")
    refused = daemon.client.put(f"/models/plain/aliases/{alias}", json={"version": "v1"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "alias"


def test_only_its_owner_or_an_admin_changes_a_model(daemon):
    model = trained(daemon, save_name="mine")
    bob, path = token(daemon, "bob"), f"/models/{model['key']}"
    for method, where, body in (
        ("PATCH", path, {"is_public": True}),
        ("PUT", "/models/mine/aliases/best", {"version": "v1"}),
        ("DELETE", path, None),
    ):
        refused = daemon.client.request(method, where, json=body, headers=bob)
        assert refused.status_code == 403, where
    seen = daemon.client.get(path, headers=bob).json()
    assert seen["config"]["tracking"] is None
    assert seen["key"] == "mine@v1"
    opened = daemon.client.patch(path, json={"is_public": True})
    assert opened.json()["is_public"] is True


def test_a_deleted_model_leaves_its_record_and_no_file(daemon):
    model = trained(daemon, save_name="doomed")
    gone = daemon.client.delete("/models/doomed@v1")
    assert gone.status_code == 200
    assert gone.json()["deleted_at"] is not None
    eventually(lambda: not Path(model["path"]).exists())
    assert daemon.client.get("/models/doomed").status_code == 404
    assert daemon.client.get("/models/doomed@v1").json()["deleted_at"] is not None
    again = daemon.client.delete("/models/doomed@v1")
    assert (again.status_code, again.json()["code"]) == (410, "pruned")
    assert "results" in daemon.job(model["job_id"])["pruned"]
    assert model["model_id"] not in [m["model_id"] for m in listed(daemon)]
    assert model["model_id"] in [m["model_id"] for m in listed(daemon, deleted=True)]


def test_a_model_goes_with_its_job_when_results_are_pruned(daemon):
    kept, model = trained(daemon, save_name="kept"), trained(daemon, save_name="pruned")
    body = {"kinds": ["results"], "older_than_days": 0, "dry_run": True}
    assert daemon.client.post("/prune", json=body).json()["things"] >= 2
    daemon.client.delete(f"/models/{kept['key']}")
    report = daemon.client.post("/prune", json={**body, "dry_run": False})
    assert report.status_code == 200
    assert daemon.client.get("/models/pruned@v1").json()["deleted_at"] is not None
    assert not Path(model["path"]).exists()
    assert listed(daemon) == []
