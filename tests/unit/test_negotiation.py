"""Which form of an answer a client prefers."""

from __future__ import annotations

import pytest

from training_cluster.api.negotiation import wants_csv


@pytest.mark.parametrize(
    ("accept", "csv"),
    [
        ("", False),
        ("*/*", False),
        ("text/csv", True),
        ("Text/CSV; header=present", True),
        ("text/*", True),
        ("text/csv, */*;q=0.1", True),
        ("application/json, text/csv;q=0.5", False),
        ("application/json;q=0.5, text/csv;q=0.9", True),
        ("text/csv, application/json", False),
        ("text/csv;q=0, */*", False),
        ("text/csv;q=0.2, text/*, */*;q=0.5", False),
        ("text/html, application/xhtml+xml, */*;q=0.8", False),
        ("text/csv;q=banana", False),
        ("text/csv;q=17", False),
        (";;,,;q=", False),
    ],
)
def test_csv_is_given_to_whom_it_is_more_welcome_than_json(accept, csv):
    assert wants_csv(accept) is csv
