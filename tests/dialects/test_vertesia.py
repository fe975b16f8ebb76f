"""Vertesia's training API, walked as its document describes it: every request is taken, every field
is there with its type, every status is true at its time, and who may not is told so."""

from __future__ import annotations

import re
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from training_cluster.api.dialects.vertesia.from_job import moment

TRAINING = "/api/v1/training"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MODEL = "Qwen/Qwen2.5-1.5B-Instruct"

ENVIRONMENT = {"id": str, "name": str, "provider": str}
SESSION_REF = {
    "id": str,
    "project": str,
    "name": str,
    "env": ENVIRONMENT,
    "model": str,
    "status": str,
    "dataset": (str, type(None)),
    "job": dict,
    "created_by": str,
    "updated_by": str,
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
SESSION = {**SESSION_REF, "runs": list}
JOB = {"id": str, "status": str, "created_at": MOMENT, "updated_at": MOMENT}
RUN = {
    "id": str,
    "interaction": {"id": str, "name": str, "description": str, "status": str, "version": int},
    "environment": ENVIRONMENT,
    "modelId": str,
    "ttl": (int, float),
    "status": str,
    "token_use": {"prompt": int, "completion": int},
    "execution_time": (int, float),
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "account": {"id": str, "name": str},
    "project": {"id": str, "name": str},
    "config": dict,
    "source": {
        "type": str,
        "label": str,
        "principal_type": str,
        "principal_id": str,
        "client_ip": str,
    },
    "created_by": str,
    "updated_by": str,
}


def matches(value: Any, fields: Any, where: str = "") -> None:
    """Every documented field is there with its type."""
    if isinstance(fields, dict):
        assert isinstance(value, dict), where
        for name, kind in fields.items():
            assert name in value, f"{where}.{name} is missing"
            matches(value[name], kind, f"{where}.{name}")
    elif isinstance(fields, re.Pattern):
        assert fields.fullmatch(value), (where, value)
    else:
        assert isinstance(value, fields), (where, value)


class Caller:
    """Somebody who asks a daemon, with a token or as a user of this machine."""

    def __init__(self, daemon: DaemonProcess, name: str | None = None) -> None:
        self.client = daemon.client
        self.headers: dict[str, str] = {}
        if name is not None:
            body = {"user": name, "role": "submitter"}
            token = daemon.client.post("/tokens", json=body).json()["token"]
            self.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, status: int = 200, **words: Any) -> Any:
        response = self.client.request(method, path, headers=self.headers, **words)
        assert response.status_code == status, response.text
        return response.json()

    def get(self, path: str, status: int = 200, /, **query: Any) -> Any:
        return self.ask("GET", path, status, params=query)

    def post(self, path: str, status: int = 200, /, **body: Any) -> Any:
        return self.ask("POST", path, status, **({"json": body} if body else {}))

    def session(self, name: str = "answers", runs: int = 2) -> str:
        """A session with recorded runs."""
        made = self.post(TRAINING, name=name, env="local", model=MODEL)["id"]
        if runs:
            self.post(f"{TRAINING}/{made}/add", runs=self.recorded(runs))
        return str(made)

    def recorded(self, count: int) -> list[str]:
        many = [
            {
                "interaction": "Classify",
                "messages": [{"role": "user", "content": f"Is mail {n} spam?"}],
                "output": "no",
            }
            for n in range(count)
        ]
        return [run["id"] for run in self.ask("POST", "/api/v1/runs", json=many)]

    def prepared(self, name: str = "answers") -> str:
        """A session that can be started."""
        made = self.session(name)
        self.post(f"{TRAINING}/{made}/build")
        self.until(made, "prepared")
        return made

    def status(self, session: str) -> str:
        return str(self.get(f"{TRAINING}/{session}")["status"])

    def until(self, session: str, wanted: str) -> None:
        eventually(lambda: self.status(session) == wanted, 60)


def refused(answer: Any, status: int, *words: str) -> None:
    """An error in Vertesia's form that says these words."""
    assert set(answer) == {"error", "status", "message"}
    assert answer["status"] == status
    assert all(word in answer["message"] for word in words), answer


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vertesia")
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(folder / "state", environment) as started:
        yield started


@pytest.fixture(scope="module")
def alice(daemon):
    return Caller(daemon, "alice")


@pytest.fixture(scope="module")
def bob(daemon):
    return Caller(daemon, "bob")


@pytest.fixture
def held(held_daemon):
    return Caller(held_daemon)


def test_a_session_is_walked_as_documented(alice):
    made = alice.post(TRAINING, name="My Training Session", env="local", model=MODEL)
    matches(made, SESSION)
    assert (made["status"], made["runs"], made["dataset"], made["job"]) == ("created", [], None, {})
    assert (made["created_by"], made["updated_by"]) == ("user:alice", "user:alice")
    path = f"{TRAINING}/{made['id']}"

    run_ids = alice.recorded(3)
    assert alice.post(f"{path}/add", runs=run_ids) == {"ok": True}
    assert alice.get(path)["runs"] == run_ids
    listed = alice.get(f"{path}/runs", limit=10, offset=0)
    for run in listed:
        matches(run, RUN | {"modelId": (str, type(None))})
    assert [run["id"] for run in listed] == run_ids
    assert [run["id"] for run in alice.get(f"{path}/runs", limit=1, offset=1)] == run_ids[1:2]

    built = alice.post(f"{path}/build")
    matches(built, {"dataset": str})
    assert alice.status(made["id"]) in ("building", "prepared")
    address = alice.get(f"{path}/url")["url"]
    assert address.startswith(str(alice.client.base_url))
    lines = alice.client.get(address).text.splitlines()
    assert lines[0] == (
        '{"messages": [{"role": "user", "content": "Is mail 0 spam?"}, '
        '{"role": "assistant", "content": "no"}]}'
    )
    assert len(lines) == 3

    assert "/content?" in alice.post(f"{path}/dataset", dataset="default")["dataset"]
    alice.until(made["id"], "prepared")
    job = alice.post(f"{path}/start")
    matches(job, JOB)
    assert job["status"] in ("pending", "running")
    ended = alice.get(f"{TRAINING}/job/{job['id']}", sync="true")
    matches(ended, JOB)
    assert ended["status"] == "completed"
    assert alice.get(f"{TRAINING}/job/{job['id']}") == ended
    found = alice.get(path)
    matches(found, SESSION | {"job": JOB, "dataset": str})
    assert (found["status"], found["job"]["id"]) == ("completed", job["id"])
    assert alice.get(f"/train/{job['id']}")["config"]["dataset_version"] == found["dataset"]


def test_a_run_is_shown_with_all_that_was_recorded(alice):
    made = alice.post(
        "/api/v1/runs",
        interaction="Classify",
        messages=[{"role": "user", "content": "Is this spam?"}],
        result=[{"type": "json", "value": {"spam": False}}],
        modelId=MODEL,
        environment="local",
        config={"temperature": 0.1},
        tags=["gold"],
        token_use={"prompt": 10, "completion": 20},
        execution_time=0.5,
        ttl=3600,
        stream=False,
    )
    matches(made, RUN)
    assert made["token_use"] == {"prompt": 10, "completion": 20}
    assert (made["execution_time"], made["ttl"], made["status"]) == (0.5, 3600, "completed")
    assert made["source"]["principal_id"] == "alice"
    assert made["result"] == [{"type": "json", "value": {"spam": False}}]
    assert "stream" in made["warnings"][0]
    assert alice.get(f"/api/v1/runs/{made['id']}") == made
    assert [run["id"] for run in alice.get("/api/v1/runs", tag="gold")] == [made["id"]]


def test_runs_are_filtered_by_one_value_or_by_several(alice):
    """As the client for Node sends them: the same key several times."""
    asked = [{"role": "user", "content": "?"}]
    many = [
        {
            "messages": asked,
            "output": "!",
            "interaction": name,
            "model": f"a/{name}",
            "tags": [name],
        }
        for name in ("first", "second", "third")
    ]
    made = [run["id"] for run in alice.ask("POST", "/api/v1/runs", json=many)]
    failed = alice.post("/api/v1/runs", messages=asked, status="failed", interaction="first")["id"]

    def found(**filters):
        return [run["id"] for run in alice.get("/api/v1/runs", **filters)]

    assert found(interaction="first") == [failed, made[0]]
    assert found(interaction=["first", "third"], status="completed") == [made[2], made[0]]
    assert found(tag=["second", "third"]) == [made[2], made[1]]
    assert found(model=["a/first", "a/second"]) == [made[1], made[0]]
    both = ["completed", "failed"]
    assert found(interaction="first", status=both, environment="local") == [failed, made[0]]
    assert found(interaction="first", limit=1, offset=1) == [made[0]]
    refused(alice.get("/api/v1/runs", 422, status="dreaming"), 422, "status")


def test_lists_are_bare_arrays_by_limit_offset_and_status(alice):
    sessions = [alice.session(f"listed {n}", runs=0) for n in range(3)]
    listed = alice.get(TRAINING, limit=2, offset=0, status="created")
    for each in listed:
        matches(each, SESSION_REF)
        assert "runs" not in each
    assert [each["id"] for each in listed] == [sessions[2], sessions[1]]
    assert alice.get(TRAINING, limit=1, offset=2)[0]["id"] == sessions[0]
    names = alice.get(f"{TRAINING}/names", limit=2, status="created")
    assert names == [{"id": each["id"], "name": each["name"]} for each in listed]
    built = alice.prepared("one of its own")
    assert [each["id"] for each in alice.get(TRAINING, status="prepared")] == [built]
    refused(alice.get(TRAINING, 422, status="sleeping"), 422, "status")


def test_an_environment_of_another_server_means_this_machine_and_is_told(alice, daemon):
    made = alice.post(TRAINING, name="moved here", env="65f0c2d19b", model=MODEL)
    assert made["env"]["id"] == "local"
    assert "65f0c2d19b" in made["warnings"][0]
    alice.post(f"{TRAINING}/{made['id']}/add", runs=alice.recorded(1))
    alice.post(f"{TRAINING}/{made['id']}/build")
    job = alice.post(f"{TRAINING}/{made['id']}/start")
    assert "65f0c2d19b" in str(daemon.job(job["id"])["warnings"])
    run = alice.post("/api/v1/runs", prompt="?", output="!", environment="65f0c2d19b")
    assert run["environment"] == made["env"]
    assert "65f0c2d19b" in run["warnings"][0]
    assert alice.get("/api/v1/environments") == [made["env"]]
    assert alice.get("/api/v1/environments/local") == made["env"]
    refused(alice.get("/api/v1/environments/65f0c2d19b", 404), 404, "65f0c2d19b")


def test_only_runs_that_completed_are_built(alice):
    session = alice.session()
    asked = [{"role": "user", "content": "?"}]
    broken = alice.post("/api/v1/runs", messages=asked, status="failed")["id"]
    alice.post(f"{TRAINING}/{session}/add", runs=[broken])
    built = alice.post(f"{TRAINING}/{session}/build")
    assert built["skipped"] == 1
    dataset = alice.get(f"/datasets/{built['name']}", wait=60)
    assert (dataset["rows"], dataset["format"], dataset["origin"]) == (2, "openai", "rows")
    empty = alice.session(runs=0)
    refused(alice.post(f"{TRAINING}/{empty}/build", 409), 409, "no run", "/add")


def test_a_session_of_many_runs_is_built_whole_and_in_order(alice):
    session = alice.session("many", runs=600)
    name = alice.post(f"{TRAINING}/{session}/build")["name"]
    assert alice.get(f"/datasets/{name}", wait=60)["rows"] == 600
    lines = alice.client.get(alice.get(f"{TRAINING}/{session}/url")["url"]).text.splitlines()
    assert [line.split("mail ")[1].split()[0] for line in lines] == [str(n) for n in range(600)]


def test_a_dataset_is_built_anew_and_never_changed(alice):
    session = alice.session("two builds")
    first = alice.post(f"{TRAINING}/{session}/build")["name"]
    alice.post(f"{TRAINING}/{session}/add", runs=alice.recorded(1))
    second = alice.post(f"{TRAINING}/{session}/build")["name"]
    assert [alice.get(f"/datasets/{name}", wait=60)["rows"] for name in (first, second)] == [2, 3]
    assert alice.get(f"{TRAINING}/{session}")["dataset"] == second


def test_another_dataset_can_be_named(alice):
    other = alice.post(f"{TRAINING}/{alice.session('other')}/build")["name"]
    session = alice.session()
    refused(alice.post(f"{TRAINING}/{session}/dataset", 409, dataset="default"), 409, "build")
    refused(alice.post(f"{TRAINING}/{session}/dataset", 404, dataset="nothing"), 404, "nothing")
    for name in (other, "v1.0"):
        chosen = alice.post(f"{TRAINING}/{session}/dataset", dataset=name)
        assert chosen["name"] == alice.get(f"{TRAINING}/{session}")["dataset"] == name
    alice.until(session, "prepared")
    refused(alice.get(f"{TRAINING}/{session}/url", 409), 409, "folder")


def test_a_session_is_told_when_it_is_not_ready(alice):
    session = alice.session()
    answer = alice.get(f"{TRAINING}/{session}/url", 409)
    refused(answer, 409, "no dataset")
    assert answer["error"] == "The session is in no state for that."
    refused(alice.post(f"{TRAINING}/{session}/start", 409), 409, "no dataset", "/build")
    refused(alice.post(f"{TRAINING}/{session}/cancel", 409), 409, "/start")


def test_bad_requests_name_the_field(alice):
    refused(alice.post(TRAINING, 422, name="x", env="local", model="gpt-4o"), 422, "gpt-4o")
    refused(alice.post(TRAINING, 422, name="x", env="local"), 422, "model")
    refused(alice.post(TRAINING, 422, name="", model=MODEL), 422, "name")
    session = alice.session(runs=0)
    refused(alice.post(f"{TRAINING}/{session}/add", 422, runs=[]), 422, "runs")
    refused(alice.post(f"{TRAINING}/{session}/add", 404, runs=["x"]), 404, "'x'")
    answer = alice.post("/api/v1/runs", 422, interaction="Classify")
    refused(answer, 422, "run: ", "asked")
    assert "RunRequest" not in answer["message"]
    many = [{"messages": [{"role": "oracle", "content": "?"}]}]
    answer = alice.ask("POST", "/api/v1/runs", 422, json=many)
    refused(answer, 422, "runs.0.messages.0.role: ")
    refused(alice.ask("POST", "/api/v1/runs", 422, json=[]), 422, "runs: it is empty")
    refused(alice.get(f"{TRAINING}/nothing", 404), 404, "nothing")
    refused(alice.get(f"{TRAINING}/job/nothing", 404), 404, "nothing")


def test_what_is_in_a_session_is_for_its_owner(alice, bob):
    session, run = alice.prepared("hers"), alice.recorded(1)[0]
    assert bob.get(f"{TRAINING}/{session}")["name"] == "hers"
    for method, what in (
        ("GET", "runs"),
        ("GET", "url"),
        ("POST", "build"),
        ("POST", "start"),
        ("POST", "cancel"),
    ):
        refused(bob.ask(method, f"{TRAINING}/{session}/{what}", 403), 403, "alice", "bob")
    refused(bob.post(f"{TRAINING}/{session}/dataset", 403, dataset="v1.0"), 403, "alice")
    refused(bob.post(f"{TRAINING}/{session}/add", 403, runs=[run]), 403, "alice")
    refused(bob.get(f"/api/v1/runs/{run}", 404), 404, run)
    refused(bob.post(f"{TRAINING}/{bob.session(runs=0)}/add", 404, runs=[run]), 404, run)
    # training on a dataset is for everybody, reading it is not
    dataset = alice.get(f"{TRAINING}/{session}")["dataset"]
    mine = bob.session(runs=0)
    assert bob.post(f"{TRAINING}/{mine}/dataset", dataset=dataset)["dataset"] == dataset
    refused(bob.get(f"{TRAINING}/{mine}/url", 403), 403, "alice")


def test_a_training_is_pending_running_and_cancelled(held, held_daemon, record):
    first, second = held.prepared("first"), held.prepared("second")
    running = held.post(f"{TRAINING}/{first}/start")
    held_daemon.wait_for(running["id"], "running", seconds=60)
    assert held.get(f"{TRAINING}/job/{running['id']}")["status"] == "running"
    waiting = held.post(f"{TRAINING}/{second}/start")
    assert waiting["status"] == "pending"
    assert "number 1 in the queue" in waiting["details"]
    assert held.status(first) == held.status(second) == "processing"
    assert len(held.get(TRAINING, status="processing")) == 2

    # what is under way is left alone
    refused(held.post(f"{TRAINING}/{first}/start", 409), 409, "under way")
    refused(held.post(f"{TRAINING}/{first}/build", 409), 409, "under way")
    refused(held.post(f"{TRAINING}/{first}/dataset", 409, dataset="v1.0"), 409, "under way")

    for session, job in ((second, waiting), (first, running)):
        gone = held.post(f"{TRAINING}/{session}/cancel")
        matches(gone, JOB)
        assert gone["id"] == job["id"]
        held_daemon.wait_for(job["id"], "cancelled", seconds=60)
        assert held.status(session) == "cancelled"
        refused(held.post(f"{TRAINING}/{session}/cancel", 409), 409, "already")

    again = held.post(f"{TRAINING}/{first}/start")
    assert again["id"] != running["id"]
    assert held.status(first) == "processing"
    assert [each["id"] for each in held.get(TRAINING, status="cancelled")] == [second]


def test_a_training_that_is_asked_for_many_times_at_once_is_started_once(held, held_daemon):
    session = held.prepared()
    answers: list[Any] = []

    def start() -> None:
        answers.append(held.client.post(f"{TRAINING}/{session}/start"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["id"] for answer in answers if answer.is_success}) == 1
    assert len(held_daemon.client.get("/train").json()["jobs"]) == 1


def test_a_failed_training_says_why(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/false"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        caller = Caller(daemon)
        session = caller.prepared()
        job = caller.post(f"{TRAINING}/{session}/start")
        ended = caller.get(f"{TRAINING}/job/{job['id']}", sync="true")
        assert ended["status"] == caller.status(session) == "failed"
        assert daemon.job(job["id"])["error"]["code"] in ended["details"]


def test_who_waits_and_hangs_up_leaves_nothing_behind(tmp_path, record):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 600, 0),
        "TRAINING_CLUSTER_LIMITS__STREAMS_PER_USER": "1",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        path = f"{TRAINING}/job/{job}?sync=true"
        with socket.create_connection(("127.0.0.1", daemon.port)) as waiting:
            waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert waiting.recv(9).startswith(b"HTTP/1.1")
            assert _begun(daemon, path) == 429
            assert daemon.client.get(f"{TRAINING}/job/{job}").status_code == 200
        # its place is free again: somebody else waits, and is answered when the job has ended
        found: list[Any] = []
        other = threading.Thread(target=lambda: found.append(_patient(daemon, path)))
        other.start()
        eventually(lambda: found or _begun(daemon, path) == 429, 60)
        (record / "release").touch()
        other.join(60)
        assert found[0]["status"] == "completed"


def _begun(daemon: DaemonProcess, path: str) -> int:
    """The status with which an answer begins; its end is not waited for."""
    with daemon.client.stream("GET", path) as response:
        return int(response.status_code)


def _patient(daemon: DaemonProcess, path: str) -> Any:
    """Ask until one is let wait, then wait."""
    answer = eventually(lambda: _unless_busy(daemon, path), 60)
    return answer.json()


def _unless_busy(daemon: DaemonProcess, path: str) -> Any:
    response = daemon.client.get(path, timeout=60)
    return response if response.status_code == 200 else None


def test_waiting_ends_by_the_setting_and_tells_the_job_as_it_is(tmp_path, record):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 600, 0),
        "TRAINING_CLUSTER_LIMITS__SYNC_SECONDS": "0.2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        daemon.wait_for(job, "running")
        assert Caller(daemon).get(f"{TRAINING}/job/{job}", sync="1")["status"] == "running"


def test_jobs_of_the_native_api_are_trainings_too(daemon, alice):
    job = daemon.submit()["job_id"]
    assert alice.get(f"{TRAINING}/job/{job}", sync="true")["status"] == "completed"


def test_addresses_begin_as_the_client_has_them(alice):
    session = alice.prepared("far away")
    far = {"X-Forwarded-Proto": "https", "Host": "box.example", "X-Forwarded-Host": "box.example"}
    headers = {**alice.headers, **far}
    found = alice.client.get(f"{TRAINING}/{session}/url", headers=headers).json()["url"]
    assert found.startswith("https://box.example/datasets/")
    # the signature is for the path: whoever has the address reads, and that is all
    parts = urlsplit(found)
    place = f"{parts.path}?{parts.query}"
    assert alice.client.get(place, headers=far).status_code == 200
    assert alice.client.delete(place, headers=far).status_code == 401
    other = alice.client.get(f"/train?{parts.query}", headers=far)
    assert other.status_code == 401


LINES = (
    b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 3
)
FAR = {"X-Forwarded-For": "203.0.113.9"}


def sent(caller: Caller, address: str, data: bytes, **headers: str) -> int:
    """PUT to an address as somebody far away who has nothing else."""
    response = caller.client.put(address, content=data, headers={**FAR, **headers})
    return int(response.status_code)


def test_a_dataset_can_be_sent_to_an_address_without_a_token(alice, daemon):
    session = alice.session("sent", runs=0)
    address = alice.get(f"{TRAINING}/{session}/upload-url")["url"]
    assert address.startswith(str(alice.client.base_url))
    assert alice.get(f"{TRAINING}/{session}/upload-url")["url"].split("?")[0] in address
    assert alice.status(session) == "created"
    assert sent(alice, address, LINES) == 201
    alice.until(session, "prepared")
    found = alice.get(f"{TRAINING}/{session}")["dataset"]
    dataset = alice.get(f"/datasets/{found}")
    assert (dataset["user"], dataset["rows"], dataset["origin"]) == ("alice", 3, "upload")
    assert alice.client.get(alice.get(f"{TRAINING}/{session}/url")["url"]).content == LINES
    job = alice.post(f"{TRAINING}/{session}/start")
    assert alice.get(f"{TRAINING}/job/{job['id']}", sync="true")["status"] == "completed"
    # the address has served its turn; another one is for another file
    again = alice.get(f"{TRAINING}/{session}/upload-url")["url"]
    assert again.split("?")[0] != address.split("?")[0]


def test_a_dataset_can_be_sent_in_parts(alice):
    session = alice.session("in parts", runs=0)
    address = alice.get(f"{TRAINING}/{session}/upload-url", resumable="true")["url"]
    total, half = len(LINES), len(LINES) // 2
    begin, end = f"bytes 0-{half - 1}/{total}", f"bytes {half}-{total - 1}/{total}"
    assert sent(alice, address, LINES[:half], **{"Content-Range": begin}) == 308
    assert alice.status(session) == "created"
    assert sent(alice, address, LINES[half:], **{"Content-Range": end}) == 201
    alice.until(session, "prepared")


def test_an_address_for_sending_opens_nothing_else(alice, bob):
    session = alice.session("closed", runs=0)
    refused(bob.get(f"{TRAINING}/{session}/upload-url", 403), 403, "alice")
    address = alice.get(f"{TRAINING}/{session}/upload-url")["url"]
    place, query = address.split("?")
    for method, where in (
        ("GET", place),
        ("DELETE", place),
        ("PUT", f"{place}0"),
        ("GET", "/train"),
    ):
        response = alice.client.request(method, f"{where}?{query}", headers=FAR)
        assert response.status_code == 401, (method, where)
    assert sent(alice, address.replace("user=alice", "user=bob"), LINES) == 401
    assert alice.get(f"{TRAINING}/{session}")["dataset"] is None


def test_an_address_ends_with_the_token_by_which_it_was_asked_for(daemon):
    carol = Caller(daemon, "carol")
    session = carol.prepared("ending")
    addresses = [carol.get(f"{TRAINING}/{session}/{what}")["url"] for what in ("url", "upload-url")]
    assert carol.client.get(addresses[0], headers=FAR).status_code == 200
    token_id = carol.headers["Authorization"].split("_")[1]
    assert daemon.client.delete(f"/tokens/{token_id}").is_success
    assert carol.client.get(addresses[0], headers=FAR).status_code == 401
    assert sent(carol, addresses[1], LINES) == 401


def test_a_dataset_that_cannot_be_used_fails_the_session_and_says_so(alice):
    session = alice.session("broken", runs=0)
    address = alice.get(f"{TRAINING}/{session}/upload-url")["url"]
    assert sent(alice, address, b"not one row\n{{{") == 201
    alice.until(session, "failed")
    refused(alice.post(f"{TRAINING}/{session}/start", 422), 422, "cannot be used")
    alice.post(f"{TRAINING}/{session}/add", runs=alice.recorded(1))
    alice.post(f"{TRAINING}/{session}/build")
    alice.until(session, "prepared")


def test_a_session_was_changed_when_its_data_came_and_was_checked(alice, daemon):
    session = alice.session("changing")
    path = f"{TRAINING}/{session}"
    before = alice.get(path)["updated_at"]
    name = alice.post(f"{path}/build")["name"]
    alice.until(session, "prepared")
    checked = alice.get(f"/datasets/{name}")["ready_at"]
    assert before < alice.get(path)["updated_at"] == moment(checked)


def test_a_public_dataset_can_be_fetched_by_others_while_it_is_public(alice, bob):
    dataset = alice.get(f"{TRAINING}/{alice.prepared('for all')}")["dataset"]
    session = bob.session(runs=0)
    bob.post(f"{TRAINING}/{session}/dataset", dataset=dataset)
    refused(bob.get(f"{TRAINING}/{session}/url", 403), 403, "alice")
    alice.ask("PATCH", f"/datasets/{dataset}", json={"is_public": True})
    assert "/content?" in bob.post(f"{TRAINING}/{session}/dataset", dataset=dataset)["dataset"]
    address = bob.get(f"{TRAINING}/{session}/url")["url"]
    assert bob.client.get(address, headers=FAR).status_code == 200
    alice.ask("PATCH", f"/datasets/{dataset}", json={"is_public": False})
    assert bob.client.get(address, headers=FAR).status_code == 403


def test_what_may_be_left_out_may_be_null(alice):
    made = alice.ask("POST", TRAINING, json={"name": "plain", "env": None, "model": MODEL})
    assert (made["env"]["id"], made["warnings"]) == ("local", [])
    path = f"{TRAINING}/{made['id']}"
    alice.post(f"{path}/add", runs=alice.recorded(1))
    built = alice.post(f"{path}/build")["name"]
    for body in ({"dataset": None}, {"dataset": "default"}):
        assert alice.ask("POST", f"{path}/dataset", json=body)["name"] == built
