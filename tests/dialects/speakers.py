"""Speaks to a daemon in each of its dialects: makes a training, and tells what is listed.

By plain HTTP, as the documents have it; tests/clients has the real clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.daemon_process import DaemonProcess
from training_cluster.domain.dialect import native_id

MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
CHAT = [
    {"messages": [{"role": "user", "content": f"Is {n} even?"},
                  {"role": "assistant", "content": "yes" if n % 2 == 0 else "no"}]}
    for n in range(8)
]  # fmt: skip
LINES = "".join(json.dumps(row) + "\n" for row in CHAT).encode()
PAIRS = [{"input": f"Is {n} even?", "output": "yes" if n % 2 == 0 else "no"} for n in range(8)]

Statuses = dict[str, str]
"""The status of every job that is listed, by its native id."""


class Speaker:
    """Somebody who knows one dialect. All ids are native ones."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.data: Any = None

    def ask(self, method: str, path: str, **words: Any) -> Any:
        """The answer's JSON; it must be a good one."""
        response = self.daemon.client.request(method, path, **words)
        assert response.status_code in (200, 201), f"{method} {path}: {response.text}"
        return response.json()

    def make(self, name: str) -> str:
        """Ask for a training on data that is handed in just before, the first time."""
        raise NotImplementedError

    def listed(self) -> Statuses:
        """All that its list shows; every one says the same when it is asked for by itself."""
        raise NotImplementedError

    def model(self, job: str) -> str | None:
        """What the model is called here that a job has made."""
        raise NotImplementedError


class Native(Speaker):
    def make(self, name: str) -> str:
        if self.data is None:
            file = {"file": (f"{name}.jsonl", LINES)}
            self.data = self.ask("POST", "/datasets", files=file)["dataset_id"]
        body = {"model_name": MODEL, "dataset_version": self.data, "save_name": name}
        return str(self.ask("POST", "/train", json=body)["job_id"])

    def listed(self) -> Statuses:
        found = {job["job_id"]: job["status"] for job in self.ask("GET", "/train")["jobs"]}
        for job in found:
            assert self.daemon.job(job)["status"] == found[job]
        return found

    def model(self, job: str) -> str | None:
        found = [each for each in self.ask("GET", "/models")["models"] if each["job_id"] == job]
        return found[0]["key"] if found else None


class OpenAI(Speaker):
    def make(self, name: str) -> str:
        if self.data is None:
            said = {"files": {"file": (f"{name}.jsonl", LINES)}, "data": {"purpose": "fine-tune"}}
            self.data = self.ask("POST", "/v1/files", **said)["id"]
        body = {"model": MODEL, "training_file": self.data, "suffix": name}
        return native_id("ftjob-", self.ask("POST", "/v1/fine_tuning/jobs", json=body)["id"])

    def listed(self) -> Statuses:
        jobs = self.ask("GET", "/v1/fine_tuning/jobs", params={"limit": 100})["data"]
        for job in jobs:
            alone = self.ask("GET", f"/v1/fine_tuning/jobs/{job['id']}")
            assert alone["status"] == job["status"]
        return {native_id("ftjob-", job["id"]): job["status"] for job in jobs}

    def model(self, job: str) -> str | None:
        name = self.ask("GET", f"/v1/fine_tuning/jobs/{job}")["fine_tuned_model"]
        listed = {each["id"] for each in self.ask("GET", "/v1/models")["data"]}
        assert name is None or name in listed
        return name


class Lamini(Speaker):
    def make(self, name: str) -> str:
        if self.data is None:
            place = self.ask("GET", "/v1/get-upload-base-path")["upload_base_path"]
            body = {"upload_base_path": place, "data": PAIRS}
            self.data = self.ask("POST", "/v1/local-data", json=body)
        made = self.ask("POST", "/v1/train", json={
            "model_name": MODEL, "dataset_id": self.data["dataset_id"], "custom_model_name": name,
            "upload_file_path": self.data["dataset_location"],
        })  # fmt: skip
        assert made["status"] == "CREATED"
        return str(self.daemon.job(made["job_id"])["job_id"])

    def listed(self) -> Statuses:
        jobs = self.ask("GET", "/v1/train/jobs")
        for job in jobs:
            alone = self.ask("GET", f"/v1/train/jobs/{job['job_id']}")
            assert alone["status"] == job["status"]
        return {self.daemon.job(job["job_id"])["job_id"]: job["status"] for job in jobs}

    def model(self, job: str) -> str | None:
        return self.ask("GET", f"/v1/train/jobs/{self.daemon.job(job)['number']}")["model_name"]


class Vertesia(Speaker):
    def make(self, name: str) -> str:
        training = "/api/v1/training"
        body = {"name": name, "env": "local", "model": MODEL}
        session = self.ask("POST", training, json=body)["id"]
        if self.data is None:
            runs = [run["id"] for run in self.ask("POST", "/api/v1/runs", json=CHAT)]
            self.ask("POST", f"{training}/{session}/add", json={"runs": runs})
            self.data = self.ask("POST", f"{training}/{session}/build")["name"]
        else:
            self.ask("POST", f"{training}/{session}/dataset", json={"dataset": self.data})
        return str(self.ask("POST", f"{training}/{session}/start")["id"])

    def listed(self) -> Statuses:
        jobs = [each["job"] for each in self.ask("GET", "/api/v1/training")]
        for job in jobs:
            alone = self.ask("GET", f"/api/v1/training/job/{job['id']}")
            assert alone["status"] == job["status"]
        return {job["id"]: job["status"] for job in jobs}

    def model(self, job: str) -> str | None:
        return self.ask("GET", f"/api/v1/training/job/{job}")["model"]


SPEAKERS: dict[str, Callable[[DaemonProcess], Speaker]] = {
    "native": Native,
    "openai": OpenAI,
    "lamini": Lamini,
    "vertesia": Vertesia,
}
