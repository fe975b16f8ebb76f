"""A daemon that is killed while a training is started leaves a session that tells the truth."""

from __future__ import annotations

import httpx2
import pytest

from tests.daemon_process import running_daemon
from tests.dialects.test_vertesia import TRAINING, Caller
from training_cluster.crash_points import VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("point", "status"),
    [("submit.before_commit", "prepared"), ("submit.after_commit", "processing")],
)
def test_a_session_knows_its_training_wherever_the_daemon_died(tmp_path, point, status):
    held = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/sh -c 'exec sleep 3600'"}
    with running_daemon(tmp_path / "state", {**held, VARIABLE: point}) as daemon:
        caller = Caller(daemon)
        session = caller.prepared()
        with pytest.raises(httpx2.TransportError):
            caller.post(f"{TRAINING}/{session}/start")
        daemon.process.wait(60)
        del daemon.environment[VARIABLE]
        daemon.start()
        assert caller.status(session) == status
        again = daemon.client.post(f"{TRAINING}/{session}/start")
        assert again.status_code == (409 if status == "processing" else 200)
        assert len(daemon.client.get("/train").json()["jobs"]) == 1
        assert caller.status(session) == "processing"


def test_an_address_outlives_the_daemon_that_made_it(tmp_path):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path / "state", environment) as daemon:
        caller = Caller(daemon, "alice")
        session = caller.session("kept", runs=0)
        address = caller.get(f"{TRAINING}/{session}/upload-url")["url"]
        port = daemon.port
        daemon.kill()
        daemon.start(port)
        line = b'{"prompt": "a", "completion": "b"}\n'
        headers = {"X-Forwarded-For": "203.0.113.9"}
        assert daemon.client.put(address, content=line, headers=headers).status_code == 201
        caller.until(session, "prepared")
