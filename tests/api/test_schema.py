"""Whatever the documented API allows or forbids: never an answer of 500 or above, and answers as
documented."""

from __future__ import annotations

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

CHECKS = [not_a_server_error, response_schema_conformance]


def probe(daemon, mode: GenerationMode, examples: int) -> int:
    """Send generated requests to every operation; returns how many there were."""
    schema = schemathesis.openapi.from_url(f"{daemon.client.base_url}/openapi.json")
    sent = 0

    def send(case) -> None:
        nonlocal sent
        case.call_and_validate(checks=CHECKS, timeout=20)
        sent += 1

    # of all streams only this one never ends
    for found in schema.exclude(path="/events/stream").get_all_operations():
        strategy = found.ok().as_strategy(generation_mode=mode)
        limits = settings(
            max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
        )
        with contextlib.suppress(Unsatisfiable):  # nothing about it can be forbidden
            limits(given(case=strategy)(send))()
    return sent


def test_documented_requests_are_answered_as_documented(quick_daemon):
    assert probe(quick_daemon, GenerationMode.POSITIVE, 20) > 100


def test_forbidden_requests_never_end_in_a_500(quick_daemon):
    assert probe(quick_daemon, GenerationMode.NEGATIVE, 20) > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_documented_requests_are_answered_as_documented_for_long(quick_daemon):
    assert probe(quick_daemon, GenerationMode.POSITIVE, 1000) > 5000
