"""Models over HTTP: what jobs have left, listed, looked at and deleted by the names jobs show."""

from __future__ import annotations

from urllib.parse import quote

from tests.daemon_process import eventually

MODELS, JOBS = "/v1/models", "/v1/fine_tuning/jobs"


def tuned(daemon, **fields):
    body = {"model": "owner/base", "training_file": "v1.0", **fields}
    made = daemon.client.post(JOBS, json=body)
    assert made.status_code == 200, made.text

    def look():
        job = daemon.client.get(f"{JOBS}/{made.json()['id']}").json()
        return job if job["status"] in ("succeeded", "failed") else None

    done = eventually(look, 60)
    assert done["status"] == "succeeded", done["error"]
    return done


def test_a_model_is_there_by_the_name_its_job_shows(quick):
    job = tuned(quick, suffix="shown")
    name = job["fine_tuned_model"]
    for spelled in (name, quote(name, safe="")):
        model = quick.client.get(f"{MODELS}/{spelled}").json()
        assert model == {
            "id": name,
            "object": "model",
            "created": model["created"],
            "owned_by": job["organization_id"],
        }
        assert type(model["created"]) is int
    page = quick.client.get(MODELS).json()
    assert page["object"] == "list"
    assert page["data"][0]["id"] == name
    native = quick.client.get("/models").json()["models"][0]
    by_registry = quick.client.get(f"{MODELS}/{native['name']}@{native['version']}").json()
    assert by_registry["id"] == name


def test_a_model_is_deleted_once(quick):
    name = tuned(quick)["fine_tuned_model"]
    gone = quick.client.delete(f"{MODELS}/{name}").json()
    assert gone == {"id": name, "object": "model", "deleted": True}
    for method in ("GET", "DELETE"):
        response = quick.client.request(method, f"{MODELS}/{name}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
    assert name not in [each["id"] for each in quick.client.get(MODELS).json()["data"]]


def test_a_model_nobody_made_is_not_found(quick):
    for name in ("ft:a:b:c:99999", "nobody/made-this", "ft:", "nothing"):
        response = quick.client.get(f"{MODELS}/{name}")
        assert response.status_code == 404, name
        assert response.json()["error"]["param"] == "model"


def test_a_slip_of_the_pen_means_no_other_model(quick):
    name = tuned(quick, suffix="meant")["fine_tuned_model"]
    number = name.rpartition(":")[2]
    for wrong in (f"ft:a:b:c:{number}", name.replace("meant", "mean"), f"{name}:ckpt-step-4x"):
        for method in ("GET", "DELETE"):
            assert quick.client.request(method, f"{MODELS}/{wrong}").status_code == 404, wrong
        body = {"model": wrong, "training_file": "v1.0"}
        assert quick.client.post(JOBS, json=body).status_code == 400, wrong
    assert quick.client.get(f"{MODELS}/{name}").status_code == 200


def test_a_job_can_start_from_a_model_by_its_name(quick):
    first = tuned(quick, suffix="first")["fine_tuned_model"]
    job = tuned(quick, model=first, suffix="second")
    assert job["model"] == first
    second = quick.client.get(f"{MODELS}/{job['fine_tuned_model']}").json()
    assert second["id"] == job["fine_tuned_model"]
    native = quick.client.get("/train").json()["jobs"][0]
    assert native["config"]["model_name"] == "owner/base"
    assert native["config"]["model_id"]
    refused = quick.client.post(JOBS, json={"model": "ft:a:b:c:99999", "training_file": "v1.0"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "model"


def test_base_models_are_listed_and_found_whole_names_and_paths_alike(quick):
    path = str(quick.root / "below-a-root")
    owners = {"owner/cached": "huggingface", path: "local"}
    listed = {each["id"]: each["owned_by"] for each in quick.client.get(MODELS).json()["data"]}
    assert owners.items() <= listed.items()
    for name, owner in owners.items():
        model = quick.client.get(f"{MODELS}/{quote(name, safe='')}").json()
        assert (model["id"], model["owned_by"]) == (name, owner)
        assert model["created"] > 0
        refused = quick.client.delete(f"{MODELS}/{quote(name, safe='')}")
        assert refused.status_code == 400
        assert "base model" in refused.json()["error"]["message"]
    assert (quick.root / "below-a-root" / "config.json").exists()
