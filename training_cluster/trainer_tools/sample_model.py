"""Lets a model, with or without a LoRA adapter on it, answer one prompt; prints one JSON line.

Run by the trainer environment's Python:
`python -I sample_model.py --model BASE --adapter DIR|none --prompt TEXT`.
Greedy, on the CPU unless a GPU is visible, so that the same question has the same answer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

# Prompt formats of LLaMA-Factory's templates; others use the tokenizer's own chat template.
QWEN = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, ask the model, print prompt and answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="base model: a directory or a hub id")
    parser.add_argument("--adapter", default="none", help="directory of a LoRA adapter, or none")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--template", default="qwen")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    chosen = parser.parse_args(arguments)
    tokenizer, model = _load(chosen.model, None if chosen.adapter == "none" else chosen.adapter)
    text = _answer(tokenizer, model, _prompt(tokenizer, chosen), chosen.max_new_tokens)
    print(json.dumps({"prompt": chosen.prompt, "text": text}))  # noqa: T201
    return 0


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


def _prompt(tokenizer: Any, chosen: argparse.Namespace) -> str:
    if chosen.template == "qwen":
        return QWEN.format(prompt=chosen.prompt)
    messages = [{"role": "user", "content": chosen.prompt}]
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
