"""Datasets over HTTP against a real daemon and its real worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess, eventually
from training_cluster.crash_points import VARIABLE

ROWS = [{"prompt": f"question {number}", "completion": "answer"} for number in range(20)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)

BOTH = {"validation_fraction": "0.1", "validation_dataset": "x"}
HALF = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"text": '


def hand_in(daemon: DaemonProcess, content: bytes = LINES, name: str = "faq.jsonl", **said: str):
    return daemon.client.post("/datasets", files={"file": (name, content)}, data=said)


def checked(daemon: DaemonProcess, key: object) -> dict:
    def look() -> dict | None:
        view = daemon.client.get(f"/datasets/{key}", params={"wait": 10}).json()
        return view if view["status"] != "checking" else None

    return dict(eventually(look, 120))


def files_of(daemon: DaemonProcess) -> set[str]:
    folder = daemon.state / "datasets"
    return {f"{p.parent.name}/{p.name}" for p in folder.glob("*/*")}


def test_a_job_can_train_on_a_file_that_was_handed_in_a_moment_before(quick_daemon):
    made = hand_in(quick_daemon, validation_fraction="0.1")
    assert made.status_code == 201, made.text
    job = quick_daemon.submit(dataset_version="faq")
    assert quick_daemon.wait_for(job["job_id"], "completed", seconds=120)
    found = checked(quick_daemon, "faq")
    assert (found["key"], found["rows"], found["validation_rows"]) == ("faq@v1.0", 18, 2)
    folder = quick_daemon.state / "jobs" / job["job_id"] / "attempt-1"
    told = json.loads((folder / "dataset_info.json").read_text())
    assert told["faq_v1.0"]["columns"] == {"prompt": "prompt", "response": "completion"}
    assert len(Path(told["faq_v1.0"]["file_name"]).read_text().splitlines()) == 18
    assert quick_daemon.client.delete("/datasets/faq").status_code == 200, "no model was made"


def test_a_file_comes_back_as_it_was_in_whole_and_in_part(quick_daemon):
    hand_in(quick_daemon)
    found = checked(quick_daemon, "faq")
    whole = quick_daemon.client.get("/datasets/faq/content")
    assert whole.content == LINES
    assert whole.headers["etag"] == f'"{found["sha256"]}"'
    part = quick_daemon.client.get("/datasets/faq/content", headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, LINES[5:10])
    rows = quick_daemon.client.get("/datasets/faq/preview", params={"rows": 2}).json()["rows"]
    assert rows == ROWS[:2]


def test_a_bad_file_says_where_and_a_job_that_waited_for_it_fails_with_that(quick_daemon):
    hand_in(quick_daemon, LINES + b'{"prompt": "unanswered"}\n')
    job = quick_daemon.client.post("/train", json={"dataset_version": "faq"})
    found = checked(quick_daemon, "faq")
    assert found["status"] == "invalid"
    assert found["error"].startswith("line 21, column 'completion': is missing")
    if job.status_code == 422:  # it was checked before the job came
        assert job.json()["code"] == "invalid_dataset"
        return
    view = quick_daemon.wait_for(job.json()["job_id"], "failed", seconds=60)
    assert view["error"]["code"] == "dataset_invalid"
    assert "line 21" in view["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"files": {"data": ("a.jsonl", LINES)}}, "beside `file`"),
        ({"data": {"name": "faq"}, "files": {"x": (None, "y")}}, "has no file"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": {"nmae": "faq"}}, "nmae"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": {"validation_fraction": "2"}}, "fraction"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": {"columns": "{"}}, "columns"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": {"validation_dataset": "x"}}, "dataset"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": {"name": "x" * 70_000}}, "longer"),
        ({"files": {"file": ("a.jsonl", LINES)}, "data": BOTH}, "one of validation_fraction and"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
        (
            {
                "content": HALF,
                "headers": {"content-type": "multipart/form-data; boundary=x"},
            },
            "breaks off",
        ),
        ({"json": {}}, "takes a form"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_and_leaves_nothing(shared_daemon, body, said):
    answer = shared_daemon.client.post("/datasets", **body)
    assert answer.status_code in (404, 422), answer.text
    assert said in answer.text
    assert files_of(shared_daemon) == set()
    assert shared_daemon.client.get("/datasets").json()["datasets"] == []


@pytest.mark.parametrize(
    "point",
    [
        "dataset.published",
        # the storm of kills meets these, too
        pytest.param("dataset.received", marks=pytest.mark.slow),
        pytest.param("dataset.deleted", marks=pytest.mark.slow),
    ],
)
def test_a_daemon_that_dies_leaves_no_half_version(tmp_path, point):
    daemon = DaemonProcess(
        tmp_path / "state", {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true", VARIABLE: point}
    )
    try:
        daemon.start()
        try:
            hand_in(daemon)
            checked(daemon, "faq")
            daemon.client.delete("/datasets/faq")
        except Exception:  # it has died, and some call has told us so
            pass
        assert daemon.process.wait(60) == -9
        daemon.environment[VARIABLE] = ""
        daemon.start()
        listed = daemon.client.get("/datasets").json()["datasets"]
        if point == "dataset.published":
            found = checked(daemon, "faq")
            assert found["status"] == "ready"
            eventually(lambda: files_of(daemon) == {f"files/{found['sha256']}.jsonl"}, 30)
        else:
            assert listed == []
            assert files_of(daemon) == set()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        daemon.client.close()
