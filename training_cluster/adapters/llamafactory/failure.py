"""Reads why a trainer failed from the end of its log.

Only what an exception says counts: LLaMA-Factory prints a training example as well, and a
dataset may speak of running out of memory.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_WINDOW_BYTES = 64 * 1024
_MESSAGE_CHARACTERS = 1500
_FRAMES_SHOWN = 3
_CAUSES_SHOWN = 2
_MESSAGE_LINES = 15
_LINES_WITHOUT_TRACEBACK = 10

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*(?:\x07|\x1b\\)")
_RANK = re.compile(r"\[rank(\d+)\]: ?")
_TRACEBACK = "Traceback (most recent call last):"
_CHAIN = ("The above exception was the direct cause", "During handling of the above exception")
_LOG_LINE = re.compile(r"\[(INFO|WARNING|ERROR|DEBUG)\||[IWEF]\d{4} \d\d:\d\d|\[rank\d+\]")
_ROOT_CAUSE = re.compile(r"Root Cause \(first observed failure\):.*?exitcode\s*:\s*-(\d+)\b", re.S)
# What the launchers raise when a rank or the trainer below them failed: never the reason itself.
_LAUNCHERS = ("subprocess.CalledProcessError", "torch.distributed.elastic.multiprocessing.errors")


@dataclass(frozen=True, slots=True)
class Failure:
    """`evidence` is all that may be classified, `message` what a person should read."""

    evidence: str
    message: str


@dataclass(frozen=True, slots=True)
class _Block:
    """One traceback: line numbers of its start and end, its frames, its exception's lines."""

    start: int
    end: int
    frames: list[str]
    exception: list[str]


def read_failure(log: Path) -> Failure:
    """The last exception in the log, or its last lines when it holds none."""
    lines = _lines(_tail(log))
    chain = _last_chain(lines)
    if chain:
        evidence = "\n".join("\n".join(block.frames + block.exception) for block in chain)
        return Failure(evidence, _told(chain))
    last = [line for line in lines if line.strip()][-_LINES_WITHOUT_TRACEBACK:]
    return Failure("\n".join(last[-3:]), "\n".join(last)[-_MESSAGE_CHARACTERS:])


def rank_was_killed(log: Path) -> bool:
    """Whether torchrun says that one of its processes got SIGKILL."""
    return re.search(r"exitcode\s*:\s*-9\b", _tail(log)) is not None


def signal_of_first_rank(log: Path) -> int:
    """The signal that ended the process torchrun calls the root cause; 0 for none."""
    found = _ROOT_CAUSE.findall(_tail(log))
    return int(found[-1]) if found else 0


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _WINDOW_BYTES))
            return file.read(_WINDOW_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _lines(text: str) -> list[str]:
    """Readable lines: no colours, progress bars as last drawn, and of several ranks that
    failed only the first one to say so."""
    shown = [_last_drawn(_ANSI.sub("", line)) for line in text.split("\n")]
    failed = [found[1] for line in shown if (found := _RANK.match(line)) and _TRACEBACK in line]
    if not failed:
        return shown
    prefix = re.compile(rf"\[rank{failed[0]}\]: ?")
    return [prefix.sub("", line) for line in shown if prefix.match(line) or not _RANK.match(line)]


def _last_drawn(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


def _last_chain(lines: list[str]) -> list[_Block]:
    """The tracebacks of the last exception, its causes before it."""
    blocks = _blocks(lines)
    chains: list[list[_Block]] = []
    for before, block in zip([None, *blocks], blocks, strict=False):
        if before and any(line.startswith(_CHAIN) for line in lines[before.end : block.start]):
            chains[-1].append(block)
        else:
            chains.append([block])
    reasons = [chain for chain in chains if not _is_launchers(chain)]
    return (reasons or chains or [[]])[-1]


def _is_launchers(chain: list[_Block]) -> bool:
    return bool(chain[-1].exception) and chain[-1].exception[0].startswith(_LAUNCHERS)


def _blocks(lines: list[str]) -> list[_Block]:
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    return [_block(lines, start) for start in starts]


def _block(lines: list[str], start: int) -> _Block:
    end = start + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    frames = lines[start + 1 : end]
    exception: list[str] = []
    for line in lines[end : end + _MESSAGE_LINES]:
        if not line.strip() or line.startswith(_TRACEBACK) or _LOG_LINE.match(line):
            break
        exception.append(line)
    return _Block(start, end + len(exception), frames, exception)


def _told(chain: list[_Block]) -> str:
    """The exception, what caused it, and where it was raised."""
    last, causes = chain[-1], [block.exception[0] for block in chain[:-1] if block.exception]
    told = ["\n".join(last.exception)[:_MESSAGE_CHARACTERS]]
    different = [cause for cause in dict.fromkeys(causes) if cause not in told[0]]
    told += [f"caused by {cause[:300]}" for cause in reversed(different[-_CAUSES_SHOWN:])]
    places = [frame.strip() for frame in last.frames if frame.startswith("  File ")]
    told += [f"at {_short(place)}" for place in reversed(places[-_FRAMES_SHOWN:])]
    return "\n".join(told)[:_MESSAGE_CHARACTERS]


def _short(place: str) -> str:
    return re.sub(r'File "(?:.*/site-packages/)?([^"]+)", line (\d+), in (.*)', r"\1:\2 \3", place)
