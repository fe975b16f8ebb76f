"""A file that is deleted or replaced while it goes out comes as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI, Response

from training_cluster.api.held_file import HeldFile

CONTENT = bytes(range(256)) * 1024  # several pieces of an answer


def asking(path: Path, meanwhile: Callable[[], None] = lambda: None) -> httpx2.AsyncClient:
    """A client of an app that answers with the file; `meanwhile` happens when it has opened it."""
    app = FastAPI()

    @app.get("/file")
    async def get_file() -> Response:
        held = HeldFile(path.open("rb"), {"etag": '"e"'})
        meanwhile()
        return held

    transport = httpx2.ASGITransport(app=app)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


async def test_a_file_and_its_parts_come_as_they_are(path):
    async with asking(path) as client:
        whole = await client.get("/file")
        assert (whole.status_code, whole.content) == (200, CONTENT)
        assert whole.headers["content-length"] == str(len(CONTENT))
        part = await client.get("/file", headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, CONTENT[5:10])
        none = await client.get("/file", headers={"Range": "bytes=999999-"})
        assert none.status_code == 416


async def test_a_file_that_is_deleted_meanwhile_comes_whole(path):
    async with asking(path, path.unlink) as client:
        assert (await client.get("/file")).content == CONTENT


async def test_a_file_that_is_replaced_meanwhile_comes_as_it_was(path):
    def replace() -> None:
        path.with_suffix(".new").write_bytes(b"other")
        path.with_suffix(".new").replace(path)

    async with asking(path, replace) as client:
        part = await client.get("/file", headers={"Range": "bytes=-3"})
    assert (part.status_code, part.content) == (206, CONTENT[-3:])


async def test_no_descriptor_is_left_open(path):
    async with asking(path) as client:
        await client.get("/file")
        before = descriptors()
        for asked in ("bytes=0-1", "bytes=999999-", "nonsense=1-2"):
            await client.get("/file", headers={"Range": asked})
        assert descriptors() == before
