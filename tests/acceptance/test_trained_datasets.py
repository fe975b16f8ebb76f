"""Real LLaMA-Factory trains on what was handed in: a csv, preferences, labelled answers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.acceptance.test_datasets import checked
from tests.acceptance.test_real_training import request, trained_for_real
from tests.daemon_process import DaemonProcess

__all__ = ["trained_for_real"]
pytestmark = [pytest.mark.trainer, pytest.mark.timeout(900)]

SECONDS = 600.0
SUMS = [(f"What is {a} and {b}?", str(a + b)) for a in range(6) for b in range(6)]


def as_csv() -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["instruction", "input", "output"])
    writer.writerows([asked, "Say it, in one word", f"It is\n{said}"] for asked, said in SUMS)
    return stream.getvalue().encode()


def as_preferences() -> bytes:
    def turn(text: str) -> list[dict]:
        return [{"role": "assistant", "content": text}]

    rows = [
        {
            "input": {
                "messages": [
                    {"role": "system", "content": "You add"},
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": asked},
                ]
            },
            "preferred_output": turn(said),
            "non_preferred_output": turn("I do not know"),
        }
        for asked, said in SUMS
    ]
    return lines(rows)


def as_labels() -> bytes:
    rows = [
        {
            "prompt": asked,
            "completion": said if number % 2 else "no idea",
            "label": bool(number % 2),
        }
        for number, (asked, said) in enumerate(SUMS)
    ]
    return lines(rows)


def lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_tools() -> bytes:
    def call(said: str) -> dict:
        function = {"name": "add", "arguments": json.dumps({"sum": said})}
        return {"id": "c1", "type": "function", "function": function}

    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    rows = [
        {
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": None, "tool_calls": [call(said)]},
                {"role": "tool", "tool_call_id": "c1", "content": said},
                {"role": "assistant", "content": said},
            ],
            "tools": tools,
        }
        for asked, said in SUMS
    ]
    return lines(rows)


def train(daemon: DaemonProcess, content: bytes, filename: str, **fields: object) -> dict:
    """Hand a file in with a share for validation, train on it, return the finished job."""
    form = {"file": (filename, content)}
    said = {"validation_fraction": "0.2", "model": daemon.model}  # type: ignore[attr-defined]
    made = daemon.client.post("/datasets", files=form, data=said)
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    body = request(daemon, num_epochs=1, dataset_version=key, **fields)
    job = daemon.submit(**body)["job_id"]
    done = daemon.wait_for(job, seconds=SECONDS)
    found = checked(daemon, key)
    assert found["report"]["tokens"]["counted_rows"] == len(SUMS)
    assert done["progress"]["step"] == done["progress"]["total_steps"] > 0
    assert (Path(done["result"]["path"]) / "adapter_model.safetensors").is_file()
    return done


def test_a_csv_is_trained_on_and_evaluated_on_the_share_held_back(trained_for_real):
    done = train(trained_for_real, as_csv(), "sums.csv")
    assert done["result"]["dataset"]["version"] == "sums@v1.0"
    assert done["metrics"]["eval/loss"] > 0


def test_conversations_with_tool_calls_are_trained_on_with_the_tools(trained_for_real):
    done = train(trained_for_real, as_tools(), "calls.jsonl")
    attempt = Path(done["result"]["path"]).parent
    [entry, _] = json.loads((attempt / "dataset_info.json").read_text()).values()
    assert (entry["formatting"], entry["columns"]["tools"]) == ("sharegpt", "tools")


@pytest.mark.slow
def test_plain_text_behind_a_byte_order_mark_is_trained_on(trained_for_real):
    rows = [{"text": f"{asked} {said}."} for asked, said in SUMS]
    content = b"\xef\xbb\xbf" + lines(rows)
    train(trained_for_real, content, "prose.jsonl", recipe="pretrain", cutoff_len=16)


@pytest.mark.slow
def test_openais_preferences_are_trained_on_by_dpo(trained_for_real):
    done = train(trained_for_real, as_preferences(), "better.jsonl", recipe="dpo")
    assert "train/rewards/accuracies" in done["metrics"] or "train/accuracy" in done["metrics"]


@pytest.mark.slow
def test_labelled_answers_are_trained_on_by_kto(trained_for_real):
    train(trained_for_real, as_labels(), "liked.jsonl", recipe="kto")
