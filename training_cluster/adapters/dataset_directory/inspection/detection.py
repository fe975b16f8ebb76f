"""Finds out from a row what format a dataset has, and which columns play which roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from training_cluster.adapters.dataset_directory.formats import FORMATS
from training_cluster.adapters.dataset_directory.refusal import did_you_mean, quote, refuse
from training_cluster.domain.errors import InvalidDataset

Record = Mapping[str, object]

CONVERTED = {
    "openai_preference": "preference",
    "messages_preference": "preference",
    "messages_kto": "kto",
    "messages_tools": "sharegpt",
}
"""Formats whose rows are rewritten, and what they become."""
KNOWN = (*FORMATS, *CONVERTED)
_QUESTIONS = ("instruction", "prompt", "question", "input", "query", "user")
_ANSWERS = ("output", "completion", "response", "answer", "assistant")
_LABELS = ("kto_tag", "label")


@dataclass(frozen=True, slots=True)
class Guess:
    """A format, and the columns that are not called as usual."""

    format: str
    columns: Mapping[str, str] = field(default_factory=dict)


class Misdescribed(InvalidDataset):
    """What was said of the file is wrong, whatever its rows are."""


def detect(record: Record, where: str) -> Guess:
    """What a row looks like. Raises InvalidDataset when it looks like nothing known."""
    for attempt in (_preference, _conversation, _kto, _question):
        if guess := attempt(record):
            return guess
    if isinstance(record.get("text"), str):
        return Guess("text")
    names = ", ".join(name if name.isidentifier() else quote(name) for name in sorted(record))
    raise refuse(
        where,
        f"has the columns {names}, which fit no format" if names else "is an empty object",
        "instruction and output, prompt and completion, messages, conversations, chosen and "
        "rejected, text; or say format and columns",
    )


def for_tools(guess: Guess, *, mentions_tools: bool) -> Guess:
    """OpenAI's conversations are rewritten as soon as one of them may call tools."""
    if mentions_tools and guess == Guess("openai"):
        return Guess("messages_tools")
    return guess


def resolve(record: Record, where: str, wanted: str | None, columns: Mapping[str, str]) -> Guess:
    """The format somebody said, or the detected one, with its columns. Raises InvalidDataset, and
    Misdescribed."""
    if wanted is not None and wanted not in KNOWN:
        found = f"{wanted!r} is no format{did_you_mean(wanted, KNOWN)}"
        raise Misdescribed(refuse("format", found, "one of " + ", ".join(KNOWN)).message)
    if wanted is None:
        guess = detect(record, where)
    else:
        guess = Guess(wanted, _detected_columns(record, where, wanted))
    if not columns:
        return guess
    roles = FORMATS[CONVERTED.get(guess.format, guess.format)].roles
    for role in columns:
        if role not in roles:
            found = f"columns names the role {role!r}{did_you_mean(role, roles)}"
            expected = f"for {guess.format} one of " + ", ".join(roles)
            raise Misdescribed(refuse("columns", found, expected).message)
    return Guess(guess.format, {**guess.columns, **columns})


def _detected_columns(record: Record, where: str, wanted: str) -> Mapping[str, str]:
    try:
        guess = detect(record, where)
    except InvalidDataset:  # what was said counts; the rows are checked against it
        return {}
    return guess.columns if guess.format == wanted else {}


def _preference(record: Record) -> Guess | None:
    if "preferred_output" in record and "non_preferred_output" in record:
        return Guess("openai_preference")
    if "chosen" not in record or "rejected" not in record:
        return None
    if isinstance(record["chosen"], list | dict):
        return Guess("messages_preference")
    asks = _first(record, _QUESTIONS)
    return Guess("preference", _renamed({"prompt": (asks, "instruction")}))


def _conversation(record: Record) -> Guess | None:
    for name in ("messages", "conversations", "conversation"):
        turns = record.get(name)
        if not isinstance(turns, list):
            continue
        if _first(record, _LABELS):
            return Guess("messages_kto")
        first = turns[0] if turns else {}
        is_sharegpt = isinstance(first, dict) and "from" in first
        format_name = "sharegpt" if is_sharegpt else "openai"
        usual = FORMATS[format_name].roles["messages"].name
        return Guess(format_name, _renamed({"messages": (name, usual)}))
    return None


def _kto(record: Record) -> Guess | None:
    label = _first(record, _LABELS)
    if label is None or not isinstance(record[label], bool):
        return None
    asks, answers = _first(record, _QUESTIONS), _first(record, _ANSWERS)
    if asks is None or answers is None:
        return None
    wanted = {
        "prompt": (asks, "instruction"),
        "response": (answers, "output"),
        "kto_tag": (label, "kto_tag"),
    }
    return Guess("kto", _renamed(wanted))


def _question(record: Record) -> Guess | None:
    asks, answers = _first(record, _QUESTIONS), _first(record, _ANSWERS)
    if asks is None or answers is None:
        return None
    if asks == "instruction":
        return Guess("alpaca", _renamed({"response": (answers, "output")}))
    wanted = {"prompt": (asks, "prompt"), "response": (answers, "completion")}
    return Guess("prompt_completion", _renamed(wanted))


def _first(record: Record, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in record), None)


def _renamed(wanted: Mapping[str, tuple[str | None, str]]) -> dict[str, str]:
    """The roles whose column is not called as usual."""
    return {role: name for role, (name, usual) in wanted.items() if name and name != usual}
