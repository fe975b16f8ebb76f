"""Fetches a model from the hub into its cache, going on where an earlier fetch was cut off.

Run by the trainer environment's Python: `python -I fetch_model.py download TASK`, where TASK is a
JSON file: {name, revision, fetched, log}. A token comes in the file that HF_TOKEN_PATH names, never
in a command line. `fetched` becomes a JSON file, {path, revision, size_bytes, files}; the log says
how many MiB there are, a line a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

_MIB = 1024**2
_EVERY_SECONDS = 1.0
_LARGE_BYTES = 16 * _MIB
_SHA256_LENGTH = 64
_PLAIN = re.compile(r"[\w-]{1,128}")


def main(arguments: list[str] | None = None) -> int:
    """Fetch all files of one revision, then say what there is."""
    words = sys.argv[1:] if arguments is None else arguments
    task = json.loads(Path(words[1]).read_text(encoding="utf-8"))
    from huggingface_hub import HfApi, constants, snapshot_download

    info: Any = HfApi().model_info(task["name"], revision=task["revision"], files_metadata=True)
    total = sum(int(file.size or 0) for file in info.siblings)
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{task['name'].replace('/', '--')}" / "blobs"
    told = _Progress(Path(task["log"]), blobs, total)
    told.start()
    try:
        for file in info.siblings:
            if (file.size or 0) >= _LARGE_BYTES:
                fetch_large(task["name"], file.rfilename, info.sha, blobs)
        path = Path(snapshot_download(task["name"], revision=task["revision"]))
    finally:
        told.stop()
    write(Path(task["fetched"]), describe(path))
    told.line(total)
    return 0


def fetch_large(name: str, file: str, revision: str, blobs: Path) -> None:
    """Put one file into the cache, going on behind what an earlier fetch has left of it: the hub's
    own library begins a file anew. Then that library finds it there."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, utils
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(name, file, revision=revision)
    known: Any = get_hf_file_metadata(url)
    if not known.size or not _PLAIN.fullmatch(known.etag or "") or (blobs / known.etag).exists():
        return
    library: Any = utils
    headers = library.build_hf_headers()
    if known.location != url:  # elsewhere, by a signed address: the token is not for there
        headers.pop("authorization", None)
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / f"{known.etag}.training-cluster.incomplete"
    with part.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another fetch is at it: the library waits for that
        if out.tell() > known.size:
            out.truncate(0)
        http_get(
            known.location,
            out,
            resume_size=out.tell(),
            headers=headers,
            expected_size=known.size,
        )
        out.flush()
        if _is_right(part, known.etag):
            part.replace(blobs / known.etag)
        else:
            part.unlink()


def _is_right(part: Path, etag: str) -> bool:
    """Whether a file is what its name in the cache says: the SHA-256 of large ones."""
    if len(etag) != _SHA256_LENGTH:
        return True
    with part.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == etag


def describe(path: Path) -> dict[str, Any]:
    """What lies in a snapshot's folder."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {
        "path": str(path),
        "revision": path.name,
        "size_bytes": sum(file.stat().st_size for file in files),
        "files": [str(file.relative_to(path)) for file in files],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Put a JSON file in place as a whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)


class _Progress(threading.Thread):
    """Writes how much of a model lies in the cache, complete or not."""

    def __init__(self, log: Path, blobs: Path, total: int) -> None:
        super().__init__(daemon=True)
        self._log, self._blobs, self._total = log, blobs, total
        self._began, self._ended = time.monotonic(), threading.Event()
        self._first: int | None = None

    def run(self) -> None:
        """A line now and every second until `stop`."""
        while True:
            self.line(min(self._there(), max(0, self._total - 1)))
            if self._ended.wait(_EVERY_SECONDS):
                return

    def stop(self) -> None:
        """No more lines."""
        self._ended.set()
        self.join()

    def _there(self) -> int:
        try:
            return sum(file.stat().st_size for file in self._blobs.iterdir())
        except OSError:
            return 0

    def line(self, done: int) -> None:
        """Say how many bytes there are."""
        elapsed = time.monotonic() - self._began
        self._first = done if self._first is None else self._first
        content: dict[str, Any] = {
            "current_steps": done // _MIB if done < self._total else self._steps(),
            "total_steps": self._steps(),
            "elapsed_time": _clock(elapsed),
        }
        if done > self._first:
            left = elapsed / (done - self._first) * (self._total - done)
            content["remaining_time"] = _clock(left)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(content) + "\n")

    def _steps(self) -> int:
        return max(1, self._total // _MIB)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(main())
