"""Base models by Lamini's API: listed, fetched in the background, private ones without a trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.daemon_process import eventually, running_daemon, trainer
from tests.dialects.lamini.stories import url
from tests.model_hub_stand_in import HubStandIn
from training_cluster.settings import load_settings

PATHS = [
    *("/v1alpha/downloaded_models", "/v1alpha/downloaded_models/"),
    *("/v1/downloaded_models", "/v1/downloaded_models/"),
]
TOKEN = "hf_secretsecretsecret"
# what lamini 3.4.3 makes attributes of
FIELDS = {
    *("model_id", "model_name", "model_type", "user_id", "is_public", "creation_ts"),
    *("prev_download_ts", "prev_download_error", "download_attempts", "status"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of a model below a model root."""
    folder = tmp_path_factory.mktemp("roots") / "own"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    return folder


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, own):
    """A daemon whose downloads take as long as one likes."""
    folder = tmp_path_factory.mktemp("downloads")
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("kinds", folder, 600),
        "TRAINING_CLUSTER_MODEL_ROOTS": str(own.parent),
        "HF_HOME": str(folder / "hf"),
    }
    with running_daemon(folder / "state", environment) as daemon:
        yield daemon


def post(daemon, path=PATHS[0], status=200, **body):
    response = daemon.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def listed(daemon, path=PATHS[0]):
    response = daemon.client.get(path)
    assert response.status_code == 200, response.text
    return {model["model_name"]: model for model in response.json()}


@pytest.mark.parametrize("path", PATHS)
def test_with_and_without_a_slash_without_a_redirect(daemon, own, path):
    found = listed(daemon, path)
    assert found[str(own)]["status"] == "available"
    assert set(found[str(own)]) == FIELDS
    answered = post(daemon, path, hf_model_name="lab/slashes", model_type="transformer")
    assert {**answered, "job_id": None} == {
        "model_name": "lab/slashes",
        "model_type": "transformer",
        "status": "downloading",
        "job_id": None,
        "error": None,
        "warnings": [],
    }
    told = post(daemon, path, hf_model_name="lab/slashes", revision="main")["warnings"]
    assert told == ["revision had no effect: nothing here goes by that name"]


def test_asking_again_tells_of_the_same_download(daemon):
    first = post(daemon, hf_model_name="lab/again", model_type=None, private_hf_token=None)
    assert post(daemon, hf_model_name="lab/again")["job_id"] == first["job_id"]
    found = listed(daemon)["lab/again"]
    assert (found["status"], found["model_id"]) == ("downloading", first["job_id"])
    assert post(daemon, hf_model_name="lab/b", model_type="embedding")["model_type"] == "embedding"


def test_one_whose_first_files_are_there_is_still_being_fetched(daemon):
    first = post(daemon, hf_model_name="lab/halfway")
    snapshot = Path(daemon.environment["HF_HOME"]) / "hub/models--lab--halfway/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(b"{}")  # between two files nothing is incomplete
    again = post(daemon, hf_model_name="lab/halfway")
    assert (again["status"], again["job_id"]) == ("downloading", first["job_id"])
    assert listed(daemon)["lab/halfway"]["status"] == "downloading"


def test_one_that_has_failed_is_not_tried_every_second(daemon):
    first = post(daemon, hf_model_name="lab/broken")
    daemon.client.delete(f"/train/{first['job_id']}")
    eventually(lambda: daemon.job(first["job_id"])["status"] == "cancelled", 60)
    again = post(daemon, hf_model_name="lab/broken")
    assert (again["status"], again["job_id"]) == ("failed", first["job_id"])
    assert listed(daemon)["lab/broken"]["status"] == "failed"


def test_a_token_is_never_shown(daemon):
    answered = post(daemon, hf_model_name="lab/private", private_hf_token=TOKEN)
    job = daemon.client.get(f"/train/{answered['job_id']}").text
    assert TOKEN not in f"{answered}{job}{listed(daemon)}{daemon.log}"
    wrong = post(daemon, status=422, hf_model_name="lab/private", private_hf_token="not a token")
    assert "not a token" not in str(wrong)


def test_what_is_no_hub_id_is_refused(daemon):
    for name in ("", "no-owner", "../../etc", "a/b/c"):
        response = daemon.client.post(PATHS[0], json={"hf_model_name": name})
        assert response.status_code in (422, 594), response.text
        assert "detail" in response.json()


@pytest.mark.trainer
@pytest.mark.timeout(600)
def test_the_real_client_waits_until_a_model_is_there(tmp_path, lamini_python):
    """From a stand-in of the hub, by the trainer's own huggingface_hub."""
    hub = HubStandIn("lab/tiny", {"config.json": b"{}", "model.safetensors": os.urandom(1 << 17)})
    environment = {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "TRAINING_CLUSTER_DATA_DIR": str(load_settings().data_dir),
    }
    with running_daemon(tmp_path / "state", environment) as daemon:
        told = lamini_python("3.4.3").run(
            "lamini_models.py", url(daemon), seconds=500, model="lab/tiny", longest=400
        )
    hub.close()
    assert told.one("began")["model"]["status"] == "downloading"
    assert told.one("fetched")["model"]["status"] == "available"
    (found,) = told.one("listed")["models"]
    assert found["model_name"] == "lab/tiny"
    assert found["status"] == "available"
    assert set(found) == FIELDS
