"""The worker: reads one request from stdin, answers by one line on stdout, ends.

It steps back behind everything else on the machine, and ends when the daemon does.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
from itertools import islice
from pathlib import Path
from typing import Any

from training_cluster.adapters.dataset_directory.inspection.checking import inspect
from training_cluster.adapters.dataset_directory.inspection.fetching import NoRoom
from training_cluster.adapters.dataset_directory.inspection.reading import (
    LARGEST_ARRAY_BYTES,
    Nothing,
)
from training_cluster.adapters.dataset_directory.inspection.writing import Overflow
from training_cluster.adapters.dataset_directory.rows import read_rows
from training_cluster.domain.dataset import DatasetOrigin, HubSource, Split
from training_cluster.domain.errors import InvalidDataset
from training_cluster.ports import InspectionTask

_NICE = 10
_MOST_BYTES = 8 << 30


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    if request["op"] == "inspect":
        try:
            return {"findings": inspect(_task(request["task"]))}
        except NoRoom as error:
            return {"unavailable": str(error)}
        except Overflow as error:
            return {"overflow": str(error)}
    try:
        return {"rows": _first_rows(Path(request["file"]), request["most"])}
    except InvalidDataset as refusal:
        return {"refused": refusal.message}
    except FileNotFoundError as error:
        return {"missing": str(error)}


def _task(raw: dict[str, Any]) -> InspectionTask:
    split, tokenizer, hub = raw["split"], raw["tokenizer"], raw["hub"]
    return InspectionTask(
        file=Path(raw["file"]),
        filename=raw["filename"],
        folder=Path(raw["folder"]),
        format=raw["format"],
        columns=raw["columns"],
        split=None if split is None else Split(**split),
        tokenizer=None if tokenizer is None else Path(tokenizer),
        origin=DatasetOrigin(raw["origin"]),
        source=raw["source"],
        hub=None if hub is None else HubSource(**hub),
        hub_url=raw["hub_url"],
        hub_token=raw["hub_token"],
        keep_free_bytes=raw["keep_free_bytes"],
    )


def _first_rows(file: Path, most: int) -> list[dict[str, object]]:
    with file.open("rb") as stream:
        most_bytes = LARGEST_ARRAY_BYTES
        rows = read_rows(stream, file.name, Nothing(), largest_array_bytes=most_bytes)
        return [row.record for row in islice(rows, most)]


def _end_with_the_daemon() -> None:
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def _step_back() -> None:
    """Behind everything else for processors, before everything else when memory runs out, and
    never so much of it that it does: a small parquet file may stand for a very large table."""
    os.nice(_NICE)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MOST_BYTES if most == resource.RLIM_INFINITY else min(_MOST_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Serve the one request."""
    request = json.loads(sys.stdin.buffer.readline())
    _step_back()
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    data = json.dumps(answer(request)).encode()
    while data:
        data = data[os.write(1, data) :]
    os._exit(0)  # the thread above may hold stdin


if __name__ == "__main__":
    main()
