"""Datasets from where they lie: a path, a hub, rows. The hub is a stand-in over real HTTP."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.acceptance.test_datasets import LINES, ROWS, checked
from tests.daemon_process import DaemonProcess, running_daemon
from tests.hub_stand_in import HubStandIn

SECRET = "hf_canary0123456789abcdefghij"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStandIn]:
    hub = HubStandIn()
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, hub: HubStandIn, root: Path
) -> Iterator[DaemonProcess]:
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_DATASETS__HUB_URL": hub.url,
        "TRAINING_CLUSTER_DATASET_ROOTS": str(root),
    }
    with running_daemon(tmp_path_factory.mktemp("sources") / "state", environment) as daemon:
        yield daemon


def take(daemon: DaemonProcess, **said: object) -> dict:
    answer = daemon.client.post("/datasets/import", json=said)
    assert answer.status_code == 201, answer.text
    assert SECRET not in answer.text
    return checked(daemon, answer.json()["dataset_id"])


def shard(*rows: dict) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows)), stream)
    return stream.getvalue()


def test_a_file_below_a_dataset_root_is_copied_and_may_change_afterwards(daemon, root):
    (root / "faq.jsonl").write_bytes(LINES)
    found = take(daemon, path=str(root / "faq.jsonl"), validation_fraction=0.25)
    assert (found["status"], found["origin"], found["rows"]) == ("ready", "path", 15)
    (root / "faq.jsonl").write_bytes(b"changed")
    assert daemon.client.get("/datasets/faq/content").content == LINES


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "faq.jsonl", "{root}/../x", "{root}/link", "{root}", "{root}/none\0"]
)
def test_no_path_leads_out_of_the_dataset_roots(daemon, root, path):
    link = root / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/passwd")
    answer = daemon.client.post("/datasets/import", json={"path": path.format(root=root)})
    assert answer.status_code == 422


def test_rows_inside_a_request_become_a_dataset(daemon):
    found = take(daemon, name="tiny", rows=ROWS)
    assert (found["status"], found["origin"], found["rows"]) == ("ready", "rows", len(ROWS))


def test_one_file_of_a_hub_is_kept_as_it_is(daemon, hub):
    hub.files["lab/one"] = {"README.md": b"# one", "data/train.jsonl": LINES, "test.jsonl": b"{}"}
    found = take(daemon, hub={"dataset": "lab/one"})
    assert (found["status"], found["rows"], found["source"]) == ("ready", len(ROWS), "lab/one")
    assert daemon.client.get(f"/datasets/{found['key']}/content").content == LINES


def test_the_shards_of_a_split_become_one_file(daemon, hub):
    hub.files["lab/shards"] = {
        "data/train-00000-of-00002.parquet": shard(*ROWS[:5]),
        "data/train-00001-of-00002.parquet": shard(*ROWS[5:9]),
        "data/test-00000-of-00001.parquet": shard(*ROWS[9:]),
    }
    found = take(daemon, hub={"dataset": "lab/shards"})
    assert (found["status"], found["rows"]) == ("ready", 9), found["error"]
    rows = daemon.client.get(f"/datasets/{found['key']}/preview", params={"rows": 50}).json()[
        "rows"
    ]
    assert rows == ROWS[:9]


def test_a_hub_that_stumbles_is_asked_again(daemon, hub):
    hub.files["lab/later"] = {"train.jsonl": LINES}
    hub.failures = 1
    assert take(daemon, hub={"dataset": "lab/later"})["status"] == "ready"
    assert hub.failures == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dataset": "lab/none"}, "is not there"),
        ({"dataset": "lab/private"}, "give private_hf_token"),
        ({"dataset": "lab/odd", "split": "dev"}, "has no files of the split 'dev'"),
        ({"dataset": "lab/odd", "file": "x.jsonl"}, "has no file 'x.jsonl'"),
    ],
)
def test_what_the_hub_has_not_is_said(daemon, hub, asked, said):
    hub.files["lab/private"] = {"train.jsonl": LINES}
    hub.private["lab/private"] = SECRET
    hub.files["lab/odd"] = {"train.jsonl": LINES, "test.jsonl": LINES}
    found = take(daemon, hub=asked)
    assert found["status"] == "invalid"
    assert said in found["error"]


def test_a_token_opens_a_private_dataset_and_is_seen_nowhere(daemon, hub):
    hub.files["lab/private"] = {"train.jsonl": LINES}
    hub.private["lab/private"] = SECRET
    found = take(daemon, hub={"dataset": "lab/private"}, private_hf_token=SECRET)
    assert found["status"] == "ready", found["error"]
    assert not any(SECRET in said for said in hub.shown_to_store), "nor by the store of its files"
    assert SECRET not in json.dumps(daemon.client.get("/datasets").json())
    assert SECRET not in daemon.log
    with closing(sqlite3.connect(daemon.state / "queue.db")) as connection:
        assert SECRET not in "\n".join(connection.iterdump())
    left = [path for path in daemon.state.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in left)


def test_a_token_in_a_request_that_is_refused_is_not_told_back(daemon):
    body = {"private_hf_token": SECRET, "path": "/x"}
    answer = daemon.client.post("/datasets/import", json=body)
    assert answer.status_code == 422
    assert SECRET not in answer.text


def test_a_hub_that_is_not_there_fails_the_dataset_and_not_the_daemon(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_DATASETS__HUB_URL": f"http://127.0.0.1:{port}",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        found = take(daemon, hub={"dataset": "lab/one"})
        assert found["status"] == "invalid"
        assert "cannot be reached" in found["error"]
