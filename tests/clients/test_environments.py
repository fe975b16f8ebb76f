"""Each environment holds the real client at the version that is pinned, and it asks where it is
told to; what a script tells reaches the test, and so does what went wrong."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.wandb_stand_in import WandbStandIn
from tests.clients import layers
from tests.clients.environments import RECIPES
from tests.clients.layers import ClientNotMade, pip_layer, whole
from tests.clients.recording_server import recording

OPENAI_PAGE = {"object": "list", "data": [{"id": "ftjob-1"}, {"id": "ftjob-2"}], "has_more": False}
LAMINI_PAGE = [{"job_id": 7, "status": "COMPLETED"}]
VERTESIA_PAGE = [{"id": "session-1", "name": "first"}]
# by client: script, answer, the ids in it, what is asked for, the header that names the version
PROOFS: dict[str, tuple[str, Any, list[Any], str, str, str]] = {
    "openai": (
        *("prove_openai.py", OPENAI_PAGE, ["ftjob-1", "ftjob-2"]),
        *("/v1/fine_tuning/jobs?limit=3", "x-stainless-package-version", "{version}"),
    ),
    "npm-openai": (
        *("prove_openai.mjs", OPENAI_PAGE, ["ftjob-1", "ftjob-2"]),
        *("/v1/fine_tuning/jobs?limit=3", "user-agent", "OpenAI/JS {version}"),
    ),
    "lamini": (
        "prove_lamini.py",
        LAMINI_PAGE,
        [7],
        "/v1/train/jobs",
        "lamini-version",
        "{version}",
    ),
    "litellm": (
        *("prove_litellm.py", OPENAI_PAGE, ["ftjob-1", "ftjob-2"]),
        *("/v1/fine_tuning/jobs?limit=3", "x-stainless-package-version", "3.57.0"),
    ),
    "dspy": (
        *("prove_dspy.py", {"id": "ftjob-1"}, ["ftjob-1"]),
        *("/v1/fine_tuning/jobs/ftjob-1", "x-stainless-package-version", "3.57.0"),
    ),
    "instructor": (
        *("prove_instructor.py", OPENAI_PAGE, ["ftjob-1", "ftjob-2"]),
        *("/v1/fine_tuning/jobs?limit=3", "x-stainless-package-version", "3.3.0"),
    ),
    # two whose requests do not name a version
    "lamini-2.0.13": (
        *("prove_lamini.py", LAMINI_PAGE, [7], "/v1/train/jobs"),
        *("user-agent", "python-requests/2.34.2"),
    ),
    "npm-vertesia": (
        *("prove_vertesia.mjs", VERTESIA_PAGE, ["session-1"]),
        *("/api/v1/training?limit=3", "accept", "application/json"),
    ),
}


@pytest.mark.clients
@pytest.mark.slow  # the quick tests walk the whole way with most of them
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "wandb-0.31"])
def test_a_real_client_of_the_pinned_version_asks_where_it_is_told_to(name, real_client):
    kind, _, wanted = name.rpartition("-")
    script, answer, ids, target, header, text = PROOFS.get(name, PROOFS.get(kind))
    client = real_client(name)
    with recording(answer) as server, client.start(script, server.url, key="tq_key") as telling:
        telling.say(word="go on")
        story = telling.finish()
    assert story.one("listed") == {"step": "listed", "jobs": ids, "word": {"word": "go on"}}
    assert story.one("version")["version"] == client.version
    assert client.version.startswith(wanted)
    (asked,) = server.asked
    assert (asked.method, asked.target.replace("training/?", "training?")) == ("GET", target)
    assert asked.headers["authorization"] == "Bearer tq_key"
    assert asked.headers[header] == text.format(version=client.version)


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wandb_of_the_pinned_version_asks_where_it_is_told_to(real_client):
    """Its sync needs a W&B that answers: a stand-in of ours, over HTTP."""
    client, wandb = real_client("wandb-0.31"), WandbStandIn()
    wandb.start()
    try:
        with recording({"id": "ftjob-1", "status": "cancelled"}) as server:
            variables = {"WANDB_BASE_URL": wandb.url}
            with client.start("prove_wandb.py", server.url, variables=variables) as telling:
                telling.say(word="go on")
                story = telling.finish()
    finally:
        wandb.stop()
    assert story.one("version")["version"] == client.version == "0.31.0"
    (asked,) = server.asked
    assert asked.target == "/v1/fine_tuning/jobs/ftjob-1"
    assert [run.name for run in wandb.runs.values()] == ["ftjob-1"]


def test_the_pins_are_exact_and_name_no_address():
    files = {layer for recipe in RECIPES.values() for layer in recipe.layers} | {"node"}
    assert {path.stem for path in layers.PINS.glob("*.txt")} == files
    for name in files:
        for pin in layers.read_pins(layers.pins_file(name)):
            form = r"@?[\w./-]+@[\w.-]+" if name.startswith("npm-") else r"[\w.-]+==[\w.]+"
            assert re.fullmatch(form, pin), f"{name}: {pin}"


def test_a_half_made_layer_is_made_anew(tmp_path):
    def breaks(path: Path) -> dict[str, object]:
        (path / "half").touch()
        raise OSError("the disk is full")

    def works(path: Path) -> dict[str, object]:
        assert list(path.iterdir()) == []
        (path / "whole").touch()
        return {}

    with pytest.raises(OSError, match="the disk is full"):
        whole(tmp_path / "layer", breaks)
    made = whole(tmp_path / "layer", works)
    assert sorted(file.name for file in made.iterdir()) == ["complete.json", "whole"]


def _make_slowly(path: Path) -> dict[str, object]:
    with (path / "makers").open("a") as file:
        file.write("one\n")
    return {}


def _want(path: Path) -> str:
    return (whole(path, _make_slowly) / "makers").read_text()


def test_processes_that_want_the_same_layer_make_it_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_want, [tmp_path / "layer"] * 6) == ["one\n"] * 6
        pool.close()
        pool.join()


def test_what_pip_says_is_told_when_a_client_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "PINS", tmp_path)
    monkeypatch.setattr(layers, "TRIES", 1)
    (tmp_path / "none.txt").write_text("./there-is-no-such-file.whl\n")
    with pytest.raises(ClientNotMade, match="there-is-no-such-file"):
        pip_layer("none", tmp_path / "made")
    assert not list((tmp_path / "made").glob("*/complete.json"))


@pytest.mark.clients
def test_a_script_that_fails_shows_what_it_said(real_client):
    client = real_client("openai-1.109")
    with recording({"object": "list"}) as server, pytest.raises(AssertionError) as caught:
        client.run("prove_openai.py", server.url)
    assert "the script ended with 1" in str(caught.value)
    assert "TypeError" in str(caught.value)
