"""Uploads that break, against a real daemon: what has come stays, and the rest follows."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon
from training_cluster.crash_points import VARIABLE

LINES = b"".join(b'{"text": "row %d %s"}\n' % (number, b"x" * 1000) for number in range(80))
LARGE = LINES * 100  # more than is kept in memory before it is written
QUICK = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}


def begin(daemon: DaemonProcess, **said: object) -> str:
    """The address of a new upload."""
    answer = daemon.client.post("/uploads", json={"filename": "rows.jsonl", **said})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


def put(daemon: DaemonProcess, url: str, first: int, data: bytes, total: object = len(LINES)):
    span = f"bytes {first}-{first + len(data) - 1}/{total}"
    return daemon.client.put(url, content=data, headers={"Content-Range": span})


def standing(daemon: DaemonProcess, url: str) -> int:
    return int(daemon.client.head(url).headers["Upload-Offset"])


def finished(daemon: DaemonProcess, made, content: bytes = LINES) -> dict:
    assert made.status_code in (200, 201), made.text
    key = made.json()["dataset_id"]
    view = eventually(
        lambda: (
            found
            if (found := daemon.client.get(f"/datasets/{key}?wait=10").json())["status"]
            != "checking"
            else None
        ),
        120,
    )
    assert daemon.client.get(f"/datasets/{key}/content").content == content
    return dict(view)


def broken_off(daemon: DaemonProcess, url: str, data: bytes) -> socket.socket:
    """A connection on which all of LARGE was announced and a part of it sent and written."""
    parts = urlsplit(url)
    connection = socket.create_connection(("127.0.0.1", daemon.port))
    head = (
        f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(LARGE)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    eventually(lambda: standing(daemon, url) > len(data) // 2, 60)
    return connection


def test_a_file_can_be_sent_in_one_piece(shared_daemon):
    found = finished(shared_daemon, shared_daemon.client.put(begin(shared_daemon), content=LINES))
    assert (found["status"], found["rows"], found["name"]) == ("ready", 80, "rows")


def test_a_file_can_be_sent_in_parts_and_each_answer_says_where_it_stands(shared_daemon):
    url, total = begin(shared_daemon, size=len(LINES)), len(LINES)
    assert standing(shared_daemon, url) == 0
    first = put(shared_daemon, url, 0, LINES[:1000])
    assert (first.status_code, first.headers["Range"]) == (308, "bytes=0-999")
    asked = shared_daemon.client.put(url, headers={"Content-Range": f"bytes */{total}"})
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-999")
    again = put(shared_daemon, url, 500, LINES[500:2000])
    assert again.headers["Range"] == "bytes=0-1999", "what had come was passed over"
    gap = put(shared_daemon, url, 5000, LINES[5000:])
    assert (gap.status_code, gap.json()["code"]) == (409, "wrong_offset")
    last = put(shared_daemon, url, 2000, LINES[2000:])
    assert last.status_code == 201
    finished(shared_daemon, last)
    once_more = put(shared_daemon, url, 2000, LINES[2000:])
    assert (once_more.status_code, once_more.json()["number"]) == (200, last.json()["number"])


def test_the_total_may_become_known_with_the_last_part(shared_daemon):
    url = begin(shared_daemon)
    assert put(shared_daemon, url, 0, LINES[:500], "*").status_code == 308
    finished(shared_daemon, put(shared_daemon, url, 500, LINES[500:]))


@pytest.mark.parametrize(
    "said",
    ["bytes 0-1", "bytes 5-2/100", "bytes 0-100/100", "items 0-1/2", "bytes 0-1/" + "9" * 30, "x"],
)
def test_a_range_that_is_none_is_refused(shared_daemon, said):
    url = begin(shared_daemon)
    answer = shared_daemon.client.put(url, content=b"xy", headers={"Content-Range": said})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Content-Range")
    assert standing(shared_daemon, url) == 0


def test_what_contradicts_itself_is_refused(shared_daemon):
    url = begin(shared_daemon, size=10)
    assert put(shared_daemon, url, 0, b"abc", 99).status_code == 422
    too_much = shared_daemon.client.put(url, content=b"x" * 11)
    assert too_much.status_code == 422
    assert "11 bytes have come, of 10" in too_much.text


def test_the_address_is_enough_and_opens_only_this_upload(shared_daemon):
    url, other = begin(shared_daemon), begin(shared_daemon)
    far = {"X-Forwarded-For": "203.0.113.9"}
    client, path = shared_daemon.client, urlsplit(url).path
    key = urlsplit(url).query
    assert client.put(url, content=LINES[:9], headers={**far, "Content-Range": "bytes 0-8/99"})
    assert client.head(url, headers=far).headers["Upload-Offset"] == "9"
    assert client.get(path, headers=far).status_code == 401
    assert client.get(f"{path}?key=wrong", headers=far).status_code == 401
    assert client.get(f"{urlsplit(other).path}?{key}", headers=far).status_code == 401
    assert client.get(f"/datasets?{key}", headers=far).status_code == 401
    assert client.delete(url, headers=far).status_code == 200
    assert client.head(url).status_code == 404
    for log in shared_daemon.state.parent.glob("*.log"):
        assert key.partition("=")[2] not in log.read_text()


def test_the_address_behind_a_proxy_is_the_one_the_caller_sees(shared_daemon):
    headers = {"Host": "queue.lab.example", "X-Forwarded-Proto": "https"}
    token = shared_daemon.client.post("/tokens", json={}).json()["token"]
    headers["Authorization"] = f"Bearer {token}"
    made = shared_daemon.client.post("/uploads", json={}, headers=headers)
    assert made.json()["url"].startswith("https://queue.lab.example/uploads/")


def test_a_connection_that_breaks_leaves_what_came_and_the_rest_can_follow(shared_daemon):
    url = begin(shared_daemon, size=len(LARGE))
    with broken_off(shared_daemon, url, LARGE[: 6 << 20]):
        pass
    begun = standing(shared_daemon, url)
    last = put(shared_daemon, url, begun, LARGE[begun:], len(LARGE))
    finished(shared_daemon, last, LARGE)


def test_who_comes_back_does_not_wait_for_the_connection_that_was_lost(shared_daemon):
    url = begin(shared_daemon, size=len(LARGE))
    lost = broken_off(shared_daemon, url, LARGE[: 6 << 20])  # and nobody tells the daemon
    try:
        finished(shared_daemon, shared_daemon.client.put(url, content=LARGE), LARGE)
    finally:
        lost.close()


def test_many_who_send_the_same_make_one_dataset(shared_daemon):
    url, answers = begin(shared_daemon, size=len(LINES)), []

    def send() -> None:
        answers.append(shared_daemon.client.put(url, content=LINES))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201, 308, 409}
    finished(shared_daemon, shared_daemon.client.put(url, content=LINES))


def test_a_killed_daemon_leaves_an_upload_that_goes_on(tmp_path):
    total = len(LARGE)
    with running_daemon(tmp_path / "state", QUICK) as daemon:
        url = begin(daemon, size=total, name="big")
        path = f"{urlsplit(url).path}?{urlsplit(url).query}"
        with broken_off(daemon, url, LARGE[: 6 << 20]):
            daemon.kill()
        daemon.environment[VARIABLE] = "dataset.received"
        daemon.start()
        begun = standing(daemon, path)
        assert begun > 3 << 20
        with pytest.raises(httpx2.TransportError):
            put(daemon, path, begun, LARGE[begun:], total)  # it dies with the file whole
        assert daemon.process.wait(60) == -9
        daemon.environment[VARIABLE] = ""
        daemon.start()
        assert daemon.client.get("/datasets").json()["datasets"] == []
        assert standing(daemon, path) == total
        finished(daemon, put(daemon, path, total - 1, LARGE[-1:], total), LARGE)


def test_uploads_begun_long_ago_are_given_up(tmp_path):
    short = {**QUICK, "TRAINING_CLUSTER_DATASETS__UNFINISHED_DAYS": "0.00001"}
    with running_daemon(tmp_path / "state", QUICK) as daemon:
        url = begin(daemon)
        put(daemon, url, 0, b"half", "*")
        daemon.stop()
        daemon.environment.update(short)
        daemon.start()
        folder = daemon.state / "datasets" / "incoming"
        eventually(lambda: not list(folder.iterdir()), 30)
        assert daemon.client.get(urlsplit(url).path).status_code == 404


def test_a_body_may_be_as_large_as_the_setting_says_and_only_where_files_come(tmp_path):
    small = {**QUICK, "TRAINING_CLUSTER_DATASETS__MOST_GIB": str(2 / 1024)}
    content = b'{"text": "x"}\n' * 100_000
    with running_daemon(tmp_path / "state", small) as daemon:
        assert daemon.client.post("/uploads", json={"size": 3 << 20}).status_code == 422
        form = {"files": {"file": ("a.jsonl", content)}}
        assert daemon.client.post("/datasets", **form).status_code == 201
        large = {"files": {"file": ("a.jsonl", content * 2)}}
        assert daemon.client.post("/datasets", **large).status_code == 413
        url = begin(daemon)
        assert daemon.client.put(url, content=content * 2).status_code == 413
        for first in range(0, 3 << 20, 1 << 20):
            answer = put(daemon, url, first, b"x" * (1 << 20), "*")
        assert answer.status_code == 422, "nor in parts"
        body = json.dumps({"name": "x" * (2 << 20)})
        refused = daemon.client.post(
            "/train", content=body, headers={"Content-Type": "application/json"}
        )
        assert refused.status_code == 413


def read_growth(pid: int) -> int:
    """The largest resident size of a process so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_large_upload_does_not_make_the_daemon_grow(tmp_path):
    size, piece = 64 << 20, os.urandom(1 << 20)
    with running_daemon(tmp_path / "state", QUICK) as daemon:
        url = begin(daemon, size=size)
        daemon.client.put(
            url, content=piece, headers={"Content-Range": f"bytes 0-{len(piece) - 1}/{size}"}
        )
        assert daemon.process is not None
        before = read_growth(daemon.process.pid)
        stream = (piece for _ in range(size // len(piece)))
        made = daemon.client.put(url, content=stream, timeout=200)
        assert made.status_code == 201, made.text
        assert read_growth(daemon.process.pid) - before < 40 << 20
