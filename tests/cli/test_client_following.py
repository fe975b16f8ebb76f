"""Following a job with the client: waiting, logs, and a daemon that goes away meanwhile."""

from __future__ import annotations

import threading

import pytest

from tests.cli.scripted_server import Reply, Request, a_job, always, in_turn, scripted
from training_cluster.client import (
    CannotConnect,
    Client,
    Job,
    WaitTimedOut,
)


def test_waiting_tells_every_change_once_and_returns_the_ended_job() -> None:
    script = in_turn(
        Reply(a_job("queued", estimated_start=1.0)),
        Reply(a_job("queued", estimated_start=2.0)),
        Reply(a_job("running")),
        Reply(a_job("running")),
        Reply(a_job("completed")),
    )
    told: list[Job] = []
    with scripted(script) as server, Client(server.url) as client:
        ended = client.wait(7, told.append, poll_seconds=0.01)
    assert [job.status for job in told] == ["queued", "running", "completed"]
    assert ended.is_completed
    assert ended.is_finished


def test_waiting_outlives_a_restart_of_the_daemon() -> None:
    with scripted(always(a_job("running"))) as server, Client(server.url) as client:

        def restart(job: Job) -> None:
            if job.status == "running":
                server.stop()
                server.script = always(a_job("completed"))
                threading.Timer(0.3, server.start).start()

        assert client.wait(7, restart, poll_seconds=0.01).is_completed


def test_waiting_for_a_daemon_that_stays_away_ends() -> None:
    server_gone = in_turn(Reply(a_job("running")), Reply(broken=True))
    with (
        scripted(server_gone) as server,
        Client(server.url) as client,
        pytest.raises(CannotConnect),
    ):
        client.wait(7, poll_seconds=0.01, patience_seconds=0)


def test_waiting_ends_when_the_caller_wants_and_says_that_the_job_goes_on() -> None:
    with (
        scripted(always(a_job("running"))) as server,
        Client(server.url) as client,
        pytest.raises(WaitTimedOut, match="goes on"),
    ):
        client.wait(7, poll_seconds=0.01, timeout=0.05)


class Log:
    """A job whose log grows with every look at the job."""

    def __init__(self, *moments: tuple[str, dict[int, bytes]]) -> None:
        self.moments = list(moments)
        self.now = self.moments[0]

    def __call__(self, request: Request) -> Reply:
        if not request.path.endswith("/logs"):
            self.now = self.moments.pop(0) if len(self.moments) > 1 else self.moments[0]
            attempts = [{"attempt": number} for number in self.now[1]]
            return Reply(a_job(self.now[0], attempts=attempts))
        number = int(request.query.get("attempt", max(self.now[1], default=1)))
        log, offset = self.now[1].get(number, b""), int(request.query.get("offset", 0))
        if "tail" in request.query:
            offset = len(log) - len(b"".join(log.splitlines(True)[-int(request.query["tail"]) :]))
        part = log[offset : offset + 4]
        return Reply(part, headers={"X-Next-Offset": str(offset + len(part))})


def test_a_log_is_read_to_its_end_whatever_the_size_of_the_pieces() -> None:
    text = "größer\nals ein Stück\n"
    with scripted(Log(("running", {1: text.encode()}))) as server, Client(server.url) as client:
        assert client.logs(7) == text
        assert client.logs(7, tail=1) == "als ein Stück\n"


def test_following_a_log_goes_through_all_attempts_until_the_job_ends() -> None:
    log = Log(
        ("queued", {}),
        ("running", {1: b"on"}),
        ("running", {1: b"one \xc3"}),
        ("queued", {1: b"one \xc3\xa9\n"}),
        ("running", {1: b"one \xc3\xa9\n", 2: b"two"}),
        ("completed", {1: b"one \xc3\xa9\n", 2: b"two\nthe end"}),
    )
    with scripted(log) as server, Client(server.url) as client:
        pieces = list(client.follow_logs(7, poll_seconds=0.01))
    assert "".join(pieces) == "one é\ntwo\nthe end"
    assert all(pieces)


def test_following_from_the_tail_shows_what_follows_and_nothing_twice() -> None:
    log = Log(
        ("running", {1: b"1\n2\n3\n"}),
        ("running", {1: b"1\n2\n3\n4\n"}),
        ("failed", {1: b"1\n2\n3\n4\n5\n"}),
    )
    with scripted(log) as server, Client(server.url) as client:
        assert "".join(client.follow_logs(7, tail=1, poll_seconds=0.01)) == "3\n4\n5\n"


def test_a_line_being_written_is_shown_by_a_look_and_followed_once_it_is_complete() -> None:
    def script(request: Request) -> Reply:
        if not request.path.endswith("/logs"):
            return Reply(a_job("completed", attempts=[{"attempt": 1}]))
        if "offset" in request.query:
            text = b"100%\n" if request.query["offset"] == "4" else b""
            return Reply(text, headers={"X-Next-Offset": "9"})
        headers = {"X-Next-Offset": "4", "X-Unfinished-Line": "true"}
        return Reply(b"one\n 50%", headers=headers)

    with scripted(script) as server, Client(server.url) as client:
        assert client.logs(7, tail=2) == "one\n 50%"
        assert "".join(client.follow_logs(7, tail=2, poll_seconds=0.01)) == "one\n100%\n"


def test_a_log_that_got_shorter_is_followed_from_its_start() -> None:
    log = Log(
        ("running", {1: b"old log\n"}),
        ("running", {1: b"new\n"}),
        ("completed", {1: b"new\nend\n"}),
    )

    def script(request: Request) -> Reply:
        reply = log(request)
        if "X-Next-Offset" in reply.headers:  # as the daemon: never behind the end of the log
            end = min(int(reply.headers["X-Next-Offset"]), len(log.now[1][1]))
            reply.headers["X-Next-Offset"] = str(end)
        return reply

    with scripted(script) as server, Client(server.url) as client:
        text = "".join(client.follow_logs(7, poll_seconds=0.01))
    assert text == "old log\n[... this log was begun anew ...]\nnew\nend\n"
