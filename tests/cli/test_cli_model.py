"""Models from the command line: what a job left is found, named, downloaded, exported, removed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed
from tests.daemon_process import DaemonProcess, running_daemon, trainer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "record").mkdir()
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("kinds", folder / "record", 0),
        "HF_HOME": str(folder / "hf"),
    }
    with running_daemon(folder / "state", environment) as started:
        yield started


@pytest.fixture
def daemon(running: DaemonProcess, use: Callable[..., DaemonProcess]) -> DaemonProcess:
    return use(running)


def test_a_model_is_listed_shown_named_downloaded_and_removed(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    daemon.wait_for(daemon.submit(lora_name="chat")["job_id"])
    assert "chat@v1" in run("model", "list").out
    assert "Where this model comes from" in run("model", "show", "chat").out
    assert run("model", "show", "chat", "--json").document["kind"] == "adapter"
    assert "chat@best means chat@v1" in run("model", "alias", "chat@v1", "best").out
    assert "best" in run("model", "list", "--name", "chat").out
    assert "chat@v1 is public" in run("model", "publish", "chat").out
    assert "chat@v1 is not public" in run("model", "publish", "chat", "--withdraw").out
    got = run("model", "download", "chat@best", tmp_path, "--json")
    file = Path(got.document["file"])
    assert file == tmp_path / "chat-v1.zip"
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert "chat-v1/adapter_model.safetensors" in archive.namelist()
    failed(run("model", "download", "chat", tmp_path), "is there already")
    assert not list(tmp_path.glob(".*.part"))
    assert "nothing any more" in run("model", "alias", "chat", "best", "--drop").out
    assert "deleted" in run("model", "remove", "chat@v1").out
    assert "chat@v1" not in run("model", "list").out
    assert "deleted" in run("model", "list", "--all").out
    failed(run("model", "download", "chat@v1", tmp_path / "x.zip"), "deleted")
    failed(run("model", "show", "no-such"), "there is no model")


def test_exports_and_evaluations_are_queued(daemon: DaemonProcess, run: Run) -> None:
    daemon.wait_for(daemon.submit(lora_name="whole")["job_id"])
    made = run("model", "export", "whole", "--name", "in-one", "--json").document
    assert daemon.wait_for(made["job_id"])["config"]["kind"] == "export"
    assert "in-one@v1" in run("model", "list").out
    asked = run("model", "evaluate", "whole", "--prompt", "Who are you?", "--json").document
    assert daemon.wait_for(asked["job_id"])["result"]["prompts"] == 1


def test_base_models_are_listed_and_fetched(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    nothing = {"base_models": [], "downloads": []}
    assert run("base-model", "list", "--json").document == nothing
    secret = tmp_path / "hub-token"
    secret.write_text("hf_secret\n")
    made = run("base-model", "add", "lab/tiny", "--hub-token-file", secret)
    assert made.code == 0, made
    assert "hf_secret" not in made.out + made.err
    number = made.out.split()[1].rstrip(":")
    daemon.wait_for(number)
    shown = run("status", number).out
    assert "download" in shown
    assert "v1.0" not in shown, "a download has no dataset"
    assert "lora_sft" not in shown
    failed(run("base-model", "add", "tiny"), "name")
