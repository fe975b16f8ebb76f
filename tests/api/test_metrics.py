"""Metrics over HTTP: curves, lines, tables and the stream, of real jobs of a real daemon."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.streams import stream

LOSSES = [4.0 / step for step in range(1, 31)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, str]]:
    """A daemon and a job that has made thirty steps, one sample of telemetry among them."""
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 30, 0.02),
        "TRAINING_CLUSTER_METRICS__TELEMETRY_SECONDS": "0.2",
    }
    with running_daemon(tmp_path_factory.mktemp("trained") / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        daemon.wait_for(job, "completed")
        yield daemon, job


def get(daemon: DaemonProcess, job: object, accept: str = "application/json", **params):
    return daemon.client.get(f"/train/{job}/metrics", params=params, headers={"Accept": accept})


def curves(daemon: DaemonProcess, job: object, **params) -> dict[str, dict]:
    return {curve["name"]: curve for curve in get(daemon, job, **params).json()["curves"]}


def test_a_curve_has_every_step_with_its_time_and_value(trained):
    daemon, job = trained
    body = get(daemon, job).json()
    assert (body["job_id"], body["status"]) == (job, "completed")
    assert {"train/loss", "train/learning_rate", "train/epoch"} <= set(body["names"])
    assert body["names"] == sorted(curve["name"] for curve in body["curves"])
    loss = curves(daemon, job)["train/loss"]
    assert loss["steps"] == list(range(1, 31))
    assert loss["values"] == LOSSES
    assert loss["times"] == sorted(loss["times"])
    assert (loss["points"], loss["downsampled"]) == (30, False)


def test_the_machine_is_measured_beside_the_loss(trained):
    daemon, job = trained
    load = curves(daemon, job)["system/cpu_utilization_percentage"]
    assert load["steps"] == list(range(load["points"]))
    assert all(0 <= value <= 100 for value in load["values"])
    loss = curves(daemon, job)["train/loss"]
    assert loss["times"][0] - 2 < load["times"][0] < loss["times"][-1] + 2


@pytest.mark.parametrize(
    "query",
    [
        "names=train/loss&names=train/epoch",
        "names=train/loss,train/epoch",
        "names=train/loss,%20train/epoch,x",
    ],
)
def test_only_the_named_curves_come_and_all_names_are_told(trained, query):
    daemon, job = trained
    body = daemon.client.get(f"/train/{job}/metrics?{query}").json()
    assert [curve["name"] for curve in body["curves"]] == ["train/epoch", "train/loss"]
    assert "train/learning_rate" in body["names"]


def test_a_curve_is_thinned_out_to_what_was_asked_for(trained):
    daemon, job = trained
    loss = curves(daemon, job, points=10)["train/loss"]
    assert (len(loss["steps"]), loss["points"], loss["downsampled"]) == (10, 30, True)
    assert (loss["steps"][0], loss["steps"][-1]) == (1, 30)
    assert loss["values"] == [LOSSES[step - 1] for step in loss["steps"]]


def test_a_job_that_has_not_logged_has_no_curves(held_daemon):
    job = held_daemon.submit()["job_id"]
    body = get(held_daemon, job).json()
    assert (body["names"], body["curves"]) == ([], [])
    assert get(held_daemon, job, full=1).json() == {"lines": [], "next_cursor": None}
    assert get(held_daemon, job, "text/csv").text == "step,time,attempt,source\r\n"


def test_all_lines_come_page_by_page_each_once(trained):
    daemon, job = trained
    whole = get(daemon, job, full=1, limit=5000).json()["lines"]
    assert [line["sequence"] for line in whole] == sorted({line["sequence"] for line in whole})
    pages, cursor = [], {}
    while cursor is not None:
        body = get(daemon, job, full=1, limit=7, **cursor).json()
        pages.append(body["lines"])
        cursor = {"cursor": body["next_cursor"]} if body["next_cursor"] else None
    assert list(itertools.chain(*pages)) == whole
    assert {len(page) for page in pages[:-1]} == {7}
    first = next(line for line in whole if line["source"] == "trainer")
    assert (first["attempt"], first["step"], first["values"]["train/loss"]) == (1, 1, 4.0)


def test_lines_can_be_had_with_some_metrics_only(trained):
    daemon, job = trained
    lines = get(daemon, job, full=1, names="train/loss").json()["lines"]
    assert [line["values"] for line in lines] == [{"train/loss": value} for value in LOSSES]


@pytest.mark.parametrize("full", [0, 1])
def test_a_table_has_a_row_for_every_step_and_a_column_for_every_metric(trained, full):
    daemon, job = trained
    response = get(daemon, job, "text/csv, */*;q=0.1", full=full)
    assert response.headers["content-type"].startswith("text/csv")
    assert "attachment" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert response.text.count("\r\n") == len(rows) + 1
    trainer_rows = [row for row in rows if row["source"] == "trainer"]
    assert [int(row["step"]) for row in trainer_rows] == list(range(1, 31))
    assert [float(row["train/loss"]) for row in trainer_rows] == LOSSES
    assert {row["attempt"] for row in rows} == {"1"}
    assert {row["system/cpu_utilization_percentage"] for row in trainer_rows} == {""}


def test_a_table_can_have_some_columns_only(trained):
    daemon, job = trained
    text = get(daemon, job, "text/csv", names="train/loss").text
    assert text.splitlines()[0] == "step,time,attempt,source,train/loss"
    assert len(text.splitlines()) == 31


@pytest.mark.parametrize(
    "query",
    [
        "points=9", "points=20001", "points=x", "limit=0&full=1", "limit=5001&full=1", "full=maybe",
        "full=1&cursor=bm9wZQ", "full=1&cursor=%00", "full=1&cursor=am9iOjc",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_as_a_problem(trained, query):
    daemon, job = trained
    response = daemon.client.get(f"/train/{job}/metrics?{query}")
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["", "/stream"])
def test_an_unknown_job_has_no_metrics(trained, path):
    daemon, _ = trained
    assert daemon.client.get(f"/train/999/metrics{path}").status_code == 404


# --- the stream -----------------------------------------------------------------------------


def test_the_stream_of_an_ended_job_tells_all_of_it_and_ends(trained):
    daemon, job = trained
    first, *lines, end = stream(daemon, f"/train/{job}/metrics/stream")
    assert (first.event, first.data, first.id) == ("attempt", {"attempt": 1}, "")
    assert {told.event for told in lines} == {"metrics"}
    assert [told.data for told in lines] == get(daemon, job, full=1, limit=5000).json()["lines"]
    assert [told.id for told in lines] == [str(told.data["sequence"]) for told in lines]
    assert (end.event, end.data, end.id) == ("end", {"status": "completed"}, "")


def test_a_reader_that_lost_its_connection_goes_on_with_last_event_id(trained):
    daemon, job = trained
    path = f"/train/{job}/metrics/stream"
    whole = [told.id for told in stream(daemon, path) if told.event == "metrics"]
    for where in (0, 1, len(whole) // 2, len(whole) - 1):
        for options in ({"last_id": whole[where]}, {"after": whole[where]}):
            rest = [told.id for told in stream(daemon, path, **options) if told.event == "metrics"]
            assert rest == whole[where + 1 :]


def test_last_event_id_wins_over_where_the_address_says(trained):
    daemon, job = trained
    path = f"/train/{job}/metrics/stream"
    told = list(stream(daemon, path, last_id="999999999", after=0))
    assert [one.event for one in told] == ["end"]


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "9" * 19, "1:2"])
def test_an_id_that_is_not_ours_is_refused(trained, last_id):
    daemon, job = trained
    for path in (f"/train/{job}/metrics/stream", "/events/stream"):
        response = daemon.client.get(path, headers={"Last-Event-ID": last_id})
        assert response.status_code == 422, (path, response.text)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=99999999999999999999"])
def test_a_place_that_cannot_be_is_refused(trained, query):
    daemon, job = trained
    for path in (f"/train/{job}/metrics/stream", "/events/stream", "/events"):
        assert daemon.client.get(f"{path}?{query}").status_code == 422


def test_lines_arrive_while_the_job_runs(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 20, 0.1)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        told = stream(daemon, f"/train/{job}/metrics/stream")
        seen = [next(told) for _ in range(6)]
        assert daemon.job(job)["status"] == "running"
        seen += list(told)
        lines = [one.data for one in seen if one.event == "metrics"]
        steps = [line["step"] for line in lines if line["source"] == "trainer"]
        assert steps == list(range(1, 21))
        assert seen[-1].event == "end"


def test_a_retry_replaces_what_it_makes_again_and_the_stream_says_so(tmp_path):
    """Each attempt logs from step 1 on, and the first fails."""
    script = tmp_path / "flaky.py"
    script.write_text(
        "import json, os, sys\n"
        "output = json.load(open(sys.argv[-1]))['output_dir']\n"
        "os.makedirs(output, exist_ok=True)\n"
        "number = int(os.getcwd().rpartition('-')[2])\n"
        "with open(f'{output}/trainer_log.jsonl', 'w') as log:\n"
        "    for step in range(1, 4 + number):\n"
        "        line = {'current_steps': step, 'total_steps': 5, 'loss': number + step / 10}\n"
        "        print(json.dumps(line), file=log)\n"
        "os.kill(os.getpid(), 9) if number < 2 else sys.exit(0)\n"
    )
    command = json.dumps([trainer_python(), "-I", "-S", str(script)])
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": command,
        "TRAINING_CLUSTER_METRICS__TELEMETRY_SECONDS": "0",
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit(max_retries=1)["job_id"]
        told = list(stream(daemon, f"/train/{job}/metrics/stream"))
        attempts = [one.data["attempt"] for one in told if one.event == "attempt"]
        if attempts != [2]:  # whoever reads on through the retry sees both
            assert attempts == [1, 2]
            steps = [one.data["step"] for one in told if one.event == "metrics"]
            assert steps == [1, 2, 3, 4, *range(1, 6)]
        loss = curves(daemon, job)["train/loss"]
        assert loss["values"] == [2 + step / 10 for step in range(1, 6)]
        again = list(stream(daemon, f"/train/{job}/metrics/stream"))
        assert [one.data["attempt"] for one in again if one.event == "attempt"] == [2]
        rows = get(daemon, job, "text/csv", full=1).text.splitlines()
        assert len(rows) == 6


def trainer_python() -> str:
    return json.loads(trainer("stepping"))[0]


def test_a_reader_that_goes_away_is_forgotten(held_daemon):
    """The daemon looks at logs less often when nobody watches: it must notice."""
    job = held_daemon.submit()["job_id"]
    held_daemon.wait_for(job, "running")
    for _ in range(20):
        with held_daemon.client.stream("GET", f"/train/{job}/metrics/stream") as response:
            assert response.status_code == 200
    assert eventually(lambda: open_sockets(held_daemon) <= 2)


def open_sockets(daemon: DaemonProcess) -> int:
    """Connections of the daemon to anybody."""
    import psutil

    assert daemon.process is not None
    connections = psutil.Process(daemon.process.pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in connections)
