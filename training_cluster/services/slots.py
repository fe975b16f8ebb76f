"""Jobs that take no device: how many of them may run, and where they stand in the queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from training_cluster.domain.disk import DiskRoom
from training_cluster.domain.job import QueuedJob
from training_cluster.scheduling.plan import DeviceStatus, Snapshot
from training_cluster.store import apart

_HEAD = 64


@dataclass(frozen=True, slots=True)
class Slots:
    """At most `most` jobs without a device run at a time."""

    most: int = 2

    def snapshot(
        self,
        connection: sqlite3.Connection,
        queued: Sequence[QueuedJob],
        devices: Sequence[DeviceStatus],
        disk: DiskRoom | None,
    ) -> Snapshot:
        """What a plan rests on. Jobs without a device are in it however deep in the queue they
        are: nothing that waits for devices is in their way."""
        beside = apart.queued(connection, _HEAD)
        if not beside and all(job.gpus for job in queued):
            return Snapshot(queued, devices, disk)
        known = {job.id for job in queued}
        everybody = [*queued, *(job for job in beside if job.id not in known)]
        return Snapshot(everybody, devices, disk, self.free(connection), self.most)

    def free(self, connection: sqlite3.Connection) -> int:
        """How many more may start."""
        return max(0, self.most - apart.running(connection))
