"""Looking: front door, lists, logs, health, documentation."""

from __future__ import annotations

import json

from tests.daemon_process import running_daemon, trainer


def test_the_front_door_names_what_is_here(quick_daemon):
    body = quick_daemon.client.get("/").json()
    assert body["name"] == "training-cluster"
    assert body["queue_length"] == 0
    assert body["devices"][0]["kind"] == "cpu"
    assert "CPU slot" in body["device_note"], "a machine without GPUs says so"
    for path in body["links"].values():
        assert quick_daemon.client.get(path).status_code == 200


def test_a_browser_gets_a_page_with_every_name_escaped(quick_daemon):
    quick_daemon.submit(lora_name="<script>alert(1)</script>", gpus=1)
    response = quick_daemon.client.get("/", headers={"Accept": "text/html,*/*"})
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "<script" not in response.text


def test_pages_cover_every_job_once_while_jobs_are_added(quick_daemon):
    before = [quick_daemon.submit()["job_id"] for _ in range(7)]
    seen, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        body = quick_daemon.client.get("/train", params=params).json()
        seen += [job["job_id"] for job in body["jobs"]]
        cursor = body["next_cursor"]
        quick_daemon.submit()
        if cursor is None:
            break
    assert seen == before[::-1]


def test_lists_filter_by_status_and_user(quick_daemon):
    done = quick_daemon.submit()["job_id"]
    user = quick_daemon.wait_for(done)["user"]

    def ids(**params):
        return [
            job["job_id"] for job in quick_daemon.client.get("/train", params=params).json()["jobs"]
        ]

    assert ids(status="completed") == [done]
    assert ids(status="queued") == []
    assert ids(user=user) == [done]
    assert ids(user="nobody-else") == []


def test_a_job_is_named_by_number_too(quick_daemon):
    job = quick_daemon.submit()
    assert quick_daemon.job(job["number"])["job_id"] == job["job_id"]


def test_logs_can_be_read_whole_by_tail_and_onwards(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": trainer("stepping", 5, 0)}
    with running_daemon(tmp_path / "state", environment) as daemon:
        job = daemon.submit()["job_id"]
        daemon.wait_for(job)

        def logs(**params):
            return daemon.client.get(f"/train/{job}/logs", params=params)

        whole = logs()
        assert whole.text == "".join(f"step {n}\n" for n in range(1, 6))
        assert logs(tail=2).text == "step 4\nstep 5\n"
        assert logs(tail=99).text == whole.text
        assert logs(tail=0).text == ""
        assert logs(offset=7).text == whole.text[7:]
        assert int(whole.headers["X-Next-Offset"]) == len(whole.content)
        assert whole.headers["X-Job-Status"] == "completed"
        assert logs(attempt=2).status_code == 404


def test_a_job_that_has_not_run_has_an_empty_log(held_daemon):
    held_daemon.submit()
    waiting = held_daemon.submit()["job_id"]
    response = held_daemon.client.get(f"/train/{waiting}/logs")
    assert (response.status_code, response.text) == (200, "")


def test_the_queue_shows_running_waiting_and_devices(held_daemon):
    first, second = held_daemon.submit(), held_daemon.submit()
    held_daemon.wait_for(first["job_id"], "running")
    body = held_daemon.client.get("/queue").json()
    assert [job["job_id"] for job in body["running"]] == [first["job_id"]]
    assert [job["job_id"] for job in body["queued"]] == [second["job_id"]]
    assert body["queued"][0]["wait_reason"]["message"]
    assert body["devices"][0]["job"] == first["number"]
    assert body["queue_length"] == 1


def test_health_and_readiness(quick_daemon):
    assert quick_daemon.client.get("/healthz").json() == {"status": "ok"}
    body = quick_daemon.client.get("/readyz").json()
    assert body["status"] == "ready"
    assert {check["name"] for check in body["checks"]} == {
        *("store", "disk", "scheduler", "devices", "trainers")
    }


def test_every_route_is_documented_with_an_example(quick_daemon):
    document = quick_daemon.client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            answers = operation["responses"]
            status = next(status for status in ("201", "200", "307") if status in answers)
            answer = answers[status]
            assert answer["description"], (method, path)
            content = {} if method == "head" or status == "307" else answer["content"]
            shapes = [
                *content.values(),
                *operation.get("requestBody", {}).get("content", {}).values(),
            ]
            for media in shapes:
                is_file = "binary" in json.dumps(media.get("schema", {}))
                assert is_file or "example" in media or "examples" in media, (method, path)
