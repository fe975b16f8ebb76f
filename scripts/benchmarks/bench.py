"""What every scenario works with: how much to measure, where, and the servers it starts."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers, trainer
from benchmarks.client import post
from benchmarks.report import Report
from benchmarks.servers import Server
from benchmarks.trainer import Trainer, wait_until

TRAIN = {
    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
    "lora_name": "initial-sft",
    "dataset_version": "v1.0",
    "learning_rate": "2.0e-5",
    "num_epochs": 2.0,
    "batch_size": 1,
    "tracking_backend": "none",
}
SUBMIT = post("/train", TRAIN)
FLOOR_SUBMIT = post("/rows", TRAIN)

_FINISHED = """
SELECT coalesce(sum(jobs), 0) FROM job_counts
WHERE state IN ('completed', 'failed', 'cancelled')"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything is measured."""

    rounds: int
    submits: int
    load_seconds: float
    started: int
    gaps: int
    short_gaps: int
    drained: int
    starts: int
    history: int
    reads: int
    idle_seconds: float
    streamed: int
    uploaded_mib: int


FULL = Sizes(4, 300, 2.0, 100, 60, 200, 1000, 3, 100_000, 500, 20.0, 150, 2048)
QUICK = Sizes(2, 100, 0.3, 10, 10, 30, 100, 1, 10_000, 60, 2.0, 20, 64)


class Bench:
    """One run: its report, its sizes, a directory of its own, the floor's app."""

    def __init__(self, directory: Path, sizes: Sizes, report: Report) -> None:
        self.directory = directory
        self.sizes = sizes
        self.report = report
        self.trainer_command = trainer.build(directory)
        self._floor: Server | None = None

    def trainer(self, name: str, seconds: float = 0.0) -> Trainer:
        """A trainer with stamps and gate of its own."""
        return Trainer(self.trainer_command, self.directory / f"{name}-trainer", seconds)

    @property
    def floor(self) -> Server:
        """The minimal app, started when first needed."""
        if self._floor is None:
            self._floor = servers.floor_app(self.directory)
        return self._floor

    @contextlib.contextmanager
    def daemon(self, name: str, run_by: Trainer, slots: int) -> Iterator[Server]:
        """The daemon over the state directory `name`; gone at the end, its trainers too."""
        server = servers.daemon(self.state_dir(name), run_by.command, slots)
        try:
            yield server
        except Exception as error:
            error.add_note(f"the daemon said last:\n{server.last_words()}")
            raise
        finally:
            server.stop()
            run_by.close()

    def state_dir(self, name: str) -> Path:
        """The state directory of a scenario."""
        return self.directory / name

    def database(self, name: str) -> sqlite3.Connection:
        """A scenario's store, read-only."""
        uri = f"file:{self.state_dir(name) / 'queue.db'}?mode=ro"
        connection = sqlite3.connect(uri, uri=True)
        connection.row_factory = sqlite3.Row
        return connection

    def wait_finished(self, name: str, jobs: int, seconds: float) -> None:
        """Return when so many jobs have finished; looks into the file, asks the daemon nothing."""
        connection = self.database(name)
        wait_until(
            lambda: connection.execute(_FINISHED).fetchone()[0] >= jobs, seconds, f"{jobs} jobs"
        )
        connection.close()

    def close(self) -> None:
        """Stop the floor's app and delete everything."""
        if self._floor is not None:
            self._floor.stop()
        # a runner that outlived the daemon may still write its exit file
        deadline = time.monotonic() + 5
        while self.directory.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.directory, ignore_errors=True)
