"""Names are labels: whatever they say, nothing is made, opened or changed by their name.

A daemon is sent the same requests with harmless names and with hostile ones, while its Python
reports every path it touches. With hostile names no path may come up that does not come up with
harmless ones, and nothing but the daemon's own files may have changed."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon_process import ROOT, DaemonProcess, eventually, running_daemon
from tests.hostile_names import MARK, hostile_names
from tests.trust import Promise

WATCHED = ROOT / "tests" / "watched"
# what a job calls itself: takes any text
LABELS = ("lora_name", "lora_version", "save_name")
RUN_LABELS = ("project", "entity", "experiment", "run_name")
# what must name something that exists: one at a time, or the first refusal hides the others
NAMES = ("model_name", "dataset_version", "recipe", "webhook_url")
# what is refused by its form alone
WORDS = ("template", "lora_target", "additional_target", "tracking_backend", "stage", "kind")
PATHS = ("/train/{}", "/train/{}/logs", "/train/{}/metrics", "/webhooks/{}",
         "/webhooks/x/deliveries/{}", "/{}")  # fmt: skip
QUERIES = ("/train?user={0}&cursor={0}&status={0}", "/train?user={}", "/train?cursor={}",
           "/events?job={0}&type={0}", "/events?job={}", "/train/1/metrics?names={0}&cursor={0}",
           "/train/1/logs?attempt={0}&tail={0}&offset={0}", "/train/1/logs?raw={}")  # fmt: skip
HEADERS = ("Idempotency-Key", "Last-Event-ID")
OTHERS = ("tags", "overrides", "depends_on", "a field", "device", "description", "url", "events",
          "only_user", "reason")  # fmt: skip
FIELDS = sum(map(len, (LABELS, RUN_LABELS, NAMES, WORDS, PATHS, QUERIES, HEADERS, OTHERS)))
# what a daemon looks at now and then, whoever says what; the harmless one may not live that long
BY_THE_CLOCK = {"FOLDER/state/wandb/wandb", "/proc"}
# lives long enough for its runner to write pid.json, which it does not for one that has ended
TRAINER = "/bin/sh -c 'exec sleep 0.02'"
HOOK = "http://127.0.66.1:9/"  # where nobody listens
JSON = {"Content-Type": "application/json"}


class Speaker:
    """Says names to a daemon over one connection."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)

    def say(self, name: str) -> bool:
        """Say a name wherever one can be said; whether a job could be called so."""
        tracking = {**dict.fromkeys(RUN_LABELS, name), "tags": [name]}
        labels = {**dict.fromkeys(LABELS, name), "tracking": tracking}
        made, _ = self._post("/train", labels, dict.fromkeys(HEADERS, _header(name)))
        for field in NAMES:
            self._post("/train", {field: name})
        self._post("/train", dict.fromkeys(WORDS, name))
        self._post("/train", {"overrides": {name: name}, "depends_on": [name], name: name})
        said = quote(name, safe="")
        for path in (*PATHS, *QUERIES):
            self._ask("GET", path.format(said))
        self._put_aside(name, said)
        self._post("/webhooks", {"url": name, "only_user": name, "events": [name]})
        done, hook = self._post("/webhooks", {"url": HOOK, "description": name})
        if done:
            self._ask("DELETE", f"/webhooks/{hook['webhook_id']}")
        return made

    def _put_aside(self, name: str, said: str) -> None:
        content = json.dumps({"reason": name, "seconds": 0.001}).encode()
        self._ask("PUT", f"/devices/{said}/hold", content)
        self._ask("DELETE", f"/devices/{said}/hold")
        self._ask("PUT", "/devices/1/hold", content)

    def _post(
        self, path: str, content: dict[str, object], headers: dict[str, bytes] | None = None
    ) -> tuple[bool, dict[str, Any]]:
        status, body = self._ask("POST", path, json.dumps(content).encode(), headers)
        return status < 300, json.loads(body)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> tuple[int, bytes]:
        self.connection.request(method, path, body, {**JSON, **(headers or {})})
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status < 500, (method, path, body, content)
        return answer.status, content


def say_all(daemon: DaemonProcess, names: list[str]) -> int:
    """Say names; how many jobs could be called so."""
    speaker = Speaker(daemon)
    with contextlib.closing(speaker.connection):
        return sum(speaker.say(name) for name in names)


def _header(name: str) -> bytes:
    """As far as a header can say it."""
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", name.encode())[:4000].strip()


@contextmanager
def watched_daemon(folder: Path) -> Iterator[DaemonProcess]:
    """A daemon that reports what it touches to `folder`/paths, with models to be found."""
    (folder / "models" / "tiny").mkdir(parents=True)
    (folder / "models" / "tiny" / "config.json").write_text("{}")
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": TRAINER,
        "TRAINING_CLUSTER_MODEL_ROOTS": str(folder / "models"),
        "TRAINING_CLUSTER_CPU_SLOTS": "2",
        "TRAINING_CLUSTER_WEBHOOKS__ALLOW_HOSTS": "127.0.66.1",
        "PYTHONPATH": f"{WATCHED}{os.pathsep}{ROOT}",
        "WATCHED_PATHS": str(folder / "paths"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield daemon


def touched(folder: Path) -> set[str]:
    """The paths a daemon has touched, without what differs from job to job, and without the
    code it has imported."""
    lines = (folder / "paths").read_text("utf-8", "surrogateescape").splitlines()
    paths = (ast.literal_eval(line.partition("\t")[2]) for line in set(lines))
    return {alike(path, folder) for path in paths if not path.startswith(_CODE)}


_CODE = (sys.prefix, sys.base_prefix, str(ROOT / "training_cluster"), "/proc/", "/usr/lib", "/lib")
_ALIKE = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "JOB"),
    (r"tmp[a-z0-9_]{8}", "TMP"),  # first: any other pattern may be in such a name
    (r"\.\d+\.tmp", ".PID.tmp"),
    (r"wh_[0-9a-f]+", "WH"),
    (r"(?<=\d)\d+|\d+", "N"),
)


def alike(path: str, folder: Path) -> str:
    """A path with ids and numbers taken out."""
    text = path.replace(str(folder), "FOLDER")
    for pattern, word in _ALIKE:
        text = re.sub(pattern, word, text)
    return text


def tree(folder: Path) -> set[str]:
    """What lies in a folder, links not followed."""
    return {
        alike(os.path.join(where, name), folder)
        for where, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def beside(folder: Path) -> dict[str, tuple[int, float, bytes]]:
    """The files that are not the daemon's, as they are."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def measure(tmp_path: Path, names: list[str], outside: Path) -> int:
    """Say all names; the jobs that were made of them."""
    harmless, hostile = tmp_path / "harmless", tmp_path / "hostile"
    with watched_daemon(harmless) as daemon:
        tiny = str(harmless / "models" / "tiny")
        for name in ("name", "Qwen/Qwen2.5", tiny, "v1.0", "lora_sft", HOOK):
            say_all(daemon, [name])
            _finish(daemon)
        say_all(daemon, ["1"])
    before = beside(outside), _world()
    with watched_daemon(hostile) as daemon:
        made = say_all(daemon, names)
        _finish(daemon)
    assert (beside(outside), _world()) == before, "nothing outside has changed"
    assert touched(hostile) - touched(harmless) <= BY_THE_CLOCK
    assert tree(hostile) - tree(harmless) == set()
    everything = (hostile / "paths").read_text("utf-8", "surrogateescape").casefold()
    assert MARK not in everything
    assert str(outside) not in everything, "decoys stay unread"
    return made


def _finish(daemon: DaemonProcess) -> None:
    """Wait until every job has ended."""
    eventually(lambda: _is_idle(daemon), 120, pause=0.2)


def _is_idle(daemon: DaemonProcess) -> bool:
    queue = daemon.client.get("/queue").json()
    return not queue["queued"] and not queue["running"]


def _world() -> set[str]:
    """Where a path that escapes could lead: the folders names speak of, as far as marked."""
    places = (Path("/tmp"), Path("/"), Path.home(), ROOT, Path.cwd())
    return {str(path) for place in places for path in place.glob(f"*{MARK}*")}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Files beside everything the daemon may touch, one of them a whole model."""
    folder = tmp_path / "outside"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "lora_sft.yaml").write_text("stage: sft\n")
    (folder / "link").symlink_to("/etc")
    return folder


def check(tmp_path: Path, outside: Path, count: int) -> str:
    """So many names; the figure in words."""
    decoys = [f"{outside}/{name}" for name in ("model", "lora_sft.yaml", "link", "lora_sft")]
    made = measure(tmp_path, hostile_names(count, *decoys), outside)
    assert made > count / 4, "most names are good labels"
    return f"{count} names x {FIELDS} fields, {made} jobs run: 0 path escapes"


def test_no_name_becomes_a_path(tmp_path, outside, trust):
    trust(Promise.NAMES, check(tmp_path, outside, 200), form="short")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_no_name_of_five_thousand_becomes_a_path(tmp_path, outside, trust):
    trust(Promise.NAMES, check(tmp_path, outside, 5000), form="full")
