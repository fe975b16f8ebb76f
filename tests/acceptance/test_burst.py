"""What was acknowledged is there, however often the daemon dies in the middle of a burst."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time

import httpx2

from tests.daemon_process import DaemonProcess, running_daemon, trainer
from tests.trust import Promise
from training_cluster.crash_points import VARIABLE

CLIENTS = 8
DEATHS = ("submit.after_commit:90", "store.after_commit:60", "submit.before_commit:40", "")


class Client(threading.Thread):
    """Submits jobs one after the other; whoever gets no answer asks again with the same key."""

    def __init__(self, daemon: DaemonProcess, name: str, jobs: int) -> None:
        super().__init__(name=name, daemon=True)
        self.answers: list[tuple[str, str, bool]] = []
        self._base_url, self._jobs = str(daemon.client.base_url), jobs

    def run(self) -> None:
        for number in range(self._jobs):
            with httpx2.Client(base_url=self._base_url, trust_env=False, timeout=10) as http:
                key = f"{self.name}-{number}"
                while not self._ask(http, key):
                    time.sleep(0.02)
                if number % 5 == 0:
                    self._ask(http, key)  # a client that has missed the answer it got

    def _ask(self, http: httpx2.Client, key: str) -> bool:
        try:
            answer = http.post("/train", json={}, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            return False
        assert answer.status_code == 200, answer.text
        replayed = answer.headers.get("Idempotency-Replayed") == "true"
        self.answers.append((key, answer.json()["job_id"], replayed))
        return True


def test_every_acknowledged_job_survives_kills_in_the_middle_of_a_burst(tmp_path, record, trust):
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("recording", record, 60, 0),
        VARIABLE: DEATHS[0],
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        clients = [Client(daemon, f"client-{number}", 63) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for following in DEATHS[1:]:
            daemon.process.wait(60)
            daemon.environment[VARIABLE] = following
            daemon.start(daemon.port)
        time.sleep(random.uniform(0, 0.3))
        daemon.kill()
        daemon.start(daemon.port)
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        with contextlib.closing(sqlite3.connect(daemon.state / "queue.db")) as connection:
            query = "SELECT idempotency_key, id FROM jobs"
            stored = connection.execute(query).fetchall()
    answers = [answer for client in clients for answer in client.answers]
    assert {(key, job) for key, job, _ in answers} == set(stored)
    assert len(stored) == CLIENTS * 63
    again = sum(replayed for *_, replayed in answers)
    trust(
        Promise.SUBMISSIONS,
        f"{len(stored)} acknowledged to {CLIENTS} clients over {len(DEATHS)} kills, "
        f"{len(stored)} present; {again} asked again got the same job",
        form="full",
    )
