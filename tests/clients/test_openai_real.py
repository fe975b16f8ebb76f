"""OpenAI's clients tune a model with the real LLaMA-Factory: a tiny one, on the CPU."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.clients.test_openai import PYTHONS, check_walk, jsonl
from tests.daemon_process import running_daemon
from tests.real_training import for_real

pytestmark = [pytest.mark.clients, pytest.mark.trainer, pytest.mark.timeout(1800)]

STEPS = 12
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What comes after {number}?"},
            {"role": "assistant", "content": f"After {number} comes {number + 1}."},
        ]
    }
    for number in range(24)
]
# as the template `qwen` writes an exchange
WRITTEN = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\n{1}<|im_end|>\n"
)
NATIVE = {
    "tracking_backend": "none",
    "cutoff_len": 96,
    "save_steps": 6,
    "learning_rate": 1e-2,
    "additional_target": "embed_tokens,lm_head",
}


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny_model):
    """A daemon with this machine's trainer environment and a tiny model."""
    folder = tmp_path_factory.mktemp("real")
    environment = {
        **for_real(tiny_model),
        "TRAINING_CLUSTER_GRACE_SECONDS": "60",
    }
    with running_daemon(folder / "state", environment) as daemon:
        daemon.model = str(tiny_model)  # type: ignore[attr-defined]
        yield daemon


def walk(client, script, real, **more):
    overrides = {"max_steps": STEPS, "logging_steps": 1}
    return client.run(
        script,
        str(real.client.base_url),
        seconds=900,
        model=real.model,
        rows=jsonl(ROWS),
        held_out=jsonl(ROWS[:4]),
        native={**NATIVE, "overrides": overrides},
        endless={"overrides": {**overrides, "max_steps": 1_000_000}},
        **more,
    )


def tokens_of(rows, model: str) -> int:
    """What the model sees of these conversations, counted by its own tokenizer."""
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    texts = [WRITTEN.format(*(turn["content"] for turn in row["messages"])) for row in rows]
    return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def check_learning(story):
    """The tuned model has learned, and the results say so."""
    job = story.one("ended")["job"]
    assert job["status"] == "succeeded", job["error"]
    rows = list(csv.DictReader(io.StringIO(story.one("results")["text"])))
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    assert any(row["valid_loss"] for row in rows)
    assert story.one("checkpoints")["steps"] == [12, 6]
    # of 12 steps each saw two of the 24 conversations; what filled a batch up is not counted
    assert job["trained_tokens"] == tokens_of(ROWS, job["model"])


def test_a_python_script_tunes_a_real_model(real, openai_python):
    story = walk(openai_python("3.52"), "openai_walk.py", real, ends_here=True)
    check_learning(story)
    assert story.one("created")["job"]["model"] == real.model


def test_a_node_script_tunes_a_real_model(real, openai_node):
    story = walk(openai_node, "openai_walk.mjs", real, ends_here=True)
    check_learning(story)
    assert story.one("created")["job"]["model"] == real.model


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_a_python_script_works_with_a_real_model_to_its_end(real, openai_python, version):
    story = walk(openai_python(version), "openai_walk.py", real)
    check_walk(story, STEPS)
    check_learning(story)


@pytest.mark.slow
def test_a_node_script_works_with_a_real_model_to_its_end(real, openai_node):
    story = walk(openai_node, "openai_walk.mjs", real)
    check_walk(story, STEPS)
    check_learning(story)
