"""What a model consists of goes out whole: as a zip, file by file, with its card."""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.daemon_process import DaemonProcess, running_daemon
from tests.model_parts import FILES, put_model
from training_cluster.domain.model import Model

MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path_factory.mktemp("files") / "state", environment) as started:
        yield started


def a_model(daemon: DaemonProcess, **parts: object) -> Model:
    job = daemon.wait_for(daemon.submit(learning_rate=3e-5)["job_id"])
    return put_model(daemon.state, job["job_id"], job["user"], **parts)  # type: ignore[arg-type]


def unpacked(daemon: DaemonProcess, model: Model) -> zipfile.ZipFile:
    response = daemon.client.get(f"/models/{model.key}/download")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    kept_as = f'filename="{model.name}-{model.version}.zip"'
    assert kept_as in response.headers["content-disposition"], "curl -OJ knows no other form"
    assert len(response.content) == int(response.headers["content-length"])
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    return archive


def test_a_download_is_a_zip_whose_files_are_what_the_trainer_wrote(daemon):
    model = a_model(daemon)
    archive = unpacked(daemon, model)
    folder = f"{model.name}-{model.version}"
    assert set(archive.namelist()) == {f"{folder}/{name}" for name in FILES}
    for name, content in FILES.items():
        if name != "README.md":
            assert archive.read(f"{folder}/{name}") == content
    weights = archive.getinfo(f"{folder}/adapter_model.safetensors")
    assert weights.compress_type == zipfile.ZIP_STORED
    for name, content in FILES.items():
        assert (Path(model.path) / name).read_bytes() == content, "nothing of it was changed"


def test_the_card_says_what_the_trainer_wrote_and_where_the_model_comes_from(daemon):
    model = a_model(daemon)
    answer = daemon.client.get(f"/models/{model.key}/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    card = answer.text
    assert card.startswith("---\nlibrary_name: peft\n---\n\n# a model\n")
    for said in (model.key, model.job_id, "v1.0", "5d" * 32, "Qwen/Qwen2.5-1.5B-Instruct"):
        assert said in card
    assert "| final loss | 0.5 |" in card
    assert '"learning_rate": 3e-05' in card
    assert "webhook_url" not in card
    packed = unpacked(daemon, model).read(f"{model.name}-{model.version}/README.md").decode()
    assert packed == card


def test_the_folder_a_trainer_wrote_to_is_not_the_name_of_the_model(daemon):
    readme = b"---\nmodel-index:\n- name: output\n  results: []\n---\n\n# output\n\nsome output\n"
    model = a_model(daemon, files={**FILES, "README.md": readme})
    card = daemon.client.get(f"/models/{model.key}/card").text
    assert f"- name: {model.key}\n" in card
    assert f"\n# {model.key}\n\nsome output\n" in card


def test_a_model_without_a_card_gets_one(daemon):
    files = {name: content for name, content in FILES.items() if name != "README.md"}
    model = a_model(daemon, files=files)
    card = daemon.client.get(f"/models/{model.key}/card").text
    assert card.startswith('---\nbase_model: "Qwen/Qwen2.5-1.5B-Instruct"\n---\n')
    assert f"# {model.key}" in card


def test_what_is_only_for_going_on_stays_behind(daemon):
    files = {**FILES, "optimizer.pt": b"1", "rng_state.pth": b"2", "training_args.bin": b"3"}
    names = unpacked(daemon, a_model(daemon, files=files)).namelist()
    assert {name.partition("/")[2] for name in names} == set(FILES)


def test_a_link_that_a_trainer_left_leads_nobody_out(daemon, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the daemon's own")
    model = a_model(daemon)
    weights = Path(model.path) / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(secret)
    (Path(model.path) / "README.md").unlink()
    (Path(model.path) / "README.md").symlink_to(secret)
    archive = unpacked(daemon, model)
    assert all(b"daemon's own" not in archive.read(name) for name in archive.namelist())
    path = f"/models/{model.key}/files/adapter_model.safetensors"
    assert daemon.client.get(path).status_code == 404


@pytest.mark.parametrize("name", ["no-such", "%2E%2E", "..%2Fa", "%2Fetc%2Fpasswd", "%00"])
def test_only_files_of_the_model_are_handed_out(daemon, name):
    model = a_model(daemon)
    assert daemon.client.get(f"/models/{model.key}/files/{name}").status_code in (404, 422)


def test_a_part_of_a_file_is_handed_out(daemon):
    model = a_model(daemon)
    path = f"/models/{model.key}/files/adapter_model.safetensors"
    content = FILES["adapter_model.safetensors"]
    assert daemon.client.get(path).content == content
    part = daemon.client.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    rest = daemon.client.get(path, headers={"Range": "bytes=3000-"})
    assert rest.content == content[3000:]
    beyond = daemon.client.get(path, headers={"Range": "bytes=9999999-"})
    assert beyond.status_code == 416


def test_a_model_whose_files_are_gone_says_so(daemon):
    model = a_model(daemon)
    daemon.client.delete(f"/models/{model.key}")
    for what in ("download", "card", "files/README.md"):
        answer = daemon.client.get(f"/models/{model.key}/{what}")
        assert (answer.status_code, answer.json()["code"]) == (410, "pruned")


def big(daemon: DaemonProcess, mebibytes: int) -> tuple[Model, str]:
    """A model with a file so large, and the hash of that."""
    model = a_model(daemon)
    path, digest, block = Path(model.path) / "model.safetensors", hashlib.sha256(), os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(block)
            digest.update(block)
    with closing(sqlite3.connect(daemon.state / "queue.db")) as connection, connection:
        connection.execute(
            "UPDATE models SET files = json_insert(files, '$[#]', ?) WHERE number = ?",
            (path.name, model.number),
        )
    return model, digest.hexdigest()


def growth(daemon: DaemonProcess, model: Model, digest: str) -> tuple[float, float]:
    """By how many MiB the daemon grew at most while a model streamed, and MiB per second."""
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    daemon.client.get(f"/models/{a_model(daemon).key}/download")  # everything is loaded once
    before, most, found, count = process.memory_info().rss, 0, hashlib.sha256(), 0
    began = time.monotonic()
    url = f"/models/{model.key}/files/model.safetensors"
    for where in (url, f"/models/{model.key}/download"):
        with daemon.client.stream("GET", where, timeout=600) as response:
            assert response.status_code == 200
            for number, chunk in enumerate(response.iter_bytes(MIB)):
                count += len(chunk)
                if where is url:
                    found.update(chunk)
                if number % 8 == 0:
                    most = max(most, process.memory_info().rss)
    assert found.hexdigest() == digest
    return (most - before) / MIB, count / MIB / (time.monotonic() - began)


def test_a_model_that_is_deleted_while_it_is_downloaded_comes_whole(daemon):
    weights = b"\x10\0\0\0\0\0\0\0" + os.urandom(24 * MIB)
    model = a_model(daemon, name="going", files={**FILES, "adapter_model.safetensors": weights})
    with daemon.client.stream("GET", f"/models/{model.key}/download") as response:
        pieces = response.iter_bytes(MIB)
        received = [next(pieces)]
        assert daemon.client.delete(f"/models/{model.key}").status_code == 200
        assert not Path(model.path).exists()
        received += pieces
    archive = zipfile.ZipFile(io.BytesIO(b"".join(received)))
    assert archive.testzip() is None
    assert archive.read(f"going-{model.version}/adapter_model.safetensors") == weights


def test_a_download_does_not_grow_the_daemon(daemon):
    more, _ = growth(daemon, *big(daemon, 48))
    assert more < 24, f"grew by {more:.1f} MiB"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_gibibyte_does_not_grow_the_daemon(daemon):
    more, speed = growth(daemon, *big(daemon, 1024))
    print(f"2 x 1 GiB: daemon grew by {more:.1f} MiB, {speed:.0f} MiB/s")
    assert more < 24
