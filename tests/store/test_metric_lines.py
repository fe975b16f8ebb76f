"""Metric lines and the runs trackers are told of: each line once, redone steps replaced."""

from __future__ import annotations

import json
import random

import pytest

from tests.factories import NOW, a_new_job
from training_cluster.domain.job import AttemptRef, Progress, TrainingPoint
from training_cluster.domain.metric import LineSource, MetricLine
from training_cluster.store import attempts, curves, jobs, metric_lines, progress, tracker_runs
from training_cluster.store.metric_lines import NewLine
from training_cluster.store.tracker_runs import RunState

TRAINER, TELEMETRY = LineSource.TRAINER, LineSource.TELEMETRY


@pytest.fixture
def job(connection):
    new = a_new_job()
    jobs.insert(connection, new)
    return jobs.find(connection, new.id)


def log(connection, job, attempt, steps, source=TRAINER, name="train/loss"):
    """Lines whose values tell which attempt logged them."""
    lines = [NewLine(step, NOW + step, {name: attempt * 1000.0 + step}) for step in steps]
    ref = AttemptRef(job.id, attempt)
    metric_lines.append(connection, job.number, ref, source, lines)


def held(connection, job) -> list[tuple[int, int]]:
    """Attempt and step of every line that holds."""
    lines = metric_lines.after(connection, job.number, 0, 10_000)
    return [(line.attempt_number, line.step) for line in lines]


def rows(connection, job, name="train/loss") -> list[tuple]:
    return list(curves.rows(connection, job.number, [name]))


def test_lines_come_back_in_the_order_in_which_they_were_logged(connection, job):
    log(connection, job, 1, [0, 5, 5, 10])
    lines = metric_lines.after(connection, job.number, 0, 10)
    assert [line.step for line in lines] == [0, 5, 5, 10]
    assert [line.sequence for line in lines] == sorted({line.sequence for line in lines})
    assert lines[0] == MetricLine(
        sequence=lines[0].sequence,
        job_id=job.id,
        attempt_number=1,
        source=TRAINER,
        step=0,
        time=NOW,
        values={"train/loss": 1000.0},
    )
    assert metric_lines.after(connection, job.number, lines[1].sequence, 1) == lines[2:3]


def test_jobs_do_not_see_one_anothers_lines(connection, job):
    other = jobs.find(connection, str(jobs.insert(connection, a_new_job())))
    log(connection, job, 1, [1])
    log(connection, other, 1, [2])
    assert held(connection, other) == [(1, 2)]
    assert metric_lines.last_step(connection, job.number, TRAINER) == 1
    assert metric_lines.last_step(connection, job.number, TELEMETRY) == -1


def test_a_stretch_of_the_log_and_how_far_it_was_read_are_one_fact(connection, job):
    """What makes lines come exactly once: undone together, done together."""
    attempts.claim(connection, job, ("GPU-0",), "/x", NOW, range(29500, 29510))
    ref = AttemptRef(job.id, 1)
    points = [(TrainingPoint(Progress(n, 9), {"train/loss": 1.0}), NOW + n) for n in (1, 2)]
    connection.execute("BEGIN")
    progress.record(connection, job.number, ref, points, (0, 80))
    connection.execute("ROLLBACK")
    assert held(connection, job) == []
    assert attempts.active(connection)[0].log_offset == 0
    progress.record(connection, job.number, ref, points, (0, 80))
    assert held(connection, job) == [(1, 1), (1, 2)]
    assert attempts.active(connection)[0].log_offset == 80


def test_a_line_without_values_is_no_line(connection, job):
    attempts.claim(connection, job, ("GPU-0",), "/x", NOW, range(29500, 29510))
    points = [(TrainingPoint(Progress(9, 9), {}), NOW)]
    progress.record(connection, job.number, AttemptRef(job.id, 1), points, (0, 40))
    assert held(connection, job) == []


def test_an_attempt_that_goes_on_replaces_only_the_steps_it_makes_again(connection, job):
    log(connection, job, 1, [10, 20, 30, 40])
    log(connection, job, 2, [30, 40])
    log(connection, job, 2, [50])
    assert held(connection, job) == [(1, 10), (1, 20), (2, 30), (2, 40), (2, 50)]


def test_an_attempt_that_goes_on_behind_the_last_line_replaces_nothing(connection, job):
    log(connection, job, 1, [10, 20])
    log(connection, job, 2, [30])
    assert held(connection, job) == [(1, 10), (1, 20), (2, 30)]


def test_an_attempt_that_starts_over_replaces_everything(connection, job):
    log(connection, job, 1, [10, 20])
    log(connection, job, 2, [10])
    log(connection, job, 3, [5, 10])
    assert held(connection, job) == [(3, 5), (3, 10)]


def test_going_back_within_an_attempt_replaces_nothing(connection, job):
    """Two batches of one attempt: the second begins at the step the first ended with."""
    log(connection, job, 2, [10, 20])
    log(connection, job, 2, [20, 30])
    assert held(connection, job) == [(2, 10), (2, 20), (2, 20), (2, 30)]


def test_telemetry_is_never_replaced(connection, job):
    log(connection, job, 1, [0, 1], TELEMETRY, "system/x")
    log(connection, job, 1, [10])
    log(connection, job, 2, [5])
    log(connection, job, 2, [0], TELEMETRY, "system/x")
    assert held(connection, job) == [(1, 0), (1, 1), (2, 5), (2, 0)]


def test_a_curve_has_the_lines_that_hold_and_names_those_they_have(connection, job):
    log(connection, job, 1, [1, 2, 3], name="eval/loss")
    log(connection, job, 1, [4])
    log(connection, job, 2, [2])
    assert metric_lines.names(connection, job.number) == ["eval/loss", "train/loss"]
    assert rows(connection, job) == [(1, NOW + 1, None), (2, NOW + 2, 2002.0)]
    names = ["train/loss", "eval/loss", "unheard/of"]
    assert curves.counts(connection, job.number, names) == [1, 1, 0]


def test_all_of_any_number_of_metrics_are_read_in_one_pass(connection, job):
    values = {f"system/gpu_{n}_power": float(n) for n in range(300)}
    ref = AttemptRef(job.id, 1)
    metric_lines.append(connection, job.number, ref, TELEMETRY, [NewLine(0, NOW, values)])
    found = list(curves.rows(connection, job.number, list(values)))
    assert found == [(0, NOW, *values.values())]


# --- runs at trackers -----------------------------------------------------------------------


def runs(connection, job) -> list[tuple[int, int, RunState]]:
    found = tracker_runs.of_job(connection, job.number)
    return [(run.number, run.attempt_number, run.state) for run in found if run.tracker == "mlflow"]


def told(connection, job, number) -> list[tuple[int, str, int]]:
    """Attempt, source and step of the lines of one run."""
    (run,) = [
        run
        for run in tracker_runs.of_job(connection, job.number)
        if (run.tracker, run.number) == ("mlflow", number)
    ]
    lines = tracker_runs.lines(connection, run, 10_000)
    return [(line.attempt_number, line.source.value, line.step) for line in lines]


def start(connection, job, attempt, *trackers):
    tracker_runs.add(connection, job.number, attempt, trackers or ("mlflow",))


def test_a_job_has_one_run_at_each_tracker(connection, job):
    start(connection, job, 1, "mlflow", "wandb")
    start(connection, job, 1, "mlflow", "wandb")
    found = tracker_runs.of_job(connection, job.number)
    assert [(run.tracker, run.number) for run in found] == [("mlflow", 1), ("wandb", 1)]
    assert {run.state for run in found} == {RunState.WAITING}


def test_an_attempt_that_goes_on_goes_on_in_the_same_run(connection, job):
    start(connection, job, 1)
    log(connection, job, 1, [10, 20])
    start(connection, job, 2)
    log(connection, job, 2, [30])
    assert runs(connection, job) == [(1, 1, RunState.WAITING)]
    assert told(connection, job, 1) == [(1, "trainer", 10), (1, "trainer", 20), (2, "trainer", 30)]


def test_a_run_that_had_ended_is_open_again_for_the_next_attempt(connection, job):
    start(connection, job, 1)
    (run,) = tracker_runs.to_do(connection, "mlflow")
    tracker_runs.move(connection, run, RunState.ENDED)
    assert tracker_runs.to_do(connection, "mlflow") == []
    start(connection, job, 2)
    assert runs(connection, job) == [(1, 1, RunState.WAITING)]


def test_an_attempt_that_goes_back_begins_a_run_with_the_lines_that_still_hold(connection, job):
    start(connection, job, 1)
    log(connection, job, 1, [10, 20, 30])
    log(connection, job, 1, [0, 1], TELEMETRY, "system/x")
    start(connection, job, 2)
    log(connection, job, 2, [20, 30])
    assert runs(connection, job) == [(1, 1, RunState.WAITING), (2, 2, RunState.WAITING)]
    assert told(connection, job, 1) == [
        (1, "trainer", 10), (1, "trainer", 20), (1, "trainer", 30),
        (1, "telemetry", 0), (1, "telemetry", 1),
    ], "the first run keeps what it was told"  # fmt: skip
    assert told(connection, job, 2) == [(1, "trainer", 10), (2, "trainer", 20), (2, "trainer", 30)]


def test_what_a_run_was_told_never_changes_by_position(connection, job):
    """A tracker is told `the first n lines`: those must stay the first n, whatever comes."""
    dice = random.Random(7)
    start(connection, job, 1)
    step, samples = 0, 0
    known: dict[int, list] = {}
    for attempt in range(1, 30):
        if attempt > 1:
            start(connection, job, attempt)
            step = max(0, step - dice.choice([-5, 0, 3, 20]))
        for _ in range(dice.randrange(6)):
            step += dice.randrange(3)
            log(connection, job, attempt, [step])
            if dice.random() < 0.5:
                log(connection, job, attempt, [samples], TELEMETRY, "system/x")
                samples += 1
            for number, _, _ in runs(connection, job):
                now = told(connection, job, number)
                assert now[: len(known.get(number, []))] == known.get(number, [])
                known[number] = now
    assert len(known) > 5, "the dice had attempts go back"
    last = max(known)
    steps = [step for _, source, step in known[last] if source == "trainer"]
    assert steps == [step for _, step, _ in trainer_lines(connection, job)]


def trainer_lines(connection, job) -> list[tuple]:
    lines = metric_lines.after(connection, job.number, 0, 10_000)
    return [(x.attempt_number, x.step, json.dumps(x.values)) for x in lines if x.source is TRAINER]


def test_lines_are_counted_as_sent_once(connection, job):
    start(connection, job, 1)
    log(connection, job, 1, [1, 2, 3])
    (run,) = tracker_runs.to_do(connection, "mlflow")
    tracker_runs.opened(connection, run, "r-1", "http://x", None, None)
    (run,) = tracker_runs.to_do(connection, "mlflow")
    first = tracker_runs.lines(connection, run, 2, after=run.sent_sequence)
    tracker_runs.sent(connection, run, 2, first[-1].sequence)
    tracker_runs.sent(connection, run, 2, first[-1].sequence)
    (run,) = tracker_runs.to_do(connection, "mlflow")
    assert (run.state, run.run_id, run.sent_lines) == (RunState.OPEN, "r-1", 2)
    rest = tracker_runs.lines(connection, run, 10, after=run.sent_sequence)
    assert [line.step for line in rest] == [3]


@pytest.mark.parametrize("recorded", [0, 1, 3])
def test_a_tracker_that_says_how_much_it_has_is_believed(connection, job, recorded):
    start(connection, job, 1)
    log(connection, job, 1, [1, 2, 3])
    (run,) = tracker_runs.to_do(connection, "mlflow")
    tracker_runs.opened(connection, run, "r-1", None, recorded, "kept offline")
    (run,) = tracker_runs.to_do(connection, "mlflow")
    assert (run.sent_lines, run.message) == (recorded, "kept offline")
    rest = tracker_runs.lines(connection, run, 10, after=run.sent_sequence)
    assert [line.step for line in rest] == [1, 2, 3][recorded:]
