"""Only what nobody needs goes, a model never by itself, and every removal is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.factories import NOW, ROOT, a_gpu, a_new_job
from tests.fakes import FakeClock, FakeInventory
from tests.services.household import Household
from training_cluster.domain.event import EventType
from training_cluster.domain.job import Job, JobState
from training_cluster.domain.prune import PruneKind, PruneRequest
from training_cluster.ports import Exit
from training_cluster.services.retention import Retention, RetentionPolicy
from training_cluster.store import events, jobs

DAY = 86_400.0
EVERYTHING = frozenset(PruneKind)


class Lab:
    """A household with finished jobs whose directories have something in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.house = Household(folder, FakeInventory(a_gpu(0)), clock=FakeClock())
        self.retention = self.retaining({})

    def retaining(self, seconds: dict[PruneKind, float]) -> Retention:
        house, policy = self.house, RetentionPolicy(seconds)
        return Retention(house.database, house.addresses, house.clock, self.folder, policy)

    async def ended(
        self, code: int = 0, result: str | None = None, checkpoints: tuple[int, ...] = (1, 2, 3)
    ) -> Job:
        """A job that has run; `result` names what below its output is its model."""
        overview = await self.house.submit()
        key = overview.job.id
        await self.house.reaches(key, JobState.RUNNING)
        directory = Path(self.house.engine.running[0].directory)
        (directory / "output").mkdir()
        for step in checkpoints:
            folder = directory / "output" / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            (folder / "weights").write_bytes(bytes(1 << 16))
            (folder / "trainer_state.json").write_text("{}")
        (directory / "output" / "adapter_model.safetensors").write_bytes(bytes(1 << 16))
        (directory / "datasets_cache").mkdir()
        (directory / "datasets_cache" / "rows.arrow").write_bytes(bytes(1 << 16))
        (directory / "trainer.log").write_text("words\n")
        self.house.engine.end(directory, Exit(code))
        await self.house.until(lambda: self._is_over(key))
        if result is not None:
            path = str(directory / "output" / result)
            content = json.dumps({"path": path})
            await self.house.database.write(
                lambda c: c.execute("UPDATE jobs SET result = ? WHERE id = ?", (content, key))
            )
        return await self.house.job(key)

    async def _is_over(self, key: str) -> bool:
        return (await self.house.job(key)).finished_at is not None

    async def prune(self, *kinds: PruneKind, dry_run: bool = False, **limits):
        request = PruneRequest(kinds=frozenset(kinds), **limits)
        return await self.retention.prune(request, dry_run=dry_run)

    def left(self, job: Job) -> set[str]:
        """Names of what a job's first attempt still has."""
        directory = self.folder / "jobs" / job.id / "attempt-1"
        names = {path.name for path in directory.glob("*")}
        return names | {path.name for path in (directory / "output").glob("*")}

    async def told(self, kind: EventType) -> list[dict]:
        found = await self.house.database.read(lambda c: events.page(c, 0, 1000, kind=kind))
        return [event.data for event in found]


@pytest.fixture
async def lab(tmp_path):
    made = Lab(tmp_path)
    await made.house.devices.read()
    yield made
    await made.house.close()


async def test_a_dry_run_says_what_would_go_and_removes_nothing(lab):
    job = await lab.ended()
    report = await lab.prune(*EVERYTHING, dry_run=True)
    assert {item.kind for item in report.items} == {
        *(PruneKind.CHECKPOINTS, PruneKind.CACHES, PruneKind.LOGS, PruneKind.JOBS)
    }
    assert report.bytes >= 4 << 16
    assert {"checkpoint-1", "datasets_cache", "trainer.log"} <= lab.left(job)
    assert (await lab.house.job(job.id)).pruned is None
    assert not await lab.told(EventType.DISK_PRUNED)


async def test_the_checkpoint_that_is_a_result_stays_and_the_others_go(lab):
    job = await lab.ended(result="checkpoint-2")
    report = await lab.prune(PruneKind.CHECKPOINTS)
    assert {"checkpoint-1", "checkpoint-3"}.isdisjoint(lab.left(job))
    assert "checkpoint-2" in lab.left(job)
    assert report.bytes >= 2 << 16
    (told,) = await lab.told(EventType.DISK_PRUNED)
    assert told["bytes"] == report.bytes
    pruned = (await lab.house.job(job.id)).pruned
    assert pruned is not None
    assert pruned["checkpoints"]["bytes"] == report.bytes


async def test_what_a_retry_of_a_failed_job_needs_stays(lab):
    job = await lab.ended(code=1, checkpoints=(5, 10, 15, 20))
    torn = lab.folder / "jobs" / job.id / "attempt-1" / "output" / "checkpoint-25"
    torn.mkdir()
    await lab.prune(PruneKind.CHECKPOINTS)
    assert {name for name in lab.left(job) if name.startswith("check")} == {
        "checkpoint-15",
        "checkpoint-20",
    }


async def test_checkpoints_from_which_a_job_is_to_start_stay_until_it_is_over(lab):
    done = await lab.ended(result="checkpoint-2")
    await lab.house.submit()  # has the device
    waiting = (await lab.house.submit()).job
    start = "UPDATE jobs SET spec = json_set(spec, '$.checkpoint', ?) WHERE number = ?"
    checkpoint = f"{done.id}@step-1"
    await lab.house.database.write(lambda c: c.execute(start, (checkpoint, waiting.number)))
    everything = EVERYTHING - {PruneKind.LOGS, PruneKind.CACHES}
    assert (await lab.prune(*everything)).items == []
    assert "checkpoint-1" in lab.left(done)
    await lab.house.jobs.cancel(waiting.id, ROOT)
    await lab.prune(PruneKind.CHECKPOINTS)
    assert "checkpoint-1" not in lab.left(done)


@pytest.mark.parametrize("kind", [PruneKind.CHECKPOINTS, PruneKind.RESULTS])
async def test_a_job_that_comes_while_others_are_pruned_has_what_it_starts_from(
    lab, kind, monkeypatch
):
    done = await lab.ended(result="checkpoint-2")
    await lab.house.submit()  # has the device
    waiting = (await lab.house.submit()).job
    start = "UPDATE jobs SET spec = json_set(spec, '$.checkpoint', ?) WHERE number = ?"
    checkpoint, look = f"{done.id}@step-1", lab.retention._needed

    async def look_and_be_late(kind):
        needed = await look(kind)
        await lab.house.database.write(lambda c: c.execute(start, (checkpoint, waiting.number)))
        return needed

    monkeypatch.setattr(lab.retention, "_needed", look_and_be_late)
    assert (await lab.prune(kind)).items == []
    assert {"checkpoint-1", "checkpoint-2"} <= lab.left(done)


async def test_running_and_waiting_jobs_are_never_touched(lab):
    running, waiting = await lab.house.submit(), await lab.house.submit()
    await lab.house.reaches(running.job.id, JobState.RUNNING)
    directory = Path(lab.house.engine.running[0].directory)
    (directory / "output" / "checkpoint-1").mkdir(parents=True)
    report = await lab.prune(*EVERYTHING)
    assert report.items == []
    assert (directory / "output" / "checkpoint-1").exists()
    assert (await lab.house.job(waiting.job.id)).state is JobState.QUEUED


async def test_age_user_and_state_choose_the_jobs(lab):
    job = await lab.ended(code=1)
    for limits in ({"older_than_seconds": DAY}, {"user": "bob"}, {"state": "completed"}):
        report = await lab.prune(PruneKind.LOGS, **limits)
        assert report.items == []
    lab.house.clock.advance(2 * DAY)
    report = await lab.prune(PruneKind.LOGS, older_than_seconds=DAY, user="alice", state="failed")
    assert [item.job_id for item in report.items] == [job.id]
    assert "trainer.log" not in lab.left(job)


async def test_a_job_with_a_model_goes_only_when_results_are_named(lab):
    model, none = await lab.ended(result=""), await lab.ended(code=1)
    await lab.prune(*(EVERYTHING - {PruneKind.RESULTS}))
    assert "adapter_model.safetensors" in lab.left(model)
    assert not (lab.folder / "jobs" / none.id).exists()
    with pytest.raises(Exception, match="no job"):
        await lab.house.job(none.id)
    await lab.prune(PruneKind.RESULTS)
    assert not (lab.folder / "jobs" / model.id).exists()
    tables = ("jobs", "attempts", "leases", "metric_lines", "tracker_runs", "job_counts")
    for table in tables:
        query = f"SELECT count(*) FROM {table}" + (" WHERE jobs" if table == "job_counts" else "")
        count = await lab.house.database.read(lambda c, q=query: c.execute(q).fetchone()[0])
        assert count == 0, table
    gone = [data["job_id"] for data in await lab.told(EventType.JOB_PRUNED) if "job_id" in data]
    assert gone == [none.id, model.id]


async def test_a_job_on_which_another_waits_stays(lab):
    first = await lab.ended()
    blocker = await lab.house.submit()
    await lab.house.reaches(blocker.job.id, JobState.RUNNING)
    await lab.house.submit(depends_on=(first.id,))
    report = await lab.prune(PruneKind.JOBS)
    assert report.items == []
    assert (await lab.house.job(first.id)).id == first.id


async def test_the_settings_let_things_go_every_hour_but_never_a_model(lab):
    lab.retention = lab.retaining({kind: DAY for kind in PruneKind if kind != "results"})
    model, none = await lab.ended(result="checkpoint-3"), await lab.ended(code=1)
    await lab.retention.run_once()
    assert "datasets_cache" in lab.left(model)
    lab.house.clock.advance(2 * DAY)
    await lab.retention.run_once()
    left = lab.left(model)
    assert {"checkpoint-3", "adapter_model.safetensors", "config.yaml"} & left
    assert {"datasets_cache", "trainer.log", "checkpoint-1"}.isdisjoint(left)
    assert not (lab.folder / "jobs" / none.id).exists()
    assert 0 < (lab.retention.delay() or 0) <= 3600


async def test_links_a_trainer_left_lead_nowhere(lab, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "checkpoint-1").mkdir()
    (outside / "checkpoint-1" / "trainer_state.json").write_text("{}")
    (outside / "precious").write_text("keep")
    job = await lab.ended(checkpoints=())
    attempt = lab.folder / "jobs" / job.id / "attempt-1"
    for path in sorted((attempt / "output").iterdir()):
        path.unlink()
    (attempt / "output").rmdir()
    (attempt / "output").symlink_to(outside)
    (attempt / "trainer.log").unlink()
    (attempt / "trainer.log").symlink_to(outside / "precious")
    await lab.prune(PruneKind.CHECKPOINTS, PruneKind.LOGS)
    await lab.prune(PruneKind.JOBS)
    assert (outside / "precious").read_text() == "keep"
    assert (outside / "checkpoint-1" / "trainer_state.json").exists()
    assert not (lab.folder / "jobs" / job.id).exists()


async def test_a_removal_that_was_cut_short_is_finished_by_the_next_run(lab):
    job = await lab.ended(code=1)
    folder = lab.folder / "jobs" / job.id
    (folder / "pruned").touch()  # the daemon died before it came to the rows
    lab.house.clock.advance(DAY)
    await lab.retention.run_once()
    assert (await lab.house.job(job.id)).id == job.id
    assert not (folder / "pruned").exists()
    orphan = lab.folder / "jobs" / "01a214f1-5e84-7eea-930a-30fe5eb19a86"
    orphan.mkdir()
    (orphan / "pruned").touch()  # and here behind them
    lab.house.clock.advance(DAY)
    await lab.retention.run_once()
    assert not orphan.exists()


async def test_old_deliveries_of_ended_jobs_go_and_those_on_their_way_stay(lab):
    def fill(connection):
        number = jobs.insert(connection, a_new_job(now=NOW))
        connection.execute(
            "INSERT INTO webhooks (id, format, url, user, events, created_at)"
            " VALUES ('wh', 'json', 'https://x', 'alice', '[]', 1.0)"
        )
        for state, at in (("delivered", 5.0), ("failed", None), ("pending", None)):
            for job in (None, number):
                connection.execute(
                    "INSERT INTO deliveries (webhook_id, event_sequence, job_number, message_id,"
                    " state, created_at, next_at, delivered_at) VALUES ('wh',"
                    " (SELECT max(sequence) FROM events), ?, ?, ?, ?, ?, ?)",
                    (job, f"{state}-{job}", state, NOW, NOW if state == "pending" else None, at),
                )

    await lab.house.database.write(fill)
    lab.house.clock.advance(100 * DAY)
    limits = {"older_than_seconds": 90 * DAY}
    assert (await lab.prune(PruneKind.DELIVERIES, dry_run=True, **limits)).deliveries == 2
    assert (await lab.prune(PruneKind.DELIVERIES, **limits)).deliveries == 2
    left = await lab.house.database.read(
        lambda c: {row[0] for row in c.execute("SELECT message_id FROM deliveries")}
    )
    assert left == {"pending-None", "delivered-1", "failed-1", "pending-1"}


async def test_copies_of_runs_that_wandb_has_go_and_offline_ones_stay(lab):
    job = await lab.ended()
    await lab.house.database.write(
        lambda c: c.execute(
            "INSERT INTO tracker_runs (job_number, tracker, number, attempt_number, state, run_id)"
            " VALUES (?, 'wandb', 1, 1, 'ended', 'abc123')",
            (job.number,),
        )
    )
    folder = lab.folder / "wandb" / "wandb"
    names = ("run-20250101_000000-abc123", "run-20250101_000000-other1")
    for name in (*names, "offline-run-20250101_000000-abc123"):
        (folder / name).mkdir(parents=True)
    await lab.prune(PruneKind.CACHES, older_than_seconds=-10 * 365 * DAY)
    assert {path.name for path in folder.iterdir()} == {
        "run-20250101_000000-other1",
        "offline-run-20250101_000000-abc123",
    }
