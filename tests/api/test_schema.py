"""Whatever the documented API allows or forbids: never an answer of 500 or above, and answers as
documented."""

from __future__ import annotations

import asyncio
import contextlib
import re
from itertools import chain, islice

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.api.fuzzing import SAID, Answers, assert_well, send_all, send_generated
from tests.api.raw_corpus import JSON, READS, WRITES, hand_made, request
from tests.api.raw_corpus import mutants as mutants_of
from tests.daemon_process import running_daemon
from tests.raw_http import talk
from tests.trust import Promise

HELD = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/sh -c 'exec sleep 3600'"}
SEED = 4


def no_server_error(context, response, case):
    return None if response.status_code in SAID else not_a_server_error(context, response, case)


CHECKS = [no_server_error, response_schema_conformance]
TOLD = {"type", "title", "description", "default", "example", "examples"}  # restricts no word


def takes_any_words(operation) -> bool:
    """Nothing about such a request can be forbidden; schemathesis gives up after hundreds of
    tries."""
    words = [parameter.definition["schema"] for parameter in operation.path_parameters]
    words += [parameter.definition["schema"] for parameter in operation.headers]
    free = all(word.get("type") == "string" and word.keys() <= TOLD for word in words)
    return free and not operation.body and not operation.query


def probe(daemon, mode: GenerationMode, examples: int) -> int:
    """Send generated requests to every operation; returns how many there were."""
    schema = schemathesis.openapi.from_dict(daemon.client.get("/openapi.json").json())
    sent, base = 0, str(daemon.client.base_url)

    def send(case) -> None:
        nonlocal sent
        case.call_and_validate(base_url=base, checks=CHECKS, timeout=60)
        sent += 1

    # of all streams only this one never ends
    for found in schema.exclude(path="/events/stream").get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and takes_any_words(operation):
            continue
        strategy = operation.as_strategy(generation_mode=mode)
        limits = settings(
            max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
        )
        with contextlib.suppress(Unsatisfiable):  # perhaps nothing about it can be forbidden
            limits(given(case=strategy)(send))()
    return sent


def fuzz(daemon, *, generated: int, every: int, mutants: int) -> Answers:
    """Generated requests, the raw corpus (each `every`th of it) and mutants of it. The slot is
    taken, so that jobs which are accepted only wait."""
    daemon.submit()
    assert daemon.process is not None
    pid, answers = daemon.process.pid, Answers()
    send_generated(daemon, generated, answers)
    raw = chain(islice(hand_made(), 0, None, every), islice(mutants_of(SEED), mutants))
    asyncio.run(send_all(daemon.port, raw, answers))
    assert not answers.broken, answers.broken[:5]
    assert_well(daemon, pid)
    return answers


@pytest.mark.timeout(900)
def test_documented_requests_are_answered_as_documented(quick_daemon):
    assert probe(quick_daemon, GenerationMode.POSITIVE, 20) > 100


@pytest.mark.timeout(900)
def test_forbidden_requests_never_end_in_a_500(quick_daemon):
    assert probe(quick_daemon, GenerationMode.NEGATIVE, 20) > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_documented_requests_are_answered_as_documented_for_long(quick_daemon):
    assert probe(quick_daemon, GenerationMode.POSITIVE, 1000) > 5000


def test_whatever_comes_in_whatever_bytes_nothing_is_answered_by_500(tmp_path, trust):
    with running_daemon(tmp_path / "state", HELD) as daemon:
        answers = fuzz(daemon, generated=0, every=12, mutants=500)
    trust(Promise.FUZZING, str(answers), form="short")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_hundred_thousand_requests_are_answered_without_a_500(tmp_path, trust):
    with running_daemon(tmp_path / "state", HELD) as daemon:
        answers = fuzz(daemon, generated=20_000, every=1, mutants=80_000)
    assert answers.sent >= 100_000
    trust(Promise.FUZZING, str(answers), form="full")


def test_a_body_of_100_megabytes_that_is_really_sent_is_refused(quick_daemon):
    head = request("POST", "/train", JSON + b"Content-Length: %d\r\n" % (100 << 20))
    heard = talk(quick_daemon.port, head, *[b" " * (1 << 20)] * 100, seconds=20)
    assert heard.statuses in ([413], [])  # a reset may come before the answer
    chunked = request("POST", "/train", JSON + b"Transfer-Encoding: chunked\r\n")
    pieces = [b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 100
    assert talk(quick_daemon.port, chunked, *pieces, seconds=20).statuses in ([413], [])
    assert quick_daemon.client.get("/train").json()["jobs"] == []


def test_every_route_is_in_the_raw_corpus(quick_daemon):
    named = {tuple(write.split()) for write in WRITES} | {("GET", path) for path in READS}
    paths = quick_daemon.client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        for method in operations:
            found = any(
                verb == method.upper() and re.fullmatch(pattern, place) for verb, place in named
            )
            assert found, f"add {method.upper()} {path} to tests/api/raw_corpus.py"
