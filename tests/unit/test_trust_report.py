"""docs/trust-report.md is made of measured figures, and each promise has a test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import trust
from tests.trust import FIGURES, REPORT, ROOT, Promise, keep, render


def measuring() -> str:
    """The text of all tests but this one."""
    files = (path for path in ROOT.glob("tests/**/*.py") if path.name != Path(__file__).name)
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("promise", Promise, ids=lambda promise: promise.name)
def test_each_promise_is_measured_by_a_test(promise):
    text = measuring()
    assert re.search(rf"Promise\.{promise.name}\b", text), f"no test measures {promise.title}"


def test_the_report_says_what_was_measured():
    assert REPORT.read_text() == render(json.loads(FIGURES.read_text()))


def test_a_short_form_does_not_replace_what_the_long_one_has_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(trust, "REPORT", tmp_path / "report.md")
    figure = {"when": "2026-01-02, abc", "command": "scripts/test --all x"}
    for form, reached in (("full", "200 kills"), ("short", "16 kills")):
        keep(Promise.KILLS, {**figure, "form": form, "reached": reached})
    report = (tmp_path / "report.md").read_text()
    assert "200 kills" in report
    assert "16 kills" not in report
    assert report.count("not measured yet") == len(Promise) - 1
