"""Named places at which a test can have a process die as if by kill -9. Stdlib only.

`TRAINING_CLUSTER_CRASH_AT=<point>[:<n>]` kills the process the n-th time it reaches the point (the
first, if no number is given). Without the variable a point costs one comparison. Everything the
daemon promises must hold wherever it dies: tests make it die at every one of `POINTS`, and a runner
at every one of `RUNNER_POINTS`.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "TRAINING_CLUSTER_CRASH_AT"
POINTS = frozenset(
    {
        "migration.before_commit",  # a step of the schema is written, not committed
        "store.before_commit",  # changes of any kind are written, not committed
        "store.after_commit",  # they are durable, nobody was told
        "submit.before_commit",  # the job is written, its transaction is not committed
        "submit.after_commit",  # the job is durable and perhaps claimed, its client has no answer
        "webhook.address_written",  # a webhook's address lies in its file, its row does not exist
        "webhook.row_deleted",  # the row is gone, the file with its address is not
        "claim.after_commit",  # attempt and leases are durable, nothing was started
        "dataset.received",  # the content of a dataset lies on the disk, its row does not exist
        "dataset.published",  # its checked files have their names, the store does not know
        "dataset.deleted",  # the row is gone, its files are not
        "model.deleted",  # the record says that the model is gone, its files are still there
        "model.removed",  # its files are gone, the record does not say so
        "prepare.after_files",  # the trainer's files are written, no runner was asked for
        "stage.before_runner",  # launch.json is written for a job that is still queued
        "stage.after_runner",  # a runner waits for the word to start that will never come
        "start.before_runner",  # launch.json is written, the runner was not asked for
        "start.asked",  # a runner was asked for, the answer was not read
        "start.after_runner",  # the runner has the attempt, the store does not know
        "start.after_go",  # a staged runner has the word to start, the store does not know
        "running.after_commit",  # the store knows that the attempt runs, nobody watches it
        "stop.after_commit",  # the job is stopping, its runner was not told
        "stop.before_signal",  # stop.json is written, the runner was not signalled
        "stop.after_signal",  # the runner was told
        "end.told",  # the runner has told how the trainer ended, perhaps before its exit.json
        "end.before_commit",  # the trainer has ended, the store does not know
        "end.after_commit",  # devices are free and may be leased again, nobody was told
        "metrics.before_commit",  # lines of the trainer's log were read and not stored
        "recovery.before_adoption",  # a new daemon has found an attempt and not taken it over
        "recovery.after_adoption",  # it has told the store so, and does not watch it yet
        "delivery.before_send",  # what is to be sent is fixed, it was not sent
        "delivery.before_result",  # a notification was sent, its outcome is not stored
    }
)
RUNNER_POINTS = frozenset(
    {
        "runner.started",  # `started` is created, no trainer was spawned
        "runner.spawned",  # the trainer runs, no pid.json names it
        "runner.ended",  # no process is left, nobody was told
        "runner.told",  # the daemon was told, if there is one, exit.json is not written
    }
)

_point, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or 1)


def crash_point(name: str) -> None:
    """Die here, if a test asked for it."""
    if _point and name == _point:
        _die_at_last()


def _die_at_last() -> None:
    global _left
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
