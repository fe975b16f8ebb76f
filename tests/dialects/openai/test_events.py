"""A job's past as OpenAI tells it: whole, in order, and the same whatever the size of a page."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.factories import ALICE, NOW, a_new_job
from training_cluster.api.dialects.openai import events as told
from training_cluster.domain.errors import InvalidRequest
from training_cluster.domain.event import EventType
from training_cluster.domain.job import AttemptRef
from training_cluster.domain.metric import LineSource
from training_cluster.services.timeline import Timeline
from training_cluster.store import events, jobs, metric_lines
from training_cluster.store.metric_lines import NewLine

WARNINGS = ("this had no effect", "nor that")


async def a_job_with_a_past(database, seed=1):
    """Two attempts with events and lines of all kinds, some at the same second."""
    chance = random.Random(seed)
    new = replace(a_new_job(), warnings=WARNINGS)

    def change(connection):
        number = jobs.insert(connection, new)
        at = NOW
        for attempt in (1, 2):
            ref = AttemptRef(new.id, attempt)
            for kind in (EventType.JOB_STARTING, EventType.JOB_STARTED):
                events.append(connection, at, kind, number, attempt)
            for step in range(1, 8):
                at += chance.choice((0, 0, 1))
                line = NewLine(step + 10 * attempt, at, {"train/loss": 1 / step})
                metric_lines.append(connection, number, ref, LineSource.TRAINER, [line])
                probe = NewLine(step, at, {"system/x": 1.0})
                metric_lines.append(connection, number, ref, LineSource.TELEMETRY, [probe])
                if chance.random() < 0.3:
                    data = {"message": f"at {step}"}
                    events.append(connection, at, EventType.JOB_WARNING, number, attempt, data)
            kind = EventType.JOB_RETRYING if attempt == 1 else EventType.JOB_COMPLETED
            events.append(connection, at, kind, number, attempt, {"devices": []})
        return jobs.find(connection, new.id)

    return await database.write(change)


async def read(database, job, limit, after=None):
    start = told.cursor(after)
    moments = await Timeline(database).before(job, start.place, told.TELLERS, limit + 2, ALICE)
    return told.page(job, moments, start, limit)


async def everything(database, job, limit):
    found, after = [], None
    while True:
        page = await read(database, job, limit, after)
        assert len(page["data"]) <= limit
        found += page["data"]
        if not page["has_more"]:
            return found
        after = page["data"][-1]["id"]


@pytest.mark.parametrize("seed", range(5))
async def test_pages_of_any_size_tell_the_same(database, seed):
    job = await a_job_with_a_past(database, seed)
    whole = await everything(database, job, 500)
    assert len({each["id"] for each in whole}) == len(whole)
    for limit in (1, 2, 3, 7):
        assert await everything(database, job, limit) == whole


async def test_all_of_it_is_told_newest_first(database):
    job = await a_job_with_a_past(database)
    whole = await everything(database, job, 500)
    messages = [each["message"] for each in whole]
    assert messages[0] == "The job has successfully completed"
    assert messages[-1].startswith("Created fine-tuning job: ftjob-")
    assert messages[-2].startswith("Validating training file")
    assert messages[-4:-2] == list(WARNINGS[::-1])
    steps = [each["data"]["step"] for each in whole if each["type"] == "metrics"]
    assert steps == [*range(27, 20, -1), *range(17, 10, -1)]
    begun = [at for at, text in enumerate(messages) if text == "Fine-tuning job started"]
    first_of_second = next(i for i, each in enumerate(whole) if each["data"].get("step") == 21)
    assert begun[0] == first_of_second + 1


async def test_new_events_do_not_move_a_page(database):
    job = await a_job_with_a_past(database)
    first = await read(database, job, 5)
    kind = EventType.JOB_WARNING
    await database.write(
        lambda c: events.append(c, NOW + 999, kind, job.number, 2, {"message": "late"})
    )
    second = await read(database, job, 5, first["data"][-1]["id"])
    assert [each["message"] for each in second["data"]].count("late") == 0
    assert not {e["id"] for e in first["data"]} & {e["id"] for e in second["data"]}


async def test_metrics_have_the_names_clients_look_for(database):
    job = await a_job_with_a_past(database)
    whole = await everything(database, job, 500)
    measured = next(each for each in whole if each["type"] == "metrics")
    assert measured["data"]["train_loss"] == pytest.approx(1 / 7)
    assert measured["message"] == "Step 27: training loss=0.1429"
    assert measured["level"] == "info"


def test_what_is_no_id_of_an_event_is_refused():
    for text in ("", "ftevent-", "ftevent-1-2", "x", "ftevent-1-2-x", "ftevent-" + "9" * 30):
        with pytest.raises(InvalidRequest):
            told.cursor(text)
