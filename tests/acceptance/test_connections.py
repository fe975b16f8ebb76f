"""What a connection may take of the daemon: deadlines, sizes and places, each with an answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon
from tests.raw_http import listen, talk

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def hasty_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that waits half a second for a head and as long for a body."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true",
        "TRAINING_CLUSTER_LIMITS__HEAD_SECONDS": "0.5",
        "TRAINING_CLUSTER_LIMITS__BODY_SECONDS": "0.5",
        "TRAINING_CLUSTER_LIMITS__CONNECTIONS": "64",
        "TRAINING_CLUSTER_LIMITS__STREAMS_PER_USER": "3",
    }
    with running_daemon(tmp_path_factory.mktemp("hasty") / "state", environment) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


INCOMPLETE = {
    "a method": (b"G",),
    "a head": (GET,),
    "a body": (POST + b"Content-Length: 9\r\n\r\n{",),
    "a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n",),
    "nothing": (),
    "a second head": (GET + b"\r\n" + GET,),
    "blank lines": (GET + b"\r\n", *[b"\r\n"] * 8),
}


def test_a_request_that_does_not_become_complete_is_ended(hasty_daemon):
    with ThreadPoolExecutor(len(INCOMPLETE)) as threads:
        talks = {
            name: threads.submit(talk, hasty_daemon.port, *pieces, seconds=9, pause=0.3)
            for name, pieces in INCOMPLETE.items()
        }
    heard = {name: future.result() for name, future in talks.items()}
    assert all(each.closed and each.seconds < 6 for each in heard.values()), heard
    assert heard["nothing"].data == b""
    assert [heard[name].status for name in ("a second head", "blank lines")] == [200, 200]
    for name in ("a method", "a head", "a body", "a chunk"):
        assert (heard[name].status, heard[name].problem["code"]) == (408, "request_timeout"), name


def test_a_body_that_keeps_coming_has_the_time_it_needs(hasty_daemon):
    body = b'{"model_name": "%s"}' % (b"x" * 100_000)
    pieces = [body[start : start + 25_000] for start in range(0, len(body), 25_000)]
    head = POST + b"Content-Length: %d\r\n" % len(body) + CLOSE
    heard = talk(hasty_daemon.port, head, *pieces, pause=0.4)
    assert heard.status == 422
    assert heard.seconds > 1.6


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 9000), 414, "url_too_long"),
        (b"GET /%s" % (b"x" * 2_000_000), 414, "url_too_long"),
        (GET + b"A: b\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
        (GET + b"A: %s\r\n\r\n" % (b"b" * 66_000), 431, "headers_too_large"),
        (GET + b"A: %s" % (b"b" * 3_000_000), 431, "headers_too_large"),
        (GET + b"A: b\r\n" * 500_000, 431, "headers_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (POST + b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 900_000, 400, "bad_request"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 200_000,
            400,
            "bad_request",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_too_large_or_no_http_is_answered_and_ended(
    hasty_daemon, request_bytes, status, code
):
    heard = talk(hasty_daemon.port, request_bytes)
    assert (heard.status, heard.problem["code"], heard.closed) == (status, code, True)
    assert heard.problem["detail"]


def test_a_request_behind_an_answer_under_way_cannot_break_into_it(hasty_daemon):
    with socket.create_connection(("127.0.0.1", hasty_daemon.port)) as connection:
        connection.sendall(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.sendall(b"\x00garbage")
        data, closed = listen(connection, 5)
    assert b"HTTP/1.1" not in data
    assert closed


def test_when_all_places_are_taken_who_keeps_us_waiting_makes_room(hasty_daemon):
    def served() -> float:
        hasty = [socket.create_connection(("127.0.0.1", hasty_daemon.port)) for _ in range(80)]
        began = time.monotonic()
        assert talk(hasty_daemon.port, GET + CLOSE).status == 200
        took = time.monotonic() - began
        for connection in hasty:
            connection.close()
        return took

    assert min(served() for _ in range(3)) < 0.5, "none of them was overdue yet"


def test_streams_of_one_user_are_counted_and_their_places_come_free(hasty_daemon):
    stream = b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = [socket.create_connection(("127.0.0.1", hasty_daemon.port)) for _ in range(3)]
    for connection in opened:
        connection.sendall(stream)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    refused = hasty_daemon.client.get("/events/stream")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    assert int(refused.headers["retry-after"]) > 0
    assert hasty_daemon.client.get("/train/77/metrics/stream").status_code == 429
    for connection in opened:
        connection.close()
    eventually(lambda: talk(hasty_daemon.port, stream, seconds=0.2).status == 200)


def test_a_stream_and_its_slow_reader_outlive_every_deadline(hasty_daemon):
    connection = socket.create_connection(("127.0.0.1", hasty_daemon.port))
    connection.sendall(b"GET /events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(2.5)  # deadlines are half a second, looks at them a second apart
    data, closed = listen(connection, 0.2)
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert not closed
    connection.close()


def test_jobs_that_wait_are_counted_for_each_user(tmp_path):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/sh -c 'sleep 60'",
        "TRAINING_CLUSTER_LIMITS__QUEUED_PER_USER": "2",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        daemon.wait_for(daemon.submit()["job_id"], "running")
        waiting = [daemon.submit()["job_id"] for _ in range(2)]
        refused = daemon.client.post("/train", json={})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
        assert refused.headers["retry-after"] == "30"
        assert daemon.client.delete(f"/train/{waiting[0]}").status_code == 200
        daemon.submit()
