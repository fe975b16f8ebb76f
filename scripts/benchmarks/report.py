"""Collects the figures of a run, holds them against their targets and floors, and prints them."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure. `at_least` tells that more is better."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    floor: float | None = None
    samples: int = 1
    rounds: tuple[float, ...] = ()

    @property
    def ok(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value < self.target

    @property
    def ratio(self) -> float | None:
        """How many times worse than the floor."""
        if not self.floor or not self.value:
            return None
        return self.floor / self.value if self.at_least else self.value / self.floor

    def as_json(self) -> dict[str, Any]:
        """The figure with what follows from it, rounded to what is meant."""
        judged = {**asdict(self), "ratio": self.ratio, "ok": self.ok}
        return {name: _rounded(value) for name, value in judged.items() if value != ()}


class Report:
    """The figures of one run, in the order in which they were measured."""

    def __init__(self, *, quick: bool, show_progress: bool) -> None:
        self.figures: list[Figure] = []
        self.details: dict[str, Any] = {}
        self._about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "quick": quick}
        self._load_before = os.getloadavg()
        self._show_progress = show_progress

    def progress(self, what: str) -> None:
        """Tell whoever waits what is being measured."""
        if self._show_progress:
            sys.stderr.write(f"{what} ...\n")
            sys.stderr.flush()

    def add(self, figure: Figure) -> None:
        """Add a figure."""
        self.figures.append(figure)

    def latency(
        self,
        name: str,
        milliseconds: Sequence[float],
        *,
        p50: float | None = None,
        p95: float | None = None,
        floor: Sequence[float] = (),
        rounds: tuple[float, ...] = (),
    ) -> None:
        """Add the median and the 95th percentile of a latency, with those of its floor."""
        for label, share, target in (("p50", 0.5, p50), ("p95", 0.95, p95)):
            self.add(
                Figure(
                    name=f"{name}_{label}",
                    value=quantile(milliseconds, share),
                    unit="ms",
                    target=target,
                    floor=quantile(floor, share) if floor else None,
                    samples=len(milliseconds),
                    rounds=rounds if label == "p50" else (),
                )
            )

    def missed(self) -> list[Figure]:
        """The figures that do not reach their target."""
        return [figure for figure in self.figures if figure.ok is False]

    def as_json(self) -> dict[str, Any]:
        """The whole run."""
        return {
            **self._about,
            "machine": _machine(self._load_before),
            "figures": [figure.as_json() for figure in self.figures],
            "details": _rounded(self.details),
        }

    def table(self) -> str:
        """The figures for people."""
        head = f"{'figure':34}{'value':>12} {'unit':6}{'target':>12}{'floor':>12}{'ratio':>8}"
        return "\n".join([head, *map(_line, self.figures)]) + "\n"


def _line(figure: Figure) -> str:
    sign = "≥" if figure.at_least else "<"
    target = "" if figure.target is None else f"{sign} {figure.target:g}"
    floor = "" if figure.floor is None else _digits(figure.floor)
    ratio = "" if figure.ratio is None else f"{figure.ratio:.1f}x"
    verdict = {True: "  ok", False: "  MISS", None: ""}[figure.ok]
    value = _digits(figure.value)
    return f"{figure.name:34}{value:>12} {figure.unit:6}{target:>12}{floor:>12}{ratio:>8}{verdict}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _machine(load_before: tuple[float, float, float]) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model n" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average_before": load_before,
        "load_average_after": os.getloadavg(),
    }
