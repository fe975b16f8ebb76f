"""Makes a tiny, untrained Qwen2 with its own tokenizer: real enough to fine-tune in seconds.

Run by the trainer environment's Python: `python -I tiny_model.py DIR [--corpus FILE] [--seed N]`.
Needs no network. The same arguments make the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOCABULARY_SIZE = 1000
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARK = "tiny_model.json"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

BUILT_IN_CORPUS = (
    "You are a helpful assistant that answers questions about a queue for training jobs.",
    "How do I submit a fine-tuning job? Send its parameters to the server and keep the job id.",
    "Why is my job waiting? All devices are leased by other jobs; it starts when one is free.",
    "The learning rate, the number of epochs and the batch size decide how the model learns.",
    "A LoRA adapter is a small set of weights that changes what a large base model says.",
    "The loss falls while the model learns; the validation loss tells whether it generalises.",
    "Cancel a running job and its processes end; what was saved before stays on the disk.",
    "user assistant system queued preparing running stopping completed failed cancelled",
    "0 1 2 3 4 5 6 7 8 9 10 16 32 64 100 128 256 500 512 1000 1024 2048 4096",
)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, make the model, say where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--corpus", type=Path, help="dataset file whose words the tokenizer learns")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    if problem := _why_not(chosen.directory):
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    make(chosen.directory, list(_corpus(chosen.corpus)), chosen.seed)
    print(chosen.directory)  # noqa: T201
    return 0


def make(directory: Path, corpus: list[str], seed: int) -> None:
    """Build the model beside its place, then move it there whole."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        tokenizer = _make_tokenizer(corpus)
        tokenizer.save_pretrained(part)
        _make_model(tokenizer, seed).save_pretrained(part)
        (part / MARK).write_text(json.dumps({"seed": seed}) + "\n", encoding="utf-8")
        part.chmod(0o755)
        if directory.is_dir():
            shutil.rmtree(directory)
        part.rename(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _why_not(directory: Path) -> str | None:
    if not directory.exists() or (directory / MARK).is_file():
        return None
    if directory.is_dir() and not any(directory.iterdir()):
        return None
    return f"{directory} holds something else; name a new or an empty directory"


def _corpus(file: Path | None) -> Iterator[str]:
    yield from BUILT_IN_CORPUS
    if file is None:
        return
    text = file.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        yield from _strings(json.loads(text))
        return
    for line in text.splitlines():
        yield from _strings(json.loads(line)) if line.startswith("{") else (line,)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)


def _make_tokenizer(corpus: list[str]) -> Any:
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast  # type: ignore[import-not-found]

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
    )


def _make_model(tokenizer: Any, seed: int) -> Any:
    import torch  # type: ignore[import-not-found]
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=(len(tokenizer) + 63) // 64 * 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the processors are shared
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.exit(main())
