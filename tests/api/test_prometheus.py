"""GET /metrics over a real daemon, and the layer that counts requests."""

from __future__ import annotations

import contextlib

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)

from tests.daemon_process import DaemonProcess, eventually, running_daemon
from tests.exported import exported, parse, requests, some_figures
from training_cluster.api import exposition
from training_cluster.api.request_metrics import CountRequests, RequestMetrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# what Prometheus 3 sends
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Scrape:
    """One answer of /metrics."""

    def __init__(self, daemon: DaemonProcess) -> None:
        response = daemon.client.get("/metrics")
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        self.samples = parse(response.text)

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[f"training_cluster_{name}", frozenset(labels.items())]

    def series(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of a name."""
        full = f"training_cluster_{name}"
        return [dict(labels) for found, labels in self.samples if found == full]


def test_running_and_waiting_jobs_are_seen(held_daemon):
    first = held_daemon.submit()
    held_daemon.wait_for(first["job_id"], "running")
    held_daemon.submit()
    held_daemon.submit(priority=5)
    scrape = Scrape(held_daemon)
    assert scrape("queue_jobs", priority="0") == 1
    assert scrape("queue_jobs", priority="5") == 1
    assert scrape("queue_oldest_age_seconds", priority="0") > 0
    assert (scrape("jobs", state="running"), scrape("jobs", state="queued")) == (1, 2)
    assert scrape("attempts_running") == 1
    where = {"device": "CPU-0", "index": "0"}
    assert scrape("device_leased", **where) == 1
    assert scrape("device_standing", **where, standing="leased") == 1
    assert scrape("device_standing", **where, standing="free") == 0
    assert scrape("device_memory_total_bytes", **where) > 1e8


def test_the_oldest_age_grows_while_a_job_waits(held_daemon):
    held_daemon.submit()
    held_daemon.submit()
    first = Scrape(held_daemon)("queue_oldest_age_seconds", priority="0")
    eventually(lambda: Scrape(held_daemon)("queue_oldest_age_seconds", priority="0") > first)


def test_ended_attempts_are_counted_and_outlive_the_daemon(tmp_path):
    state = tmp_path / "state"
    with running_daemon(state, {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}) as daemon:
        daemon.wait_for(daemon.submit()["job_id"])
    with running_daemon(state, {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/false"}) as daemon:
        daemon.wait_for(daemon.submit()["job_id"], "failed")
        scrape = Scrape(daemon)
    assert scrape("attempts_total", outcome="completed") == 1
    assert scrape("attempts_total", outcome="trainer_error") == 1
    assert scrape("attempts_total", outcome="out_of_memory") == 0, "so that rate() has a start"
    assert scrape("jobs", state="completed") == 1


def test_every_start_is_measured_and_every_wait_for_the_device(quick_daemon):
    jobs = [quick_daemon.submit()["job_id"] for _ in range(6)]
    for job in jobs:
        quick_daemon.wait_for(job)
    scrape = Scrape(quick_daemon)
    waited = scrape("scheduling_latency_seconds_count", waited="yes")
    assert waited + scrape("scheduling_latency_seconds_count", waited="no") == len(jobs)
    assert waited >= 1
    assert waited == scrape("idle_gap_seconds_count")
    assert scrape("scheduling_latency_seconds_sum", waited="yes") > 0


@pytest.mark.parametrize(
    "accept",
    [PROMETHEUS_ACCEPT, "application/openmetrics-text", "application/openmetrics-text; version=x"],
)
def test_openmetrics_is_given_to_who_asks_for_it(shared_daemon, accept):
    response = shared_daemon.client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"] == OPENMETRICS
    found = {family.name for family in openmetrics_families(response.text)}
    assert {"training_cluster_build", "training_cluster_attempts", "process_cpu_seconds"} <= found


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/plain;version=9;escaping=%"])
def test_everybody_else_gets_plain_text(shared_daemon, accept):
    response = shared_daemon.client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_scraping_follows_the_rule_of_all_routes(shared_daemon):
    response = shared_daemon.client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
    assert response.status_code == 401


def test_requests_are_counted_by_template_method_and_status_class(quick_daemon):
    job = quick_daemon.submit()["job_id"]
    for path in (f"/train/{job}", f"/train/{job[:-1]}", "/train/99", "/no/such/path", "/../etc"):
        quick_daemon.client.get(path)
    quick_daemon.client.request("PROPFIND", "/train")
    quick_daemon.client.patch("/train")
    scrape = Scrape(quick_daemon)

    def count(method: str, route: str, status: str) -> float:
        return scrape("http_requests_total", method=method, route=route, status=status)

    assert count("POST", "/train", "2xx") == 1
    assert count("GET", "/train/{job_id}", "2xx") == 1
    assert count("GET", "/train/{job_id}", "4xx") == 2
    assert count("GET", "other", "4xx") == 2
    assert count("other", "/train", "4xx") == 1
    assert count("PATCH", "/train", "4xx") == 1
    routes = {labels["route"] for labels in scrape.series("http_requests_total")}
    documented = quick_daemon.client.get("/openapi.json").json()["paths"].keys()
    assert routes <= {*documented, "other"}
    duration = {"method": "POST", "route": "/train", "status": "2xx"}
    assert scrape("http_request_duration_seconds_count", **duration) == 1
    assert scrape("http_request_duration_seconds_sum", **duration) > 0


def test_an_open_stream_is_told_and_is_no_long_request(quick_daemon):
    route = {"method": "GET", "route": "/events/stream", "status": "2xx"}
    with quick_daemon.client.stream("GET", "/events/stream"):
        scrape = Scrape(quick_daemon)
        assert scrape("streams_open") == 1
        assert scrape("http_requests_total", **route) == 1
    eventually(lambda: Scrape(quick_daemon)("streams_open") == 0)
    assert Scrape(quick_daemon)("http_requests_total", **route) == 1


def test_process_figures_are_those_of_the_daemon(quick_daemon):
    samples = Scrape(quick_daemon).samples
    assert samples["process_resident_memory_bytes", frozenset()] > 1e6
    assert samples["process_open_fds", frozenset()] > 3


def test_figures_a_device_does_not_tell_are_left_out():
    body, _ = exposition.text(some_figures(), requests(), 2)
    samples = parse(body.decode())

    def devices(name: str) -> set[str]:
        full = f"training_cluster_device_{name}"
        return {dict(labels)["device"] for found, labels in samples if found == full}

    assert devices("utilization_ratio") == {"GPU-00000000"}
    assert devices("power_watts") == {"GPU-00000000"}
    assert devices("memory_used_bytes") == {"GPU-00000000"}
    assert devices("leased") == {"GPU-00000000", "CPU-0"}


def test_trackers_deliveries_and_streams_are_told():
    body, _ = exposition.text(some_figures(), requests(), 2)
    samples = {name: value for (name, labels), value in parse(body.decode()).items() if not labels}
    assert samples["training_cluster_streams_open"] == 2
    assert samples["training_cluster_deliveries_pending"] == 1
    assert samples["training_cluster_deliveries_oldest_age_seconds"] == 9
    of_trackers = parse(body.decode())
    for tracker, up, runs, lines in (("mlflow", 1, 1, 7), ("wandb", 0, 0, 0)):
        label = frozenset({("tracker", tracker)})
        assert of_trackers["training_cluster_tracker_up", label] == up
        assert of_trackers["training_cluster_tracker_runs_unfinished", label] == runs
        assert of_trackers["training_cluster_tracker_lag_lines", label] == lines


def test_names_end_in_their_units():
    for name in exported():
        if name.startswith("training_cluster_"):
            assert "percent" not in name
            assert not name.endswith(("_ms", "_mib", "_bytes_total"))


async def answered(app, path: str = "/x", method: str = "GET") -> RequestMetrics:
    """What the layer has counted after one request to an ASGI app."""
    metrics = RequestMetrics()
    scope = {"type": "http", "method": method, "path": path, "metrics": metrics}
    layer = CountRequests(app, metrics)

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        pass

    with contextlib.suppress(ZeroDivisionError):
        await layer(scope, receive, send)
    return metrics


def start(content_type: bytes) -> dict:
    headers = [(b"content-type", content_type)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def test_a_stream_counts_when_it_begins_and_is_open_until_it_ends():
    open_inside = []

    async def stream(scope, receive, send):
        await send(start(b"text/event-stream; charset=utf-8"))
        metrics = scope["metrics"]
        open_inside.append((metrics.streams_open, len(metrics.read())))
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    metrics = await answered(stream)
    assert open_inside == [(1, 1)], "counted while it is still open"
    assert metrics.streams_open == 0
    assert [found.at_most[-1] for found in metrics.read().values()] == [1]


async def test_a_stream_that_breaks_is_not_open_any_more():
    async def breaks(scope, receive, send):
        await send(start(b"text/event-stream"))
        raise ZeroDivisionError

    assert (await answered(breaks)).streams_open == 0


async def test_an_unforeseen_error_counts_as_5xx():
    async def breaks(scope, receive, send):
        raise ZeroDivisionError

    metrics = await answered(breaks)
    assert [kind.status for kind in metrics.read()] == ["5xx"]
