"""Data in Lamini's words: the places it goes to, and that only ours are ever opened."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import pytest

from tests.daemon_process import running_daemon
from training_cluster.api.dialects.lamini.places import dataset_at

ROWS = [{"input": "What is for lunch?", "output": "I want boba."}] * 3
CHOSEN = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # as lamini 2 chooses


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    environment = {"TRAINING_CLUSTER_TRAINER__COMMAND": "/bin/true"}
    with running_daemon(tmp_path_factory.mktemp("data") / "state", environment) as daemon:
        yield daemon


def post(daemon, path, body, status=200, **more):
    response = daemon.client.post(path, json=body, **more)
    assert response.status_code == status, response.text
    return response.json()


def checked(daemon, key):
    """A dataset once it was checked."""
    return daemon.client.get(f"/datasets/{key}", params={"wait": 60}, timeout=120).json()


def test_rows_become_a_dataset_whose_id_and_place_are_answered(daemon):
    base = daemon.client.get("/v1/get-upload-base-path").json()["upload_base_path"]
    assert base != "azure"  # to which its client would speak another protocol
    stored = post(daemon, "/v1/local-data", {"upload_base_path": base, "data": ROWS})
    assert stored["num_datapoints"] == 3
    assert stored["dataset_location"].startswith(f"{base}/")
    found = checked(daemon, stored["dataset_id"])
    assert (found["status"], found["rows"]) == ("ready", 3)
    known = {"dataset_id": stored["dataset_id"], "upload_base_path": base}
    again = post(daemon, "/v1/existing-data", known)
    assert again["dataset_location"] == stored["dataset_location"]
    assert again["num_datapoints"] == 3


def test_an_id_the_client_has_chosen_is_kept(daemon):
    place = post(daemon, "/v1/data", {"dataset_id": CHOSEN})
    assert place["dataset_id"] == CHOSEN
    post(daemon, "/v1/existing-data", {"dataset_id": CHOSEN}, 404)  # nothing has come yet
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    sent = daemon.client.put(urlsplit(place["dataset_location"]).path, content=lines)
    assert sent.status_code == 200, sent.text
    assert sent.json()["dataset_id"] == CHOSEN
    assert checked(daemon, CHOSEN)["rows"] == 3
    assert post(daemon, "/v1/existing-data", {"dataset_id": CHOSEN})["num_datapoints"] == 3
    counted = {"dataset_id": CHOSEN, "num_datapoints": 5}
    assert post(daemon, "/v1/data/num-datapoints", counted)["num_datapoints"] == 3


def test_a_place_without_an_id_gets_one(daemon):
    first, second = (
        post(daemon, "/v1/data", {"upload_base_path": "azure", "is_public": True}) for _ in "12"
    )
    assert first["dataset_id"] != second["dataset_id"]
    assert first["dataset_location"].startswith(first["upload_base_path"])


def test_the_data_of_a_training_goes_to_the_place_it_names(daemon):
    place = post(daemon, "/v1/data", {"dataset_id": "mine-2"})
    body = {"model_name": "a/b", "data": ROWS, "upload_file_path": place["dataset_location"]}
    assert post(daemon, "/v1/train", body)["dataset_id"] == "mine-2"
    assert checked(daemon, "mine-2")["rows"] == 3


def test_ids_of_others_are_not_given_away(daemon):
    token = post(daemon, "/tokens", {"user": "bob", "role": "submitter"}, 201)["token"]
    bob = {"Authorization": f"Bearer {token}"}
    post(daemon, "/v1/train", {"model_name": "a/b", "data": ROWS, "dataset_id": "taken"})
    refused = post(daemon, "/v1/data", {"dataset_id": "taken"}, 497, headers=bob)
    assert "taken" in refused["detail"]
    body = {"model_name": "a/b", "data": ROWS, "dataset_id": "taken"}
    post(daemon, "/v1/train", body, 497, headers=bob)
    sent = daemon.client.put("/v1/data/taken", content=b'{"input":"a","output":"b"}\n', headers=bob)
    assert sent.status_code == 497


def test_a_path_of_the_machine_is_never_opened(daemon, tmp_path):
    target = tmp_path / "data.jsonl"
    target.write_text(json.dumps(ROWS[0]) + "\n")
    for place in (str(target), f"file://{target}", f"/v1/data/../../..{target}", "azure"):
        stored = post(daemon, "/v1/local-data", {"upload_base_path": place, "data": ROWS})
        assert urlsplit(stored["dataset_location"]).path == f"/v1/data/{stored['dataset_id']}"
        body = {"model_name": "a/b", "upload_file_path": place}
        refused = post(daemon, "/v1/train", body, 422)
        assert "no place of this daemon" in str(refused)
    assert os.listdir(tmp_path) == ["data.jsonl"]
    assert target.read_text() == json.dumps(ROWS[0]) + "\n"


@pytest.mark.parametrize(
    ("place", "dataset"),
    [
        ("http://localhost:23478/v1/data/abc", "abc"),
        ("https://gpubox.share.example/v1/data/abc?is_public=true", "abc"),
        ("http://proxy/training/v1/data/abc", "abc"),
        ("http://localhost/v1/data/", None),
        ("http://localhost/v1/data/..", None),
        ("http://localhost/v1/data/a%2Fb", None),
        ("http://localhost/v2/data/abc", None),
        ("https://storage.example/training-data/platform/lorem?abcdef", None),
        ("/etc/passwd", None),
        ("http://[half/v1/data/abc", None),
    ],
)
def test_a_place_is_known_by_whichever_name_the_daemon_has(place, dataset):
    assert dataset_at(place) == dataset


def test_behind_a_tunnel_places_are_there_where_the_client_is(daemon):
    token = post(daemon, "/tokens", {"user": "root", "role": "submitter"}, 201)["token"]
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Forwarded-Host": "box.share.example",
        "X-Forwarded-Proto": "https",
    }
    found = daemon.client.get("/v1/get-upload-base-path", headers=headers).json()
    assert found["upload_base_path"] == "https://box.share.example/v1/data"


def test_a_dataset_of_many_megabytes_comes_inside_a_request(daemon):
    """Other requests may have one."""
    rows = [{"input": "x" * 1000, "output": f"{number}"} for number in range(5000)]
    stored = post(daemon, "/v1/local-data", {"data": rows})
    assert stored["num_datapoints"] == 5000
    assert checked(daemon, stored["dataset_id"])["rows"] == 5000
    assert daemon.client.post("/v1/existing-data", content=b" " * (2 << 20)).status_code == 413


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "there are no rows"),
        ({"data": []}, "there are no rows"),
        ({"data": [{"output": "x"}]}, "data.0 it has no input; its keys are output"),
        ({"data": [ROWS[0], "text"]}, "data.1 a row is an object"),
        ({"data": ROWS, "is_public": "perhaps"}, "is_public Input should be"),
    ],
)
def test_what_is_wrong_with_data_is_told_with_its_place(daemon, body, words):
    before = daemon.client.get("/datasets").json()
    refused = post(daemon, "/v1/local-data", body, 422)
    wrong = refused["detail"][0]
    first, *where = wrong["loc"]
    assert first == "body"
    assert words in f"{'.'.join(map(str, where))} {wrong['msg']}"
    assert daemon.client.get("/datasets").json() == before


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"data": [{"input": "a"}'])
def test_what_is_no_object_is_told_of_the_body_as_a_whole(daemon, content):
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/train", "/v1/local-data"):
        response = daemon.client.post(path, content=content, headers=headers)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"][0] == "body"
        assert "body" not in response.json()["detail"][0]["loc"][1:]


def test_rows_are_counted_in_numbers(daemon):
    refused = post(daemon, "/v1/local-data", {"data": [ROWS[0], "text"]}, 422)
    assert refused["detail"][0]["loc"] == ["body", "data", 1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/local-data", {"data": ROWS}),
        ("/v1/data", {"dataset_id": "told"}),
        ("/v1/existing-data", {"dataset_id": "v1.0"}),
        ("/v1/data/num-datapoints", {"dataset_id": "v1.0", "num_datapoints": 1}),
    ],
)
def test_keys_that_nobody_knows_are_named(daemon, path, body):
    assert post(daemon, path, body)["warnings"] == []
    answered = post(daemon, path, {**body, "colour": "red", "shape": None})
    assert answered["warnings"] == ["colour had no effect: nothing here goes by that name"]


def test_the_rows_of_public_data_are_for_everybody_and_those_of_other_data_are_not(daemon):
    token = post(daemon, "/tokens", {"user": "carol", "role": "viewer"}, 201)["token"]
    carol = {"Authorization": f"Bearer {token}"}

    def readable(dataset_id):
        checked(daemon, dataset_id)
        paths = (f"/datasets/{dataset_id}/{what}" for what in ("preview", "content"))
        answers = {daemon.client.get(path, headers=carol).status_code for path in paths}
        assert len(answers) == 1
        return answers == {200}

    for said, opened in ((True, True), (False, False), (None, False)):
        stored = post(daemon, "/v1/local-data", {"data": ROWS, "is_public": said})
        assert readable(stored["dataset_id"]) == opened
        body = {"model_name": "a/b", "data": ROWS, "is_public": said}
        assert readable(post(daemon, "/v1/train", body)["dataset_id"]) == opened
    place = post(daemon, "/v1/data", {"is_public": True})["dataset_location"]
    sent = daemon.client.put(place, content=json.dumps(ROWS[0]).encode())
    assert readable(sent.json()["dataset_id"])

    closed = post(daemon, "/v1/local-data", {"data": ROWS})["dataset_id"]
    known = {"model_name": "a/b", "dataset_id": closed}
    post(daemon, "/v1/train", known)
    assert not readable(closed)
    assert post(daemon, "/v1/train", {**known, "is_public": True})["warnings"] == []
    assert readable(closed)
    daemon.client.patch(f"/datasets/{closed}", json={"is_public": False})
    assert not readable(closed)


def test_data_of_others_is_not_opened_and_the_answer_says_so(daemon):
    token = post(daemon, "/tokens", {"user": "bob", "role": "submitter"}, 201)["token"]
    bob = {"Authorization": f"Bearer {token}"}
    his = post(daemon, "/v1/local-data", {"data": ROWS}, headers=bob)["dataset_id"]
    for dataset_id in (his, "v1.0"):  # that of a folder has no owner
        body = {"model_name": "a/b", "dataset_id": dataset_id, "is_public": True}
        (warning,) = post(daemon, "/v1/train", body)["warnings"]
        assert "is_public opens the model only" in warning
    assert daemon.client.get(f"/datasets/{his}").json()["is_public"] is False


def test_a_place_to_which_nothing_was_sent_is_refused_and_says_how_data_comes(daemon):
    """As lamini 2 does it after upload_file, which sends nothing to what is no Azure."""
    place = post(daemon, "/v1/data", {"dataset_id": "empty-place"})["dataset_location"]
    for said in ({"upload_file_path": place}, {"dataset_id": "empty-place"}):
        refused = post(daemon, "/v1/train", {"model_name": "a/b", **said}, 400)
        assert "nothing was sent to it" in refused["detail"]
        assert "upload_file send nothing" in refused["detail"]


def test_data_that_does_not_say_it_is_json_is_refused(daemon):
    response = daemon.client.post("/v1/local-data", content=b'{"data":[{"input":"a"}]}')
    assert response.status_code == 415
    assert "Content-Type" in response.json()["detail"]
