"""A daemon under load that is killed again and again, and what its jobs came to.

Clients behave as good ones do: whoever got no answer asks again with the same Idempotency-Key."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from tests.daemon_process import DaemonProcess, eventually, processes_naming, trainer
from tests.trainers.fated import fate
from training_cluster.crash_points import VARIABLE

SLOTS = 3
LONGEST_ROUND_SECONDS = 60.0
LONGEST_END_SECONDS = 180.0
STOPPED_CODES = {None, -15}
STOPPED = {"paused", "cancelled"}
FINAL = ("job.completed", "job.failed", "job.cancelled")
AT_THE_START = ("recovery.", "migration.")


@dataclass
class Asked:
    """A submission under a key, and what its client knows of it."""

    key: str
    body: dict
    job_id: str | None = None
    stopped: bool = False  # perhaps: somebody asked for it
    cancelled: bool = False


class Receiver:
    """Takes notifications and remembers which final events of which jobs it was told."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str]] = set()
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if said["type"] in FINAL:
                    told.add((said["data"]["job"]["job_id"], said["type"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Storm:
    """One state directory through many daemons. `killed_at` are the named points they died at."""

    folder: Path
    chance: random.Random
    asked: list[Asked] = field(default_factory=list)
    killed_at: list[str] = field(default_factory=list)
    kills: int = 0
    refused: list[str] = field(default_factory=list)
    handed_in: str = ""

    def __post_init__(self) -> None:
        self.record = self.folder / "record"
        self.record.mkdir()
        self.receiver = Receiver()
        state = self.folder / "state"
        self.daemon = DaemonProcess(
            state,
            {
                "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("fated", self.record, SLOTS),
                "TRAINING_CLUSTER_CPU_SLOTS": str(SLOTS),
                "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.0.1",
                "LD_LIBRARY_PATH": str(state),  # all that a fork server keeps: names it for us
            },
        )
        self.daemon.client.timeout = 5.0

    # -- one daemon

    def die_at(self, point: str, passes: int = 1) -> None:
        """A daemon that dies when it gets to a point for the so-manieth time."""
        while not self._dies(f"{point}:{passes}"):
            assert point.startswith(AT_THE_START), f"{point} was not reached"
            self._kill()  # there was nothing to take over: leave something, and look again
        self.killed_at.append(point)
        self.kills += 1

    def _dies(self, where: str) -> bool:
        self.daemon.environment[VARIABLE] = where
        self.daemon.launch()
        if self.daemon.comes_up():
            seconds = 0.5 if where.startswith(AT_THE_START) else LONGEST_ROUND_SECONDS
            self._load(seconds)
        if self.daemon.process.poll() is None:
            return False
        assert self.daemon.process.returncode == -9, self.daemon.log[-3000:]
        return True

    def die_some_time(self) -> None:
        """A daemon that is killed from outside, perhaps before it is up."""
        self.daemon.environment[VARIABLE] = ""
        self.daemon.launch()
        killer = threading.Timer(self.chance.uniform(0.1, 1.5), self.daemon.process.kill)
        killer.start()
        if self.daemon.comes_up():
            self._load(LONGEST_ROUND_SECONDS)
        killer.join()
        assert self.daemon.process.wait() == -9, self.daemon.log[-3000:]
        self.kills += 1

    def _kill(self) -> None:
        self.daemon.kill()
        self.kills += 1

    # -- its clients

    def _load(self, seconds: float) -> None:
        """Do what clients do until the daemon is dead, or so long."""
        until, acts = time.monotonic() + seconds, 0
        while self.daemon.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(httpx2.TransportError):
                self._act(acts)
            acts += 1
            if acts > 2 * SLOTS:
                time.sleep(0.04)

    def _act(self, acts: int) -> None:
        unanswered = [asked for asked in self.asked if asked.job_id is None]
        if unanswered:
            self._ask(unanswered[0])
        elif acts <= 2 * SLOTS or self.chance.random() < 0.4:
            self._submit()
        elif self.chance.random() < 0.6:
            asked = self.chance.choice(self.asked[-2 * SLOTS :])
            self._move(asked, self.chance.choice(["cancel", "pause", "resume"]))
        else:
            self.chance.choice([self._come_and_go, self._hand_in, self._part_with_a_model])()

    def _submit(self) -> None:
        body: dict = {"max_retries": self.chance.choice([0, 0, 0, 0, 1])}
        if self.chance.random() < 0.4:
            body["webhook_url"] = self.receiver.url
        asked = Asked(f"key-{len(self.asked)}", body)
        self.asked.append(asked)
        self._ask(asked)

    def _ask(self, asked: Asked) -> None:
        response = self.daemon.client.post(
            "/train", json=asked.body, headers={"Idempotency-Key": asked.key}
        )
        if response.status_code == 200:
            asked.job_id = response.json()["job_id"]
        else:
            self.refused.append(response.text)

    def _move(self, asked: Asked, move: str) -> None:
        asked.stopped |= move != "resume"  # whether or not an answer comes
        asked.cancelled |= move == "cancel"
        client, path = self.daemon.client, f"/train/{asked.job_id}"
        response = client.delete(path) if move == "cancel" else client.post(f"{path}/{move}")
        if response.status_code not in (200, 409):
            self.refused.append(response.text)

    def _come_and_go(self) -> None:
        """Subscribe, and not any more."""
        made = self.daemon.client.post("/webhooks", json={"url": self.receiver.url})
        if made.status_code == 201:
            self.daemon.client.delete(f"/webhooks/{made.json()['webhook_id']}")
        else:
            self.refused.append(made.text)

    def _hand_in(self) -> None:
        """A dataset, and the one before not any more, checked or not."""
        made = self.daemon.client.post("/datasets", files={"file": ("rows.jsonl", self._rows_of())})
        if made.status_code != 201:
            self.refused.append(made.text)
            return
        before, self.handed_in = self.handed_in, f"/datasets/{made.json()['dataset_id']}"
        if before:
            self.daemon.client.delete(before)

    def _part_with_a_model(self) -> None:
        listed = self.daemon.client.get("/models", params={"limit": 10}).json()["models"]
        if listed:
            model = self.chance.choice(listed)
            answer = self.daemon.client.delete(f"/models/{model['model_id']}")
            if answer.status_code != 200:
                self.refused.append(answer.text)

    def _rows_of(self) -> bytes:
        return json.dumps({"text": f"row {self.chance.random()}"}).encode()

    # -- the end

    def finish(self) -> None:
        """A last daemon sees all through, is stopped, and whatever is left is counted."""
        self.daemon.environment[VARIABLE] = ""
        self.daemon.start()
        for asked in self.asked:
            if asked.job_id is None:
                self._ask(asked)
        with contextlib.suppress(AssertionError):
            eventually(self._is_over, LONGEST_END_SECONDS, pause=0.1)
        assert self._unfinished() == []
        assert self.daemon.stop() == 0

    def _is_over(self) -> bool:
        """Whether all has ended; what was paused is let go on."""
        for (job,) in self._rows("SELECT id FROM jobs WHERE state = 'paused'"):
            self.daemon.client.post(f"/train/{job}/resume")
        return not self._unfinished()

    def _unfinished(self) -> list[tuple]:
        return [
            *self._rows("SELECT number, state, not_before FROM jobs WHERE finished_at IS NULL"),
            *self._rows(
                "SELECT id, webhook_id, created_at, next_at, tries, last_error FROM deliveries"
                " WHERE state = 'pending'"
            ),
            *self._rows("SELECT id, error FROM datasets WHERE state = 'checking'"),
            *self._rows("SELECT id FROM models WHERE deleted_at IS NOT NULL AND gone_at IS NULL"),
        ]

    def close(self) -> None:
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            self.daemon.kill()
        self.daemon.client.close()
        self.receiver.close()
        for pid in processes_naming(self.daemon.state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _rows(self, query: str) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(self.daemon.state / "queue.db")) as connection:
            return connection.execute(query).fetchall()

    def violations(self) -> dict[str, list]:
        """What went wrong, by kind."""
        return {
            "refused": self.refused,
            "lost": self._lost(),
            "launched twice": [ref for ref, count in self._launches().items() if count > 1],
            "wrong exit code": self._wrong_codes(),
            "wrong end": self._wrong_ends(),
            "leaked device": self._leaked(),
            "process left": self._processes_left(),
            "secret left": self._secrets_left(),
            "half dataset": self._half_datasets(),
            "half model": self._half_models(),
            "line lost or doubled": self._wrong_lines(),
            "not told": self._untold(),
        }

    def _launches(self) -> Counter[str]:
        return Counter((self.record / "launches").read_text().splitlines())

    def _attempts(self) -> list[tuple[str, int, int | None, str]]:
        return self._rows(
            "SELECT j.id, a.number, a.exit_code, a.outcome FROM attempts a"
            " JOIN jobs j ON j.number = a.job_number ORDER BY j.number, a.number"
        )

    def _stopped(self) -> set[str | None]:
        return {asked.job_id for asked in self.asked if asked.stopped}

    def _lost(self) -> list:
        known = dict(self._rows("SELECT idempotency_key, id FROM jobs"))
        launched = self._launches()
        unstarted = [
            (job, number)
            for job, number, code, _ in self._attempts()
            if code is not None and code >= 0 and not launched[f"{job}/{number}"]
        ]
        wrong = [asked for asked in self.asked if known.get(asked.key) != asked.job_id]
        extra = len(known) - len(self.asked)
        outcomes = [row for row in self._attempts() if row[3] in ("lost", "launch_failed")]
        return [*wrong, *unstarted, *outcomes, *([extra] if extra else [])]

    def _wrong_codes(self) -> list:
        stopped = self._stopped()
        return [
            (job, number, code, fate(job, number)[2])
            for job, number, code, _ in self._attempts()
            if code != fate(job, number)[2] and not (job in stopped and code in STOPPED_CODES)
        ]

    def _wrong_ends(self) -> list:
        """Jobs nobody cancelled that ended otherwise than their attempts decide: by the last one,
        when one succeeded or as many failed as may. One that failed while a pause was on its way
        to it is not followed by another."""
        ran: dict[str, list[int]] = {}
        pausing = self._rows(
            "SELECT j.id FROM attempts a JOIN jobs j ON j.number = a.job_number"
            " AND j.attempt_number = a.number WHERE a.stop_reason = 'paused'"
        )
        for job, number, _, outcome in self._attempts():
            if outcome not in STOPPED:  # also when it failed on its way there
                ran.setdefault(job, []).append(fate(job, number)[2])
        states, wrong = dict(self._rows("SELECT id, state FROM jobs")), []
        for asked in self.asked:
            codes, state = ran.get(asked.job_id or "", []), states.get(asked.job_id)
            failures = sum(code != 0 for code in codes)
            due = "completed" if codes[-1:] == [0] else "failed"
            enough = due == "completed" or failures == 1 + asked.body["max_retries"]
            enough |= (asked.job_id,) in pausing
            if not asked.cancelled and not (state == due and enough):
                wrong.append((asked, state, codes))
        return wrong

    def _leaked(self) -> list:
        conflicts = self.record / "conflicts"
        beyond = conflicts.read_text().splitlines() if conflicts.exists() else []
        return [*beyond, *self._rows("SELECT * FROM leases WHERE released_at IS NULL")]

    def _processes_left(self) -> list[int]:
        with contextlib.suppress(AssertionError):
            eventually(lambda: not processes_naming(self.daemon.state), 5)
        return processes_naming(self.daemon.state)

    def _secrets_left(self) -> list[str]:
        known = {row[0] for row in self._rows("SELECT id FROM webhooks WHERE deleted_at IS NULL")}
        files = {path.name for path in (self.daemon.state / "secrets").iterdir()}
        return sorted(files ^ {f"{name}.json" for name in known})

    def _half_datasets(self) -> list[str]:
        """Files that no dataset refers to, and datasets without their file."""
        kept = self._rows("SELECT original, id, state FROM datasets WHERE deleted_at IS NULL")
        due = {original or dataset for original, dataset, _ in kept}
        folder = self.daemon.state / "datasets"
        found = {
            path.name for place in ("files", "incoming") for path in (folder / place).iterdir()
        }
        return sorted((found ^ due) | {path.name for path in (folder / "work").iterdir()})

    def _half_models(self) -> list[str]:
        """Deleted models that have files, and others that have none."""
        known = self._rows("SELECT path, deleted_at IS NULL FROM models")
        return [path for path, is_there in known if os.path.isdir(path) != bool(is_there)]

    def _wrong_lines(self) -> list:
        stored = Counter(
            self._rows(
                "SELECT j.id, l.attempt_number, l.step FROM metric_lines l"
                " JOIN jobs j ON j.number = l.job_number WHERE l.source = 'trainer'"
            )
        )
        due = Counter(
            (job, number, step + 1)
            for job, number, code, _ in self._attempts()
            if code == fate(job, number)[2]
            for step in range(fate(job, number)[1])
        )
        partly = {job for job, _, code, _ in self._attempts() if code in STOPPED_CODES}
        doubled = [line for line, count in stored.items() if count > 1]
        lost = [line for line in due if line not in stored]
        more = [line for line in stored if line not in due and line[0] not in partly]
        return [*doubled, *lost, *more]

    def _untold(self) -> list:
        """Final events that a job's own receiver never got."""
        ends = dict(self._rows("SELECT id, state FROM jobs"))
        return [
            asked
            for asked in self.asked
            if "webhook_url" in asked.body
            and (asked.job_id, f"job.{ends[asked.job_id]}") not in self.receiver.told
        ]
