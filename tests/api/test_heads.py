"""HEAD is answered where GET is, with the headers of GET and nothing else; a base URL may end in a
slash."""

from __future__ import annotations

import pytest

from tests.daemon_process import eventually
from tests.raw_http import talk

HEAD = "HEAD {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def head(daemon, path: str):
    """What came back, byte for byte."""
    return talk(daemon.port, HEAD.format(path).encode(), seconds=10)


@pytest.mark.parametrize("path", ["/", "/train", "/healthz", "/version", "/openapi.json", "/docs",
                                  "/v1/models", "/v1/version", "/metrics"])  # fmt: skip
def test_the_headers_are_those_of_get_and_there_is_no_body(shared_daemon, path):
    got = shared_daemon.client.get(path)
    asked = shared_daemon.client.head(path)
    assert asked.status_code == got.status_code
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert asked.content == b""
    heard = head(shared_daemon, path)
    assert heard.closed
    assert heard.data.endswith(b"\r\n\r\n")
    assert heard.data.count(b"\r\n\r\n") == 1


def test_of_a_stream_that_never_ends_the_headers_come_at_once_and_its_place_is_free(shared_daemon):
    heard = head(shared_daemon, "/events/stream")
    assert heard.status == 200
    assert b"content-type: text/event-stream" in heard.data.lower()
    assert heard.closed

    def open_streams() -> str:
        lines = shared_daemon.client.get("/metrics").text.splitlines()
        return next(line for line in lines if line.startswith("training_cluster_streams_open"))

    eventually(lambda: open_streams().endswith(" 0.0"))
    assert "Traceback" not in shared_daemon.log


def test_the_size_of_a_download_is_told_and_the_connection_goes_on(shared_daemon):
    rows = b'{"instruction": "a", "output": "b"}\n'
    made = shared_daemon.client.post("/datasets", files={"file": ("rows.jsonl", rows)}).json()
    place = f"/datasets/{made['dataset_id']}/content"
    for _ in range(2):
        answer = shared_daemon.client.head(place)
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(rows)))
    assert shared_daemon.client.get(place).content == rows


@pytest.mark.parametrize(
    ("path", "status"),
    [("/train/99", 404), ("/nowhere", 404), ("/uploads", 200), ("/train/7/pause", 405)],
)
def test_errors_are_those_of_get(shared_daemon, path, status):
    assert shared_daemon.client.head(path).status_code == status


def test_a_base_url_that_ends_in_a_slash_is_taken_as_one_that_does_not(shared_daemon):
    base = f"http://127.0.0.1:{shared_daemon.port}/"
    client = shared_daemon.client
    assert client.get(f"{base}/healthz").status_code == 200
    assert client.get(f"{base}//train").json() == client.get("/train").json()
    assert client.get(f"{base}/v1/models").json()["object"] == "list"
    refused = client.post(f"{base}/train", json={"num_epochs": -1})
    assert refused.json()["errors"][0]["field"] == "num_epochs"
