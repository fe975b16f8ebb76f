"""Lets models answer prompts, greedily, so that the same question has the same answer.

Run by the trainer environment's Python. One prompt, printed as a JSON line:
`python -I sample_model.py --model BASE --adapter DIR|none --prompt TEXT`.
Many prompts by several models in one process: `python -I sample_model.py evaluate TASK`, where TASK
is a JSON file: {models: [{name, model, adapter}], template, prompts | rows: {file, format, columns,
most}, max_new_tokens, answers, log}. The answers become a JSON file, {answers: [{input, outputs:
[{model_name, output}]}]}; the log says how far it is, a line an answer. On the CPU unless a GPU is
visible.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

# Prompt formats of LLaMA-Factory's templates; others use the tokenizer's own chat template.
QWEN = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
_BEGINNING = 200  # characters of a text that has no question in it


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, ask the models, print or write what they say."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["evaluate"]:
        return evaluate(json.loads(Path(words[1]).read_text(encoding="utf-8")))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="base model: a directory or a hub id")
    parser.add_argument("--adapter", default="none", help="directory of a LoRA adapter, or none")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--template", default="qwen")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    chosen = parser.parse_args(words)
    tokenizer, model = _load(chosen.model, None if chosen.adapter == "none" else chosen.adapter)
    prompt = _prompt(tokenizer, chosen.template, chosen.prompt)
    text = _answer(tokenizer, model, prompt, chosen.max_new_tokens)
    print(json.dumps({"prompt": chosen.prompt, "text": text}))  # noqa: T201
    return 0


def evaluate(task: dict[str, Any]) -> int:
    """Have every model answer every prompt. A model and its LoRA adapter are loaded once."""
    prompts = task["prompts"] or list(_prompts(task["rows"]))
    if not prompts:
        raise ValueError("the dataset has no row with a prompt in it")
    answers: list[dict[str, Any]] = [{"input": prompt, "outputs": []} for prompt in prompts]
    told = _Progress(Path(task["log"]), len(prompts) * len(task["models"]))
    for weights in dict.fromkeys(each["model"] for each in task["models"]):
        asked = [each for each in task["models"] if each["model"] == weights]
        adapter = next((each["adapter"] for each in asked if each["adapter"]), None)
        tokenizer, model = _load(weights, adapter)
        for each in asked:
            with _as_asked(model, each, adapter):
                for row in answers:
                    prompt = _prompt(tokenizer, task["template"], row["input"])
                    text = _answer(tokenizer, model, prompt, task["max_new_tokens"])
                    row["outputs"].append({"model_name": each["name"], "output": text})
                    told.one_more(Path(task["answers"]), answers)
        del model
    return 0


def _as_asked(model: Any, asked: dict[str, Any], adapter: str | None) -> Any:
    """The model with its LoRA adapter, or as it was before one was put on it."""
    if adapter is None or asked["adapter"]:
        return nullcontext()
    return model.disable_adapter()


class _Progress:
    """One line an answer; the answers are written before the last."""

    def __init__(self, log: Path, total: int) -> None:
        self._log, self._total, self._done = log, total, 0
        self._began = time.monotonic()

    def one_more(self, path: Path, answers: list[dict[str, Any]]) -> None:
        self._done += 1
        if self._done == self._total:
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"answers": answers}), encoding="utf-8")
            part.replace(path)
        elapsed = time.monotonic() - self._began
        line = {
            "current_steps": self._done,
            "total_steps": self._total,
            "elapsed_time": _clock(elapsed),
            "remaining_time": _clock(elapsed / self._done * (self._total - self._done)),
        }
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _prompts(rows: dict[str, Any]) -> Iterator[str]:
    """The first prompts of a dataset's file."""
    found = (_question(row, rows["format"], rows["columns"]) for row in _read(Path(rows["file"])))
    return islice((text for text in found if text), rows["most"])


def _read(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(256):
            yield from batch.to_pylist()
    elif file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as text:
            yield from csv.DictReader(text)
    else:
        yield from _read_json(file)


def _read_json(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as text:
        first = text.read(1)
        text.seek(0)
        if first == "[":
            yield from json.load(text)
        else:
            yield from (json.loads(line) for line in text if line.strip())


def _question(row: dict[str, Any], form: str, columns: dict[str, str]) -> str:
    """What a row asks."""
    if form in ("sharegpt", "openai"):
        return _first_turn(row.get(columns.get("messages", "messages")) or [])
    text = str(row.get(columns.get("prompt", "instruction")) or "")
    if form == "text":
        return text[:_BEGINNING]
    more = row.get(columns["query"]) if "query" in columns else None
    return f"{text}\n{more}" if more else text


def _first_turn(turns: list[dict[str, Any]]) -> str:
    for turn in turns:
        if (turn.get("role") or turn.get("from")) in ("user", "human"):
            said = turn.get("content") or turn.get("value") or ""
            return said if isinstance(said, str) else ""
    return ""


def _load(base: str, adapter: str | None) -> tuple[Any, Any]:
    import torch  # type: ignore[import-not-found]
    from transformers import AutoModelForCausalLM, AutoTokenizer  # type: ignore[import-not-found]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    if adapter is not None:
        from peft import PeftModel  # type: ignore[import-not-found]

        model = PeftModel.from_pretrained(model, adapter)
    return tokenizer, model.to(device).eval()


def _prompt(tokenizer: Any, template: str, prompt: str) -> str:
    if template == "qwen":
        return QWEN.format(prompt=prompt)
    messages = [{"role": "user", "content": prompt}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _answer(tokenizer: Any, model: Any, prompt: str, max_new_tokens: int) -> str:
    import torch

    encoded = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    answer: str = tokenizer.decode(
        output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return answer.strip()


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.exit(main())
