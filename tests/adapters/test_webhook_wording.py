"""Words of notifications: durations, curves and names as people read them."""

from __future__ import annotations

import json

import pytest

from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.adapters.webhook.wording import duration, headline, one_line, sparkline
from training_cluster.ports import EndpointFormat


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (41.4, "41 s"),
        (59.6, "1 min"),
        (725, "12 min 5 s"),
        (7200, "2 h"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
        (None, ""),
        (-1, ""),
        (float("nan"), ""),
        (float("inf"), ""),
        (10**400, ""),
        ("x", ""),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("curve", "bars"),
    [
        ([1.0, 2.0], "▁█"),
        ([3, 3, 3], "▁▁▁"),
        ([2.0, float("nan"), 1.0], "█·▁"),
        ([1.0], ""),
        ([], ""),
        (None, ""),
        ([float("inf"), float("nan")], ""),
        ([1e308, -1e308, 0], "█▁▅"),
    ],
)
def test_a_curve_is_drawn_from_its_lowest_to_its_highest_point(curve, bars):
    assert sparkline({"data": {"job": {"loss_curve": curve}}}) == bars


def test_a_job_without_a_name_goes_by_its_number():
    assert (
        headline({"type": "job.completed", "data": {"job": {"number": 12}}}) == "Completed: job 12"
    )


def test_terminal_colours_and_unseen_characters_are_left_out():
    assert one_line("\x1b[1;31mred\x1b[0m\x1b]0;title\x07 \u202eok\x00") == "red ok"


def test_the_standard_form_is_the_document_as_compact_json():
    document = {
        "type": "job.failed",
        "data": {"job": {"final_loss": float("nan"), "name": "ü\ud800"}},
    }
    body = WebhookNotifier((), 1.0).render(EndpointFormat.STANDARD, document)
    assert b" " not in body
    expected = {"type": "job.failed", "data": {"job": {"final_loss": None, "name": "ü\ud800"}}}
    assert json.loads(body) == expected
