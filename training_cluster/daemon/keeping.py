"""Puts together what looks after the disk, by the settings."""

from __future__ import annotations

from training_cluster.daemon.datasets import DatasetParts
from training_cluster.domain.device import MIB
from training_cluster.domain.prune import PruneKind
from training_cluster.ports import Clock
from training_cluster.services.ballast import Ballast
from training_cluster.services.disk import DiskPolicy, DiskWatch
from training_cluster.services.retention import Retention, RetentionPolicy, Secrets
from training_cluster.settings import Settings
from training_cluster.store.database import Database

_HOUR, _DAY = 3600.0, 86_400.0


def ballast(settings: Settings) -> Ballast:
    """The room that is given away when the disk is full."""
    return Ballast(settings.state_dir / "ballast", settings.disk.ballast_mib * MIB)


def disk_watch(settings: Settings, database: Database, room: Ballast, clock: Clock) -> DiskWatch:
    """The watch over the disk of the state directory."""
    disk = settings.disk
    policy = DiskPolicy(reserve_bytes=disk.reserve_mib * MIB, is_preflight=disk.preflight)
    return DiskWatch(database, room, clock, settings.state_dir, policy)


def retention(
    settings: Settings,
    database: Database,
    secrets: Secrets,
    clock: Clock,
    datasets: DatasetParts,
) -> Retention:
    """What removes what is no longer wanted; a kind with 0 stays until somebody asks."""
    chosen = settings.retention
    seconds = {
        PruneKind.CACHES: chosen.caches_hours * _HOUR,
        PruneKind.CHECKPOINTS: chosen.checkpoints_days * _DAY,
        PruneKind.LOGS: chosen.logs_days * _DAY,
        PruneKind.JOBS: chosen.jobs_days * _DAY,
        PruneKind.DELIVERIES: chosen.deliveries_days * _DAY,
    }
    policy = RetentionPolicy({kind: after for kind, after in seconds.items() if after > 0})
    return Retention(database, secrets, clock, settings.state_dir, policy, datasets.handed_in)
