"""Scenario: what clients of other APIs wait for, held against the native answer about the same."""

from __future__ import annotations

from benchmarks.bench import SUBMIT, TRAIN, Bench
from benchmarks.client import Connection, get, one_by_one, post
from benchmarks.servers import Server
from benchmarks.trainer import wait_until

_SLOTS = 2
_LISTED = 20
_CREATE = post(
    "/v1/fine_tuning/jobs", {"model": TRAIN["model_name"], "training_file": "v1.0", "suffix": "a"}
)


def run(bench: Bench) -> None:
    """One job that has ended, some that wait; each is asked for in turns with the native way."""
    bench.report.progress("dialects")
    trainer = bench.trainer("dialects")
    with bench.daemon("dialects", trainer, _SLOTS) as daemon:
        job = _ended(daemon)
        trainer.shut()
        one_by_one(daemon.port, [SUBMIT], _LISTED + _SLOTS)
        wait_until(lambda: trainer.started >= _SLOTS, 10, "both slots to be held")
        native = f"/train/{job['job_id']}"
        for name, path in _looks(job).items():
            _against(bench, daemon, f"dialect_{name}_retrieve", get(path), get(native))
        page = get(f"/train?limit={_LISTED}")
        for name, path in _lists().items():
            _against(bench, daemon, f"dialect_{name}_list", get(path), page)
        _against(bench, daemon, "dialect_openai_create", _CREATE, SUBMIT)


def _looks(job: dict[str, str]) -> dict[str, str]:
    short = job["job_id"].replace("-", "")
    return {
        "openai": f"/v1/fine_tuning/jobs/ftjob-{short}",
        "lamini": f"/v1/train/jobs/{job['number']}",
        "vertesia": f"/api/v1/training/job/{job['job_id']}",
    }


def _lists() -> dict[str, str]:
    return {
        "openai": f"/v1/fine_tuning/jobs?limit={_LISTED}",
        "vertesia": f"/api/v1/training?limit={_LISTED}",
    }


def _ended(daemon: Server) -> dict[str, str]:
    """A job with an end, as most that are looked at have."""
    connection = Connection(daemon.port)
    job: dict[str, str] = connection.ask(SUBMIT)
    look = get(f"/train/{job['job_id']}")
    wait_until(lambda: connection.ask(look)["status"] == "completed", 30, "a job to complete")
    connection.close()
    return job


def _against(bench: Bench, daemon: Server, name: str, asked: bytes, native: bytes) -> None:
    """Ask in turns, so that noise hits both; the floor is the native answer."""
    one_by_one(daemon.port, [asked, native], 20)
    theirs: list[float] = []
    ours: list[float] = []
    count = bench.sizes.reads // bench.sizes.rounds
    for _ in range(bench.sizes.rounds):
        theirs += one_by_one(daemon.port, [asked], count)
        ours += one_by_one(daemon.port, [native], count)
    bench.report.latency(name, theirs, floor=ours)
