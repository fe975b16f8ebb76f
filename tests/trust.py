"""The promises of docs/trust-report.md, and how a test reports the figure it measured.

A test that measures a promise takes the fixture `trust` and calls
`trust(Promise.KILLS, "200 kills: 0 lost, ...", form="full")` once it holds. With
`--trust-report` pytest keeps the figures in docs/trust-figures.json and writes the report anew; a
promise that a run did not measure keeps the figure, date and commit it has."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "trust-figures.json"
REPORT = ROOT / "docs" / "trust-report.md"
Form = Literal["short", "full"]


class Promise(Enum):
    """What may never happen, and the figure to reach."""

    KILLS = (
        "kill -9 of the daemon, half at named points",
        "200 kills: 0 lost, 0 launched twice, 0 wrong exit codes, 0 leaked devices",
    )
    SUBMISSIONS = ("submissions after a kill", "500 acknowledged, 500 present")
    ADOPTION = (
        "20 live trainers across a restart",
        "all adopted, right exit code within 2 s",
    )
    CANCEL = (
        "cancel of setsid, TERM-ignoring trees",
        "200: 0 processes left after grace + 2 s",
    )
    INVARIANTS = (
        "scheduler invariants (hypothesis, stateful)",
        "20,000 runs x 60 steps, 0 violations",
    )
    NVML = (
        "NVML lost, hung, crashed at every call",
        "0 launches on a doubtful device, API p99 < 200 ms",
    )
    OUTAGE = (
        "tracker or receiver down 6 h (fake clock)",
        "0 jobs held up, bounded spool, every final event delivered",
    )
    FUZZING = ("schemathesis + raw corpus", "100,000 cases, 0 answers >= 500")
    NAMES = ("5,000 hostile names x every field", "0 path escapes")
    SSRF = ("100 SSRF URLs + rebinding + redirects", "0 internal connections")
    ACCESS = (
        "route x role x owner x listener",
        "full matrix generated from OpenAPI; a route without a row fails",
    )
    CANARIES = ("secrets canaries", "0 sightings")
    HALF_OPEN = (
        "500 half-open connections + 200 SSE",
        "/healthz < 100 ms, half-open closed within 20 s",
    )
    UPLOADS = (
        "a dataset of 5 GB over loopback",
        "over 70 % of the speed of a copy, daemon grows < 50 MB",
    )
    MEMORY = ("1 GB of trainer log, 10,000 jobs", "daemon grows < 20 MB")
    RESUME = (
        "a real run paused twice and killed once",
        "the steps of an uninterrupted run, a loss curve without gap or repeat",
    )

    @property
    def title(self) -> str:
        """The promise in words."""
        return self.value[0]

    @property
    def target(self) -> str:
        """The figure to reach."""
        return self.value[1]


def keep(promise: Promise, figure: dict[str, Any]) -> None:
    """Add a figure to those known, and write the report. At once: a run of hours that is cut off
    has told what it measured."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    old = known.get(promise.name)
    if old and old["form"] == "full" and figure["form"] == "short":
        return  # a short form does not replace what the long one has shown
    known[promise.name] = figure
    FIGURES.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    REPORT.write_text(render(known))


def render(known: dict[str, dict[str, Any]]) -> str:
    """The report as Markdown."""
    lines = [
        "# Trust report",
        "",
        "Made by `scripts/test --all`, which measures every row anew; do not edit it. What the",
        "promises mean is in [security.md](security.md). Each figure was printed by the test that",
        "its command runs; a test that misses its target fails and leaves no figure.",
        "",
        "| promise | target | reached | form | measured | command |",
        "|---|---|---|---|---|---|",
    ]
    for promise in Promise:
        figure = known.get(promise.name)
        cells = [promise.title, promise.target]
        if figure is None:
            cells += ["not measured yet", "", "", ""]
        else:
            cells += [figure["reached"], figure["form"], figure["when"], f"`{figure['command']}`"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


@pytest.fixture
def trust(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Reports a figure: `trust(Promise.KILLS, "what was reached", form="full")`."""

    def report(promise: Promise, reached: str, *, form: Form) -> None:
        print(f"{promise.title}: {reached} (target: {promise.target}; {form} form)")
        if not request.config.getoption("--trust-report"):
            return
        figure = {
            "reached": reached,
            "form": form,
            "when": f"{datetime.now(UTC):%Y-%m-%d}, {_commit()}, {_machine()}",
            "command": f"scripts/test --all {request.node.nodeid.partition('[')[0]}",
        }
        keep(promise, figure)

    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--trust-report` writes docs/trust-report.md."""
    parser.addoption("--trust-report", action="store_true", help="write docs/trust-report.md")


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return found.stdout.strip() or "no commit"


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"
