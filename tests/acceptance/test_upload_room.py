"""Uploads that do not fit, and uploads that stop in the middle without a word."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

from tests.acceptance.test_uploads import QUICK, begin, put, standing
from tests.daemon_process import eventually, running_daemon
from tests.small_disk import small_disk

PIECE = b'{"text": "' + b"x" * (1 << 20) + b'"}\n'
STRICT = {
    **QUICK,
    "TRAINING_CLUSTER_LIMITS__BODY_SECONDS": "2",
    "TRAINING_CLUSTER_LIMITS__STALL_SECONDS": "2",
}


def test_what_does_not_fit_is_refused_in_the_middle_and_goes_on_once_there_is_room(tmp_path):
    with (
        small_disk(tmp_path / "state", 64) as disk,
        running_daemon(tmp_path / "state", QUICK) as daemon,
    ):
        assert daemon.client.post("/uploads", json={"size": 100 << 20}).status_code == 507
        filler = disk / "filler"
        filler.write_bytes(bytes(20 << 20))
        url, total = begin(daemon, name="big"), 40 * len(PIECE)
        refused = put(daemon, url, 0, PIECE * 40, total)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        begun = standing(daemon, url)
        assert 0 < begun < total
        form = {"file": ("a.jsonl", PIECE * 40)}
        assert daemon.client.post("/datasets", files=form).status_code == 507
        assert daemon.client.get("/readyz").status_code == 200, "the disk is not full by that"
        assert len(list((disk / "datasets" / "incoming").iterdir())) == 1, "nothing of the form"
        filler.unlink()
        last = put(daemon, url, begun, (PIECE * 40)[begun:], total)
        assert last.status_code == 201, last.text


def test_an_upload_may_be_slow_but_not_silent(tmp_path):
    """It has earned a quarter of an hour by its size, and may not use it in one go."""
    with running_daemon(tmp_path / "state", STRICT) as daemon:
        slow, silent = begin(daemon), begin(daemon)
        lines = [sending(daemon.port, url) for url in (slow, silent)]
        begun = time.monotonic()
        while time.monotonic() - begun < 5:
            lines[0].sendall(b"x" * 1000)
            time.sleep(0.1)
        lines[1].settimeout(60)
        heard = b""
        while data := lines[1].recv(65536):
            heard += data
        assert b" 408 " in heard[:20] or not heard
        lines[0].sendall(b"x" * 1000)  # is still wanted
        eventually(lambda: standing(daemon, silent) == 16 << 20, 30)
        for line in lines:
            line.close()


def sending(port: int, url: str) -> socket.socket:
    """A connection on which 16 MiB of a larger upload were sent."""
    place = urlsplit(url)
    line = socket.create_connection(("127.0.0.1", port))
    head = (
        f"PUT {place.path}?{place.query} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {64 << 20}\r\n\r\n"
    )
    line.sendall(head.encode() + bytes(16 << 20))
    return line
