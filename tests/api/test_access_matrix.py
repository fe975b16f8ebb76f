"""Who may do what: every route of the API, asked by every role, for one's own things and for those
of others, at every listener.

`NEEDS` names for each route which role it takes and whose things it touches. A route of OpenAPI
without a row fails, and so does a row without a route: whoever adds a route says here who may use
it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, running_daemon, trainer
from tests.model_parts import put_model
from tests.trust import Promise


class Whose(Enum):
    """What a route does with the things of others."""

    ALL = "nothing of it belongs to anybody, or everybody may see it"
    OWN = "403 for who is neither the owner nor an admin"
    HIDDEN = "404: the things of others do not exist"


@dataclass(frozen=True)
class Needs:
    """The least role; None for who need not be known. `body` is what is sent."""

    role: str | None
    whose: Whose = Whose.ALL
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    form: bool = False  # a form with a file is sent
    ends: bool = False  # what it touches is gone afterwards
    shown: bool = False  # the token is in the body: who one is without it does not matter


HOLD = {"reason": "the matrix"}
TUNE = {"model": "owner/base", "training_file": "v1.0"}
RUN = {"messages": [{"role": "user", "content": "Is this spam?"}], "output": "no"}
SESSION = {"name": "the matrix", "env": "local", "model": "Qwen/Qwen2.5-1.5B-Instruct"}
FILE = {"file": ("matrix.jsonl", b'{"text": "a row"}\n')}
KNOWN = {"dataset_id": "v1.0"}
TUNE_LAMINI = {"model_name": "owner/base", **KNOWN}
UPLOAD = {"bytes": 1, "filename": "x", "mime_type": "x", "purpose": "fine-tune"}
NEEDS: dict[tuple[str, str], Needs] = {
    ("GET", "/healthz"): Needs(None),
    ("GET", "/"): Needs("viewer"),
    ("GET", "/queue"): Needs("viewer"),
    ("GET", "/readyz"): Needs("viewer"),
    ("GET", "/metrics"): Needs("viewer"),
    ("GET", "/train"): Needs("viewer"),
    ("POST", "/train"): Needs("submitter", body={}),
    ("GET", "/train/{job_id}"): Needs("viewer"),
    ("DELETE", "/train/{job_id}"): Needs("submitter", Whose.OWN, ends=True),
    ("POST", "/train/{job_id}/pause"): Needs("submitter", Whose.OWN),
    ("POST", "/train/{job_id}/resume"): Needs("submitter", Whose.OWN, body={}),
    ("POST", "/train/{job_id}/retry"): Needs("submitter", Whose.OWN, body={}),
    ("GET", "/train/{job_id}/logs"): Needs("viewer", Whose.OWN),
    ("GET", "/train/{job_id}/logs/stream"): Needs("viewer", Whose.OWN),
    ("GET", "/train/{job_id}/evaluation"): Needs("viewer", Whose.OWN),
    ("GET", "/train/{job_id}/metrics"): Needs("viewer"),
    ("GET", "/train/{job_id}/metrics/stream"): Needs("viewer"),
    ("GET", "/events"): Needs("viewer"),
    ("GET", "/events/stream"): Needs("viewer"),
    ("GET", "/devices"): Needs("viewer"),
    ("PUT", "/devices/{device}/hold"): Needs("submitter", Whose.OWN, body=HOLD),
    ("DELETE", "/devices/{device}/hold"): Needs("submitter", Whose.OWN, ends=True),
    ("POST", "/devices/{device}/quarantine"): Needs("admin", body=HOLD),
    ("DELETE", "/devices/{device}/quarantine"): Needs("admin"),
    ("PUT", "/devices/{device}/tolerance"): Needs("admin", body={**HOLD, "memory_mib": 64}),
    ("DELETE", "/devices/{device}/tolerance"): Needs("admin"),
    ("POST", "/webhooks"): Needs("submitter", body={"url": "https://127.0.0.1/x"}),
    ("GET", "/webhooks"): Needs("submitter"),
    ("GET", "/webhooks/{webhook_id}"): Needs("submitter", Whose.HIDDEN),
    ("DELETE", "/webhooks/{webhook_id}"): Needs("submitter", Whose.HIDDEN, ends=True),
    ("POST", "/webhooks/{webhook_id}/rotate"): Needs("submitter", Whose.HIDDEN),
    ("POST", "/webhooks/{webhook_id}/enable"): Needs("submitter", Whose.HIDDEN),
    ("POST", "/webhooks/{webhook_id}/test"): Needs("submitter", Whose.HIDDEN),
    ("POST", "/webhooks/{webhook_id}/replay"): Needs("submitter", Whose.HIDDEN, body={}),
    ("GET", "/webhooks/{webhook_id}/deliveries"): Needs("submitter", Whose.HIDDEN),
    ("GET", "/webhooks/{webhook_id}/deliveries/{number}"): Needs("submitter", Whose.HIDDEN),
    ("POST", "/webhooks/{webhook_id}/deliveries/{number}/replay"): Needs("submitter", Whose.HIDDEN),
    ("GET", "/base-models"): Needs("viewer"),
    ("POST", "/base-models"): Needs("submitter", body={"name": "owner/model"}),
    ("GET", "/models"): Needs("viewer"),
    ("GET", "/models/{key}"): Needs("viewer"),
    ("PATCH", "/models/{key}"): Needs("submitter", Whose.OWN, body={"is_public": False}),
    ("DELETE", "/models/{key}"): Needs("submitter", Whose.OWN, ends=True),
    ("GET", "/models/{key}/download"): Needs("viewer", Whose.OWN),
    ("GET", "/models/{key}/files/{file}"): Needs("viewer", Whose.OWN),
    ("GET", "/models/{key}/card"): Needs("viewer", Whose.OWN),
    ("POST", "/models/{key}/export"): Needs("submitter", Whose.OWN, body={}),
    ("POST", "/models/{key}/evaluate"): Needs("submitter", Whose.OWN, body={}),
    ("PUT", "/models/{name}/aliases/{alias}"): Needs(
        "submitter", Whose.OWN, body={"version": "v1"}
    ),
    ("DELETE", "/models/{name}/aliases/{alias}"): Needs("submitter", Whose.OWN, ends=True),
    ("POST", "/datasets"): Needs("submitter", form=True),
    ("POST", "/datasets/import"): Needs("submitter", body={"rows": [{"text": "a row"}]}),
    ("GET", "/datasets"): Needs("viewer"),
    ("GET", "/datasets/{key}"): Needs("viewer"),
    ("GET", "/datasets/{key}/preview"): Needs("viewer", Whose.OWN),
    ("GET", "/datasets/{key}/content"): Needs("viewer", Whose.OWN),
    ("PATCH", "/datasets/{key}"): Needs("submitter", Whose.OWN, body={"is_public": False}),
    ("DELETE", "/datasets/{key}"): Needs("submitter", Whose.OWN, ends=True),
    ("POST", "/uploads"): Needs("submitter", body={}),
    ("GET", "/uploads"): Needs("submitter"),
    ("GET", "/uploads/{upload_id}"): Needs("submitter", Whose.HIDDEN),
    ("HEAD", "/uploads/{upload_id}"): Needs("submitter", Whose.HIDDEN),
    ("PUT", "/uploads/{upload_id}"): Needs("submitter", Whose.HIDDEN, ends=True),
    ("DELETE", "/uploads/{upload_id}"): Needs("submitter", Whose.HIDDEN, ends=True),
    ("POST", "/prune"): Needs("admin", body={}),
    ("POST", "/tokens"): Needs("submitter", body={"role": "viewer", "expires_in_seconds": 60}),
    ("GET", "/tokens"): Needs("viewer"),
    ("DELETE", "/tokens/{token_id}"): Needs("submitter", Whose.HIDDEN, ends=True),
    ("POST", "/v1/fine_tuning/jobs"): Needs("submitter", body=TUNE),
    ("GET", "/v1/fine_tuning/jobs"): Needs("viewer"),
    ("GET", "/v1/fine_tuning/jobs/{fine_tuning_job_id}"): Needs("viewer"),
    ("GET", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/events"): Needs("viewer"),
    ("GET", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints"): Needs("viewer"),
    ("POST", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/pause"): Needs("submitter", Whose.OWN),
    ("POST", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/resume"): Needs("submitter", Whose.OWN),
    ("POST", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel"): Needs(
        "submitter", Whose.OWN, ends=True
    ),
    ("GET", "/v1/version"): Needs("viewer"),
    ("GET", "/v1/get-upload-base-path"): Needs("viewer"),
    ("POST", "/v1/local-data"): Needs("submitter", body={"data": [{"input": "a"}]}),
    ("POST", "/v1/data"): Needs("submitter", body={}),
    ("PUT", "/v1/data/{dataset_id}"): Needs("submitter", body={"input": "a", "output": "b"}),
    ("POST", "/v1/data/num-datapoints"): Needs("submitter", body={**KNOWN, "num_datapoints": 1}),
    ("POST", "/v1/existing-data"): Needs("viewer", body=KNOWN),
    ("POST", "/v1/train"): Needs("submitter", body=TUNE_LAMINI),
    ("GET", "/v1/train/jobs"): Needs("viewer"),
    ("GET", "/v1/train/jobs/{job_id}"): Needs("viewer"),
    ("POST", "/v1/train/jobs/{job_id}/cancel"): Needs("submitter", Whose.OWN, body={}),
    ("POST", "/v1/train/jobs/{job_id}/resume"): Needs("submitter", Whose.OWN, body={}),
    ("GET", "/tune/{job_id}"): Needs("viewer"),
    ("GET", "/v1/train/jobs/{job_id}/eval"): Needs("submitter", Whose.OWN),
    ("GET", "/v1alpha/downloaded_models"): Needs("viewer"),
    ("POST", "/v1alpha/downloaded_models"): Needs("submitter", body={"hf_model_name": "a/b"}),
    ("POST", "/v1/train/jobs/cancel"): Needs("submitter", body={}),
    ("POST", "/v1/files"): Needs("submitter", form=True),
    ("GET", "/v1/files"): Needs("viewer"),
    ("GET", "/v1/files/{file_id}"): Needs("viewer"),
    ("GET", "/v1/files/{file_id}/content"): Needs("viewer", Whose.OWN),
    ("DELETE", "/v1/files/{file_id}"): Needs("submitter", Whose.OWN, ends=True),
    ("POST", "/v1/uploads"): Needs("submitter", body=UPLOAD),
    ("POST", "/v1/uploads/{upload_id}/parts"): Needs("submitter", Whose.HIDDEN, form=True),
    ("POST", "/v1/uploads/{upload_id}/complete"): Needs(
        "submitter", Whose.HIDDEN, body={"part_ids": []}
    ),
    ("POST", "/v1/uploads/{upload_id}/cancel"): Needs("submitter", Whose.HIDDEN, ends=True),
    ("GET", "/v1/models"): Needs("viewer"),
    ("GET", "/v1/models/{model}"): Needs("viewer"),
    ("DELETE", "/v1/models/{model}"): Needs("submitter", Whose.OWN, ends=True),
    ("GET", "/login"): Needs("viewer"),
    ("POST", "/login"): Needs("viewer", shown=True),
    ("POST", "/logout"): Needs("viewer"),
    ("GET", "/api/v1/environments"): Needs("viewer"),
    ("GET", "/api/v1/environments/{environment_id}"): Needs("viewer"),
    ("POST", "/api/v1/runs"): Needs("submitter", body=RUN),
    ("GET", "/api/v1/runs"): Needs("viewer"),
    ("GET", "/api/v1/runs/{run_id}"): Needs("viewer", Whose.HIDDEN),
    ("POST", "/api/v1/training"): Needs("submitter", body=SESSION),
    ("GET", "/api/v1/training"): Needs("viewer"),
    ("GET", "/api/v1/training/names"): Needs("viewer"),
    ("GET", "/api/v1/training/job/{job_id}"): Needs("viewer"),
    ("GET", "/api/v1/training/{session_id}"): Needs("viewer"),
    ("POST", "/api/v1/training/{session_id}/add"): Needs(
        "submitter", Whose.OWN, body={"runs": ["{run_id}"]}
    ),
    ("GET", "/api/v1/training/{session_id}/runs"): Needs("viewer", Whose.OWN),
    ("POST", "/api/v1/training/{session_id}/build"): Needs("submitter", Whose.OWN),
    ("POST", "/api/v1/training/{session_id}/dataset"): Needs(
        "submitter", Whose.OWN, body={"dataset": "v1.0"}
    ),
    ("GET", "/api/v1/training/{session_id}/url"): Needs("viewer", Whose.OWN),
    ("GET", "/api/v1/training/{session_id}/upload-url"): Needs("submitter", Whose.OWN),
    ("POST", "/api/v1/training/{session_id}/start"): Needs("submitter", Whose.OWN),
    ("POST", "/api/v1/training/{session_id}/cancel"): Needs("submitter", Whose.OWN),
}
# whose the things in a path are, by its beginning: `_train` makes those of /train
THINGS = (
    *("/train", "/tokens", "/webhooks", "/devices", "/models", "/datasets", "/uploads"),
    *("/v1/train", "/v1/data", "/tune"),
    *("/api/v1/training", "/api/v1/runs", "/api/v1/environments"),
    *("/v1/fine_tuning", "/v1/files", "/v1/uploads", "/v1/models"),
)
ROLES = ("none", "viewer", "submitter", "admin")
OWNERS = ("own", "other")
FAR = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def thing(path: str) -> str:
    """The kind of thing a path names, as the method of World that makes one is called."""
    beginnings = [each for each in THINGS if f"{path}/".startswith(f"{each}/")]
    return max(beginnings, key=len, default="").strip("/").replace("/", "_")


class World:
    """A daemon with things of alice, who asks, and of bob; made anew where a route ends them."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.tunnel = daemon.tunnel
        self.tokens = {
            role: self.make("/tokens", user="alice", role=role)["token"] for role in ROLES[1:]
        }
        self.hands = {
            "own": self.tokens["submitter"],
            "other": self.make("/tokens", user="bob", role="submitter")["token"],
        }
        self.device = daemon.client.get("/devices").json()["devices"][0]["uuid"]
        self._kept: dict[tuple[str, str], dict[str, str]] = {}

    def make(self, path: str, by: str | None = None, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {by}"} if by else {}
        response = self.daemon.client.post(path, json=body, headers=headers)
        assert response.is_success, response.text
        return dict(response.json())

    def names(self, path: str, owner: str) -> dict[str, str]:
        """What the parameters of a path stand for, of this owner."""
        kind = thing(path)
        key = (kind, owner)
        if "{" in path and (key not in self._kept or kind == "devices"):
            self._kept[key] = getattr(self, f"_{kind}")(self.hands[owner])
        return self._kept.get(key, {})

    def _train(self, by: str) -> dict[str, str]:
        return {"job_id": self.make("/train", by)["job_id"]}

    _tune = _train

    def _v1_fine_tuning(self, by: str) -> dict[str, str]:
        return {"fine_tuning_job_id": self.make("/v1/fine_tuning/jobs", by, **TUNE)["id"]}

    def _v1_files(self, by: str) -> dict[str, str]:
        return {"file_id": "file-" + self._datasets(by)["key"].replace("-", "")}

    def _v1_uploads(self, by: str) -> dict[str, str]:
        return {"upload_id": self.make("/v1/uploads", by, **UPLOAD)["id"]}

    def _v1_models(self, by: str) -> dict[str, str]:
        return {"model": self._models(by)["key"]}

    def _models(self, by: str) -> dict[str, str]:
        job = self.daemon.job(self.make("/train", by)["job_id"])
        model = put_model(self.daemon.state, job["job_id"], job["user"])
        path = f"/models/{model.name}/aliases/best"
        headers = {"Authorization": f"Bearer {by}"}
        named = self.daemon.client.put(path, json={"version": "v1"}, headers=headers)
        assert named.is_success, named.text
        file = "adapter_config.json"
        return {"key": model.id, "name": model.name, "alias": "best", "file": file}

    def _datasets(self, by: str) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {by}"}
        made = self.daemon.client.post("/datasets", files=FILE, headers=headers)
        assert made.is_success, made.text
        key = made.json()["dataset_id"]
        checked = self.daemon.client.get(f"/datasets/{key}", params={"wait": 60}, timeout=120)
        assert checked.json()["status"] == "ready", checked.text
        return {"key": key}

    def _uploads(self, by: str) -> dict[str, str]:
        return {"upload_id": self.make("/uploads", by)["upload_id"]}

    def _v1_train(self, by: str) -> dict[str, str]:
        return {"job_id": str(self.make("/v1/train", by, **TUNE_LAMINI)["job_id"])}

    def _v1_data(self, by: str) -> dict[str, str]:
        return {"dataset_id": str(self.make("/v1/data", by)["dataset_id"])}

    def _tokens(self, by: str) -> dict[str, str]:
        return {"token_id": self.make("/tokens", by, role="viewer")["token_id"]}

    def _webhooks(self, by: str) -> dict[str, str]:
        hook = self.make("/webhooks", by, url="https://127.0.0.1/x", events=["job.preempted"])
        sent = self.make(f"/webhooks/{hook['webhook_id']}/test", by)
        return {"webhook_id": hook["webhook_id"], "number": str(sent["delivery"])}

    def _api_v1_runs(self, by: str) -> dict[str, str]:
        return {"run_id": self.make("/api/v1/runs", by, **RUN)["id"]}

    def _api_v1_training(self, by: str) -> dict[str, str]:
        session = self.make("/api/v1/training", by, **SESSION)["id"]
        return {"session_id": session, **self._api_v1_runs(by), **self._train(by)}

    def _api_v1_environments(self, by: str) -> dict[str, str]:
        return {"environment_id": "local"}

    def _devices(self, by: str) -> dict[str, str]:
        self.daemon.client.delete(f"/devices/{self.device}/hold")
        headers = {"Authorization": f"Bearer {by}"}
        held = self.daemon.client.put(f"/devices/{self.device}/hold", json=HOLD, headers=headers)
        assert held.is_success
        return {"device": self.device}

    def forget(self, path: str, owner: str) -> None:
        self._kept.pop((thing(path), owner), None)

    def ask(self, method: str, path: str, role: str, owner: str, listener: str) -> int:
        """The status of one request; of a stream only its beginning is read."""
        needs = NEEDS[method, path]
        headers = dict(FAR) if listener == "proxied" else {}
        body = needs.body
        if needs.shown:
            body = {"token": self.tokens.get(role, "")}
        elif role != "none":
            headers["Authorization"] = f"Bearer {self.tokens[role]}"
        base = self.tunnel if listener == "tunnel" else str(self.daemon.client.base_url)
        names = self.names(path, owner)
        url = base.rstrip("/") + path.format(**names)
        if body is not None:
            body = {key: _filled(value, names) for key, value in body.items()}
        files = FILE if needs.form else None
        with self.daemon.client.stream(
            method, url, json=body, files=files, headers=headers
        ) as response:
            self.daemon.client.cookies.clear()
            return int(response.status_code)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """What a body says of the things the path is about."""
    if isinstance(value, list):
        return [_filled(each, names) for each in value]
    return names.get(value.strip("{}"), value) if isinstance(value, str) else value


def expected(needs: Needs, role: str, owner: str, listener: str) -> set[int]:
    """Statuses that are right; empty for anything but 401, 403, 404 and 5xx."""
    if role == "none" and not needs.shown:
        # who runs the tests is this machine's admin, unless something speaks of a proxy
        role = "admin" if listener == "local" else "none"
    if needs.role is None:
        return {200}
    if role == "none":
        return {401}
    if ROLES.index(role) < ROLES.index(needs.role):
        return {403}
    if owner == "other" and role != "admin" and needs.whose is not Whose.ALL:
        return {403} if needs.whose is Whose.OWN else {404}
    return set()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "record").mkdir()
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", folder / "record", 600, 0),
        "TRAINING_CLUSTER_TUNNEL": "127.0.0.1:0",
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield World(daemon)


def routes(daemon: DaemonProcess) -> set[tuple[str, str]]:
    """Every operation of OpenAPI."""
    document = daemon.client.get("/openapi.json").json()
    return {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }


def test_every_route_has_a_row_and_every_row_a_route(world):
    found = routes(world.daemon)
    assert not found - NEEDS.keys(), "say in NEEDS who may use these"
    assert not NEEDS.keys() - found, "there are no such routes any more"


def test_every_route_lets_in_exactly_who_may(world, trust):
    asked, wrong = 0, []
    for (method, path), needs in NEEDS.items():
        for listener in ("local", "proxied", "tunnel"):
            for role in ROLES:
                for owner in OWNERS:
                    status = world.ask(method, path, role, owner, listener)
                    asked += 1
                    right = expected(needs, role, owner, listener)
                    if right and status not in right:
                        wrong.append((method, path, role, owner, listener, status, right))
                    elif not right and (status in (401, 403, 404) or status >= 500):
                        wrong.append((method, path, role, owner, listener, status, "let in"))
                    if not right and needs.ends:
                        world.forget(path, owner)
    assert not wrong, "\n".join(map(str, wrong))
    trust(
        Promise.ACCESS,
        f"{len(NEEDS)} routes x {len(ROLES)} roles x {len(OWNERS)} owners x 3 listeners: "
        f"{asked} requests, 0 wrong answers, 0 routes without a row",
        form="full",
    )


def test_what_was_refused_has_not_happened(world):
    job = world.names("/train/{job_id}", "other")["job_id"]
    hook = world.names("/webhooks/{webhook_id}", "other")["webhook_id"]
    token = world.names("/tokens/{token_id}", "other")["token_id"]
    for role in ROLES[:3]:
        for listener in ("proxied", "tunnel"):
            for path in ("/train/{job_id}", "/webhooks/{webhook_id}", "/tokens/{token_id}"):
                assert world.ask("DELETE", path, role, "other", listener) in (401, 403, 404)
    client = world.daemon.client
    assert client.get(f"/train/{job}").json()["status"] not in ("cancelled", "stopping")
    assert client.get(f"/webhooks/{hook}").status_code == 200
    assert token in {each["token_id"] for each in client.get("/tokens").json()["tokens"]}
