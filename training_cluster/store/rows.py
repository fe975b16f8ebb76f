"""Rows that several tables' modules read the same way."""

from __future__ import annotations

import json
import sqlite3

from training_cluster.domain.metric import LineSource, MetricLine


def metric_line(row: sqlite3.Row) -> MetricLine:
    """A selected metric line."""
    return MetricLine(
        sequence=row["sequence"],
        job_id=row["job_id"],
        attempt_number=row["attempt_number"],
        source=LineSource(row["source"]),
        step=row["step"],
        time=row["time"],
        values=json.loads(row["metrics"]),
    )
