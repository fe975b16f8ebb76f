"""Base models: what is here is listed, and more is fetched by the trainer's own huggingface_hub,
from a stand-in of the hub (tests/model_hub_stand_in.py), since no real one can be reached here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess, eventually, running_daemon, trainer
from tests.model_hub_stand_in import COMMIT, HubStandIn
from training_cluster.settings import load_settings

NAME, TOKEN = "lab/tiny", "hf_secretsecretsecret"
MIB = 1 << 20


def files(mebibytes: float = 0.1) -> dict[str, bytes]:
    return {"config.json": b"{}", "model.safetensors": os.urandom(int(mebibytes * MIB))}


@contextmanager
def daemon_at(folder: Path, hub: HubStandIn, **more: str) -> Iterator[DaemonProcess]:
    """A daemon whose trainers take this for the hub, and keep what they fetch below `folder`."""
    environment = {
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "TRAINING_CLUSTER_DATA_DIR": str(load_settings().data_dir),
        "TRAINING_CLUSTER_MODEL_ROOTS": str(folder / "roots"),
        **more,
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield daemon


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    started = HubStandIn(NAME, files())
    yield started
    started.close()


def fetch(daemon: DaemonProcess, **body: Any) -> str:
    response = daemon.client.post("/base-models", json={"name": NAME, **body})
    assert response.status_code == 200, response.text
    return str(response.json()["job_id"])


def listed(daemon: DaemonProcess) -> dict[str, dict[str, Any]]:
    found = daemon.client.get("/base-models").json()["base_models"]
    return {model["name"]: model for model in found}


def test_models_of_the_hubs_cache_and_of_the_roots_are_listed(tmp_path, hub, record):
    snapshot = tmp_path / "hf" / "hub" / "models--lab--cached" / "snapshots" / COMMIT
    inner = tmp_path / "roots" / "team" / "own"
    for folder in (snapshot, inner):
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes(b"{}")
        (folder / "model.safetensors").write_bytes(b"w" * 100)
    (tmp_path / "hf" / "hub" / "datasets--lab--rows").mkdir()
    command = trainer("kinds", record, 0)
    with daemon_at(tmp_path, hub, TRAINING_CLUSTER_TRAINER__COMMAND=command) as daemon:
        found = listed(daemon)
        assert found.keys() == {"lab/cached", str(inner)}
        cached = found["lab/cached"]
        assert (cached["source"], cached["revision"]) == ("hub", COMMIT)
        assert cached["size_bytes"] == 102
        assert cached["files"] == ["config.json", "model.safetensors"]
        assert (found[str(inner)]["source"], found[str(inner)]["revision"]) == ("root", None)


def traces(state: Path) -> list[str]:
    """Files of the daemon in which the token can be read."""
    paths = [path for path in state.parent.rglob("*") if path.is_file()]
    return [str(path) for path in paths if TOKEN.encode() in path.read_bytes()]


def test_a_token_lies_in_one_private_file_as_long_as_the_download_lasts(tmp_path, hub, record):
    command = trainer("kinds", record, 60)
    more = {"TRAINING_CLUSTER_TRAINER__COMMAND": command, "HF_TOKEN": "hf_of_the_daemon"}
    with daemon_at(tmp_path, hub, **more) as daemon:
        job = fetch(daemon, private_hf_token=TOKEN)
        daemon.wait_for(job, "running")
        (kept,) = traces(daemon.state)
        assert Path(kept).parent == daemon.state / "download_tokens"
        assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
        assert TOKEN not in daemon.client.get(f"/train/{job}").text
        assert TOKEN not in daemon.client.get("/base-models").text
        daemon.kill()
        daemon.start()
        assert traces(daemon.state) == [kept], "the download goes on"
        (record / "release").touch()
        assert daemon.wait_for(job)["status"] == "completed"
        eventually(lambda: not traces(daemon.state))
        refused = daemon.client.post("/base-models", json={"name": "x", "private_hf_token": TOKEN})
        assert refused.status_code == 422
        odd = daemon.client.post("/base-models", json={"name": NAME, "private_hf_token": "a b"})
        assert odd.status_code == 422
        assert TOKEN not in refused.text + odd.text
        assert not traces(daemon.state)


def test_one_download_of_a_model_at_a_time(tmp_path, hub, record):
    command = trainer("kinds", record, 60)
    with daemon_at(tmp_path, hub, TRAINING_CLUSTER_TRAINER__COMMAND=command) as daemon:
        first = fetch(daemon)
        assert fetch(daemon) == first
        assert fetch(daemon, revision="v2") != first
        (record / "release").touch()
        daemon.wait_for(first)
        assert fetch(daemon) != first


@pytest.mark.trainer
@pytest.mark.timeout(600)
def test_a_model_is_fetched_from_the_hub_with_the_token_that_it_needs(tmp_path, hub):
    hub.token = TOKEN
    with daemon_at(tmp_path, hub) as daemon:
        job = fetch(daemon, private_hf_token=TOKEN)
        done = daemon.wait_for(job, "completed", "failed", seconds=300)
        assert done["status"] == "completed", done["error"]
        assert done["progress"]["percent"] == 100
        model = listed(daemon)[NAME]
        assert model["revision"] == COMMIT
        assert model["is_complete"]
        assert model["size_bytes"] == sum(map(len, hub.files.values()))
        for name, content in hub.files.items():
            assert (Path(model["path"]) / name).read_bytes() == content
        assert {shown for *_, shown in hub.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.slow
@pytest.mark.trainer
@pytest.mark.timeout(900)
def test_without_the_right_token_it_is_a_typed_failure(tmp_path, hub):
    hub.token = TOKEN
    with daemon_at(tmp_path, hub) as daemon:
        for token in (None, "hf_wrong"):
            asked = {} if token is None else {"private_hf_token": token}
            failed = daemon.wait_for(fetch(daemon, **asked), "failed", seconds=300)
            assert failed["error"]["code"] == "model_unavailable"
            assert failed["error"]["hint"]


@pytest.mark.slow
@pytest.mark.trainer
@pytest.mark.timeout(900)
def test_a_download_that_was_cut_off_goes_on_where_it_was(tmp_path, hub):
    hub.files = files(24)
    hub.pause_seconds = 0.05
    with daemon_at(tmp_path, hub) as daemon:
        job = fetch(daemon)
        eventually(lambda: ((daemon.job(job)["progress"] or {}).get("step") or 0) >= 2, 300)
        assert not listed(daemon).get(NAME, {}).get("is_complete", False)
        daemon.client.delete(f"/train/{job}")
        daemon.wait_for(job, "cancelled", seconds=60)
        hub.pause_seconds = 0
        asked = len(hub.asked)
        assert daemon.wait_for(fetch(daemon), seconds=300)["status"] == "completed"
        ranges = [wanted for _, _, wanted, _ in hub.asked[asked:] if wanted]
        assert any(int(r.removeprefix("bytes=").partition("-")[0]) > MIB for r in ranges), ranges
        path = Path(listed(daemon)[NAME]["path"])
        assert (path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
