"""Logs over HTTP: readable or exact, by piece, by range, and followed as server-sent events."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from training_cluster.api import logs
from training_cluster.services import log_files
from training_cluster.services.log_text import readable


@dataclass
class Event:
    kind: str
    data: str
    id: str


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events as a browser would read them."""
    kind, data, last_id = "message", [], ""
    for line in lines:
        name, _, value = line.partition(": ")
        if not line:
            if data:
                yield Event(kind, "\n".join(data), last_id)
            kind, data = "message", []
        elif name == "event":
            kind = value
        elif name in ("data", "data:"):
            data.append(value)
        elif name == "id":
            last_id = value


@contextlib.contextmanager
def stream(daemon: DaemonProcess, job: str, last_id: str = "", **params) -> Iterator:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    url = f"http://127.0.0.1:{daemon.port}/train/{job}/logs/stream"
    with (
        httpx2.Client(trust_env=False, timeout=30) as client,
        client.stream("GET", url, params=params, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response.iter_lines())


def follow(daemon: DaemonProcess, job: str, last_id: str = "", **params) -> list[Event]:
    """Everything until the daemon ends the stream."""
    with stream(daemon, job, last_id, **params) as found:
        return list(found)


def text_of(found: list[Event]) -> str:
    return "".join(event.data for event in found if event.kind == "log")


def raw_log(daemon: DaemonProcess, job: str, attempt: int = 1) -> bytes:
    return (daemon.attempt_dir(job, attempt) / "trainer.log").read_bytes()


@contextlib.contextmanager
def chatting(state: Path, *arguments: object, **settings: str) -> Iterator[DaemonProcess]:
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("chatty", *arguments), **settings}
    with running_daemon(state, environment) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, str]]:
    """A daemon and a job whose trainer has said everything."""
    with chatting(tmp_path_factory.mktemp("chatty") / "state", 60, 0, 0) as daemon:
        job = daemon.submit()["job_id"]
        daemon.wait_for(job)
        yield daemon, job


@pytest.fixture
def chatty(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Its jobs talk for some three seconds."""
    with chatting(tmp_path / "state", 100, 0.03, 0) as daemon:
        yield daemon


def get(finished, headers: dict[str, str] | None = None, **params) -> httpx2.Response:
    daemon, job = finished
    return daemon.client.get(f"/train/{job}/logs", params=params, headers=headers)


def test_a_log_is_read_as_text_without_escapes_and_with_bars_in_their_last_state(finished) -> None:
    response = get(finished)
    raw = raw_log(*finished)
    assert response.text == readable(raw)
    assert response.text.startswith("attempt 1 begins\n")
    assert response.text.endswith("\n100%|████| done")
    assert not set(response.text) & set("\r\x1b\b\x07")
    assert int(response.headers["X-Next-Offset"]) == len(raw)
    assert response.headers["X-Job-Status"] == "completed"
    assert response.headers["X-Attempt"] == "1"


def test_raw_gives_what_was_written(finished) -> None:
    raw = raw_log(*finished)
    assert get(finished, raw=True).content == raw
    assert get(finished, raw=True, offset=100).content == raw[100:]
    assert get(finished, raw=True, tail=3).content == b"\n".join(raw.split(b"\n")[-3:])


def test_the_last_lines_are_readable_lines(finished) -> None:
    lines = readable(raw_log(*finished)).splitlines(keepends=True)
    for count in (0, 1, 2, 5, 99):
        assert get(finished, tail=count).text == "".join(
            lines[len(lines) - count :][-count:] * (count > 0)
        )


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("100-", 100, -1),
        ("-7", -7, -1),
        ("-999999999", 0, -1),
        ("5-999999999", 5, -1),
    ],
)
def test_a_range_of_bytes_is_exact(finished, asked: str, first: int, last: int) -> None:
    raw = raw_log(*finished)
    size = len(raw)
    first, last = first % size, last % size
    response = get(finished, {"Range": f"bytes={asked}"})
    assert response.status_code == 206
    assert response.content == raw[first : last + 1]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert response.headers["Content-Length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", ["999999999-", "-0", "999999999-9999999999"])
def test_a_range_outside_the_log_is_refused_with_its_size(finished, asked: str) -> None:
    response = get(finished, {"Range": f"bytes={asked}"})
    assert response.status_code == 416
    assert response.json()["code"] == "range_not_satisfiable"
    assert response.headers["Content-Range"] == f"bytes */{len(raw_log(*finished))}"


async def test_a_range_of_a_log_that_is_removed_meanwhile_comes_whole(tmp_path: Path) -> None:
    path, held = tmp_path / "trainer.log", contextlib.ExitStack()
    content = os.urandom(3 * logs._BLOCK)
    path.write_bytes(content)
    file = held.enter_context(log_files.opened(path))
    assert file is not None
    blocks = logs._blocks(file, held, 5, len(content) - 5)
    received = [await anext(blocks)]
    path.unlink()
    received += [block async for block in blocks]
    assert b"".join(received) == content[5:-5]


@pytest.mark.parametrize(
    "asked", ["bytes=9-1", "lines=1-2", "bytes=0-1,4-5", "bytes=", "x", "bytes=²-"]
)
def test_what_is_no_range_is_as_if_it_were_not_there(finished, asked: str) -> None:
    response = get(finished, {"Range": asked.encode("utf-8")})
    assert response.status_code == 200
    assert response.text == readable(raw_log(*finished))


def test_a_finished_job_is_streamed_whole_and_ends(finished) -> None:
    found = follow(*finished)
    assert [event.kind for event in found if event.kind != "log"] == ["attempt", "end"]
    assert json.loads(found[0].data) == {"attempt": 1}
    assert json.loads(found[-1].data) == {"status": "completed"}
    assert text_of(found) == readable(raw_log(*finished))
    assert all(event.id for event in found)


def test_a_client_that_saw_the_end_is_told_to_stay_away(finished) -> None:
    daemon, job = finished
    headers = {"Last-Event-ID": follow(*finished)[-1].id}
    assert daemon.client.get(f"/train/{job}/logs/stream", headers=headers).status_code == 204


def test_a_stream_begins_where_it_is_told(finished) -> None:
    raw = raw_log(*finished)
    tail = text_of(follow(*finished, tail=2))
    assert tail == "".join(readable(raw).splitlines(keepends=True)[-2:])
    assert text_of(follow(*finished, offset=100)) == readable(raw[100:])


@pytest.mark.parametrize("last_id", ["x", "1", "0:1", "1:-1", "1:1:1", "1:99999999999999999999"])
def test_an_event_id_that_is_not_ours_is_refused(finished, last_id: str) -> None:
    daemon, job = finished
    response = daemon.client.get(f"/train/{job}/logs/stream", headers={"Last-Event-ID": last_id})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Last-Event-ID"


def test_what_does_not_exist_is_not_found(finished) -> None:
    daemon, job = finished
    for path in ("/train/77/logs/stream", "/train/77/logs", f"/train/{job}/logs?attempt=2"):
        assert daemon.client.get(path).status_code == 404
    assert daemon.client.get(f"/train/{job}/logs/stream?attempt=2").status_code == 404
    headers = {"Last-Event-ID": "2:0"}
    assert daemon.client.get(f"/train/{job}/logs/stream", headers=headers).status_code == 404


def test_a_running_job_is_followed_to_its_end_with_its_bar(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    found = follow(chatty, job)
    assert text_of(found) == readable(raw_log(chatty, job))
    bars = [event.data for event in found if event.kind == "bar"]
    assert 1 <= len(bars) <= 8, "at most one a second"
    assert any("größe" in bar for bar in bars)
    assert not any("\r" in bar for bar in bars)
    assert found[-1].kind == "end"


def test_going_on_from_any_event_gives_the_whole(chatty: DaemonProcess) -> None:
    job, chance = chatty.submit()["job_id"], random.Random(7)
    found: list[Event] = []
    breaks = 0
    while not found or found[-1].kind != "end":
        last_id = next((event.id for event in reversed(found) if event.id), "")
        with stream(chatty, job, last_id) as coming:
            for event in coming:
                found.append(event)
                if event.kind == "log" and chance.random() < 0.3:
                    breaks += 1
                    break
    assert breaks > 3
    assert text_of(found) == readable(raw_log(chatty, job))
    assert [event.kind for event in found if event.kind == "attempt"] == ["attempt"]


def test_a_restart_of_the_daemon_breaks_no_cursor(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    found: list[Event] = []
    with stream(chatty, job) as coming, contextlib.suppress(httpx2.TransportError):
        for event in coming:
            found.append(event)
            if event.kind == "log" and len(text_of(found)) > 100:
                chatty.kill()
    chatty.start()
    last_id = next(event.id for event in reversed(found) if event.id)
    found += follow(chatty, job, last_id)
    assert text_of(found) == readable(raw_log(chatty, job))


def test_followers_by_offset_see_complete_lines_once(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    text, offset = "", 0
    while True:
        response = chatty.client.get(f"/train/{job}/logs", params={"offset": offset})
        over = response.headers["X-Job-Status"] == "completed"
        piece = response.text
        assert over or not piece or piece.endswith("\n")
        text, offset = text + piece, int(response.headers["X-Next-Offset"])
        if over and not piece:
            break
    assert text == readable(raw_log(chatty, job))


def test_a_look_shows_the_line_being_written_and_says_so(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]

    def unfinished() -> httpx2.Response | None:
        response = chatty.client.get(f"/train/{job}/logs", params={"tail": 1})
        return response if "X-Unfinished-Line" in response.headers else None

    response = eventually(unfinished)
    assert "größe" in response.text
    assert "\n" not in response.text
    offset = int(response.headers["X-Next-Offset"])
    assert raw_log(chatty, job)[:offset].endswith(b"\n"), "the line will be read again"
    none = chatty.client.get(f"/train/{job}/logs", params={"tail": 0})
    assert none.text == ""
    assert raw_log(chatty, job)[: int(none.headers["X-Next-Offset"])].endswith(b"\n")


def test_retries_are_followed_attempt_after_attempt(tmp_path: Path) -> None:
    with chatting(tmp_path / "state", 20, 0.01, 1) as daemon:
        job = daemon.submit(max_retries=1)["job_id"]
        found = follow(daemon, job)
        assert [json.loads(e.data)["attempt"] for e in found if e.kind == "attempt"] == [1, 2]
        logs = [readable(raw_log(daemon, job, number)) for number in (1, 2)]
        assert text_of(found) == "".join(logs)
        assert logs[0].endswith("dying")
        assert json.loads(found[-1].data) == {"status": "completed"}
        assert text_of(follow(daemon, job, attempt=1)) == "".join(logs)
        assert text_of(follow(daemon, job)) == logs[1], "by default the latest"


def test_a_cancelled_job_ends_its_streams(tmp_path: Path) -> None:
    with chatting(tmp_path / "state", 10_000, 0.01, 0) as daemon:
        running, waiting = daemon.submit()["job_id"], daemon.submit()["job_id"]
        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(follow, daemon, job) for job in (running, waiting)]
            eventually(lambda: b"loss" in daemon.client.get(f"/train/{running}/logs").content)
            for job in (waiting, running):
                assert daemon.client.delete(f"/train/{job}").status_code == 200
            ended = [future.result(30) for future in both]
        assert text_of(ended[0]) == readable(raw_log(daemon, running))
        assert ended[1][:-1] == [], "it never ran"
        assert [json.loads(e[-1].data)["status"] for e in ended] == ["cancelled", "cancelled"]


def test_a_log_that_is_truncated_is_followed_from_its_start(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    with stream(chatty, job) as coming:
        found = [next(coming), next(coming)]
        log = chatty.attempt_dir(job) / "trainer.log"
        eventually(lambda: log.stat().st_size > 28_000)
        os.truncate(log, 0)
        found += coming
    text = text_of(found)
    _, notice, after = text.partition("[... this log was begun anew ...]\n")
    assert notice
    assert after == readable(raw_log(chatty, job))


def test_fifty_streams_see_the_same(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda _: text_of(follow(chatty, job)), range(50)))
    assert found == [readable(raw_log(chatty, job))] * 50


def test_a_client_that_does_not_read_delays_nobody(chatty: DaemonProcess) -> None:
    job = chatty.submit()["job_id"]
    with socket.create_connection(("127.0.0.1", chatty.port)) as deaf:
        request = f"GET /train/{job}/logs/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        deaf.sendall(request.encode())
        assert text_of(follow(chatty, job)) == readable(raw_log(chatty, job))


def test_open_streams_do_not_keep_the_daemon_from_ending(tmp_path: Path) -> None:
    with chatting(tmp_path / "state", 10_000, 0.03, 0) as daemon:
        job = daemon.submit()["job_id"]
        with stream(daemon, job) as coming:
            next(coming)
            ended = threading.Thread(target=daemon.stop)
            ended.start()
            kinds = {event.kind for event in coming}
            ended.join(10)
        assert "end" not in kinds, "the job goes on"
        assert daemon.process is not None
        assert daemon.process.returncode == 0
        assert "exceeded" not in daemon.log, "nothing had to be broken off"


def test_a_log_over_its_limit_is_cut_and_told_of(tmp_path: Path) -> None:
    settings = {"TRAINING_CLUSTER_LOGS__MOST_MIB": "1"}
    line = "x" * 99
    command = json.dumps(["/bin/sh", "-c", f"yes {line} | head -c 5000000; sleep 60"])
    settings["TRAINING_CLUSTER_TRAINER__COMMAND"] = command
    with running_daemon(tmp_path / "state", settings) as daemon:
        job = daemon.submit()["job_id"]
        log = daemon.attempt_dir(job) / "trainer.log"
        eventually(lambda: log.exists() and log.stat().st_size == 5_000_000)
        eventually(lambda: log.stat().st_blocks * 512 <= 1 << 20, 60)
        response = daemon.client.get(f"/train/{job}/logs", params={"tail": 50_000})
        assert response.text.splitlines()[0] == "[... 4 MiB of this log were given up ...]"
        assert response.headers["X-Next-Offset"] == "5000000"
        daemon.client.delete(f"/train/{job}")
