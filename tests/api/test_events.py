"""Events over HTTP: numbered, durable, of all or of one job, read or followed."""

from __future__ import annotations

import pytest

from tests.daemon_process import DaemonProcess
from tests.streams import stream

LIFE = ["job.queued", "job.starting", "job.started", "job.completed"]


def events(daemon: DaemonProcess, **params) -> dict:
    response = daemon.client.get("/events", params=params)
    assert response.status_code == 200, response.text
    return dict(response.json())


def types(daemon: DaemonProcess, **params) -> list[str]:
    return [event["type"] for event in events(daemon, **params)["events"]]


def test_a_job_leaves_the_story_of_its_life(quick_daemon):
    job = quick_daemon.submit()
    quick_daemon.wait_for(job["job_id"])
    found = events(quick_daemon, job=job["number"])["events"]
    assert [event["type"] for event in found] == LIFE
    assert {(event["job_id"], event["job"]) for event in found} == {(job["job_id"], job["number"])}
    assert [event["attempt"] for event in found] == [None, 1, 1, 1]
    assert found[1]["data"]["devices"] == ["CPU-0"]
    assert types(quick_daemon, job=job["job_id"]) == LIFE
    link = quick_daemon.job(job["job_id"])["links"]["events"]
    assert quick_daemon.client.get(link).json()["events"] == found


def test_pages_cover_every_event_once(quick_daemon):
    for _ in range(5):
        quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    whole = events(quick_daemon, limit=1000)
    seen, after = [], 0
    while page := events(quick_daemon, after=after, limit=3)["events"]:
        seen += page
        after = page[-1]["sequence"]
    assert seen == whole["events"]
    assert events(quick_daemon, after=after) == {"events": [], "next": after}
    numbers = [event["sequence"] for event in seen]
    assert numbers == sorted(set(numbers))


def test_events_survive_a_kill_and_keep_their_numbers(quick_daemon):
    quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    before = events(quick_daemon)["events"]
    quick_daemon.kill()
    quick_daemon.start()
    quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    after = events(quick_daemon)["events"]
    assert after[: len(before)] == before
    assert after[len(before)]["sequence"] > before[-1]["sequence"]


def test_events_can_be_had_by_type(quick_daemon):
    for _ in range(2):
        quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    assert types(quick_daemon, type="job.completed") == ["job.completed"] * 2
    assert types(quick_daemon, type="job.completed", job=1) == ["job.completed"]
    assert types(quick_daemon, type="device.held") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("type=job.exploded", 422), ("job=77", 404), ("job=%00", 404), ("job=" + "x" * 65, 422),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/events", "/events/stream"])
def test_what_cannot_be_meant_is_refused(shared_daemon, path, query, status):
    response = shared_daemon.client.get(f"{path}?{query}")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("limit", [0, 1001, "x"])
def test_a_page_has_a_sensible_size(shared_daemon, limit):
    assert shared_daemon.client.get("/events", params={"limit": limit}).status_code == 422


# --- the stream -----------------------------------------------------------------------------


def test_the_stream_of_a_job_ends_with_it(held_daemon, record):
    job = held_daemon.submit()["job_id"]
    told = stream(held_daemon, "/events/stream", job=job, after=0)
    seen = [next(told) for _ in range(3)]
    (record / "release").touch()
    seen += list(told)
    assert [one.data["type"] for one in seen[:-1]] == LIFE
    assert {one.event for one in seen[:-1]} == {"message"}
    assert [one.id for one in seen[:-1]] == [str(one.data["sequence"]) for one in seen[:-1]]
    assert (seen[-1].event, seen[-1].data) == ("end", {"status": "completed"})


def test_a_stream_tells_what_happens_from_now_on(quick_daemon):
    quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    with quick_daemon.client.stream("GET", "/events/stream") as response:
        pieces = response.iter_text()
        start = next(pieces)
        assert start == f"id: {events(quick_daemon)['events'][-1]['sequence']}\n\n"
        number = quick_daemon.submit()["number"]
        text = ""
        while "job.completed" not in text:
            text += next(pieces)
        assert text.count('"type":"job.queued"') == 1
        assert f'"job":{number},' in text


def test_nothing_is_missed_between_two_connections(quick_daemon):
    quick_daemon.submit()
    everything = stream(quick_daemon, "/events/stream", after=0)
    seen = [next(everything) for _ in range(2)]
    everything.close()
    last = seen[-1].id
    quick_daemon.wait_for(quick_daemon.submit()["job_id"])
    rest = stream(quick_daemon, "/events/stream", last_id=last)
    wanted = len(events(quick_daemon)["events"])
    while len(seen) < wanted:
        seen.append(next(rest))
    rest.close()
    assert [one.data for one in seen] == events(quick_daemon)["events"]


def test_a_stream_can_be_of_one_type(quick_daemon):
    told = stream(quick_daemon, "/events/stream", after=0, type="job.completed")
    for number in (1, 2):
        quick_daemon.submit()
        one = next(told)
        assert (one.data["type"], one.data["job"]) == ("job.completed", number)
    told.close()


def test_the_stream_of_a_job_that_has_ended_says_so_at_once(quick_daemon):
    job = quick_daemon.submit()["job_id"]
    quick_daemon.wait_for(job)
    told = stream(quick_daemon, "/events/stream", job=job)
    assert [one.event for one in told] == ["end"]
