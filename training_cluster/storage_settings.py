"""Settings of what lies on the disk: room to keep, and what goes by itself."""

from __future__ import annotations

from pydantic import Field

from training_cluster.settings_sections import Section

_MOST_DAYS = 36_500


class DiskSettings(Section):
    """Room on the disk of the state directory."""

    ballast_mib: int = Field(
        default=64,
        ge=0,
        le=1_000_000,
        description="Kept in a file to be given away when the disk is full, so that the ends of "
        "running jobs can be recorded.",
    )
    reserve_mib: int = Field(
        default=512, ge=0, le=100_000_000, description="No job may count on this much."
    )
    preflight: bool = Field(
        default=True, description="Hold a job back while what it is likely to write does not fit."
    )


class RetentionSettings(Section):
    """What of finished jobs is removed by itself, and when; 0: never. Models never are."""

    checkpoints_days: float = Field(
        default=0.0, ge=0, le=_MOST_DAYS, description="Those on the way to a model."
    )
    logs_days: float = Field(default=0.0, ge=0, le=_MOST_DAYS)
    jobs_days: float = Field(
        default=0.0, ge=0, le=_MOST_DAYS, description="Jobs that left no model, as a whole."
    )
    caches_hours: float = Field(
        default=1.0, ge=0, le=876_000, description="Converted datasets; copies of runs W&B has."
    )
    deliveries_days: float = Field(
        default=90.0, ge=0, le=_MOST_DAYS, description="Notifications that came to their end."
    )


class DatasetSettings(Section):
    """What people hand in to train on: docs/datasets.md."""

    most_gib: float = Field(default=50.0, gt=0, le=1_000_000, description="Of one file.")
    unfinished_days: float = Field(
        default=7.0, gt=0, le=_MOST_DAYS, description="Uploads begun so long ago are given up."
    )
    hub_url: str = Field(
        default="https://huggingface.co",
        pattern=r"^https?://[^\s/?#]+/?$",
        description="Where datasets named by a hub id are fetched from.",
    )
