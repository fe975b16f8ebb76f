"""`training-cluster dataset` and `client.datasets` against a real daemon."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed
from tests.daemon_process import DaemonProcess
from training_cluster.client import ApiError, Client, Dataset
from training_cluster.client.errors import CannotConnect, ClientError

ROWS = [{"prompt": f"question {number}", "completion": "answer"} for number in range(30)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def daemon(shared_daemon: DaemonProcess, use: Callable[..., DaemonProcess]) -> DaemonProcess:
    return use(shared_daemon)


@pytest.fixture
def client(shared_daemon):
    with Client(str(shared_daemon.client.base_url)) as client:
        yield client


def test_a_file_is_handed_in_looked_at_downloaded_and_removed(
    daemon: DaemonProcess, run: Run, file: Path, tmp_path: Path
) -> None:
    made = run("dataset", "add", file, "--name", "cli", "--validation", "0.1")
    assert (made.code, made.out) == (0, "cli@v1.0\n"), made
    assert "submit --dataset-version cli@v1.0" in made.err
    assert "cli@v1.0" in run("dataset", "list").out
    shown = run("dataset", "show", "cli").out
    assert "prompt_completion" in shown
    assert "27, for validation 3" in shown
    assert json.loads(run("dataset", "preview", "cli", "-n", "1").out) in ROWS
    back = tmp_path / "back.jsonl"
    assert run("dataset", "download", "cli", back).code == 0
    assert back.read_bytes() == file.read_bytes()
    assert run("dataset", "show", "cli", "--json").document["key"] == "cli@v1.0"
    assert "is removed" in run("dataset", "remove", "cli@v1.0").out
    assert "cli@v1.0" not in run("dataset", "list").out


def test_a_bad_file_ends_with_1_and_says_where(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "x", "completion": ""}\n')
    failed(run("dataset", "add", path), "line 1", "dataset show bad@v1.0")


def test_a_column_with_another_name_is_said_on_the_command_line(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "german.jsonl"
    path.write_text('{"frage": "x", "antwort": "y"}\n')
    columns = ("--column", "prompt=frage", "--column", "response=antwort")
    made = run("dataset", "add", path, "--format", "prompt_completion", *columns)
    assert (made.code, made.out) == (0, "german@v1.0\n"), made
    failed(run("dataset", "add", path, "--column", "prompt"), "ROLE=COLUMN", code=2)
    failed(run("dataset", "add"), "name a file", code=2)


def test_a_client_goes_on_where_its_connection_broke(client, file, monkeypatch):
    from training_cluster.client import datasets

    monkeypatch.setattr(datasets, "_PIECE_BYTES", 100)
    monkeypatch.setattr(datasets, "_PAUSE_SECONDS", 0.01)
    chance, offsets, lost = random.Random(5), [], []
    whole = client._wire.upload

    def breaking(path, content, headers):
        """What comes of the part is told as one; then the connection is said to be gone."""
        said = headers["Content-Range"]
        first, total = int(said.split()[1].split("-")[0]), said.rpartition("/")[2]
        offsets.append(first)
        data = b"".join(content)
        sent = data[: chance.randint(1, 700)]
        span = f"bytes {first}-{first + len(sent) - 1}/{total}"
        short = {"Content-Range": span, "Content-Length": str(len(sent))}
        if first + len(sent) == int(total) and not lost:
            lost.append(whole(path, iter([sent]), short))  # its answer does not come back
        elif first + len(sent) == int(total):
            return whole(path, iter([sent]), short)
        else:
            with pytest.raises(ClientError):  # 308: more is to come
                whole(path, iter([sent]), short)
        raise CannotConnect("broken", was_sent=True)

    monkeypatch.setattr(client._wire, "upload", breaking)
    made = client.datasets.add(file, name="broken")
    assert len(offsets) > 2
    assert offsets == sorted(set(offsets)), "nothing is sent twice but the last byte"
    assert lost
    assert client.datasets.wait(made.key, 60).rows == len(ROWS)


def test_the_client_says_what_the_daemon_says(client, file):
    made = client.datasets.add(file, name="twice", version="v7")
    assert isinstance(made, Dataset)
    with pytest.raises(ApiError) as caught:
        client.datasets.add(file, name="twice", version="v7")
    assert caught.value.code == "name_taken"
    with pytest.raises(ApiError):
        client.datasets.get("nobody")
    taken = client.datasets.take(rows=ROWS[:2], name="rows")
    assert client.datasets.wait(taken.key, 60).rows == 2
    assert {each.name for each in client.datasets.all()} >= {"twice", "rows"}


def test_a_dataset_is_opened_and_closed(client, file):
    made = client.datasets.add(file, name="for-others")
    assert made.is_public is False
    assert client.datasets.set_public(made.key, is_public=True).is_public
    assert client.datasets.wait(made.key, 60).is_public, "its check changes nothing of that"
    assert not client.datasets.set_public(made.key, is_public=False).is_public


def test_a_download_goes_on_where_it_stopped(client, file, tmp_path):
    made = client.datasets.add(file, name="part")
    target = tmp_path / "back.jsonl"
    target.with_name("back.jsonl.part").write_bytes(file.read_bytes()[:50])
    assert client.datasets.download(made.key, target) == file.stat().st_size
    assert target.read_bytes() == file.read_bytes()
    assert not target.with_name("back.jsonl.part").exists()


def test_an_empty_file_is_taken_and_found_out(client, tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    made = client.datasets.add(path)
    assert "is empty" in (client.datasets.wait(made.key, 60).error or "")


def test_an_upload_that_broke_off_is_listed_and_gone_on_with(
    daemon: DaemonProcess, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(str(daemon.client.base_url)) as client:
        begun = client.datasets.begin(file, name="resumed").upload_id
        size = file.stat().st_size
        part = {"Content-Range": f"bytes 0-99/{size}", "Content-Length": "100"}
        with pytest.raises(ClientError):  # 308: more is to come
            client._wire.upload(f"/uploads/{begun}", iter([file.read_bytes()[:100]]), part)
    listed = run("dataset", "uploads", "--json").document["uploads"]
    assert [(one["received"], one["size"]) for one in listed if one["upload_id"] == begun] == [
        (100, size)
    ]
    assert begun in run("dataset", "uploads").out
    refused = run("dataset", "add", file, "--resume", begun, "--name", "other")
    failed(refused, "--resume goes with the file alone", code=2)
    made = run("dataset", "add", file, "--resume", begun)
    assert (made.code, made.out) == (0, "resumed@v1.0\n"), made
    assert begun not in run("dataset", "uploads").out
    failed(run("dataset", "add", file, "--resume", "nothing"), "there is no upload")


def test_how_to_go_on_is_said_when_a_connection_breaks_for_good(
    daemon: DaemonProcess, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training_cluster.client import datasets

    def broken(*_: object, **__: object) -> None:
        raise CannotConnect("broken", was_sent=True)

    with monkeypatch.context() as patched:
        patched.setattr(datasets.Datasets, "_put", broken)
        patched.setattr(datasets, "_PAUSE_SECONDS", 0.0)
        said = run("dataset", "add", file, "--name", "later")
    assert (said.code, "error: broken" in said.err) == (1, True), said
    begun = said.err.partition("--resume ")[2].split()[0]
    assert "is given up" in run("dataset", "uploads", "--give-up", begun).out
    assert begun not in run("dataset", "uploads").out


def test_a_folder_and_a_place_outside_the_roots_are_refused_in_a_line(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    failed(run("dataset", "add", tmp_path), "is a folder: name one file", code=2)
    refused = run("dataset", "add", "--path", tmp_path / "x.jsonl")
    failed(refused, "is not below a dataset root")
    assert refused.err.count("is not below a dataset root") == 1


def test_what_earlier_tries_left_of_another_file_is_no_part_of_a_download(client, file, tmp_path):
    made = client.datasets.wait(client.datasets.add(file, name="whole").key, 60)
    target = tmp_path / "back.jsonl"
    target.with_name("back.jsonl.part").write_bytes(b"of something else")
    client.datasets.download(made.key, target)
    assert target.read_bytes() == file.read_bytes()
