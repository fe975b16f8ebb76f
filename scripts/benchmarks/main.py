"""The command line of `scripts/bench`: which scenarios, how much, and how to show the figures."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import dialects, history, idling, running, streaming, submitting, uploading
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.report import Report

_SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "submitting": submitting.run,
    "running": running.run,
    "streams": streaming.run,
    "history": history.run,
    "dialects": dialects.run,
    "uploads": uploading.run,
    "idling": idling.run,
}


def main(arguments: list[str]) -> int:
    """Measure, print one JSON document on stdout; 1 when --check finds a missed target."""
    options = _parser().parse_args(arguments)
    report = Report(quick=options.quick, show_progress=not options.json)
    with tempfile.TemporaryDirectory(
        prefix="training-cluster-bench-", dir=options.directory, ignore_cleanup_errors=True
    ) as directory:
        _run(options.only or list(_SCENARIOS), directory, report, quick=options.quick)
    sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    if not options.json:
        sys.stderr.write(report.table())
    return 1 if options.check and report.missed() else 0


def _run(names: list[str], directory: str, report: Report, *, quick: bool) -> None:
    bench = Bench(Path(directory), QUICK if quick else FULL, report)
    try:
        for name in names:
            _SCENARIOS[name](bench)
    finally:
        bench.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON, nothing on stderr")
    parser.add_argument("--quick", action="store_true", help="fewer samples, under 30 seconds")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument(
        "--only", action="append", choices=list(_SCENARIOS), help="this scenario; may be repeated"
    )
    parser.add_argument(
        "--directory", help="where to keep the state directories, for the disk in question"
    )
    return parser
