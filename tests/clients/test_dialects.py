"""The real clients of all dialects look at the same jobs at the same moment: each sees them all, in
its own words."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.clients.running import Telling
from tests.daemon_process import running_daemon, trainer
from tests.dialects.page import statuses
from tests.dialects.speakers import SPEAKERS
from training_cluster.domain.dialect import short_id

TABLE = {(said.state, said.when): said for said in statuses()}
WATCHERS = {
    "openai": ("openai-2.54", "watch_openai.py"),
    "openai in Node": ("npm-openai-7", "watch_openai.mjs"),
    "lamini": ("lamini-3.4.3", "watch_lamini.py"),
    "vertesia": ("npm-vertesia-1.5", "watch_vertesia.mjs"),
}


def key(watcher: str, job: dict) -> str:
    """How a client knows a job."""
    if watcher == "lamini":
        return str(job["number"])
    return short_id("ftjob-", job["job_id"]) if "openai" in watcher else str(job["job_id"])


@pytest.mark.clients
@pytest.mark.timeout(900)
def test_every_real_client_sees_the_jobs_of_all_dialects_as_they_are(tmp_path, real_client):
    lead = tmp_path / "lead"
    lead.mkdir()
    environment = {
        "TRAINING_CLUSTER_TRAINER__COMMAND": trainer("led", lead),
        "TRAINING_CLUSTER_CPU_SLOTS": str(len(SPEAKERS)),
    }
    with ExitStack() as opened:
        daemon = opened.enter_context(running_daemon(tmp_path / "state", environment))
        url = f"http://127.0.0.1:{daemon.port}"
        telling: dict[str, Telling] = {}
        for name, (recipe, script) in WATCHERS.items():
            telling[name] = opened.enter_context(real_client(recipe).start(script, url))
        jobs = [make(daemon).make(f"by-{name}") for name, make in SPEAKERS.items()]

        def look(state: str) -> None:
            views = [daemon.wait_for(job, state, seconds=120) for job in jobs]
            for name, script in telling.items():
                script.say(look=True)
                seen = script.until("seen")["jobs"]
                word = getattr(TABLE[state, ""], name.partition(" ")[0])
                found = {view["number"]: seen.get(key(name, view)) for view in views}
                assert found == {view["number"]: word for view in views}, f"{name}: {state}"

        look("running")
        (lead / "steps").write_text("4")
        (lead / "may-end").write_text("0")
        look("completed")
        for script in telling.values():
            script.say(look=False)
            script.finish()
