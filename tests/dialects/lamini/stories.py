"""What the scripts of Lamini's clients do, and where the tests meet them."""

from __future__ import annotations

from tests.daemon_process import eventually

ROWS = [
    {"input": "What is for lunch?", "output": "I want boba."},
    {"input": 'A "quoted" übung', "output": "It stays as it is."},
] * 4
STEPS = 6
SECONDS = 240


def url(daemon):
    return f"http://127.0.0.1:{daemon.port}"


def story(daemon, client, model, seconds=SECONDS, **finetune_args):
    """What the client's script has told: a short training to its end, a long one that is cancelled
    when it has saved, resumed, and cancelled with all others; and what is refused."""
    arguments = {"model": model, "rows": ROWS, "steps": STEPS, "finetune_args": finetune_args}
    with client.start("lamini_training.py", url(daemon), seconds=seconds, **arguments) as telling:
        number = telling.until("again")["job"]["job_id"]
        eventually(lambda: _step(daemon, number) > 4, seconds)
        telling.say()
        if client.version > "3":
            assert telling.until("resumed")["answer"]["status"] == "SCHEDULED"
            eventually(lambda: len(daemon.job(number)["attempts"]) == 2, seconds)
            eventually(lambda: daemon.job(number)["status"] == "running", seconds)
            telling.say()
        return telling.finish()


def _step(daemon, number):
    return (daemon.job(number)["progress"] or {}).get("step", 0)
