"""Slack messages: valid Block Kit, good to read, and nothing in a name can do anything."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from training_cluster.adapters.webhook import WebhookNotifier
from training_cluster.adapters.webhook.slack import escape
from training_cluster.ports import EndpointFormat

EVENTS = [
    "job.queued",
    "job.started",
    "job.progress",
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.preempted",
    "job.retrying",
]

HOSTILE = [
    "<!channel>",
    "<!here> <!everyone>",
    "<@U012AB3CD> <#C012AB3CD> <!subteam^S012>",
    "<https://evil.example/|click>",
    "@channel @here @everyone",
    "*bold* _it_ ~no~ `code` ```block```",
    "&lt;!channel&gt; &amp;",
    "a\nb\r\nc\x00\x07\x1b[31mred\x1b[0m\u202eturned\u2066",
    "\ud800 lone",
    "x" * 5000,
    "&" * 5000,
    "<>&" * 3000,
    "🤖" * 400,
    "",
    " ",
    ":rotating_light:",
    '"quotes" \\ and \' more',
]


def a_job(**fields: Any) -> dict[str, Any]:
    return {
        "job_id": "01J0000000000000000000000A",
        "number": 12,
        "status": "completed",
        "user": "alice",
        "name": "support-bot",
        "model_name": "Qwen/Qwen2.5-7B",
        "dataset_version": "v1.0",
        "kind": "train",
        "devices": ["GPU-1"],
        "device_names": ["GPU 0 NVIDIA H100", "GPU 1 NVIDIA H100"],
        "attempt": 1,
        "duration_seconds": 7385.2,
        "progress": {"step": 480, "total_steps": 480, "percent": 100.0},
        "metrics": {"train/loss": 1.2},
        "first_loss": 5.71,
        "final_loss": 1.2034,
        "loss_curve": [5.71, 4.0, 3.0, 2.0, 1.2034],
        "error": None,
        "log_tail": [],
        "result": None,
        "runs": [
            {"tracker": "mlflow", "url": "http://mlflow.lab:5000/#/experiments/1/runs/a"},
            {"tracker": "wandb", "url": "https://wandb.ai/lab/p/runs/b"},
        ],
        "links": {"self": "http://box:23478/train/12", "logs": "http://box:23478/train/12/logs"},
        **fields,
    }


def an_event(type_: str = "job.completed", **fields: Any) -> dict[str, Any]:
    return {
        "type": type_,
        "timestamp": "2030-01-01T00:00:00.123456Z",
        "sequence": 12345,
        "data": {"job": a_job(**fields), "job_sequence": 3, "device": None, "webhook_id": "wh_1"},
    }


def a_failure(**fields: Any) -> dict[str, Any]:
    error = {
        "code": "out_of_memory",
        "message": "CUDA ran out of memory.",
        "hint": "Try a smaller batch.",
    }
    lines = [f"line {number}" for number in range(40)]
    return an_event("job.failed", **{"error": error, "log_tail": lines, **fields})


def slack(document: dict[str, Any]) -> dict[str, Any]:
    body = WebhookNotifier((), 1.0).render(EndpointFormat.SLACK, document)
    return json.loads(body)


def texts(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in (block.get("text"), *block.get("fields", ())) if part] + block.get(
        "elements", []
    )


def assert_valid(message: dict[str, Any]) -> None:
    """By slack_sdk's own validation, and by the limits of Slack's reference."""
    assert set(message) <= {"text", "blocks", "unfurl_links", "unfurl_media"}
    assert 1 <= len(message["text"]) <= 3000
    assert 1 <= len(message["blocks"]) <= 50
    for raw in message["blocks"]:
        block = Block.parse(raw)
        assert block is not None
        block.validate_json()
        assert block.to_dict() == raw
        limit = {"header": 150, "section": 3000, "context": 3000}[raw["type"]]
        for part in texts(raw):
            assert 1 <= len(part["text"]) <= limit
            assert part["type"] in ("plain_text", "mrkdwn")
            assert part.get("emoji") is (False if part["type"] == "plain_text" else None)
            assert part.get("verbatim") is (True if part["type"] == "mrkdwn" else None)
        assert len(raw.get("fields", ())) <= 10
        assert all(1 <= len(field["text"]) <= 2000 for field in raw.get("fields", ()))
        assert len(raw.get("elements", ())) <= 10


def assert_inert(message: dict[str, Any]) -> None:
    """Only our own links have angle brackets, and ampersands only begin escapes."""
    for part in [{"text": message["text"], "type": "text"}] + [
        part for block in message["blocks"] for part in texts(block)
    ]:
        text = part["text"]
        if part["type"] == "mrkdwn":
            text = re.sub(r"<https?://[^<>|\s]+\|[^<>|]+>", "", text)
        assert "<" not in text
        assert ">" not in text
        assert not re.search(r"&(?!(amp|lt|gt);)", text)
        assert not re.search(r"@(channel|here|everyone)", text)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
        if part["type"] == "mrkdwn" and "```" in text:
            assert text.startswith("```\n")
            assert text.endswith("\n```")
            assert "```" not in text[3:-3]


def plainly(message: dict[str, Any]) -> str:
    """The message as a reader sees it."""
    return "\n".join(part["text"] for block in message["blocks"] for part in texts(block))


@pytest.mark.parametrize("type_", EVENTS)
def test_every_event_of_a_job_is_a_valid_message(type_):
    message = slack(an_event(type_))
    assert_valid(message)
    assert_inert(message)
    assert "support-bot" in message["blocks"][0]["text"]["text"]
    assert "support-bot" in message["text"]


def test_a_completed_job_says_all_a_reader_wants():
    read = plainly(slack(an_event()))
    for words in (
        "✅ Completed: support-bot",
        "alice",
        "Qwen/Qwen2.5-7B",
        "v1.0",
        "GPU 0 NVIDIA H100, GPU 1 NVIDIA H100",
        "2 h 3 min",
        "5.71 → 1.203",
        "480 of 480 (100 %)",
        "█▅▄▂▁",
        "<http://box:23478/train/12|Job>",
        "<http://box:23478/train/12/logs|Logs>",
        "<http://mlflow.lab:5000/#/experiments/1/runs/a|MLflow>",
        "<https://wandb.ai/lab/p/runs/b|W&amp;B>",
        "job 12",
    ):
        assert words in read
    assert "Reason" not in read


def test_a_failed_job_says_why_and_shows_the_last_lines_of_its_log():
    message = slack(a_failure())
    assert_valid(message)
    read = plainly(message)
    assert "❌ Failed: support-bot" in read
    assert "Reason: out_of_memory\nCUDA ran out of memory.\nTry a smaller batch." in read
    assert "line 38\nline 39\n```" in read
    assert "line 3\n" not in read
    assert message["text"].endswith("out_of_memory")


def test_the_last_lines_survive_when_a_log_is_too_long():
    message = slack(a_failure(log_tail=["<&>" * 400] * 30 + ["the very last"]))
    assert_valid(message)
    assert "the very last\n```" in plainly(message)


def test_indentation_of_a_traceback_is_kept():
    read = plainly(slack(a_failure(log_tail=["Traceback:", '  File "x.py", line 1', "    boom()"])))
    assert '\n  File "x.py", line 1\n    boom()' in read


def test_a_device_taken_out_of_use_is_announced():
    device = {"uuid": "GPU-1", "name": "GPU 0 H100", "reason": "memory <held> & kept"}
    message = slack({"type": "device.quarantined", "data": {"job": None, "device": device}})
    assert_valid(message)
    assert_inert(message)
    assert "GPU 0 H100" in plainly(message)
    assert "memory &lt;held&gt; &amp; kept" in plainly(message)


def test_a_test_notification_is_friendly():
    message = slack({"type": "webhook.test", "data": {"job": None, "device": None}})
    assert_valid(message)
    assert "This webhook works" in plainly(message)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "field", ["name", "user", "model_name", "dataset_version", "job_id", "number", "attempt"]
)
def test_a_hostile_name_stays_a_name(field, name):
    message = slack(a_failure(**{field: name}))
    assert_valid(message)
    assert_inert(message)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_errors_logs_devices_and_links_stay_text(text):
    message = slack(
        a_failure(
            error={"code": text, "message": text, "hint": text},
            log_tail=[text] * 30,
            device_names=[text] * 30,
            runs=[{"tracker": text, "url": f"https://x.example/{text}"}] * 30,
            links={"self": f"http://box/|x> {text}", "logs": "javascript:alert(1)"},
            result={"path": text},
        )
    )
    assert_valid(message)
    assert_inert(message)
    assert "javascript" not in plainly(message)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=8,
)
documents = st.fixed_dictionaries(
    {"type": st.sampled_from([*EVENTS, "device.quarantined", "webhook.test", "new.type", ""])},
    optional={
        "timestamp": anything,
        "data": anything
        | st.fixed_dictionaries(
            {},
            optional={
                "job": anything
                | st.fixed_dictionaries(
                    {}, optional={key: anything | st.text(min_size=200) for key in a_job()}
                ),
                "device": anything | st.dictionaries(st.sampled_from(["uuid", "name"]), anything),
            },
        ),
    },
)


@settings(deadline=None)
@given(documents)
def test_whatever_a_document_has_or_lacks_a_valid_message_comes_of_it(document):
    message = slack(document)
    assert_valid(message)
    assert_inert(message)
    notifier = WebhookNotifier((), 1.0)
    for format_ in (EndpointFormat.APPRISE, EndpointFormat.STANDARD):
        json.loads(notifier.render(format_, document))


@given(st.text(), st.integers(1, 60))
def test_text_is_cut_between_characters_and_never_longer_than_allowed(text, most):
    cut = escape(text, most)
    assert len(cut) <= most
    assert not re.search(r"&(?!(amp|lt|gt);)", cut)


def test_text_that_fits_is_not_cut():
    assert escape("a<b", 6) == "a&lt;b"
    assert escape("a<b", 5) == "a…"
    assert escape("abc", 3) == "abc"
    assert escape("abcd", 3) == "ab…"
