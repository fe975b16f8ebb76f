"""Files over HTTP: uploaded whole or in parts, checked, listed, trained on, read back."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import pytest

from tests.daemon_process import eventually

FILES, UPLOADS, JOBS = "/v1/files", "/v1/uploads", "/v1/fine_tuning/jobs"
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {number}?"},
            {"role": "assistant", "content": f"It is {number}."},
        ]
    }
    for number in range(20)
]
PREFERENCES = [
    {
        "input": {"messages": [{"role": "user", "content": f"What is {number}?"}]},
        "preferred_output": [{"role": "assistant", "content": "A number."}],
        "non_preferred_output": [{"role": "assistant", "content": "Nothing."}],
    }
    for number in range(4)
]
FIELDS = {
    "id": (str,),
    "object": (str,),
    "bytes": (int,),
    "created_at": (int,),
    "filename": (str,),
    "purpose": (str,),
    "status": (str,),
}


@pytest.fixture
def daemon(quick):
    return quick


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(daemon, content=None, name="train.jsonl", purpose="fine-tune"):
    response = daemon.client.post(
        FILES,
        files={"file": (name, jsonl(ROWS) if content is None else content)},
        data={"purpose": purpose},
    )
    assert response.status_code == 200, response.text
    return response.json()


def get(daemon, path, **query):
    response = daemon.client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def checked(daemon, file):
    def look():
        found = get(daemon, f"{FILES}/{file['id']}")
        return found if found["status"] != "uploaded" else None

    return eventually(look, 60)


def train(daemon, **fields):
    response = daemon.client.post(JOBS, json={"model": "owner/base", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def ended(daemon, job):
    def look():
        found = get(daemon, f"{JOBS}/{job['id']}")
        return found if found["status"] in ("succeeded", "failed", "cancelled") else None

    return eventually(look, 60)


def error_of(response, status=400):
    assert response.status_code == status, response.text
    return response.json()["error"]


def test_a_file_has_every_field_and_becomes_processed(daemon):
    file = upload(daemon)
    for name, kinds in FIELDS.items():
        assert type(file[name]) in kinds, name
    assert file["object"] == "file"
    assert file["purpose"] == "fine-tune"
    assert file["filename"] == "train.jsonl"
    assert file["bytes"] == len(jsonl(ROWS))
    assert file["status"] in ("uploaded", "processed")
    assert checked(daemon, file)["status"] == "processed"
    content = daemon.client.get(f"{FILES}/{file['id']}/content")
    assert content.content == jsonl(ROWS)


def test_a_file_that_cannot_be_used_says_why_and_so_does_its_job(daemon):
    file = upload(daemon, b'{"neither": "nor"}\n')
    job = train(daemon, training_file=file["id"])
    done = ended(daemon, job)
    assert done["status"] == "failed"
    assert done["error"]["code"] == "dataset_invalid"
    assert done["error"]["param"] == "training_file"
    assert "neither" in checked(daemon, file)["status_details"]
    refused = error_of(daemon.client.post(JOBS, json={"model": "o/m", "training_file": file["id"]}))
    assert refused["param"] == "training_file"


def test_answers_that_are_not_to_be_learnt_are_told_of_by_the_job(daemon):
    spoken = ROWS[0]["messages"]
    row = {"messages": [spoken[0], {**spoken[1], "weight": 0}, *spoken]}
    file = upload(daemon, jsonl([row]))
    early = train(daemon, training_file=file["id"])
    checked(daemon, file)
    for job in (early, train(daemon, training_file=file["id"])):
        assert ended(daemon, job)["status"] == "succeeded"
        events = get(daemon, f"{JOBS}/{job['id']}/events", limit=100)["data"]
        [warned] = [event["message"] for event in events if event["level"] == "warn"]
        assert warned.startswith("1 answers have the weight 0")


def test_a_job_trains_on_its_file_and_leaves_a_table_of_its_metrics(daemon):
    file = upload(daemon)
    done = ended(daemon, train(daemon, training_file=file["id"]))
    assert done["status"] == "succeeded"
    assert done["training_file"] == file["id"]
    (results,) = done["result_files"]
    text = daemon.client.get(f"{FILES}/{results}/content").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["train_loss"]) == pytest.approx(1 / 3)
    assert {"train_accuracy", "valid_loss", "valid_mean_token_accuracy"} <= rows[0].keys()
    told = get(daemon, f"{FILES}/{results}")
    assert told["bytes"] == len(text.encode())
    assert told["purpose"] == "fine-tune-results"
    assert told["status"] == "processed"
    listed = get(daemon, FILES, purpose="fine-tune-results", limit=1)["data"]
    assert listed[0]["id"] == results
    refused = error_of(daemon.client.delete(f"{FILES}/{results}"))
    assert "goes with it" in refused["message"]


def test_a_validation_file_is_what_the_training_is_held_against(daemon):
    files = [upload(daemon), upload(daemon, jsonl(ROWS[:3]), "valid.jsonl")]
    ids = {"training_file": files[0]["id"], "validation_file": files[1]["id"]}
    job = train(daemon, **ids)
    assert job["status"] in ("validating_files", "queued", "running")
    done = ended(daemon, job)
    assert done["status"] == "succeeded", done["error"]
    assert {name: done[name] for name in ids} == ids
    native = daemon.client.get("/train").json()["jobs"][0]
    config = json.loads((daemon.attempt_dir(native["job_id"]) / "config.yaml").read_text())
    assert config["eval_dataset"]
    again = ended(daemon, train(daemon, **ids))
    assert again["status"] == "succeeded"
    shown = [file["id"] for file in get(daemon, FILES)["data"]]
    assert shown[:2] == [files[1]["id"], files[0]["id"]]  # the pair is no file


CALLING = {
    "messages": [
        {"role": "user", "content": "How is B?"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
        {"role": "assistant", "content": "It rains."},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
}


@pytest.mark.parametrize("early", [True, False], ids=["while both are checked", "afterwards"])
@pytest.mark.parametrize("calling_first", [True, False])
def test_only_one_of_the_two_files_may_call_tools(daemon, calling_first, early):
    contents = [jsonl([*ROWS, CALLING]), jsonl(ROWS[:3])]
    files = [upload(daemon, content) for content in contents]
    for file in files if not early else ():
        checked(daemon, file)
    ids = [file["id"] for file in (files if calling_first else files[::-1])]
    done = ended(daemon, train(daemon, training_file=ids[0], validation_file=ids[1]))
    assert done["status"] == "succeeded", done["error"]
    native = daemon.client.get("/train").json()["jobs"][0]
    info = json.loads((daemon.attempt_dir(native["job_id"]) / "dataset_info.json").read_text())
    rows = []
    for entry in info.values():
        assert entry["formatting"] == "sharegpt"
        assert entry["columns"]["tools"] == "tools"
        with open(entry["file_name"]) as file:
            rows.append([json.loads(line) for line in file])
    assert sorted(map(len, rows)) == [3, 21]
    assert {tuple(row) for row in rows[0] + rows[1]} == {("conversations", "system", "tools")}


def test_preferences_in_openais_form_are_trained_by_dpo(daemon):
    file = upload(daemon, jsonl(PREFERENCES), "preferences.jsonl")
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": "auto", "n_epochs": 1}}}
    job = train(daemon, training_file=file["id"], method=method)
    shown = job["method"]["dpo"]["hyperparameters"]
    assert shown["beta"] == 0.1
    done = ended(daemon, job)
    assert done["status"] == "succeeded", done["error"]
    refused = daemon.client.post(JOBS, json={"model": "o/m", "training_file": file["id"]})
    assert error_of(refused)["param"] == "training_file"


def test_validation_rows_of_another_form_are_refused(daemon):
    files = [upload(daemon), upload(daemon, jsonl(PREFERENCES))]
    ids = {"training_file": files[0]["id"], "validation_file": files[1]["id"]}
    for file in files:
        checked(daemon, file)
    refused = error_of(daemon.client.post(JOBS, json={"model": "o/m", **ids}))
    assert refused["param"] == "validation_file"
    assert "has the format preference, this one has openai" in refused["message"]
    unknown = {"training_file": files[0]["id"], "validation_file": "file-unknown"}
    refused = daemon.client.post(JOBS, json={"model": "o/m", **unknown})
    assert error_of(refused)["param"] == "validation_file"


def test_validation_rows_that_are_known_to_be_of_no_use_are_refused_at_once(daemon):
    good, bad = upload(daemon), upload(daemon, b'{"neither": "nor"}\n', "bad.jsonl")
    for file in (good, bad):
        checked(daemon, file)
    jobs = get(daemon, JOBS)["data"]
    for names in (("training_file", "validation_file"), ("validation_file", "training_file")):
        ids = dict(zip(names, (good["id"], bad["id"]), strict=True))
        refused = error_of(daemon.client.post(JOBS, json={"model": "o/m", **ids}))
        assert refused["param"] == names[1]
        assert refused["code"] == "invalid_dataset"
        assert "neither" in refused["message"]
        assert "GET /v1/files" in refused["message"]
    assert get(daemon, JOBS)["data"] == jobs


def test_a_validation_file_that_turns_out_to_be_of_no_use_ends_its_job(daemon):
    ids = {
        "training_file": upload(daemon)["id"],
        "validation_file": upload(daemon, jsonl(PREFERENCES))["id"],
    }
    answer = daemon.client.post(JOBS, json={"model": "owner/base", **ids})
    if answer.status_code == 400:  # both were checked in the meantime
        assert error_of(answer)["param"] == "validation_file"
        return
    error = ended(daemon, answer.json())["error"]
    assert "held against" in error["message"]
    assert "validation dataset" in error["message"]
    assert error["param"] is None  # either of the two files may be meant


def test_what_quotes_the_rows_of_a_file_is_for_its_owner(daemon):
    bad = upload(daemon, b'{"messages": [{"role": "a secret of hers"}]}\n')
    assert "a secret" in checked(daemon, bad)["status_details"]
    made = daemon.client.post("/tokens", json={"user": "bob", "role": "submitter"}).json()
    bob = {"Authorization": f"Bearer {made['token']}", "X-Forwarded-For": "203.0.113.9"}
    hers = daemon.client.get(f"{FILES}/{bad['id']}", headers=bob).json()
    assert hers["status"] == "error"
    assert "only" in hers["status_details"]
    asked = [{"model": "o/m", "training_file": bad["id"]}]
    asked.append({"model": "o/m", "training_file": "v1.0", "validation_file": bad["id"]})
    for text in (
        daemon.client.get(FILES, headers=bob).text,
        daemon.client.get(f"{FILES}/{bad['id']}", headers=bob).text,
        *(daemon.client.post(JOBS, json=body, headers=bob).text for body in asked),
        daemon.client.post("/train", json={"dataset_version": bad["id"][5:]}, headers=bob).text,
    ):
        assert "a secret" not in text


def test_files_are_listed_in_both_orders_page_by_page(daemon):
    made = [upload(daemon, name=f"{name}.jsonl")["id"] for name in "abc"]
    page = get(daemon, FILES, limit=2)
    assert [file["id"] for file in page["data"]] == made[:0:-1]
    assert page["has_more"] is True
    rest = get(daemon, FILES, after=page["data"][-1]["id"], purpose="fine-tune")
    assert rest["data"][0]["id"] == made[0]
    assert rest["has_more"] is False
    everything = [file["id"] for file in get(daemon, FILES)["data"]]
    ascending = get(daemon, FILES, order="asc")["data"]
    assert [file["id"] for file in ascending] == everything[::-1]
    behind = get(daemon, FILES, order="asc", after=made[0])["data"]
    assert [file["id"] for file in behind] == made[1:]
    assert get(daemon, FILES, purpose="batch")["data"] == []
    assert daemon.client.delete(f"{FILES}/{made[1]}").status_code == 200
    older = get(daemon, FILES, after=made[1], limit=1)["data"]
    newer = get(daemon, FILES, after=made[1], order="asc")["data"]
    assert [file["id"] for file in older + newer] == [made[0], made[2]]
    for order in ("asc", "desc"):
        query = {"after": "file-none", "order": order}
        assert error_of(daemon.client.get(FILES, params=query), 404)["param"] == "file_id"


def test_a_file_is_deleted_once_nothing_refers_to_it(daemon):
    file = upload(daemon)
    gone = daemon.client.delete(f"{FILES}/{file['id']}").json()
    assert gone == {"id": file["id"], "object": "file", "deleted": True}
    missing = error_of(daemon.client.get(f"{FILES}/{file['id']}"), 404)
    assert missing["param"] == "file_id"
    assert missing["message"] == f"there is no file {file['id']!r}. GET /v1/files lists them"
    assert error_of(daemon.client.delete(f"{FILES}/{file['id']}"), 404)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"file": ("x.jsonl", b"{}")}}, "purpose"),
        ({"files": {"file": ("x.jsonl", b"{}")}, "data": {"purpose": "batch"}}, "purpose"),
        ({"files": {"data": ("x.jsonl", b"{}")}, "data": {"purpose": "fine-tune"}}, "data"),
        ({"files": {"file": (None, "x")}, "data": {"purpose": "fine-tune"}}, "file"),
        ({"json": {"purpose": "fine-tune"}}, "body"),
    ],
)
def test_what_is_no_file_for_training_is_refused(daemon, form, param):
    def ids() -> list[str]:
        return [file["id"] for file in get(daemon, FILES)["data"]]

    before = ids()
    assert error_of(daemon.client.post(FILES, **form))["param"] == param
    assert ids() == before


def announce(daemon, content, **fields):
    body = {
        "bytes": len(content),
        "filename": "parts.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "fine-tune",
        **fields,
    }
    response = daemon.client.post(UPLOADS, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def add_part(daemon, announced, content):
    response = daemon.client.post(
        f"{UPLOADS}/{announced['id']}/parts", files={"data": ("part", content)}
    )
    assert response.status_code == 200, response.text
    assert response.json()["object"] == "upload.part"
    return response.json()["id"]


def complete(daemon, announced, *parts, **fields):
    body = {"part_ids": list(parts), **fields}
    return daemon.client.post(f"{UPLOADS}/{announced['id']}/complete", json=body)


def test_parts_in_any_order_become_the_file_that_was_announced(daemon):
    content = jsonl(ROWS)
    announced = announce(daemon, content)
    assert announced["status"] == "pending"
    assert announced["expires_at"] > announced["created_at"]
    second = add_part(daemon, announced, content[700:])
    first = add_part(daemon, announced, content[:700])
    unused = add_part(daemon, announced, b"a part that was sent twice")
    assert unused not in (first, second)
    done = complete(daemon, announced, first, second, md5=hashlib.md5(content).hexdigest())
    assert done.status_code == 200, done.text
    file = done.json()["file"]
    assert done.json()["status"] == "completed"
    assert daemon.client.get(f"{FILES}/{file['id']}/content").content == content
    again = complete(daemon, announced, first, second)
    assert (again.status_code, again.json()["file"]["id"]) == (200, file["id"])
    assert daemon.client.post(f"{UPLOADS}/{announced['id']}/cancel").status_code == 400
    assert checked(daemon, file)["status"] == "processed"
    assert daemon.client.delete(f"{FILES}/{file['id']}").status_code == 200
    assert error_of(complete(daemon, announced, first, second), 404)["param"] == "upload_id"


def test_parts_that_are_not_the_file_are_refused_and_can_be_mended(daemon):
    content = jsonl(ROWS)
    announced = announce(daemon, content)
    part = add_part(daemon, announced, content[:-1])
    assert "bytes" in error_of(complete(daemon, announced, part))["message"]
    assert error_of(complete(daemon, announced, part, "part-x"))["param"] == "part_ids"
    last = add_part(daemon, announced, content[-1:])
    refused = error_of(complete(daemon, announced, part, last, md5="0" * 32))
    assert refused["param"] == "md5"
    assert complete(daemon, announced, part, last).status_code == 200


def test_an_upload_that_was_given_up_takes_nothing_more(daemon):
    announced = announce(daemon, b"x")
    gone = daemon.client.post(f"{UPLOADS}/{announced['id']}/cancel").json()
    assert gone["status"] == "cancelled"
    path = f"{UPLOADS}/{announced['id']}/parts"
    refused = daemon.client.post(path, files={"data": ("part", b"x")})
    assert error_of(refused, 404)["code"] == "upload_not_found"
