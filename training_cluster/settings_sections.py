"""Sections of the settings that need nothing but numbers and words."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training_cluster.scheduling.retry import LostAttempts


class Section(BaseModel):
    """Frozen; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricsSettings(Section):
    """What is measured while a job runs."""

    telemetry_seconds: float = Field(
        default=15.0, ge=0, le=3600, description="Between two samples of a device; 0: none."
    )
    most_mib: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Of an attempt's metrics log this much is kept and told, a million lines.",
    )


class LogSettings(Section):
    """The trainers' logs."""

    most_mib: int = Field(
        default=256,
        ge=0,
        le=1_000_000,
        description="Disk a log may take; its middle is given up first. 0: no limit.",
    )


class RecoverySettings(Section):
    """What becomes of attempts that were lost to a reboot or with their runner."""

    lost_attempts: LostAttempts = Field(
        default=LostAttempts.RESUME,
        description="resume: from the last checkpoint, without counting against max_retries. "
        "fail: as any other failure.",
    )
    most_losses: int = Field(
        default=3,
        ge=0,
        le=100,
        description="In a row without a new checkpoint; the next one fails the job.",
    )


class HangSettings(Section):
    """Trainers that do nothing any more: docs/hangs.md."""

    warn_seconds: float = Field(
        default=1800.0, ge=0, le=30 * 86_400, description="Tell after so long; 0: never."
    )
    stop: Literal["never", "stop"] = Field(
        default="never", description="stop: end the attempt after stop_seconds."
    )
    stop_seconds: float = Field(default=3600.0, gt=0, le=30 * 86_400)
    no_step_seconds: float = Field(
        default=0.0, ge=0, le=30 * 86_400, description="So long without a step counts too; 0: no."
    )
