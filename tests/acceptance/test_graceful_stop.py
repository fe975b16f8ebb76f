"""SIGTERM: what is being answered is answered, nothing new is taken, and the daemon is gone within
three seconds. Jobs do not notice."""

from __future__ import annotations

import asyncio
import socket
import time

import httpx2
import pytest

from tests.daemon_process import DaemonProcess, eventually, processes_of, running_daemon

_LOG_BYTES = 32 << 20
_WRITER = f"import time; print('x' * {_LOG_BYTES}, flush=True); time.sleep(60)"


@pytest.fixture
def talking(tmp_path):
    """A daemon with a job that has said a lot and runs on."""
    command = f'["/usr/bin/env", "python3", "-c", "{_WRITER}"]'
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": command}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        log = daemon.attempt_dir(job) / "trainer.log"
        eventually(lambda: log.exists() and log.stat().st_size > _LOG_BYTES)
        yield daemon, job


async def test_an_answer_under_way_comes_to_its_end_and_jobs_run_on(talking):
    daemon, job = talking
    before = processes_of(daemon.attempt_dir(job))
    async with httpx2.AsyncClient(base_url=daemon.client.base_url, trust_env=False) as client:
        path = f"/train/{job}/logs?raw=true"
        async with client.stream("GET", path, headers={"Range": "bytes=0-"}) as answer:
            pieces = answer.aiter_raw(65536)
            size = len(await anext(pieces))
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(daemon.stop))
            await asyncio.sleep(0.3)
            assert size < _LOG_BYTES, "the most of it is still to come"
            async for piece in pieces:
                size += len(piece)
    assert size == int(answer.headers["content-length"]) > _LOG_BYTES
    assert await stopping == 0
    assert time.monotonic() - began < 3
    assert processes_of(daemon.attempt_dir(job)) == before != []


def test_a_client_that_has_stopped_reading_holds_nobody_up(talking):
    daemon, job = talking
    with socket.create_connection(("127.0.0.1", daemon.port)) as client:
        client.sendall(
            f"GET /train/{job}/logs?raw=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert client.recv(1024).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 3


def test_once_it_ends_nothing_new_is_taken(quick_daemon: DaemonProcess):
    assert quick_daemon.stop() == 0
    with pytest.raises(httpx2.TransportError):
        quick_daemon.client.post("/train", json={})
