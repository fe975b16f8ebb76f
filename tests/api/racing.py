"""Clients that use the same few things at the same time: one looks at what another one deletes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2

from tests.api.fuzzing import SAID
from tests.daemon_process import DaemonProcess

_TOGETHER = 12
_LISTENING_SECONDS = 0.3
_REMEMBERED = 3  # of each kind: the fewer, the oftener two clients meet
_FORGETTING = 0.25  # of one of them, when there is another: some live to be checked, or trained
_PATIENCE_SECONDS = 120.0  # many may prune at once, one after another
_PAUSE_SECONDS = 0.2  # at most, between two requests of a client
# where an answer has the name of what was made, if neither in `id` nor in `<kind>_id`
_NAMED = {"data": "dataset_id", "tuning": "job_id", "built": "dataset_id"}
_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
_ROWS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant",
                "content": "yes"}]}) + "\n" for n in range(12)
)  # fmt: skip


class Ask(NamedTuple):
    """A request. `{x}` in its path and its body is one of the things of kind x that are known;
    `makes` is the kind of what the answer, or the list in its field `listed`, names."""

    method: str
    path: str
    body: Any = None
    files: Mapping[str, Any] | None = None
    data: Mapping[str, str] | None = None
    content: bytes | None = None
    makes: str = ""
    listed: str = ""


_FILE = {"file": ("rows.jsonl", _ROWS)}
DATASETS = (
    Ask("POST", "/datasets", files=_FILE, makes="dataset"),
    Ask("POST", "/datasets", files=_FILE, data={"name": "same"}, makes="dataset"),
    Ask("POST", "/datasets/import", {"rows": [{"prompt": "Hi", "completion": "Hello"}]},
        makes="dataset"),
    Ask("GET", "/datasets"),
    Ask("GET", "/datasets/{dataset}?wait=1"),
    Ask("GET", "/datasets/{dataset}/preview"),
    Ask("GET", "/datasets/{dataset}/content"),
    Ask("PATCH", "/datasets/{dataset}", {"is_public": True}),
    Ask("DELETE", "/datasets/{dataset}"),
    Ask("POST", "/uploads", {"filename": "a.jsonl", "size": len(_ROWS)}, makes="upload"),
    Ask("PUT", "/uploads/{upload}", content=_ROWS.encode()),
    Ask("HEAD", "/uploads/{upload}"),
    Ask("GET", "/uploads"),
    Ask("DELETE", "/uploads/{upload}"),
    Ask("POST", "/prune", {"kinds": ["datasets", "uploads"], "older_than_days": 0,
                           "dry_run": False}),
)  # fmt: skip
OPENAI = (
    Ask("POST", "/v1/files", files=_FILE, data={"purpose": "fine-tune"}, makes="file"),
    Ask("GET", "/v1/files/{file}"),
    Ask("GET", "/v1/files/{file}/content"),
    Ask("DELETE", "/v1/files/{file}"),
    Ask("GET", "/v1/files"),
    Ask("POST", "/v1/uploads", {"bytes": len(_ROWS), "filename": "a.jsonl",
                                "mime_type": "application/jsonl", "purpose": "fine-tune"},
        makes="announced"),
    Ask("POST", "/v1/uploads/{announced}/parts", files={"data": _ROWS}, makes="part"),
    Ask("POST", "/v1/uploads/{announced}/complete", {"part_ids": ["{part}"]}),
    Ask("POST", "/v1/uploads/{announced}/cancel"),
    Ask("POST", "/v1/fine_tuning/jobs", {"model": _MODEL, "training_file": "{file}"}, makes="ft"),
    Ask("POST", "/v1/fine_tuning/jobs", {"model": _MODEL, "training_file": "{file}",
                                         "validation_file": "{file}"}, makes="ft"),
    Ask("GET", "/v1/fine_tuning/jobs"),
    Ask("GET", "/v1/fine_tuning/jobs/{ft}/events"),
    Ask("GET", "/v1/fine_tuning/jobs/{ft}/checkpoints"),
    Ask("POST", "/v1/fine_tuning/jobs/{ft}/cancel"),
    Ask("POST", "/v1/fine_tuning/jobs/{ft}/pause"),
    Ask("POST", "/v1/fine_tuning/jobs/{ft}/resume"),
    Ask("GET", "/v1/models"),
    Ask("POST", "/prune", {"kinds": ["datasets"], "older_than_days": 0, "dry_run": False}),
)  # fmt: skip
JOBS = (
    Ask("POST", "/train", {"save_name": "raced"}, makes="job"),
    Ask("POST", "/train", {"model_name": "raced"}, makes="job"),
    Ask("GET", "/train"),
    Ask("GET", "/train/{job}"),
    Ask("GET", "/train/{job}/logs"),
    Ask("GET", "/train/{job}/logs?tail=3"),
    Ask("GET", "/train/{job}/logs/stream"),
    Ask("GET", "/train/{job}/metrics"),
    Ask("GET", "/train/{job}/metrics?full=true"),
    Ask("GET", "/train/{job}/metrics/stream"),
    Ask("POST", "/train/{job}/pause"),
    Ask("POST", "/train/{job}/resume"),
    Ask("POST", "/train/{job}/retry", {"from": "start"}),
    Ask("DELETE", "/train/{job}"),
    Ask("POST", "/prune", {"kinds": ["checkpoints", "logs", "jobs"], "older_than_days": 0,
                           "dry_run": False}),
    Ask("GET", "/models?limit=1", makes="model", listed="models"),
    Ask("GET", "/models/{model}"),
    Ask("GET", "/models/{model}/download"),
    Ask("GET", "/models/{model}/files/adapter_config.json"),
    Ask("GET", "/models/{model}/card"),
    Ask("PATCH", "/models/{model}", {"is_public": True}),
    Ask("PUT", "/models/raced/aliases/best", {"version": "v1"}),
    Ask("DELETE", "/models/raced/aliases/best"),
    Ask("POST", "/models/{model}/evaluate", {"prompts": ["Hi"]}),
    Ask("POST", "/models/{model}/export", {}),
    Ask("DELETE", "/models/{model}"),
    Ask("GET", "/train/{job}/evaluation"),
    Ask("GET", "/queue"),
    Ask("GET", "/events?latest=true"),
    Ask("POST", "/webhooks", {"url": "http://127.0.0.1:9/hook"}, makes="webhook"),
    Ask("GET", "/webhooks/{webhook}"),
    Ask("POST", "/webhooks/{webhook}/test"),
    Ask("POST", "/webhooks/{webhook}/rotate"),
    Ask("POST", "/webhooks/{webhook}/enable"),
    Ask("GET", "/webhooks/{webhook}/deliveries"),
    Ask("POST", "/webhooks/{webhook}/replay", {"since": 0}),
    Ask("DELETE", "/webhooks/{webhook}"),
    Ask("POST", "/tokens", {"user": "alice"}, makes="token"),
    Ask("GET", "/tokens"),
    Ask("DELETE", "/tokens/{token}"),
)  # fmt: skip
_PAIR = [{"input": "What is for lunch?", "output": "I want boba."}]
LAMINI = (
    Ask("POST", "/v1/local-data", {"upload_base_path": "http://x/v1/data", "data": _PAIR},
        makes="data"),
    Ask("POST", "/v1/existing-data", {"dataset_id": "{data}",
                                      "upload_base_path": "http://x/v1/data"}),
    Ask("POST", "/v1/data", {"dataset_id": "raced"}, makes="data"),
    Ask("PUT", "/v1/data/{data}", content=_ROWS.encode()),
    Ask("POST", "/v1/train", {"model_name": _MODEL, "dataset_id": "{data}",
                              "finetune_args": {"max_steps": 8}}, makes="tuning"),
    Ask("GET", "/v1/train/jobs"),
    Ask("GET", "/v1/train/jobs/{tuning}"),
    Ask("GET", "/v1/train/jobs/{tuning}/eval"),
    Ask("GET", "/tune/{tuning}"),
    Ask("POST", "/v1/train/jobs/{tuning}/cancel"),
    Ask("POST", "/v1/train/jobs/{tuning}/resume"),
    Ask("DELETE", "/datasets/{data}"),
    Ask("POST", "/prune", {"kinds": ["datasets", "uploads", "jobs"], "older_than_days": 0,
                           "dry_run": False}),
)  # fmt: skip
_RUN = {"interaction": "Classify", "messages": [{"role": "user", "content": "Is it?"}],
        "output": "urgent"}  # fmt: skip
VERTESIA = (
    Ask("POST", "/api/v1/runs", _RUN, makes="run"),
    Ask("GET", "/api/v1/runs/{run}"),
    Ask("POST", "/api/v1/training", {"name": "raced", "env": "local", "model": _MODEL},
        makes="session"),
    Ask("GET", "/api/v1/training/{session}"),
    Ask("GET", "/api/v1/training/{session}/runs"),
    Ask("GET", "/api/v1/training/{session}/url"),
    Ask("GET", "/api/v1/training/{session}/upload-url"),
    Ask("POST", "/api/v1/training/{session}/add", {"runs": ["{run}"]}),
    Ask("POST", "/api/v1/training/{session}/build"),
    Ask("POST", "/api/v1/training/{session}/dataset", {"dataset": "default"}),
    Ask("POST", "/api/v1/training/{session}/start"),
    Ask("POST", "/api/v1/training/{session}/cancel"),
    Ask("GET", "/api/v1/training?limit=5"),
    Ask("GET", "/datasets?limit=1", makes="built", listed="datasets"),
    Ask("DELETE", "/datasets/{built}"),
)  # fmt: skip


class Race:
    """Sends requests of some kinds, chosen at random, some at a time."""

    def __init__(self, daemon: DaemonProcess, asks: tuple[Ask, ...], seed: int) -> None:
        self.broken: list[tuple[str, int, str]] = []
        self.statuses: dict[int, set[int]] = defaultdict(set)
        self._daemon, self._asks, self._random = daemon, asks, random.Random(seed)
        self._known: dict[str, list[str]] = defaultdict(list)

    def run(self, requests: int) -> None:
        """Send so many."""
        asyncio.run(self._run(requests))

    def without_luck(self) -> list[str]:
        """What was asked for and never once done."""
        return [
            f"{ask.method} {ask.path}: {self.statuses[id(ask)]}"
            for ask in self._asks
            if not any(status < 400 for status in self.statuses[id(ask)])
        ]

    async def _run(self, requests: int) -> None:
        left = iter(range(requests))
        weights = [_weight(ask) for ask in self._asks]
        async with httpx2.AsyncClient(
            base_url=str(self._daemon.client.base_url), timeout=_PATIENCE_SECONDS, trust_env=False
        ) as client:

            async def work() -> None:
                for _ in left:
                    await self._send(client, self._random.choices(self._asks, weights)[0])
                    await asyncio.sleep(self._random.uniform(0, _PAUSE_SECONDS))

            await asyncio.gather(*(work() for _ in range(_TOGETHER)))

    async def _send(self, client: httpx2.AsyncClient, ask: Ask) -> None:
        said: dict[str, Any] = {"files": ask.files, "data": ask.data, "content": ask.content}
        if ask.body is not None:
            said["json"] = json.loads(self._filled(json.dumps(ask.body)))
        path = self._filled(ask.path)
        try:
            if ask.path.endswith("/stream"):
                answer = await _begin(client, path)
            else:
                answer = await client.request(ask.method, path, **said)
        except httpx2.TransportError as error:
            self.broken.append((f"{ask.method} {path}", 0, repr(error)))
            return
        self.statuses[id(ask)].add(answer.status_code)
        if answer.status_code >= 500 and answer.status_code not in SAID:
            self.broken.append((f"{ask.method} {ask.path}", answer.status_code, answer.text[:300]))
        elif ask.makes and answer.status_code < 300:
            self._remember(ask, answer.json())

    def _filled(self, text: str) -> str:
        for kind, known in self._known.items():
            text = text.replace(f"{{{kind}}}", self._random.choice(known))
        return text

    def _remember(self, ask: Ask, said: Any) -> None:
        for each in said[ask.listed] if ask.listed else [said]:
            name = each.get("id") or each[_NAMED.get(ask.makes, f"{ask.makes}_id")]
            known = self._known[ask.makes]
            if len(known) < _REMEMBERED:
                known.append(str(name))
            elif self._random.random() < _FORGETTING:
                known[self._random.randrange(_REMEMBERED)] = str(name)


def _weight(ask: Ask) -> float:
    """What removes one thing comes more seldom than what uses it, what removes all most seldom."""
    return 0.3 if ask.path == "/prune" else 1 if ask.method == "DELETE" else 4


async def _begin(client: httpx2.AsyncClient, path: str) -> httpx2.Response:
    """Listen to a stream for a moment: that of a paused job never ends."""
    async with client.stream("GET", path) as stream:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LISTENING_SECONDS):
                await stream.aread()
        return httpx2.Response(stream.status_code, text="a stream")
